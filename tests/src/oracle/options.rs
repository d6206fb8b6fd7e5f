//! The documented options, by their documented names and defaults, and how a group's own options override them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::OracleError;

/// The options that belong to the whole optimizer, so that no group can have its own.
const NOT_OF_A_GROUP: [&str; 3] = ["split_groups", "split_groups_mean", "fused_back_pass"];

/// The reference's options. `fused_back_pass` says who calls the reference, not what it computes, and is ignored here;
/// `stochastic_rounding` says whether bfloat16 parameters are computed upon in float32, and all rounding is to nearest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)] // The names are the documentation's own.
pub struct Options {
    pub lr: f64,
    pub betas: (f64, f64),
    pub beta3: Option<f64>,
    pub weight_decay: f64,
    pub weight_decay_by_lr: bool,
    pub use_bias_correction: bool,
    pub d0: f64,
    pub d_coef: f64,
    pub prodigy_steps: u64,
    pub use_speed: bool,
    pub eps: Option<f64>,
    pub split_groups: bool,
    pub split_groups_mean: bool,
    pub factored: bool,
    pub factored_fp32: bool,
    pub fused_back_pass: bool,
    pub use_stableadamw: bool,
    pub use_muon_pp: bool,
    pub use_cautious: bool,
    pub use_grams: bool,
    pub use_adopt: bool,
    pub use_orthograd: bool,
    pub use_focus: bool,
    pub stochastic_rounding: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            lr: 1.0,
            betas: (0.9, 0.99),
            beta3: None,
            weight_decay: 0.0,
            weight_decay_by_lr: true,
            use_bias_correction: false,
            d0: 1e-6,
            d_coef: 1.0,
            prodigy_steps: 0,
            use_speed: false,
            eps: Some(1e-8),
            split_groups: true,
            split_groups_mean: true,
            factored: true,
            factored_fp32: true,
            fused_back_pass: false,
            use_stableadamw: true,
            use_muon_pp: false,
            use_cautious: false,
            use_grams: false,
            use_adopt: false,
            use_orthograd: false,
            use_focus: false,
            stochastic_rounding: true,
        }
    }
}

impl Options {
    /// Reads the constructor's options and resolves what the constructor resolves: the default of beta3, and which of two
    /// options that exclude each other gives way.
    pub fn of_constructor(given: &Map<String, Value>) -> Result<Options, OracleError> {
        let mut options: Options = serde_json::from_value(Value::Object(given.clone()))?;
        options.beta3 = options.beta3.or(Some(options.betas.1.sqrt()));
        if options.eps.is_none() {
            options.use_stableadamw = false;
        }
        if options.use_cautious {
            options.use_grams = false;
        }
        if options.use_focus {
            options.factored = false;
            options.use_muon_pp = false;
        }
        Ok(options)
    }

    /// These options with a group's own in their place. Nothing is resolved again: that beta3 comes from the
    /// constructor's beta2, and that a group can combine what the constructor would not, is what the reference does.
    pub fn of_group(&self, overrides: &Map<String, Value>) -> Result<Options, OracleError> {
        if let Some(name) = NOT_OF_A_GROUP.iter().find(|name| overrides.contains_key(**name)) {
            return Err(OracleError::NotOfAGroup(name));
        }
        let mut merged = serde_json::to_value(self)?;
        if let Value::Object(merged) = &mut merged {
            merged.extend(overrides.clone());
        }
        let options: Options = serde_json::from_value(merged)?;
        if options.betas.0 <= 0.0 {
            return Err(OracleError::Beta1IsZero);
        }
        Ok(options)
    }

    /// beta3, after [`Options::of_constructor`] has resolved its default; a group's explicit `None` falls back on its
    /// own beta2.
    pub fn beta3(&self) -> f64 {
        self.beta3.unwrap_or(self.betas.1.sqrt())
    }
}
