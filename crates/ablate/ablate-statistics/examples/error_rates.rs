//! How often the corrected tests say something, in many simulated studies of arms that share a base.
//!
//! `cargo run --release -p ablate-statistics --example error_rates` prints the tables of this crate's README: 20,000
//! studies a row. With a number it is of so many studies.
#![allow(clippy::print_stdout)]

use std::env;

use ablate_statistics::{
    Probability, detectable_difference, holm, joint_sign_flip_p, sign_flip_p, tested_differences,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution, Exp1, LogNormal, StandardNormal, StudentT};

const LEVEL: f64 = 0.05;

type Draw = fn(&mut ChaCha8Rng) -> f64;

/// How runs of a study are drawn.
struct Model {
    name: &'static str,
    draw: Draw,
    /// The spread of the last arm as a multiple of the first one's; the others' lie between.
    unequal: f64,
    /// The share of pairs that are missing.
    missing: f64,
    /// The share of runs that diverge.
    diverging: f64,
}

const PLAIN: Model = Model { name: "normal runs", draw: normal, unequal: 1.0, missing: 0.0, diverging: 0.0 };

fn normal(generator: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(generator)
}

fn heavy(generator: &mut ChaCha8Rng) -> f64 {
    StudentT::new(2.1).map_or(0.0, |t| t.sample(generator))
}

fn accuracy(generator: &mut ChaCha8Rng) -> f64 {
    Binomial::new(360, 0.977).map_or(0.0, |correct| correct.sample(generator) as f64 / 360.0)
}

fn chance(generator: &mut ChaCha8Rng) -> f64 {
    Binomial::new(144, 0.017).map_or(0.0, |correct| correct.sample(generator) as f64 / 144.0)
}

fn exponential(generator: &mut ChaCha8Rng) -> f64 {
    let value: f64 = Exp1.sample(generator);
    value - 1.0
}

fn lognormal(generator: &mut ChaCha8Rng) -> f64 {
    LogNormal::new(0.0, 1.0).map_or(0.0, |lognormal| lognormal.sample(generator) - 0.5_f64.exp())
}

/// Differences by arm and seed of a study with these effects, in standard deviations of a difference of normal runs.
fn study(model: &Model, seeds: usize, effects: &[f64], generator: &mut ChaCha8Rng) -> Vec<Vec<Option<f64>>> {
    let lost = |generator: &mut ChaCha8Rng| model.diverging > 0.0 && generator.random_bool(model.diverging);
    let mut base = || {
        let value = (model.draw)(generator);
        if lost(generator) { f64::NEG_INFINITY } else { value }
    };
    let base: Vec<f64> = (0..seeds).map(|_| base()).collect();
    let last = effects.len().saturating_sub(1).max(1) as f64;
    let arm = |(index, effect): (usize, &f64)| {
        let spread = model.unequal.powf(index as f64 / last);
        let mut run = || {
            let value = spread * (model.draw)(generator) + effect * std::f64::consts::SQRT_2;
            if lost(generator) { f64::NEG_INFINITY } else { value }
        };
        let pairs: Vec<(f64, f64)> = base.iter().map(|base| (run(), *base)).collect();
        let mut is_there = || model.missing == 0.0 || !generator.random_bool(model.missing);
        let present: Vec<bool> = pairs.iter().map(|_| is_there()).collect();
        let kept: Vec<(f64, f64)> =
            pairs.into_iter().zip(&present).filter_map(|(pair, present)| present.then_some(pair)).collect();
        let mut tested = tested_differences(&kept).into_iter();
        present.iter().map(|present| if *present { tested.next() } else { None }).collect()
    };
    effects.iter().enumerate().map(arm).collect()
}

fn alone(arms: &[Vec<Option<f64>>]) -> Vec<Option<f64>> {
    let p = |arm: &Vec<Option<f64>>| sign_flip_p(&arm.iter().copied().flatten().collect::<Vec<_>>(), 0);
    arms.iter().map(p).collect()
}

