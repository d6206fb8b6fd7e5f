//! The adapter steps as the engine does, and loses nothing when something is wrong.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, OptimizerRecord};
use burn::tensor::{DType, Device, Tensor, TensorData};
use conformance::case::{Case, Precision};
use conformance::product::{Product, product, subject};
use gradient_transform::{NonFinite, StepOutcome};
use ndarray::ArrayD;
use prodigy_plus_burn::{Error, ModuleOptimizer, Options, ProdigyPlus, parameters};

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
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/cases");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let case = Case::read(&entry.unwrap().path()).unwrap();
        // burn's step sets one learning rate for all groups; and its evaluation leaves the parameters alone, which the
        // reference's moves.
        let has_rates = case.description.groups.iter().any(|group| group.overrides.contains_key("lr"));
        // And its tensors have an axis at least.
        let has_scalars = case.init.iter().any(|init| init.ndim() == 0);
        if has_rates || has_scalars || case.description.eval_at.is_some() {
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
        for (t, step) in case.steps.iter().enumerate() {
            plain.step(&step.gradients, step.lr).unwrap();
            let gradients = module.gradients(&step.gradients, &case.description.shapes, dtype);
            let lr = step.lr.unwrap_or(adapter.engine().lr(0).unwrap());
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
    assert!(count > 15, "{count} cases");
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
        resumed.load_record(OptimizerRecord::load(&path).unwrap()).unwrap();
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
    let error = optimizer.load_record(OptimizerRecord::default()).unwrap_err().to_string();
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
