#![doc = include_str!("../README.md")]

mod displacement;

pub use displacement::DisplacementSpeed;
use gradient_transform::device::{ElementWork, FormulaElement, FormulaNumbers};
use gradient_transform::{
    Context, Estimate, Estimator, Link, Reads, Real, Result, Role, StateSpec, StepContext, Sums, TensorInfo,
    Tile,
};
use prodigy_core::Prodigy;
use serde::{Deserialize, Serialize};

/// Signed Prodigy with exponential d: an estimate of the step size that does not depend on the magnitudes of weights and gradients.
///
/// ```text
/// w            = d0 sqrt(d)
/// numerator   <- beta3 numerator + sum over tensors of w sign <g, p0 - y>
/// s           <- beta3 s + w sign(g)
/// d_hat        = atan2(d_coef * numerator, sum of |s|_1)
/// d           <- min(max(d, d_hat), d^0.975)
/// ```
///
/// The power caps the growth of d in a step: at d = 1e-6 to a factor of 1.41. The estimate counts as adapted
/// from the first step on, so clipping and atan2 always have a threshold of 1.
///
/// From the Python package prodigy-plus-schedule-free; there is no paper. Replaces [`Prodigy`] in a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Speed {
    /// d0, d_coef, beta3 and the freeze, as with [`Prodigy`].
    pub prodigy: Prodigy,
    /// Reference 1.9.2: above 1, the cap d^0.975 is below d and shrinks it. Otherwise d never falls.
    pub shrinks_above_one: bool,
}

/// The share of one tensor's weight below which a sum over tensors is rounding: well above that of a million float64 additions,
/// and below that of a float32 addition, which `sums_in_float32` reproduces.
const CANCELLED: f64 = 1e-9;

impl Speed {
    /// SPEED with the default d0 and d_coef.
    pub fn new(beta3: f64) -> Self {
        Self { prodigy: Prodigy::new(beta3), shrinks_above_one: false }
    }

    fn weight(&self, step: &StepContext) -> f64 {
        step.estimate.d.sqrt() * step.estimate.d0
    }
}

impl<T: Real> Link<T> for Speed {
    fn name(&self) -> &str {
        "speed"
    }

    fn validate(&self) -> Result<()> {
        self.prodigy.check()
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Observer
    }

    fn reads(&self) -> Reads {
        self.prodigy.samples.reads()
    }

    fn state(&self, tensor: &TensorInfo) -> StateSpec {
        self.prodigy.samples.state(tensor)
    }

    fn retired(&self, step: &StepContext) -> bool {
        !self.prodigy.is_active(step)
    }

    fn observe(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        self.prodigy.samples.observe(cx, tile, sums, self.weight(cx.step), true);
    }

    fn formula(&self, tensor: &TensorInfo, work: ElementWork, element: &mut FormulaElement<'_>) -> bool {
        self.prodigy.samples.formula(tensor, true, element);
        work == ElementWork::Observe
    }

    fn formula_numbers(&self, cx: &Context<'_>, _scratch: &[Vec<T>]) -> FormulaNumbers<T> {
        self.prodigy.samples.numbers(cx.tensor, self.weight(cx.step))
    }

    fn estimator(&self) -> Option<&dyn Estimator> {
        Some(self)
    }
}

impl Estimator for Speed {
    fn initial(&self) -> Estimate {
        self.prodigy.initial_estimate()
    }

    fn learns(&self, step: &StepContext) -> bool {
        self.prodigy.learns(step)
    }

    fn contribution(&self, cx: &Context<'_>, scalar_sums: &[f64]) -> [f64; 2] {
        self.prodigy.samples.contribution(cx.tensor, scalar_sums, self.weight(cx.step), true)
    }

    fn conclude(&self, step: &StepContext, [numerator, denominator]: [f64; 2], estimate: &mut Estimate) {
        // If the signs cancel, rounding remains; below zero it would discard the numerator.
        let cancels = numerator.abs() < CANCELLED * self.weight(step);
        let total = [if cancels { 0.0 } else { numerator }, denominator];
        if let Some(d_hat) = self.prodigy.advance(step, total, estimate) {
            let d = estimate.d;
            let cap = d.powf(0.975);
            let cap = if self.shrinks_above_one { cap } else { cap.max(d) };
            estimate.d_prev = d;
            estimate.d = d.max(d_hat).min(cap);
        }
    }
}
