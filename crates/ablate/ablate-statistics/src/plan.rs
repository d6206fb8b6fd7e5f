use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use statrs::distribution::{ChiSquared, ContinuousCDF};

use crate::bootstrap::Interval;
use crate::joint::{Column, Effort, Sides, step_down};
use crate::power::detectable_difference;
use crate::sign_flip::fewest_pairs;

/// Numbers of seeds that are simulated; between them is interpolated, and beyond, what can be found shrinks as their
/// root grows.
const SIMULATED: [usize; 6] = [6, 8, 10, 14, 20, 30];

/// Arms of simulated studies, of which the share that is found equivalent is known to about two per cent.
const ARMS: usize = 400;

/// Nobody runs as many.
const MOST: f64 = 10_000.0;

/// Number of seeds that a study needs, by the size of a difference in standard deviations of a pair's difference.
///
/// For normal runs of equal spread that share a base, by simulation of the tests themselves.
///
/// ```
/// use ablate_statistics::SeedPlan;
///
/// let plan = SeedPlan::of_difference(1, 0.05, 0.8).unwrap();
/// assert_eq!(plan.seeds(5.0), Some(6)); // there is no verdict of fewer
/// assert!(plan.seeds(1.0).is_some_and(|seeds| (9..=12).contains(&seeds)));
/// assert!(plan.seeds(0.1) > plan.seeds(0.2) && plan.seeds(0.0).is_none());
/// // To be sure that there is none takes no fewer than to find one of the same size.
/// let none = SeedPlan::of_equivalence(1, 0.05, 0.8).unwrap();
/// assert!(none.seeds(1.0) >= plan.seeds(1.0));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SeedPlan {
    /// Seeds, and the smallest size that they find, both from the fewest seeds on.
    sizes: Vec<(usize, f64)>,
}

impl SeedPlan {
    /// To find a difference of one arm of so many at a level, in a share `power` of studies, as
    /// [`detectable_difference`] has it. Absent without arms, or for a share that is none.
    pub fn of_difference(arms: usize, level: f64, power: f64) -> Option<Self> {
        Self::of(level, |seeds| detectable_difference(seeds, arms, level, power))
    }

    /// To establish, by [`joint_equivalence_p`](crate::joint_equivalence_p), that an arm's difference is smaller than a
    /// margin, where there is none; of so many arms of which none makes a difference. Absent as above.
    pub fn of_equivalence(arms: usize, level: f64, power: f64) -> Option<Self> {
        Self::of(level, |seeds| smallest_margin(seeds, arms, level, power))
    }

    fn of(level: f64, size: impl Fn(usize) -> Option<f64>) -> Option<Self> {
        let seeds = SIMULATED.into_iter().filter(|seeds| *seeds >= fewest_pairs(level));
        let mut sizes: Vec<(usize, f64)> = Vec::new();
        for seeds in seeds {
            // More seeds find no less, whatever a simulation says.
            let found = size(seeds)?.min(sizes.last().map_or(f64::INFINITY, |(_, size)| *size));
            sizes.push((seeds, found));
        }
        (!sizes.is_empty()).then_some(Self { sizes })
    }

    /// The seeds for a size; absent for one that is none, or that takes more than ten thousand.
    pub fn seeds(&self, size: f64) -> Option<usize> {
        let (first, last) = (self.sizes.first()?, self.sizes.last()?);
        if size.is_nan() || size <= 0.0 {
            return None;
        }
        if size >= first.1 {
            return Some(first.0);
        }
        let between = |(one, other): (&(usize, f64), &(usize, f64))| {
            if size < other.1 || one.1 <= other.1 {
                return None;
            }
            let share = (one.1 / size).ln() / (one.1 / other.1).ln();
            Some((one.0 as f64).ln() + share * (other.0 as f64 / one.0 as f64).ln())
        };
        let seeds = match self.sizes.iter().zip(&self.sizes[1..]).find_map(between) {
            Some(logarithm) => logarithm.exp(),
            None => last.0 as f64 * (last.1 / size).powi(2),
        };
        // A rounding error is no seed.
        (seeds <= MOST).then(|| (seeds - 1e-9).ceil() as usize)
    }
}

/// The smallest margin that a share of arms without an effect is found to be within.
fn smallest_margin(seeds: usize, arms: usize, level: f64, power: f64) -> Option<f64> {
    let is_share = |share: f64| share > 0.0 && share < 1.0;
    if arms == 0 || !is_share(level) || !is_share(power) {
        return None;
    }
    let mut generator = ChaCha8Rng::seed_from_u64(0);
    let mut run = || -> f64 { StandardNormal.sample(&mut generator) };
    let studies: Vec<Vec<Vec<f64>>> = (0..ARMS.div_ceil(arms))
        .map(|_| {
            let base: Vec<f64> = (0..seeds).map(|_| run()).collect();
            let mut arm =
                || base.iter().map(|base| (run() - base) * std::f64::consts::FRAC_1_SQRT_2).collect();
            (0..arms).map(|_| arm()).collect()
        })
        .collect();
    let found = |margin: f64| {
        let equivalent: usize = studies.iter().map(|study| within(study, margin, level)).sum();
        equivalent as f64 / (studies.len() * arms) as f64
    };
    let mut enough = 1.0;
    while found(enough) < power {
        enough *= 2.0;
        if enough > MOST {
            return None;
        }
    }
    let mut missed = if enough > 1.0 { enough / 2.0 } else { 0.0 };
    while enough - missed > 0.01 * enough {
        let middle = f64::midpoint(missed, enough);
        if found(middle) < power { missed = middle } else { enough = middle }
    }
    Some(enough)
}

/// Number of arms of a study that are found to be within a margin.
fn within(study: &[Vec<f64>], margin: f64, level: f64) -> usize {
    let columns = study.iter().enumerate().flat_map(|(arm, differences)| {
        [1.0, -1.0].into_iter().filter_map(move |sign| {
            let shifted: Vec<Option<f64>> = differences.iter().map(|d| Some(margin + sign * d)).collect();
            Column::of(arm, &shifted, Sides::One)
        })
    });
    let mut is_within = vec![true; study.len()];
    for (arm, p) in step_down(columns.collect(), 0, Sides::One, Effort::PLAN) {
        is_within[arm] &= p <= level;
    }
    is_within.into_iter().filter(|is_within| *is_within).count()
}

/// Interval of a standard deviation that was estimated from normal values, by chi-squared: the precision of a pilot's
/// spread, and so of the number of seeds. Absent below two values.
///
/// ```
/// use ablate_statistics::spread_interval;
///
/// let of_four = spread_interval(1.0, 4, 0.9).unwrap();
/// assert!((of_four.low - 0.62).abs() < 0.01 && (of_four.high - 2.92).abs() < 0.01); // sqrt(3 / 7.815), sqrt(3 / 0.352)
/// assert!(spread_interval(1.0, 30, 0.9).unwrap().high < 1.3 && spread_interval(1.0, 1, 0.9).is_none());
/// ```
pub fn spread_interval(sd: f64, n: usize, confidence: f64) -> Option<Interval> {
    if n < 2 || !(confidence > 0.0 && confidence < 1.0) {
        return None;
    }
    let freedom = n as f64 - 1.0;
    let chi_squared = ChiSquared::new(freedom).ok()?;
    let end = |share: f64| sd * (freedom / chi_squared.inverse_cdf(share)).sqrt();
    let tail = (1.0 - confidence) / 2.0;
    Some(Interval { low: end(1.0 - tail), high: end(tail) })
}
