//! Steps in place are those of [`VarOptimizer`] to the bit. What evaluates formulas on the host has the place of a device here, and memory of the CPU that of
//! its memory.

use std::cell::Cell;

use candle_core::{CpuStorage, Device, InplaceOp1};
use candle_nn::{Init, Optimizer as _, VarMap};
use conformance::counting::Counting;
use conformance::device::rows;
use elementary::{Momentum, Polyak, WeightDecay};
use gradient_transform::{Buffer, Descent, Loss, NonFinite, Optimizer, ParameterGroup, Settings, Snapshot};
use half::bf16;
use prodigy_plus::Options;

use super::*;
use crate::ProdigyPlus;
use crate::variables::{named_variables, shapes};

/// A number that memory of another device begins with.
const ELSEWHERE: f32 = 123.0;

/// Memory of the CPU, as far as it does not begin with [`ELSEWHERE`].
#[derive(Default)]
struct OnHost;

impl Memory for OnHost {
    type Executor = Counting;
    type Held<'a> = ();

    fn array<'a>(&'a self, storage: &'a Storage, elements: Range<usize>) -> Result<(Buffer, ()), String> {
        let array = match storage {
            Storage::Cpu(CpuStorage::F32(all)) if all.first() != Some(&ELSEWHERE) => {
                Buffer::F32(all[elements].to_vec())
            }
            Storage::Cpu(CpuStorage::BF16(all)) => Buffer::Bf16(all[elements].to_vec()),
            _ => return Err("it is on another device".to_owned()),
        };
        Ok((array, ()))
    }

    fn begin(&self, _var: &Var) -> candle_core::Result<()> {
        Ok(())
    }

    fn end(&self, var: &Var, array: Buffer) -> candle_core::Result<()> {
        if var.elem_count() == 0 {
            return Ok(());
        }
        var.inplace_op1(&Written(Cell::new(Some(array))))
    }
}

/// Puts values where a variable is.
struct Written(Cell<Option<Buffer>>);

impl InplaceOp1 for Written {
    fn name(&self) -> &'static str {
        "written"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _layout: &Layout) -> candle_core::Result<()> {
        match (storage, self.0.take()) {
            (CpuStorage::F32(old), Some(Buffer::F32(new))) => old.copy_from_slice(&new),
            (CpuStorage::BF16(old), Some(Buffer::Bf16(new))) => old.copy_from_slice(&new),
            other => panic!("{other:?}"),
        }
        Ok(())
    }
}

fn in_place(optimizer: VarOptimizer) -> Result<InPlace<OnHost>> {
    InPlace::new(optimizer, Counting::default(), OnHost)
}

fn step(optimizer: &mut InPlace<OnHost>, gradients: &GradStore) -> Result<StepOutcome> {
    optimizer.step_by(gradients, |engine, parameters| engine.step(parameters))
}

const SHAPES: [(&str, &[usize]); 3] = [("a.bias", &[33]), ("a.weight", &[40, 33]), ("b", &[3, 5, 7])];

