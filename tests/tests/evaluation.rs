//! Evaluation is a function of y and z that leaves y alone, and `train` is its exact undoing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use conformance::pair::{Run, Stored, Training};
use gradient_transform::{Error, Optimizer, Parameter, ParameterGroup, Real, Settings, Slice, TrainingPoint};
use half::bf16;
use ndarray::{ArrayView2, array};
use schedule_free::ScheduleFree;
use serde_json::json;

/// A matrix, a vector, a parameter that never has a gradient, and a scalar that has one late.
fn run() -> Run {
    let missing: Vec<(usize, usize)> = (1..9).map(|t| (t, 2)).chain((1..4).map(|t| (t, 3))).collect();
    Run::new(json!({"d0": 1e-2}), &[&[40, 33], &[1030], &[5], &[]]).missing(&missing)
}

fn eval<T: Real, E: Stored>(training: &mut Training<T, E>) -> Result<(), Error> {
    training.with_parameters(|optimizer, parameters| optimizer.eval(parameters))
}

fn train<T: Real, E: Stored>(training: &mut Training<T, E>) -> Result<(), Error> {
    training.with_parameters(|optimizer, parameters| optimizer.train(parameters))
}

fn eval_and_train_restore_y<T: Real, E: Stored>() {
    let mut training = Training::<T, E>::new(&run()).unwrap();
    let mut undisturbed = Training::<T, E>::new(&run()).unwrap();
    for t in 1..=6 {
        training.steps(1);
        undisturbed.steps(1);
        let (y, state) = (training.bits(), training.optimizer.snapshot());
        let points: Vec<Vec<u64>> =
            (0..4).map(|i| training.x(i).unwrap().iter().map(|v| v.bits()).collect()).collect();
        assert_eq!(training.bits(), y, "evaluation_point moved y");

        eval(&mut training).unwrap();
        assert!(training.optimizer.is_evaluating());
        assert_eq!(training.bits(), points, "eval and evaluation_point differ after step {t}");
        assert_eq!(training.bits()[2], y[2], "a parameter without a gradient is its own evaluation point");
        if t > 1 {
            assert_ne!(training.bits()[0], y[0], "x must be another point than y");
        }
        train(&mut training).unwrap();
        assert!(!training.optimizer.is_evaluating());
        assert_eq!(training.bits(), y, "after step {t}");
        assert!(training.optimizer.snapshot() == state, "evaluation changed state");
    }
    assert_eq!(training.bits(), undisturbed.bits(), "a run with evaluations goes another way");
}

#[test]
fn eval_and_train_restore_float32_parameters_to_the_bit() {
    eval_and_train_restore_y::<f32, f32>();
}

#[test]
fn eval_and_train_restore_bfloat16_parameters_to_the_bit() {
    eval_and_train_restore_y::<f32, bf16>();
}

#[test]
fn eval_and_train_restore_float64_parameters_to_the_bit() {
    eval_and_train_restore_y::<f64, f64>();
}

#[test]
fn the_evaluation_point_lies_on_the_line_through_z_and_y() {
    // x = y + (1 - 1/beta1) (z - y), with z from the snapshot.
    for beta1 in [0.5, 0.9, 0.95] {
        let mut run = run();
        run.options.insert("betas".into(), json!([beta1, 0.99]));
        let mut training = Training::<f64, f64>::new(&run).unwrap();
        training.steps(5);
        let snapshot = training.optimizer.snapshot();
        let z = &snapshot.tensors[&Run::name(1)].arrays["schedule-free/z"];
        let x = training.x(1).unwrap();
        for (e, (y, x)) in training.values[1].iter().zip(&x).enumerate() {
            let z = z.get::<f64>(e);
            let expected = y + (1.0 - 1.0 / beta1) * (z - y);
            assert!((x - expected).abs() <= 4.0 * f64::EPSILON * y.abs().max(z.abs()), "element {e}");
        }
        assert_ne!(x, training.values[1]);
    }
}

#[test]
fn before_the_first_step_every_parameter_is_its_own_evaluation_point() {
    let mut training = Training::<f32, f32>::new(&run()).unwrap();
    let start = training.bits();
    for i in 0..4 {
        assert_eq!(training.x(i).unwrap(), training.values[i]);
    }
    eval(&mut training).unwrap();
    assert_eq!(training.bits(), start);
    train(&mut training).unwrap();
    assert_eq!(training.bits(), start);
}

