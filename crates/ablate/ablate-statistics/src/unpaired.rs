use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::bootstrap::{Bootstrap, Interval};
use crate::difference::PairedDifference;
use crate::probability::Probability;
use crate::summary::mean;

/// Largest number of divisions of the runs for which all are tried.
const EXACT: u64 = 20_000;

/// Those that are drawn of more.
const DRAWN: usize = 10_000;

/// An arm's runs against the base's, without pairs by seed.
///
/// The mean is the difference of the means, and the interval Welch's (1947, *The generalization of Student's problem*),
/// which assumes means that are nearly normal and no equal spread. p is that of the permutation test of Welch's t
/// (Janssen, 1997, *Studentized permutation tests for non-i.i.d. hypotheses*; Chung and Romano, 2013, 1304.5939): exact
/// where runs of arm and base are exchangeable, and right for large samples where their spread differs; of all
/// divisions of the runs where they are few, or else of 10,000 drawn ones. A run that diverged has an infinite value,
/// which counts there as one that is as far beyond the others as these are apart.
///
/// `n` and `finite` are of the smaller sample, `tested` is t, and there is no `sd` of differences. Absent where one of
/// the two has no run, or with a NaN.
///
/// ```
/// use ablate_statistics::{Bootstrap, unpaired_difference};
///
/// let found = unpaired_difference(&[3.1, 2.9, 3.0, 3.2], &[2.0, 2.1, 1.9], &Bootstrap::default()).unwrap();
/// assert!((found.mean.unwrap() - 1.05).abs() < 1e-12 && found.interval.unwrap().low > 0.5);
/// assert_eq!((found.n, found.p), (3, Some(1.0 / 35.0))); // one of 35 divisions of seven runs
/// ```
pub fn unpaired_difference(arm: &[f64], base: &[f64], method: &Bootstrap) -> Option<PairedDifference> {
    if arm.is_empty() || base.is_empty() || arm.iter().chain(base).any(|value| value.is_nan()) {
        return None;
    }
    let finite =
        |values: &[f64]| -> Vec<f64> { values.iter().copied().filter(|value| value.is_finite()).collect() };
    let (finite_arm, finite_base) = (finite(arm), finite(base));
    let means = !finite_arm.is_empty() && !finite_base.is_empty();
    let scores = scores(arm, base);
    Some(PairedDifference {
        n: arm.len().min(base.len()),
        finite: finite_arm.len().min(finite_base.len()),
        mean: means.then(|| mean(&finite_arm) - mean(&finite_base)),
        iqm: None,
        sd: None,
        interval: welch_interval(&finite_arm, &finite_base, method.confidence),
        tested: welch_t(&scores[..arm.len()], &scores[arm.len()..]),
        p: permutation_p(&scores, arm.len(), method.seed),
        probability_of_higher: Probability::of_samples(arm, base, method.confidence)?,
        wins: 0,
        ties: 0,
    })
}

/// p of two samples whose means differ by at least `margin`: Schuirmann's two one-sided tests (1987, *A comparison of
/// the two one-sided tests procedure and the power approach*) with Welch's t, which assumes means that are nearly
/// normal and no equal spread.
///
/// p is 1 with a run that diverged, which is beyond any margin. Absent if one of the two has fewer than two runs, with
/// a NaN, without a margin above 0, and if neither sample has a spread, because nothing is known of it then.
///
/// ```
/// use ablate_statistics::unpaired_equivalence_p;
///
/// let (arm, base) = ([3.1, 2.9, 3.0, 3.2], [3.0, 3.1, 2.9]);
/// assert!(unpaired_equivalence_p(&arm, &base, 0.5).unwrap() < 0.01);
/// assert!(unpaired_equivalence_p(&arm, &base, 0.1).unwrap() > 0.2);
/// assert_eq!(unpaired_equivalence_p(&arm, &[f64::INFINITY, 3.0], 0.5), Some(1.0));
/// ```
pub fn unpaired_equivalence_p(arm: &[f64], base: &[f64], margin: f64) -> Option<f64> {
    let has_nan = arm.iter().chain(base).any(|value| value.is_nan());
    let has_margin = margin > 0.0 && margin.is_finite();
    if arm.len() < 2 || base.len() < 2 || has_nan || !has_margin {
        return None;
    }
    if arm.iter().chain(base).any(|value| value.is_infinite()) {
        return Some(1.0);
    }
    let Welch { difference, error, freedom } = Welch::of(arm, base)?;
    let student = StudentsT::new(0.0, 1.0, freedom).ok()?;
    Some(student.sf((margin - difference.abs()) / error))
}

/// The runs of both, with numbers in the place of infinities.
fn scores(arm: &[f64], base: &[f64]) -> Vec<f64> {
    let all = || arm.iter().chain(base).copied();
    let finite = || all().filter(|value| value.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let (low, high) = if low <= high { (low, high) } else { (0.0, 0.0) };
    let beyond = if high > low { high - low } else { 1.0 };
    all()
        .map(|value| match value {
            f64::INFINITY => high + beyond,
            f64::NEG_INFINITY => low - beyond,
            value => value,
        })
        .collect()
}

fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let (mean, n) = (mean(values), values.len() as f64);
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (mean, squares / (n - 1.0).max(1.0) / n)
}

