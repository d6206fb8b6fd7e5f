//! Runs whose d is wrong, each for one reason, and what `diagnose` says of them.
//!
//! Run it with `cargo run --release -p examples --example d_does_not_grow`.
#![allow(clippy::print_stdout)] // an example prints

use gradient_transform::{Optimizer, Parameter, Recorder, Result, Scalar};
use half::bf16;
use prodigy_plus::{Diagnose, Options, ProdigyPlus};
use rand::{Rng, SeedableRng, rngs::StdRng};

const SIZES: [usize; 2] = [600, 300];
const BATCH: usize = 32;

/// Gradients of a linear model's mean squared error, over examples that are drawn at random. The solution is 0.2 everywhere.
fn gradients(weights: &[Vec<f32>; 2], random: &mut StdRng) -> [Vec<f32>; 2] {
    let mut gradients = SIZES.map(|size| vec![0.0; size]);
    for _ in 0..BATCH {
        let inputs =
            SIZES.map(|size| (0..size).map(|_| random.random_range(-1.0..1.0)).collect::<Vec<f32>>());
        let terms = inputs.iter().flatten().zip(weights.iter().flatten());
        let error = terms.map(|(x, w)| x * (w - 0.2)).sum::<f32>() + random.random_range(-0.1..0.1);
        for (gradient, x) in gradients.iter_mut().flatten().zip(inputs.iter().flatten()) {
            *gradient += error * x / BATCH as f32;
        }
    }
    gradients
}

/// Changes of the gradients before the optimizer sees them.
type Meddle = fn(step: usize, &mut [Vec<f32>; 2]);

/// Trains weights that begin at `start`; gives what is found.
fn train<E: Scalar + Into<f32>>(mut optimizer: Optimizer, start: E, meddle: Meddle) -> Result<Vec<String>> {
    optimizer.set_recorder(Some(Recorder::every(2)?));
    let mut random = StdRng::seed_from_u64(1);
    let [mut encoder, mut head] = SIZES.map(|size| vec![start; size]);
    for step in 1..=200 {
        let weights = [&encoder, &head].map(|values| values.iter().map(|&w| w.into()).collect());
        let mut gradients = gradients(&weights, &mut random);
        meddle(step, &mut gradients);
        let [by_encoder, by_head] = &gradients;
        optimizer.step(&mut [
            Parameter::slice(&mut encoder, None).with_gradient(by_encoder),
            Parameter::slice(&mut head, None).with_gradient(by_head),
        ])?;
    }
    Ok(optimizer.diagnose().iter().map(ToString::to_string).collect())
}

fn build(options: &Options) -> Result<Optimizer> {
    options.build([("encoder", [SIZES[0]]), ("head", [SIZES[1]])])
}

/// Two groups, of which the second one is told to estimate a twentieth.
fn build_groups(base: &Options) -> Result<Optimizer> {
    base.build_groups([
        (base.clone(), [("encoder", [SIZES[0]])]),
        (base.clone().d_coef(0.05), [("head", [SIZES[1]])]),
    ])
}

fn clip(_step: usize, gradients: &mut [Vec<f32>; 2]) {
    let norm = gradients.iter().flatten().map(|g| g * g).sum::<f32>().sqrt();
    gradients.iter_mut().flatten().for_each(|g| *g *= (1.0 / norm).min(1.0));
}

fn wrong_sign(_step: usize, gradients: &mut [Vec<f32>; 2]) {
    gradients.iter_mut().flatten().for_each(|g| *g = -*g);
}

/// Gives the runs, and what was found in each.
pub(crate) fn run() -> Result<Vec<(&'static str, Vec<String>)>> {
    let default = ProdigyPlus::builder();
    let as_they_are: Meddle = |_, _| ();
    let found = vec![
        ("as it should be", train(build(&default)?, 0.0_f32, as_they_are)?),
        ("a learning rate as for AdamW", train(build(&default.clone().lr(1e-4))?, 0.0_f32, as_they_are)?),
        ("gradients clipped to a norm of 1", train(build(&default)?, 0.0_f32, clip)?),
        (
            "bfloat16 weights about 1, rounded to the nearest",
            train(build(&default.clone().stochastic_rounding(false))?, bf16::ONE, as_they_are)?,
        ),
        ("a d0 that is too large", train(build(&default.clone().d0(0.1))?, 0.0_f32, as_they_are)?),
        ("gradients of the wrong sign", train(build(&ProdigyPlus::v2())?, 0.1_f32, wrong_sign)?),
        (
            "a group that estimates far less than another",
            train(build_groups(&default)?, 0.0_f32, as_they_are)?,
        ),
        (
            "a part that the loss does not depend on",
            train(build(&default)?, 0.1_f32, |_, gradients| gradients[1].fill(0.0))?,
        ),
        (
            "an estimate that is frozen at once",
            train(build(&default.prodigy_steps(2))?, 0.0_f32, as_they_are)?,
        ),
    ];
    for (what, sentences) in &found {
        println!("{what}:");
        for sentence in sentences {
            println!("  {sentence}");
        }
    }
    Ok(found)
}

fn main() -> Result<()> {
    run()?;
    Ok(())
}
