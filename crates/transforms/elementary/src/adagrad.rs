use gradient_transform::{Backend, Context, Moment, MomentElement, Result, fields, transform};
use serde::{Deserialize, Serialize};

use crate::average::{Factor, rescaled};
use crate::check;

/// Division by the root of the sum of all squared gradients.
///
/// ```text
/// v <- v + g^2,  u <- u / (sqrt(initial + v) + eps)
/// ```
///
/// Duchi, Hazan and Singer (JMLR 2011), section 1.1, with diagonal matrices. The defaults are those of PyTorch's `Adagrad`, whose
/// decay of the learning rate is a [`Schedule`](crate::Schedule) here. optax's `scale_by_rss` begins at 0.1 and has its eps, 1e-7,
/// under the root.
///
/// Belongs after clipping. A [`Moment`](gradient_transform::Moment). Keeps one value per element.
///
/// ```
/// use elementary::AdaGrad;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new((AdaGrad::default(), Descent::default()), [("w", &[1][..])])?;
/// let mut w = [0.0_f32];
/// for (gradient, expected) in [(3.0, -1.0), (4.0, -1.8)] {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[gradient]))])?;
///     assert!((w[0] - expected).abs() < 1e-6);
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdaGrad {
    /// First value of the sum, at least 0. Default 0.
    pub initial: f64,
    /// Added to the root of the sum, above 0. Default 1e-10.
    pub eps: f64,
}

impl Default for AdaGrad {
    fn default() -> Self {
        Self { initial: 0.0, eps: 1e-10 }
    }
}

/// State of an element.
#[fields]
pub struct Squares<V> {
    /// The sum of squares.
    pub v: V,
}

#[transform("adagrad")]
impl Moment for AdaGrad {
    type State<V: Copy> = Squares<V>;
    type Scalars<V: Copy> = Factor<V>;

    fn validate(&self) -> Result<()> {
        check::not_negative("initial", self.initial)?;
        check::positive("eps", self.eps)
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Factor<f64>) {
        scalars.factor = rescaled(cx).powi(2);
    }

    fn accumulate<B: Backend>(&self, e: &mut MomentElement<B, Self>) {
        e.state.v = e.scalars.factor * e.state.v + e.update.squared();
    }

    fn divide<B: Backend>(&self, e: &mut MomentElement<B, Self>) {
        e.update = e.update / ((e.state.v + self.initial).sqrt() + self.eps);
    }
}
