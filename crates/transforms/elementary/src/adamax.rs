use gradient_transform::{Backend, Context, Element, GradientTransform, Result, fields, transform};
use serde::{Deserialize, Serialize};

use crate::average::{Moments, rescaled, weights};
use crate::check;

/// Adam with a decaying maximum of the gradient instead of the root of the second moment.
///
/// ```text
/// m^ as in Adam,  v <- max(beta2 v, |g| + eps),  u <- m^ / v
/// ```
///
/// Kingma and Ba, 1412.6980, algorithm 2; eps as in PyTorch's `Adamax` and optax's `scale_by_adamax`, because
/// the paper has none.
///
/// Stands in Adam's place in a chain. Keeps two values per element.
///
/// ```
/// use elementary::AdaMax;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let adamax = AdaMax { beta1: 0.0, beta2: 0.5, ..AdaMax::default() };
/// let mut optimizer = Optimizer::new((adamax, Descent::default()), [("w", &[1][..])])?;
/// let mut w = [0.0_f32];
/// for (gradient, expected) in [(4.0, -1.0), (1.0, -1.5)] {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[gradient]))])?;
///     assert!((w[0] - expected).abs() < 1e-6);
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdaMax {
    /// Weight of the old first moment, in [0, 1). Default 0.9.
    pub beta1: f64,
    /// Decay of the largest gradient in a step, in [0, 1). Default 0.999.
    pub beta2: f64,
    /// Added to the size of the gradient, above 0. Default 1e-8.
    pub eps: f64,
}

impl Default for AdaMax {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

/// Numbers of a step.
#[fields]
pub struct Numbers<V> {
    /// Weight of the old first moment.
    pub old: V,
    /// Weight of the gradient in it.
    pub new: V,
    /// Decay of the largest gradient.
    pub kept: V,
}

#[transform("adamax")]
impl GradientTransform for AdaMax {
    type State<V: Copy> = Moments<V>;
    type Scalars<V: Copy> = Numbers<V>;

    fn validate(&self) -> Result<()> {
        check::decay("beta1", self.beta1)?;
        check::decay("beta2", self.beta2)?;
        check::positive("eps", self.eps)
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Numbers<f64>) {
        let (old, new) = weights(cx, self.beta1, true);
        *scalars = Numbers { old, new, kept: self.beta2 * rescaled(cx) };
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let (g, n) = (e.update, e.scalars);
        e.state.m = n.old * e.state.m + n.new * g;
        e.state.v = (n.kept * e.state.v).max(g.abs() + self.eps);
        e.update = e.state.m / e.state.v;
    }
}
