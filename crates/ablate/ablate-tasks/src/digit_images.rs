//! The UCI handwritten digits, which several tasks share.

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use candle_nn::loss::cross_entropy;
use flate2::read::GzDecoder;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::candle::correct;
use crate::task::{Evaluation, Split};

const DATA: &[u8] = include_bytes!("../data/digits.csv.gz");
pub(crate) const PIXELS: usize = 64;
pub(crate) const CLASSES: u32 = 10;
pub(crate) const VALIDATION: usize = 360;
pub(crate) const TEST: usize = 360;

/// The split belongs to the data, not to a run: every seed and every arm is measured on the same images.
pub(crate) const SPLIT_SEED: u64 = 1797;

/// Images as rows of pixels from 0 to 1, and their digits.
pub(crate) struct Examples {
    pub(crate) images: Tensor,
    pub(crate) labels: Tensor,
}

impl Examples {
    pub(crate) fn len(&self) -> usize {
        self.labels.elem_count()
    }

    /// The examples at the given places.
    pub(crate) fn batch(&self, places: &[u32]) -> Result<Self> {
        let places = Tensor::from_slice(places, places.len(), self.labels.device())?;
        Ok(Self {
            images: self.images.index_select(&places, 0)?,
            labels: self.labels.index_select(&places, 0)?,
        })
    }

    /// In pieces small enough that candle multiplies them on the calling thread: the runs already occupy every core.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Result<Self>> {
        const CHUNK: usize = 64;
        (0..self.len()).step_by(CHUNK).map(|start| {
            let length = CHUNK.min(self.len() - start);
            Ok(Self {
                images: self.images.narrow(0, start, length)?,
                labels: self.labels.narrow(0, start, length)?,
            })
        })
    }
}

/// 1797 images of 8x8 pixels, split.
pub(crate) struct DigitImages {
    train: Examples,
    validation: Examples,
    test: Examples,
}

impl DigitImages {
    /// Reads the data that is compiled into the program.
    pub(crate) fn load(device: &Device) -> Result<Self> {
        let (images, labels) = parse(DATA)?;
        let mut rows: Vec<usize> = (0..labels.len()).collect();
        rows.shuffle(&mut ChaCha8Rng::seed_from_u64(SPLIT_SEED));
        let (test, rest) = rows.split_at(TEST);
        let (validation, train) = rest.split_at(VALIDATION);
        let examples = |rows: &[usize]| -> Result<Examples> {
            let pixels: Vec<f32> = rows.iter().flat_map(|&row| images[row]).collect();
            let digits: Vec<u32> = rows.iter().map(|&row| labels[row]).collect();
            Ok(Examples {
                images: Tensor::from_vec(pixels, (rows.len(), PIXELS), device)?,
                labels: Tensor::from_vec(digits, rows.len(), device)?,
            })
        };
        Ok(Self { train: examples(train)?, validation: examples(validation)?, test: examples(test)? })
    }

    pub(crate) fn device(&self) -> &Device {
        self.train.labels.device()
    }

    pub(crate) fn split(&self, split: Split) -> &Examples {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
            Split::Test => &self.test,
        }
    }

    /// Mean cross-entropy and accuracy over a split, of logits by image.
    pub(crate) fn evaluate(
        &self,
        split: Split,
        logits: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Evaluation> {
        let examples = self.split(split);
        let (mut loss, mut hits) = (0.0, 0.0);
        for chunk in examples.chunks() {
            let chunk = chunk?;
            let logits = logits(&chunk.images)?;
            loss +=
                f64::from(cross_entropy(&logits, &chunk.labels)?.to_scalar::<f32>()?) * chunk.len() as f64;
            hits += correct(&logits, &chunk.labels)?;
        }
        let count = examples.len() as f64;
        Ok(Evaluation { loss: loss / count, accuracy: Some(hits / count) })
    }

    /// Checks the number of examples of a step.
    pub(crate) fn check_batch(&self, batch: usize) -> Result<()> {
        let most = self.train.len();
        ensure!(
            (1..=most).contains(&batch),
            "batch = {batch} must be from 1 to {most}, the number of training images"
        );
        Ok(())
    }
}

/// Pixels scaled to 0..1 and labels, in the file's order.
fn parse(compressed: &[u8]) -> Result<(Vec<[f32; PIXELS]>, Vec<u32>)> {
    let mut text = String::new();
    GzDecoder::new(compressed).read_to_string(&mut text).context(
        "digits.csv.gz cannot be decompressed; restore it (crates/ablate/ablate-tasks/data/README.md says from where)",
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
        let data = DigitImages::load(&Device::Cpu).unwrap();
        let sizes = [Split::Train, Split::Validation, Split::Test].map(|split| data.split(split).len());
        assert_eq!(sizes, [1077, 360, 360]);
        let sum = |split| data.split(split).images.sum_all().unwrap().to_scalar::<f32>().unwrap();
        let (images, _) = parse(DATA).unwrap();
        let total: f32 = images.iter().flatten().sum();
        assert!((sum(Split::Train) + sum(Split::Validation) + sum(Split::Test) - total).abs() < 1.0);
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
