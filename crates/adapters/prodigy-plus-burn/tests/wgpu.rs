//! Modules on burn's wgpu device are stepped there, as on the processor. Where there is no adapter, each test says so and ends.

use std::io::Write;
use std::sync::OnceLock;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, OptimizerRecord};
use burn::tensor::wgpu::WgpuSetup;
use burn::tensor::{DType, Device, DeviceKind, Tensor, TensorData};
use elementary::{Momentum, Polyak, WeightDecay};
use gradient_transform::{
    Descent, Loss, NonFinite, Optimizer, ParameterGroup, Settings, Snapshot, StepOutcome,
};
use prodigy_plus_burn::{Error, ModuleOptimizer, OnWgpu, Options, ProdigyPlus, parameters};

/// The machine's adapter. burn's runtime is made once in a process.
fn device(what: &str) -> Option<(Device, &'static WgpuSetup)> {
    static MADE: OnceLock<Result<(Device, WgpuSetup), String>> = OnceLock::new();
    let made =
        MADE.get_or_init(|| Device::wgpu_options().init_with_setup().map_err(|error| error.to_string()));
    match made {
        Ok((device, setup)) => {
            say(&format!("ran: {what} on {}", setup.adapter.get_info().name));
            Some((device.clone().autodiff(), setup))
        }
        Err(error) => {
            say(&format!("skipped: {what}: {error}"));
            None
        }
    }
}

/// A line that no test harness holds back.
fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

#[derive(Module, Debug)]
struct Network {
    hidden: Linear,
    output: Linear,
}

impl Network {
    fn new(device: &Device) -> Self {
        let mut all = Self {
            hidden: LinearConfig::new(24, 160).init(device),
            output: LinearConfig::new(160, 7).init(device),
        };
        all.hidden.weight = Param::from_tensor(wave([24, 160], 1, 0.2, device));
        all.output.weight = Param::from_tensor(wave([160, 7], 2, 0.1, device));
        all.hidden.bias = Some(Param::from_tensor(wave([160], 3, 0.1, device)));
        all.output.bias = Some(Param::from_tensor(wave([7], 4, 0.1, device)));
        all
    }

    fn loss(&self, step: usize) -> Tensor<1> {
        let device = self.hidden.weight.val().device();
        let inputs = wave::<2>([32, 24], 10 + step, 1.0, &device);
        let labels = inputs.clone().slice([0..32, 3..10]).sin();
        let outputs = self.output.forward(self.hidden.forward(inputs).tanh());
        (outputs - labels).powf_scalar(2.0).mean()
    }

    fn gradients(&self, step: usize) -> GradientsParams {
        GradientsParams::from_grads(self.loss(step).backward(), self)
    }
}

/// Momentum with weight decay on the matrices, and without on the vectors, which have half the learning rate.
fn two_groups<M: Module>(module: &M, non_finite: NonFinite) -> ModuleOptimizer {
    let all = parameters(module);
    let of_rank = |rank: usize| {
        let own = all.iter().filter(move |(_, shape)| shape.len() == rank);
        own.map(|(name, shape)| (name.clone(), shape.clone()))
    };
    let decayed =
        (Momentum::default(), WeightDecay { rate: 0.1, ..WeightDecay::default() }, Descent::default());
    let groups = [
        ParameterGroup::new(decayed, of_rank(2)).lr(0.1),
        ParameterGroup::new((Momentum::default(), Descent::default()), of_rank(1)).lr(0.05),
    ];
    let settings = Settings { non_finite, ..Settings::default() };
    ModuleOptimizer::from_engine(Optimizer::with_groups(groups, settings).unwrap())
}

fn wave<const D: usize>(shape: [usize; D], seed: usize, scale: f32, device: &Device) -> Tensor<D> {
    let len = shape.iter().product();
    let value = |i: usize| scale * (((i * 7919 + seed * 104_729) % 10_007) as f32 / 5003.5 - 1.0);
    Tensor::from_data(TensorData::new((0..len).map(value).collect::<Vec<f32>>(), shape), device)
}

