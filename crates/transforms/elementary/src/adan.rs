use gradient_transform::{Backend, Context, Element, GradientTransform, Result, fields, transform};
use serde::{Deserialize, Serialize};

use crate::average::{at_first, weights, weights_of_squares};
use crate::check;

/// Adam with Nesterov's momentum by differences of gradients.
///
/// ```text
/// c = g - (the gradient before), 0 at first
/// m <- beta1 m + (1 - beta1) g,  w <- beta2 w + (1 - beta2) c,  v <- beta3 v + (1 - beta3) (g + beta2 c)^2,  all debiased
/// u <- (m^ + beta2 w^) / (sqrt(v^) + eps)
/// ```
///
/// Xie et al., 2208.06677, algorithm 1, with the betas of the authors' code, which are 1 minus those of the
/// paper. optax 0.2.8 has `1 - beta2` instead of beta2 in u and v. The paper divides by 1 + decay;
/// [`WeightDecay`](crate::WeightDecay) subtracts the decay, as other optimizers do.
///
/// Stands in Adam's place in a chain. Keeps four values per element.
///
/// ```
/// use elementary::Adan;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new((Adan::default(), Descent::default()), [("w", &[1][..])])?;
/// let mut w = [0.0_f32];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[4.0]))])?;
/// assert!((w[0] + 1.0).abs() < 1e-6);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adan {
    /// Weight of the old first moment, in [0, 1). Default 0.98.
    pub beta1: f64,
    /// Weight of the old moment of differences, in [0, 1). Default 0.92.
    pub beta2: f64,
    /// Weight of the old second moment, in [0, 1). Default 0.99.
    pub beta3: f64,
    /// Added to the root of the debiased second moment, above 0. Default 1e-8.
    pub eps: f64,
}

impl Default for Adan {
    fn default() -> Self {
        Self { beta1: 0.98, beta2: 0.92, beta3: 0.99, eps: 1e-8 }
    }
}

/// State of an element.
#[fields]
pub struct Moments<V> {
    /// First moment.
    pub m: V,
    /// Moment of differences.
    pub w: V,
    /// Second moment.
    pub v: V,
    /// The previous gradient.
    pub before: V,
}

/// Numbers of a step.
#[fields]
pub struct Numbers<V> {
    /// Weight of the old first moment.
    pub old_m: V,
    /// Weight of the gradient in it.
    pub new_m: V,
    /// Weight of the old moment of differences.
    pub old_w: V,
    /// Weight of the difference in it.
    pub new_w: V,
    /// Weight of the old second moment.
    pub old_v: V,
    /// Weight of the square in it.
    pub new_v: V,
    /// 0 for the first gradient, and 1 afterwards.
    pub differs: V,
}

#[transform("adan")]
impl GradientTransform for Adan {
    type State<V: Copy> = Moments<V>;
    type Scalars<V: Copy> = Numbers<V>;

    fn validate(&self) -> Result<()> {
        check::decay("beta1", self.beta1)?;
        check::decay("beta2", self.beta2)?;
        check::decay("beta3", self.beta3)?;
        check::positive("eps", self.eps)
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Numbers<f64>) {
        let (old_m, new_m) = weights(cx, self.beta1, true);
        let (old_w, new_w) = weights(cx, self.beta2, true);
        let (old_v, new_v) = weights_of_squares(cx, self.beta3, true);
        *scalars = Numbers { old_m, new_m, old_w, new_w, old_v, new_v, differs: 1.0 - at_first(cx) };
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let (g, n) = (e.update, e.scalars);
        let c = n.differs * (g - e.state.before);
        e.state.m = n.old_m * e.state.m + n.new_m * g;
        e.state.w = n.old_w * e.state.w + n.new_w * c;
        e.state.v = n.old_v * e.state.v + n.new_v * (g + self.beta2 * c).squared();
        e.state.before = g;
        e.update = (e.state.m + self.beta2 * e.state.w) / (e.state.v.sqrt() + self.eps);
    }
}
