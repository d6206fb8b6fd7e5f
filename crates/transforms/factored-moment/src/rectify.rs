use gradient_transform::{
    Backend, Element, Error, GradientTransform, Rectification, Result, StepContext, transform,
};
use serde::{Deserialize, Serialize};

/// RAdam's rectification: a warm-up that follows from the variance of the second moment.
///
/// With `rho_inf = 2/(1 - beta2) - 1` and `rho_k = rho_inf - 2 k beta2^k / (1 - beta2^k)`, the step size is multiplied by
/// `sqrt((rho_k - 4)(rho_k - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho_k))` once `rho_k > 4`, and by 0 before
/// (Liu et al., 1908.03265, Algorithm 2; the paper takes a step of momentum there, the reference none). The
/// second moments of the chain are debiased by `beta2' = 1 - (1 - beta2)/(1 - beta2^k)`, and pass the raw
/// gradient on while `rho_k <= 4`.
///
/// Belongs anywhere before the writer; keeps nothing.
///
/// ```
/// use factored_moment::{FactoredMoment, Rectify};
/// use gradient_transform::{Descent, Optimizer, Parameter};
/// let chain = (Rectify::new(0.99), FactoredMoment::new(0.99), Descent::default());
/// let mut optimizer = Optimizer::new(chain, [("w", &[1][..])])?;
/// let mut w = [1.0_f32];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[2.0]))])?;
/// assert_eq!(w, [1.0]); // the variance is intractable at first
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rectify {
    /// Decay of the second moment that is rectified, in (0, 1); that of the moment in the same chain.
    pub beta2: f64,
    /// Whether the second moments divide from the first step on, even while the step size is 0: for chains that average the divided gradients.
    /// Default false.
    pub divides_early: bool,
}

impl Default for Rectify {
    fn default() -> Self {
        Self::new(0.99)
    }
}

impl Rectify {
    /// Rectification of a second moment.
    pub fn new(beta2: f64) -> Self {
        Self { beta2, divides_early: false }
    }
}

#[transform("rectify")]
impl GradientTransform for Rectify {
    fn validate(&self) -> Result<()> {
        Error::check(
            "beta2",
            self.beta2,
            self.beta2 > 0.0 && self.beta2 < 1.0,
            "above 0 and below 1 with bias correction",
        )
    }

    fn begin_step(&self, _scalars: &[f64], step: &mut StepContext) {
        let (beta2, k) = (self.beta2, step.k as f64);
        let beta2_k = beta2.powf(k);
        let rho_inf = 2.0 / (1.0 - beta2) - 1.0;
        let rho = rho_inf - 2.0 * k * beta2_k / (1.0 - beta2_k);
        let tractable = rho > 4.0;
        let factor = if tractable {
            ((rho - 4.0) * (rho - 2.0) * rho_inf / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho)).sqrt()
        } else {
            0.0
        };
        step.publish(Rectification { factor, tractable: tractable || self.divides_early });
        step.step_size *= factor;
    }

    fn update<B: Backend>(&self, _e: &mut Element<B, Self>) {}
}