/// Parameters, in the module's order.
fn values<M: Module>(module: &M) -> Vec<Vec<f32>> {
    struct Values(Vec<Vec<f32>>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().into_data().try_to_vec::<f32>().unwrap());
        }
    }
    let mut values = Values(Vec::new());
    module.visit(&mut values);
    values.0
}

/// The same gradients for a module with the same parameters on another device.
fn on_host<M: Module>(module: &M, gradients: &GradientsParams) -> GradientsParams {
    copied(module, gradients, |x| x)
}

/// Copies on the host, changed by a function of a gradient.
fn copied<M: Module>(
    module: &M,
    gradients: &GradientsParams,
    change: fn(TensorData) -> TensorData,
) -> GradientsParams {
    struct Copies<'a>(&'a GradientsParams, GradientsParams, fn(TensorData) -> TensorData);
    impl ModuleVisitor for Copies<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                let changed = self.2(gradient.into_data());
                self.1.register(param.id, Tensor::<D>::from_data(changed, &Device::flex()));
            }
        }
    }
    let mut copies = Copies(gradients, GradientsParams::new(), change);
    module.visit(&mut copies);
    copies.1
}

/// Every other element, one rounding farther from zero.
fn rounded_away(gradient: TensorData) -> TensorData {
    let shape = gradient.shape().clone();
    let values = gradient.try_to_vec::<f32>().unwrap();
    let away = values.iter().enumerate().map(|(i, x)| f32::from_bits(x.to_bits() + (i % 2) as u32));
    TensorData::new(away.collect(), shape)
}

fn assert_near(ours: &[Vec<f32>], theirs: &[Vec<f32>], what: &str) {
    let apart = apart(ours, theirs);
    assert!(apart <= 1e-5, "{what}: {apart} of the largest");
}

/// The largest difference of an array, relative to its largest element.
fn apart(ours: &[Vec<f32>], theirs: &[Vec<f32>]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let of_array = |(a, b): (&Vec<f32>, &Vec<f32>)| {
        let largest = b.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        a.iter().zip(b).fold(0.0_f32, |apart, (a, b)| apart.max((a - b).abs())) / largest
    };
    ours.iter().zip(theirs).map(of_array).fold(0.0, f32::max)
}

#[test]
fn a_module_that_is_trained_on_the_device_is_the_one_of_the_processor_within_the_tolerance() {
    let Some((device, setup)) = device("training") else { return };
    let mut module = Network::new(&device);
    let mut twin = module.clone().to_device(&Device::flex().autodiff());
    assert_eq!(values(&twin), values(&module));
    let options = Options::default().d0(1e-2);
    let mut here = ProdigyPlus::new(&twin, &options).unwrap();
    let mut there = OnWgpu::new(ProdigyPlus::new(&module, &options).unwrap(), setup).unwrap();
    let first = module.loss(0).into_scalar::<f32>();
    for step in 0..20 {
        let gradients = module.gradients(step);
        let copies = on_host(&module, &gradients);
        assert_eq!(there.step(1.0, &mut module, gradients).unwrap(), StepOutcome::Done);
        here.step(1.0, &mut twin, copies).unwrap();
        assert_near(&values(&module), &values(&twin), &format!("y, step {step}"));
        if step % 7 == 3 {
            let before = values(&module);
            let x = there.evaluation_module(&module).unwrap();
            assert_near(
                &values(&x),
                &values(&here.evaluation_module(&twin).unwrap()),
                &format!("x, step {step}"),
            );
            assert_ne!(values(&x), before);
            // And the module trains on from the very same y.
            assert_eq!(values(&module), before);
        }
    }
    let d = [there.engine().estimate(0).unwrap().d, here.engine().estimate(0).unwrap().d];
    assert!((d[0] - d[1]).abs() <= 1e-5 * d[1], "{d:?}");
    let last = module.loss(0).into_scalar::<f32>();
    assert!(last < 0.9 * first, "{first} {last}");
    let [x, expected] = [there.evaluation_module(&module).unwrap(), here.evaluation_module(&twin).unwrap()];
    assert_near(&values(&x), &values(&expected), "x");
    assert_eq!(parameters(&x), parameters(&module));
}

