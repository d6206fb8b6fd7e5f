//! Parts of transformers, in candle's tensors.

use anyhow::Result;
use candle_core::{Device, Tensor};
use candle_nn::ops::softmax;

const EPSILON: f64 = 1e-5;

/// Root mean square normalisation with a gain.
pub(crate) fn normed(stream: &Tensor, gain: &Tensor) -> Result<Tensor> {
    let scale = (stream.sqr()?.mean_keepdim(1)? + EPSILON)?.sqrt()?;
    Ok(stream.broadcast_div(&scale)?.broadcast_mul(gain)?)
}

/// Minus infinity where a character would look ahead, and 0 elsewhere.
pub(crate) fn mask(context: usize, device: &Device) -> Result<Tensor> {
    let ahead = |place: usize| if place % context > place / context { f32::NEG_INFINITY } else { 0.0 };
    let mask: Vec<f32> = (0..context * context).map(ahead).collect();
    Ok(Tensor::from_vec(mask, (context, context), device)?)
}

/// Queries, keys and values `[batch, heads, context, width / heads]`, from rows `[batch * context, 3 * width]` that
/// have them side by side.
pub(crate) fn split_heads(joined: &Tensor, batch: usize, heads: usize) -> Result<[Tensor; 3]> {
    let (rows, width) = joined.dims2()?;
    let joined = joined.reshape((batch, rows / batch, 3, heads, width / 3 / heads))?;
    let part = |index: usize| -> Result<Tensor> {
        Ok(joined.narrow(2, index, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous()?)
    };
    Ok([part(0)?, part(1)?, part(2)?])
}

/// Causal attention, as rows `[batch * context, width]`.
pub(crate) fn attention([queries, keys, values]: &[Tensor; 3], mask: &Tensor) -> Result<Tensor> {
    let (batch, heads, context, size) = queries.dims4()?;
    let scale = 1.0 / (size as f64).sqrt();
    let scores = (queries.matmul(&keys.t()?)? * scale)?.broadcast_add(mask)?;
    let mixed = softmax(&scores, 3)?.matmul(values)?;
    Ok(mixed.transpose(1, 2)?.reshape((batch * context, heads * size))?)
}
