//! Multilayer perceptrons.

use anyhow::{Result, ensure};
use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;

use crate::random::uniform;
use crate::task::InitialParameter;

/// Weights and biases of the layers between the given widths, uniform within 1/sqrt(inputs).
pub(crate) fn initial(widths: &[usize], name: &str, generator: &mut ChaCha8Rng) -> Vec<InitialParameter> {
    let mut parameters = Vec::new();
    for (index, pair) in widths.windows(2).enumerate() {
        let (inputs, outputs) = (pair[0], pair[1]);
        let mut draw = |kind: &str, shape: &[usize]| {
            let values = uniform(generator, shape.iter().product(), 1.0 / (inputs as f32).sqrt());
            InitialParameter::new(format!("{name}{}.{kind}", index + 1), shape, values)
        };
        parameters.push(draw("weight", &[outputs, inputs]));
        parameters.push(draw("bias", &[outputs]));
    }
    parameters
}

/// The last layer's output, with `activation` after every other one; `weights` are as those of [`initial`].
pub(crate) fn forward(
    weights: &[Tensor],
    inputs: &Tensor,
    activation: fn(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<Tensor> {
    let layers = weights.len() / 2;
    let mut hidden = inputs.clone();
    for (index, layer) in weights.chunks_exact(2).enumerate() {
        hidden = hidden.matmul(&layer[0].t()?)?.broadcast_add(&layer[1])?;
        if index + 1 < layers {
            hidden = activation(&hidden)?;
        }
    }
    Ok(hidden)
}

/// Checks the widths of hidden layers.
pub(crate) fn check_widths(option: &str, widths: &[usize]) -> Result<()> {
    ensure!(
        widths.iter().all(|width| (1..=4096).contains(width)) && widths.len() <= 16,
        "{option} = {widths:?}: up to 16 layers, each of 1 to 4096 units"
    );
    Ok(())
}

/// `64-128-10`.
pub(crate) fn shown(widths: &[usize]) -> String {
    widths.iter().map(ToString::to_string).collect::<Vec<_>>().join("-")
}

/// Weights and biases between the given widths.
pub(crate) fn count(widths: &[usize]) -> usize {
    widths.windows(2).map(|pair| (pair[0] + 1) * pair[1]).sum()
}
