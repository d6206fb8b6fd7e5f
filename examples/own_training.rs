//! A program that trains and says what it measures, as a study can run one in any language: it is told a seed, a length and a file of
//! options, and prints a JSON object a line. `own_training.toml` is a study of it:
//!
//! `cargo build --release -p examples --bin own_training && cargo run --release -p ablate -- run examples/own_training.toml`
#![allow(clippy::print_stdout)] // That is how it is heard.

use ablate::optimizer::{ChainSpec, OptimizerSpec, Step};
use ablate::registry::Registry;
use ablate_tasks::{Evaluation, Split, Task};
use anyhow::{Context, Result};
use serde_json::json;

fn say(step: usize, split: &str, found: Evaluation) {
    println!("{}", json!({ "step": step, "split": split, "loss": found.loss }));
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().with_context(|| format!("{what} is missing"));
    let (seed, steps): (u64, usize) = (next("the seed")?.parse()?, next("the number of steps")?.parse()?);
    let options = std::fs::read_to_string(next("the file of options")?)?;

    // What is trained, and with what: here a task that ships, and the chain that the options mean.
    let registry = Registry::shipped();
    let task: Box<dyn Task> = registry.task("quadratic")?.build(&json!({ "side": 12 }))?;
    let parameters = task.initial_parameters(seed);
    let groups = vec![parameters.iter().map(|p| (p.name.clone(), p.shape.clone())).collect()];
    let chain = ChainSpec { options: serde_json::from_str(&options)?, ..ChainSpec::default() };
    let mut optimizer = OptimizerSpec::Chain(chain).build(&registry, &groups, seed, steps)?;
    let mut weights: Vec<Vec<f32>> = parameters.into_iter().map(|parameter| parameter.values).collect();

    for step in 0..=steps {
        if step % (steps / 10).max(1) == 0 || step == steps {
            let averaged = optimizer.evaluation_weights(&weights)?;
            let averaged: Vec<&[f32]> = averaged.iter().map(Vec::as_slice).collect();
            say(step, "train", task.evaluate(&averaged, Split::Train)?);
            say(step, "validation", task.evaluate(&averaged, Split::Validation)?);
            if step == steps {
                say(step, "test", task.evaluate(&averaged, Split::Test)?);
                break;
            }
        }
        // The batch depends on the seed and the step alone, and not on the options: that makes the pairs.
        let slices: Vec<&[f32]> = weights.iter().map(Vec::as_slice).collect();
        let gradients = task.gradients(&slices, &task.batch(seed, step))?;
        if let Step::UnusableGradient(_) = optimizer.step(&mut weights, &gradients.of, gradients.loss)? {
            // A loss that is no number is a result, the worst one.
            say(step + 1, "train", Evaluation { loss: f64::NAN, accuracy: None });
            break;
        }
    }
    Ok(())
}
