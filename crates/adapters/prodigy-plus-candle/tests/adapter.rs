//! The adapter steps as the engine does, leaves nothing behind, and loses nothing when something is wrong.

use std::path::Path;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Optimizer as _, VarBuilder, VarMap};
use conformance::case::{Case, Precision};
use conformance::product::{Product, product, subject};
use factored_moment::DenseMoment;
use gradient_transform::{NonFinite, Optimizer, Parameter, StepOutcome};
use half::bf16;
use ndarray::ArrayD;
use prodigy_core::Prodigy;
use prodigy_plus::Options;
use prodigy_plus_candle::{Error, Finding, ProdigyPlus, Recorder, VarOptimizer, named_variables, shapes};
use schedule_free::ScheduleFree;

fn tensor(array: &ArrayD<f64>, dtype: DType) -> Tensor {
    let values: Vec<f64> = array.iter().copied().collect();
    Tensor::from_vec(values, array.shape(), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// A store of the given gradients.
fn store(gradients: impl IntoIterator<Item = (Var, Tensor)>) -> GradStore {
    let none = Var::zeros(1, DType::F32, &Device::Cpu).unwrap();
    let mut store = none.sum_all().unwrap().backward().unwrap();
    for (var, gradient) in gradients {
        store.insert(&var, gradient);
    }
    store
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn trajectories_are_the_engines_to_the_bit_on_every_conformance_case() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden");
    let of_line = |folder| std::fs::read_dir(golden.join(folder)).unwrap();
    let mut count = 0;
    for entry in of_line("cases").chain(of_line("cases_v2")) {
        let case = Case::read(&entry.unwrap().path()).unwrap();
        let name = &case.description.name;
        let dtype = match case.description.dtype {
            Precision::Float32 => DType::F32,
            Precision::Bfloat16 => DType::BF16,
        };
        let mut plain = subject(&case).unwrap();
        let Product { optimizer, order, lrs } = product(&case, |i| i.to_string()).unwrap();
        // In another order than the optimizer's.
        let vars: Vec<(String, Var)> = (0..case.init.len())
            .rev()
            .map(|i| (i.to_string(), Var::from_tensor(&tensor(&case.init[i], dtype)).unwrap()))
            .collect();
        let mut adapter = ProdigyPlus::from_engine(optimizer, vars).unwrap();
        for (t, step) in case.steps.iter().enumerate() {
            plain.step(&step.gradients, step.lr).unwrap();
            if let Some(lr) = step.lr {
                adapter.set_learning_rate(lr);
            }
            let gradients =
                adapter.variables().iter().zip(&order).filter_map(|((_, var), &i)| {
                    Some((var.clone(), tensor(step.gradients[i].as_ref()?, dtype)))
                });
            adapter.step(&store(gradients)).unwrap();
            if step.saved.as_ref().is_some_and(|saved| saved.back.is_some()) {
                plain.eval_then_train().unwrap();
                drop(adapter.evaluate().unwrap());
            }
            let x = adapter.evaluation_tensors().unwrap();
            for ((key, var), &i) in adapter.variables().iter().zip(&order) {
                let (y, its_x) = (plain.y(i).unwrap(), plain.x(i).unwrap());
                assert_eq!(values(var), y.iter().copied().collect::<Vec<_>>(), "{name}: y, step {t}");
                assert_eq!(values(&x[key]), its_x.iter().copied().collect::<Vec<_>>(), "{name}: x, step {t}");
            }
            let d: Vec<f64> =
                (0..lrs.len()).map(|group| adapter.engine().estimate(group).unwrap().d).collect();
            assert_eq!(d, plain.d().unwrap(), "{name}");
        }
        count += 1;
    }
    assert!(count > 32, "{count} cases");
}

/// A map with two layers, trained for some steps of |w|^2 with noise that depends on the step.
fn map(dtype: DType) -> VarMap {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, dtype, &Device::Cpu);
    for (name, shape) in [("a.weight", &[6, 4][..]), ("a.bias", &[6]), ("b.weight", &[3, 6])] {
        let _ = vb.get_with_hints(shape, name, candle_nn::Init::Const(0.5)).unwrap();
    }
    map
}

fn gradients(map: &VarMap, step: usize) -> GradStore {
    let gradient = |(index, (_, var)): (usize, (String, Var))| {
        let wave = |i: usize| ((i * 7 + index * 5 + step * 13) % 11) as f64 / 11.0 - 0.4;
        let noise: Vec<f64> = (0..var.elem_count()).map(wave).collect();
        let noise = Tensor::from_vec(noise, var.dims(), &Device::Cpu).unwrap().to_dtype(var.dtype()).unwrap();
        (var.clone(), (var.as_tensor() + noise).unwrap())
    };
    store(named_variables(map).into_iter().enumerate().map(gradient))
}

/// The same, in another type.
fn gradients_of(dtype: DType, map: &VarMap, step: usize) -> GradStore {
    let gradient = |(index, (_, var)): (usize, (String, Var))| {
        let wave = |i: usize| ((i * 7 + index * 5 + step * 13) % 11) as f64 / 11.0 - 0.4;
        let values: Vec<f64> = (0..var.elem_count()).map(wave).collect();
        let gradient = Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap();
        (var.clone(), gradient.to_dtype(dtype).unwrap())
    };
    store(named_variables(map).into_iter().enumerate().map(gradient))
}

fn all_values(map: &VarMap) -> Vec<Vec<f64>> {
    named_variables(map).iter().map(|(_, var)| values(var)).collect()
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one_to_the_bit_in_every_type() {
    fn check<T: gradient_transform::Real>(dtype: DType) {
        let folder = tempfile::tempdir().unwrap();
        let (y, state) = (folder.path().join("y.safetensors"), folder.path().join("state.safetensors"));
        let options = Options::default().use_cautious(true);
        let whole = map(dtype);
        let mut optimizer = VarOptimizer::<T>::from_varmap(&whole, &options).unwrap();
        for step in 0..6 {
            optimizer.step(&gradients(&whole, step)).unwrap();
        }
        whole.save(&y).unwrap();
        optimizer.save_state(&state).unwrap();

        let mut later = map(dtype);
        later.load(&y).unwrap();
        let mut resumed = VarOptimizer::<T>::from_varmap(&later, &options).unwrap();
        resumed.load_state(&state).unwrap();
        for step in 6..12 {
            optimizer.step(&gradients(&whole, step)).unwrap();
            resumed.step(&gradients(&later, step)).unwrap();
        }
        assert_eq!(all_values(&later), all_values(&whole));
        assert_eq!(resumed.engine().snapshot(), optimizer.engine().snapshot());
    }
    check::<f32>(DType::F32);
    check::<f32>(DType::BF16);
    check::<f64>(DType::F64);
}

#[test]
fn weights_return_from_evaluation_however_it_ends() {
    let map = map(DType::BF16);
    let options = Options::default().d0(1e-2); // large enough to move bfloat16 at once
    let mut optimizer = ProdigyPlus::from_varmap(&map, &options).unwrap();
    for step in 0..4 {
        optimizer.step(&gradients(&map, step)).unwrap();
    }
    let y = all_values(&map);
    let x = optimizer.evaluation_tensors().unwrap();
    let check_x = || {
        for (name, var) in named_variables(&map) {
            assert_eq!(values(&var), values(&x[&name]));
        }
    };
    let at_x = optimizer.evaluate().unwrap();
    check_x();
    assert_ne!(all_values(&map), y);
    // The guard gives access to the optimizer, and the variables are at x.
    assert!(at_x.engine().is_evaluating());
    assert_eq!(values(&at_x.evaluation_tensors().unwrap()["a.bias"]), values(&x["a.bias"]));
    at_x.finish().unwrap();
    assert_eq!(all_values(&map), y);

    let failing = |optimizer: &mut ProdigyPlus| -> anyhow::Result<()> {
        let _at_x = optimizer.evaluate()?;
        anyhow::bail!("an error while evaluating")
    };
    failing(&mut optimizer).unwrap_err();
    assert_eq!(all_values(&map), y);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _at_x = optimizer.evaluate().unwrap();
        panic!("a panic while evaluating")
    }));
    assert!(panicked.is_err());
    assert_eq!(all_values(&map), y);
    optimizer.step(&gradients(&map, 4)).unwrap();
}