/// Welch's t; infinite where both samples are constant and differ.
fn welch_t(arm: &[f64], base: &[f64]) -> f64 {
    let ((mean_of_arm, error_of_arm), (mean_of_base, error_of_base)) =
        (mean_and_error(arm), mean_and_error(base));
    let difference = mean_of_arm - mean_of_base;
    // Equal numbers differ in their last bits.
    let size = mean_of_arm.abs().max(mean_of_base.abs());
    if difference.abs() <= 1e-12 * size {
        return 0.0;
    }
    difference / (error_of_arm + error_of_base).sqrt()
}

/// The difference of two means, with its standard error and the degrees of freedom of that (Satterthwaite's).
struct Welch {
    difference: f64,
    error: f64,
    freedom: f64,
}

impl Welch {
    /// Absent where there is no spread at all.
    fn of(arm: &[f64], base: &[f64]) -> Option<Self> {
        let ((mean_of_arm, a), (mean_of_base, b)) = (mean_and_error(arm), mean_and_error(base));
        let freedom =
            (a + b).powi(2) / (a * a / (arm.len() as f64 - 1.0) + b * b / (base.len() as f64 - 1.0));
        let (difference, error) = (mean_of_arm - mean_of_base, (a + b).sqrt());
        (error > 0.0).then_some(Self { difference, error, freedom })
    }
}

fn welch_interval(arm: &[f64], base: &[f64], confidence: f64) -> Option<Interval> {
    let is_share = confidence > 0.0 && confidence < 1.0;
    if arm.len() < 2 || base.len() < 2 || !is_share {
        return None;
    }
    let Welch { difference, error, freedom } = Welch::of(arm, base)?;
    let t = StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(f64::midpoint(confidence, 1.0));
    Some(Interval { low: difference - t * error, high: difference + t * error })
}

/// Absent where all runs are of one sample in every division.
fn permutation_p(scores: &[f64], of_arm: usize, seed: u64) -> Option<f64> {
    if scores.len() < 3 {
        return None;
    }
    let t = |scores: &[f64]| welch_t(&scores[..of_arm], &scores[of_arm..]).abs();
    let observed = t(scores) * (1.0 - 1e-9);
    if divisions(scores.len(), of_arm) <= EXACT {
        let (mut as_far, mut all) = (0_u64, 0_u64);
        for_each_division(scores, of_arm, &mut |divided| {
            all += 1;
            as_far += u64::from(t(divided) >= observed);
        });
        return Some(as_far as f64 / all as f64);
    }
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn = scores.to_vec();
    let as_far = (0..DRAWN)
        .filter(|_| {
            drawn.shuffle(&mut generator);
            t(&drawn) >= observed
        })
        .count();
    Some((as_far + 1) as f64 / (DRAWN + 1) as f64)
}

/// Ways to choose so many of all; a large number where there are more.
fn divisions(all: usize, chosen: usize) -> u64 {
    let mut ways = 1_u64;
    for step in 1..=chosen.min(all - chosen) as u64 {
        match ways.checked_mul(all as u64 - step + 1) {
            Some(product) => ways = product / step,
            None => return u64::MAX,
        }
    }
    ways
}

