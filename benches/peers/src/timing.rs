//! Times of steps.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

/// What was measured, under the names that `step-bench` uses.
#[derive(Serialize)]
pub(crate) struct Measurement {
    pub(crate) parameters: usize,
    pub(crate) min_ns: f64,
    pub(crate) median_ns: f64,
    pub(crate) max_ns: f64,
    /// The element type that the library itself names.
    pub(crate) dtype: String,
    /// Share of the parameters that the steps changed.
    pub(crate) moved: f64,
}

/// Steps to take and the times taken.
pub(crate) struct Timing {
    parameters: usize,
    warm_up: usize,
    steps: usize,
    times: Vec<Duration>,
}

impl Timing {
    pub(crate) fn new(shapes: &[Vec<usize>], warm_up: usize, steps: usize) -> Self {
        let parameters = shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
        Self { parameters, warm_up, steps, times: Vec::with_capacity(steps) }
    }

    /// Steps to take in all.
    pub(crate) fn total(&self) -> usize {
        self.warm_up + self.steps
    }

    /// Runs step number `index`, and keeps its time unless it is of the warm-up.
    pub(crate) fn time<T>(&mut self, index: usize, step: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let result = step();
        if index >= self.warm_up {
            self.times.push(begin.elapsed());
        }
        result
    }

    /// The figures, or an error if the steps did nothing.
    pub(crate) fn finish(mut self, dtype: String, before: &[f32], after: &[f32]) -> Result<Measurement> {
        if before.len() != self.parameters || after.len() != self.parameters {
            bail!("{} parameters became {}; {} were asked for", before.len(), after.len(), self.parameters);
        }
        let moved = before.iter().zip(after).filter(|(a, b)| a != b).count();
        if moved == 0 || after.iter().any(|x| !x.is_finite()) {
            bail!("the steps moved {moved} parameters, or made some of them non-finite");
        }
        self.times.sort();
        let per_parameter = |time: Duration| time.as_secs_f64() * 1e9 / self.parameters as f64;
        Ok(Measurement {
            parameters: self.parameters,
            min_ns: per_parameter(self.times[0]),
            median_ns: per_parameter(self.times[self.times.len() / 2]),
            max_ns: per_parameter(self.times[self.times.len() - 1]),
            dtype,
            moved: moved as f64 / self.parameters as f64,
        })
    }
}
