//! Low-rank adaptation of a pretrained network: parameters that start at zero.

use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use candle_nn::loss::cross_entropy;
use serde::{Deserialize, Serialize};

use crate::candle::Shapes;
use crate::device::{DeviceName, note};
use crate::digit_images::{CLASSES, DigitImages, PIXELS, TEST};
use crate::perceptron;
use crate::random::{Purpose, epoch_batch, generator, uniform};
use crate::task::{About, Batch, Evaluation, Gradients, InitialParameter, Measure, Split, Task};

const WIDTHS: [usize; 4] = [PIXELS, 128, 64, CLASSES as usize];

/// Pretraining: far from the seeds of any study, and the same for every run.
const PRETRAINING_SEED: u64 = 0x10_4a;
const PRETRAINING_STEPS: usize = 600;
const PRETRAINING_RATE: f32 = 0.05;
const PRETRAINING_MOMENTUM: f32 = 0.9;

/// Options of a study.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    /// Rank of the adaptation of every weight matrix.
    rank: usize,
    /// Scale of the adaptation: it is multiplied by alpha / rank.
    alpha: f64,
    /// Examples of a step.
    batch: usize,
    /// Device that losses and gradients are computed on.
    device: DeviceName,
}

impl Default for Options {
    fn default() -> Self {
        Self { rank: 4, alpha: 8.0, batch: 32, device: DeviceName::Cpu }
    }
}

/// A perceptron that can read upright digits learns to read those that lie on their side, by low-rank changes.
pub(crate) struct Lora {
    data: DigitImages,
    /// Pixels of the turned image, by those of the upright one.
    turned: Tensor,
    base: Vec<Tensor>,
    options: Options,
    shapes: Shapes,
}

impl Lora {
    /// With the data that is compiled into the program; pretraining takes part of a second, once.
    ///
    /// # Errors
    /// An option out of range.
    pub(crate) fn new(options: Options) -> Result<Self> {
        let device = options.device.open()?;
        let data = DigitImages::load(&device)?;
        data.check_batch(options.batch)?;
        ensure!(
            (1..=CLASSES as usize).contains(&options.rank),
            "rank = {} must be from 1 to {CLASSES}, the smallest side of a weight matrix",
            options.rank
        );
        ensure!(
            options.alpha.is_finite() && options.alpha > 0.0,
            "alpha = {} must be above 0",
            options.alpha
        );
        let shapes = Shapes::of(&initial_parameters(options.rank, 0)).on(&device);
        let base = Shapes::of(&perceptron_at(0)).on(&device).tensors(&slices(pretrained()?))?;
        // Transposed: row and column change places.
        let turned: Vec<u32> = (0..64).map(|pixel| pixel % 8 * 8 + pixel / 8).collect();
        Ok(Self { data, turned: Tensor::from_vec(turned, PIXELS, &device)?, base, options, shapes })
    }

    fn images(&self, upright: &Tensor) -> Result<Tensor> {
        Ok(upright.index_select(&self.turned, 1)?)
    }

    fn logits(&self, adaptation: &[Tensor], images: &Tensor) -> Result<Tensor> {
        let scale = self.options.alpha / self.options.rank as f64;
        let mut weights = Vec::with_capacity(self.base.len());
        for (layer, factors) in self.base.chunks_exact(2).zip(adaptation.chunks_exact(2)) {
            let [a, b] = factors else { continue };
            weights.push((&layer[0] + (b.matmul(a)? * scale)?)?);
            weights.push(layer[1].clone());
        }
        perceptron::forward(&weights, images, Tensor::relu)
    }
}

fn perceptron_at(seed: u64) -> Vec<InitialParameter> {
    perceptron::initial(&WIDTHS, "layer", &mut generator(seed, Purpose::Initialisation))
}

fn slices(weights: &[Vec<f32>]) -> Vec<&[f32]> {
    weights.iter().map(Vec::as_slice).collect()
}

/// The weights of the base, trained on upright digits once in the process, and on the processor for every device.
fn pretrained() -> Result<&'static Vec<Vec<f32>>> {
    static BASE: OnceLock<Vec<Vec<f32>>> = OnceLock::new();
    if BASE.get().is_none() {
        // Whoever comes second finds the same weights.
        let _ = BASE.set(pretrain(&DigitImages::load(&Device::Cpu)?)?);
    }
    BASE.get().context("the pretrained base is missing")
}

