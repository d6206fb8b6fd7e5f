//! Means, spreads and paired differences with their intervals.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};
use statrs::statistics::Statistics;

/// Mean and spread of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// How many values.
    pub n: usize,
    /// The arithmetic mean; not finite for an empty sample.
    pub mean: f64,
    /// The sample standard deviation (n - 1); absent below two values.
    pub sd: Option<f64>,
}

impl Summary {
    /// Summarises a sample.
    pub fn of(values: &[f64]) -> Self {
        Self { n: values.len(), mean: values.mean(), sd: (values.len() > 1).then(|| values.std_dev()) }
    }
}

/// A mean of paired differences and its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairedDifference {
    /// How many pairs.
    pub n: usize,
    /// The mean difference.
    pub mean: f64,
    /// The interval's ends, from Student's t with n - 1 degrees of freedom; absent below two pairs.
    pub interval: Option<(f64, f64)>,
}

impl PairedDifference {
    /// The difference `arm - base` over pairs of `(arm, base)`; absent without pairs.
    pub fn of(pairs: &[(f64, f64)], confidence: f64) -> Option<Self> {
        let differences: Vec<f64> = pairs.iter().map(|(arm, base)| arm - base).collect();
        if differences.is_empty() {
            return None;
        }
        let Summary { n, mean, sd } = Summary::of(&differences);
        let interval = sd.map(|sd| {
            let half_width = t_quantile(n, confidence) * sd / (n as f64).sqrt();
            (mean - half_width, mean + half_width)
        });
        Some(Self { n, mean, interval })
    }

    /// Whether the interval leaves zero out: the data then say in which direction the arm differs.
    pub fn is_resolved(&self) -> bool {
        self.interval.is_some_and(|(low, high)| low > 0.0 || high < 0.0)
    }
}

/// The two-sided quantile of Student's t for the mean of `n` values; infinite below two values.
pub fn t_quantile(n: usize, confidence: f64) -> f64 {
    match StudentsT::new(0.0, 1.0, n as f64 - 1.0) {
        Ok(distribution) => distribution.inverse_cdf(0.5 + confidence / 2.0),
        Err(_) => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(actual: f64, expected: f64) {
        assert!(
            (actual - expected).abs() <= 1e-9 * expected.abs().max(1e-3),
            "{actual} instead of {expected}"
        );
    }

    /// Expected values: `scipy.stats.t.ppf(0.975, n - 1)`, scipy 1.17.1.
    #[test]
    fn t_quantiles_agree_with_scipy() {
        for (n, expected) in [
            (2, 12.706204736174694),
            (3, 4.302652729749462),
            (5, 2.7764451051977934),
            (6, 2.5705818356363146),
            (10, 2.262157162798205),
            (20, 2.0930240544083087),
            (31, 2.0422724563012378),
        ] {
            assert_close(t_quantile(n, 0.95), expected);
        }
        assert_eq!(t_quantile(1, 0.95), f64::INFINITY);
    }

    /// Student's sleep data (1908), extra hours of sleep; expected: `scipy.stats.ttest_rel(..).confidence_interval(..)`.
    #[test]
    fn a_paired_interval_agrees_with_scipy() {
        let first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
        let second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
        let pairs: Vec<(f64, f64)> = second.into_iter().zip(first).collect();
        for (confidence, low, high) in
            [(0.95, 0.7001142367230175, 2.459885763276983), (0.9, 0.8669947329707162, 2.293005267029284)]
        {
            let difference = PairedDifference::of(&pairs, confidence).unwrap();
            assert_close(difference.mean, 1.58);
            let interval = difference.interval.unwrap();
            assert_close(interval.0, low);
            assert_close(interval.1, high);
            assert!(difference.is_resolved());
        }
    }

    #[test]
    fn the_spread_is_the_sample_standard_deviation() {
        let summary = Summary::of(&[0.9694, 0.9722, 0.9667, 0.9750, 0.9639]);
        assert_eq!(summary.n, 5);
        assert_close(summary.mean, 0.96944);
        assert_close(summary.sd.unwrap(), 0.004379840179732581);
    }

    #[test]
    fn one_pair_has_a_difference_but_no_interval() {
        let difference = PairedDifference::of(&[(2.0, 1.0)], 0.95).unwrap();
        assert_eq!((difference.mean, difference.interval), (1.0, None));
        assert!(!difference.is_resolved());
        assert_eq!(PairedDifference::of(&[], 0.95), None);
    }

    #[test]
    fn equal_differences_have_an_interval_without_width() {
        let difference = PairedDifference::of(&[(1.0, 1.0), (2.0, 2.0)], 0.95).unwrap();
        assert_eq!(difference.interval, Some((0.0, 0.0)));
        assert!(!difference.is_resolved());
    }
}
