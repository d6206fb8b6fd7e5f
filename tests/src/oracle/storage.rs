//! The type in which a number is kept between two operations.

use half::bf16;
use ndarray::{Array, ArrayD, Dimension};

/// The type in which a parameter, and the state that shares its type, is kept between steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// IEEE single precision.
    F32,
    /// bfloat16, rounded to nearest, ties to even.
    Bf16,
    /// No rounding: what the formulas say.
    F64,
}

impl Storage {
    /// `value` as it reads back after having been stored.
    pub fn round(self, value: f64) -> f64 {
        match self {
            Storage::F32 => f64::from(value as f32),
            // Through float32, because the reference computes in float32 and then stores.
            Storage::Bf16 => f64::from(bf16::from_f32(value as f32)),
            Storage::F64 => value,
        }
    }

    /// The type in which the reference computes on values of this type.
    pub(super) fn arithmetic(self) -> Storage {
        if self == Storage::F64 { Storage::F64 } else { Storage::F32 }
    }

    /// Every element of `values` as it reads back after having been stored.
    pub fn store<D: Dimension>(self, values: Array<f64, D>) -> Array<f64, D> {
        values.mapv_into(|v| self.round(v))
    }
}

/// `<a, b>`, over all elements.
pub(super) fn dot<D: Dimension>(a: &Array<f64, D>, b: &Array<f64, D>) -> f64 {
    a.iter().zip(b.iter()).map(|(a, b)| a * b).sum()
}

/// `|a|`, the 2-norm over all elements.
pub(super) fn norm<D: Dimension>(a: &Array<f64, D>) -> f64 {
    dot(a, a).sqrt()
}

/// The root of the mean square over all elements.
pub(super) fn rms<D: Dimension>(a: &Array<f64, D>) -> f64 {
    norm(a) / (a.len() as f64).sqrt()
}

/// `sign(a)`, with `sign(0) = 0`, which `f64::signum` does not give.
pub(super) fn sign(a: f64) -> f64 {
    if a > 0.0 {
        1.0
    } else if a < 0.0 {
        -1.0
    } else {
        0.0
    }
}

/// Prodigy's sample of a tensor: every `stride`-th element in logical order.
pub(super) fn sampled(a: &ArrayD<f64>, stride: usize) -> ndarray::Array1<f64> {
    a.iter().copied().step_by(stride).collect()
}

/// The smallest number from 11 on that shares no factor with an axis but the first, so that no sample keeps to some columns.
pub(super) fn stride(shape: &[usize]) -> usize {
    let shares = |n: usize, axis: usize| (2..=n).any(|f| n.is_multiple_of(f) && axis.is_multiple_of(f));
    let fits = |n: &usize| !shape.iter().skip(1).any(|&axis| axis > 0 && shares(*n, axis));
    // 11, or a prime above all axes at the latest.
    (11..).find(fits).unwrap_or(11)
}
