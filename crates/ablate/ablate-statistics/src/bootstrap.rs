use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::joint::ROUNDING;
use crate::summary::mean;

/// A drawn sample whose error is a smaller share of the sample's is of one value repeated, or nearly so: what the mean
/// of such a sample is away from the sample's, over that error, is as good as infinite, and as a number it would be the
/// end of an interval.
const NO_SPREAD: f64 = 0.01;

/// The ends of an interval.
///
/// ```
/// use ablate_statistics::Interval;
///
/// let interval = Interval { low: -1.0, high: 0.5 };
/// assert!(interval.contains(0.0) && !interval.contains(1.0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// Whether a value lies within, ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// Method of the intervals: samples are drawn from the sample.
///
/// ```
/// use ablate_statistics::Bootstrap;
/// let interval = Bootstrap::default().of_mean(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
/// assert!(interval.low < 2.0 && interval.contains(3.0) && interval.high > 4.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Share of intervals that should contain the true value, between 0 and 1; there is no interval for another one.
    /// Default 0.95.
    pub confidence: f64,
    /// Samples drawn. Default 10,000.
    pub resamples: usize,
    /// Seed of the draws. Default 0.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { confidence: 0.95, resamples: 10_000, seed: 0 }
    }
}

impl Bootstrap {
    /// The bootstrap-t interval of the mean (Efron and Tibshirani, 1993, chapter 12): with t* = (mean* - mean) / se* of
    /// every drawn sample, it goes from mean - t*_(1 - a) se to mean - t*_(a) se. It is as wide as few values ask for,
    /// and follows a skewed sample.
    ///
    /// Absent below three values, where all values are equal, which says that they hardly differ and not by how much,
    /// and where drawn samples of one value repeated, or of values that are nearly equal, fill a tail, so that its end
    /// is open: with three values at the default confidence, or where most of them are equal. Values are equal where
    /// they differ by roundings.
    pub fn of_mean(&self, values: &[f64]) -> Option<Interval> {
        let n = values.len();
        if n < 3 || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let (centre, error) = mean_and_error(values);
        let largest = values.iter().map(|value| value.abs()).fold(0.0, f64::max);
        if error <= ROUNDING * largest {
            return None;
        }
        let mut drawn = vec![0.0; n];
        let mut generator = ChaCha8Rng::seed_from_u64(self.seed);
        let mut ratios: Vec<f64> = (0..self.resamples)
            .map(|_| {
                for value in &mut drawn {
                    *value = values[generator.random_range(0..n)];
                }
                let (drawn_centre, drawn_error) = mean_and_error(&drawn);
                let distance = drawn_centre - centre;
                if distance.abs() <= ROUNDING * error {
                    0.0
                } else if drawn_error <= NO_SPREAD * error {
                    distance * f64::INFINITY
                } else {
                    distance / drawn_error
                }
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        let (low, high) = self.tails(&ratios)?;
        Some(Interval { low: centre - high * error, high: centre - low * error })
            .filter(|interval| interval.low.is_finite() && interval.high.is_finite())
    }

    /// The quantiles that leave half of 1 - confidence out at either end, interpolated.
    fn tails(&self, sorted: &[f64]) -> Option<(f64, f64)> {
        if !(0.0..=1.0).contains(&self.confidence) {
            return None;
        }
        let tail = (1.0 - self.confidence) / 2.0;
        Some((quantile(sorted, tail)?, quantile(sorted, 1.0 - tail)?))
    }
}

fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let position = share * (sorted.len().checked_sub(1)? as f64);
    let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    // Equal infinities have no difference.
    Some(if below == above { below } else { below + position.fract() * (above - below) })
}

fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let (n, centre) = (values.len() as f64, mean(values));
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    (centre, (squares / (n - 1.0) / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_with_an_open_end_is_absent() {
        let method = Bootstrap::default();
        assert_eq!(method.of_mean(&[1.0, 2.0, 3.0]), None); // 1 sample of 27 is three times the largest value
        assert_eq!(method.of_mean(&[1.0, 1.0, 1.0, 1.0, 2.0]), None);
        assert_eq!(method.of_mean(&[1.0, 1.0]), None);
        assert_eq!(method.of_mean(&[1.0, 1.0, 1.0]), None);
        assert_eq!(method.of_mean(&[0.0; 10]), None);
        assert!(method.of_mean(&[1.0, 2.0, 3.0, 4.0]).is_some());
    }

    #[test]
    fn a_confidence_that_is_no_share_gives_no_interval() {
        for confidence in [-0.1, 1.5, f64::NAN, f64::INFINITY] {
            let method = Bootstrap { confidence, ..Bootstrap::default() };
            assert_eq!(method.of_mean(&[1.0, 2.0, 3.0, 4.0, 5.0]), None, "{confidence}");
        }
        let none = Bootstrap { resamples: 0, ..Bootstrap::default() };
        assert_eq!(none.of_mean(&[1.0, 2.0, 3.0, 4.0, 5.0]), None);
    }
}
