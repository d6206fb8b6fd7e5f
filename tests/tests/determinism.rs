//! What must not matter to the bit: layout, threads, the order of parameters, and whether they come all at once.

use conformance::pair::{Run, Stored, Training};
use gradient_transform::{Optimizer, Parameter, Real, Rounding, StepOutcome};
use half::bf16;
use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewMut2, Axis, IxDyn, Slice};
use serde_json::json;

const ROWS: usize = 33;
const COLS: usize = 35;

/// Three steps on a matrix and a vector after it, with the layouts that `value` and `gradient` make.
fn in_layout<E: Stored>(
    steps: usize,
    mut step: impl FnMut(&mut Optimizer<f32>, &mut Array2<E>, ArrayView2<'_, E>),
) -> Vec<u64> {
    let run = Run::new(json!({"d0": 1e-3, "weight_decay": 0.1}), &[&[ROWS, COLS]]);
    let mut optimizer = run.engine::<f32>().unwrap();
    let matrix = |a: ArrayD<f64>| a.into_dimensionality::<ndarray::Ix2>().unwrap().mapv(E::of);
    let mut value = matrix(run.init(0));
    for t in 1..=steps {
        let gradient = matrix(run.gradient(t, 0).unwrap());
        step(&mut optimizer, &mut value, gradient.view());
    }
    value.iter().map(|v| v.bits()).collect()
}

/// Every `step.0`-th row from `from.0` on, and the same of columns; a negative step counts from the end.
fn part<E>(mut a: ArrayView2<'_, E>, from: (isize, isize), step: (isize, isize)) -> ArrayView2<'_, E> {
    a.slice_axis_inplace(Axis(0), Slice::new(from.0, None, step.0));
    a.slice_axis_inplace(Axis(1), Slice::new(from.1, None, step.1));
    a
}

/// As [`part`].
fn part_mut<E>(
    mut a: ArrayViewMut2<'_, E>,
    from: (isize, isize),
    step: (isize, isize),
) -> ArrayViewMut2<'_, E> {
    a.slice_axis_inplace(Axis(0), Slice::new(from.0, None, step.0));
    a.slice_axis_inplace(Axis(1), Slice::new(from.1, None, step.1));
    a
}

fn take(optimizer: &mut Optimizer<f32>, parameter: Parameter<'_>) {
    assert_eq!(optimizer.step(&mut [parameter]), Ok(StepOutcome::Done));
}

fn layouts_give_the_same_bits<E: Stored>() {
    let contiguous =
        in_layout::<E>(3, |optimizer, w, g| take(optimizer, Parameter::array(w.view_mut(), Some(g))));
    let start = in_layout::<E>(0, |_, _, _| ());
    assert_ne!(contiguous, start);

    let slices = in_layout::<E>(3, |optimizer, w, g| {
        take(optimizer, Parameter::slice(w.as_slice_mut().unwrap(), g.as_slice()));
    });
    assert_eq!(slices, contiguous, "plain slices");

    let fortran_both = in_layout::<E>(3, |optimizer, w, g| {
        let mut fortran = w.t().as_standard_layout().into_owned().reversed_axes();
        assert!(!fortran.is_standard_layout());
        let g = g.t().as_standard_layout().into_owned().reversed_axes();
        take(optimizer, Parameter::array(fortran.view_mut(), Some(g.view())));
        w.assign(&fortran);
    });
    assert_eq!(fortran_both, contiguous, "column-major value and gradient");

    let fortran_gradient = in_layout::<E>(3, |optimizer, w, g| {
        let g = g.t().as_standard_layout().into_owned().reversed_axes();
        take(optimizer, Parameter::array(w.view_mut(), Some(g.view())));
    });
    assert_eq!(fortran_gradient, contiguous, "column-major gradient");

    let strided = in_layout::<E>(3, |optimizer, w, g| {
        let mut wide = Array2::<E>::from_elem((2 * ROWS, 3 * COLS), E::of(7.0));
        let mut wide_g = Array2::<E>::from_elem((ROWS, 2 * COLS), E::of(f64::NAN));
        part_mut(wide.view_mut(), (0, 1), (2, 3)).assign(w);
        part_mut(wide_g.view_mut(), (0, 1), (1, 2)).assign(&g);
        let (value, g) = (part_mut(wide.view_mut(), (0, 1), (2, 3)), part(wide_g.view(), (0, 1), (1, 2)));
        assert_eq!(
            (value.strides(), g.strides()),
            (&[6 * COLS as isize, 3][..], &[2 * COLS as isize, 2][..])
        );
        take(optimizer, Parameter::array(value, Some(g)));
        w.assign(&part(wide.view(), (0, 1), (2, 3)));
        let others = wide.iter().filter(|v| **v == E::of(7.0)).count();
        assert_eq!(others, 5 * ROWS * COLS, "the elements in between were written");
    });
    assert_eq!(strided, contiguous, "strided slices of larger arrays");

    let reversed = in_layout::<E>(3, |optimizer, w, g| {
        let mut backwards = part(w.view(), (0, 0), (-1, -1)).as_standard_layout().into_owned();
        let g = part(g, (0, 0), (-1, 1)).as_standard_layout().into_owned();
        let value = part_mut(backwards.view_mut(), (0, 0), (-1, -1));
        assert!(value.strides().iter().all(|&stride| stride < 0));
        take(optimizer, Parameter::array(value, Some(part(g.view(), (0, 0), (-1, 1)))));
        w.assign(&part(backwards.view(), (0, 0), (-1, -1)));
    });
    assert_eq!(reversed, contiguous, "reversed axes");
}

#[test]
fn float32_layouts_give_the_same_bits() {
    layouts_give_the_same_bits::<f32>();
}

#[test]
fn bfloat16_layouts_give_the_same_bits_under_stochastic_rounding() {
    layouts_give_the_same_bits::<bf16>();
}

fn a_broadcast_gradient_is_its_copy<E: Stored>() {
    let run = |broadcast: bool| {
        in_layout::<E>(3, |optimizer, w, g| {
            let row = g.index_axis(Axis(0), 3);
            let view = row.broadcast((ROWS, COLS)).unwrap();
            assert_eq!(view.strides()[0], 0);
            if broadcast {
                take(optimizer, Parameter::array(w.view_mut(), Some(view)));
            } else {
                let copy = view.to_owned();
                take(optimizer, Parameter::array(w.view_mut(), Some(copy.view())));
            }
        })
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn a_broadcast_gradient_gives_the_same_bits_as_its_copy() {
    a_broadcast_gradient_is_its_copy::<f32>();
    a_broadcast_gradient_is_its_copy::<bf16>();
}

/// More than two chunks of 2^19 elements, tensors of a chunk's size, and small ones, in two groups.
fn large() -> Run {
    let shapes: [&[usize]; 7] =
        [&[1031, 1033], &[64, 33], &[3], &[], &[1 << 19], &[300, 100], &[12, 4, 3, 3]];
    let own = json!({"weight_decay": 0.1, "lr": 0.5});
    let options = json!({"d0": 1e-3, "seed": 5});
    Run::new(options, &shapes).groups(&[(4, json!({})), (3, own)]).missing(&[(2, 1), (1, 6)])
}

struct Recorded<E> {
    init: Vec<ArrayD<E>>,
    gradients: Vec<Vec<Option<ArrayD<E>>>>,
}

const LARGE_STEPS: usize = 3;

/// Values and gradients are made once; making them takes longer than the steps.
fn recorded<E: Stored>(run: &Run) -> Recorded<E> {
    let training = Training::<f32, E>::new(run).unwrap();
    let gradients = (1..=LARGE_STEPS).map(|t| training.gradients(t)).collect();
    Recorded { init: training.values, gradients }
}

/// What a run ends with: parameters, d, and all state.
type End = (Vec<Vec<u64>>, Vec<u64>, gradient_transform::Snapshot);

fn end_of<E: Stored>(training: &Training<f32, E>) -> End {
    (training.bits(), training.d().iter().map(|d| d.to_bits()).collect(), training.optimizer.snapshot())
}

fn all_at_once<E: Stored>(run: &Run, recorded: &Recorded<E>) -> End {
    let mut training = Training::<f32, E> {
        optimizer: run.engine().unwrap(),
        values: recorded.init.clone(),
        run: run.clone(),
        t: 0,
    };
    for gradients in &recorded.gradients {
        assert_eq!(training.step_with(gradients), Ok(StepOutcome::Done));
    }
    end_of(&training)
}

/// One step on one thread, and the others in `pool` by an optimizer that was loaded.
fn resumed_on<E: Stored>(pool_of_others: &rayon::ThreadPool, run: &Run, recorded: &Recorded<E>) -> End {
    let begin = |values: &[ArrayD<E>], t| Training::<f32, E> {
        optimizer: run.engine().unwrap(),
        values: values.to_vec(),
        run: run.clone(),
        t,
    };
    let (first, others) = recorded.gradients.split_first().unwrap();
    let mut before = begin(&recorded.init, 0);
    pool(1).install(|| assert_eq!(before.step_with(first), Ok(StepOutcome::Done)));
    let bytes = checkpoint::to_bytes(&before.optimizer).unwrap();
    let mut after = begin(&before.values, 1);
    checkpoint::from_bytes(&bytes, &mut after.optimizer).unwrap();
    pool_of_others.install(|| {
        for gradients in others {
            assert_eq!(after.step_with(gradients), Ok(StepOutcome::Done));
        }
    });
    end_of(&after)
}

fn one_by_one<E: Stored>(run: &Run, recorded: &Recorded<E>, order: &[usize]) -> End {
    let mut optimizer = run.engine::<f32>().unwrap();
    let mut values = recorded.init.clone();
    for gradients in &recorded.gradients {
        let mut step = optimizer.begin_step().unwrap();
        for &i in order {
            let gradient = gradients[i].as_ref().map(|g| g.view());
            step.parameter(i, Parameter::array(values[i].view_mut(), gradient)).unwrap();
        }
        step.end();
    }
    end_of(&Training { optimizer, values, run: run.clone(), t: LARGE_STEPS })
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

#[track_caller]
fn assert_same(what: &str, ours: &End, expected: &End) {
    // Not `assert_eq!`, which would print millions of numbers.
    for (i, (ours, expected)) in ours.0.iter().zip(&expected.0).enumerate() {
        let differ = ours.iter().zip(expected).filter(|(a, b)| a != b).count();
        assert_eq!(differ, 0, "{what}: elements of parameter {i}");
    }
    assert_eq!(ours.1, expected.1, "{what}: d");
    assert!(ours.2 == expected.2, "{what}: state");
}

fn threads_and_order_do_not_matter<E: Stored>() {
    let run = large();
    let recorded = recorded::<E>(&run);
    let one = pool(1).install(|| all_at_once(&run, &recorded));
    let start: Vec<Vec<u64>> = recorded.init.iter().map(|v| v.iter().map(|v| v.bits()).collect()).collect();
    for (i, (end, start)) in one.0.iter().zip(&start).enumerate() {
        assert_ne!(end, start, "parameter {i} did not move");
    }
    for threads in 2..=8 {
        let pool = pool(threads);
        let several = pool.install(|| all_at_once(&run, &recorded));
        assert_same(&format!("{threads} threads"), &several, &one);
    }
    // A caller that is at work on several things in a pool of its own.
    let (left, right) =
        pool(3).install(|| rayon::join(|| all_at_once(&run, &recorded), || all_at_once(&run, &recorded)));
    assert_same("side by side", &left, &one);
    assert_same("side by side", &right, &one);
    assert_same("the global pool", &all_at_once(&run, &recorded), &one);

    // From a checkpoint, with other threads than before.
    assert_same("resumed on three threads", &resumed_on(&pool(3), &run, &recorded), &one);

    let backwards: Vec<usize> = (0..run.shapes.len()).rev().collect();
    assert_same("one by one, backwards", &one_by_one(&run, &recorded, &backwards), &one);
    let mixed = [3, 5, 0, 6, 2, 4, 1];
    let two = pool(2);
    assert_same("one by one, in another order", &two.install(|| one_by_one(&run, &recorded, &mixed)), &one);
}

#[test]
fn float32_gives_the_same_bits_on_any_threads_and_in_any_order() {
    threads_and_order_do_not_matter::<f32>();
}

#[test]
fn bfloat16_gives_the_same_bits_on_any_threads_and_in_any_order() {
    threads_and_order_do_not_matter::<bf16>();
}

/// Every parameter by name after some steps, when it was registered in the given order.
fn registered<T: Real, E: Stored>(order: &[usize]) -> Vec<Vec<u64>> {
    let shapes: [&[usize]; 4] = [&[40, 33], &[2049], &[7], &[3, 34, 2]];
    let run = Run::new(json!({"d0": 1e-3}), &shapes);
    let (options, _) = run.engine_options().unwrap();
    let mut optimizer = options.build_in::<T, _>(order.iter().map(|&i| (Run::name(i), shapes[i]))).unwrap();
    let mut values: Vec<ArrayD<E>> = (0..4).map(|i| run.init(i).mapv(E::of)).collect();
    for t in 1..=4 {
        let gradients: Vec<ArrayD<E>> = (0..4).map(|i| run.gradient(t, i).unwrap().mapv(E::of)).collect();
        let mut parameters: Vec<(usize, Parameter<'_>)> = values
            .iter_mut()
            .zip(&gradients)
            .map(|(value, g)| Parameter::array(value.view_mut(), Some(g.view())))
            .enumerate()
            .collect();
        parameters.sort_by_key(|(i, _)| order.iter().position(|o| o == i));
        let mut parameters: Vec<Parameter<'_>> = parameters.into_iter().map(|(_, p)| p).collect();
        assert_eq!(optimizer.step(&mut parameters), Ok(StepOutcome::Done));
    }
    values.iter().map(|value| value.iter().map(|v| v.bits()).collect()).collect()
}

#[test]
fn the_order_of_registration_does_not_matter_as_rounding_goes_by_name() {
    // d is a sum over the tensors; in another order its last digit may differ, but it rounds to the same float32.
    let orders: [&[usize]; 3] = [&[3, 1, 0, 2], &[2, 3, 1, 0], &[1, 0, 3, 2]];
    for order in orders {
        assert_eq!(registered::<f32, bf16>(order), registered::<f32, bf16>(&[0, 1, 2, 3]), "{order:?}");
        assert_eq!(registered::<f32, f32>(order), registered::<f32, f32>(&[0, 1, 2, 3]), "{order:?}");
    }
}

#[test]
fn another_seed_another_name_and_rounding_to_nearest_give_other_bits() {
    let end = |options: serde_json::Value| {
        let mut training = Training::<f32, bf16>::new(&Run::new(options, &[&[40, 33]])).unwrap();
        training.steps(3);
        training.bits()
    };
    let usual = end(json!({"d0": 1e-3}));
    assert_eq!(usual, end(json!({"d0": 1e-3})));
    assert_ne!(usual, end(json!({"d0": 1e-3, "seed": 1})));
    assert_ne!(usual, end(json!({"d0": 1e-3, "stochastic_rounding": false})));
    let named = |name: &str| {
        let group = gradient_transform::ParameterGroup::new(
            gradient_transform::Descent::default(),
            [(name, &[1000][..])],
        );
        let mut optimizer: Optimizer =
            Optimizer::with_groups([group.rounding(Rounding::Stochastic)], Default::default()).unwrap();
        let mut w = vec![bf16::ONE; 1000];
        let g = vec![bf16::from_f32(1e-3); 1000];
        assert_eq!(optimizer.step(&mut [Parameter::slice(&mut w, Some(&g))]), Ok(StepOutcome::Done));
        w
    };
    assert_eq!(named("a"), named("a"));
    assert_ne!(named("a"), named("b"));
}

#[test]
fn a_scalar_steps_like_a_vector_of_one() {
    let end = |shape: &[usize]| {
        let options = json!({"d0": 1e-3});
        let run = Run::new(options, &[shape]);
        let mut optimizer = run.engine::<f32>().unwrap();
        let mut w = ArrayD::<f32>::from_elem(IxDyn(shape), 0.5);
        for t in 1..=4 {
            let g = ArrayD::<f32>::from_elem(IxDyn(shape), 0.1 * t as f32);
            let parameter = Parameter::array(w.view_mut(), Some(g.view()));
            assert_eq!(optimizer.step(&mut [parameter]), Ok(StepOutcome::Done));
        }
        w.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    assert_ne!(end(&[]), [0.5f32.to_bits()]);
    assert_eq!(end(&[]), end(&[1]));
    assert_eq!(end(&[]), end(&[1, 1, 1]));
}

/// bfloat16 weights after some steps of the whole optimizer, with gradients of another type.
fn with_gradients_of<G: Stored>(options: &serde_json::Value, low: f64) -> Vec<u16> {
    let options: prodigy_plus::Options = serde_json::from_value(options.clone()).unwrap();
    let shape = [40, 130];
    let mut optimizer = options.build([("w", &shape[..])]).unwrap();
    let mut w = vec![bf16::ONE; 40 * 130];
    for t in 0..5 {
        // Multiples of 1/128 below 1 are bfloat16 numbers; with `low` added, they are not.
        let element = |i: usize| G::of(((i * 37 + t * 11) % 101) as f64 / 128.0 - 0.4 + low);
        let gradient: Vec<G> = (0..w.len()).map(element).collect();
        optimizer.step(&mut [Parameter::slice(&mut w, None).with_gradient(&gradient)]).unwrap();
    }
    w.into_iter().map(bf16::to_bits).collect()
}

#[test]
fn float32_gradients_of_bfloat16_weights_are_those_that_bfloat16_can_hold_and_the_bits_below_count() {
    for options in [json!({"d0": 1e-2}), json!({"d0": 1e-2, "use_adopt": true, "use_orthograd": true})] {
        let low = 0.4 - 51.0 / 128.0;
        assert_eq!(with_gradients_of::<f32>(&options, low), with_gradients_of::<bf16>(&options, low));
        let low = low + 1e-3;
        assert_ne!(with_gradients_of::<f32>(&options, low), with_gradients_of::<bf16>(&options, low));
    }
}