#[test]
fn whatever_is_refused_changes_nothing() {
    let map = map(DType::F32);
    let mut optimizer = ProdigyPlus::from_varmap(&map, &Options::default()).unwrap();
    optimizer.step(&gradients(&map, 0)).unwrap();
    let (y, state) = (all_values(&map), optimizer.engine().snapshot());
    let spoilt = || {
        let mut spoilt = gradients(&map, 1);
        let (_, last) = named_variables(&map).pop().unwrap();
        spoilt.insert(&last, Tensor::full(f32::INFINITY, last.dims(), &Device::Cpu).unwrap());
        spoilt
    };
    let error = optimizer.step(&spoilt()).unwrap_err().to_string();
    assert!(error.contains("b.weight") && error.contains("inf"), "{error}");
    assert_eq!((all_values(&map), optimizer.engine().snapshot()), (y.clone(), state.clone()));

    optimizer.set_learning_rate(-1.0);
    let error = optimizer.step(&gradients(&map, 1)).unwrap_err().to_string();
    assert!(error.contains("lr") && error.contains("-1"), "{error}");
    assert_eq!((all_values(&map), optimizer.engine().snapshot()), (y.clone(), state));
    optimizer.set_learning_rate(0.5);
    assert_eq!(optimizer.learning_rate(), 0.5);
    optimizer.step(&gradients(&map, 1)).unwrap();
    assert_eq!(optimizer.engine().latest_step(0).unwrap().lr, 0.5);
    assert_eq!(optimizer.engine().lr(0).unwrap(), 1.0);

    let skipping = Options::default().non_finite(NonFinite::Skip);
    let mut optimizer = ProdigyPlus::from_varmap(&map, &skipping).unwrap();
    let y = all_values(&map);
    assert_eq!(optimizer.step(&spoilt()).unwrap(), StepOutcome::Skipped);
    assert_eq!(all_values(&map), y);
}

