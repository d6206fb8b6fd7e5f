//! The adapter steps as the engine does, and loses nothing when something is wrong.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, OptimizerRecord};
use burn::tensor::{DType, Device, Tensor, TensorData};
use conformance::case::{Case, Precision};
use conformance::product::{Product, product, subject};
use gradient_transform::{NonFinite, Parameter, StepOutcome};
use half::bf16;
use ndarray::ArrayD;
use prodigy_plus_burn::{Error, Finding, ModuleOptimizer, Options, ProdigyPlus, Recorder, parameters};

/// Parameters of any rank.
#[derive(Module, Debug)]
struct Parameters {
    rank1: Vec<Param<Tensor<1>>>,
    rank2: Vec<Param<Tensor<2>>>,
    rank3: Vec<Param<Tensor<3>>>,
    rank4: Vec<Param<Tensor<4>>>,
}

fn tensor<const D: usize>(array: &ArrayD<f64>, dtype: DType, device: &Device) -> Tensor<D> {
    let data = TensorData::new(array.iter().copied().collect(), array.shape().to_vec());
    Tensor::<D>::from_data(data, (device, DType::F64)).cast(dtype)
}

impl Parameters {
    /// And what each of the arrays is called.
    fn new(arrays: &[ArrayD<f64>], dtype: DType) -> (Self, Vec<String>) {
        let device = Device::flex().autodiff();
        let mut all = Self { rank1: vec![], rank2: vec![], rank3: vec![], rank4: vec![] };
        let mut names = Vec::new();
        for array in arrays {
            macro_rules! push {
                ($field:ident) => {{
                    names.push(format!(concat!(stringify!($field), ".{}"), all.$field.len()));
                    all.$field.push(Param::from_tensor(tensor(array, dtype, &device)));
                }};
            }
            match array.ndim() {
                1 => push!(rank1),
                2 => push!(rank2),
                3 => push!(rank3),
                4 => push!(rank4),
                rank => panic!("rank {rank}"),
            }
        }
        (all, names)
    }

    /// The gradients of the arrays that have one.
    fn gradients(
        &self,
        arrays: &[Option<ArrayD<f64>>],
        shapes: &[Vec<usize>],
        dtype: DType,
    ) -> GradientsParams {
        let device = Device::flex();
        let mut gradients = GradientsParams::new();
        let mut next = [0; 5];
        for (array, shape) in arrays.iter().zip(shapes) {
            let rank = shape.len();
            let index = next[rank];
            next[rank] += 1;
            let Some(array) = array else { continue };
            match rank {
                1 => gradients.register(self.rank1[index].id, tensor::<1>(array, dtype, &device)),
                2 => gradients.register(self.rank2[index].id, tensor::<2>(array, dtype, &device)),
                3 => gradients.register(self.rank3[index].id, tensor::<3>(array, dtype, &device)),
                _ => gradients.register(self.rank4[index].id, tensor::<4>(array, dtype, &device)),
            }
        }
        gradients
    }

    fn values(&self, name: &str) -> Vec<f64> {
        fn values<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f64> {
            param.val().into_data().convert::<f64>().try_to_vec::<f64>().unwrap()
        }
        let (rank, index) = name.split_once('.').unwrap();
        let index: usize = index.parse().unwrap();
        match rank {
            "rank1" => values(&self.rank1[index]),
            "rank2" => values(&self.rank2[index]),
            "rank3" => values(&self.rank3[index]),
            _ => values(&self.rank4[index]),
        }
    }
}

