use gradient_transform::{Backend, Context, Element, GradientTransform, Num, fields, transform};
use serde::{Deserialize, Serialize};

/// Masks the elements of an update that go against the gradient, and scales the others up to compensate.
///
/// ```text
/// share = number of elements with u g > 0 / number of elements
/// u <- u / max(share, 1e-3) where u g > 0, 0 elsewhere      g: the raw gradient
/// ```
///
/// Liang et al., 2411.16085, algorithm 1, in the form of the authors' code, for chains in which a first moment stands before it: after
/// Adam it is C-AdamW. [`Cautious`](crate::Cautious) is for averaging after the update, as in Schedule-Free.
///
/// Belongs after moments, and before decoupled weight decay. Needs the whole tensor, so the chain is cut after it. Keeps nothing.
///
/// ```
/// use cautious::CautiousUpdate;
/// use factored_moment::FirstMoment;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let chain = (FirstMoment::new(0.5), CautiousUpdate, Descent::default());
/// let mut optimizer = Optimizer::new(chain, [("w", [2])])?;
/// let mut w = [0.0_f32, 0.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0, 1.0]))])?;
/// assert_eq!(w, [-0.5, -0.5]);
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0, -0.25]))])?;
/// assert_eq!(w, [-0.5 - 2.0 * 0.75, -0.5]); // the second would have moved against its gradient
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

/// Number of a tensor and step.
#[fields]
pub struct Factor<V> {
    /// `1 / max(share, 1e-3)`.
    pub factor: V,
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
