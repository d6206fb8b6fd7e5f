use gradient_transform::{Backend, Context, Element, GradientTransform, Result, fields, transform};
use serde::{Deserialize, Serialize};

use crate::average::{Weights, weights_of_squares};
use crate::check;

/// Steps as long as the recent ones: the update is converted to the unit of the parameter.
///
/// ```text
/// v <- rho v + (1 - rho) g^2
/// u <- g sqrt(way + eps) / sqrt(v + eps)
/// way <- rho way + (1 - rho) u^2
/// ```
///
/// Zeiler, 1212.5701, algorithm 1; PyTorch's `Adadelta` and optax's `scale_by_adadelta`. The paper's form has
/// the learning rate 1.
///
/// Belongs after clipping. Keeps two values per element.
///
/// ```
/// use elementary::AdaDelta;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let delta = AdaDelta { rho: 0.75, eps: 1e-6 };
/// let mut optimizer = Optimizer::new((delta, Descent::default()), [("w", &[1][..])])?;
/// let mut w = [0.0_f32];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[8.0]))])?;
/// assert!((w[0] + 2e-3).abs() < 1e-6); // sqrt(eps) times the gradient's sign, over sqrt(0.25)
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdaDelta {
    /// Weight of the old averages, in [0, 1). Default 0.9.
    pub rho: f64,
    /// Added to both averages, above 0: the square of the first steps' length. Default 1e-6.
    pub eps: f64,
}

impl Default for AdaDelta {
    fn default() -> Self {
        Self { rho: 0.9, eps: 1e-6 }
    }
}

/// State of an element.
#[fields]
pub struct Averages<V> {
    /// Average of squared gradients.
    pub v: V,
    /// Average of squared updates.
    pub way: V,
}

#[transform("adadelta")]
impl GradientTransform for AdaDelta {
    type State<V: Copy> = Averages<V>;
    type Scalars<V: Copy> = Weights<V>;

    fn validate(&self) -> Result<()> {
        check::decay("rho", self.rho)?;
        check::positive("eps", self.eps)
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Weights<f64>) {
        scalars.fill(weights_of_squares(cx, self.rho, false));
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.state.v = e.scalars.old * e.state.v + e.scalars.new * e.update.squared();
        e.update = e.update * (e.state.way + self.eps).sqrt() / (e.state.v + self.eps).sqrt();
        e.state.way = self.rho * e.state.way + (1.0 - self.rho) * e.update.squared();
    }
}
