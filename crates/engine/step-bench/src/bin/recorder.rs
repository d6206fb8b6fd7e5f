//! The command line of the measurement of a recorder.

use std::io::Write;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Parser;
use gradient_transform::{Optimizer, Recorder, Scalar};
use half::bf16;
use prodigy_plus::Options;
use step_bench::bench::{Precision, Problem, named};
use step_bench::shapes::shapes;
use step_bench::threads;

/// Measures what a recorder adds to the time of a step.
///
/// Three optimizers with the default options take turns, each with the number of steps from one record to the
/// next: without a recorder, with one, and with one that measures all elements. Prints how much longer than
/// the first the other two take: the median over all rounds, and its quartiles.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Shapes to step: large (one 4096x4096), gpt (a GPT-like list), tiny, or a file with a shape per line (`24 x 768x768`)
    #[arg(long, value_name = "large|gpt|tiny|FILE", default_value = "gpt")]
    shapes: String,

    /// Element type of parameters and gradients
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Precision,

    /// Steps from one record to the next
    #[arg(long, value_name = "N", default_value_t = 10)]
    every: u64,

    /// Rounds to measure
    #[arg(long, value_name = "N", default_value_t = 20)]
    rounds: usize,

    /// Threads to use, at most one for each core
    #[arg(long, value_name = "N", default_value_t = threads::usual())]
    threads: usize,
}

fn main() -> Result<()> {
    sigpipe::reset(); // A reader such as `head` may end first.
    let arguments = Arguments::parse();
    ensure!(arguments.rounds > 0, "--rounds 0: give at least 1");
    threads::give(arguments.threads)?;
    let recorder = Recorder::every(arguments.every)?;
    let shapes = shapes(&arguments.shapes)?;
    let added = match arguments.dtype {
        Precision::F32 => measure::<f32>(&arguments, &recorder, &shapes, |x| x)?,
        Precision::Bf16 => measure::<bf16>(&arguments, &recorder, &shapes, bf16::from_f32)?,
    };
    let mut out = std::io::stdout().lock();
    for (name, mut added) in ["a sample of the blocks", "all elements"].into_iter().zip(added) {
        added.sort_by(f64::total_cmp);
        let at = |share: f64| 100.0 * added[((added.len() - 1) as f64 * share).round() as usize];
        writeln!(out, "{name}: {:+.1} % [{:+.1}, {:+.1}]", at(0.5), at(0.25), at(0.75))?;
    }
    Ok(())
}

/// Time that the two recorders add to every round, as a share of it.
fn measure<E: Scalar>(
    arguments: &Arguments,
    recorder: &Recorder,
    shapes: &[Vec<usize>],
    convert: fn(f32) -> E,
) -> Result<[Vec<f64>; 2]> {
    let mut problem = Problem::random(shapes, convert);
    let mut parameters = problem.parameters();
    let mut optimizers: Vec<Optimizer> = Vec::new();
    for recorder in [None, Some(recorder.clone()), Some(recorder.clone().all_elements())] {
        let mut optimizer = Options::default().build(named(shapes))?;
        optimizer.set_recorder(recorder);
        optimizers.push(optimizer);
    }
    let mut added = [Vec::new(), Vec::new()];
    // The first round allocates.
    for round in 0..=arguments.rounds {
        let mut seconds = Vec::new();
        for optimizer in &mut optimizers {
            let begin = Instant::now();
            for _ in 0..arguments.every {
                optimizer.step(&mut parameters)?;
            }
            seconds.push(begin.elapsed().as_secs_f64());
        }
        if round > 0 {
            added.iter_mut().zip(&seconds[1..]).for_each(|(added, with)| added.push(with / seconds[0] - 1.0));
        }
    }
    Ok(added)
}