#[test]
fn muon_trains_a_module_on_the_device_as_on_the_processor_and_nothing_passes_through_the_host() {
    let Some((device, setup)) = device("Muon") else { return };
    let options = Options::default().use_muon_pp(true).d0(1e-2);
    let mut module = Network::new(&device);
    let mut twin = module.clone().to_device(&Device::flex().autodiff());
    let mut here = ProdigyPlus::new(&twin, &options).unwrap();
    let mut there = OnWgpu::new(ProdigyPlus::new(&module, &options).unwrap(), setup).unwrap();
    // The gradients have few directions. In all others Muon enlarges rounding errors, up to 3.4 times in each of its iterations, so the
    // measure is how far the processor's steps are from its own with gradients that are rounded otherwise.
    let mut rounded = twin.clone();
    let mut here_rounded = ProdigyPlus::new(&rounded, &options).unwrap();
    for step in 0..6 {
        let gradients = module.gradients(step);
        let (copies, others) = (on_host(&module, &gradients), copied(&module, &gradients, rounded_away));
        assert_eq!(there.step(1.0, &mut module, gradients).unwrap(), StepOutcome::Done);
        here.step(1.0, &mut twin, copies).unwrap();
        here_rounded.step(1.0, &mut rounded, others).unwrap();
        let [here, there] = [&rounded, &module].map(|module| apart(&values(module), &values(&twin)));
        say(&format!(
            "ran: Muon, step {step}: {there:.1e} from the processor, which is {here:.1e} from itself"
        ));
        assert!(there <= (4.0 * here).max(1e-5), "step {step}: {there}, {here}");
    }

    let mut layer: Linear = LinearConfig::new(256, 512).init(&device);
    let bytes = 4 * (256 * 512 + 512);
    let mut optimizer = OnWgpu::new(ProdigyPlus::new(&layer, &options).unwrap(), setup).unwrap();
    for step in 0..2 {
        let loss = layer.forward(wave::<2>([8, 256], 1, 1.0, &device)).powf_scalar(2.0).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &layer);
        let before = optimizer.engine_mut().executor().transferred_bytes();
        optimizer.step(1.0, &mut layer, gradients).unwrap();
        let transferred = optimizer.engine_mut().executor().transferred_bytes() - before;
        say(&format!(
            "ran: Muon, step {step}: {transferred} bytes between host and device, {bytes} of parameters"
        ));
        assert!(transferred < bytes / 10, "{transferred}");
    }
}

#[test]
fn parameters_and_gradients_do_not_pass_through_the_host() {
    let Some((device, setup)) = device("bytes of a step") else { return };
    let mut layer: Linear = LinearConfig::new(512, 512).init(&device);
    let bytes = 4 * (512 * 512 + 512);
    let mut optimizer = OnWgpu::new(ProdigyPlus::new(&layer, &Options::default()).unwrap(), setup).unwrap();
    let inputs = wave::<2>([8, 512], 1, 1.0, &device);
    for step in 0..3 {
        let loss = layer.forward(inputs.clone()).powf_scalar(2.0).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &layer);
        let wgpu = optimizer.engine_mut().executor();
        let before = (wgpu.transferred_bytes(), wgpu.launches());
        optimizer.step(1.0, &mut layer, gradients).unwrap();
        let wgpu = optimizer.engine_mut().executor();
        let (transferred, launches) = (wgpu.transferred_bytes() - before.0, wgpu.launches() - before.1);
        say(&format!(
            "ran: step {step}: {transferred} bytes between host and device, {bytes} of parameters, {launches} launches"
        ));
        // Tables of places are made in the first step.
        assert!(transferred < if step == 0 { bytes / 10 } else { bytes / 20 }, "{transferred}");
    }
    let gradients = |layer: &Linear| {
        let loss = layer.forward(inputs.clone()).powf_scalar(2.0).mean();
        GradientsParams::from_grads(loss.backward(), layer)
    };
    let given = gradients(&layer);
    let before = optimizer.engine_mut().executor().transferred_bytes();
    let x = optimizer.evaluation_module(&layer).unwrap();
    let evaluated = optimizer.engine_mut().executor().transferred_bytes() - before;
    optimizer.accumulate(&layer, given).unwrap();
    let accumulated = optimizer.engine_mut().executor().transferred_bytes() - before - evaluated;
    say(&format!("ran: {evaluated} bytes for an evaluation, {accumulated} for an accumulation"));
    assert!(evaluated < bytes / 20 && accumulated < bytes / 20, "{evaluated} {accumulated}");
    assert_ne!(values(&x), values(&layer));
}

