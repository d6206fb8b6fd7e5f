use gradient_transform::{
    Backend, Column, Context, Element, GradientTransform, Result, TensorInfo, fields, transform,
};
use serde::{Deserialize, Serialize};

use crate::average::{Weights, weights};
use crate::check;

/// A first moment divided by a moving average of the curvature, with every element clipped.
///
/// ```text
/// m <- beta1 m + (1 - beta1) u
/// h <- beta2 h + (1 - beta2) estimate         in steps for which an estimate of the curvature is given
/// u <- max(-1, min(1, m / max(gamma h, eps)))
/// ```
///
/// Liu et al., 2305.14342, algorithm 3; optax's `contrib.sophia`, which debiases m (`debias`) and uses an
/// estimate from the next step on. Until the first estimate, and where the curvature is not above 0, the
/// update is the sign of m.
///
/// The caller computes the estimate, about every ten steps, for all tensors: `r * (H r)` with random signs r
/// (Hutchinson's), or `B g * g` with the gradient g of a batch of B examples whose labels are drawn from the
/// model's own predictions (Gauss-Newton-Bartlett). Pass it by
/// [`Optimizer::give_array`](gradient_transform::Optimizer::give_array).
///
/// Belongs after clipping, and before [`WeightDecay`](crate::WeightDecay). Choose gamma so that 10 to 50% of
/// elements are not clipped (section 2.3 there): 0.05 for Gauss-Newton-Bartlett and 0.01 for Hutchinson.
/// Keeps two values per element.
///
/// ```
/// use elementary::Sophia;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let sophia = Sophia { beta1: 0.0, beta2: 0.0, gamma: 1.0, ..Sophia::default() };
/// let mut optimizer = Optimizer::new((sophia, Descent::default()), [("w", [2])])?;
/// let mut w = [0.5_f32, 20.0]; // of 2 w0^2 + 4 w1^2
/// let curvature = [4.0_f32, 8.0];
/// let gradient = [4.0 * w[0], 8.0 * w[1]];
/// optimizer.give_array(0, &curvature)?;
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))])?;
/// assert_eq!(w, [0.0, 19.0]); // Newton's step, and a clipped one
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sophia {
    /// Weight of the old first moment, in [0, 1). Default 0.96.
    pub beta1: f64,
    /// Weight of the old average of the curvature, in [0, 1). Default 0.99.
    pub beta2: f64,
    /// Factor of the curvature, above 0. Default 0.05.
    pub gamma: f64,
    /// The smallest divisor, above 0. Default 1e-12.
    pub eps: f64,
    /// Whether m is debiased. Default false.
    pub debias: bool,
}

impl Default for Sophia {
    fn default() -> Self {
        Self { beta1: 0.96, beta2: 0.99, gamma: 0.05, eps: 1e-12, debias: false }
    }
}

/// State of an element.
#[fields]
pub struct Curvature<V> {
    /// First moment.
    pub m: V,
    /// Average of the curvature.
    pub h: V,
    /// The estimate of the step.
    pub estimate: V,
}

/// The variant for steps with an estimate.
const ESTIMATED: u32 = 1;

#[transform("sophia")]
impl GradientTransform for Sophia {
    type State<V: Copy> = Curvature<V>;
    type Scalars<V: Copy> = Weights<V>;

    fn validate(&self) -> Result<()> {
        check::decay("beta1", self.beta1)?;
        check::decay("beta2", self.beta2)?;
        check::positive("gamma", self.gamma)?;
        check::positive("eps", self.eps)
    }

    fn columns(&self, _tensor: &TensorInfo) -> Curvature<Column> {
        Curvature { m: Column::ZEROS, h: Column::ZEROS, estimate: Column::GIVEN }
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Weights<f64>) {
        scalars.fill(weights(cx, self.beta1, self.debias));
    }

    fn variant(&self, cx: &Context<'_>, _scalars: &Weights<f64>) -> u32 {
        if cx.given { ESTIMATED } else { 0 }
    }

    fn variants(&self) -> u32 {
        2
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.state.m = e.scalars.old * e.state.m + e.scalars.new * e.update;
        if e.variant == ESTIMATED {
            e.state.h = self.beta2 * e.state.h + (1.0 - self.beta2) * e.state.estimate;
        }
        e.update = (e.state.m / (self.gamma * e.state.h).max(self.eps)).max(-1.0).min(1.0);
    }
}