#[test]
fn a_parameter_without_gradients_is_left_alone_by_eval_and_by_train() {
    let mut training = Training::<f32, f32>::new(&run()).unwrap();
    training.steps(2);
    let y = training.bits();
    eval(&mut training).unwrap();
    // As running statistics do, which are gathered anew at x.
    training.values[2].fill(7.0);
    training.values[0].fill(7.0);
    let training_points = training.optimizer.snapshot().tensors;
    assert!(training_points[&Run::name(0)].training.is_some());
    train(&mut training).unwrap();
    assert!(training.values[2].iter().all(|value| *value == 7.0));
    assert_eq!(training.bits()[0], y[0]);
}

#[test]
fn eval_twice_and_train_without_eval_are_errors_that_change_nothing() {
    let mut training = Training::<f32, f32>::new(&run()).unwrap();
    training.steps(2);
    let y = training.bits();
    assert_eq!(train(&mut training), Err(Error::TrainingMode));
    assert_eq!(training.bits(), y);

    eval(&mut training).unwrap();
    let x = training.bits();
    assert_eq!(eval(&mut training), Err(Error::EvaluationMode));
    assert_eq!(training.bits(), x);
    assert_eq!(training.step(), Err(Error::EvaluationMode));
    assert!(matches!(training.optimizer.begin_step(), Err(Error::EvaluationMode)));
    let snapshot = training.optimizer.snapshot();
    assert_eq!(training.optimizer.restore(snapshot), Err(Error::EvaluationMode));
    assert_eq!(training.bits(), x);

    train(&mut training).unwrap();
    assert_eq!(train(&mut training), Err(Error::TrainingMode));
    assert_eq!(training.bits(), y);
}

#[test]
fn a_misfit_in_eval_or_train_leaves_the_mode_and_all_parameters_alone() {
    let mut training = Training::<f32, f32>::new(&run()).unwrap();
    training.steps(2);
    let y = training.bits();
    let too_few = |training: &mut Training<f32, f32>, train: bool| {
        training.with_parameters(|optimizer, parameters| {
            if train { optimizer.train(&mut parameters[..3]) } else { optimizer.eval(&mut parameters[..3]) }
        })
    };
    let expected = Err(Error::ParameterCount { expected: 4, found: 3 });
    assert_eq!(too_few(&mut training, false), expected);
    assert!(!training.optimizer.is_evaluating());
    assert_eq!(training.bits(), y);
    eval(&mut training).unwrap();
    assert_eq!(too_few(&mut training, true), expected);
    assert!(training.optimizer.is_evaluating());
    train(&mut training).unwrap();
    assert_eq!(training.bits(), y);
}

#[test]
fn another_element_type_in_train_than_in_eval_is_an_error_also_after_a_restore() {
    use gradient_transform::Parameter;
    let new = || -> Optimizer { prodigy_plus::ProdigyPlus::builder().build([("w", &[2][..])]).unwrap() };
    let (mut optimizer, mut w) = (new(), [1.0_f32, 2.0]);
    optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.1, 0.2]))]).unwrap();
    let y = w;
    optimizer.eval(&mut [Parameter::slice(&mut w, None)]).unwrap();
    let mut restored = new();
    restored.restore(optimizer.snapshot()).unwrap();
    for mut optimizer in [optimizer, restored] {
        let mut other = [half::bf16::ONE; 2];
        let refused = optimizer.train(&mut [Parameter::slice(&mut other, None)]);
        assert!(matches!(refused, Err(Error::ElementType { .. })), "{refused:?}");
        assert!(optimizer.is_evaluating() && other == [half::bf16::ONE; 2]);
        let mut x = w;
        optimizer.train(&mut [Parameter::slice(&mut x, None)]).unwrap();
        assert_eq!(x, y);
    }
}

/// A run of descent with averaging, whose y is kept while it is evaluated, or not.
fn averaged<T: Real, E: Stored>(training_point: TrainingPoint) -> Training<T, E> {
    let mut training = Training::<T, E>::new(&run()).unwrap();
    let parameters =
        training.run.shapes.iter().enumerate().map(|(i, shape)| (Run::name(i), shape.as_slice()));
    let group = ParameterGroup::new(ScheduleFree::new(0.9), parameters).lr(0.1);
    let settings = Settings { training_point, ..Settings::default() };
    training.optimizer = Optimizer::with_groups([group], settings).unwrap();
    training
}

