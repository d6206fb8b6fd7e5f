//! The documented options, by their documented names and defaults, and how a group's own options override them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::OracleError;

/// The options that belong to the whole optimizer, so that no group can have its own.
const NOT_OF_A_GROUP: [&str; 4] = ["line", "split_groups", "split_groups_mean", "fused_back_pass"];

/// A line of the reference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Line {
    /// 1.9.2.
    #[default]
    #[serde(rename = "1.9.2")]
    First,
    /// 2.0.1.
    #[serde(rename = "2.0.1")]
    Second,
}

/// The reference's options, of both lines. `fused_back_pass` says who calls the reference, not what it computes, and is ignored here;
/// `stochastic_rounding` says whether bfloat16 parameters are computed upon in float32, and all rounding is to nearest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)] // The names are the documentation's own.
pub struct Options {
    pub line: Line,
    pub lr: f64,
    pub betas: (f64, f64),
    pub beta3: Option<f64>,
    pub weight_decay: f64,
    pub weight_decay_by_lr: bool,
    pub use_bias_correction: bool,
    pub d0: f64,
    pub d_coef: f64,
    pub d_limiter: bool,
    pub prodigy_steps: u64,
    pub use_schedulefree: bool,
    pub schedulefree_c: f64,
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
            line: Line::First,
            lr: 1.0,
            betas: (0.9, 0.99),
            beta3: None,
            weight_decay: 0.0,
            weight_decay_by_lr: true,
            use_bias_correction: false,
            d0: 1e-6,
            d_coef: 1.0,
            d_limiter: false,
            prodigy_steps: 0,
            use_schedulefree: true,
            schedulefree_c: 0.0,
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
    /// The documented defaults of a line.
    pub fn of_line(line: Line) -> Options {
        match line {
            Line::First => Options::default(),
            Line::Second => Options { line, d_limiter: true, split_groups_mean: false, ..Options::default() },
        }
    }

    /// Reads the constructor's options and resolves what the constructor resolves: the default of beta3 in 1.9.2, and which of
    /// two options that exclude each other gives way.
    pub fn of_constructor(given: &Map<String, Value>) -> Result<Options, OracleError> {
        let line = given.get("line").cloned().map(serde_json::from_value).transpose()?.unwrap_or_default();
        let mut options = Options::of_line(line).with(given)?;
        if line == Line::First {
            options.beta3 = options.beta3.or(Some(options.betas.1.sqrt()));
        }
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
    /// constructor's beta2 in 1.9.2, and that a group can combine what the constructor would not, is what the reference does.
    pub fn of_group(&self, overrides: &Map<String, Value>) -> Result<Options, OracleError> {
        if let Some(name) = NOT_OF_A_GROUP.iter().find(|name| overrides.contains_key(**name)) {
            return Err(OracleError::NotOfAGroup(name));
        }
        let options = self.with(overrides)?;
        let is_first = options.line == Line::First;
        for (name, is_of_the_other_line) in [
            ("d_limiter", is_first && options.d_limiter),
            ("use_schedulefree", is_first && !options.use_schedulefree),
            ("schedulefree_c", is_first && options.schedulefree_c != 0.0),
            ("use_muon_pp", !is_first && options.use_muon_pp),
        ] {
            if is_of_the_other_line {
                return Err(OracleError::OfTheOtherLine(name));
            }
        }
        if options.betas.0 <= 0.0 && options.use_schedulefree {
            return Err(OracleError::Beta1IsZero);
        }
        Ok(options)
    }

    fn with(&self, given: &Map<String, Value>) -> Result<Options, OracleError> {
        let mut merged = serde_json::to_value(self)?;
        if let Value::Object(merged) = &mut merged {
            merged.extend(given.clone());
        }
        Ok(serde_json::from_value(merged)?)
    }

    /// beta3, or the root of the group's own beta2; in 1.9.2, [`Options::of_constructor`] has set it before.
    pub fn beta3(&self) -> f64 {
        self.beta3.unwrap_or(self.betas.1.sqrt())
    }
}