/// Numbers that look like noise.
fn wave(shape: &[usize], seed: usize, dtype: DType) -> Tensor {
    let value = |i: usize| ((i * 7919 + seed * 104_729) % 10_007) as f32 / 5003.5 - 1.0;
    let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Two sets of the same variables.
fn twins(dtype: DType) -> [Vec<(String, Var)>; 2] {
    [(); 2].map(|()| {
        let var = |(i, (name, shape)): (usize, &(&str, &[usize]))| {
            ((*name).to_owned(), Var::from_tensor(&wave(shape, i, dtype)).unwrap())
        };
        SHAPES.iter().enumerate().map(var).collect()
    })
}

/// A store with these gradients.
fn store(gradients: impl IntoIterator<Item = (Var, Tensor)>) -> GradStore {
    let none = Var::zeros(1, DType::F32, &Device::Cpu).unwrap();
    let mut store = none.sum_all().unwrap().backward().unwrap();
    for (var, gradient) in gradients {
        store.insert(&var, gradient);
    }
    store
}

/// Gradients of a step, the same for both sets. In some steps, some variables have none.
fn gradients(variables: &[(String, Var)], step: usize) -> GradStore {
    let gradient = |(i, (_, var)): (usize, &(String, Var))| {
        let given = (step + i) % 4 != 2;
        given.then(|| (var.clone(), wave(var.dims(), 100 * step + i, var.dtype())))
    };
    store(variables.iter().enumerate().filter_map(gradient))
}

fn values(variables: &[(String, Var)]) -> Vec<Vec<f64>> {
    variables.iter().map(|(_, var)| flat(var)).collect()
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Momentum with weight decay on matrices, and without on vectors.
fn two_groups(variables: &[(String, Var)], non_finite: NonFinite) -> VarOptimizer {
    let of_rank = |is_vector: bool| {
        let own = variables.iter().filter(move |(_, var)| (var.rank() == 1) == is_vector);
        own.map(|(name, var)| (name.clone(), var.dims().to_vec()))
    };
    let decayed =
        (Momentum::default(), WeightDecay { rate: 0.1, ..WeightDecay::default() }, Descent::default());
    let groups = [
        ParameterGroup::new(decayed, of_rank(false)).lr(0.1),
        ParameterGroup::new((Momentum::default(), Descent::default()), of_rank(true)).lr(0.05),
    ];
    let settings = Settings { non_finite, ..Settings::default() };
    VarOptimizer::from_engine(Optimizer::with_groups(groups, settings).unwrap(), variables.iter().cloned())
        .unwrap()
}

/// Everything that a step can change.
fn all(variables: &[(String, Var)], optimizer: &mut InPlace<OnHost>) -> (Vec<Vec<f64>>, Snapshot) {
    (values(variables), optimizer.engine.snapshot().unwrap())
}

#[test]
fn every_chain_steps_in_place_as_through_the_host_to_the_bit() {
    for (number, row) in rows().iter().enumerate() {
        let dtypes: &[DType] = if number % 3 == 0 { &[DType::F32, DType::BF16] } else { &[DType::F32] };
        for &dtype in dtypes {
            let [here, there] = twins(dtype);
            let built = |variables: &[(String, Var)]| {
                let engine = Optimizer::new(row.chain(), shapes(variables)).unwrap();
                VarOptimizer::from_engine(engine, variables.to_vec()).unwrap()
            };
            let (mut host, mut device) = (built(&here), in_place(built(&there)).unwrap());
            for number in 0..5 {
                host.step(&gradients(&here, number)).unwrap();
                step(&mut device, &gradients(&there, number)).unwrap();
                assert_eq!(values(&there), values(&here), "{row:?}, {dtype:?}, step {number}");
            }
            let [x, expected] = [device.evaluation_tensors().unwrap(), host.evaluation_tensors().unwrap()];
            for (name, _) in SHAPES {
                assert_eq!(flat(&x[name]), flat(&expected[name]), "{row:?}: x of {name}");
            }
            assert_eq!(device.engine.snapshot().unwrap(), host.engine().snapshot(), "{row:?}");
        }
    }
}

#[test]
fn groups_schedules_and_the_factor_of_the_learning_rate_are_those_of_the_host() {
    let [here, there] = twins(DType::F32);
    let mut host = two_groups(&here, NonFinite::Error);
    // The factor comes along.
    let mut moved = two_groups(&there, NonFinite::Error);
    host.set_learning_rate(0.5);
    moved.set_learning_rate(0.5);
    let mut device = in_place(moved).unwrap();
    for number in 0..6 {
        if number == 3 {
            host.set_learning_rate(2.0);
            device.learning_rate = 2.0;
        }
        let lr = 0.1 / (1.0 + number as f64);
        host.engine_mut().set_lr(1, lr).unwrap();
        device.engine.set_lr(1, lr).unwrap();
        host.step(&gradients(&here, number)).unwrap();
        let before = (values(&there), device.engine.executor().tensors);
        step(&mut device, &gradients(&there, number)).unwrap();
        assert_eq!(values(&there), values(&here), "step {number}");
        // A variable without a gradient does not move, and no sweep includes it.
        let moved = values(&there).iter().zip(&before.0).filter(|(now, then)| now != then).count();
        let given = (0..SHAPES.len()).filter(|i| (number + i) % 4 != 2).count();
        assert_eq!((moved, device.engine.executor().tensors - before.1), (given, given));
    }
    assert_eq!(device.engine.snapshot().unwrap(), host.engine().snapshot());
}

#[test]
fn a_step_has_as_many_sweeps_for_many_variables_as_for_one() {
    let sweeps = |count: usize| {
        let variables: Vec<(String, Var)> = (0..count)
            .map(|i| (i.to_string(), Var::from_tensor(&wave(&[6, 4], i, DType::F32)).unwrap()))
            .collect();
        let engine = Options::default().build(shapes(&variables)).unwrap();
        let mut optimizer = in_place(VarOptimizer::from_engine(engine, variables.clone()).unwrap()).unwrap();
        step(&mut optimizer, &gradients(&variables[..1], 0)).unwrap();
        let before = optimizer.engine.executor().sweeps;
        let all = variables.iter().map(|(_, var)| (var.clone(), wave(&[6, 4], 9, DType::F32)));
        step(&mut optimizer, &store(all)).unwrap();
        optimizer.engine.executor().sweeps - before
    };
    assert!(sweeps(1) > 0);
    // One for the variable with an earlier step's numbers, and one for those without.
    assert!(sweeps(60) <= 2 * sweeps(1), "{} {}", sweeps(60), sweeps(1));
}

#[test]
fn a_gradient_of_any_layout_and_type_is_taken_as_on_the_host() {
    let shape = [6, 4];
    let long = wave(&[10, 4], 5, DType::F32);
    let row = wave(&[4], 6, DType::F32);
    let layouts = [
        ("transposed", wave(&[4, 6], 3, DType::F32).t().unwrap()),
        ("broadcast", row.broadcast_as(&shape).unwrap()),
        ("in the middle of its memory", long.narrow(0, 3, 6).unwrap()),
        ("some columns of a matrix", wave(&[6, 9], 4, DType::F32).narrow(1, 2, 4).unwrap()),
        ("float64", wave(&shape, 7, DType::F64)),
        ("float16", wave(&shape, 7, DType::F16)),
        ("bfloat16", wave(&shape, 7, DType::BF16)),
        ("bfloat16, transposed", wave(&[4, 6], 3, DType::BF16).t().unwrap()),
    ];
    for dtype in [DType::F32, DType::BF16] {
        for (what, gradient) in &layouts {
            let [here, there] =
                [(); 2].map(|()| vec![("w".to_owned(), Var::from_tensor(&wave(&shape, 1, dtype)).unwrap())]);
            let built = |variables: &[(String, Var)]| {
                let engine = Options::default().build(shapes(variables)).unwrap();
                VarOptimizer::from_engine(engine, variables.to_vec()).unwrap()
            };
            let (mut host, mut device) = (built(&here), in_place(built(&there)).unwrap());
            let before = values(&there);
            for _ in 0..2 {
                host.step(&store([(here[0].1.clone(), gradient.clone())])).unwrap();
                step(&mut device, &store([(there[0].1.clone(), gradient.clone())])).unwrap();
            }
            assert_eq!(values(&there), values(&here), "{what}, {dtype:?}");
            assert_eq!(device.engine.snapshot().unwrap(), host.engine().snapshot(), "{what}, {dtype:?}");
            assert!(dtype == DType::BF16 || values(&there) != before, "{what}");
        }
    }
}

#[test]
fn with_a_gradient_that_is_not_finite_or_a_rate_out_of_range_nothing_moves() {
    let [_, variables] = twins(DType::F32);
    let spoilt = || {
        let mut spoilt = gradients(&variables, 1);
        let (_, last) = &variables[2];
        spoilt.insert(last, Tensor::full(f32::NAN, last.dims(), &Device::Cpu).unwrap());
        spoilt
    };
    let mut optimizer = in_place(two_groups(&variables, NonFinite::Error)).unwrap();
    step(&mut optimizer, &gradients(&variables, 0)).unwrap();
    let before = all(&variables, &mut optimizer);
    let error = step(&mut optimizer, &spoilt()).unwrap_err().to_string();
    assert!(error.contains("`b`") && error.contains("NaN"), "{error}");
    optimizer.learning_rate = -1.0;
    let error = step(&mut optimizer, &gradients(&variables, 1)).unwrap_err().to_string();
    assert!(error.contains("lr") && error.contains("-1"), "{error}");
    optimizer.learning_rate = 1.0;
    assert_eq!(all(&variables, &mut optimizer), before);
    assert_eq!(step(&mut optimizer, &gradients(&variables, 1)).unwrap(), StepOutcome::Done);

    let mut skipping = in_place(two_groups(&variables, NonFinite::Skip)).unwrap();
    let before = values(&variables);
    assert_eq!(step(&mut skipping, &spoilt()).unwrap(), StepOutcome::Skipped);
    assert_eq!(values(&variables), before);
}

#[test]
fn what_is_not_where_it_should_be_is_named_and_nothing_moves() {
    let [_, variables] = twins(DType::F32);
    let mut optimizer = in_place(two_groups(&variables, NonFinite::Error)).unwrap();
    step(&mut optimizer, &gradients(&variables, 0)).unwrap();
    let before = all(&variables, &mut optimizer);
    let (_, weight) = &variables[1];

    let mut elsewhere = gradients(&variables, 3);
    elsewhere.insert(weight, Tensor::full(ELSEWHERE, weight.dims(), &Device::Cpu).unwrap());
    let error = step(&mut optimizer, &elsewhere).unwrap_err();
    assert!(matches!(&error, Error::Elsewhere { name, .. } if name == "a.weight"), "{error}");

    let mut shared = gradients(&variables, 3);
    shared.insert(weight, weight.as_tensor().clone());
    let error = step(&mut optimizer, &shared).unwrap_err();
    assert!(matches!(&error, Error::SharedMemory { name } if name == "a.weight"), "{error}");
    // Of another variable than its own.
    let mut shared = gradients(&variables, 3);
    let part = weight.narrow(0, 0, 1).unwrap().flatten_all().unwrap();
    shared.insert(&variables[0].1, part);
    let error = step(&mut optimizer, &shared).unwrap_err();
    assert!(matches!(&error, Error::SharedMemory { name } if name == "a.bias"), "{error}");

    let mut short = gradients(&variables, 3);
    short.insert(weight, wave(&[40, 32], 1, DType::F32));
    let error = step(&mut optimizer, &short).unwrap_err().to_string();
    assert!(error.contains("a.weight") && error.contains("gradient"), "{error}");
    assert_eq!(all(&variables, &mut optimizer), before);
    step(&mut optimizer, &gradients(&variables, 1)).unwrap();

    let foreign = vec![("w".to_owned(), Var::new(&[ELSEWHERE], &Device::Cpu).unwrap())];
    let engine = Optimizer::new(Descent::default(), shapes(&foreign)).unwrap();
    let error = in_place(VarOptimizer::from_engine(engine, foreign.clone()).unwrap()).err().unwrap();
    assert!(matches!(&error, Error::Elsewhere { name, .. } if name == "w"), "{error}");
}

#[test]
fn an_optimizer_made_for_other_shapes_names_the_variable_and_moves_nothing() {
    let [_, variables] = twins(DType::F32);
    let other = SHAPES.map(|(name, shape)| (name, if name == "b" { vec![3, 5, 8] } else { shape.to_vec() }));
    let engine = Optimizer::new(Descent::default(), other).unwrap();
    let mut optimizer = in_place(VarOptimizer::from_engine(engine, variables.clone()).unwrap()).unwrap();
    let before = values(&variables);
    let error = step(&mut optimizer, &gradients(&variables, 1)).unwrap_err();
    let gradient_transform::Error::ShapeMismatch { name, .. } = (match &error {
        Error::Optimizer(error) => error,
        other => panic!("{other}"),
    }) else {
        panic!("{error}");
    };
    assert_eq!((name.as_str(), values(&variables)), ("b", before));
}

#[test]
fn a_chain_of_products_on_a_device_without_them_and_elements_that_are_not_side_by_side_are_refused() {
    let [_, variables] = twins(DType::F32);
    let engine = Options::default().use_muon_pp(true).build(shapes(&variables)).unwrap();
    let error = in_place(VarOptimizer::from_engine(engine, variables).unwrap()).err().unwrap();
    assert!(matches!(&error, Error::Optimizer(gradient_transform::Error::NoProducts { .. })), "{error}");

    let transposed = wave(&[4, 6], 1, DType::F32).t().unwrap();
    let error = resident(&OnHost, "w", &transposed.storage_and_layout()).unwrap_err();
    assert!(matches!(&error, Error::Elsewhere { name, .. } if name == "w"), "{error}");
    // But it may begin anywhere in its memory.
    let later = wave(&[6], 1, DType::F32).narrow(0, 2, 3).unwrap();
    let locked = later.storage_and_layout();
    let (array, ()) = resident(&OnHost, "w", &locked).unwrap();
    assert_eq!(array, Buffer::F32(later.to_vec1().unwrap()));
}

#[test]
fn a_run_goes_on_on_the_host_from_a_state_of_the_device_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let map = VarMap::new();
    for (name, shape) in SHAPES {
        let _ = map.get(shape, name, Init::Const(0.5), DType::BF16, &Device::Cpu).unwrap();
    }
    map.get(2, "batches", Init::Const(7.0), DType::I64, &Device::Cpu).unwrap();
    let variables: Vec<_> = named_variables(&map).into_iter().filter(|(name, _)| name != "batches").collect();
    let options = Options::default().d0(1e-2);
    let mut device = in_place(ProdigyPlus::from_varmap(&map, &options).unwrap()).unwrap();
    for number in 0..3 {
        step(&mut device, &gradients(&variables, number)).unwrap();
    }
    device.save_state(&path).unwrap();
    let y = values(&variables);
    // The integers of a model are saved with it.
    assert_eq!(flat(&device.evaluation_tensors().unwrap()["batches"]), [7.0; 2]);

    let mut resumed = ProdigyPlus::from_varmap(&map, &options).unwrap();
    let restored = resumed.load_state(&path).unwrap();
    assert!(restored.missing.is_empty() && restored.surplus.is_empty());
    assert_eq!(resumed.engine().snapshot(), device.engine.snapshot().unwrap());
    assert_eq!(values(&variables), y);

    // Host, device, host: as if it had stayed on the device.
    let copies: Vec<(String, Var)> = variables
        .iter()
        .map(|(name, var)| (name.clone(), Var::from_tensor(&var.copy().unwrap()).unwrap()))
        .collect();
    let mut twin = ProdigyPlus::from_engine(options.build(shapes(&copies)).unwrap(), copies.clone()).unwrap();
    twin.load_state(&path).unwrap();
    twin.step(&gradients(&copies, 3)).unwrap();
    let mut twin = in_place(twin).unwrap();
    step(&mut twin, &gradients(&copies, 4)).unwrap();
    let mut twin = twin.into_host().unwrap();
    twin.step(&gradients(&copies, 5)).unwrap();
    for number in 3..6 {
        step(&mut device, &gradients(&variables, number)).unwrap();
    }
    assert_eq!(values(&copies), values(&variables));
    assert_eq!(twin.engine().snapshot(), device.engine.snapshot().unwrap());
    let back = device.into_host().unwrap();
    assert_eq!((back.engine().steps(0).unwrap(), back.left_out().len()), (6, 1));
}

#[test]
fn a_step_is_told_the_loss() {
    let w = Var::new(&[4_f32], &Device::Cpu).unwrap();
    let chain = (Polyak::default(), Descent::default());
    let engine = Optimizer::new(chain, [("w", [1])]).unwrap();
    let mut optimizer =
        in_place(VarOptimizer::from_engine(engine, [("w".to_owned(), w.clone())]).unwrap()).unwrap();
    let gradients = w.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    optimizer.step_by(&gradients, |engine, parameters| engine.step_with(Loss(16.0), parameters)).unwrap();
    assert!((flat(&w)[0] - 2.0).abs() < 1e-5); // 16 / 8^2 times the gradient 8
    assert!(step(&mut optimizer, &gradients).is_err()); // which loss?
}

#[test]
fn a_variable_without_elements_and_a_step_without_gradients_are_no_errors() {
    let none = Var::zeros((0, 3), DType::F32, &Device::Cpu).unwrap();
    let some = Var::from_vec(vec![bf16::ONE; 2], 2, &Device::Cpu).unwrap();
    let variables = vec![("none".to_owned(), none.clone()), ("some".to_owned(), some.clone())];
    let engine = Optimizer::new((Momentum::default(), Descent::default()), shapes(&variables)).unwrap();
    let mut optimizer = in_place(VarOptimizer::from_engine(engine, variables).unwrap()).unwrap();
    assert_eq!(step(&mut optimizer, &store([])).unwrap(), StepOutcome::Done);
    assert_eq!(flat(&some), [1.0; 2]);
    let own = none.as_tensor().clone(); // as candle may give it
    let gradient = Tensor::ones(2, DType::F32, &Device::Cpu).unwrap();
    step(&mut optimizer, &store([(none, own), (some.clone(), gradient)])).unwrap();
    assert_eq!(flat(&some), [0.0; 2]);
}