/// Of the studies: those with a false verdict, after the joint test, after Holm, uncorrected.
fn false_verdicts(model: &Model, seeds: usize, effects: &[f64], studies: usize) -> [f64; 3] {
    let mut generator = ChaCha8Rng::seed_from_u64(1);
    let mut counts = [0_usize; 3];
    for _ in 0..studies {
        let arms = study(model, seeds, effects, &mut generator);
        let single = alone(&arms);
        for (count, p) in counts.iter_mut().zip([&joint_sign_flip_p(&arms, 0), &holm(&single), &single]) {
            let is_false =
                |(p, effect): (&Option<f64>, &f64)| *effect == 0.0 && p.is_some_and(|p| p <= LEVEL);
            *count += usize::from(p.iter().zip(effects).any(is_false));
        }
    }
    counts.map(|count| count as f64 / studies as f64)
}

/// How the one effect adds to an arm's run, for an effect of a size.
type Effect = fn(f64, &mut ChaCha8Rng) -> f64;

/// The same for every seed.
fn equal(effect: f64, _: &mut ChaCha8Rng) -> f64 {
    effect
}

/// Of one sign, and skewed.
fn skewed(effect: f64, generator: &mut ChaCha8Rng) -> f64 {
    effect * (1.0 + exponential(generator))
}

/// Five times as large on one seed of seven.
fn now_and_then(effect: f64, generator: &mut ChaCha8Rng) -> f64 {
    if generator.random_bool(1.0 / 7.0) { 5.0 * effect } else { effect }
}

/// Of the studies: those that find the first arm's effect, after the joint test, the same of plain differences, after
/// Holm, uncorrected.
fn power(draw: Draw, adds: Effect, seeds: usize, arms: usize, effect: f64, studies: usize) -> [f64; 4] {
    let mut generator = ChaCha8Rng::seed_from_u64(2);
    let mut counts = [0_usize; 4];
    for _ in 0..studies {
        let mut all = study(&Model { draw, ..PLAIN }, seeds, &vec![0.0; arms], &mut generator);
        for difference in all[0].iter_mut().flatten() {
            *difference += adds(effect, &mut generator) * std::f64::consts::SQRT_2;
        }
        // The root of a square is plain.
        let square = |difference: &Option<f64>| difference.map(|difference| difference * difference.abs());
        let squares: Vec<Vec<Option<f64>>> = all.iter().map(|arm| arm.iter().map(square).collect()).collect();
        let single = alone(&all);
        let tests = [&joint_sign_flip_p(&all, 0), &joint_sign_flip_p(&squares, 0), &holm(&single), &single];
        for (count, p) in counts.iter_mut().zip(tests) {
            *count += usize::from(p[0].is_some_and(|p| p <= LEVEL));
        }
    }
    counts.map(|count| count as f64 / studies as f64)
}

/// Of studies without an effect: those with a verdict at any of the looks, if a seed is added after each.
fn looks(arms: usize, first: usize, last: usize, studies: usize) -> f64 {
    let mut generator = ChaCha8Rng::seed_from_u64(3);
    let count = (0..studies).filter(|_| {
        let all = study(&PLAIN, last, &vec![0.0; arms], &mut generator);
        (first..=last).any(|seeds| {
            let seen: Vec<Vec<Option<f64>>> = all.iter().map(|arm| arm[..seeds].to_vec()).collect();
            joint_sign_flip_p(&seen, 0).into_iter().flatten().any(|p| p <= LEVEL)
        })
    });
    count.count() as f64 / studies as f64
}