#[test]
fn trajectories_are_the_engines_to_the_bit_on_every_conformance_case() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/golden");
    let of_line = |folder| std::fs::read_dir(golden.join(folder)).unwrap();
    let mut count = 0;
    for entry in of_line("cases").chain(of_line("cases_v2")) {
        let case = Case::read(&entry.unwrap().path()).unwrap();
        // burn's tensors have at least one axis; and evaluation does not move the parameters here, as the
        // reference's does.
        let has_scalars = case.init.iter().any(|init| init.ndim() == 0);
        if has_scalars || case.description.eval_at.is_some() {
            continue;
        }
        let name = &case.description.name;
        let dtype = match case.description.dtype {
            Precision::Float32 => DType::F32,
            Precision::Bfloat16 => DType::BF16,
        };
        let mut plain = subject(&case).unwrap();
        let (mut module, names) = Parameters::new(&case.init, dtype);
        let Product { optimizer, lrs, .. } = product(&case, |i| names[i].clone()).unwrap();
        let mut adapter = ProdigyPlus::from_engine(optimizer);
        let mut lr = 1.0;
        for (t, step) in case.steps.iter().enumerate() {
            plain.step(&step.gradients, step.lr).unwrap();
            let gradients = module.gradients(&step.gradients, &case.description.shapes, dtype);
            lr = step.lr.unwrap_or(lr);
            adapter.step(lr, &mut module, gradients).unwrap();
            let saved = step.saved.is_some().then(|| adapter.evaluation_module(&module).unwrap());
            for (i, key) in names.iter().enumerate() {
                let y: Vec<f64> = plain.y(i).unwrap().iter().copied().collect();
                assert_eq!(module.values(key), y, "{name}: y, step {t}");
                if let Some(at_x) = &saved {
                    let x: Vec<f64> = plain.x(i).unwrap().iter().copied().collect();
                    assert_eq!(at_x.values(key), x, "{name}: x, step {t}");
                }
            }
            let d: Vec<f64> =
                (0..lrs.len()).map(|group| adapter.engine().estimate(group).unwrap().d).collect();
            assert_eq!(d, plain.d().unwrap(), "{name}");
        }
        count += 1;
    }
    assert!(count > 24, "{count} cases");
}

fn layers(dtype: DType) -> Linear {
    let device = Device::flex().autodiff();
    let constant = |shape: &[usize]| ArrayD::from_elem(shape, 0.25);
    Linear {
        weight: Param::from_tensor(tensor(&constant(&[4, 6]), dtype, &device)),
        bias: Some(Param::from_tensor(tensor(&constant(&[6]), dtype, &device))),
    }
}

fn gradients(layer: &Linear, step: usize) -> GradientsParams {
    fn wave<const D: usize>(param: &Param<Tensor<D>>, step: usize) -> Tensor<D> {
        let tensor = param.val().inner();
        let wave = |i: usize| ((i * 7 + step * 13) % 11) as f64 / 11.0 - 0.4;
        let noise: Vec<f64> = (0..tensor.shape().num_elements()).map(wave).collect();
        let data = TensorData::new(noise, tensor.shape());
        tensor.clone() + Tensor::<D>::from_data(data, (&tensor.device(), DType::F64)).cast(tensor.dtype())
    }
    let mut gradients = GradientsParams::new();
    gradients.register(layer.weight.id, wave(&layer.weight, step));
    let bias = layer.bias.as_ref().unwrap();
    gradients.register(bias.id, wave(bias, step));
    gradients
}

fn step<T: gradient_transform::Real>(optimizer: &mut ModuleOptimizer<T>, layer: &mut Linear, number: usize) {
    let gradients = gradients(layer, number);
    assert_eq!(optimizer.step(1.0, layer, gradients).unwrap(), StepOutcome::Done);
}

fn values(layer: &Linear) -> Vec<f64> {
    let weight = layer.weight.val().into_data().convert::<f64>().try_to_vec::<f64>().unwrap();
    let bias = layer.bias.as_ref().unwrap().val().into_data().convert::<f64>().try_to_vec::<f64>().unwrap();
    weight.into_iter().chain(bias).collect()
}

#[test]
fn a_run_resumed_from_burns_record_is_the_uninterrupted_one_to_the_bit() {
    fn check<T: gradient_transform::Real>(dtype: DType) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.bpk");
        let mut layer = layers(dtype);
        let mut optimizer = ModuleOptimizer::<T>::new(&layer, &Options::default()).unwrap();
        for number in 0..6 {
            step(&mut optimizer, &mut layer, number);
        }
        optimizer.to_record().unwrap().save(&path).unwrap();
        let mut later = layer.clone();
        let mut resumed = ModuleOptimizer::<T>::new(&later, &Options::default()).unwrap();
        resumed.load_record(&mut later, OptimizerRecord::load(&path).unwrap()).unwrap();
        for number in 6..12 {
            step(&mut optimizer, &mut layer, number);
            step(&mut resumed, &mut later, number);
        }
        assert_eq!(values(&later), values(&layer));
        assert_eq!(resumed.engine().snapshot(), optimizer.engine().snapshot());
    }
    check::<f32>(DType::F32);
    check::<f32>(DType::BF16);
    check::<f64>(DType::F64);
}