#[test]
fn variables_that_do_not_fit_are_named() {
    let var = |dtype| Var::zeros((2, 2), dtype, &Device::Cpu).unwrap();
    let built = |names: &[&str]| -> Optimizer {
        Options::default().build(names.iter().map(|name| (*name, &[2_usize, 2][..]))).unwrap()
    };
    let one = var(DType::F32);
    let twice = [("a".to_owned(), one.clone()), ("b".to_owned(), one.clone())];
    let error = ProdigyPlus::from_engine(built(&["a", "b"]), twice).err().unwrap();
    assert!(
        matches!(&error, Error::SameVariable { first, second } if first == "a" && second == "b"),
        "{error}"
    );
    let missing =
        ProdigyPlus::from_engine(built(&["a", "b"]), [("a".to_owned(), one.clone())]).err().unwrap();
    assert!(matches!(&missing, Error::NoVariable { name } if name == "b"), "{missing}");
    let surplus = [("a".to_owned(), one), ("c".to_owned(), var(DType::F32))];
    let error = ProdigyPlus::from_engine(built(&["a"]), surplus).err().unwrap();
    assert!(matches!(&error, Error::NoParameter { name, known } if name == "c" && known == "a"), "{error}");

    // float16 is not computed with; float64 needs the other engine.
    for dtype in [DType::F16, DType::F64] {
        let named = vec![("w".to_owned(), var(dtype))];
        let engine = Options::default().build(shapes(&named)).unwrap();
        let error = ProdigyPlus::from_engine(engine, named).err().unwrap();
        assert!(
            matches!(&error, Error::ElementType { name, dtype: d } if name == "w" && *d == dtype),
            "{error}"
        );
        let map = map(dtype);
        let error = ProdigyPlus::from_varmap(&map, &Options::default()).err().unwrap().to_string();
        assert!(error.contains("a.bias") && error.contains("F64"), "{error}");
        assert!(ProdigyPlus::new(map.all_vars(), Options::default()).is_err());
    }
    // An engine that was built for integers: the error comes when the adapter is made.
    let error = ProdigyPlus::from_engine(built(&["n"]), [("n".to_owned(), var(DType::I64))]).err().unwrap();
    assert!(matches!(&error, Error::ElementType { name, .. } if name == "n"), "{error}");
}

