use gradient_transform::{
    Backend, Element, Error, GradientTransform, Loss, Result, StepContext, StepSummary, transform,
};
use serde::{Deserialize, Serialize};

use crate::check;

/// Smaller steps when the loss stops falling.
///
/// ```text
/// mean <- of the losses of `window` steps
/// improved where mean < (1 - relative) best - absolute;  best <- mean there
/// after `patience` windows in a row that have not improved:  scale <- max(least, factor scale), and `cooldown` windows count for nothing
/// step_size <- scale step_size
/// ```
///
/// Like optax's `contrib.reduce_on_plateau`, it reduces when the count of windows reaches `patience`;
/// PyTorch's `ReduceLROnPlateau` reduces one window later. PyTorch's gets the validation loss of an epoch;
/// this gets the [`Loss`] of every step, by
/// [`Optimizer::step_with`](gradient_transform::Optimizer::step_with). A step without it is
/// [`Error::NotGiven`].
///
/// For losses whose noise is small relative to the improvement in a window. Unlike a schedule, it does not
/// need the number of steps in advance; if the length is known, a decay over all of it is usually better
/// (2405.18392). Anywhere before the writer. Keeps six numbers of the group, in checkpoints too.
///
/// ```
/// use elementary::ReduceOnPlateau;
/// use gradient_transform::{Descent, Loss, Optimizer, Parameter};
///
/// let plateau = ReduceOnPlateau { factor: 0.5, patience: 2, ..ReduceOnPlateau::default() };
/// let mut optimizer = Optimizer::new((plateau, Descent::default()), [("w", [1])])?;
/// let mut w = [0.0_f32];
/// for (loss, expected) in [(3.0, -1.0), (2.0, -2.0), (2.0, -3.0), (2.0, -3.5), (2.0, -4.0), (2.0, -4.25)] {
///     optimizer.step_with(Loss(loss), &mut [Parameter::slice(&mut w, Some(&[1.0]))])?;
///     assert_eq!(w, [expected]);
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReduceOnPlateau {
    /// Factor of a reduction, in (0, 1). Default 0.1.
    pub factor: f64,
    /// Number of windows in a row without improvement before a reduction, at least 1. Default 10.
    pub patience: u64,
    /// Smallest improvement, as a share of the best loss, in [0, 1]. Default 1e-4.
    pub relative: f64,
    /// Smallest improvement, as a difference of losses, in addition to that share; at least 0.
    /// Default 0.
    pub absolute: f64,
    /// Windows after a reduction that do not count. Default 0.
    pub cooldown: u64,
    /// Steps whose losses are averaged, at least 1. Default 1.
    pub window: u64,
    /// The smallest scale, in [0, 1]. Default 0.
    pub least: f64,
}

impl Default for ReduceOnPlateau {
    fn default() -> Self {
        Self { factor: 0.1, patience: 10, relative: 1e-4, absolute: 0.0, cooldown: 0, window: 1, least: 0.0 }
    }
}

/// Numbers of a group between steps, all 0 at first.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    /// Losses in the window, and their mean.
    losses: f64,
    mean: f64,
    /// The best mean, and the number of full windows; while that is 0, the mean has no meaning.
    best: f64,
    windows: f64,
    /// Windows in a row without improvement; or, below 0, those of the cooldown that are left.
    waited: f64,
    /// 1 minus the scale.
    reduced: f64,
}

impl Seen {
    fn of(scalars: &[f64]) -> Self {
        let [losses, mean, best, windows, waited, reduced] = std::array::from_fn(|i| scalars[i]);
        Self { losses, mean, best, windows, waited, reduced }
    }

    fn store(self, scalars: &mut [f64]) {
        let Self { losses, mean, best, windows, waited, reduced } = self;
        scalars.copy_from_slice(&[losses, mean, best, windows, waited, reduced]);
    }

    /// The numbers after one more step with this loss.
    fn next(mut self, options: &ReduceOnPlateau, loss: f64) -> Self {
        self.mean = (self.losses * self.mean + loss) / (self.losses + 1.0);
        self.losses += 1.0;
        if self.losses < options.window as f64 {
            return self;
        }
        let mean = self.mean;
        let improved = self.windows == 0.0 || mean < (1.0 - options.relative) * self.best - options.absolute;
        if improved {
            self.best = mean;
        }
        self.waited = if self.waited < 0.0 {
            self.waited + 1.0
        } else if improved {
            0.0
        } else {
            self.waited + 1.0
        };
        if self.waited >= options.patience as f64 {
            self.waited = -(options.cooldown as f64);
            self.reduced = 1.0 - ((1.0 - self.reduced) * options.factor).max(options.least);
        }
        Self { losses: 0.0, mean: 0.0, windows: self.windows + 1.0, ..self }
    }
}

impl ReduceOnPlateau {
    fn next(&self, scalars: &[f64], step: &StepContext) -> Option<Seen> {
        step.published().map(|Loss(loss)| Seen::of(scalars).next(self, loss))
    }
}

#[transform("reduce-on-plateau")]
impl GradientTransform for ReduceOnPlateau {
    fn validate(&self) -> Result<()> {
        check::inside("factor", self.factor)?;
        Error::check("patience", self.patience as f64, self.patience > 0, "at least 1")?;
        Error::check("window", self.window as f64, self.window > 0, "at least 1")?;
        let share = |option, value: f64| {
            Error::check(option, value, (0.0..=1.0).contains(&value), "at least 0 and at most 1")
        };
        share("relative", self.relative)?;
        share("least", self.least)?;
        check::not_negative("absolute", self.absolute)
    }

    fn group_scalars(&self) -> &'static [&'static str] {
        &["losses", "mean", "best", "windows", "waited", "reduced"]
    }

    fn check_step(&self, step: &StepContext) -> Result<()> {
        let Loss(loss) = step.required("reduce-on-plateau")?;
        Error::check("loss", loss, loss.is_finite(), "finite")
    }

    fn begin_step(&self, scalars: &[f64], step: &mut StepContext) {
        if let Some(seen) = self.next(scalars, step) {
            step.step_size *= 1.0 - seen.reduced;
        }
    }

    fn end_step(&self, step: &StepContext, _summary: &StepSummary, scalars: &mut [f64]) {
        if let Some(seen) = self.next(scalars, step) {
            seen.store(scalars);
        }
    }

    fn update<B: Backend>(&self, _e: &mut Element<B, Self>) {}
}
