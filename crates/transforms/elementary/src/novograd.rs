use gradient_transform::{Backend, Context, Element, GradientTransform, Num, Result, fields, transform};
use serde::{Deserialize, Serialize};

use crate::average::rescaled;
use crate::check;
use crate::clip::Squares;

/// Momentum of gradients that are divided by a running norm of their tensor, with decay inside the momentum.
///
/// ```text
/// v <- beta2 v + (1 - beta2) |g|^2      |g|^2 at first; a number for each tensor
/// m <- beta1 m + g / (sqrt(v) + eps) + decay y
/// u <- m
/// ```
///
/// Ginsburg et al., 1905.11286, algorithm 1; optax's `scale_by_novograd`, whose defaults these are. The size is the norm, so that the
/// update of a layer of n elements is about `1/sqrt(n)` times as large as Adam's.
///
/// Belongs after clipping. Needs the whole tensor, so the chain is cut after it. Keeps one value per element, and a number for each
/// tensor. If an estimator moves d, the number is rescaled.
///
/// ```
/// use elementary::NovoGrad;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let novograd = NovoGrad { beta1: 0.5, beta2: 0.5, ..NovoGrad::default() };
/// let mut optimizer: Optimizer<f64> = Optimizer::new_in((novograd, Descent::default()), [("w", [2])])?;
/// let mut w = [0.0_f64, 0.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0, 4.0]))])?;
/// assert!((w[0] + 0.6).abs() < 1e-6 && (w[1] + 0.8).abs() < 1e-6); // v = 25
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.0, 0.0]))])?;
/// assert!((w[0] + 0.9).abs() < 1e-6 && (w[1] + 1.2).abs() < 1e-6); // half of the momentum
/// assert_eq!(optimizer.snapshot().tensors["w"].arrays["novograd/v"].get::<f64>(0), 12.5);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NovoGrad {
    /// Weight of the old momentum, in [0, 1). Default 0.9.
    pub beta1: f64,
    /// Weight of the old squared norm, in [0, 1). Default 0.25.
    pub beta2: f64,
    /// Added to the root of the squared norm, above 0. Default 1e-6.
    pub eps: f64,
    /// Decay of the weights, inside the momentum, at least 0. Default 0.
    pub decay: f64,
}

impl Default for NovoGrad {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.25, eps: 1e-6, decay: 0.0 }
    }
}

/// State of an element.
#[fields]
pub struct First<V> {
    /// The momentum.
    pub m: V,
}

/// Numbers of a tensor.
#[fields]
pub struct Size<V> {
    /// The average of squared norms.
    pub v: V,
    /// Factor of the gradient.
    pub factor: V,
}

#[transform("novograd")]
impl GradientTransform for NovoGrad {
    type State<V: Copy> = First<V>;
    type Sums<V: Copy> = Squares<V>;
    type Scalars<V: Copy> = Size<V>;

    fn validate(&self) -> Result<()> {
        check::decay("beta1", self.beta1)?;
        check::decay("beta2", self.beta2)?;
        check::positive("eps", self.eps)?;
        check::not_negative("decay", self.decay)
    }

    fn kept(&self) -> Size<bool> {
        Size { v: true, factor: false }
    }

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
        Squares { squares: e.update.squared() }
    }

    fn finalize(&self, cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Size<f64>) {
        let r = rescaled(cx);
        let next = self.beta2 * r * r * scalars.v + (1.0 - self.beta2) * sums.squares;
        scalars.v = if cx.fresh { sums.squares } else { next };
        scalars.factor = 1.0 / (scalars.v.sqrt() + self.eps);
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.state.m = self.beta1 * e.state.m + (e.scalars.factor * e.update + self.decay * e.parameter);
        e.update = e.state.m;
    }
}
