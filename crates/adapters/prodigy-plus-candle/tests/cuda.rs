//! Variables on a CUDA device are stepped there, to the bit as on the processor. Where there is none, each test says so and ends.

use std::io::Write;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Module, Tensor, Var};
use candle_nn::{Optimizer as _, VarBuilder, VarMap, linear, loss::mse, seq};
use gradient_transform::{Descent, NonFinite, Optimizer, StepOutcome};
use prodigy_plus_candle::{Error, OnCuda, Options, ProdigyPlus, VarOptimizer, named_variables, shapes};

fn device(what: &str) -> Option<Device> {
    match Device::new_cuda(0) {
        Ok(device) => {
            say(&format!("ran: {what} on CUDA"));
            Some(device)
        }
        Err(error) => {
            // Below it, there may be a backtrace.
            say(&format!("skipped: {what}: {}", error.to_string().lines().next().unwrap_or_default()));
            None
        }
    }
}

/// A line that no test harness holds back.
fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Numbers that look like noise.
fn wave(shape: &[usize], seed: usize, dtype: DType) -> Tensor {
    let value = |i: usize| ((i * 7919 + seed * 104_729) % 10_007) as f32 / 5003.5 - 1.0;
    let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// The same variables on both sides: here, there.
fn twins(dtype: DType, device: &Device) -> [Vec<(String, Var)>; 2] {
    let shapes: [(&str, &[usize]); 3] = [("a.bias", &[160]), ("a.weight", &[160, 24]), ("b", &[3, 5, 64])];
    [&Device::Cpu, device].map(|device| {
        let var = |(i, (name, shape)): (usize, &(&str, &[usize]))| {
            let tensor = wave(shape, i, dtype).to_device(device).unwrap();
            ((*name).to_owned(), Var::from_tensor(&tensor).unwrap())
        };
        shapes.iter().enumerate().map(var).collect()
    })
}

fn store(gradients: impl IntoIterator<Item = (Var, Tensor)>) -> GradStore {
    let mut store = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap().backward().unwrap();
    for (var, gradient) in gradients {
        store.insert(&var, gradient);
    }
    store
}

/// Gradients of a step, the same on both sides. In some steps, some variables have none.
fn gradients(variables: &[(String, Var)], step: usize) -> GradStore {
    let gradient = |(i, (_, var)): (usize, &(String, Var))| {
        let gradient = wave(var.dims(), 100 * step + i, var.dtype());
        ((step + i) % 4 != 2).then(|| (var.clone(), gradient.to_device(var.device()).unwrap()))
    };
    store(variables.iter().enumerate().filter_map(gradient))
}

fn values(variables: &[(String, Var)]) -> Vec<Vec<f64>> {
    variables.iter().map(|(_, var)| flat(var)).collect()
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.to_device(&Device::Cpu).unwrap().to_dtype(DType::F64).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn built(variables: &[(String, Var)], options: &Options) -> VarOptimizer {
    ProdigyPlus::from_engine(options.build(shapes(variables)).unwrap(), variables.to_vec()).unwrap()
}

#[test]
fn steps_on_the_device_have_the_processors_bits() {
    let Some(device) = device("steps") else { return };
    let options =
        ["{}", r#"{"use_adopt": true, "use_cautious": true}"#, r#"{"line": "2.0.1", "factored": false}"#];
    for options in options.map(|options| serde_json::from_str::<Options>(options).unwrap().d0(1e-3)) {
        for dtype in [DType::F32, DType::BF16] {
            let [here, there] = twins(dtype, &device);
            let mut host = built(&here, &options);
            let mut cuda = OnCuda::new(built(&there, &options), &device).unwrap();
            for step in 0..6 {
                if step == 3 {
                    host.set_learning_rate(0.5);
                    cuda.set_learning_rate(0.5);
                }
                host.step(&gradients(&here, step)).unwrap();
                assert_eq!(cuda.step(&gradients(&there, step)).unwrap(), StepOutcome::Done);
                assert_eq!(values(&there), values(&here), "{options:?}, {dtype:?}, step {step}");
            }
            let [x, expected] = [cuda.evaluation_tensors().unwrap(), host.evaluation_tensors().unwrap()];
            assert_eq!(flat(&x["a.weight"]), flat(&expected["a.weight"]));
            assert!(x["a.weight"].device().is_cuda());
            assert_eq!(cuda.engine_mut().snapshot().unwrap(), host.engine().snapshot());
        }
    }
}

#[test]
fn variables_and_gradients_do_not_pass_through_the_host() {
    let Some(device) = device("bytes of a step") else { return };
    let var = Var::from_tensor(&wave(&[512, 512], 1, DType::F32).to_device(&device).unwrap()).unwrap();
    let variables = vec![("w".to_owned(), var.clone())];
    let mut optimizer = OnCuda::new(built(&variables, &Options::default()), &device).unwrap();
    let bytes = 4 * 512 * 512;
    for step in 0..4 {
        let gradients =
            store([(var.clone(), wave(&[512, 512], step, DType::F32).to_device(&device).unwrap())]);
        let cuda = optimizer.engine_mut().executor();
        let before = (cuda.transferred_bytes(), cuda.launches());
        optimizer.step(&gradients).unwrap();
        let cuda = optimizer.engine_mut().executor();
        let (transferred, launches) = (cuda.transferred_bytes() - before.0, cuda.launches() - before.1);
        say(&format!(
            "ran: step {step}: {transferred} bytes between host and device, {bytes} of variables, {launches} launches"
        ));
        assert!(transferred < bytes / 20, "{transferred}");
    }
}

#[test]
fn a_gradient_of_any_layout_and_type_is_taken_as_on_the_processor() {
    let Some(device) = device("layouts and types") else { return };
    let layouts = [
        ("transposed", wave(&[4, 6], 3, DType::F32)),
        ("broadcast", wave(&[4], 6, DType::F32)),
        ("in the middle", wave(&[10, 4], 5, DType::F32)),
        ("float64", wave(&[6, 4], 7, DType::F64)),
        ("float16", wave(&[6, 4], 7, DType::F16)),
    ];
    for (what, made) in layouts {
        let stepped = |device: &Device, on_device: bool| {
            let var = Var::from_tensor(&wave(&[6, 4], 1, DType::F32).to_device(device).unwrap()).unwrap();
            let gradient = made.to_device(device).unwrap();
            let gradient = match what {
                "transposed" => gradient.t().unwrap(),
                "broadcast" => gradient.broadcast_as((6, 4)).unwrap(),
                "in the middle" => gradient.narrow(0, 3, 6).unwrap(),
                _ => gradient,
            };
            let optimizer = built(&[("w".to_owned(), var.clone())], &Options::default().d0(1e-2));
            let gradients = store([(var.clone(), gradient)]);
            if on_device {
                OnCuda::new(optimizer, device).unwrap().step(&gradients).unwrap();
            } else {
                { optimizer }.step(&gradients).unwrap();
            }
            flat(&var)
        };
        assert_eq!(stepped(&device, true), stepped(&Device::Cpu, false), "{what}");
    }
}

#[test]
fn what_cannot_be_stepped_there_is_refused_and_nothing_moves() {
    let Some(device) = device("what is refused") else { return };
    let [here, there] = twins(DType::F32, &device);
    let options = Options::default();
    assert!(OnCuda::new(built(&here, &options), &Device::Cpu).is_err());
    let error = OnCuda::new(built(&here, &options), &device).err().unwrap();
    assert!(matches!(&error, Error::Elsewhere { name, .. } if name == "a.bias"), "{error}");
    // Its work is not in the order of the other's.
    let other = Device::new_cuda_with_stream(0).unwrap();
    let error = OnCuda::new(built(&there, &options), &other).err().unwrap();
    assert!(matches!(&error, Error::Elsewhere { name, .. } if name == "a.bias"), "{error}");
    let narrow = built(&there, &options.clone().use_muon_pp(true).muon_bf16_iterations(true));
    let error = OnCuda::new(narrow, &device).err().unwrap();
    assert!(matches!(&error, Error::Optimizer(gradient_transform::Error::NoFormula { .. })), "{error}");

    let mut optimizer = OnCuda::new(built(&there, &options), &device).unwrap();
    optimizer.step(&gradients(&there, 0)).unwrap();
    let before = (values(&there), optimizer.engine_mut().snapshot().unwrap());
    let (_, weight) = &there[1];
    let mut elsewhere = gradients(&there, 3);
    elsewhere.insert(weight, wave(weight.dims(), 1, DType::F32));
    let error = optimizer.step(&elsewhere).unwrap_err();
    assert!(matches!(&error, Error::Elsewhere { name, .. } if name == "a.weight"), "{error}");
    let mut shared = gradients(&there, 3);
    shared.insert(weight, weight.as_tensor().clone());
    let error = optimizer.step(&shared).unwrap_err();
    assert!(matches!(&error, Error::SharedMemory { name } if name == "a.weight"), "{error}");
    let mut spoilt = gradients(&there, 3);
    let nan = Tensor::full(f32::NAN, weight.dims(), &Device::Cpu).unwrap();
    spoilt.insert(weight, nan.to_device(&device).unwrap());
    let error = optimizer.step(&spoilt).unwrap_err().to_string();
    assert!(error.contains("a.weight") && error.contains("NaN"), "{error}");
    optimizer.set_learning_rate(-1.0);
    assert!(optimizer.step(&gradients(&there, 3)).is_err());
    optimizer.set_learning_rate(1.0);
    assert_eq!((values(&there), optimizer.engine_mut().snapshot().unwrap()), before);
    assert_eq!(optimizer.step(&store([])).unwrap(), StepOutcome::Done);
    assert_eq!(optimizer.step(&gradients(&there, 3)).unwrap(), StepOutcome::Done);

    let mut skipping = OnCuda::new(built(&there, &options.non_finite(NonFinite::Skip)), &device).unwrap();
    let before = values(&there);
    assert_eq!(skipping.step(&spoilt).unwrap(), StepOutcome::Skipped);
    assert_eq!(values(&there), before);
}

#[test]
fn a_run_goes_on_on_the_processor_from_a_file_of_the_device_and_comes_back() {
    let Some(device) = device("states") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let [_, there] = twins(DType::F32, &device);
    let options = Options::default().d0(1e-2);
    let mut cuda = OnCuda::new(built(&there, &options), &device).unwrap();
    for step in 0..3 {
        cuda.step(&gradients(&there, step)).unwrap();
    }
    cuda.save_state(&path).unwrap();
    let copy = |(name, var): &(String, Var)| {
        let tensor = var.as_detached_tensor().to_device(&Device::Cpu).unwrap();
        (name.clone(), Var::from_tensor(&tensor).unwrap())
    };
    let here: Vec<(String, Var)> = there.iter().map(copy).collect();
    let mut host = built(&here, &options);
    host.load_state(&path).unwrap();
    let mut resumed = built(&there, &options);
    resumed.load_state(&path).unwrap();
    let mut resumed = OnCuda::new(resumed, &device).unwrap();
    for step in 3..6 {
        host.step(&gradients(&here, step)).unwrap();
        resumed.step(&gradients(&there, step)).unwrap();
    }
    assert_eq!(values(&there), values(&here));
    assert_eq!(resumed.into_host().unwrap().engine().snapshot(), host.engine().snapshot());
}

#[test]
fn another_stream_of_candles_is_stepped_on_in_its_own_order() {
    let Some(_) = device("a stream of its own") else { return };
    let device = Device::new_cuda_with_stream(0).unwrap();
    let [here, there] = twins(DType::F32, &device);
    let chain = || (elementary::Momentum::default(), Descent::default());
    let optimizer = |variables: &[(String, Var)]| {
        let engine = Optimizer::new(chain(), shapes(variables)).unwrap();
        VarOptimizer::from_engine(engine, variables.to_vec()).unwrap()
    };
    let (mut host, mut cuda) = (optimizer(&here), OnCuda::new(optimizer(&there), &device).unwrap());
    for step in 0..4 {
        host.step(&gradients(&here, step)).unwrap();
        cuda.step(&gradients(&there, step)).unwrap();
    }
    assert_eq!(values(&there), values(&here));
}

#[test]
fn a_model_is_trained_on_the_device_in_place_of_adamw() {
    let Some(device) = device("training") else { return };
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &device);
    let hidden = linear(24, 160, vb.pp("hidden")).unwrap();
    let model = seq().add(hidden).add_fn(|x| x.tanh()).add(linear(160, 7, vb.pp("output")).unwrap());
    let inputs = wave(&[32, 24], 1, DType::F32).to_device(&device).unwrap();
    let labels = inputs.narrow(1, 3, 7).unwrap().sin().unwrap();
    let loss = || mse(&model.forward(&inputs).unwrap(), &labels).unwrap();
    let there = named_variables(&map);
    let here: Vec<(String, Var)> = there
        .iter()
        .map(|(name, var)| {
            let tensor = var.as_detached_tensor().to_device(&Device::Cpu).unwrap();
            (name.clone(), Var::from_tensor(&tensor).unwrap())
        })
        .collect();
    let options = Options::default().d0(1e-2);
    let mut host = built(&here, &options);
    let mut cuda = OnCuda::new(built(&there, &options), &device).unwrap();
    let first = loss().to_scalar::<f32>().unwrap();
    for step in 0..20 {
        let gradients = loss().backward().unwrap();
        let copies = there.iter().zip(&here).map(|((_, there), (_, here))| {
            (here.clone(), gradients.get(there).unwrap().to_device(&Device::Cpu).unwrap())
        });
        host.step(&store(copies)).unwrap();
        cuda.step(&gradients).unwrap();
        assert_eq!(values(&there), values(&here), "step {step}");
    }
    let last = loss().to_scalar::<f32>().unwrap();
    assert!(last < 0.9 * first, "{first} {last}");

    let mut by_trait = <OnCuda as candle_nn::Optimizer>::new(map.all_vars(), options).unwrap();
    let before = values(&there);
    by_trait.backward_step(&loss()).unwrap();
    assert_ne!(values(&there), before);
}