#[test]
fn gradients_are_added_up_and_looked_at_as_on_the_processor() {
    let Some((device, setup)) = device("accumulated gradients") else { return };
    let mut module = Network::new(&device);
    let mut twin = module.clone().to_device(&Device::flex().autodiff());
    let options = Options::default().d0(1e-2);
    let mut here = ProdigyPlus::new(&twin, &options).unwrap();
    let mut there = OnWgpu::new(ProdigyPlus::new(&module, &options).unwrap(), setup).unwrap();
    let start = module.clone();
    for step in 0..4 {
        for micro_step in 0..2 {
            let gradients = module.gradients(10 * step + micro_step);
            here.accumulate(&twin, on_host(&module, &gradients)).unwrap();
            there.accumulate(&module, gradients).unwrap();
        }
        // Of a parameter without a gradient in the last batch, too.
        let mut gradients = module.gradients(10 * step + 2);
        gradients.remove::<2>(module.output.weight.id).unwrap();
        let copies = on_host(&module, &gradients);
        let [mut ours, mut theirs] = [0.0; 2];
        let keep = |to: &mut f64, norm| {
            *to = norm;
            step != 2
        };
        let moved = here.step_if(1.0, |norm| keep(&mut theirs, norm), &mut twin, copies).unwrap();
        assert_eq!(there.step_if(1.0, |norm| keep(&mut ours, norm), &mut module, gradients).unwrap(), moved);
        assert!(theirs > 0.0 && (ours - theirs).abs() <= 1e-5 * theirs, "{ours} {theirs}");
        assert_eq!(there.engine().accumulated(), 0);
        assert_near(&values(&module), &values(&twin), &format!("step {step}"));
    }
    assert_eq!(there.engine_mut().snapshot().unwrap().groups[0].k, 3);
    assert!(values(&start).iter().zip(&values(&module)).all(|(before, after)| before != after));
}

#[test]
fn an_optimizer_that_comes_in_evaluation_mode_puts_the_module_to_y_on_the_device() {
    let Some((device, setup)) = device("evaluation mode") else { return };
    let mut module = Network::new(&device);
    let mut here = ProdigyPlus::new(&module, &Options::default().d0(1e-2)).unwrap();
    for step in 0..3 {
        let gradients = module.gradients(step);
        here.step(1.0, &mut module, gradients).unwrap();
    }
    let (y, mut x) = (values(&module), here.evaluation_module(&module).unwrap());
    let at_x = Snapshot { evaluating: true, ..here.engine().snapshot() };
    here.engine_mut().restore(at_x).unwrap();
    let mut there = OnWgpu::new(here, setup).unwrap();
    let gradients = x.gradients(3);
    let error = there.step(1.0, &mut x, gradients).unwrap_err();
    assert!(
        matches!(error, Error::Optimizer(gradient_transform::Error::EvaluationMode)),
        "a gradient at x would be wrong"
    );
    assert_eq!(values(&there.evaluation_module(&x).unwrap()), values(&x));
    there.train(&mut x).unwrap();
    assert_near(&values(&x), &y, "y");
    let gradients = x.gradients(3);
    assert_eq!(there.step(1.0, &mut x, gradients).unwrap(), StepOutcome::Done);
}

