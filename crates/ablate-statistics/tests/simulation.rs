//! Many simulated studies whose truth is known: how often the statistics say so.
#![allow(clippy::print_stdout)] // The figures are what `--nocapture` is for.

use ablate_statistics::{Bootstrap, PairedDifference, holm, sign_flip_p};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal, StandardNormal};

const SEEDS: usize = 10;

fn normal(generator: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(generator)
}

/// The share of studies of which something holds, with its standard error if that share were `nominal`.
fn share(studies: usize, nominal: f64, holds: impl FnMut(usize) -> bool) -> (f64, f64) {
    let count = (0..studies).map(holds).filter(|holds| *holds).count();
    (count as f64 / studies as f64, (nominal * (1.0 - nominal) / studies as f64).sqrt())
}

#[test]
fn a_null_study_rejects_at_its_nominal_rate() {
    let mut generator = ChaCha8Rng::seed_from_u64(1);
    let (rejected, error) = share(4000, 0.05, |_| {
        let differences: Vec<f64> = (0..SEEDS).map(|_| normal(&mut generator)).collect();
        sign_flip_p(&differences, 0).unwrap() <= 0.05
    });
    println!("rejected at 5 %: {:.2} %", 100.0 * rejected);
    // Of the 1024 sign patterns, the 51 most extreme are at most 5 %; they come in pairs.
    assert!((rejected - 50.0 / 1024.0).abs() < 3.0 * error, "{rejected}");
}

#[test]
fn a_planted_effect_is_found() {
    let mut generator = ChaCha8Rng::seed_from_u64(2);
    let (found, _) = share(1000, 0.8, |_| {
        let differences: Vec<f64> = (0..SEEDS).map(|_| 1.2 + normal(&mut generator)).collect();
        sign_flip_p(&differences, 0).unwrap() <= 0.05
    });
    println!("an effect of 1.2 standard deviations is found in {:.1} %", 100.0 * found);
    // Student's t has a power of 92 % here, and no test of the mean of normal values has more.
    assert!((0.85..=0.94).contains(&found), "{found}");
}

#[test]
fn eleven_null_arms_that_share_a_base_have_a_false_verdict_in_at_most_one_study_of_twenty() {
    let mut generator = ChaCha8Rng::seed_from_u64(3);
    let mut uncorrected = 0;
    let (false_verdicts, error) = share(1000, 0.05, |_| {
        let base: Vec<f64> = (0..SEEDS).map(|_| normal(&mut generator)).collect();
        let p: Vec<Option<f64>> = (0..11)
            .map(|_| {
                let differences: Vec<f64> = base.iter().map(|base| normal(&mut generator) - base).collect();
                sign_flip_p(&differences, 0)
            })
            .collect();
        uncorrected += usize::from(p.iter().flatten().any(|p| *p <= 0.05));
        holm(&p).into_iter().flatten().any(|p| p <= 0.05)
    });
    println!(
        "a false verdict: {:.1} % with Holm's correction, {:.1} % without",
        100.0 * false_verdicts,
        uncorrected as f64 / 10.0
    );
    assert!(false_verdicts < 0.05 + 3.0 * error, "{false_verdicts}");
    assert!(uncorrected > 150, "without the correction it would not be needed: {uncorrected}");
}

#[test]
fn a_base_and_an_arm_that_diverge_equally_often_have_a_verdict_at_most_at_the_nominal_rate() {
    let mut generator = ChaCha8Rng::seed_from_u64(6);
    for (seeds, diverging) in
        [(6, 0.5), (8, 0.1), (10, 0.05), (10, 0.1), (10, 0.3), (10, 0.5), (10, 0.9), (20, 0.2)]
    {
        let (rejected, error) = share(if seeds > 14 { 200 } else { 2000 }, 0.05, |_| {
            let mut run =
                || if generator.random_bool(diverging) { f64::NEG_INFINITY } else { normal(&mut generator) };
            let pairs: Vec<(f64, f64)> = (0..seeds).map(|_| (run(), run())).collect();
            let method = Bootstrap { resamples: 0, ..Bootstrap::default() };
            PairedDifference::of(&pairs, &method).unwrap().p.unwrap() <= 0.05
        });
        println!("{seeds} seeds, of which {diverging} diverge: rejected at 5 %: {:.2} %", 100.0 * rejected);
        assert!(rejected < 0.05 + 3.0 * error, "{seeds} {diverging}: {rejected}");
    }
}