#[test]
fn a_stepped_module_can_still_be_trained_and_its_parameters_keep_their_identity() {
    let device = Device::flex().autodiff();
    let mut layer: Linear = LinearConfig::new(3, 2).init(&device);
    let ids = (layer.weight.id, layer.bias.as_ref().unwrap().id);
    let mut optimizer = ProdigyPlus::new(&layer, &Options::default()).unwrap();
    let inputs = Tensor::<2>::from_data([[1.0, 2.0, 3.0]], &device);
    for _ in 0..3 {
        let loss = layer.forward(inputs.clone()).powf_scalar(2.0).sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &layer);
        assert_eq!(gradients.len(), 2);
        optimizer.step(1.0, &mut layer, gradients).unwrap();
    }
    assert_eq!((layer.weight.id, layer.bias.as_ref().unwrap().id), ids);
    assert_eq!(optimizer.engine().steps(0).unwrap(), 3);
}

#[test]
fn whatever_is_refused_changes_nothing() {
    let mut layer = layers(DType::F32);
    let mut optimizer = ProdigyPlus::new(&layer, &Options::default()).unwrap();
    step(&mut optimizer, &mut layer, 0);
    let (before, state) = (values(&layer), optimizer.engine().snapshot());
    let spoilt = |layer: &Linear| {
        let mut spoilt = gradients(layer, 1);
        spoilt.register(layer.weight.id, Tensor::<2>::full([4, 6], f32::NAN, &Device::flex()));
        spoilt
    };
    let infinite = spoilt(&layer);
    let error = optimizer.step(1.0, &mut layer, infinite).unwrap_err().to_string();
    assert!(error.contains("weight") && error.contains("NaN"), "{error}");
    let sound = gradients(&layer, 1);
    let error = optimizer.step(-1.0, &mut layer, sound).unwrap_err().to_string();
    assert!(error.contains("lr") && error.contains("-1"), "{error}");
    assert_eq!((values(&layer), optimizer.engine().snapshot()), (before.clone(), state.clone()));

    let other: Linear = LinearConfig::new(4, 6).with_bias(false).init(&Device::flex().autodiff());
    let error = optimizer.step(1.0, &mut other.clone(), GradientsParams::new()).unwrap_err();
    assert!(matches!(&error, Error::OtherParameters { expected, .. } if expected == &["bias"]), "{error}");
    let error = optimizer.load_record(&mut layer, OptimizerRecord::default()).unwrap_err().to_string();
    assert!(error.contains("checkpoint"), "{error}");
    assert_eq!(optimizer.engine().snapshot(), state);

    let mut skipping = ProdigyPlus::new(&layer, &Options::default().non_finite(NonFinite::Skip)).unwrap();
    let infinite = spoilt(&layer);
    assert_eq!(skipping.step(1.0, &mut layer, infinite).unwrap(), StepOutcome::Skipped);
    assert_eq!(values(&layer), before);
}

#[test]
fn the_evaluation_point_is_another_module() {
    let mut layer = layers(DType::F32);
    let mut optimizer = ProdigyPlus::new(&layer, &Options::default().d0(1e-2)).unwrap();
    for number in 0..3 {
        step(&mut optimizer, &mut layer, number);
    }
    let y = values(&layer);
    let at_x = optimizer.evaluation_module(&layer).unwrap();
    assert_ne!(values(&at_x), y);
    assert_eq!(values(&layer), y);
    assert_eq!(parameters(&at_x), parameters(&layer));
    step(&mut optimizer, &mut layer, 3);
}

/// Tied weights: the output layer has the embedding's.
#[derive(Module, Debug)]
struct Tied {
    input: Param<Tensor<2>>,
    hidden: Linear,
    output: Param<Tensor<2>>,
}

/// The same network with one place for the weight.
#[derive(Module, Debug)]
struct Single {
    input: Param<Tensor<2>>,
    hidden: Linear,
}

