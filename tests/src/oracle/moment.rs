//! The second moment, dense or factored, FOCUS's mean of the weights, and the direction each of them gives.

use ndarray::{ArrayD, Axis, Zip};

use super::options::Line;
use super::step::Step;
use super::storage::{Storage, dot, norm, sign};

/// Only tensors with an axis at least this long are factored.
const SHORTEST_FACTORED_AXIS: usize = 32;

/// FOCUS's pull away from the mean of the weights.
pub(super) const FOCUS_GAMMA: f64 = 0.1;

/// What a parameter keeps of its past gradients (or, for FOCUS, of its past weights).
#[derive(Debug, Clone)]
pub(super) enum Moment {
    /// An EMA of `g^2`.
    Dense(ArrayD<f64>),
    /// EMAs of the means of `g^2` over the largest axis (`row`) and over the second largest (`col`); both keep the
    /// reduced axis with length one.
    Factored { row: ArrayD<f64>, col: ArrayD<f64>, largest: Axis, second: Axis },
    /// An EMA of the weights.
    Focus(ArrayD<f64>),
}

impl Moment {
    pub(super) fn zeros(shape: &[usize], use_focus: bool, factored: bool) -> Moment {
        if use_focus {
            return Moment::Focus(ArrayD::zeros(shape));
        }
        match factored_axes(shape) {
            Some((largest, second)) if factored => {
                let reduced = |axis: Axis| {
                    let mut shape = shape.to_vec();
                    shape[axis.index()] = 1;
                    ArrayD::zeros(shape)
                };
                Moment::Factored { row: reduced(largest), col: reduced(second), largest, second }
            }
            _ => Moment::Dense(ArrayD::zeros(shape)),
        }
    }

    /// The type in which this moment is kept, and in which its denominator is computed.
    pub(super) fn storage(&self, step: &Step) -> Storage {
        match (self, step.storage) {
            (Moment::Factored { .. }, storage) if step.options.factored_fp32 => storage.arithmetic(),
            (_, storage) => storage,
        }
    }

    /// Takes in the square of a gradient `g` (FOCUS: the weights `w`) with `weight`, and keeps `decay` of the past.
    pub(super) fn update(
        &mut self,
        g: &ArrayD<f64>,
        w: &ArrayD<f64>,
        [decay, weight]: [f64; 2],
        step: &Step,
    ) {
        let kept = self.storage(step);
        // FOCUS takes the sign of what is left of `w - mean`, so that while w stands still the last digit decides.
        let scalar = |value| step.storage.arithmetic().round(value);
        let (decay, weight) = (scalar(decay), scalar(weight));
        let average = |mean: &mut ArrayD<f64>, new: &ArrayD<f64>| {
            Zip::from(mean).and(new).for_each(|mean, &new| {
                *mean = kept.round(kept.round(decay * *mean) + weight * new);
            });
        };
        let g_squared = g.mapv(|g| g * g);
        match self {
            Moment::Dense(v) => average(v, &g_squared),
            Moment::Focus(mean) => average(mean, w),
            Moment::Factored { row, col, largest, second } => {
                average(row, &keep_dim_mean(&g_squared, *largest));
                average(col, &keep_dim_mean(&g_squared, *second));
            }
        }
    }

    /// What the gradient is divided by: `sqrt(v)`, or `sqrt(row/mean(row)) sqrt(col)`, in 2.0.1 under one root; FOCUS: the mean of
    /// the weights.
    pub(super) fn denominator(&self, step: &Step) -> ArrayD<f64> {
        let kept = self.storage(step);
        match self {
            Moment::Focus(mean) => mean.clone(),
            Moment::Dense(v) => kept.store(v.mapv(f64::sqrt)),
            Moment::Factored { row, col, largest, second } => {
                let spanned = if step.compat.factored_row_mean_axis && second.index() > largest.index() {
                    Axis(second.index() - 1)
                } else {
                    *second
                };
                let row_mean = kept.store(kept.store(keep_dim_mean(row, spanned)) + 1e-30);
                let share = kept.store(row / &row_mean);
                if step.options.line == Line::Second {
                    return kept.store(kept.store(share * col).mapv(f64::sqrt));
                }
                let row_factor = kept.store(share.mapv(f64::sqrt));
                let col_factor = kept.store(col.mapv(f64::sqrt));
                kept.store(row_factor * col_factor)
            }
        }
    }

    /// The direction: `g/(denominator + eps)`, Adam-atan2 if there is no eps, or FOCUS's two signs.
    pub(super) fn direction(
        &self,
        g: &ArrayD<f64>,
        denominator: ArrayD<f64>,
        y: &ArrayD<f64>,
        step: &Step,
    ) -> ArrayD<f64> {
        let kept = self.storage(step);
        if let Moment::Focus(_) = self {
            let away = (y - &denominator).mapv(|a| kept.round(FOCUS_GAMMA * sign(a)));
            return g.mapv(sign) + away;
        }
        match step.options.eps {
            Some(eps) => step.storage.arithmetic().store(g / &kept.store(denominator + eps)),
            None => {
                let b = step.clip_threshold();
                let denominator = kept.store(denominator * b);
                Zip::from(g).and(&denominator).map_collect(|g, denominator| b * g.atan2(*denominator))
            }
        }
    }
}

/// The largest and the second largest axis of a tensor that is worth factoring; of equal axes, the last is the largest.
fn factored_axes(shape: &[usize]) -> Option<(Axis, Axis)> {
    let mut axes: Vec<(usize, usize)> =
        shape.iter().enumerate().map(|(axis, &length)| (length, axis)).collect();
    axes.sort_unstable();
    match axes[..] {
        [.., second, largest] if largest.0 >= SHORTEST_FACTORED_AXIS => {
            Some((Axis(largest.1), Axis(second.1)))
        }
        _ => None,
    }
}

/// The mean over one axis, which stays with length one.
fn keep_dim_mean(a: &ArrayD<f64>, axis: Axis) -> ArrayD<f64> {
    (a.sum_axis(axis) / a.len_of(axis) as f64).insert_axis(axis)
}

/// OrthoGrad: the component of `g` that is orthogonal to `w`, rescaled to the norm of `g`; scalars are in the type `kept`.
pub(super) fn orthogonal_to(w: &ArrayD<f64>, g: &ArrayD<f64>, kept: Storage, step: &Step) -> ArrayD<f64> {
    let round = |v| kept.round(v);
    let projection = round(round(dot(w, g)) / round(round(dot(w, w)) + 1e-30));
    let orthogonal = g - &(w * projection);
    if !step.compat.orthograd_normalises_noise && dot(&orthogonal, &orthogonal) <= 1e-13 * dot(g, g) {
        return ArrayD::zeros(g.raw_dim());
    }
    let scale = round(norm(g)) / (norm(&orthogonal) + 1e-30);
    orthogonal * scale
}
