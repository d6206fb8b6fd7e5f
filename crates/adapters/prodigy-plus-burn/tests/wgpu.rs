//! Modules on burn's wgpu device are stepped there, as on the processor.

use std::sync::OnceLock;

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::wgpu::WgpuSetup;
use burn::tensor::{Device, Tensor, TensorData};
use gradient_transform::StepOutcome;
use prodigy_plus_burn::{OnWgpu, Options, ProdigyPlus, parameters};

/// The machine's adapter. burn's runtime is made once in a process.
fn device(what: &str) -> Option<(Device, &'static WgpuSetup)> {
    static MADE: OnceLock<Result<(Device, WgpuSetup), String>> = OnceLock::new();
    let made =
        MADE.get_or_init(|| Device::wgpu_options().init_with_setup().map_err(|error| error.to_string()));
    match made {
        Ok((device, setup)) => {
            println!("ran: {what} on {}", setup.adapter.get_info().name);
            Some((device.clone().autodiff(), setup))
        }
        Err(error) => {
            println!("skipped: {what}: {error}");
            None
        }
    }
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
    struct Copies<'a>(&'a GradientsParams, GradientsParams);
    impl ModuleVisitor for Copies<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                self.1.register(param.id, Tensor::<D>::from_data(gradient.into_data(), &Device::flex()));
            }
        }
    }
    let mut copies = Copies(gradients, GradientsParams::new());
    module.visit(&mut copies);
    copies.1
}

fn assert_near(ours: &[Vec<f32>], theirs: &[Vec<f32>], what: &str) {
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(theirs) {
        let largest = b.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        let apart = a.iter().zip(b).fold(0.0_f32, |apart, (a, b)| apart.max((a - b).abs()));
        assert!(apart <= 1e-5 * largest, "{what}: {apart} of {largest}");
    }
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
    }
    let d = [there.engine().estimate(0).unwrap().d, here.engine().estimate(0).unwrap().d];
    assert!((d[0] - d[1]).abs() <= 1e-5 * d[1], "{d:?}");
    let last = module.loss(0).into_scalar::<f32>();
    println!("loss {first} -> {last}, d {d:?}");
    assert!(last < 0.8 * first, "{first} {last}");
    let [x, expected] = [there.evaluation_module(&module).unwrap(), here.evaluation_module(&twin).unwrap()];
    assert_near(&values(&x), &values(&expected), "x");
    assert_eq!(parameters(&x), parameters(&module));
}
