//! Estimators of the step size.

use crate::link::context::{Context, Estimate, StepContext};

/// An estimator of the step size: it moves the group's d.
///
/// Distance over gradients (Ivgi et al., 2302.12022), here as a d that only grows:
///
/// ```
/// use gradient_transform::{
///     Context, Descent, Estimate, Estimator, Link, Optimizer, Parameter, Reads, Role, StateSpec,
///     StepContext, Storage, Sums, TensorInfo, Tile, kernel,
/// };
///
/// /// d = |y - y0| / sqrt(sum of |g|^2).
/// #[derive(Debug)]
/// struct Dog {
///     d0: f64,
/// }
///
/// impl Link<f32> for Dog {
///     fn name(&self) -> &str {
///         "dog"
///     }
///
///     fn role(&self, _tensor: &TensorInfo) -> Role {
///         Role::Observer
///     }
///
///     fn reads(&self) -> Reads {
///         Reads::GRADIENT_AND_PARAMETER_ALONE
///     }
///
///     fn state(&self, _tensor: &TensorInfo) -> StateSpec {
///         StateSpec::new().column("y0", Storage::Parameter).copied().constant().sums(2, 0)
///     }
///
///     fn observe(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, f32>, sums: Sums<'_, f32>) {
///         sums.scalars[0] += kernel::sum2(tile.parameter, tile.columns[0], |y, y0| (y - y0) * (y - y0));
///         sums.scalars[1] += kernel::sum(tile.gradient, |g| g * g);
///     }
///
///     fn estimator(&self) -> Option<&dyn Estimator> {
///         Some(self)
///     }
/// }
///
/// impl Estimator for Dog {
///     fn initial(&self) -> Estimate {
///         Estimate::new(self.d0)
///     }
///
///     fn contribution(&self, _cx: &Context<'_>, scalar_sums: &[f64]) -> [f64; 2] {
///         [scalar_sums[0], scalar_sums[1]]
///     }
///
///     fn conclude(&self, step: &StepContext, total: [f64; 2], estimate: &mut Estimate) {
///         estimate.numerator = total[0];
///         estimate.denominator += total[1];
///         estimate.d_prev = estimate.d;
///         estimate.d = estimate.d.max((estimate.numerator / estimate.denominator.max(1e-30)).sqrt());
///     }
/// }
///
/// let mut optimizer = Optimizer::new((Dog { d0: 1e-3 }, Descent::default()), [("w", &[2][..])])?;
/// let mut w = [3.0_f32, 4.0];
/// for _ in 0..200 {
///     let gradient = w;
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))])?;
/// }
/// assert!(optimizer.estimate(0)?.d > 0.1 && w[0].abs() < 0.5);
/// assert!(!Dog { d0: 1e-3 }.learns(&StepContext::new(1, 0.0))); // not at learning rate 0
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub trait Estimator: Send + Sync {
    /// The estimate before the first step.
    fn initial(&self) -> Estimate;

    /// Whether it learns from a step. In one that it does not, an [observer](crate::Role::Observer) is not asked to
    /// [`observe`](crate::Link::observe) or [`finish`](crate::Link::finish), tensors contribute nothing, and the estimate does not change. Default:
    /// [`StepContext::informs_estimate`], so not at learning rate 0: sums of gradients that grow while nothing moves would hold d down afterwards.
    fn learns(&self, step: &StepContext) -> bool {
        step.informs_estimate
    }

    /// Contribution of one tensor to the step's numerator and denominator, from its scalar sums.
    fn contribution(&self, cx: &Context<'_>, scalar_sums: &[f64]) -> [f64; 2];

    /// Updates the estimate by the total contribution of a step that it learns from. A d above 2^50 counts as 2^50; for a d of NaN, 0 or less
    /// the earlier one stays.
    fn conclude(&self, step: &StepContext, total: [f64; 2], estimate: &mut Estimate);
}
