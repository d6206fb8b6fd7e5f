//! Rosenbrock's valley: two dimensions, for pictures of trajectories.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::random::{Purpose, generator, normal};
use crate::task::{About, Batch, Evaluation, Gradients, InitialParameter, Measure, Split, Task};

/// Where it is usually started.
const START: [f32; 2] = [-1.2, 1.0];

/// Options of a study.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    /// Standard deviation of both elements' noise in the gradient.
    noise: f64,
    /// Standard deviation of the start around (-1.2, 1).
    spread: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { noise: 0.1, spread: 0.1 }
    }
}

/// f(x, y) = (1 - x)^2 + 100 (y - x^2)^2 (Rosenbrock, 1960).
pub(crate) struct Rosenbrock {
    options: Options,
}

impl Rosenbrock {
    /// The problem of the given options.
    ///
    /// # Errors
    /// An option out of range.
    pub(crate) fn new(options: Options) -> Result<Self> {
        let Options { noise, spread } = options;
        ensure!(noise.is_finite() && noise >= 0.0, "noise = {noise} must be at least 0");
        ensure!(spread.is_finite() && spread >= 0.0, "spread = {spread} must be at least 0");
        Ok(Self { options })
    }
}

fn value(x: f64, y: f64) -> f64 {
    (1.0 - x).powi(2) + 100.0 * (y - x * x).powi(2)
}

fn point(weights: &[&[f32]]) -> (f64, f64) {
    (f64::from(weights[0][0]), f64::from(weights[0][1]))
}

impl Task for Rosenbrock {
    fn about(&self) -> About {
        let Options { noise, spread } = self.options;
        About {
            description: format!(
                "(1 - x)^2 + 100 (y - x^2)^2 from around (-1.2, 1), drawn with a standard deviation of {spread}; the gradient has \
                 normal noise of {noise}. Compared by the logarithm of f, without noise, the same for every split."
            ),
            reason:
                "A curved valley in two dimensions, which can be looked at. No statement about deep learning."
                    .into(),
            measure: Measure::LogLoss,
            target: 1e-2,
            test_examples: None,
            steps: 5000,
        }
    }

    fn initial_parameters(&self, seed: u64) -> Vec<InitialParameter> {
        let mut generator = generator(seed, Purpose::Initialisation);
        let drawn = normal(&mut generator, 2, self.options.spread as f32);
        let values = START.iter().zip(drawn).map(|(start, drawn)| start + drawn).collect();
        vec![InitialParameter::new("point", &[2], values)]
    }

    fn batch(&self, seed: u64, step: usize) -> Batch {
        Batch { seed, step, examples: Vec::new() }
    }

    /// The noise belongs to the batch: its loss is f(w) + <noise, w>.
    fn gradients(&self, weights: &[&[f32]], batch: &Batch) -> Result<Gradients> {
        let (x, y) = point(weights);
        let drawn =
            normal(&mut generator(batch.seed, Purpose::Noise(batch.step)), 2, self.options.noise as f32);
        let noise = [f64::from(drawn[0]), f64::from(drawn[1])];
        let off = y - x * x;
        let gradient = [-2.0 * (1.0 - x) - 400.0 * x * off + noise[0], 200.0 * off + noise[1]];
        let loss = value(x, y) + noise[0] * x + noise[1] * y;
        Ok(Gradients { loss, of: vec![Some(gradient.map(|g| g as f32).to_vec())] })
    }

    fn evaluate(&self, weights: &[&[f32]], _split: Split) -> Result<Evaluation> {
        let (x, y) = point(weights);
        Ok(Evaluation { loss: value(x, y), accuracy: None })
    }
}
