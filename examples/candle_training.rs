//! A network in candle on two spirals: training, evaluation at the average, and what is saved for inference and for resuming.
//!
//! Run it with `cargo run --release -p examples --example candle_training`.

use std::io::Write;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::{Module, Sequential, VarBuilder, VarMap, linear, loss::cross_entropy, seq};
use prodigy_plus_candle::{Options, ProdigyPlus};

/// Two arms of a spiral of 100 points each, and which arm a point is on.
fn spirals() -> candle_core::Result<(Tensor, Tensor)> {
    let point = |i: usize| {
        let (arm, along) = ((i % 2) as f32, (i / 2) as f32 / 100.0);
        let angle = 4.0 * along + std::f32::consts::PI * arm;
        [angle.cos() * (0.1 + along), angle.sin() * (0.1 + along)]
    };
    let points: [[f32; 2]; 200] = std::array::from_fn(point);
    let labels: [u32; 200] = std::array::from_fn(|i| (i % 2) as u32);
    Ok((Tensor::new(&points, &Device::Cpu)?, Tensor::new(&labels, &Device::Cpu)?))
}

fn network(map: &VarMap) -> candle_core::Result<Sequential> {
    let parameters = VarBuilder::from_varmap(map, DType::F32, &Device::Cpu);
    Ok(seq()
        .add(linear(2, 32, parameters.pp("first"))?)
        .add_fn(|x| x.tanh())
        .add(linear(32, 32, parameters.pp("second"))?)
        .add_fn(|x| x.tanh())
        .add(linear(32, 2, parameters.pp("last"))?))
}

fn accuracy(model: &Sequential, points: &Tensor, labels: &Tensor) -> candle_core::Result<f32> {
    let hits = model.forward(points)?.argmax(D::Minus1)?.eq(labels)?;
    hits.to_dtype(DType::F32)?.mean_all()?.to_scalar()
}

/// Prints as it goes; gives the accuracy before and after.
pub(crate) fn run(out: &mut dyn Write) -> anyhow::Result<(f32, f32)> {
    let (points, labels) = spirals()?;
    let map = VarMap::new();
    let model = network(&map)?;
    let before = accuracy(&model, &points, &labels)?;

    let mut optimizer = ProdigyPlus::from_varmap(&map, &Options::default())?;
    for step in 1..=300 {
        let loss = cross_entropy(&model.forward(&points)?, &labels)?;
        optimizer.step(&loss.backward()?)?;
        if step % 50 == 0 {
            let d = optimizer.engine().estimate(0)?.d;
            writeln!(out, "step {step}: loss {:.4} at y, d {d:.2e}", loss.to_scalar::<f32>()?)?;
        }
    }

    let after = {
        let _at_x = optimizer.evaluate()?; // until the end of this block
        accuracy(&model, &points, &labels)?
    };
    writeln!(out, "{:.1} % of the points at x, {:.1} % before", 100.0 * after, 100.0 * before)?;

    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    candle_core::safetensors::save(&optimizer.evaluation_tensors()?, path("model.safetensors"))?; // x, for inference
    map.save(path("y.safetensors"))?; // y and the state, to go on
    optimizer.save_state(path("state.safetensors"))?;
    Ok((before, after))
}

fn main() -> anyhow::Result<()> {
    run(&mut std::io::stdout())?;
    Ok(())
}
