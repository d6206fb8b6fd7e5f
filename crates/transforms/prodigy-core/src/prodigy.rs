use gradient_transform::device::{ElementWork, FormulaElement, FormulaNumbers};
use gradient_transform::{
    Context, Error, Estimate, Estimator, LeftD0, Link, Reads, Real, Result, Role, StateSpec, StepContext,
    Sums, TensorInfo, Tile,
};
use serde::{Deserialize, Serialize};

use crate::estimate::{Negative, Ratio, Weighting};
use crate::samples::Samples;

/// Prodigy's estimate d of the distance to the solution, which replaces the learning rate.
///
/// Computes, over about every 11th element of all tensors of the group (see [`Samples::stride`]), with the
/// raw gradient and the parameter y before the step,
///
/// ```text
/// numerator   <- beta3 numerator + sum of sqrt(d) <g, p0 - y>
/// s           <- beta3 s + sqrt(d) g
/// d_hat        = atan2(d_coef * numerator, sum of |s|_1)
/// d           <- max(d, d_hat)
/// ```
///
/// At learning rate 0 nothing of this changes. A step's negative sum is ignored while d is d0; afterwards the
/// numerator becomes the smaller of itself and that sum. Weight, ratio and the treatment of negative sums
/// have variants, and the growth of a step can be limited. Changes no update: the step size lr * d, and
/// d_prev/d for the moments, reach the other transforms through the step's context.
///
/// Mishchenko and Defazio, 2306.06101, Algorithm 4. There the weight is d^2 and the ratio is not bounded; the square root and
/// the arctangent are the reference's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prodigy {
    /// The sampled elements, and beta3.
    pub samples: Samples,
    /// Initial estimate, above 0 and at most 2^50. Default 1e-6.
    pub d0: f64,
    /// Factor of the estimate, above 0 and at most 2^50: 2 makes it less conservative, 0.5 more. Default 1.
    pub d_coef: f64,
    /// From this step on d is frozen and the state is freed. Steps at learning rate 0 do not count. 0, the default, for
    /// never.
    pub prodigy_steps: u64,
    /// Weight of a step's gradients. Default: the root of d.
    pub weighting: Weighting,
    /// How d_hat follows from the two sums. Default: by the arctangent.
    pub ratio: Ratio,
    /// Effect of a negative sum on the numerator. Default: it replaces a larger one.
    pub negative: Negative,
    /// The largest factor by which `d_hat / d_coef` may exceed d, finite and above 1: the limiter of reference 2.0.1 has 2^(1/4).
    /// It limits early estimates, whose sums are still noisy. Default `None`.
    pub growth: Option<f64>,
    /// d before the first step, if it is not d0: above 0 and at most 2^50. (Reference 1.9.2: a group's own d0 does not initialise its d.)
    pub initial_d: Option<f64>,
    /// Reference 1.9.2: d_prev stays below d at the freeze, so that the moments shrink in every
    /// later step.
    pub freeze_keeps_d_prev: bool,
    /// References 1.9.2 and 2.0.1: a step without information about the gradients (|s|_1 = 0) counts like any
    /// other step, and the numerator decays; and the arctangent of 1.9.2 sets d to pi/2 once the numerator is
    /// positive. Otherwise the estimate does not change in such a step.
    pub d_from_nothing: bool,
    /// References 1.9.2 and 2.0.1: gradients at learning rate 0 count in s, so a group that is thawed keeps its d until s has forgotten
    /// them. Otherwise the estimate does not change in such a step.
    pub learns_at_lr_0: bool,
}

impl Default for Prodigy {
    /// beta3 is the root of 0.99.
    fn default() -> Self {
        Self::new(0.99_f64.sqrt())
    }
}

impl Prodigy {
    /// An estimator with the default d0 and d_coef.
    pub fn new(beta3: f64) -> Self {
        Self {
            samples: Samples::new(beta3),
            d0: 1e-6,
            d_coef: 1.0,
            prodigy_steps: 0,
            weighting: Weighting::Root,
            ratio: Ratio::Arctangent,
            negative: Negative::Replaces,
            growth: None,
            initial_d: None,
            freeze_keeps_d_prev: false,
            d_from_nothing: false,
            learns_at_lr_0: false,
        }
    }

    /// Whether d can still change in this step.
    ///
    /// ```
    /// use gradient_transform::StepContext;
    /// use prodigy_core::Prodigy;
    ///
    /// let stopped = Prodigy { prodigy_steps: 100, ..Prodigy::default() };
    /// assert!(stopped.is_active(&StepContext::new(99, 1.0)) && !stopped.is_active(&StepContext::new(100, 1.0)));
    /// ```
    pub fn is_active(&self, step: &StepContext) -> bool {
        self.prodigy_steps == 0 || step.moves < self.prodigy_steps
    }

    /// The estimate before the first step.
    ///
    /// ```
    /// use prodigy_core::Prodigy;
    ///
    /// assert_eq!(Prodigy::default().initial_estimate().d, 1e-6);
    /// assert_eq!(Prodigy { initial_d: Some(0.1), ..Prodigy::default() }.initial_estimate().d, 0.1);
    /// ```
    pub fn initial_estimate(&self) -> Estimate {
        let d = self.initial_d.unwrap_or(self.d0);
        Estimate { d, d_prev: d, ..Estimate::new(self.d0) }
    }

