use gradient_transform::{Backend, Context, Element, GradientTransform, Result, fields, transform};
use serde::{Deserialize, Serialize};

use crate::average::{rescaled, weights};
use crate::check;

/// The sign of an interpolation between a moment and the gradient.
///
/// ```text
/// u <- sign(beta1 m + (1 - beta1) g)
/// m <- beta2 m + (1 - beta2) g          with the same m as the line above
/// ```
///
/// Chen et al., 2302.06675, algorithm 2; optax's `scale_by_lion`. Every weight moves by the learning rate, so use one 3 to 10 times
/// smaller than Adam's, and a decoupled weight decay as many times larger (section 5 there).
///
/// Belongs after clipping, and before [`WeightDecay`](crate::WeightDecay). Keeps one value per element.
///
/// ```
/// use elementary::Lion;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new((Lion::default(), Descent::default()), [("w", &[2][..])])?;
/// let mut w = [0.0_f32, 0.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[8.0, -0.1]))])?;
/// assert_eq!(w, [-1.0, 1.0]);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lion {
    /// Weight of the moment in the step, in [0, 1). Default 0.9.
    pub beta1: f64,
    /// Weight of the old moment, in [0, 1). Default 0.99.
    pub beta2: f64,
}

impl Default for Lion {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.99 }
    }
}

/// State of an element.
#[fields]
pub struct Average<V> {
    /// The moment.
    pub m: V,
}

/// Numbers of a step.
#[fields]
pub struct Numbers<V> {
    /// Weight of the moment in the step.
    pub in_step: V,
    /// Weight of the old moment.
    pub old: V,
    /// Weight of the gradient in the moment.
    pub new: V,
}

#[transform("lion")]
impl GradientTransform for Lion {
    type State<V: Copy> = Average<V>;
    type Scalars<V: Copy> = Numbers<V>;

    fn validate(&self) -> Result<()> {
        check::decay("beta1", self.beta1)?;
        check::decay("beta2", self.beta2)
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Numbers<f64>) {
        let (old, new) = weights(cx, self.beta2, false);
        *scalars = Numbers { in_step: self.beta1 * rescaled(cx), old, new };
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let (g, m, n) = (e.update, e.state.m, e.scalars);
        e.update = (n.in_step * m + (1.0 - self.beta1) * g).sign();
        e.state.m = n.old * m + n.new * g;
    }
}
