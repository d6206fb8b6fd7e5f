//! Saving the optimizer's state and going on from it, exactly.
//!
//! Run it with `cargo run --release -p examples --example resume`.

use std::io::Write;

use gradient_transform::{Optimizer, Parameter, Result};
use prodigy_plus::ProdigyPlus;

fn optimizer() -> Result<Optimizer> {
    ProdigyPlus::builder().build([("w", &[3, 40][..])])
}

/// Some steps on the loss `|w|^2 / 2`.
fn train(optimizer: &mut Optimizer, w: &mut [f32], steps: usize) -> Result<()> {
    for _ in 0..steps {
        let gradient = w.to_vec();
        optimizer.step(&mut [Parameter::slice(w, Some(&gradient))])?;
    }
    Ok(())
}

/// Prints as it goes; gives the weights of an uninterrupted run and of one that was saved and resumed.
pub(crate) fn run(out: &mut dyn Write) -> anyhow::Result<(Vec<f32>, Vec<f32>)> {
    let start: Vec<f32> = (0..120).map(|i| i as f32 / 60.0 - 1.0).collect();

    let mut whole = start.clone();
    train(&mut optimizer()?, &mut whole, 100)?;

    let mut first = optimizer()?;
    let mut w = start;
    train(&mut first, &mut w, 60)?;
    // Save the weights as they are in training mode (y), by whatever means, and the state beside them.
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("state.safetensors");
    checkpoint::save(&path, &first)?;
    writeln!(out, "{} bytes; state by parameter, transform and array:", std::fs::metadata(&path)?.len())?;
    for (parameter, tensor) in &first.snapshot().tensors {
        writeln!(out, "  {parameter}: {}", tensor.arrays.keys().cloned().collect::<Vec<_>>().join(", "))?;
    }
    drop(first);

    let mut second = optimizer()?;
    checkpoint::load(&path, &mut second)?;
    train(&mut second, &mut w, 40)?;

    writeln!(out, "d {:.6e} after {} steps", second.estimate(0)?.d, second.steps(0)?)?;
    writeln!(out, "the resumed run equals the uninterrupted one to the bit: {}", w == whole)?;
    Ok((whole, w))
}

fn main() -> anyhow::Result<()> {
    run(&mut std::io::stdout())?;
    Ok(())
}
