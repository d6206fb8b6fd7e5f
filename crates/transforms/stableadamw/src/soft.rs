use gradient_transform::{Backend, Context, Element, GradientTransform, Num, transform};

use crate::{Clip, Squares};

/// Scales a large update down to the root of its size: `u <- u / sqrt(max(1, RMS(u)))`.
///
/// The form of reference 2.0.1. [`StableAdamW`](crate::StableAdamW) scales every update of size s > 1 to size
/// 1; this one scales it to `sqrt(s)`, so a tensor whose gradients grow still moves faster. There is no
/// threshold that follows d.
///
/// Belongs after the transform that turns the gradient into a direction, and before the writer. Needs the
/// whole tensor's sum, so the chain is cut after it. Keeps nothing.
///
/// ```
/// use gradient_transform::{Descent, Optimizer, Parameter};
/// use stableadamw::SoftStableAdamW;
///
/// let shapes = [("large", [2]), ("small", [2])];
/// let mut optimizer = Optimizer::new((SoftStableAdamW, Descent::default()), shapes)?;
/// let (mut large, mut small) = ([0.0_f32, 0.0], [0.0_f32, 0.0]);
/// optimizer.step(&mut [
///     Parameter::slice(&mut large, Some(&[9.0, -9.0])),
///     Parameter::slice(&mut small, Some(&[0.5, -0.5])),
/// ])?;
/// assert_eq!((large, small), ([-3.0, 3.0], [-0.5, 0.5]));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftStableAdamW;

#[transform("soft-stableadamw")]
impl GradientTransform for SoftStableAdamW {
    type Sums<V: Copy> = Squares<V>;
    type Scalars<V: Copy> = Clip<V>;

    fn excludes(&self) -> &[(&'static str, &'static str)] {
        &[("stableadamw", "both shorten large updates; keep one")]
    }

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
        Squares { update: e.update.squared() }
    }

    fn finalize(&self, cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Clip<f64>) {
        let rms = (sums.update / cx.tensor.len() as f64).sqrt();
        scalars.factor = 1.0 / rms.max(1.0).sqrt();
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.factor * e.update;
    }
}
