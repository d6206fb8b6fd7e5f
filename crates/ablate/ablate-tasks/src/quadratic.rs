//! A noisy, ill-conditioned quadratic: where everything is known.

use anyhow::{Result, ensure};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::random::{Purpose, generator, normal};
use crate::task::{About, Batch, Evaluation, Gradients, InitialParameter, Measure, Split, Task};

/// The problem is the same for every run.
const PROBLEM_SEED: u64 = 2;

/// Options of a study.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    /// Side of the parameter, a square matrix.
    side: usize,
    /// The largest curvature over the smallest.
    condition: f64,
    /// Standard deviation of every element's noise in the gradient.
    noise: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { side: 24, condition: 1e3, noise: 1e-2 }
    }
}

/// f(w) = sum of `lambda_i` `(Q (w - w*))_i^2` / 2.
pub(crate) struct Quadratic {
    options: Options,
    curvatures: Vec<f64>,
    /// Unit vectors whose reflections, one after the other, are Q.
    mirrors: [Vec<f64>; 3],
    solution: Vec<f64>,
}

impl Quadratic {
    /// The problem of the given options.
    ///
    /// # Errors
    /// An option out of range.
    pub(crate) fn new(options: Options) -> Result<Self> {
        let Options { side, condition, noise } = options;
        ensure!((1..=256).contains(&side), "side = {side} must be from 1 to 256");
        ensure!(condition.is_finite() && condition >= 1.0, "condition = {condition} must be at least 1");
        ensure!(noise.is_finite() && noise >= 0.0, "noise = {noise} must be at least 0");
        let n = side * side;
        let mut generator = ChaCha8Rng::seed_from_u64(PROBLEM_SEED);
        let mut draw = || -> Vec<f64> { StandardNormal.sample_iter(&mut generator).take(n).collect() };
        let mirrors = [draw(), draw(), draw()].map(|mut mirror| {
            let norm = mirror.iter().map(|x| x * x).sum::<f64>().sqrt();
            mirror.iter_mut().for_each(|x| *x /= norm);
            mirror
        });
        let exponent = |i: usize| i as f64 / (n.max(2) - 1) as f64;
        Ok(Self {
            curvatures: (0..n).map(|i| condition.powf(-exponent(i))).collect(),
            mirrors,
            solution: draw(),
            options,
        })
    }

    /// Q (w - w*).
    fn rotated(&self, weights: &[f32]) -> Vec<f64> {
        let mut distance: Vec<f64> =
            weights.iter().zip(&self.solution).map(|(w, s)| f64::from(*w) - s).collect();
        for mirror in &self.mirrors {
            reflect(&mut distance, mirror);
        }
        distance
    }

    fn value(&self, rotated: &[f64]) -> f64 {
        rotated.iter().zip(&self.curvatures).map(|(x, curvature)| curvature * x * x / 2.0).sum()
    }
}

/// Householder's reflection.
fn reflect(vector: &mut [f64], mirror: &[f64]) {
    let along: f64 = vector.iter().zip(mirror).map(|(x, m)| x * m).sum();
    for (x, m) in vector.iter_mut().zip(mirror) {
        *x -= 2.0 * along * m;
    }
}

impl Task for Quadratic {
    fn about(&self) -> About {
        let Options { side, condition, noise } = self.options;
        About {
            description: format!(
                "A quadratic in {0} dimensions, a {side}x{side} matrix, its curvatures spaced evenly by their logarithms from \
                 1 to 1/{condition}, turned by three fixed reflections so that no axis is special. The gradient has normal \
                 noise of {noise} in every element. Compared by the logarithm of f - f*, without noise, the same for every split.",
                side * side
            ),
            reason: "Everything is known, and nothing stops the fall of the loss but the noise: what averaging and the step size \
                     do shows in decades."
                .into(),
            measure: Measure::LogLoss,
            target: 0.02,
            test_examples: None,
            steps: 3000,
        }
    }

    fn initial_parameters(&self, seed: u64) -> Vec<InitialParameter> {
        let side = self.options.side;
        let values = normal(&mut generator(seed, Purpose::Initialisation), side * side, 1.0);
        vec![InitialParameter::new("w", &[side, side], values)]
    }

    fn batch(&self, seed: u64, step: usize) -> Batch {
        Batch { seed, step, examples: Vec::new() }
    }

    /// The noise belongs to the batch: its loss is f(w) + <noise, w - w*>.
    fn gradients(&self, weights: &[&[f32]], batch: &Batch) -> Result<Gradients> {
        let rotated = self.rotated(weights[0]);
        let mut gradient: Vec<f64> = rotated.iter().zip(&self.curvatures).map(|(x, c)| c * x).collect();
        for mirror in self.mirrors.iter().rev() {
            reflect(&mut gradient, mirror);
        }
        let noise = normal(
            &mut generator(batch.seed, Purpose::Noise(batch.step)),
            gradient.len(),
            self.options.noise as f32,
        );
        let mut loss = self.value(&rotated);
        for (((g, noise), w), s) in gradient.iter_mut().zip(&noise).zip(weights[0]).zip(&self.solution) {
            *g += f64::from(*noise);
            loss += f64::from(*noise) * (f64::from(*w) - s);
        }
        Ok(Gradients { loss, of: vec![Some(gradient.iter().map(|g| *g as f32).collect())] })
    }

    fn evaluate(&self, weights: &[&[f32]], _split: Split) -> Result<Evaluation> {
        Ok(Evaluation { loss: self.value(&self.rotated(weights[0])), accuracy: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_solution_has_no_loss_and_the_curvatures_span_the_condition() {
        let task = Quadratic::new(Options::default()).unwrap();
        let solution: Vec<f32> = task.solution.iter().map(|s| *s as f32).collect();
        assert!(task.evaluate(&[&solution], Split::Test).unwrap().loss < 1e-10);
        let (first, last) = (task.curvatures[0], task.curvatures[task.curvatures.len() - 1]);
        assert!((first / last / 1e3 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_noise_is_of_the_stated_size_and_belongs_to_the_step() {
        let task = Quadratic::new(Options { noise: 0.5, ..Options::default() }).unwrap();
        let solution: Vec<f32> = task.solution.iter().map(|s| *s as f32).collect();
        let gradient = |step| {
            let gradients = task.gradients(&[&solution], &task.batch(0, step)).unwrap();
            gradients.of.into_iter().flatten().next().unwrap()
        };
        let (one, other) = (gradient(0), gradient(1));
        assert_ne!(one, other);
        let rms = (one.iter().map(|g| g * g).sum::<f32>() / one.len() as f32).sqrt();
        assert!((rms - 0.5).abs() < 0.08, "{rms}");
    }
}