#[test]
fn any_layout_of_a_gradient_is_understood_and_integers_are_left_alone() {
    let map = map(DType::F32);
    let y = named_variables(&map);
    let (_, weight) = &y[1];
    let counter = Var::zeros(2, DType::U32, &Device::Cpu).unwrap();
    let values_of = |transposed: bool| {
        let var = Var::from_tensor(&weight.as_tensor().copy().unwrap()).unwrap();
        let mut optimizer = ProdigyPlus::new(vec![counter.clone(), var.clone()], Options::default()).unwrap();
        let gradient = Tensor::arange(0_f32, 24.0, &Device::Cpu).unwrap();
        let gradient = gradient.reshape((4, 6)).unwrap().t().unwrap();
        let gradient = if transposed { gradient } else { gradient.contiguous().unwrap() };
        optimizer.step(&store([(var.clone(), gradient)])).unwrap();
        values(&var)
    };
    assert_eq!(values_of(true), values_of(false));
}

#[test]
fn a_chain_of_ones_own_and_groups_by_name_are_what_the_engine_would_do() {
    let map = map(DType::F32);
    let chain = (DenseMoment::new(0.99), Prodigy::default(), ScheduleFree::default());
    let mut optimizer = ProdigyPlus::from_chain(&map, chain).unwrap();
    optimizer.step(&gradients(&map, 0)).unwrap();
    assert_eq!(
        optimizer.engine().describe_chain(0, &[6, 4]).unwrap(),
        "dense-moment | prodigy | schedule-free"
    );

    let (biases, weights): (Vec<_>, Vec<_>) =
        named_variables(&map).into_iter().partition(|(name, _)| name.ends_with("bias"));
    let options = Options::default();
    let engine = options
        .build_groups([(options.clone(), shapes(&weights)), (options.clone().lr(0.0), shapes(&biases))]);
    let all = biases.clone().into_iter().chain(weights.clone());
    let mut optimizer = ProdigyPlus::from_engine(engine.unwrap(), all).unwrap();
    let before = all_values(&map);
    optimizer.step(&gradients(&map, 1)).unwrap();
    let after = all_values(&map);
    assert_eq!(before[0], after[0]); // a.bias, at learning rate 0
    assert_ne!(before[1], after[1]);
}

// candle: counters of normalisations live in the same map as weights.
#[test]
fn integer_variables_are_listed_and_saved_but_not_stepped() {
    let map = map(DType::F32);
    let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    for (name, dtype) in [("a.batches", DType::I64), ("seen", DType::U8), ("c.index", DType::U32)] {
        vb.get_with_hints_dtype(3, name, candle_nn::Init::Const(7.0), dtype).unwrap();
    }
    let mut optimizer = ProdigyPlus::from_varmap(&map, &Options::default()).unwrap();
    optimizer.step(&gradients(&map, 0)).unwrap();
    let left_out: Vec<_> = optimizer.left_out().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(left_out, ["a.batches", "c.index", "seen"]);
    drop(optimizer.evaluate().unwrap());
    // What is saved for inference fills the whole map, integers too.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    candle_core::safetensors::save(&optimizer.evaluation_tensors().unwrap(), &path).unwrap();
    let mut inference = map;
    inference.load(&path).unwrap();
    assert_eq!(values(&optimizer.left_out()[0].1), [7.0; 3]);

    // Groups by name, and a custom chain, leave them out in the same way.
    let all = named_variables(&inference);
    let engine = Options::default().build(shapes(&all)).unwrap();
    assert_eq!(ProdigyPlus::from_engine(engine, all).unwrap().left_out().len(), 3);
    assert_eq!(
        ProdigyPlus::from_chain(&inference, gradient_transform::Descent::default()).unwrap().left_out().len(),
        3
    );
}

#[test]
fn a_variable_without_elements_steps_evaluates_and_resumes_beside_others() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.safetensors");
    for shape in [&[5, 0][..], &[0], &[0, 5], &[2, 0, 3]] {
        let map = map(DType::F32);
        let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
        let _ = vb.get_with_hints(shape, "empty", candle_nn::Init::Const(0.5)).unwrap();
        let mut optimizer = ProdigyPlus::from_varmap(&map, &Options::default()).unwrap();
        for step in 0..3 {
            optimizer.step(&gradients(&map, step)).unwrap();
            drop(optimizer.evaluate().unwrap());
        }
        assert_eq!(optimizer.evaluation_tensors().unwrap()["empty"].dims(), shape);
        optimizer.save_state(&state).unwrap();
        let mut resumed = ProdigyPlus::from_varmap(&map, &Options::default()).unwrap();
        resumed.load_state(&state).unwrap();
        resumed.step(&gradients(&map, 3)).unwrap();
        assert_eq!(named_variables(&map).iter().find(|(name, _)| name == "empty").unwrap().1.dims(), shape);
    }
}

