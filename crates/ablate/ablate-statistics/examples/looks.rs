//! Ways to look at a study while it grows, by simulation: how often an arm without effect is found at some look, how
//! often one with an effect is, and after how many seeds.
//!
//! `cargo run --release -p ablate-statistics --example looks`

#![allow(clippy::print_stdout)] // an example prints

use ablate_statistics::{Looks, joint_sign_flip_p, sequential_sign_flip};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use statrs::distribution::{ContinuousCDF, Normal};

const LEVEL: f64 = 0.05;
const MOST: usize = 14;

type Arms = Vec<Vec<Option<f64>>>;

/// After how many seeds the first arm is found, if it is.
type Way = fn(&Arms) -> Option<usize>;

fn first(arms: &Arms, seeds: usize) -> Arms {
    arms.iter().map(|arm| arm[..seeds].to_vec()).collect()
}

fn at_level(arms: &Arms, levels: impl Fn(usize, usize) -> f64) -> Option<usize> {
    let seeds = Looks::of(MOST, LEVEL).seeds;
    seeds.iter().copied().find(|&look| {
        joint_sign_flip_p(&first(arms, look), 0)[0].is_some_and(|p| p <= levels(look, seeds.len()))
    })
}

fn once(arms: &Arms) -> Option<usize> {
    joint_sign_flip_p(arms, 0)[0].filter(|p| *p <= LEVEL).map(|_| MOST)
}

fn naive(arms: &Arms) -> Option<usize> {
    at_level(arms, |_, _| LEVEL)
}

fn bonferroni(arms: &Arms) -> Option<usize> {
    at_level(arms, |_, looks| LEVEL / looks as f64)
}

fn by(arms: &Arms, looks: &Looks) -> Option<usize> {
    sequential_sign_flip(|seeds| first(arms, seeds), MOST, looks, 0)[0].as_ref()?.found
}

fn pocock(arms: &Arms) -> Option<usize> {
    by(arms, &Looks::of(MOST, LEVEL))
}

/// O'Brien and Fleming's kind: 2 - 2 Phi(z / sqrt(t)).
fn obrien_fleming(arms: &Arms) -> Option<usize> {
    let normal = Normal::standard();
    let z = normal.inverse_cdf(1.0 - LEVEL / 2.0);
    let mut looks = Looks::of(MOST, LEVEL);
    let spent = |seeds: &usize| 2.0 - 2.0 * normal.cdf(z / (*seeds as f64 / MOST as f64).sqrt());
    looks.spent = looks.seeds.iter().map(spent).collect();
    by(arms, &looks)
}

/// A product of exp(l u) / cosh(l u), mixed over l, with u the difference over the root mean square so far (de la Peña,
/// 1999; Ramdas et al., 2023): at least 20 for each of the arms, by the union bound.
fn e_process(arms: &Arms) -> Option<usize> {
    let bets: Vec<f64> = [0.25, 0.5, 1.0, 2.0].iter().flat_map(|l| [*l, -l]).collect();
    let mut logs = vec![0.0; bets.len()];
    let mut squares = 0.0;
    for (seed, difference) in arms[0].iter().flatten().enumerate() {
        squares += difference * difference;
        let unit = difference / (squares / (seed + 1) as f64).sqrt();
        for (log, bet) in logs.iter_mut().zip(&bets) {
            *log += bet * unit - (bet * unit).cosh().ln();
        }
        let mean = logs.iter().map(|log: &f64| log.exp()).sum::<f64>() / bets.len() as f64;
        if mean >= arms.len() as f64 / LEVEL {
            return Some(seed + 1);
        }
    }
    None
}

fn main() {
    sigpipe::reset(); // A reader such as `head` may end first.
    let ways: [(&str, Way); 6] = [
        ("one look, at the end", once),
        ("no correction", naive),
        ("5 % over the number of looks", bonferroni),
        ("O'Brien and Fleming's spending", obrien_fleming),
        ("Pocock's spending", pocock),
        ("e-process", e_process),
    ];
    println!("| up to {MOST} seeds | arms | no effect: found | 1 sd: found, seeds | 1.5 sd | 3 sd |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for arms in [1, 5] {
        let studies = if arms == 1 { 2000 } else { 600 };
        for (name, way) in ways {
            let mut cells = Vec::new();
            for effect in [0.0, 1.0, 1.5, 3.0] {
                let mut generator = ChaCha8Rng::seed_from_u64(1);
                let (mut found, mut seeds) = (0, 0);
                for _ in 0..studies {
                    let mut run = || -> f64 { StandardNormal.sample(&mut generator) };
                    let base: Vec<f64> = (0..MOST).map(|_| run()).collect();
                    let study: Arms = (0..arms)
                        .map(|arm| {
                            let own = if arm == 0 { effect } else { 0.0 };
                            let scale = std::f64::consts::FRAC_1_SQRT_2;
                            base.iter().map(|base| Some((run() - base) * scale + own)).collect()
                        })
                        .collect();
                    let at = way(&study);
                    found += usize::from(at.is_some());
                    seeds += at.unwrap_or(MOST);
                }
                let share = 100.0 * f64::from(found as u32) / f64::from(studies);
                let seeds = seeds as f64 / f64::from(studies);
                cells.push(if effect == 0.0 {
                    format!("{share:.1} %")
                } else {
                    format!("{share:.0} %, {seeds:.1}")
                });
            }
            println!("| {name} | {arms} | {} |", cells.join(" | "));
        }
    }
}
