use gradient_transform::{Backend, Element, GradientTransform, transform};
use serde::{Deserialize, Serialize};

/// The size of the update with the sign of the gradient.
///
/// ```text
/// u <- |u| sign(g)      g: the raw gradient
/// ```
///
/// Cao, Li and Song, 2412.17107, algorithm 1, for chains in which a first moment stands before it. [`Grams`](crate::Grams) is for
/// averaging after the update, as in Schedule-Free.
///
/// Belongs after moments, and before decoupled weight decay. Keeps nothing.
///
/// ```
/// use factored_moment::FirstMoment;
/// use gradient_transform::{Descent, Optimizer, Parameter};
/// use grams::GramsUpdate;
///
/// let chain = (FirstMoment::new(0.5), GramsUpdate, Descent::default());
/// let mut optimizer = Optimizer::new(chain, [("w", [1])])?;
/// let mut w = [0.0_f32];
/// for (gradient, expected) in [(4.0, -2.0), (-1.0, -1.5)] {
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
