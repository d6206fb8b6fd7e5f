//! The adapter steps as the engine does, leaves nothing behind, and loses nothing when something is wrong.

use std::path::Path;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Optimizer as _, VarBuilder, VarMap};
use conformance::case::{Case, Precision};
use conformance::product::{Product, product, subject};
use factored_moment::DenseMoment;
use gradient_transform::{NonFinite, Optimizer, StepOutcome};
use ndarray::ArrayD;
use prodigy_core::Prodigy;
use prodigy_plus::Options;
use prodigy_plus_candle::{Error, ProdigyPlus, VarOptimizer, named_variables, shapes};
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
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/cases");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
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
            for (group, lr) in lrs.iter().enumerate().filter(|_| step.lr.is_some()) {
                adapter.engine_mut().set_lr(group, lr * step.lr.unwrap_or(1.0)).unwrap();
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
    assert!(count > 20, "{count} cases");
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
    // Through the guard, the optimizer can be looked at, and x is where the variables are.
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
    assert_eq!(optimizer.engine().lr(0).unwrap(), 0.5);

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
    let error = ProdigyPlus::from_engine(built(&["a"]), surplus).err().unwrap().to_string();
    assert!(error.contains("`c`"), "{error}");

    // float16 is not computed with; float64 needs the other engine.
    for dtype in [DType::F16, DType::F64] {
        let odd = var(dtype);
        let mut optimizer = ProdigyPlus::new(vec![odd.clone()], Options::default()).unwrap();
        let error = VarOptimizer::step(&mut optimizer, &store([(odd.clone(), odd.ones_like().unwrap())]))
            .unwrap_err();
        assert!(error.to_string().contains("F64") || error.to_string().contains("f64"), "{error}");
        assert_eq!(values(&odd), [0.0; 4]);
    }
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
