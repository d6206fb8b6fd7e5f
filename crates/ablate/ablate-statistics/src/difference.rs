use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::bootstrap::{Bootstrap, Interval};
use crate::joint::units;
use crate::probability::Probability;
use crate::sign_flip::sign_flip_p;
use crate::summary::{Summary, iqm, mean};

/// An arm's values against the base's, paired by seed.
///
/// The contribution of a seed to both cancels in the difference, so pairs say more than two samples.
///
/// A run without a finite value has an infinite one: the worst value if it diverged, the best one for the logarithm of
/// a loss of zero. It wins or loses its pair, whether it is the arm's or the base's, and two equal ones tie. Such a
/// pair has no difference that could be averaged. In the test it counts as plus or minus the largest finite difference
/// of the sample, so that no single pair decides. This size depends only on the pairs, and not on which run is the
/// arm's, so the test stays exact: if arm and base are exchangeable, all signs of the differences are equally likely.
///
/// ```
/// use ablate_statistics::{Bootstrap, PairedDifference};
///
/// let lost = f64::NEG_INFINITY; // an accuracy's worst value
/// let pairs = [(0.9, lost), (0.8, lost), (0.9, 0.7), (lost, lost)];
/// let found = PairedDifference::of(&pairs, &Bootstrap::default()).unwrap();
/// assert_eq!((found.n, found.finite, found.wins, found.ties), (4, 1, 3, 1));
/// assert!(found.mean.is_some_and(|mean| (mean - 0.2).abs() < 1e-12)); // of the one pair of two finite values
/// assert!((found.tested - 3_f64.sqrt()).abs() < 1e-12); // three equal differences, and 0
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// Number of pairs.
    pub n: usize,
    /// Number of pairs with two finite values, from which the means and the interval are computed.
    pub finite: usize,
    /// The mean of arm - base; absent without a finite pair.
    pub mean: Option<f64>,
    /// The interquartile mean of arm - base; absent without a finite pair.
    pub iqm: Option<f64>,
    /// The standard deviation of the finite differences; absent below two of them.
    pub sd: Option<f64>,
    /// Interval of the mean ([`Bootstrap::of_mean`]). Absent with three pairs or fewer, and if most differences are
    /// equal.
    pub interval: Option<Interval>,
    /// Statistic of the test, with the sign of the verdict: T of [`joint_sign_flip_p`](crate::joint_sign_flip_p) over
    /// all pairs. A pair without a finite difference counts as plus or minus the largest finite one, or as plus or
    /// minus 1 if all finite ones are 0. At most the root of the number of pairs.
    pub tested: f64,
    /// Its two-sided p, [`sign_flip_p`]; absent below two pairs.
    pub p: Option<f64>,
    /// Probability that a run of the arm has a higher value than one of the base. Higher may be better or worse.
    pub probability_of_higher: Probability,
    /// Number of seeds for which the arm's value is higher.
    pub wins: usize,
    /// Number of seeds with equal values.
    pub ties: usize,
}

impl PairedDifference {
    /// From (arm, base) by seed, where an infinite value is the worst or the best one. Absent without pairs, or with a
    /// NaN.
    pub fn of(pairs: &[(f64, f64)], method: &Bootstrap) -> Option<Self> {
        if pairs.is_empty() || pairs.iter().any(|(arm, base)| arm.is_nan() || base.is_nan()) {
            return None;
        }
        let finite: Vec<f64> = pairs.iter().filter_map(finite_difference).collect();
        let tested = tested_differences(pairs);
        Some(Self {
            n: pairs.len(),
            finite: finite.len(),
            mean: (!finite.is_empty()).then(|| mean(&finite)),
            iqm: iqm(&finite),
            sd: Summary::of(&finite).and_then(|summary| summary.sd),
            interval: method.of_mean(&finite),
            tested: units(&tested).iter().sum(),
            p: sign_flip_p(&tested, method.seed),
            probability_of_higher: Probability::of_higher(pairs, method.confidence)?,
            wins: pairs.iter().filter(|(arm, base)| arm > base).count(),
            ties: pairs.iter().filter(|(arm, base)| arm == base).count(),
        })
    }
}

fn finite_difference((arm, base): &(f64, f64)) -> Option<f64> {
    Some(arm - base).filter(|difference| difference.is_finite())
}

/// The differences that [`PairedDifference`] tests, for [`joint_sign_flip_p`](crate::joint_sign_flip_p): a pair without
/// a finite one counts as plus or minus the largest finite one, and two equal infinities as 0.
///
/// ```
/// use ablate_statistics::tested_differences;
///
/// let lost = f64::NEG_INFINITY;
/// assert_eq!(tested_differences(&[(2.0, 1.5), (lost, 1.0), (lost, lost)]), [0.5, -0.5, 0.0]);
/// ```
pub fn tested_differences(pairs: &[(f64, f64)]) -> Vec<f64> {
    let finite = pairs.iter().filter_map(finite_difference);
    let largest = finite.map(f64::abs).fold(0.0, f64::max);
    let largest = if largest > 0.0 { largest } else { 1.0 };
    let difference = |pair: &(f64, f64)| {
        finite_difference(pair).unwrap_or_else(|| match pair.0.partial_cmp(&pair.1) {
            Some(Ordering::Greater) => largest,
            Some(Ordering::Less) => -largest,
            _ => 0.0,
        })
    };
    pairs.iter().map(difference).collect()
}
