use gradient_transform::{Backend, Context, Element, GradientTransform, Result, fields, transform};
use serde::{Deserialize, Serialize};

use crate::average::{MomentWeights, gradients, weights};
use crate::check;

/// Adam with a second, slower first moment.
///
/// ```text
/// m^, v^ as in Adam
/// slow <- beta3 slow + (1 - beta3) g                     not debiased
/// u <- (m^ + alpha slow) / (sqrt(v^) + eps)
/// ```
///
/// During the first `warm_up` gradients of a tensor alpha grows from 0 in proportion to them, and beta3 from beta1 such that the
/// logarithm of its half-life is about linear: `beta3(t) = min(beta3, exp(ln beta1 ln beta3 / ((1 - t/T) ln beta3 + t/T ln beta1)))`.
///
/// Pagliardini, Ablin and Grangier, 2409.03137, algorithm 1 and appendix A.1. The paper warms up over the
/// whole training; without warm-up it may diverge early. optax's `scale_by_ademamix` is the same, with
/// schedules as functions of the step.
///
/// Stands in Adam's place in a chain. Keeps three values per element.
///
/// ```
/// use elementary::AdEMAMix;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let mix = AdEMAMix { beta3: 0.75, alpha: 2.0, ..AdEMAMix::default() };
/// let mut optimizer = Optimizer::new((mix, Descent::default()), [("w", &[1][..])])?;
/// let mut w = [0.0_f32];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[4.0]))])?;
/// assert!((w[0] + 1.5).abs() < 1e-6); // 1, and 2 * 0.25 of the slow moment
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdEMAMix {
    /// Weight of the old fast moment, in (0, 1). Default 0.9.
    pub beta1: f64,
    /// Weight of the old second moment, in [0, 1). Default 0.999.
    pub beta2: f64,
    /// Weight of the old slow moment, in (0, 1). Default 0.9999.
    pub beta3: f64,
    /// Weight of the slow moment in the direction, at least 0. Default 5.
    pub alpha: f64,
    /// Added to the root of the debiased second moment, above 0. Default 1e-8.
    pub eps: f64,
    /// Number of gradients of a tensor after which alpha and beta3 have their final values; 0, the
    /// default, for no warm-up.
    pub warm_up: u64,
}

impl Default for AdEMAMix {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, beta3: 0.9999, alpha: 5.0, eps: 1e-8, warm_up: 0 }
    }
}

impl AdEMAMix {
    /// alpha and beta3 at the t-th gradient.
    fn at(&self, t: f64) -> (f64, f64) {
        if t >= self.warm_up as f64 {
            return (self.alpha, self.beta3);
        }
        let share = t / self.warm_up as f64;
        let (fast, slow) = (self.beta1.ln(), self.beta3.ln());
        let beta3 = (fast * slow / ((1.0 - share) * slow + share * fast)).exp();
        (share * self.alpha, beta3.min(self.beta3))
    }
}

/// State of an element.
#[fields]
pub struct Moments<V> {
    /// Fast first moment, debiased.
    pub m: V,
    /// Slow first moment.
    pub slow: V,
    /// Second moment, debiased.
    pub v: V,
}

/// Numbers of a step.
#[fields]
pub struct Numbers<V> {
    /// Weight of the old fast moment.
    pub old_m: V,
    /// Weight of the gradient in it.
    pub new_m: V,
    /// Weight of the old second moment.
    pub old_v: V,
    /// Weight of the squared gradient in it.
    pub new_v: V,
    /// Weight of the old slow moment.
    pub old_slow: V,
    /// Weight of the gradient in it.
    pub new_slow: V,
    /// Weight of the slow moment in the direction.
    pub alpha: V,
}

#[transform("ademamix")]
impl GradientTransform for AdEMAMix {
    type State<V: Copy> = Moments<V>;
    type Scalars<V: Copy> = Numbers<V>;

    fn validate(&self) -> Result<()> {
        check::inside("beta1", self.beta1)?;
        check::decay("beta2", self.beta2)?;
        check::inside("beta3", self.beta3)?;
        check::not_negative("alpha", self.alpha)?;
        check::positive("eps", self.eps)
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Numbers<f64>) {
        let MomentWeights { old_m, new_m, old_v, new_v } =
            MomentWeights::debiased(cx, self.beta1, self.beta2);
        let (alpha, beta3) = self.at(gradients(cx));
        let (old_slow, new_slow) = weights(cx, beta3, false);
        *scalars = Numbers { old_m, new_m, old_v, new_v, old_slow, new_slow, alpha };
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let (g, n) = (e.update, e.scalars);
        e.state.m = n.old_m * e.state.m + n.new_m * g;
        e.state.v = n.old_v * e.state.v + n.new_v * g.squared();
        e.state.slow = n.old_slow * e.state.slow + n.new_slow * g;
        e.update = (e.state.m + n.alpha * e.state.slow) / (e.state.v.sqrt() + self.eps);
    }
}
