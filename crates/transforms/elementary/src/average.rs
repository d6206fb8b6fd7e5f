//! Weights of moving averages.

use gradient_transform::{Context, fields};

/// The weights of the old average and of the new value in `m <- old m + new g`, for this gradient of the tensor.
///
/// Averages are of d times the gradient, so the old one is rescaled when d moves.
pub(crate) fn weights(cx: &Context<'_>, beta: f64, debias: bool) -> (f64, f64) {
    if debias { cx.debiased_weights(beta) } else { (beta * rescaled(cx), 1.0 - beta) }
}

/// The same for an average of squares. An average that is a divisor must not start late with a small part of
/// a square, debiased or not.
pub(crate) fn weights_of_squares(cx: &Context<'_>, beta: f64, debias: bool) -> (f64, f64) {
    let (old, new) = weights(cx, beta, debias || cx.fill);
    (old * rescaled(cx), new)
}

/// Factor of a state of `d g` when d moves; 1 without an estimator.
pub(crate) fn rescaled(cx: &Context<'_>) -> f64 {
    cx.step.estimate.d_prev / cx.step.estimate.d
}

/// The number of this gradient of the tensor, from 1.
pub(crate) fn gradients(cx: &Context<'_>) -> f64 {
    (cx.tensor.updates + 1) as f64
}

/// 1 for the first gradient of the tensor that the transform gets, 0 afterwards.
pub(crate) fn at_first(cx: &Context<'_>) -> f64 {
    if cx.fresh { 1.0 } else { 0.0 }
}

/// Weights of the old average and of the new value.
#[fields]
pub struct Weights<V> {
    /// Weight of the old average.
    pub old: V,
    /// Weight of the new value.
    pub new: V,
}

impl Weights<f64> {
    pub(crate) fn fill(&mut self, (old, new): (f64, f64)) {
        (self.old, self.new) = (old, new);
    }
}

/// State of Adam and its variants.
#[fields]
pub struct Moments<V> {
    /// First moment.
    pub m: V,
    /// Second moment.
    pub v: V,
}

/// Weights of the two moments.
#[fields]
pub struct MomentWeights<V> {
    /// Weight of the old first moment.
    pub old_m: V,
    /// Weight of the gradient in it.
    pub new_m: V,
    /// Weight of the old second moment.
    pub old_v: V,
    /// Weight of the squared gradient in it.
    pub new_v: V,
}

impl MomentWeights<f64> {
    /// Debiased moments.
    pub(crate) fn debiased(cx: &Context<'_>, beta1: f64, beta2: f64) -> Self {
        Self::of(cx, beta1, beta2, true)
    }

    pub(crate) fn of(cx: &Context<'_>, beta1: f64, beta2: f64, debias: bool) -> Self {
        let (old_m, new_m) = weights(cx, beta1, debias);
        let (old_v, new_v) = weights_of_squares(cx, beta2, debias);
        Self { old_m, new_m, old_v, new_v }
    }
}

/// A factor.
#[fields]
pub struct Factor<V> {
    /// The number.
    pub factor: V,
}