    /// Checks the ranges.
    ///
    /// ```
    /// use prodigy_core::Prodigy;
    ///
    /// assert!(Prodigy::default().check().is_ok());
    /// let error = Prodigy { d0: 0.0, ..Prodigy::default() }.check().unwrap_err();
    /// assert!(error.to_string().contains("`d0` is 0"));
    /// ```
    ///
    /// # Errors
    /// [`Error::OptionOutOfRange`].
    pub fn check(&self) -> Result<()> {
        // With a larger one, the product of d, the largest learning rate and an update could overflow in
        // float32: see `ParameterGroup::lr`.
        let largest = 2.0_f64.powi(50);
        let check = |option, value: f64| {
            Error::check(option, value, value > 0.0 && value <= largest, "above 0 and at most 2^50")
        };
        check("d0", self.d0)?;
        check("d_coef", self.d_coef)?;
        self.initial_d.map_or(Ok(()), |d| check("initial_d", d))?;
        self.growth.map_or(Ok(()), |growth| {
            Error::check("growth", growth, growth.is_finite() && growth > 1.0, "finite and above 1")
        })?;
        self.samples.validate()
    }

    /// Updates numerator and denominator by the totals of a step that the estimate
    /// [learns](Estimator::learns) from; returns d_hat, or `None` if d does not change.
    ///
    /// ```
    /// use gradient_transform::StepContext;
    /// use prodigy_core::Prodigy;
    ///
    /// let prodigy = Prodigy { d_coef: 0.5, ..Prodigy::new(0.9) };
    /// let mut estimate = prodigy.initial_estimate();
    /// let step = StepContext::new(1, 1.0);
    /// assert_eq!(prodigy.advance(&step, [2.0, 1.0], &mut estimate), Some(1.0_f64.atan2(1.0))); // pi/4
    /// assert_eq!((estimate.numerator, estimate.denominator), (2.0, 1.0));
    /// assert_eq!(prodigy.advance(&step, [0.0, 0.0], &mut estimate), None); // no gradients: d does not change
    /// ```
    pub fn advance(&self, step: &StepContext, total: [f64; 2], estimate: &mut Estimate) -> Option<f64> {
        if !self.is_active(step) {
            if !self.freeze_keeps_d_prev {
                estimate.d_prev = estimate.d;
            }
            return None;
        }
        let [numerator, denominator] = total;
        if denominator == 0.0 && !self.d_from_nothing {
            // The moments have been rescaled in this step, and must not be rescaled again.
            estimate.d_prev = estimate.d;
            return None;
        }
        estimate.numerator *= self.samples.beta3;
        if numerator >= 0.0 {
            estimate.numerator += numerator;
        } else if estimate.d > estimate.d0 {
            estimate.numerator = self.negative.next(estimate.numerator, numerator);
        }
        estimate.denominator = denominator;
        let d_hat = self.ratio.of(self.d_coef * estimate.numerator, denominator);
        Some(self.growth.map_or(d_hat, |growth| d_hat.min(self.d_coef * growth * estimate.d)))
    }
}

impl<T: Real> Link<T> for Prodigy {
    fn name(&self) -> &str {
        "prodigy"
    }

    fn validate(&self) -> Result<()> {
        self.check()
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Observer
    }

    fn reads(&self) -> Reads {
        self.samples.reads()
    }

    fn state(&self, tensor: &TensorInfo) -> StateSpec {
        self.samples.state(tensor)
    }

    fn retired(&self, step: &StepContext) -> bool {
        !self.is_active(step)
    }

    fn begin_step(&self, _scalars: &[f64], step: &mut StepContext) {
        step.publish(LeftD0(step.estimate.d > step.estimate.d0));
    }

    fn observe(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        self.samples.observe(cx, tile, sums, self.weighting.weight(&cx.step.estimate), false);
    }

    fn formula(&self, tensor: &TensorInfo, work: ElementWork, element: &mut FormulaElement<'_>) -> bool {
        self.samples.formula(tensor, false, element);
        work == ElementWork::Observe
    }

    fn formula_numbers(&self, cx: &Context<'_>, _scratch: &[Vec<T>]) -> FormulaNumbers<T> {
        self.samples.numbers(cx.tensor, self.weighting.weight(&cx.step.estimate))
    }

    fn estimator(&self) -> Option<&dyn Estimator> {
        Some(self)
    }
}

impl Estimator for Prodigy {
    fn initial(&self) -> Estimate {
        self.initial_estimate()
    }

    fn learns(&self, step: &StepContext) -> bool {
        step.informs_estimate || self.learns_at_lr_0
    }

    fn contribution(&self, cx: &Context<'_>, scalar_sums: &[f64]) -> [f64; 2] {
        let weight = self.weighting.weight(&cx.step.estimate);
        self.samples.contribution(cx.tensor, scalar_sums, weight, false)
    }

    fn conclude(&self, step: &StepContext, total: [f64; 2], estimate: &mut Estimate) {
        if let Some(d_hat) = self.advance(step, total, estimate) {
            estimate.d_prev = estimate.d;
            estimate.d = estimate.d.max(d_hat);
        }
    }
}