/// Rebuilds every parameter, with new memory and the same values.
struct Rebuild;

impl ModuleMapper for Rebuild {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| (tensor.inner() * 1.0).autodiff().require_grad())
    }
}

#[test]
fn a_module_that_is_moved_rebuilt_or_replaced_in_part_between_steps_goes_on_as_on_the_processor() {
    let Some((device, setup)) = device("a module that changes") else { return };
    let mut module = Network::new(&device);
    let mut twin = module.clone().to_device(&Device::flex().autodiff());
    let options = Options::default().d0(1e-2);
    let mut here = ProdigyPlus::new(&twin, &options).unwrap();
    let mut there = OnWgpu::new(ProdigyPlus::new(&module, &options).unwrap(), setup).unwrap();
    for step in 0..5 {
        match step {
            1 => {
                let clone = module.clone();
                drop(std::mem::replace(&mut module, clone));
            }
            2 => module = module.map(&mut Rebuild),
            // State goes by names: a new layer has the old one's.
            3 => {
                module.output = Network::new(&device).output;
                twin.output = module.output.clone().to_device(&Device::flex().autodiff());
            }
            4 => module = module.fork(&device),
            _ => {}
        }
        let gradients = module.gradients(step);
        let copies = on_host(&module, &gradients);
        there.step(1.0, &mut module, gradients).unwrap();
        here.step(1.0, &mut twin, copies).unwrap();
        assert_near(&values(&module), &values(&twin), &format!("step {step}"));
    }
    assert_eq!(there.engine_mut().snapshot().unwrap().tensors["output.weight"].updates, 5);
    let before = values(&module);
    let mut wider = module.clone();
    wider.output = LinearConfig::new(160, 9).init(&device);
    let error = there.step(1.0, &mut wider, GradientsParams::new()).unwrap_err();
    assert!(
        matches!(&error, Error::Optimizer(gradient_transform::Error::ShapeMismatch { name, .. }) if name.starts_with("output")),
        "{error}"
    );
    let gradients = module.gradients(5);
    assert_eq!(there.step(1.0, &mut module, gradients).unwrap(), StepOutcome::Done);
    assert_ne!(values(&module), before);
}

#[test]
fn a_module_of_bfloat16_is_trained_as_on_the_processor_where_the_device_has_that_type() {
    let Some((device, setup)) = device("bfloat16") else { return };
    if !device.supports_dtype(DType::BF16) {
        return say(
            "skipped: bfloat16: burn's device has no such type, which needs Vulkan and burn's feature `vulkan`",
        );
    }
    struct Narrow;
    impl ModuleMapper for Narrow {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| tensor.inner().cast(DType::BF16).autodiff().require_grad())
        }
    }
    let mut module = Network::new(&device).map(&mut Narrow);
    let mut twin = module.clone().to_device(&Device::flex().autodiff());
    let mut here = ProdigyPlus::new(&twin, &Options::default().d0(1e-2)).unwrap();
    let there = ProdigyPlus::new(&module, &Options::default().d0(1e-2)).unwrap();
    let mut there = OnWgpu::new(there, setup).unwrap();
    for step in 0..5 {
        let mut gradients = GradientsParams::new();
        let shape = module.output.weight.val().dims();
        gradients.register(module.output.weight.id, wave::<2>(shape, step, 0.1, &device).inner());
        let copies = on_host(&module, &gradients);
        there.step(1.0, &mut module, gradients).unwrap();
        here.step(1.0, &mut twin, copies).unwrap();
    }
    for (a, b) in narrow_values(&module).iter().flatten().zip(narrow_values(&twin).iter().flatten()) {
        assert!((a - b).abs() <= b.abs() / 128.0, "{a} {b}");
    }
}

/// Parameters of any type, in the module's order.
fn narrow_values<M: Module>(module: &M) -> Vec<Vec<f32>> {
    struct Values(Vec<Vec<f32>>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().cast(DType::F32).into_data().try_to_vec::<f32>().unwrap());
        }
    }
    let mut values = Values(Vec::new());
    module.visit(&mut values);
    values.0
}

