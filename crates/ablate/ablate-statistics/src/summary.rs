use serde::{Deserialize, Serialize};

/// Centre and spread of a sample.
///
/// ```
/// let summary = ablate_statistics::Summary::of(&[1.0, 2.0, 3.0, 10.0]).unwrap();
/// assert_eq!((summary.mean, summary.median, summary.iqm), (4.0, 2.5, 2.5));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many values.
    pub n: usize,
    /// The arithmetic mean.
    pub mean: f64,
    /// The sample standard deviation, by n - 1; absent below two values, and where it is beyond all numbers.
    pub sd: Option<f64>,
    /// The median.
    pub median: f64,
    /// The interquartile mean, [`iqm`].
    pub iqm: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
}

impl Summary {
    /// Summarises a sample; absent for an empty one, or one with a value that is not finite.
    pub fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values)?;
        let n = sorted.len();
        let mean = mean(&sorted);
        let squares: f64 = sorted.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Self {
            n,
            mean,
            sd: (n > 1).then(|| (squares / (n as f64 - 1.0)).sqrt()).filter(|sd| sd.is_finite()),
            median: f64::midpoint(sorted[(n - 1) / 2], sorted[n / 2]),
            iqm: trimmed_mean(&sorted),
            min: sorted[0],
            max: sorted[n - 1],
        })
    }
}

/// The interquartile mean: that of the middle half, after floor(n / 4) values are left out at either end. Less moved by
/// a lucky or unlucky seed than the mean, and by less of the data than the median (Agarwal et al., 2108.13264).
///
/// Absent for an empty sample, or one with a value that is not finite.
///
/// ```
/// assert_eq!(ablate_statistics::iqm(&[100.0, 1.0, 2.0, 3.0]), Some(2.5));
/// ```
pub fn iqm(values: &[f64]) -> Option<f64> {
    sorted(values).map(|sorted| trimmed_mean(&sorted))
}

fn trimmed_mean(sorted: &[f64]) -> f64 {
    let out = sorted.len() / 4;
    mean(&sorted[out..sorted.len() - out])
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    // The sum of huge values may be infinite where their mean is not.
    if mean.is_finite() { mean } else { values.iter().map(|value| value / count).sum() }
}

pub(crate) fn sorted(values: &[f64]) -> Option<Vec<f64>> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(sorted)
}