/// Gradient descent with momentum.
fn pretrain(data: &DigitImages) -> Result<Vec<Vec<f32>>> {
    let parameters = perceptron_at(PRETRAINING_SEED);
    let shapes = Shapes::of(&parameters);
    let train = data.split(Split::Train);
    let mut weights: Vec<Vec<f32>> = parameters.into_iter().map(|parameter| parameter.values).collect();
    let mut momenta: Vec<Vec<f32>> = weights.iter().map(|values| vec![0.0; values.len()]).collect();
    for step in 0..PRETRAINING_STEPS {
        let examples = train.batch(&epoch_batch(PRETRAINING_SEED, step, train.len(), 64))?;
        let gradients = shapes.gradients(&slices(&weights), |weights| {
            let logits = perceptron::forward(weights, &examples.images, Tensor::relu)?;
            Ok(cross_entropy(&logits, &examples.labels)?)
        })?;
        for ((weights, momenta), gradient) in weights.iter_mut().zip(&mut momenta).zip(gradients.of) {
            for ((weight, momentum), gradient) in
                weights.iter_mut().zip(momenta).zip(gradient.into_iter().flatten())
            {
                *momentum = PRETRAINING_MOMENTUM * *momentum + gradient;
                *weight -= PRETRAINING_RATE * *momentum;
            }
        }
    }
    Ok(weights)
}

/// A is drawn and B is zero, so that the network starts as the base.
fn initial_parameters(rank: usize, seed: u64) -> Vec<InitialParameter> {
    let mut generator = generator(seed, Purpose::Initialisation);
    let mut parameters = Vec::new();
    for (index, pair) in WIDTHS.windows(2).enumerate() {
        let (inputs, outputs) = (pair[0], pair[1]);
        let a = uniform(&mut generator, rank * inputs, 1.0 / (inputs as f32).sqrt());
        let name = |factor: &str| format!("layer{}.{factor}", index + 1);
        parameters.push(InitialParameter::new(name("a"), &[rank, inputs], a));
        parameters.push(InitialParameter::new(name("b"), &[outputs, rank], vec![0.0; outputs * rank]));
    }
    parameters
}

impl Task for Lora {
    fn about(&self) -> About {
        let trained: usize = initial_parameters(self.options.rank, 0).iter().map(|p| p.values.len()).sum();
        About {
            description: format!(
                "A perceptron {} was trained on upright UCI digits ({PRETRAINING_STEPS} steps, always the same) and is frozen. Adaptations \
                 of rank {} to its three weight matrices ({trained} parameters; B starts at zero, A uniformly within \
                 1/sqrt(inputs); alpha {}) learn digits whose rows and columns are swapped, on the cross-entropy, in \
                 batches of {}.",
                perceptron::shown(&WIDTHS),
                self.options.rank,
                self.options.alpha,
                self.options.batch
            ) + &note(self.shapes.device()),
            reason: "Half of the parameters start at zero, where a step relative to the weights is none, and the step size must \
                     grow from nothing."
                .into(),
            measure: Measure::Accuracy,
            target: 0.95,
            test_examples: Some(TEST),
            steps: 1000,
        }
    }

    fn initial_parameters(&self, seed: u64) -> Vec<InitialParameter> {
        initial_parameters(self.options.rank, seed)
    }

    fn batch(&self, seed: u64, step: usize) -> Batch {
        let examples = epoch_batch(seed, step, self.data.split(Split::Train).len(), self.options.batch);
        Batch { seed, step, examples }
    }

    fn gradients(&self, weights: &[&[f32]], batch: &Batch) -> Result<Gradients> {
        let examples = self.data.split(Split::Train).batch(&batch.examples)?;
        let images = self.images(&examples.images)?;
        self.shapes.gradients(weights, |adaptation| {
            Ok(cross_entropy(&self.logits(adaptation, &images)?, &examples.labels)?)
        })
    }

    fn evaluate(&self, weights: &[&[f32]], split: Split) -> Result<Evaluation> {
        let adaptation = self.shapes.tensors(weights)?;
        self.data.evaluate(split, |images| self.logits(&adaptation, &self.images(images)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candle::correct;

    #[test]
    fn the_base_reads_upright_digits_and_not_those_on_their_side() {
        let task = Lora::new(Options::default()).unwrap();
        let examples = task.data.split(Split::Test);
        let share = |images: &Tensor| {
            let logits = perceptron::forward(&task.base, images, Tensor::relu).unwrap();
            correct(&logits, &examples.labels).unwrap() / examples.len() as f64
        };
        let (upright, turned) = (share(&examples.images), share(&task.images(&examples.images).unwrap()));
        assert!(upright > 0.93 && turned < 0.5, "{upright} {turned}");
    }

    #[test]
    fn at_the_start_the_network_is_the_base_and_only_b_has_a_gradient() {
        let task = Lora::new(Options::default()).unwrap();
        let start = task.initial_parameters(7);
        let weights: Vec<&[f32]> = start.iter().map(|parameter| parameter.values.as_slice()).collect();
        let other = task.initial_parameters(8);
        let others: Vec<&[f32]> = other.iter().map(|parameter| parameter.values.as_slice()).collect();
        assert_eq!(
            task.evaluate(&weights, Split::Test).unwrap(),
            task.evaluate(&others, Split::Test).unwrap()
        );
        let gradients = task.gradients(&weights, &task.batch(0, 0)).unwrap();
        for (parameter, gradient) in start.iter().zip(gradients.of) {
            let is_zero = gradient.unwrap().iter().all(|g| *g == 0.0);
            assert_eq!(is_zero, parameter.name.ends_with(".a"), "{}", parameter.name);
        }
    }
}