#[test]
fn an_arm_that_diverges_more_often_than_its_base_is_found_to_be_worse() {
    let mut generator = ChaCha8Rng::seed_from_u64(7);
    for (diverging, expected) in [(0.3, 0.15), (0.6, 0.5), (0.9, 0.95)] {
        let (found, _) = share(1000, 0.8, |_| {
            let run = |generator: &mut ChaCha8Rng, lost| {
                if generator.random_bool(lost) { f64::NEG_INFINITY } else { normal(generator) }
            };
            let pairs: Vec<(f64, f64)> =
                (0..SEEDS).map(|_| (run(&mut generator, diverging), run(&mut generator, 0.0))).collect();
            let method = Bootstrap { resamples: 0, ..Bootstrap::default() };
            let difference = PairedDifference::of(&pairs, &method).unwrap();
            difference.p.unwrap() <= 0.05 && difference.tested_mean < 0.0
        });
        println!("an arm of which {diverging} diverge is found in {:.1} %", 100.0 * found);
        assert!(found > expected, "{diverging}: {found}");
    }
}

/// The share of intervals that contain the true mean: bootstrap-t, and percentile.
fn coverage(draw: impl Fn(&mut ChaCha8Rng) -> f64, truth: f64) -> (f64, f64) {
    let mut generator = ChaCha8Rng::seed_from_u64(4);
    let mut percentile = 0;
    let (covered, _) = share(600, 0.95, |study| {
        let values: Vec<f64> = (0..SEEDS).map(|_| draw(&mut generator)).collect();
        let method = Bootstrap { resamples: 999, seed: study as u64, ..Bootstrap::default() };
        percentile += usize::from(percentile_interval_contains(&values, truth, &mut generator));
        method.of_mean(&values).is_none_or(|interval| interval.contains(truth))
    });
    (covered, percentile as f64 / 600.0)
}

fn percentile_interval_contains(values: &[f64], truth: f64, generator: &mut ChaCha8Rng) -> bool {
    let mut means: Vec<f64> = (0..999)
        .map(|_| (0..SEEDS).map(|_| values[generator.random_range(0..SEEDS)]).sum::<f64>() / SEEDS as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    (means[24]..=means[974]).contains(&truth)
}

#[test]
fn intervals_contain_the_truth_as_often_as_they_say() {
    let (normal_t, normal_percentile) = coverage(normal, 0.0);
    let skewed = LogNormal::new(0.0, 0.5).unwrap();
    let (skewed_t, skewed_percentile) = coverage(|generator| skewed.sample(generator), (0.125_f64).exp());
    println!(
        "coverage of 95 % intervals, normal differences: bootstrap-t {normal_t:.3}, percentile {normal_percentile:.3}; \
         lognormal: {skewed_t:.3}, {skewed_percentile:.3}"
    );
    // Three standard errors of 600 studies are 2.7 points.
    assert!((0.923..=0.98).contains(&normal_t) && skewed_t > 0.91, "{normal_t} {skewed_t}");
    assert!(normal_t > normal_percentile && skewed_t > skewed_percentile);
}

#[test]
fn the_same_pairs_have_the_same_answer_again() {
    let mut generator = ChaCha8Rng::seed_from_u64(5);
    let pairs: Vec<(f64, f64)> =
        (0..SEEDS).map(|_| (0.3 + normal(&mut generator), normal(&mut generator))).collect();
    let method = Bootstrap::default();
    assert_eq!(PairedDifference::of(&pairs, &method), PairedDifference::of(&pairs, &method));
}
