use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use crate::bootstrap::Interval;

/// Fewer pairs than this say nothing of how runs differ.
const FEWEST: usize = 4;

/// The probability that a run of the arm has a higher value than a run of the base.
///
/// ```
/// use ablate_statistics::Probability;
///
/// let pairs = [(3.0, 1.0), (4.0, 2.0), (2.5, 1.5), (3.5, 2.2)];
/// let higher = Probability::of_higher(&pairs, 0.95).unwrap();
/// assert_eq!(higher.value, 1.0);
/// let interval = higher.interval.unwrap();
/// assert!(interval.low > 0.5 && interval.low < 0.6 && interval.high == 1.0); // four runs of each are not certain
/// assert_eq!(higher.of_lower().interval.unwrap().high, 1.0 - interval.low);
/// let even = Probability::of_higher(&[(1.0, 2.0), (2.0, 1.0), (3.0, 3.0), (4.0, 4.0)], 0.95).unwrap();
/// assert_eq!(Probability::mean(&[higher, even]).unwrap().value, 0.75);
/// assert_eq!(Probability::of_samples(&[3.0, 1.0], &[2.0], 0.95).unwrap().value, 0.5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Probability {
    /// Over all pairs of a run of the one and a run of the other the share in which the arm's is higher, ties counting
    /// half (Agarwal et al., 2108.13264; Mann and Whitney's U over n^2).
    pub value: f64,
    /// Its interval; absent below four pairs.
    pub interval: Option<Interval>,
}

impl Probability {
    /// From (arm, base) by seed, with Newcombe's (2006) interval, his method 5: all probabilities P from which the
    /// observed share is no farther than z standard errors, with the error that it would have at that P,
    ///
    /// P (1 - P) / n^2 (1 + (n - 1) ((1 - P) / (2 - P) + P / (1 + P))).
    ///
    /// As Wilson's interval of a share it has a width also where one arm wins always. The error is that of runs that
    /// don't depend on each other; where pairs rise and fall together, the interval is wider than need be.
    ///
    /// Absent without pairs, or with a NaN. Infinite values are higher or lower than all others.
    pub fn of_higher(pairs: &[(f64, f64)], confidence: f64) -> Option<Self> {
        let (arm, base): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        Self::of_samples(&arm, &base, confidence)
    }

    /// The same of samples that need not be as large as each other, n and m: in place of n^2 there is n m, and in place
    /// of n - 1 half of n + m less 1.
    pub fn of_samples(arm: &[f64], base: &[f64], confidence: f64) -> Option<Self> {
        if arm.is_empty() || base.is_empty() || arm.iter().chain(base).any(|value| value.is_nan()) {
            return None;
        }
        let mut halves = 0_usize;
        for arm in arm {
            for base in base {
                halves += usize::from(arm > base) + usize::from(arm >= base);
            }
        }
        let (n, m) = (arm.len(), base.len());
        let value = halves as f64 / (2 * n * m) as f64;
        Some(Self { value, interval: interval(value, (n, m), confidence) })
    }

    /// Probability of a lower value.
    #[must_use]
    pub fn of_lower(self) -> Self {
        let turned = |Interval { low, high }| Interval { low: 1.0 - high, high: 1.0 - low };
        Self { value: 1.0 - self.value, interval: self.interval.map(turned) }
    }

    /// Mean of several independent probabilities, with the interval that Zou and Donner (2008) recover from theirs: the
    /// distance of an end from the mean is the root of the sum of squares of the others' distances, over their number.
    /// Absent without any; without an interval if one has none.
    pub fn mean(of: &[Self]) -> Option<Self> {
        let count = of.len() as f64;
        let value = of.iter().map(|one| one.value).sum::<f64>() / count;
        let distance = |end: fn(&Interval) -> f64| {
            let distances =
                of.iter().map(|one| one.interval.as_ref().map(|interval| end(interval) - one.value));
            let squares: Option<f64> = distances.map(|distance| distance.map(|d| d * d)).sum();
            squares.map(|squares| squares.sqrt() / count)
        };
        let low = distance(|interval| interval.low).map(|distance| (value - distance).max(0.0));
        let high = distance(|interval| interval.high).map(|distance| (value + distance).min(1.0));
        let interval = low.zip(high).map(|(low, high)| Interval { low, high });
        (!of.is_empty()).then_some(Self { value, interval })
    }
}

fn interval(value: f64, (n, m): (usize, usize), confidence: f64) -> Option<Interval> {
    let is_share = confidence > 0.0 && confidence < 1.0;
    if n.min(m) < FEWEST || !is_share {
        return None;
    }
    let z = Normal::standard().inverse_cdf(f64::midpoint(confidence, 1.0));
    let is_near = |p: f64| (value - p).abs() <= z * standard_error(p, n as f64, m as f64);
    // The error of a probability of 0 or 1 is 0, so that these are near only where they were observed.
    let end = |outside: f64| {
        if is_near(outside) {
            return outside;
        }
        let (mut outside, mut inside) = (outside, value);
        // Halved until it is a number of this precision.
        for _ in 0..60 {
            let middle = f64::midpoint(outside, inside);
            if is_near(middle) { inside = middle } else { outside = middle }
        }
        inside
    };
    Some(Interval { low: end(0.0), high: end(1.0) })
}

fn standard_error(p: f64, n: f64, m: f64) -> f64 {
    let among = (f64::midpoint(n, m) - 1.0) * ((1.0 - p) / (2.0 - p) + p / (1.0 + p));
    (p * (1.0 - p) * (1.0 + among)).sqrt() / (n * m).sqrt()
}

/// The standard error of an observed share of `n` independent events, by the binomial distribution.
///
/// ```
/// assert_eq!(ablate_statistics::error_of_share(0.5, 100), 0.05);
/// ```
pub fn error_of_share(share: f64, n: usize) -> f64 {
    (share * (1.0 - share) / n as f64).sqrt()
}