#[test]
fn groups_step_by_their_own_chains_and_a_parameter_without_a_gradient_stays() {
    let Some((device, setup)) = device("groups") else { return };
    let mut module = Network::new(&device);
    let mut twin = module.clone().to_device(&Device::flex().autodiff());
    let mut here = two_groups(&twin, NonFinite::Error);
    let mut there = OnWgpu::new(two_groups(&module, NonFinite::Error), setup).unwrap();
    let (start, clone) = (values(&module), module.clone());
    for step in 0..6 {
        let mut gradients = module.gradients(step);
        let missing = if step % 2 == 0 { module.output.weight.id } else { module.hidden.weight.id };
        gradients.remove::<2>(missing).unwrap();
        let copies = on_host(&module, &gradients);
        let before = values(&module);
        there.step(0.5, &mut module, gradients).unwrap();
        here.step(0.5, &mut twin, copies).unwrap();
        let after = values(&module);
        assert_near(&after, &values(&twin), &format!("step {step}"));
        // hidden: weight and bias; output: weight and bias.
        let stayed: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a == b).collect();
        assert_eq!(
            stayed,
            if step % 2 == 0 { [false, false, true, false] } else { [true, false, false, false] }
        );
    }
    let updates = |snapshot: &gradient_transform::Snapshot| -> Vec<u64> {
        snapshot.tensors.values().map(|tensor| tensor.updates).collect()
    };
    let (ours, theirs) = (there.engine_mut().snapshot().unwrap(), here.engine().snapshot());
    assert_eq!(updates(&ours), updates(&theirs));
    // A clone of the module keeps what it had.
    assert_eq!(values(&clone), start);
}

#[test]
fn with_a_gradient_that_is_not_finite_nothing_moves() {
    let Some((device, setup)) = device("gradients that are not finite") else { return };
    let mut module = Network::new(&device);
    let spoilt = |module: &Network| {
        let mut gradients = module.gradients(1);
        let id = module.output.weight.id;
        let gradient = gradients.remove::<2>(id).unwrap();
        let nan = Tensor::<2>::full([1, 1], f32::NAN, &gradient.device());
        gradients.register(id, gradient.slice_assign([37..38, 3..4], nan));
        gradients
    };
    let mut optimizer = OnWgpu::new(two_groups(&module, NonFinite::Error), setup).unwrap();
    let gradients = module.gradients(0);
    optimizer.step(1.0, &mut module, gradients).unwrap();
    let before = (values(&module), optimizer.engine_mut().snapshot().unwrap());
    let gradients = spoilt(&module);
    let error = optimizer.step(1.0, &mut module, gradients).unwrap_err().to_string();
    assert!(error.contains("output.weight") && error.contains("NaN") && error.contains("262"), "{error}");
    let gradients = module.gradients(1);
    let error = optimizer.step(-1.0, &mut module, gradients).unwrap_err().to_string();
    assert!(error.contains("lr") && error.contains("-1"), "{error}");
    assert_eq!((values(&module), optimizer.engine_mut().snapshot().unwrap()), before);
    let gradients = module.gradients(1);
    assert_eq!(optimizer.step(1.0, &mut module, gradients).unwrap(), StepOutcome::Done);

    let mut skipping = OnWgpu::new(two_groups(&module, NonFinite::Skip), setup).unwrap();
    let (before, gradients) = (values(&module), spoilt(&module));
    assert_eq!(skipping.step(1.0, &mut module, gradients).unwrap(), StepOutcome::Skipped);
    assert_eq!(values(&module), before);
}