/// Calls `each` with the arm's scores first, for every way to choose them.
fn for_each_division(scores: &[f64], of_arm: usize, each: &mut impl FnMut(&[f64])) {
    let mut chosen: Vec<usize> = (0..of_arm).collect();
    loop {
        let others = (0..scores.len()).filter(|index| !chosen.contains(index));
        let divided: Vec<f64> = chosen.iter().copied().chain(others).map(|index| scores[index]).collect();
        each(&divided);
        // The next choice in the order of a dictionary.
        let Some(last) = (0..of_arm).rev().find(|&place| chosen[place] < scores.len() - of_arm + place)
        else {
            return;
        };
        chosen[last] += 1;
        for place in last + 1..of_arm {
            chosen[place] = chosen[place - 1] + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution, StandardNormal};

    use super::*;

    #[test]
    fn all_divisions_are_tried_once() {
        let mut seen = std::collections::BTreeSet::new();
        for_each_division(&[1.0, 2.0, 3.0, 4.0, 5.0], 2, &mut |divided| {
            let mut first: Vec<u64> = divided[..2].iter().map(|score| *score as u64).collect();
            first.sort_unstable();
            assert!(seen.insert(first));
        });
        assert_eq!((seen.len() as u64, divisions(5, 2)), (10, 10));
        assert_eq!(divisions(400, 200), u64::MAX);
    }

    /// Expected: `scipy.stats.ttest_ind(arm, base, equal_var=False)` of scipy 1.17.1, and its `confidence_interval()`.
    #[test]
    fn the_interval_is_welchs() {
        let (arm, base) = ([27.5, 21.0, 19.0, 23.6, 17.0, 17.9], [27.1, 22.0, 20.8, 23.4, 23.4]);
        let interval = welch_interval(&arm, &base, 0.95).unwrap();
        assert!((welch_t(&arm, &base) + 1.209_942_060_167_906_5).abs() < 1e-12);
        assert!(
            (interval.low + 6.772_497_263_574_881).abs() < 1e-6
                && (interval.high - 2.092_497_263_574_881_8).abs() < 1e-6
        );
    }

    #[test]
    fn arms_without_effect_are_found_at_most_at_the_nominal_rate_with_unequal_samples_too() {
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        for (of_arm, of_base, spread) in [(5, 5, 1.0), (4, 9, 1.0), (8, 8, 2.0)] {
            let (mut found, mut covered) = (0, 0);
            for _ in 0..600 {
                let mut draw = |n: usize, spread: f64| -> Vec<f64> {
                    (0..n)
                        .map(|_| {
                            let x: f64 = StandardNormal.sample(&mut generator);
                            spread * x
                        })
                        .collect()
                };
                let (arm, base) = (draw(of_arm, spread), draw(of_base, 1.0));
                let difference = unpaired_difference(&arm, &base, &Bootstrap::default()).unwrap();
                found += usize::from(difference.p.unwrap() <= 0.05);
                covered += usize::from(difference.interval.unwrap().contains(0.0));
            }
            eprintln!(
                "{of_arm} and {of_base} runs, spread {spread}: found {found} of 600, covered {covered}"
            );
            assert!(found < 30 + 17 && covered > 570 - 17, "{found} {covered}");
        }
    }

    /// Expected: the larger of `t.sf((difference + margin) / error, freedom)` and `t.cdf((difference - margin) / error,
    /// freedom)` with `scipy.stats.t`.
    #[test]
    fn equivalence_is_two_one_sided_tests() {
        let (arm, base) = ([27.5, 21.0, 19.0, 23.6, 17.0, 17.9], [27.1, 22.0, 20.8, 23.4, 23.4]);
        for (margin, expected) in [(5.0, 0.102_506_496_767_502_58), (8.0, 0.009_185_843_572_317_385)] {
            let p = unpaired_equivalence_p(&arm, &base, margin).unwrap();
            assert!((p - expected).abs() < 1e-9, "{margin}: {p}");
            assert_eq!(unpaired_equivalence_p(&base, &arm, margin), Some(p));
        }
    }

    #[test]
    fn without_runs_spread_or_margin_nothing_is_equivalent() {
        let base = [1.0, 1.1, 0.9];
        assert_eq!(unpaired_equivalence_p(&[1.0], &base, 1.0), None);
        assert_eq!(unpaired_equivalence_p(&[1.0, f64::NAN], &base, 1.0), None);
        assert_eq!(unpaired_equivalence_p(&[1.0; 3], &[1.0; 3], 1.0), None);
        for margin in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(unpaired_equivalence_p(&base, &base, margin), None);
        }
    }

    #[test]
    fn a_difference_that_matters_is_called_equivalent_at_most_at_the_nominal_rate() {
        const STUDIES: usize = 10_000;
        let mut generator = ChaCha8Rng::seed_from_u64(2);
        for (of_arm, of_base, spread) in [(3, 3, 1.0), (5, 5, 1.0), (4, 9, 1.0), (8, 8, 2.0), (9, 4, 2.0)] {
            let margin = 3.0 * spread;
            let mut rate = |effect: f64| {
                let mut draw = |n: usize, mean: f64, spread: f64| -> Vec<f64> {
                    (0..n)
                        .map(|_| {
                            let x: f64 = StandardNormal.sample(&mut generator);
                            mean + spread * x
                        })
                        .collect()
                };
                let is_found = |_: &usize| {
                    let (arm, base) = (draw(of_arm, effect, spread), draw(of_base, 0.0, 1.0));
                    unpaired_equivalence_p(&arm, &base, margin).unwrap() <= 0.05
                };
                (0..STUDIES).filter(is_found).count() as f64 / STUDIES as f64
            };
            let (wrong, right) = (rate(margin), rate(0.0));
            eprintln!(
                "{of_arm} and {of_base} runs, spread {spread}: {wrong} at the margin, {right} without an effect"
            );
            assert!(wrong < 0.05 + 0.007 && right > 0.7, "{wrong} {right}");
        }
    }

    #[test]
    fn diverged_runs_are_the_worst() {
        let lost = f64::INFINITY; // a loss
        let found =
            unpaired_difference(&[lost; 5], &[1.0, 1.1, 0.9, 1.2, 1.0], &Bootstrap::default()).unwrap();
        assert!(found.p.unwrap() < 0.01 && found.tested > 0.0 && found.mean.is_none());
    }
}
