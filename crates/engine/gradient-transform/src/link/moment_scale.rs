//! Scale of moments under an estimate of the step size.

use serde::{Deserialize, Serialize};

use crate::link::context::Context;

/// How the state of a moment follows a moving estimate d.
///
/// Prodigy's moments are of `d g` (Mishchenko and Defazio, 2306.06101, Algorithm 4), so that gradients count more, the larger d was
/// when they arrived. In a chain the update is of g throughout, and the writer multiplies by d.
///
/// ```
/// use gradient_transform::{Context, DType, Estimate, MomentScale, StepContext, TensorInfo};
///
/// let tensor = TensorInfo { name: "w".into(), shape: vec![8], dtype: DType::F32, updates: 2 };
/// let mut step = StepContext::new(3, 0.5);
/// step.estimate = Estimate { d: 2.0, ..Estimate::new(1.0) }; // doubled since the step before
/// let cx = Context::new(&step, &tensor);
/// assert_eq!(MomentScale::Rescaled.second_moment_weights(&cx, 0.75), (0.1875, 0.25));
/// assert_eq!(MomentScale::Weighted.second_moment_weights(&cx, 0.75), (0.75, 1.0));
/// assert_eq!(MomentScale::Fixed.second_moment_weights(&cx, 0.75), (0.75, 0.25));
/// assert_eq!(MomentScale::Weighted.first_moment_weights(&cx, 0.75), (0.75, 0.5));
/// assert_eq!(MomentScale::Weighted.name("moment", "weighted-moment"), "weighted-moment");
/// assert_eq!((MomentScale::Rescaled.unit(&cx), MomentScale::Weighted.unit(&cx)), (1.0, 2.0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MomentScale {
    /// The state is of g. In each step of the tensor the old one is multiplied by `d_prev/d`, a second moment by its square.
    #[default]
    Rescaled,
    /// The state is of `d g`, and is divided by d where it is read. The same as [`Rescaled`](Self::Rescaled), except for a tensor
    /// that has no gradient in a step in which d moves: there this is what the paper has.
    Weighted,
    /// The state is of the incoming update, independently of d: for averages of directions, which are of size 1 already.
    Fixed,
}

impl MomentScale {
    /// The weights of the old average and of the new value in `m <- old m + new g`.
    pub fn first_moment_weights(self, cx: &Context<'_>, beta1: f64) -> (f64, f64) {
        let estimate = &cx.step.estimate;
        match self {
            Self::Rescaled => (beta1 * (estimate.d_prev / estimate.d), 1.0 - beta1),
            Self::Weighted => (beta1, (1.0 - beta1) * estimate.d),
            Self::Fixed => (beta1, 1.0 - beta1),
        }
    }

    /// The weights of the old moment and of the new term in `v <- old v + new g^2`. Under RAdam's rectification beta2 is debiased:
    /// see [`Context::second_moment_weights`].
    pub fn second_moment_weights(self, cx: &Context<'_>, beta2: f64) -> (f64, f64) {
        let d = cx.step.estimate.d;
        match self {
            Self::Rescaled => cx.second_moment_weights(beta2),
            Self::Weighted => {
                let (old, new) = cx.second_moment_weights_at_fixed_d(beta2);
                (old, new * (d * d))
            }
            Self::Fixed => cx.second_moment_weights_at_fixed_d(beta2),
        }
    }

    /// The name of a moment, one of two: a weighted moment has other units, so neither takes over the other's state.
    pub const fn name<'n>(self, of_gradient: &'n str, weighted: &'n str) -> &'n str {
        match self {
            Self::Weighted => weighted,
            Self::Rescaled | Self::Fixed => of_gradient,
        }
    }

    /// Divisor of a first moment, or of the root of a second one, where it is read: d, or 1.
    pub fn unit(self, cx: &Context<'_>) -> f64 {
        if self == Self::Weighted { cx.step.estimate.d } else { 1.0 }
    }
}