fn loss(input: &Param<Tensor<2>>, hidden: &Linear, output: &Param<Tensor<2>>) -> Tensor<1> {
    let data = Tensor::<2>::from_data([[1.0, 2.0, -3.0, 0.5], [0.5, -1.0, 1.0, 2.0]], &input.val().device());
    let hidden = hidden.forward(data.matmul(input.val())).tanh();
    (hidden.matmul(output.val().transpose()) - 0.7).powf_scalar(2.0).mean()
}

fn numbers<const D: usize>(param: &Param<Tensor<D>>) -> Vec<f64> {
    param.val().into_data().convert::<f64>().try_to_vec::<f64>().unwrap()
}

/// Both networks, from the same values.
fn tied_and_single() -> (Tied, Single) {
    let device = Device::flex().autodiff();
    let wave = |n: usize, m: usize| {
        ArrayD::from_shape_fn(vec![n, m], |i| ((i[0] * 7 + i[1] * 5) % 11) as f64 / 11.0 - 0.4)
    };
    let weight = || Param::from_tensor(tensor::<2>(&wave(4, 3), DType::F32, &device));
    let hidden =
        || Linear { weight: Param::from_tensor(tensor::<2>(&wave(3, 3), DType::F32, &device)), bias: None };
    let input = weight();
    let tied = Tied { output: input.clone(), input, hidden: hidden() };
    (tied, Single { input: weight(), hidden: hidden() })
}

// Optimisers.jl#97, mlverse/torch#305
#[test]
fn a_parameter_in_two_places_is_stepped_once_by_both_gradients_and_stays_one() {
    let (mut tied, mut single) = tied_and_single();
    let names: Vec<String> = parameters(&tied).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["input", "hidden.weight"]);
    let options = Options::default().d0(1e-2);
    let mut optimizer = ProdigyPlus::new(&tied, &options).unwrap();
    let mut reference = ProdigyPlus::new(&single, &options).unwrap();
    for step in 0..20 {
        let gradients =
            GradientsParams::from_grads(loss(&tied.input, &tied.hidden, &tied.output).backward(), &tied);
        optimizer.step(1.0, &mut tied, gradients).unwrap();
        let gradients = GradientsParams::from_grads(
            loss(&single.input, &single.hidden, &single.input).backward(),
            &single,
        );
        reference.step(1.0, &mut single, gradients).unwrap();
        assert_eq!(numbers(&tied.input), numbers(&single.input), "step {step}");
        assert_eq!(numbers(&tied.output), numbers(&single.input), "step {step}");
    }
    assert_eq!(tied.input.id, tied.output.id);
    let at_x = optimizer.evaluation_module(&tied).unwrap();
    let expected = reference.evaluation_module(&single).unwrap();
    assert_ne!(numbers(&at_x.input), numbers(&tied.input));
    assert_eq!(numbers(&at_x.input), numbers(&expected.input));
    assert_eq!(numbers(&at_x.output), numbers(&expected.input));
}

#[test]
fn one_parameter_of_two_values_is_refused_and_a_frozen_place_stays_frozen() {
    let (mut tied, _) = tied_and_single();
    let mut optimizer = ProdigyPlus::new(&tied, &Options::default()).unwrap();
    let state = optimizer.engine().snapshot();
    let moved = tied.output.val().inner() + 1.0;
    let sound = tied.clone();
    tied.output = Param::initialized(tied.input.id, Tensor::from_inner(moved).require_grad());
    let error = optimizer.step(1.0, &mut tied, GradientsParams::new()).unwrap_err();
    assert!(
        matches!(&error, Error::Untied { first, second } if first == "input" && second == "output"),
        "{error}"
    );
    assert_eq!(optimizer.engine().snapshot(), state);

    let mut frozen = Tied { output: sound.output.clone().set_require_grad(false), ..sound };
    for _ in 0..3 {
        let loss = loss(&frozen.input, &frozen.hidden, &frozen.output);
        let gradients = GradientsParams::from_grads(loss.backward(), &frozen);
        assert_eq!(gradients.len(), 2);
        optimizer.step(1.0, &mut frozen, gradients).unwrap();
    }
    assert!(frozen.input.val().is_require_grad() && !frozen.output.val().is_require_grad());
    assert_eq!(numbers(&frozen.input), numbers(&frozen.output));
}