// schedule_free#48, accelerate#4159
#[test]
fn a_state_saved_at_x_goes_on_from_y_to_the_bit_whichever_point_the_variables_were_saved_at() {
    fn check<T: gradient_transform::Real>(dtype: DType, model_at_x: bool) {
        let folder = tempfile::tempdir().unwrap();
        let (model, state) =
            (folder.path().join("model.safetensors"), folder.path().join("state.safetensors"));
        // Large enough to move bfloat16 at once.
        let options = Options::default().d0(1e-2);
        let whole = map(dtype);
        let mut optimizer = VarOptimizer::<T>::from_varmap(&whole, &options).unwrap();
        for step in 0..6 {
            optimizer.step(&gradients(&whole, step)).unwrap();
        }
        let y = all_values(&whole);
        if !model_at_x {
            whole.save(&model).unwrap();
        }
        {
            let at_x = optimizer.evaluate().unwrap();
            assert_ne!(all_values(&whole), y);
            if model_at_x {
                whole.save(&model).unwrap();
            }
            at_x.save_state(&state).unwrap();
        }
        let mut later = map(dtype);
        later.load(&model).unwrap();
        assert_eq!(all_values(&later) != y, model_at_x);
        let mut resumed = VarOptimizer::<T>::from_varmap(&later, &options).unwrap();
        resumed.load_state(&state).unwrap();
        assert!(!resumed.engine().is_evaluating());
        assert_eq!(all_values(&later), y);
        for step in 6..12 {
            optimizer.step(&gradients(&whole, step)).unwrap();
            resumed.step(&gradients(&later, step)).unwrap();
        }
        assert_eq!(all_values(&later), all_values(&whole));
        assert_eq!(resumed.engine().snapshot(), optimizer.engine().snapshot());
    }
    for model_at_x in [true, false] {
        check::<f32>(DType::F32, model_at_x);
        check::<f32>(DType::BF16, model_at_x);
        check::<f64>(DType::F64, model_at_x);
    }
}

// The same dead end, reached without a file.
#[test]
fn a_forgotten_guard_and_a_snapshot_of_an_evaluation_can_be_trained_on_from() {
    let map = map(DType::F32);
    let mut optimizer = ProdigyPlus::from_varmap(&map, &Options::default().d0(1e-2)).unwrap();
    for step in 0..4 {
        optimizer.step(&gradients(&map, step)).unwrap();
    }
    let y = all_values(&map);
    let at_x = optimizer.evaluate().unwrap();
    let snapshot = at_x.engine().snapshot();
    std::mem::forget(at_x);
    assert!(optimizer.step(&gradients(&map, 4)).unwrap_err().to_string().contains("train"));
    optimizer.train().unwrap();
    assert_eq!(all_values(&map), y);
    optimizer.train().unwrap();
    assert_eq!(all_values(&map), y);

    optimizer.step(&gradients(&map, 4)).unwrap();
    optimizer.engine_mut().restore(snapshot).unwrap();
    optimizer.train().unwrap();
    assert_eq!(all_values(&map), y);
    optimizer.step(&gradients(&map, 4)).unwrap();
}

#[test]
fn a_state_saved_at_x_of_another_type_is_refused_and_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.safetensors");
    let halves = map(DType::BF16);
    let mut optimizer = ProdigyPlus::from_varmap(&halves, &Options::default()).unwrap();
    optimizer.step(&gradients(&halves, 0)).unwrap();
    optimizer.evaluate().unwrap().save_state(&state).unwrap();

    let map = map(DType::F32);
    let mut optimizer = ProdigyPlus::from_varmap(&map, &Options::default()).unwrap();
    for step in 0..3 {
        optimizer.step(&gradients(&map, step)).unwrap();
    }
    let before = (all_values(&map), optimizer.engine().snapshot());
    let error = optimizer.load_state(&state).unwrap_err().to_string();
    assert!(error.contains("a.bias") && error.contains("type"), "{error}");
    assert_eq!((all_values(&map), optimizer.engine().snapshot()), before);
    optimizer.step(&gradients(&map, 3)).unwrap();
}