#[test]
fn a_run_goes_on_on_the_processor_from_a_record_of_the_device_and_comes_back() {
    let Some((device, setup)) = device("records") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.bpk");
    let options = Options::default().d0(1e-2);
    let mut module = Network::new(&device);
    let mut there = OnWgpu::new(ProdigyPlus::new(&module, &options).unwrap(), setup).unwrap();
    let both =
        |there: &mut OnWgpu, module: &mut Network, here: &mut ProdigyPlus, twin: &mut Network, step| {
            let gradients = module.gradients(step);
            let copies = on_host(module, &gradients);
            there.step(1.0, module, gradients).unwrap();
            here.step(1.0, twin, copies).unwrap();
            assert_near(&values(module), &values(twin), &format!("step {step}"));
        };
    for step in 0..3 {
        let gradients = module.gradients(step);
        there.step(1.0, &mut module, gradients).unwrap();
    }
    there.to_record().unwrap().save(&path).unwrap();
    let mut twin = module.clone().to_device(&Device::flex().autodiff());
    let mut here = ProdigyPlus::new(&twin, &options).unwrap();
    let restored = here.load_record(&mut twin, OptimizerRecord::load(&path).unwrap()).unwrap();
    assert!(restored.missing.is_empty() && restored.left_out.is_empty());
    assert_eq!(here.engine().snapshot(), there.engine_mut().snapshot().unwrap());
    for step in 3..6 {
        both(&mut there, &mut module, &mut here, &mut twin, step);
    }
    let mut back = ProdigyPlus::new(&module, &options).unwrap();
    back.load_record(&mut module, here.to_record().unwrap()).unwrap();
    let mut back = OnWgpu::new(back, setup).unwrap();
    for step in 6..8 {
        both(&mut back, &mut module, &mut here, &mut twin, step);
    }
    assert_eq!(back.into_host().unwrap().engine().steps(0).unwrap(), 8);
}

/// Tied weights: the output layer has the embedding's.
#[derive(Module, Debug)]
struct Tied {
    input: Param<Tensor<2>>,
    output: Param<Tensor<2>>,
}

#[test]
fn a_parameter_in_two_places_or_with_its_axes_exchanged_is_stepped_as_on_the_processor() {
    let Some((device, setup)) = device("tied and transposed parameters") else { return };
    // Another thread made it, and its elements are not in the order of its axes.
    let input = std::thread::scope(|scope| {
        let made = scope.spawn(|| Param::from_tensor(wave::<2>([9, 5], 1, 0.5, &device).transpose()));
        made.join().unwrap()
    });
    let mut module = Tied { output: input.clone(), input };
    let mut twin = module.clone().to_device(&Device::flex().autodiff());
    let mut here = momentum(&twin);
    let mut there = OnWgpu::new(momentum(&module), setup).unwrap();
    for step in 0..3 {
        let inputs = wave::<2>([4, 5], step, 1.0, &device);
        let hidden = inputs.matmul(module.input.val()).tanh();
        let loss = hidden.matmul(module.output.val().transpose()).powf_scalar(2.0).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &module);
        let copies = on_host(&module, &gradients);
        there.step(1.0, &mut module, gradients).unwrap();
        here.step(1.0, &mut twin, copies).unwrap();
        assert_near(&values(&module), &values(&twin), &format!("step {step}"));
        let both = values(&module);
        assert_eq!(both[0], both[1]);
    }
    assert_eq!(module.input.id, module.output.id);
    let moved = module.output.val().inner() + 1.0;
    module.output = Param::initialized(module.input.id, moved.autodiff().require_grad());
    let error = there.step(1.0, &mut module, GradientsParams::new()).unwrap_err();
    assert!(
        matches!(&error, Error::Untied { first, second } if first == "input" && second == "output"),
        "{error}"
    );
}

fn momentum<M: Module>(module: &M) -> ModuleOptimizer {
    let shapes = parameters(module);
    let chain = (Momentum::default(), Descent::default());
    ModuleOptimizer::from_engine(Optimizer::new(chain, shapes).unwrap())
}