#[test]
fn the_learning_rate_multiplies_each_groups_own_also_after_resuming() {
    let build = |layer: &Linear| {
        let all = parameters(layer);
        let group = |name: &'static str| {
            let of_group = all.iter().filter(move |(n, _)| n == name);
            of_group.map(|(name, shape)| (name.as_str(), shape.as_slice())).collect::<Vec<_>>()
        };
        let options = Options::default();
        let groups = [(options.clone().lr(0.5), group("weight")), (options.clone().lr(0.0), group("bias"))];
        ProdigyPlus::from_engine(options.build_groups(groups).unwrap())
    };
    let mut layer = layers(DType::F32);
    let mut optimizer = build(&layer);
    let bias = numbers(layer.bias.as_ref().unwrap());
    let check = |optimizer: &mut ProdigyPlus, layer: &mut Linear, factor: f64| {
        let gradients = gradients(layer, 0);
        optimizer.step(factor, layer, gradients).unwrap();
        let engine = optimizer.engine();
        let rate = |group| (engine.latest_step(group).unwrap().lr, engine.lr(group).unwrap());
        assert_eq!((rate(0), rate(1)), ((0.5 * factor, 0.5), (0.0, 0.0)));
        assert_eq!(numbers(layer.bias.as_ref().unwrap()), bias);
    };
    check(&mut optimizer, &mut layer, 1.0);
    check(&mut optimizer, &mut layer, 0.25);
    // A refused factor leaves the groups' rates; 0 times infinity is no number, and -1 times 0 is not below 0.
    for refused in [-1.0, f64::INFINITY, f64::NAN] {
        let gradients = gradients(&layer, 1);
        let error = optimizer.step(refused, &mut layer, gradients).unwrap_err().to_string();
        assert!(error.contains("lr") && error.contains(&refused.to_string()), "{error}");
        assert_eq!((optimizer.engine().lr(0).unwrap(), optimizer.engine().lr(1).unwrap()), (0.5, 0.0));
    }
    let mut resumed = build(&layer);
    resumed.load_record(&mut layer, optimizer.to_record().unwrap()).unwrap();
    check(&mut resumed, &mut layer, 0.75);
}