/// Of studies of so many tasks without an effect: those with a verdict that is corrected within its task, and over all
/// tasks.
fn tasks(tasks: usize, studies: usize) -> [f64; 2] {
    let mut generator = ChaCha8Rng::seed_from_u64(4);
    let mut counts = [0_usize; 2];
    for _ in 0..studies {
        let all: Vec<_> = (0..tasks).map(|_| study(&PLAIN, 10, &[0.0; 14], &mut generator)).collect();
        let is_false = |arms: &Vec<Vec<Option<f64>>>| {
            joint_sign_flip_p(arms, 0).into_iter().flatten().any(|p| p <= LEVEL)
        };
        counts[0] += usize::from(all.iter().any(is_false));
        counts[1] += usize::from(is_false(&all.concat()));
    }
    counts.map(|count| count as f64 / studies as f64)
}

/// Runs of an arm and a base whose spreads are as 1 to `spread`, by seed, and the probability that the arm's is higher.
fn pairs(effect: f64, spread: f64, seeds: usize, generator: &mut ChaCha8Rng) -> Vec<(f64, f64)> {
    (0..seeds).map(|_| (effect + normal(generator), spread * normal(generator))).collect()
}

/// P(better run) of normal runs, by a large sample.
fn truth(effect: f64, spread: f64) -> f64 {
    let mut generator = ChaCha8Rng::seed_from_u64(5);
    let is_higher = |_: &usize| {
        let difference = effect + (1.0 + spread * spread).sqrt() * normal(&mut generator);
        difference > 0.0
    };
    (0..4_000_000_usize).filter(is_higher).count() as f64 / 4e6
}

/// The coverage and the mean width of intervals of P(better run).
fn coverage(effect: f64, spread: f64, seeds: usize, studies: usize) -> (f64, f64) {
    let (mut generator, truth) = (ChaCha8Rng::seed_from_u64(6), truth(effect, spread));
    let (mut covered, mut width) = (0, 0.0);
    for _ in 0..studies {
        let pairs = pairs(effect, spread, seeds, &mut generator);
        let Some(interval) = Probability::of_higher(&pairs, 0.95).and_then(|found| found.interval) else {
            continue;
        };
        covered += usize::from(interval.contains(truth));
        width += interval.high - interval.low;
    }
    (covered as f64 / studies as f64, width / studies as f64)
}

/// The same of its mean over six tasks.
fn coverage_of_mean(seeds: usize, studies: usize) -> f64 {
    const EFFECTS: [f64; 6] = [0.0, 0.0, 1.0, 2.0, 3.0, -1.0];
    let mut generator = ChaCha8Rng::seed_from_u64(7);
    let truth = EFFECTS.iter().map(|effect| truth(*effect, 1.0)).sum::<f64>() / 6.0;
    let covers = |_: &usize| {
        let of = |effect: &f64| Probability::of_higher(&pairs(*effect, 1.0, seeds, &mut generator), 0.95);
        let tasks: Vec<Probability> = EFFECTS.iter().filter_map(of).collect();
        let interval = Probability::mean(&tasks).and_then(|mean| mean.interval);
        interval.is_some_and(|interval| interval.contains(truth))
    };
    (0..studies).filter(covers).count() as f64 / studies as f64
}

