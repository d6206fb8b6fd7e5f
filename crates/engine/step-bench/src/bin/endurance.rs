//! The command line of the endurance run.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use gradient_transform::{Optimizer, Parameter};
use indicatif::{ProgressBar, ProgressStyle};
use peak_alloc::PeakAlloc;
use prodigy_plus::{Options, ProdigyPlus};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Steps for a long time, and checks that nothing grows or breaks.
///
/// Minimises a quadratic with permanent noise, with a few parameters for very many steps and with a million
/// parameters for many, in several chains. Prints d, Schedule-Free's sum of weights, the step counter, the
/// largest weight and the bytes that are allocated, and fails if one of them is not finite, the counter is
/// off, or memory has grown by more than 100 kB since the first fifth.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Steps of the small problem
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    steps: u64,

    /// Steps of the large problem
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    large_steps: u64,
}

/// A run of one chain on one problem, and its result.
struct Run {
    optimizer: Optimizer,
    values: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
    noise: Vec<f32>,
    done: u64,
}

/// Measurements in the middle of a run.
struct Look {
    d: f64,
    weight_sum: f64,
    largest: f32,
    counted: u64,
    allocated: usize,
}

impl Run {
    fn new(options: &Options, shapes: &[&[usize]]) -> Result<Self> {
        let named = shapes.iter().enumerate().map(|(i, shape)| (i.to_string(), *shape));
        let sizes: Vec<usize> = shapes.iter().map(|shape| shape.iter().product()).collect();
        let mut generator = StdRng::seed_from_u64(1);
        // A prime number of them, so that every step has them in other places.
        let noise = (0..4099).map(|_| generator.random_range(-1.0..1.0)).collect();
        Ok(Self {
            optimizer: options.build(named)?,
            values: sizes.iter().map(|&size| vec![1.0; size]).collect(),
            gradients: sizes.iter().map(|&size| vec![0.0; size]).collect(),
            noise,
            done: 0,
        })
    }

    fn step(&mut self) -> Result<()> {
        let mut noise = self.noise.iter().cycle().skip(self.done as usize % self.noise.len());
        for (values, gradients) in self.values.iter().zip(&mut self.gradients) {
            for ((gradient, value), noise) in gradients.iter_mut().zip(values).zip(&mut noise) {
                *gradient = value + noise;
            }
        }
        let pairs = self.values.iter_mut().zip(&self.gradients);
        let mut parameters: Vec<Parameter<'_>> =
            pairs.map(|(value, gradient)| Parameter::slice(value, Some(gradient))).collect();
        self.optimizer.step(&mut parameters)?;
        self.done += 1;
        Ok(())
    }

    fn look(&self) -> Result<Look> {
        let allocated = ALLOCATOR.current_usage();
        let scalars = &self.optimizer.snapshot().groups[0].scalars;
        Ok(Look {
            d: self.optimizer.estimate(0)?.d,
            weight_sum: scalars.get("schedule-free/weight_sum").copied().unwrap_or(f64::NAN),
            largest: self.values.iter().flatten().fold(0.0, |largest: f32, value| {
                if value.is_nan() { f32::NAN } else { largest.max(value.abs()) }
            }),
            counted: self.optimizer.steps(0)?,
            allocated,
        })
    }
}

fn chains() -> Result<Vec<(&'static str, Options)>> {
    let with = |changes: Value| serde_json::from_value::<Options>(changes);
    Ok(vec![
        ("default", ProdigyPlus::builder()),
        ("SPEED", with(json!({"use_speed": true}))?),
        ("dense ADOPT, decay", with(json!({"use_adopt": true, "factored": false, "weight_decay": 0.01}))?),
        ("frozen after 1000 steps", with(json!({"prodigy_steps": 1000}))?),
    ])
}

fn main() -> Result<ExitCode> {
    sigpipe::reset(); // A reader such as `head` may end first.
    let arguments = Arguments::parse();
    let problems: [(&[&[usize]], u64); 2] =
        [(&[&[8, 4], &[8]], arguments.steps), (&[&[1000, 1000], &[1000]], arguments.large_steps)];
    let mut out = std::io::stdout();
    let mut faults = Vec::new();
    for (shapes, steps) in problems {
        for (name, options) in chains()? {
            writeln!(out, "{name} on {shapes:?}")?;
            writeln!(out, "{:>10}{:>12}{:>14}{:>12}{:>14}", "step", "d", "weight_sum", "largest", "bytes")?;
            let bar = ProgressBar::new(steps);
            bar.set_style(ProgressStyle::with_template("{bar:32} {pos}/{len} steps, {eta} left")?);
            let mut run = Run::new(&options, shapes)?;
            let mut settled = 0;
            for tenth in 1..=10 {
                while run.done < steps * tenth / 10 {
                    run.step()?;
                    if run.done.is_multiple_of(100) {
                        bar.set_position(run.done);
                    }
                }
                let look = run.look()?;
                let Look { d, weight_sum, largest, counted, allocated } = look;
                bar.suspend(|| {
                    writeln!(
                        out,
                        "{:>10}{d:>12.3e}{weight_sum:>14.4e}{largest:>12.3}{allocated:>14}",
                        run.done
                    )
                })?;
                if !(d.is_finite() && weight_sum.is_finite() && largest.is_finite()) {
                    faults.push(format!("{name}: something is not finite at step {}", run.done));
                }
                if counted != run.done {
                    faults.push(format!("{name}: {counted} steps counted instead of {}", run.done));
                }
                // A thread's workspace comes when it first takes part, and the bar has its own few bytes.
                if tenth <= 2 {
                    settled = settled.max(allocated);
                }
                let most = settled + 100_000;
                if allocated > most {
                    faults.push(format!(
                        "{name}: {allocated} bytes at step {}, {most} at most before",
                        run.done
                    ));
                }
            }
            bar.finish_and_clear();
        }
    }
    for fault in &faults {
        writeln!(out, "FAULT {fault}")?;
    }
    writeln!(out, "{}", if faults.is_empty() { "nothing grew, nothing broke" } else { "failed" })?;
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
