use std::fmt;

use serde::{Deserialize, Serialize};

/// Course of the learning rate over a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Always the same.
    Constant,
    /// In a straight line from zero to its full height over the first tenth of the run.
    WarmUp,
    /// In a straight line to zero at the end.
    LinearDecay,
}

/// One candidate of a tuning grid.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The schedule from there.
    pub schedule: Schedule,
}

impl Setting {
    /// The learning rate of `step` (counted from 0) in a run of `steps`.
    pub fn at(&self, step: usize, steps: usize) -> f64 {
        let (step, steps) = (step as f64, steps.max(1) as f64);
        match self.schedule {
            Schedule::Constant => self.learning_rate,
            Schedule::WarmUp => self.learning_rate * (10.0 * (step + 1.0) / steps).min(1.0),
            Schedule::LinearDecay => self.learning_rate * (1.0 - step / steps),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.schedule {
            Schedule::Constant => write!(f, "lr {}", self.learning_rate),
            Schedule::WarmUp => write!(f, "lr 0 → {}", self.learning_rate),
            Schedule::LinearDecay => write!(f, "lr {} → 0", self.learning_rate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_ends_at_a_tenth() {
        let setting = Setting { learning_rate: 0.1, schedule: Schedule::WarmUp };
        assert!((setting.at(0, 100) - 0.01).abs() < 1e-12);
        assert_eq!((setting.at(9, 100), setting.at(99, 100)), (0.1, 0.1));
    }

    #[test]
    fn linear_decay_ends_one_step_above_zero() {
        let setting = Setting { learning_rate: 0.1, schedule: Schedule::LinearDecay };
        assert_eq!(setting.at(0, 10), 0.1);
        assert!((setting.at(9, 10) - 0.01).abs() < 1e-12);
    }
}
