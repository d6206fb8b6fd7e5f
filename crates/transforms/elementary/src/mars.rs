use gradient_transform::{Backend, Context, Element, GradientTransform, Result, fields, transform};
use serde::{Deserialize, Serialize};

use crate::average::{Factor, at_first};
use crate::check;

/// A correction of the gradient by its change, which reduces the variance of a moment after it.
///
/// ```text
/// u <- u + gamma beta1/(1 - beta1) (u - before)      before: the u of the step before
/// ```
///
/// Yuan et al., 2411.10438, equation 9, in the cheap form of their section 3.2, MARS-approx: the gradient of
/// the step before comes from other data. In the paper, [`ClipByNorm`](crate::ClipByNorm) at 1 and AdamW with
/// the same beta1 follow. A tensor's first gradient is not corrected.
///
/// Belongs at the head of a chain. Keeps one value per element.
///
/// ```
/// use elementary::Mars;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let mars = Mars { gamma: 0.5, beta1: 0.5 };
/// let mut optimizer = Optimizer::new((mars, Descent::default()), [("w", &[1][..])])?;
/// let mut w = [0.0_f32];
/// for (gradient, expected) in [(1.0, -1.0), (3.0, -5.0)] {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[gradient]))])?;
///     assert_eq!(w, [expected]);
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mars {
    /// Strength of the correction, at least 0. Default 0.025.
    pub gamma: f64,
    /// Weight of the old first moment after it, in [0, 1). Default 0.95.
    pub beta1: f64,
}

impl Default for Mars {
    fn default() -> Self {
        Self { gamma: 0.025, beta1: 0.95 }
    }
}

/// State of an element.
#[fields]
pub struct Before<V> {
    /// The update of the step before.
    pub before: V,
}

#[transform("mars")]
impl GradientTransform for Mars {
    type State<V: Copy> = Before<V>;
    type Scalars<V: Copy> = Factor<V>;

    fn validate(&self) -> Result<()> {
        check::not_negative("gamma", self.gamma)?;
        check::decay("beta1", self.beta1)
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Factor<f64>) {
        scalars.factor = (1.0 - at_first(cx)) * self.gamma * self.beta1 / (1.0 - self.beta1);
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let g = e.update;
        e.update = g + e.scalars.factor * (g - e.state.before);
        e.state.before = g;
    }
}
