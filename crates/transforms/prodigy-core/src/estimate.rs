//! The variants of the estimate.

use gradient_transform::Estimate;
use serde::{Deserialize, Serialize};

/// Weight of a step's gradients in the estimate, as a function of the step's d.
///
/// ```
/// use gradient_transform::Estimate;
/// use prodigy_core::Weighting;
///
/// let estimate = Estimate { d: 4.0, ..Estimate::new(0.25) };
/// assert_eq!(Weighting::Root.weight(&estimate), 2.0);
/// assert_eq!(Weighting::Squared.weight(&estimate), 16.0 / 0.5);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weighting {
    /// `sqrt(d)`: reference 1.9.2. Gradients from before d grew keep their influence for long.
    #[default]
    Root,
    /// `d^2 / sqrt(d0)`: the paper's weight up to a constant, and reference 2.0.1's. The newest gradients
    /// outweigh the others while d grows.
    Squared,
}

impl Weighting {
    /// The weight at an estimate.
    pub fn weight(self, estimate: &Estimate) -> f64 {
        match self {
            Self::Root => estimate.d.sqrt(),
            Self::Squared => estimate.d * estimate.d / estimate.d0.sqrt(),
        }
    }
}

/// How numerator and denominator make d_hat.
///
/// ```
/// use prodigy_core::Ratio;
///
/// assert_eq!(Ratio::Quotient.of(6.0, 2.0), 3.0);
/// assert_eq!(Ratio::Arctangent.of(6.0, 2.0), 3.0_f64.atan());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ratio {
    /// `atan2(numerator, denominator)`, at most pi/2: reference 1.9.2.
    #[default]
    Arctangent,
    /// `numerator / denominator`, unbounded: the paper, and reference 2.0.1. 0 where the denominator is 0.
    Quotient,
}

impl Ratio {
    /// The ratio of two sums, of which the denominator is not negative.
    pub fn of(self, numerator: f64, denominator: f64) -> f64 {
        match self {
            Self::Arctangent => numerator.atan2(denominator),
            Self::Quotient if denominator > 0.0 => numerator / denominator,
            Self::Quotient => 0.0,
        }
    }
}

/// Effect of a step's negative sum on the numerator, once d has left d0. Until then it is ignored.
///
/// ```
/// use prodigy_core::Negative;
///
/// assert_eq!((Negative::Replaces.next(3.0, -2.0), Negative::Adds.next(3.0, -2.0)), (-2.0, 1.0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Negative {
    /// The numerator becomes the smaller of the two: reference 1.9.2.
    #[default]
    Replaces,
    /// It is added: the paper, and reference 2.0.1.
    Adds,
}

impl Negative {
    /// The numerator after a negative sum.
    pub fn next(self, numerator: f64, sum: f64) -> f64 {
        match self {
            Self::Replaces => numerator.min(sum),
            Self::Adds => numerator + sum,
        }
    }
}
