use gradient_transform::{Backend, Context, Element, GradientTransform, Result, fields, transform};
use serde::{Deserialize, Serialize};

use crate::average::{MomentWeights, Moments, gradients};
use crate::check;

/// Adam, divided by the distance of gradients from their average.
///
/// ```text
/// m <- beta1 m + (1 - beta1) g,          m^ = m / (1 - beta1^t)      at the t-th gradient of the tensor
/// v <- beta2 v + (1 - beta2) (g - m)^2,  v^ = v / (1 - beta2^t)
/// u <- m^ / (sqrt(v^) + eps)
/// ```
///
/// Zhuang et al., 2010.07468, algorithm 2. There and in optax's `scale_by_belief` a small number is added to v in every step as
/// well; optax's is 1e-16 by default.
///
/// Stands in Adam's place in a chain. Keeps two values per element.
///
/// ```
/// use elementary::AdaBelief;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let belief = AdaBelief { beta1: 0.5, beta2: 0.5, ..AdaBelief::default() };
/// let mut optimizer = Optimizer::new((belief, Descent::default()), [("w", &[1][..])])?;
/// let mut w = [0.0_f32];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[2.0]))])?;
/// assert!((w[0] + 2.0).abs() < 1e-6); // m = 1 before it is debiased, so v^ = 1
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdaBelief {
    /// Weight of the old first moment, in (0, 1): at 0 the gradient is its own average. Default 0.9.
    pub beta1: f64,
    /// Weight of the old second moment, in [0, 1). Default 0.999.
    pub beta2: f64,
    /// Added to the root of the debiased second moment, above 0. Default 1e-16.
    pub eps: f64,
}

impl Default for AdaBelief {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-16 }
    }
}

/// Numbers of a step.
#[fields]
pub struct Numbers<V> {
    /// Weight of the old first moment.
    pub old_m: V,
    /// Weight of the gradient in it.
    pub new_m: V,
    /// Weight of the old second moment.
    pub old_v: V,
    /// Weight of the square in it.
    pub new_v: V,
    /// Factor of the debiased first moment in the comparison with the gradient.
    pub sum: V,
}

#[transform("adabelief")]
impl GradientTransform for AdaBelief {
    type State<V: Copy> = Moments<V>;
    type Scalars<V: Copy> = Numbers<V>;

    fn validate(&self) -> Result<()> {
        check::inside("beta1", self.beta1)?;
        check::decay("beta2", self.beta2)?;
        check::positive("eps", self.eps)
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Numbers<f64>) {
        let MomentWeights { old_m, new_m, old_v, new_v } =
            MomentWeights::debiased(cx, self.beta1, self.beta2);
        // If it joins late, its first gradient is compared as if it were the first of all.
        let t = if cx.fill { 1.0 } else { gradients(cx) };
        *scalars = Numbers { old_m, new_m, old_v, new_v, sum: 1.0 - self.beta1.powf(t) };
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let (g, n) = (e.update, e.scalars);
        e.state.m = n.old_m * e.state.m + n.new_m * g;
        e.state.v = n.old_v * e.state.v + n.new_v * (g - n.sum * e.state.m).squared();
        e.update = e.state.m / (e.state.v.sqrt() + self.eps);
    }
}
