//! A module of burn on two spirals: training, and evaluation at the average.
//!
//! Run it with `cargo run --release -p burn_training`.
#![allow(clippy::print_stdout)] // an example prints

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, activation::tanh};
use prodigy_plus_burn::{Options, ProdigyPlus};

#[derive(Module, Debug)]
struct Network {
    first: Linear,
    second: Linear,
    last: Linear,
}

impl Network {
    fn new(device: &Device) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        Self { first: linear(2, 32), second: linear(32, 32), last: linear(32, 2) }
    }

    fn forward(&self, points: Tensor<2>) -> Tensor<2> {
        self.last.forward(tanh(self.second.forward(tanh(self.first.forward(points)))))
    }
}

/// Two arms of a spiral of 100 points each, and which arm a point is on.
fn spirals(device: &Device) -> (Tensor<2>, Tensor<1, Int>) {
    let point = |i: usize| {
        let (arm, along) = ((i % 2) as f32, (i / 2) as f32 / 100.0);
        let angle = 4.0 * along + std::f32::consts::PI * arm;
        [angle.cos() * (0.1 + along), angle.sin() * (0.1 + along)]
    };
    let points: [[f32; 2]; 200] = std::array::from_fn(point);
    let labels: [i32; 200] = std::array::from_fn(|i| (i % 2) as i32);
    (Tensor::from_data(points, device), Tensor::from_data(labels, device))
}

fn accuracy(model: &Network, points: &Tensor<2>, labels: &Tensor<1, Int>) -> f32 {
    let chosen = model.forward(points.clone()).argmax(1).flatten::<1>(0, 1);
    chosen.equal(labels.clone()).float().mean().into_scalar::<f32>()
}

/// Gives the accuracy before and after.
fn run() -> anyhow::Result<(f32, f32)> {
    let device = Device::flex().autodiff();
    let (points, labels) = spirals(&device);
    let mut model = Network::new(&device);
    let before = accuracy(&model, &points, &labels);

    let mut optimizer = ProdigyPlus::new(&model, &Options::default())?;
    let criterion = CrossEntropyLossConfig::new().init(&device);
    for step in 1..=1000 {
        let loss = criterion.forward(model.forward(points.clone()), labels.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        optimizer.step(1.0, &mut model, gradients)?; // the learning rate is a factor here: leave it at 1
        if step % 200 == 0 {
            let d = optimizer.engine().estimate(0)?.d;
            println!("step {step}: loss {:.4} at y, d {d:.2e}", loss.into_scalar::<f32>());
        }
    }

    let at_x = optimizer.evaluation_module(&model)?;
    let after = accuracy(&at_x, &points, &labels);
    println!("{:.1} % of the points at x, {:.1} % before", 100.0 * after, 100.0 * before);
    Ok((before, after))
}

fn main() -> anyhow::Result<()> {
    run()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_network_tells_the_spirals_apart() {
        let (before, after) = super::run().unwrap();
        assert!(before < 0.9 && after > 0.99, "{before} {after}");
    }
}
