//! Handwritten digits with a multilayer perceptron: small enough for seconds, real enough to disagree about.

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{D, DType, Device, Tensor};
use candle_nn::loss::cross_entropy;
use flate2::read::GzDecoder;
use rand::Rng;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Batch, Evaluation, InitialParameter, Split, Task};

const DATA: &[u8] = include_bytes!("../../data/digits.csv.gz");
const PIXELS: usize = 64;
const CLASSES: u32 = 10;

/// Two hidden layers, so that one weight matrix is square, one tall and one wide, and all of them are factored.
const LAYERS: [usize; 4] = [PIXELS, 128, 64, CLASSES as usize];
const BATCH: usize = 32;
const VALIDATION: usize = 360;
const TEST: usize = 360;

/// The split belongs to the task, not to a run: every seed and every arm is measured on the same images.
const SPLIT_SEED: u64 = 1797;

/// Small enough that candle multiplies a chunk on the calling thread: the runs already occupy every core.
const EVALUATION_CHUNK: usize = 64;

/// A run's streams of random numbers: separate, so that drawing more of one leaves the other as it was.
const INITIALISATION_STREAM: u64 = 0;
const BATCH_STREAM: u64 = 1;

struct Examples {
    images: Tensor,
    labels: Tensor,
}

/// The UCI handwritten digits (1797 images of 8x8 pixels) and a perceptron with two hidden layers.
pub struct Digits {
    train: Examples,
    validation: Examples,
    test: Examples,
}

impl Digits {
    /// Reads the data that is compiled into the program and splits it.
    pub fn load() -> Result<Self> {
        let (images, labels) = parse(DATA)?;
        let mut rows: Vec<usize> = (0..labels.len()).collect();
        rows.shuffle(&mut ChaCha8Rng::seed_from_u64(SPLIT_SEED));
        let (test, rest) = rows.split_at(TEST);
        let (validation, train) = rest.split_at(VALIDATION);
        let examples = |rows: &[usize]| -> Result<Examples> {
            let pixels: Vec<f32> = rows.iter().flat_map(|&row| images[row]).collect();
            let digits: Vec<u32> = rows.iter().map(|&row| labels[row]).collect();
            Ok(Examples {
                images: Tensor::from_vec(pixels, (rows.len(), PIXELS), &Device::Cpu)?,
                labels: Tensor::from_vec(digits, rows.len(), &Device::Cpu)?,
            })
        };
        Ok(Self { train: examples(train)?, validation: examples(validation)?, test: examples(test)? })
    }

    fn split(&self, split: Split) -> &Examples {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
            Split::Test => &self.test,
        }
    }
}

/// Pixels scaled to 0..1 and labels, in the file's order.
fn parse(compressed: &[u8]) -> Result<(Vec<[f32; PIXELS]>, Vec<u32>)> {
    let mut text = String::new();
    GzDecoder::new(compressed).read_to_string(&mut text).context(
        "digits.csv.gz cannot be decompressed; restore it (crates/ablate/data/README.md says from where)",
    )?;
    let mut images = Vec::new();
    let mut labels = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let values: Vec<u32> = line
            .split(',')
            .map(|value| value.trim().parse())
            .collect::<Result<_, _>>()
            .with_context(|| format!("digits.csv.gz, line {line_number}: expected integers"))?;
        let Some((&label, pixels)) = values.split_last() else {
            bail!("digits.csv.gz: line {line_number} is empty")
        };
        ensure!(
            pixels.len() == PIXELS && label < CLASSES && pixels.iter().all(|&pixel| pixel <= 16),
            "digits.csv.gz, line {line_number}: expected {PIXELS} pixels from 0 to 16 and a digit from 0 to 9"
        );
        let mut image = [0.0; PIXELS];
        for (to, &from) in image.iter_mut().zip(pixels) {
            *to = from as f32 / 16.0;
        }
        images.push(image);
        labels.push(label);
    }
    ensure!(images.len() > VALIDATION + TEST, "digits.csv.gz: only {} images", images.len());
    Ok((images, labels))
}

fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(stream);
    generator
}

fn logits(weights: &[Tensor], images: &Tensor) -> Result<Tensor> {
    let layers = weights.len() / 2;
    let mut hidden = images.clone();
    for (index, layer) in weights.chunks_exact(2).enumerate() {
        hidden = hidden.matmul(&layer[0].t()?)?.broadcast_add(&layer[1])?;
        if index + 1 < layers {
            hidden = hidden.relu()?;
        }
    }
    Ok(hidden)
}

impl Task for Digits {
    fn name(&self) -> &str {
        "digits"
    }

    fn description(&self) -> String {
        let layers: Vec<String> = LAYERS.iter().map(ToString::to_string).collect();
        format!(
            "UCI handwritten digits (1797 images of 8x8 pixels): {} for training, {VALIDATION} for validation, {TEST} \
             for the test, split once with seed {SPLIT_SEED}. A perceptron {} with ReLU, {} parameters, initialised \
             uniformly within 1/sqrt(inputs), is trained on the cross-entropy in batches of {BATCH}, reshuffled every epoch.",
            self.examples(Split::Train),
            layers.join("-"),
            LAYERS.windows(2).map(|pair| (pair[0] + 1) * pair[1]).sum::<usize>(),
        )
    }

