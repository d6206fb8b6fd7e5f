use gradient_transform::{
    Backend, Element, Error, GradientTransform, MomentDecay, Result, StepContext, transform,
};
use serde::{Deserialize, Serialize};

/// Adafactor's decay of second moments, which rises with the step: `beta2_k = 1 - k^-power` in step k.
///
/// It replaces `beta2` in the second moments of the chain, [`crate::FactoredMoment`] and
/// [`crate::DenseMoment`], before and after it. At first it is 0, so that the moment starts with the first
/// square and needs no bias correction (Shazeer and Stern, 1804.04235, section 7.2). k counts the group's
/// steps, as in optax.
///
/// Belongs anywhere before the writer; keeps nothing.
///
/// ```
/// use factored_moment::{DenseMoment, RisingDecay};
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let chain = (RisingDecay { power: 1.0 }, DenseMoment::new(0.99), Descent::default());
/// let mut optimizer: Optimizer<f64> = Optimizer::new_in(chain, [("w", [1])])?;
/// let mut w = [0.0];
/// // The mean of the squares so far: 4, and then (4 + 12)/2.
/// for (gradient, expected) in [(2.0, -1.0), (-12.0_f64.sqrt(), -1.0 + 1.5_f64.sqrt())] {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[gradient]))])?;
///     assert!((w[0] - expected).abs() < 1e-7);
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RisingDecay {
    /// The power of the step with which the weight of a new square falls, above 0. Default 0.8.
    pub power: f64,
}

impl Default for RisingDecay {
    fn default() -> Self {
        Self { power: 0.8 }
    }
}

#[transform("rising-decay")]
impl GradientTransform for RisingDecay {
    fn validate(&self) -> Result<()> {
        let valid = self.power.is_finite() && self.power > 0.0;
        Error::check("power", self.power, valid, "finite and above 0")
    }

    fn excludes(&self) -> &[(&'static str, &'static str)] {
        &[("rectify", "a moment whose decay rises has no bias to correct; keep one")]
    }

    fn begin_step(&self, _scalars: &[f64], step: &mut StepContext) {
        step.publish(MomentDecay(1.0 - (step.k as f64).powf(-self.power)));
    }

    fn update<B: Backend>(&self, _e: &mut Element<B, Self>) {}
}
