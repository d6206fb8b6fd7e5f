//! One measurement.

use std::time::Instant;

use anyhow::{Result, bail};
use gradient_transform::{Optimizer, Parameter, Scalar};
use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::fused::Fused;

/// Measurements.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// Number of parameters stepped.
    pub parameters: usize,
    /// Nanoseconds per parameter and step: the least.
    pub min_ns: f64,
    /// The median.
    pub median_ns: f64,
    /// The largest.
    pub max_ns: f64,
    /// Bytes per parameter that one step moves, by the engine's plan.
    pub planned_bytes: f64,
    /// The largest number of sweeps over a tensor.
    pub sweeps: usize,
    /// Planned bytes over the median time, in GB/s.
    pub gigabytes_per_second: f64,
    /// Bytes of state per parameter.
    pub state_bytes: f64,
}

/// The element type of parameters and gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float32
    F32,
    /// bfloat16
    Bf16,
}

/// Random parameters with random gradients.
#[derive(Clone, Debug)]
pub struct Problem<E> {
    values: Vec<Vec<E>>,
    gradients: Vec<Vec<E>>,
}

impl<E: Scalar> Problem<E> {
    /// The same numbers for the same shapes. `convert` converts float32 to the element type.
    pub fn random(shapes: &[Vec<usize>], convert: fn(f32) -> E) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut tensors = |scale: f32| -> Vec<Vec<E>> {
            let mut tensor = |n: usize| (0..n).map(|_| convert(random.random_range(-scale..scale))).collect();
            shapes.iter().map(|shape| tensor(shape.iter().product())).collect()
        };
        Self { values: tensors(0.1), gradients: tensors(0.01) }
    }

    /// Time of a step.
    pub fn parameters(&mut self) -> Vec<Parameter<'_>> {
        self.values
            .iter_mut()
            .zip(&self.gradients)
            .map(|(value, gradient)| Parameter::slice(value, Some(gradient)))
            .collect()
    }
}

/// The shapes with names, as an optimizer registers them.
pub fn named(shapes: &[Vec<usize>]) -> Vec<(String, &[usize])> {
    shapes.iter().enumerate().map(|(i, shape)| (i.to_string(), shape.as_slice())).collect()
}

/// Steps random parameters of the given shapes with random gradients, `warm_up` times and then `steps` times.
///
/// # Errors
/// An option that the optimizer rejects.
pub fn measure(
    make: impl FnOnce(&[(String, &[usize])]) -> Result<Optimizer<f32>>,
    shapes: &[Vec<usize>],
    precision: Precision,
    warm_up: usize,
    steps: usize,
) -> Result<Measurement> {
    let optimizer = make(&named(shapes))?;
    match precision {
        Precision::F32 => run::<f32>(optimizer, shapes, warm_up, steps, |x| x),
        Precision::Bf16 => run::<bf16>(optimizer, shapes, warm_up, steps, bf16::from_f32),
    }
}

/// The same for the step written out by hand.
///
/// # Errors
/// Shapes other than one matrix of the kind that [`Fused::new`] takes.
pub fn measure_fused(shapes: &[Vec<usize>], warm_up: usize, steps: usize) -> Result<Measurement> {
    let [shape] = shapes else { bail!("the hand-fused step takes one matrix, not {} tensors", shapes.len()) };
    let &[rows, columns] = &shape[..] else { bail!("the hand-fused step takes a matrix, not {shape:?}") };
    let Problem { mut values, gradients } = Problem::<f32>::random(shapes, |x| x);
    let (value, gradient) = (&mut values[0], &gradients[0]);
    let mut fused = Fused::new(rows, columns, value)?;
    let times = time(value.len(), warm_up, steps, || {
        fused.step(value, gradient);
        Ok(())
    })?;
    // The bytes of the engine's plan for the same work.
    let samples = value.len().div_ceil(11) as f64 / value.len() as f64;
    Ok(Measurement::new(
        value.len(),
        times,
        28.0 + 12.0 * samples,
        3,
        fused.bytes() as f64 / value.len() as f64,
    ))
}

fn run<E: Scalar>(
    mut optimizer: Optimizer<f32>,
    shapes: &[Vec<usize>],
    warm_up: usize,
    steps: usize,
    convert: fn(f32) -> E,
) -> Result<Measurement> {
    let mut problem = Problem::random(shapes, convert);
    let mut parameters = problem.parameters();
    let count: usize = shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
    let times = time(count, warm_up, steps, || {
        optimizer.step(&mut parameters)?;
        Ok(())
    })?;
    let (bytes, sweeps) = optimizer.planned_traffic();
    let state = optimizer.state_bytes() as f64 / count as f64;
    Ok(Measurement::new(count, times, bytes as f64 / count as f64, sweeps, state))
}

/// Nanoseconds per parameter of every step, in order of size.
fn time(
    count: usize,
    warm_up: usize,
    steps: usize,
    mut step: impl FnMut() -> Result<()>,
) -> Result<Vec<f64>> {
    if steps == 0 {
        bail!("at least one step must be measured");
    }
    let mut times = Vec::with_capacity(steps);
    for number in 0..warm_up + steps {
        let begin = Instant::now();
        step()?;
        if number >= warm_up {
            times.push(begin.elapsed().as_secs_f64() * 1e9 / count as f64);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

impl Measurement {
    fn new(parameters: usize, times: Vec<f64>, planned_bytes: f64, sweeps: usize, state_bytes: f64) -> Self {
        let median_ns = times[times.len() / 2];
        Self {
            parameters,
            min_ns: times[0],
            median_ns,
            max_ns: times[times.len() - 1],
            planned_bytes,
            sweeps,
            gigabytes_per_second: planned_bytes / median_ns,
            state_bytes,
        }
    }
}