#[test]
fn the_learning_rate_multiplies_each_groups_own_also_after_resuming() {
    let folder = tempfile::tempdir().unwrap();
    let (model, state) = (folder.path().join("y.safetensors"), folder.path().join("state.safetensors"));
    let build = |map: &VarMap| {
        let (biases, weights): (Vec<_>, Vec<_>) =
            named_variables(map).into_iter().partition(|(name, _)| name.ends_with("bias"));
        let options = Options::default();
        let groups =
            [(options.clone().lr(0.5), shapes(&weights)), (options.clone().lr(0.0), shapes(&biases))];
        let engine = options.build_groups(groups).unwrap();
        ProdigyPlus::from_engine(engine, weights.into_iter().chain(biases)).unwrap()
    };
    let mut map = map(DType::F32);
    let mut optimizer = build(&map);
    assert_eq!(optimizer.learning_rate(), 1.0);
    let before = all_values(&map);
    let check = |optimizer: &mut ProdigyPlus, map: &VarMap, factor: f64| {
        optimizer.set_learning_rate(factor);
        optimizer.step(&gradients(map, 0)).unwrap();
        assert_eq!(optimizer.learning_rate(), factor);
        let rate = |group| {
            (optimizer.engine().latest_step(group).unwrap().lr, optimizer.engine().lr(group).unwrap())
        };
        assert_eq!((rate(0), rate(1)), ((0.5 * factor, 0.5), (0.0, 0.0)));
        assert_eq!(all_values(map)[0], before[0]); // a.bias, at learning rate 0
    };
    check(&mut optimizer, &map, 1.0);
    check(&mut optimizer, &map, 0.25);
    // A refused factor leaves the groups' rates; 0 times infinity is no number, and -1 times 0 is not below 0.
    for refused in [-1.0, f64::INFINITY, f64::NAN] {
        optimizer.set_learning_rate(refused);
        let error = optimizer.step(&gradients(&map, 1)).unwrap_err().to_string();
        assert!(error.contains("lr") && error.contains(&refused.to_string()), "{error}");
        assert_eq!((optimizer.engine().lr(0).unwrap(), optimizer.engine().lr(1).unwrap()), (0.5, 0.0));
    }
    map.save(&model).unwrap();
    optimizer.save_state(&state).unwrap();
    map.load(&model).unwrap();
    let mut resumed = build(&map);
    resumed.load_state(&state).unwrap();
    check(&mut resumed, &map, 0.75);
}

#[test]
fn gradients_of_a_wider_type_than_the_variables_are_not_rounded_to_it_first() {
    let stepped = |dtype: DType| {
        let map = map(DType::BF16);
        let options = Options::default().d0(1e-2);
        let mut optimizer = ProdigyPlus::from_varmap(&map, &options).unwrap();
        let mut engine = options.build(shapes(&named_variables(&map))).unwrap();
        let mut plain: Vec<Vec<bf16>> = named_variables(&map)
            .iter()
            .map(|(_, var)| vec![bf16::from_f32(0.5); var.elem_count()])
            .collect();
        for step in 0..8 {
            let gradients = gradients_of(dtype, &map, step);
            // What the engine makes of them when it is given float32.
            let wide: Vec<Vec<f32>> = named_variables(&map)
                .iter()
                .map(|(_, var)| values(gradients.get(var).unwrap()).into_iter().map(|g| g as f32).collect())
                .collect();
            let pairs = plain.iter_mut().zip(&wide);
            let mut parameters: Vec<_> =
                pairs.map(|(w, g)| Parameter::slice(w, None).with_gradient(g)).collect();
            engine.step(&mut parameters).unwrap();
            optimizer.step(&gradients).unwrap();
        }
        let plain: Vec<Vec<f64>> = plain.iter().map(|w| w.iter().map(|w| w.to_f64()).collect()).collect();
        assert_eq!(all_values(&map), plain, "{dtype:?}");
        plain
    };
    let of_bfloat16 = stepped(DType::BF16);
    // Float64 is more than this optimizer computes in, and becomes float32.
    for wider in [DType::F16, DType::F32, DType::F64] {
        assert_ne!(stepped(wider), of_bfloat16, "{wider:?}");
    }
}