fn main() {
    sigpipe::reset(); // A reader such as `head` may end first.
    let studies = env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(20_000);
    let models = [
        PLAIN,
        Model { name: "t with 2.1 degrees of freedom", draw: heavy, ..PLAIN },
        Model { name: "accuracies, 360 examples at 97.7 %", draw: accuracy, ..PLAIN },
        Model { name: "accuracies, 144 examples at 1.7 %", draw: chance, ..PLAIN },
        Model { name: "normal, spreads from 1 to 5", unequal: 5.0, ..PLAIN },
        Model { name: "normal, spreads from 1 to 1/5", unequal: 0.2, ..PLAIN },
        Model { name: "normal, a fifth of the pairs missing", missing: 0.2, ..PLAIN },
        Model { name: "normal, spreads from 1 to 5, a fifth missing", unequal: 5.0, missing: 0.2, ..PLAIN },
        Model { name: "normal, a tenth of the runs diverged", diverging: 0.1, ..PLAIN },
        Model { name: "normal, half of the runs diverged", diverging: 0.5, ..PLAIN },
        Model { name: "exponential runs", draw: exponential, ..PLAIN },
        Model { name: "lognormal runs", draw: lognormal, ..PLAIN },
        Model { name: "exponential, spreads from 1 to 5", draw: exponential, unequal: 5.0, ..PLAIN },
    ];
    println!("a false verdict, 14 arms | seeds | joint | Holm | uncorrected");
    for model in &models {
        for seeds in [6, 8, 10] {
            let [joint, holm, single] = false_verdicts(model, seeds, &[0.0; 14], studies);
            println!("{} | {seeds} | {joint:.3} | {holm:.3} | {single:.3}", model.name);
        }
    }
    println!("\na false verdict beside three arms of 3 sd, 14 arms | seeds | joint | Holm | uncorrected");
    let effects = [[3.0; 3].as_slice(), &[0.0; 11]].concat();
    for model in &models[..8] {
        let [joint, holm, single] = false_verdicts(model, 10, &effects, studies);
        println!("{} | 10 | {joint:.3} | {holm:.3} | {single:.3}", model.name);
    }
    let [by_task, over_all] = tasks(6, studies);
    println!(
        "\na false verdict, six tasks, 14 arms, 10 seeds: corrected by task {by_task:.3}, over all tasks {over_all:.3}"
    );
    println!("\na false verdict at any look | arms | looks at seeds | ");
    for (arms, first, last) in [(1, 6, 10), (1, 6, 14), (14, 6, 10), (14, 6, 14)] {
        println!(
            "a seed more each time | {arms} | {first} to {last} | {:.3}",
            looks(arms, first, last, studies / 4)
        );
    }
    println!("\nfound | arms | seeds | joint | of plain differences | Holm | uncorrected");
    for arms in [5, 14] {
        for seeds in [8, 10, 12] {
            for effect in [0.5, 1.0, 1.5, 2.0] {
                let [joint, plain, holm, single] = power(normal, equal, seeds, arms, effect, studies);
                println!(
                    "{effect} sd | {arms} | {seeds} | {joint:.3} | {plain:.3} | {holm:.3} | {single:.3}"
                );
            }
        }
    }
    let others: [(&str, Draw, Effect); 4] = [
        ("t with 2.1 degrees of freedom", heavy, equal),
        ("lognormal runs", lognormal, equal),
        ("an effect that is exponential over the seeds", normal, skewed),
        ("an effect five times as large on one seed of seven", normal, now_and_then),
    ];
    for (name, draw, adds) in others {
        let [joint, plain, holm, single] = power(draw, adds, 10, 14, 1.5, studies);
        println!("{name}, 1.5 | 14 | 10 | {joint:.3} | {plain:.3} | {holm:.3} | {single:.3}");
    }
    println!("\narms | seeds | found in 80 % by plan, sd | found");
    for arms in [1, 5, 14, 31] {
        for seeds in [6, 8, 10, 14, 20] {
            let Some(effect) = detectable_difference(seeds, arms, LEVEL, 0.8) else { continue };
            // Patterns are drawn for twenty seeds, and a study takes longer.
            let studies = if seeds > 12 { studies / 20 } else { studies / 4 };
            let [joint, ..] = power(normal, equal, seeds, arms, effect, studies);
            println!("{arms} | {seeds} | {effect:.2} | {joint:.3}");
        }
    }
    println!("\nP(better run) | spreads | seeds | 95 % intervals that contain it | their width");
    for spread in [1.0, 4.0] {
        for effect in [0.0, 0.5, 1.0, 2.0, 3.0] {
            for seeds in [4, 5, 10, 20] {
                let (covered, width) = coverage(effect, spread, seeds, studies);
                let truth = truth(effect, spread);
                println!("{truth:.2} | 1 to {spread} | {seeds} | {covered:.3} | {width:.2}");
            }
        }
    }
    for seeds in [4, 5, 10, 20] {
        println!("mean of six tasks | 1 to 1 | {seeds} | {:.3}", coverage_of_mean(seeds, studies));
    }
}