#[test]
fn gradients_of_a_wider_type_than_the_parameters_are_not_rounded_to_it_first() {
    let stepped = |dtype: DType| {
        let mut layer = layers(DType::BF16);
        let options = Options::default().d0(1e-2);
        let mut optimizer = ProdigyPlus::new(&layer, &options).unwrap();
        let all = parameters(&layer);
        let named = all.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
        let mut engine = options.build(named).unwrap();
        let mut plain = [24, 6].map(|n| vec![bf16::from_f32(0.25); n]);
        for number in 0..8 {
            let wave = |shape: &[usize]| {
                let n: usize = shape.iter().product();
                let values = (0..n).map(|i| ((i * 7 + number * 13) % 11) as f64 / 11.0 - 0.4).collect();
                ArrayD::from_shape_vec(shape, values).unwrap()
            };
            let (weight, bias) = (
                tensor::<2>(&wave(&[4, 6]), dtype, &Device::flex()),
                tensor::<1>(&wave(&[6]), dtype, &Device::flex()),
            );
            // What the engine makes of them when it is given float32.
            let wide = [
                weight.clone().into_data().convert::<f32>().try_to_vec::<f32>().unwrap(),
                bias.clone().into_data().convert::<f32>().try_to_vec::<f32>().unwrap(),
            ];
            let pairs = plain.iter_mut().zip(&wide);
            let mut parameters: Vec<_> =
                pairs.map(|(w, g)| Parameter::slice(w, None).with_gradient(g)).collect();
            engine.step(&mut parameters).unwrap();
            let mut gradients = GradientsParams::new();
            gradients.register(layer.weight.id, weight);
            gradients.register(layer.bias.as_ref().unwrap().id, bias);
            assert_eq!(optimizer.step(1.0, &mut layer, gradients).unwrap(), StepOutcome::Done);
        }
        let plain: Vec<f64> = plain.iter().flatten().map(|w| w.to_f64()).collect();
        assert_eq!(values(&layer), plain, "{dtype:?}");
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
fn a_record_that_is_loaded_with_another_beta1_keeps_x_and_moves_the_module() {
    let options = Options::default().d0(1e-2);
    let mut layer = layers(DType::F64);
    let mut optimizer = ModuleOptimizer::<f64>::new(&layer, &options).unwrap();
    for number in 0..6 {
        step(&mut optimizer, &mut layer, number);
    }
    let (x, y) = (values(&optimizer.evaluation_module(&layer).unwrap()), values(&layer));
    let mut other = ModuleOptimizer::<f64>::new(&layer, &options.betas((0.5, 0.99))).unwrap();
    let restored = other.load_record(&mut layer, optimizer.to_record().unwrap()).unwrap();
    assert_eq!(restored.changed, ["group 0: ScheduleFree.beta1 is 0.5, and 0.9 in the snapshot"]);
    assert_ne!(values(&layer), y);
    for (now, before) in values(&other.evaluation_module(&layer).unwrap()).iter().zip(&x) {
        assert!((now - before).abs() < 1e-12, "{now} {before}");
    }
    step(&mut other, &mut layer, 6);
}

// schedule_free#48, accelerate#4159
#[test]
fn a_record_of_an_engine_at_x_puts_the_module_to_its_y_and_one_that_does_not_fit_changes_nothing() {
    let options = Options::default().d0(1e-2);
    let mut layer = layers(DType::F32);
    let mut optimizer = ProdigyPlus::new(&layer, &options).unwrap();
    for number in 0..4 {
        step(&mut optimizer, &mut layer, number);
    }
    let mut at_x = optimizer.evaluation_module(&layer).unwrap();
    let record = {
        let mut evaluating = ProdigyPlus::new(&layer, &options).unwrap();
        let (mut weight, mut bias) = (
            numbers(&layer.weight).into_iter().map(|w| w as f32).collect::<Vec<_>>(),
            numbers(layer.bias.as_ref().unwrap()).into_iter().map(|w| w as f32).collect::<Vec<_>>(),
        );
        evaluating.engine_mut().restore(optimizer.engine().snapshot()).unwrap();
        let mut parameters = [Parameter::slice(&mut weight, None), Parameter::slice(&mut bias, None)];
        evaluating.engine_mut().eval(&mut parameters).unwrap();
        move || evaluating.to_record().unwrap()
    };
    // Of another type than the state, which has y.
    let mut halves = layers(DType::BF16);
    let before = values(&halves);
    let mut refusing = ProdigyPlus::new(&halves, &options).unwrap();
    let error = refusing.load_record(&mut halves, record()).unwrap_err().to_string();
    assert!(error.contains("weight") && error.contains("float32"), "{error}");
    assert!(refusing.engine().snapshot().tensors.is_empty() && !refusing.engine().is_evaluating());
    assert_eq!(values(&halves), before);

    let mut resumed = ProdigyPlus::new(&at_x, &options).unwrap();
    resumed.load_record(&mut at_x, record()).unwrap();
    assert_eq!(values(&at_x), values(&layer));
    step(&mut optimizer, &mut layer, 4);
    step(&mut resumed, &mut at_x, 4);
    assert_eq!(values(&at_x), values(&layer));
}

// schedule_free#48, accelerate#4159
#[test]
fn a_state_saved_at_x_by_another_adapter_goes_on_from_its_y() {
    let mut layer = layers(DType::F32);
    let mut optimizer = ProdigyPlus::new(&layer, &Options::default().d0(1e-2)).unwrap();
    for number in 0..4 {
        step(&mut optimizer, &mut layer, number);
    }
    let y = values(&layer);
    let mut at_x = optimizer.evaluation_module(&layer).unwrap();
    let mut snapshot = optimizer.engine().snapshot();
    snapshot.evaluating = true;
    for (name, tensor) in &mut snapshot.tensors {
        let param =
            if name == "weight" { numbers(&layer.weight) } else { numbers(layer.bias.as_ref().unwrap()) };
        tensor.training =
            Some(gradient_transform::Buffer::F32(param.into_iter().map(|v| v as f32).collect()));
    }
    let mut resumed = ProdigyPlus::new(&at_x, &Options::default().d0(1e-2)).unwrap();
    resumed.engine_mut().restore(snapshot).unwrap();
    let x = values(&at_x);
    assert_eq!(values(&resumed.evaluation_module(&at_x).unwrap()), x);
    let refused = gradients(&at_x, 4);
    assert!(resumed.step(1.0, &mut at_x, refused).unwrap_err().to_string().contains("train"));
    resumed.train(&mut at_x).unwrap();
    assert_ne!(x, y);
    assert_eq!(values(&at_x), y);
    step(&mut optimizer, &mut layer, 4);
    step(&mut resumed, &mut at_x, 4);
    assert_eq!(values(&at_x), values(&layer));
}

#[test]
fn types_that_are_not_computed_with_are_refused_when_the_optimizer_is_made_and_no_elements_are_no_error() {
    for dtype in [DType::F16, DType::F64] {
        let error = ProdigyPlus::new(&layers(dtype), &Options::default()).err().unwrap();
        assert!(matches!(&error, Error::ElementType { name, .. } if name == "weight"), "{error}");
    }
    let device = Device::flex().autodiff();
    let empty = Param::from_tensor(tensor::<2>(&ArrayD::zeros(vec![5, 0]), DType::F32, &device));
    let mut layer = Linear { weight: empty, bias: layers(DType::F32).bias };
    let mut optimizer = ProdigyPlus::new(&layer, &Options::default()).unwrap();
    step(&mut optimizer, &mut layer, 0);
    assert_eq!(layer.weight.val().dims(), [5, 0]);
}

#[test]
fn accumulated_gradients_and_steps_by_a_rule_are_the_engines_to_the_bit() {
    let [mut layer, mut other] = [layers(DType::F32), layers(DType::F32)];
    let mut adapter = ProdigyPlus::new(&layer, &Options::default()).unwrap();
    let mut plain = ProdigyPlus::new(&other, &Options::default()).unwrap();
    for step in 0..6 {
        // The mean of a gradient and itself is the gradient, without rounding.
        let [first, second] = [gradients(&layer, step), gradients(&layer, step)];
        adapter.accumulate(&layer, first).unwrap();
        let limit = if step == 3 { 0.0 } else { f64::INFINITY };
        let outcome = adapter.step_if(0.5, |norm| norm < limit, &mut layer, second).unwrap();
        assert_eq!(outcome == StepOutcome::Skipped, step == 3);
        if step != 3 {
            let gradients = gradients(&other, step);
            plain.step(0.5, &mut other, gradients).unwrap();
        }
        assert_eq!(values(&layer), values(&other), "step {step}");
    }
    assert_eq!((adapter.engine().skipped_steps(), adapter.engine().steps(0)), (1, Ok(5)));
}

#[test]
fn a_recorder_of_the_engine_tells_why_d_does_not_grow_and_changes_no_bit() {
    let device = Device::flex().autodiff();
    let initial: Linear = LinearConfig::new(40, 30).init(&device);
    let train = |lr: f64, recorder: Option<Recorder>| {
        let mut layer = initial.clone();
        let mut optimizer = ProdigyPlus::new(&layer, &Options::default()).unwrap();
        optimizer.engine_mut().set_recorder(recorder);
        for _ in 0..60 {
            let weight = layer.weight.val();
            let bias = layer.bias.as_ref().unwrap().val();
            let loss = (weight.clone() * weight).sum() + (bias.clone() * bias).sum();
            let gradients = GradientsParams::from_grads(loss.backward(), &layer);
            optimizer.step(lr, &mut layer, gradients).unwrap();
        }
        let values: Vec<f32> = layer.weight.val().into_data().try_to_vec().unwrap();
        (optimizer.diagnose(), values)
    };
    let recorder = || Some(Recorder::every(2).unwrap());
    let (healthy, values) = train(1.0, recorder());
    assert_eq!((healthy, &values), (vec![], &train(1.0, None).1));
    let (findings, _) = train(1e-3, recorder());
    assert!(matches!(findings[..], [Finding::LearningRate { lr: 1e-3, .. }]), "{findings:#?}");
    assert!(matches!(train(1.0, None).0[..], [Finding::TooFewRecords { records: 0, .. }]));
}