// ipex-llm#347: the loss at x was another one after resuming with another beta1, and nothing said so.
#[test]
fn a_state_that_is_loaded_with_another_beta1_keeps_x_and_moves_the_variables() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.safetensors");
    let options = Options::default().d0(1e-2);
    let variables = map(DType::F64);
    let at_x = |optimizer: &mut VarOptimizer<f64>, variables: &VarMap| {
        let _at_x = optimizer.evaluate().unwrap();
        all_values(variables)
    };
    let mut optimizer = VarOptimizer::<f64>::from_varmap(&variables, &options).unwrap();
    for step in 0..6 {
        optimizer.step(&gradients(&variables, step)).unwrap();
    }
    optimizer.save_state(&state).unwrap();
    let (x, y) = (at_x(&mut optimizer, &variables), all_values(&variables));

    let mut other = VarOptimizer::<f64>::from_varmap(&variables, &options.betas((0.5, 0.99))).unwrap();
    let restored = other.load_state(&state).unwrap();
    assert_eq!(restored.changed, ["group 0: ScheduleFree.beta1 is 0.5, and 0.9 in the snapshot"]);
    assert_ne!(all_values(&variables), y);
    for (now, before) in at_x(&mut other, &variables).iter().flatten().zip(x.iter().flatten()) {
        assert!((now - before).abs() < 1e-12, "{now} {before}");
    }
}

#[test]
fn accumulated_gradients_and_steps_by_a_rule_are_the_engines_to_the_bit() {
    let (map, other) = (map(DType::F32), map(DType::F32));
    let options = Options::default();
    let mut adapter = ProdigyPlus::from_varmap(&map, &options).unwrap();
    let mut plain = ProdigyPlus::from_varmap(&other, &options).unwrap();
    candle_nn::Optimizer::set_learning_rate(&mut adapter, 0.5);
    plain.engine_mut().set_lr(0, 0.5).unwrap();
    for step in 0..6 {
        let [first, second] = [2 * step, 2 * step + 1];
        adapter.accumulate(&gradients(&map, first)).unwrap();
        let limit = if step == 3 { 0.0 } else { f64::INFINITY };
        let outcome = adapter.step_if(|norm| norm < limit, &gradients(&map, second)).unwrap();
        assert_eq!(outcome == StepOutcome::Skipped, step == 3);
        // The mean, by candle's own arithmetic.
        if step != 3 {
            let mean = mean_of(&other, first, second);
            plain.step(&mean).unwrap();
        }
        assert_eq!(all_values(&map), all_values(&other), "step {step}");
    }
    assert_eq!((adapter.engine().skipped_steps(), adapter.engine().steps(0)), (1, Ok(5)));
}

/// The mean of the gradients of two steps.
fn mean_of(map: &VarMap, first: usize, second: usize) -> GradStore {
    let (first, second) = (gradients(map, first), gradients(map, second));
    let mean = |(_, var): (String, Var)| {
        let sum = (first.get(&var)? + second.get(&var)?).unwrap();
        Some((var, (sum * 0.5).unwrap()))
    };
    store(named_variables(map).into_iter().filter_map(mean))
}

#[test]
fn a_recorder_of_the_engine_tells_why_d_does_not_grow_and_changes_no_bit() {
    let train = |lr: f64, recorder: Option<Recorder>| {
        let map = VarMap::new();
        let w = map.get((40, 30), "w", candle_nn::Init::Const(1.0), DType::F32, &Device::Cpu).unwrap();
        let mut optimizer = ProdigyPlus::from_varmap(&map, &Options::default()).unwrap();
        optimizer.set_learning_rate(lr);
        optimizer.engine_mut().set_recorder(recorder);
        for _ in 0..60 {
            optimizer.step(&w.sqr().unwrap().sum_all().unwrap().backward().unwrap()).unwrap();
        }
        (optimizer.diagnose(), all_values(&map))
    };
    let recorder = || Some(Recorder::every(2).unwrap());
    let (healthy, values) = train(1.0, recorder());
    assert_eq!((healthy, &values), (vec![], &train(1.0, None).1));
    let (findings, _) = train(1e-3, recorder());
    assert!(matches!(findings[..], [Finding::LearningRate { lr: 1e-3, .. }]), "{findings:#?}");
    assert!(matches!(train(1.0, None).0[..], [Finding::TooFewRecords { records: 0, .. }]));
}
