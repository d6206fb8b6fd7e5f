use gradient_transform::{Backend, Context, Element, Error, GradientTransform, Result, transform};
use serde::{Deserialize, Serialize};

use crate::average::{Factor, at_first};
use crate::mars::Before;

/// Optimistic descent: the update and its change.
///
/// ```text
/// u <- alpha u + beta (u - before)      before: the u of the step before, and u itself at first
/// ```
///
/// Daskalakis et al., 1711.00141, equation 4, for games; optax's `scale_by_optimistic_gradient`. Keeps one value per element.
///
/// ```
/// use elementary::Optimistic;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new((Optimistic::default(), Descent::default()), [("w", &[1][..])])?;
/// let mut w = [0.0_f32];
/// for (gradient, expected) in [(1.0, -1.0), (3.0, -6.0)] {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[gradient]))])?;
///     assert_eq!(w, [expected]);
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Optimistic {
    /// Weight of the update. Default 1.
    pub alpha: f64,
    /// Weight of its change. Default 1.
    pub beta: f64,
}

impl Default for Optimistic {
    fn default() -> Self {
        Self { alpha: 1.0, beta: 1.0 }
    }
}

#[transform("optimistic")]
impl GradientTransform for Optimistic {
    type State<V: Copy> = Before<V>;
    type Scalars<V: Copy> = Factor<V>;

    fn validate(&self) -> Result<()> {
        Error::check("alpha", self.alpha, self.alpha.is_finite(), "finite")?;
        Error::check("beta", self.beta, self.beta.is_finite(), "finite")
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Factor<f64>) {
        scalars.factor = (1.0 - at_first(cx)) * self.beta;
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let g = e.update;
        e.update = self.alpha * g + e.scalars.factor * (g - e.state.before);
        e.state.before = g;
    }
}
