//! Checks of options.

use gradient_transform::{Error, Result};

/// A decay of a moving average.
pub(crate) fn decay(option: &'static str, value: f64) -> Result<()> {
    Error::check(option, value, (0.0..1.0).contains(&value), "at least 0 and below 1")
}

/// A number that may be 0.
pub(crate) fn not_negative(option: &'static str, value: f64) -> Result<()> {
    Error::check(option, value, value.is_finite() && value >= 0.0, "finite and at least 0")
}

/// A number that may not be 0.
pub(crate) fn positive(option: &'static str, value: f64) -> Result<()> {
    Error::check(option, value, value.is_finite() && value > 0.0, "finite and above 0")
}

/// A number between 0 and 1.
pub(crate) fn inside(option: &'static str, value: f64) -> Result<()> {
    Error::check(option, value, value > 0.0 && value < 1.0, "above 0 and below 1")
}