#[test]
fn what_cannot_be_stepped_there_is_refused_by_a_typed_error() {
    let Some((device, setup)) = device("what is refused") else { return };
    let module: Linear = LinearConfig::new(8, 8).init(&device);
    let orthograd = ProdigyPlus::new(&module, &Options::default().use_orthograd(true)).unwrap();
    let error = OnWgpu::new(orthograd, setup).unwrap_err();
    assert!(matches!(&error, Error::Optimizer(gradient_transform::Error::NoFloat64 { .. })), "{error}");

    let mut elsewhere: Linear = LinearConfig::new(8, 8).init(&Device::flex().autodiff());
    let mut optimizer = OnWgpu::new(two_groups(&elsewhere, NonFinite::Error), setup).unwrap();
    let error = optimizer.step(1.0, &mut elsewhere, GradientsParams::new()).unwrap_err();
    assert!(matches!(&error, Error::Elsewhere { name, .. } if name == "weight"), "{error}");
    let mut other: Linear = LinearConfig::new(8, 8).with_bias(false).init(&device);
    let error = optimizer.step(1.0, &mut other, GradientsParams::new()).unwrap_err();
    assert!(matches!(&error, Error::OtherParameters { expected, .. } if expected == &["bias"]), "{error}");
    let mut half = module.clone();
    half.weight = Param::from_tensor(half.weight.val().inner().cast(DType::F16));
    let error = optimizer.step(1.0, &mut half, GradientsParams::new()).unwrap_err();
    assert!(matches!(&error, Error::ElementType { name, .. } if name == "weight"), "{error}");

    // Another device of wgpu's, which the machine need not have.
    let Ok((_, setup)) = Device::wgpu_options().device_kind(DeviceKind::Cpu).init_with_setup() else {
        return;
    };
    let (mut module, before) = (module.clone(), values(&module));
    let mut optimizer = OnWgpu::new(two_groups(&module, NonFinite::Error), &setup).unwrap();
    let loss = module.forward(Tensor::<2>::ones([1, 8], &device)).sum();
    let gradients = GradientsParams::from_grads(loss.backward(), &module);
    let error = optimizer.step(1.0, &mut module, gradients).unwrap_err();
    assert!(matches!(&error, Error::Optimizer(gradient_transform::Error::Device { .. })), "{error}");
    say(&format!("ran: the setup of another device: {error}"));
    assert_eq!(values(&module), before);
}

#[test]
fn a_step_is_told_the_loss() {
    let Some((device, setup)) = device("the loss") else { return };
    let mut module: Linear = LinearConfig::new(8, 8).init(&device);
    let chain = (Polyak::default(), Descent::default());
    let engine = Optimizer::new(chain, parameters(&module)).unwrap();
    let mut optimizer = OnWgpu::new(ModuleOptimizer::from_engine(engine), setup).unwrap();
    let loss = module.forward(Tensor::<2>::ones([1, 8], &device)).powf_scalar(2.0).sum();
    let value = f64::from(loss.clone().into_scalar::<f32>());
    let gradients = GradientsParams::from_grads(loss.backward(), &module);
    let before = values(&module);
    optimizer.step_with(1.0, Loss(value), &mut module, gradients).unwrap();
    assert_ne!(values(&module), before);
}

/// A parameter without elements, and one with some.
#[derive(Module, Debug)]
struct Sparse {
    none: Param<Tensor<2>>,
    some: Param<Tensor<1>>,
}

#[test]
fn a_parameter_without_elements_is_no_error() {
    let Some((device, setup)) = device("a parameter without elements") else { return };
    let mut module = Sparse {
        none: Param::from_tensor(Tensor::zeros([0, 3], &device)),
        some: Param::from_tensor(Tensor::ones([2], &device)),
    };
    let mut optimizer = OnWgpu::new(momentum(&module), setup).unwrap();
    let mut gradients = GradientsParams::new();
    gradients.register(module.none.id, Tensor::<2>::zeros([0, 3], &device).inner());
    gradients.register(module.some.id, Tensor::<1>::ones([2], &device).inner());
    optimizer.step(0.5, &mut module, gradients).unwrap();
    assert_eq!(values(&module), [vec![], vec![0.5; 2]]);
}
