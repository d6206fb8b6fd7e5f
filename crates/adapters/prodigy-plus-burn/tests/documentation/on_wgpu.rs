use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use prodigy_plus_burn::{Error, ModuleOptimizer, OnWgpu, Options, ProdigyPlus};

fn main() -> Result<(), Error> {
    // The device, and what wgpu calls a device and a queue. It is an error where there is no adapter.
    let Ok((device, setup)) = Device::wgpu_options().init_with_setup() else { return Ok(()) };
    let device = device.autodiff();
    let mut layer: Linear = LinearConfig::new(3, 2).init(&device);
    let optimizer = ProdigyPlus::new(&layer, &Options::default())?;
    let mut optimizer = OnWgpu::new(optimizer, &setup)?;

    // Two halves of a batch.
    let gradients = |layer: &Linear| {
        let loss = layer.forward(Tensor::<2>::ones([1, 3], &device)).sum();
        GradientsParams::from_grads(loss.backward(), layer)
    };
    optimizer.accumulate(&layer, gradients(&layer))?;
    let second = gradients(&layer);
    optimizer.step_if(1.0, |norm| norm < 1e3, &mut layer, second)?;
    assert_eq!(optimizer.engine().latest_step(0)?.k, 1);

    let _at_x = optimizer.evaluation_module(&layer)?;
    let _: ModuleOptimizer = optimizer.into_host()?; // and on the processor from now on
    Ok(())
}