    fn examples(&self, split: Split) -> usize {
        self.split(split).labels.elem_count()
    }

    fn initial_parameters(&self, seed: u64) -> Vec<InitialParameter> {
        let mut generator = generator(seed, INITIALISATION_STREAM);
        let mut parameters = Vec::new();
        for (index, pair) in LAYERS.windows(2).enumerate() {
            let (inputs, outputs) = (pair[0], pair[1]);
            let bound = 1.0 / (inputs as f32).sqrt();
            let mut draw = |name: &str, shape: Vec<usize>| InitialParameter {
                name: format!("layer{}.{name}", index + 1),
                values: (0..shape.iter().product()).map(|_| generator.random_range(-bound..bound)).collect(),
                shape,
            };
            parameters.push(draw("weight", vec![outputs, inputs]));
            parameters.push(draw("bias", vec![outputs]));
        }
        parameters
    }

    fn epoch(&self, seed: u64, epoch: usize) -> Vec<Batch> {
        let mut rows: Vec<u32> = (0..self.examples(Split::Train) as u32).collect();
        // A stream per epoch keeps an epoch's order independent of how many came before it.
        rows.shuffle(&mut generator(seed, BATCH_STREAM + epoch as u64));
        // A shorter last batch would have noisier gradients than the others, and the same weight.
        rows.chunks_exact(BATCH).map(|rows| Batch { rows: rows.to_vec() }).collect()
    }

    fn training_loss(&self, weights: &[Tensor], batch: &Batch) -> Result<Tensor> {
        let rows = Tensor::from_slice(&batch.rows, batch.rows.len(), &Device::Cpu)?;
        let images = self.train.images.index_select(&rows, 0)?;
        let labels = self.train.labels.index_select(&rows, 0)?;
        Ok(cross_entropy(&logits(weights, &images)?, &labels)?)
    }

    fn evaluate(&self, weights: &[Tensor], split: Split) -> Result<Evaluation> {
        let examples = self.split(split);
        let count = self.examples(split);
        let (mut loss, mut correct) = (0.0, 0.0);
        for start in (0..count).step_by(EVALUATION_CHUNK) {
            let length = EVALUATION_CHUNK.min(count - start);
            let labels = examples.labels.narrow(0, start, length)?;
            let logits = logits(weights, &examples.images.narrow(0, start, length)?)?;
            loss += f64::from(cross_entropy(&logits, &labels)?.to_scalar::<f32>()?) * length as f64;
            let hits = logits.argmax(D::Minus1)?.eq(&labels)?.to_dtype(DType::F32)?;
            correct += f64::from(hits.sum_all()?.to_scalar::<f32>()?);
        }
        Ok(Evaluation { loss: loss / count as f64, accuracy: correct / count as f64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_data_is_the_published_file() {
        let digest: String = Sha256::digest(DATA).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22");
        let (images, labels) = parse(DATA).unwrap();
        assert_eq!(images.len(), 1797);
        let mut counts = [0; CLASSES as usize];
        for &label in &labels {
            counts[label as usize] += 1;
        }
        // As published with the data set.
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    }

    #[test]
    fn the_splits_are_disjoint_and_complete() {
        let task = Digits::load().unwrap();
        let sizes = [Split::Train, Split::Validation, Split::Test].map(|split| task.examples(split));
        assert_eq!(sizes, [1077, 360, 360]);
        let sum = |split| task.split(split).images.sum_all().unwrap().to_scalar::<f32>().unwrap();
        let (images, _) = parse(DATA).unwrap();
        let total: f32 = images.iter().flatten().sum();
        assert!((sum(Split::Train) + sum(Split::Validation) + sum(Split::Test) - total).abs() < 1.0);
    }

    #[test]
    fn a_seed_determines_initialisation_and_batches() {
        let task = Digits::load().unwrap();
        assert_eq!(task.initial_parameters(3), Digits::load().unwrap().initial_parameters(3));
        assert_ne!(task.initial_parameters(3), task.initial_parameters(4));
        assert_eq!(task.epoch(3, 1), task.epoch(3, 1));
        assert_ne!(task.epoch(3, 1), task.epoch(3, 2));
        assert_ne!(task.epoch(3, 1), task.epoch(4, 1));
    }

    #[test]
    fn an_epoch_visits_no_image_twice() {
        let task = Digits::load().unwrap();
        let mut rows: Vec<u32> = task.epoch(0, 0).into_iter().flat_map(|batch| batch.rows).collect();
        let visited = rows.len();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), visited);
        assert_eq!(visited, 1077 / BATCH * BATCH);
    }

    #[test]
    fn damaged_data_is_an_error_that_names_the_line() {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"1,2,3\n").unwrap();
        let error = parse(&encoder.finish().unwrap()).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }
}
