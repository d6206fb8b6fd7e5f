use gradient_transform::{Backend, Context, Element, GradientTransform, Num, fields, transform};
use serde::{Deserialize, Serialize};

use crate::average::Factor;

/// Leaves out the elements of an update that go against the gradient, and makes up for them in the others.
///
/// ```text
/// share = number of elements with u g > 0 / number of elements
/// u <- u / max(share, 1e-3) where u g > 0, 0 elsewhere      g: the raw gradient
/// ```
///
/// Liang et al., 2411.16085, algorithm 1, in the form of the authors' code, for chains in which a moment stands before it: behind
/// [`Adam`](crate::Adam) it is C-AdamW. `Cautious` of the crate `cautious` is for averaging behind the update, as in Schedule-Free.
///
/// Belongs behind moments, and before decoupled weight decay. Needs the whole tensor, so the chain is cut behind it. Keeps nothing.
///
/// ```
/// use elementary::{CautiousUpdate, Momentum};
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let chain = (Momentum::default(), CautiousUpdate, Descent::default());
/// let mut optimizer: Optimizer = Optimizer::new(chain, [("w", &[2][..])])?;
/// let mut w = [0.0_f32, 0.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0, 1.0]))])?;
/// assert_eq!(w, [-1.0, -1.0]);
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0, -0.5]))])?;
/// assert_eq!(w, [-1.0 - 2.0 * 1.9, -1.0]); // the second would have moved against its gradient
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CautiousUpdate;

/// A sum over a tensor.
#[fields]
pub struct Agreeing<V> {
    /// Elements that agree.
    pub agreeing: V,
}

#[transform("cautious-update")]
impl GradientTransform for CautiousUpdate {
    type Sums<V: Copy> = Agreeing<V>;
    type Scalars<V: Copy> = Factor<V>;

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Agreeing<Num<B>> {
        Agreeing { agreeing: (e.update * e.gradient).gt(0.0).select(1.0, 0.0) }
    }

    fn finalize(&self, cx: &Context<'_>, sums: Agreeing<f64>, scalars: &mut Factor<f64>) {
        scalars.factor = 1.0 / (sums.agreeing / cx.tensor.len() as f64).max(1e-3);
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = (e.update * e.gradient).gt(0.0).select(e.scalars.factor * e.update, 0.0);
    }
}

/// The size of the update with the sign of the gradient.
///
/// ```text
/// u <- |u| sign(g)      g: the raw gradient
/// ```
///
/// Cao, Li and Song, 2412.17107, algorithm 1, for chains in which a moment stands before it. `Grams` of the crate `grams` is for averaging
/// behind the update, as in Schedule-Free.
///
/// Belongs behind moments, and before decoupled weight decay. Keeps nothing.
///
/// ```
/// use elementary::{GramsUpdate, Momentum};
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let chain = (Momentum { beta: 0.5, nesterov: false }, GramsUpdate, Descent::default());
/// let mut optimizer: Optimizer = Optimizer::new(chain, [("w", &[1][..])])?;
/// let mut w = [0.0_f32];
/// for (gradient, expected) in [(4.0, -4.0), (-1.0, -3.0)] {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[gradient]))])?;
///     assert_eq!(w, [expected]);
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GramsUpdate;

#[transform("grams-update")]
impl GradientTransform for GramsUpdate {
    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.update.abs() * e.gradient.sign();
    }
}
