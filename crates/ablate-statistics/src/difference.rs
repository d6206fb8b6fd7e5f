use serde::{Deserialize, Serialize};

use crate::bootstrap::{Bootstrap, Interval};
use crate::sign_flip::sign_flip_p;
use crate::summary::{iqm, mean};

/// An arm's values against the base's, paired by seed.
///
/// What a seed contributes to both cancels out in the difference, so that pairs tell more than two samples would.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// How many pairs.
    pub n: usize,
    /// The mean of arm - base.
    pub mean: f64,
    /// The interquartile mean of arm - base.
    pub iqm: f64,
    /// The interval of the mean, [`Bootstrap::of_mean`], absent where that is: with three pairs at most, or most differences equal.
    pub interval: Option<Interval>,
    /// Two-sided p of the mean, [`sign_flip_p`]; absent below two pairs.
    pub p: Option<f64>,
    /// P(arm > base) over all pairs of a run of the one and a run of the other, ties counting half (Agarwal et al.,
    /// 2108.13264; Mann and Whitney's U over n^2). 0 to 1. It says "more", not "better".
    pub probability_of_improvement: f64,
    /// Its percentile interval, the seeds resampled; absent below three pairs.
    pub probability_interval: Option<Interval>,
    /// Seeds for which the arm's value is the higher one.
    pub wins: usize,
    /// Seeds for which both are equal.
    pub ties: usize,
}

impl PairedDifference {
    /// From (arm, base) by seed. Absent without pairs, or with a value that is not finite.
    pub fn of(pairs: &[(f64, f64)], method: &Bootstrap) -> Option<Self> {
        if pairs.iter().any(|(arm, base)| !(arm.is_finite() && base.is_finite())) {
            return None;
        }
        let differences: Vec<f64> = pairs.iter().map(|(arm, base)| arm - base).collect();
        // Each resample compares n^2 runs.
        let coarse = Bootstrap { resamples: method.resamples.min(2000), ..*method };
        Some(Self {
            n: pairs.len(),
            iqm: iqm(&differences)?,
            mean: mean(&differences),
            interval: method.of_mean(&differences),
            p: sign_flip_p(&differences, method.seed),
            probability_of_improvement: probability_of_improvement(pairs),
            probability_interval: coarse.of_pairs(pairs, probability_of_improvement),
            wins: differences.iter().filter(|difference| **difference > 0.0).count(),
            ties: differences.iter().filter(|difference| **difference == 0.0).count(),
        })
    }
}

fn probability_of_improvement(pairs: &[(f64, f64)]) -> f64 {
    let mut halves = 0_usize;
    for (arm, _) in pairs {
        for (_, base) in pairs {
            halves += usize::from(arm > base) + usize::from(arm >= base);
        }
    }
    halves as f64 / (2 * pairs.len() * pairs.len()) as f64
}
