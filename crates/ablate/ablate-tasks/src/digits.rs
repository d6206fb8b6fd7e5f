//! Handwritten digits with a multilayer perceptron: small enough for seconds, real enough to disagree about.

use anyhow::Result;
use candle_core::Tensor;
use candle_nn::loss::cross_entropy;
use serde::{Deserialize, Serialize};

use crate::candle::Shapes;
use crate::device::{DeviceName, note};
use crate::digit_images::{CLASSES, DigitImages, PIXELS, SPLIT_SEED, TEST, VALIDATION};
use crate::perceptron;
use crate::random::{Purpose, epoch_batch, generator};
use crate::task::{About, Batch, Evaluation, Gradients, InitialParameter, Measure, Split, Task};

/// Options of a study.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    /// Widths of the hidden layers. Of the default's weight matrices one is square, one tall and one wide, and all of
    /// them are factored.
    hidden: Vec<usize>,
    /// Examples of a step.
    batch: usize,
    /// Device that losses and gradients are computed on.
    device: DeviceName,
}

impl Default for Options {
    fn default() -> Self {
        Self { hidden: vec![128, 64], batch: 32, device: DeviceName::Cpu }
    }
}

/// The UCI handwritten digits (1797 images of 8x8 pixels) and a perceptron.
pub(crate) struct Digits {
    data: DigitImages,
    widths: Vec<usize>,
    batch: usize,
    shapes: Shapes,
}

impl Digits {
    /// With the data that is compiled into the program.
    ///
    /// # Errors
    /// An option out of range.
    pub(crate) fn new(options: Options) -> Result<Self> {
        let data = DigitImages::load(&options.device.open()?)?;
        data.check_batch(options.batch)?;
        perceptron::check_widths("hidden", &options.hidden)?;
        let widths = [&[PIXELS], options.hidden.as_slice(), &[CLASSES as usize]].concat();
        let shapes = Shapes::of(&initial_parameters(&widths, 0)).on(data.device());
        Ok(Self { data, widths, batch: options.batch, shapes })
    }
}

fn initial_parameters(widths: &[usize], seed: u64) -> Vec<InitialParameter> {
    perceptron::initial(widths, "layer", &mut generator(seed, Purpose::Initialisation))
}

fn logits(weights: &[Tensor], images: &Tensor) -> Result<Tensor> {
    perceptron::forward(weights, images, Tensor::relu)
}

impl Task for Digits {
    fn about(&self) -> About {
        let train = self.data.split(Split::Train).len();
        About {
            description: format!(
                "UCI handwritten digits (1797 images of 8x8 pixels): {train} for training, {VALIDATION} for validation, {TEST} \
                 for the test, split once with seed {SPLIT_SEED}. A perceptron {} with ReLU, {} parameters, initialised \
                 uniformly within 1/sqrt(inputs), is trained on the cross-entropy in batches of {}, reshuffled every epoch.",
                perceptron::shown(&self.widths),
                perceptron::count(&self.widths),
                self.batch
            ) + &note(self.shapes.device()),
            reason: "Real data in a second: the first look at anything. Every weight matrix is factored."
                .into(),
            measure: Measure::Accuracy,
            target: 0.975,
            test_examples: Some(TEST),
            steps: 40 * (train / self.batch),
        }
    }

    fn initial_parameters(&self, seed: u64) -> Vec<InitialParameter> {
        initial_parameters(&self.widths, seed)
    }

    fn batch(&self, seed: u64, step: usize) -> Batch {
        let examples = epoch_batch(seed, step, self.data.split(Split::Train).len(), self.batch);
        Batch { seed, step, examples }
    }

    fn gradients(&self, weights: &[&[f32]], batch: &Batch) -> Result<Gradients> {
        let examples = self.data.split(Split::Train).batch(&batch.examples)?;
        self.shapes.gradients(weights, |weights| {
            Ok(cross_entropy(&logits(weights, &examples.images)?, &examples.labels)?)
        })
    }

    fn evaluate(&self, weights: &[&[f32]], split: Split) -> Result<Evaluation> {
        let weights = self.shapes.tensors(weights)?;
        self.data.evaluate(split, |images| logits(&weights, images))
    }
}