#[test]
fn a_training_point_that_is_not_kept_is_computed_from_x_up_to_its_rounding() {
    fn check<T: Real, E: Stored>() {
        let mut training = averaged::<T, E>(TrainingPoint::Recomputed);
        training.steps(5);
        let (bits, y) = (training.bits(), training.values.clone());
        eval(&mut training).unwrap();
        assert_ne!(training.bits(), bits);
        assert!(training.optimizer.snapshot().tensors.values().all(|tensor| tensor.training.is_none()));
        train(&mut training).unwrap();
        for (now, before) in training.values.iter().flatten().zip(y.iter().flatten()) {
            let (now, before) = (now.f64(), before.f64());
            assert!((now - before).abs() <= 4.0 * E::UNIT * (before.abs() + 1.0), "{now} {before}");
        }
        assert_eq!(training.bits()[2], bits[2], "a parameter without a gradient does not move");
    }
    check::<f32, f32>();
    check::<f32, bf16>();
    check::<f64, f64>();
}

#[test]
fn a_state_without_the_training_point_comes_back_to_it_whatever_the_settings_are() {
    let mut training = averaged::<f32, f32>(TrainingPoint::Recomputed);
    training.steps(5);
    eval(&mut training).unwrap();
    let (x, saved) = (training.values.clone(), training.optimizer.snapshot());
    train(&mut training).unwrap();
    let y = training.bits();
    for training_point in [TrainingPoint::Kept, TrainingPoint::Recomputed] {
        let mut resumed = averaged::<f32, f32>(training_point);
        resumed.values = x.clone();
        resumed.optimizer.restore(saved.clone()).unwrap();
        train(&mut resumed).unwrap();
        assert_eq!(resumed.bits(), y);
    }
}

#[test]
fn a_state_with_the_training_point_comes_back_to_the_very_same_whatever_the_settings_are() {
    let mut training = averaged::<f32, bf16>(TrainingPoint::Kept);
    training.steps(5);
    let y = training.bits();
    eval(&mut training).unwrap();
    let (x, saved) = (training.values.clone(), training.optimizer.snapshot());
    for training_point in [TrainingPoint::Kept, TrainingPoint::Recomputed] {
        let mut resumed = averaged::<f32, bf16>(training_point);
        resumed.values = x.clone();
        resumed.optimizer.restore(saved.clone()).unwrap();
        train(&mut resumed).unwrap();
        assert_eq!(resumed.bits(), y);
    }
}

#[test]
fn a_panic_while_evaluating_puts_parameters_back_to_their_training_points() {
    let mut optimizer = Optimizer::new(ScheduleFree::new(0.5), [("w", [2, 2])]).unwrap();
    let mut w = array![[1.0_f32, 2.0], [3.0, 4.0]].reversed_axes();
    let gradient = array![[1.0_f32, -1.0], [0.5, 0.25]];
    for _ in 0..3 {
        optimizer.step(&mut [Parameter::array(w.view_mut(), Some(gradient.view()))]).unwrap();
    }
    let y = w.clone();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut parameters = [Parameter::array(w.view_mut(), None::<ArrayView2<'_, f32>>)];
        let at_x = optimizer.evaluate(&mut parameters).unwrap();
        assert_eq!(at_x.value(1).err(), Some(Error::NoSuch { what: "parameter", index: 1, count: 1 }));
        let Ok(Slice::F32(x)) = at_x.value(0) else { unreachable!("w is float32") };
        // z went by one gradient in every step, x is the mean of its three places, and y lies halfway between the two.
        for ((&x, &y), &g) in x.iter().zip(&y).zip(&gradient) {
            assert!((x - y - 0.5 * g).abs() < 1e-6, "{x} and {y}");
        }
        panic!("of the evaluation");
    }));
    let message = panicked.unwrap_err().downcast_ref::<&str>().copied();
    assert_eq!((message, &w, optimizer.is_evaluating()), (Some("of the evaluation"), &y, false));
}
