//! A deep autoencoder: the classic hard case of first-order methods, and two parameter groups.

use anyhow::{Result, ensure};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::candle::Shapes;
use crate::device::{DeviceName, note};
use crate::digit_images::{DigitImages, PIXELS, SPLIT_SEED, TEST, VALIDATION};
use crate::perceptron;
use crate::random::{Purpose, epoch_batch, generator};
use crate::task::{About, Batch, Evaluation, Gradients, InitialParameter, Measure, Split, Task};

/// Options of a study.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    /// Widths of the encoder's layers after the pixels; the decoder has them in reverse.
    encoder: Vec<usize>,
    /// Examples of a step.
    batch: usize,
    /// Device that losses and gradients are computed on.
    device: DeviceName,
}

impl Default for Options {
    fn default() -> Self {
        Self { encoder: vec![48, 32, 16, 6], batch: 32, device: DeviceName::Cpu }
    }
}

/// Digit images squeezed through a narrow code.
pub(crate) struct Autoencoder {
    data: DigitImages,
    encoder: Vec<usize>,
    batch: usize,
    shapes: Shapes,
}

impl Autoencoder {
    /// With the data that is compiled into the program.
    ///
    /// # Errors
    /// An option out of range.
    pub(crate) fn new(options: Options) -> Result<Self> {
        let data = DigitImages::load(&options.device.open()?)?;
        data.check_batch(options.batch)?;
        perceptron::check_widths("encoder", &options.encoder)?;
        ensure!(!options.encoder.is_empty(), "encoder = []: it needs at least the width of the code");
        let encoder = [&[PIXELS], options.encoder.as_slice()].concat();
        let shapes = Shapes::of(&initial_parameters(&encoder, 0)).on(data.device());
        Ok(Self { data, encoder, batch: options.batch, shapes })
    }
}

fn initial_parameters(encoder: &[usize], seed: u64) -> Vec<InitialParameter> {
    let generator = &mut generator(seed, Purpose::Initialisation);
    let decoder: Vec<usize> = encoder.iter().rev().copied().collect();
    let mut layers = |widths: &[usize], group: &str| -> Vec<InitialParameter> {
        let layers = perceptron::initial(widths, &format!("{group}."), generator);
        layers.into_iter().map(|parameter| parameter.in_group(group)).collect()
    };
    let mut parameters = layers(encoder, "encoder");
    parameters.extend(layers(&decoder, "decoder"));
    parameters
}

/// Half the mean over images of the squared distance, which doesn't shrink with the number of pixels.
fn loss(weights: &[Tensor], images: &Tensor) -> Result<Tensor> {
    let rebuilt = perceptron::forward(weights, images, Tensor::tanh)?;
    Ok(((rebuilt - images)?.sqr()?.sum_all()? * (0.5 / images.dim(0)? as f64))?)
}

impl Task for Autoencoder {
    fn about(&self) -> About {
        let train = self.data.split(Split::Train).len();
        let decoder: Vec<usize> = self.encoder.iter().rev().copied().collect();
        About {
            description: format!(
                "The images of the UCI handwritten digits ({train} for training, {VALIDATION} for validation, {TEST} for the \
                 test, split once with seed {SPLIT_SEED}) through an autoencoder {} and back, with tanh between layers, {} \
                 parameters, initialised uniformly within 1/sqrt(inputs). The loss is half the squared distance of the 64 \
                 pixels, trained in batches of {}, reshuffled every epoch.",
                perceptron::shown(&self.encoder),
                perceptron::count(&self.encoder) + perceptron::count(&decoder),
                self.batch
            ) + &note(self.shapes.device()),
            reason: "Deep and narrow, the classic hard case of first-order methods; encoder and decoder are two parameter \
                     groups, each with a d of its own."
                .into(),
            measure: Measure::Loss,
            target: 0.8,
            test_examples: Some(TEST),
            steps: 2000,
        }
    }

    fn initial_parameters(&self, seed: u64) -> Vec<InitialParameter> {
        initial_parameters(&self.encoder, seed)
    }

    fn batch(&self, seed: u64, step: usize) -> Batch {
        let examples = epoch_batch(seed, step, self.data.split(Split::Train).len(), self.batch);
        Batch { seed, step, examples }
    }

    fn gradients(&self, weights: &[&[f32]], batch: &Batch) -> Result<Gradients> {
        let examples = self.data.split(Split::Train).batch(&batch.examples)?;
        self.shapes.gradients(weights, |weights| loss(weights, &examples.images))
    }

    fn evaluate(&self, weights: &[&[f32]], split: Split) -> Result<Evaluation> {
        let weights = self.shapes.tensors(weights)?;
        let examples = self.data.split(split);
        let mut sum = 0.0;
        for chunk in examples.chunks() {
            let chunk = chunk?;
            sum += f64::from(loss(&weights, &chunk.images)?.to_scalar::<f32>()?) * chunk.len() as f64;
        }
        Ok(Evaluation { loss: sum / examples.len() as f64, accuracy: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoder_and_decoder_are_two_groups_of_mirrored_shapes() {
        let task = Autoencoder::new(Options::default()).unwrap();
        let of_group = |group: &str| -> Vec<Vec<usize>> {
            let parameters = task.initial_parameters(0).into_iter();
            let in_group =
                parameters.filter(|parameter| parameter.group == group && parameter.shape.len() == 2);
            in_group.map(|parameter| parameter.shape).collect()
        };
        let mirrored: Vec<Vec<usize>> =
            of_group("decoder").into_iter().rev().map(|shape| vec![shape[1], shape[0]]).collect();
        assert_eq!(of_group("encoder"), mirrored);
        assert_eq!(mirrored.len(), 4);
    }
}
