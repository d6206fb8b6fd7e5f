use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::joint::{Effort, Patterns, ROUNDING, Sides, for_each_pattern, units};
use crate::sign_flip::fewest_pairs;

/// Simulated studies: the share of them that finds a difference is known to 1.3 per cent.
const STUDIES: usize = 1_000;

/// Beyond, what can be found shrinks as the root of the number of seeds does.
const LARGEST: usize = 30;

/// No difference is as many standard deviations.
const MOST: f64 = 64.0;

/// The difference that [`joint_sign_flip_p`](crate::joint_sign_flip_p) finds at a level in a share `power` of studies,
/// in standard deviations of a pair's difference: by simulation of studies with normal runs of equal spread, a shared
/// base, and an effect of one arm alone.
///
/// Its relative error is about a twentieth. Absent if no verdict is possible: below [`fewest_pairs`], without arms, or
/// for a share outside 0 to 1.
///
/// ```
/// use ablate_statistics::detectable_difference;
///
/// let alone = detectable_difference(10, 1, 0.05, 0.8).unwrap();
/// assert!((0.9..1.1).contains(&alone)); // one standard deviation
/// assert!(detectable_difference(10, 14, 0.05, 0.8).unwrap() > 1.3 * alone);
/// assert_eq!(detectable_difference(5, 1, 0.05, 0.8), None);
/// ```
pub fn detectable_difference(seeds: usize, arms: usize, level: f64, power: f64) -> Option<f64> {
    let is_share = |share: f64| share > 0.0 && share < 1.0;
    if arms == 0 || seeds < fewest_pairs(level) || !is_share(level) || !is_share(power) {
        return None;
    }
    let mut generator = ChaCha8Rng::seed_from_u64(0);
    let simulated = seeds.min(LARGEST);
    let mut signs = Vec::new();
    let each_seed = |seed: usize| (0..simulated).map(|other| if other == seed { 1.0 } else { 0.0 }).collect();
    let alone: Vec<Vec<f64>> = (0..simulated).map(each_seed).collect();
    let patterns =
        for_each_pattern(&alone, simulated, Effort::PLAN, 0, |pattern| signs.push(pattern.to_vec()));
    let studies: Vec<Study> = (0..STUDIES).map(|_| Study::draw(simulated, arms, &mut generator)).collect();
    let found = |effect: f64| {
        let count = studies.iter().filter(|study| study.p(effect, &signs, patterns) <= level).count();
        count as f64 / STUDIES as f64
    };
    let mut enough = 1.0;
    while found(enough) < power {
        enough *= 2.0;
        if enough > MOST {
            return None;
        }
    }
    let mut missed = if enough > 1.0 { enough / 2.0 } else { 0.0 };
    // To a five-hundredth, which is less than the simulation knows.
    while enough - missed > 0.002 * enough {
        let middle = f64::midpoint(missed, enough);
        if found(middle) < power { missed = middle } else { enough = middle }
    }
    Some(enough * (simulated as f64 / seeds as f64).sqrt())
}

/// A study before its one effect is added.
struct Study {
    differences: Vec<f64>,
    /// By sign pattern, the largest T of the other arms.
    others: Vec<f64>,
}

impl Study {
    fn draw(seeds: usize, arms: usize, generator: &mut ChaCha8Rng) -> Self {
        let mut run = || -> f64 { StandardNormal.sample(generator) };
        let base: Vec<f64> = (0..seeds).map(|_| run()).collect();
        let mut differences = || -> Vec<f64> {
            base.iter().map(|base| (run() - base) * std::f64::consts::FRAC_1_SQRT_2).collect()
        };
        let arm = differences();
        let mut rows = vec![Vec::new(); seeds];
        for _ in 1..arms {
            for (row, unit) in rows.iter_mut().zip(units(&differences())) {
                row.push(unit);
            }
        }
        let mut others = Vec::new();
        for_each_pattern(&rows, arms - 1, Effort::PLAN, 0, |sums| {
            others.push(sums.iter().map(|sum| sum.abs()).fold(0.0, f64::max));
        });
        Self { differences: arm, others }
    }

    /// The arm's p, as if it were the first: what stands before it in a step-down test could only make it larger where
    /// it isn't.
    fn p(&self, effect: f64, signs: &[Vec<f64>], patterns: Patterns) -> f64 {
        let differences: Vec<f64> = self.differences.iter().map(|difference| difference + effect).collect();
        let units = units(&differences);
        let observed = units.iter().sum::<f64>().abs() - ROUNDING;
        let is_as_far = |(signs, others): &(&Vec<f64>, &f64)| {
            let sum: f64 = signs.iter().zip(&units).map(|(sign, unit)| sign * unit).sum();
            sum.abs().max(**others) >= observed
        };
        patterns.share(signs.iter().zip(&self.others).filter(is_as_far).count(), Sides::Two)
    }
}
