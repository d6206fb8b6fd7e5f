use gradient_transform::{
    Backend, Context, Element, Error, GradientTransform, Loss, Num, Result, StepContext, SumsOver, transform,
};
use serde::{Deserialize, Serialize};

use crate::average::Factor;
use crate::check;
use crate::clip::Squares;

/// Polyak's step size, from the loss and the norm of the gradients of all tensors.
///
/// ```text
/// u <- min(largest, (loss - least) / (|u|^2 + eps)) u      0 where u is 0
/// ```
///
/// Polyak 1987, and the stochastic form of Loizou et al., 2002.10542, equation 3; optax's `scale_by_polyak`, which counts a squared norm
/// below 2e-16 as 0. If the loss is below `least`, the step goes uphill; with `clamps`, optax's `sps+`, it is
/// 0.
///
/// For the learning rate 1, directly before the writer. Every step needs the [`Loss`], by
/// [`Optimizer::step_with`](gradient_transform::Optimizer::step_with). A step without it is
/// [`Error::NotGiven`]. For losses whose minimum is known, such as those of models that can fit all
/// of their data. Needs all gradients, so the chain is cut after it. Keeps nothing.
///
/// ```
/// use elementary::Polyak;
/// use gradient_transform::{Descent, Loss, Optimizer, Parameter};
///
/// let mut optimizer: Optimizer<f64> = Optimizer::new_in((Polyak::default(), Descent::default()), [("w", [2])])?;
/// let mut w = [3.0, 4.0];
/// for _ in 0..50 {
///     let (loss, gradient) = (Loss((w[0] * w[0] + w[1] * w[1]) / 2.0), w);
///     optimizer.step_with(loss, &mut [Parameter::slice(&mut w, Some(&gradient))])?;
/// }
/// assert!(w.iter().all(|w| w.abs() < 1e-10)); // it halves the distance in every step
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Polyak {
    /// The minimum of the loss. Default 0.
    pub least: f64,
    /// The largest step size, above 0. Default 1.
    pub largest: f64,
    /// Added to the squared norm, at least 0. Default 0.
    pub eps: f64,
    /// Whether a loss below the minimum counts as the minimum. Default false.
    pub clamps: bool,
}

impl Default for Polyak {
    fn default() -> Self {
        Self { least: 0.0, largest: 1.0, eps: 0.0, clamps: false }
    }
}

#[transform("polyak")]
impl GradientTransform for Polyak {
    type Sums<V: Copy> = Squares<V>;
    type Scalars<V: Copy> = Factor<V>;

    fn validate(&self) -> Result<()> {
        Error::check("least", self.least, self.least.is_finite(), "finite")?;
        check::positive("largest", self.largest)?;
        check::not_negative("eps", self.eps)
    }

    fn sums_over(&self) -> SumsOver {
        SumsOver::All
    }

    fn check_step(&self, step: &StepContext) -> Result<()> {
        let Loss(loss) = step.required("polyak")?;
        Error::check("loss", loss, loss.is_finite(), "finite")
    }

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
        Squares { squares: e.update.squared() }
    }

    fn finalize(&self, cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Factor<f64>) {
        let gap = cx.step.published::<Loss>().map_or(0.0, |Loss(loss)| loss - self.least);
        let gap = if self.clamps { gap.max(0.0) } else { gap };
        scalars.factor =
            if sums.squares > 0.0 { (gap / (sums.squares + self.eps)).min(self.largest) } else { 0.0 };
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.factor * e.update;
    }
}
