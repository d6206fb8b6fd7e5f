//! A residual convolutional network, on the digits.

use anyhow::{Result, ensure};
use candle_core::Tensor;
use candle_nn::loss::cross_entropy;
use serde::{Deserialize, Serialize};

use crate::candle::Shapes;
use crate::convolution::convolve;
use crate::device::{DeviceName, note};
use crate::digit_images::{CLASSES, DigitImages, SPLIT_SEED, TEST, VALIDATION};
use crate::random::{Purpose, epoch_batch, generator, normal};
use crate::task::{About, Batch, Evaluation, Gradients, InitialParameter, Measure, Split, Task};

/// Pixels of a side.
const SIDE: usize = 8;

/// Pixels of a side of a kernel.
const KERNEL: usize = 3;

/// Weight and bias of the first convolution.
const STEM: usize = 2;

/// Of each of a block's two convolutions, gain and bias of the norm before it, weight and bias.
const PER_BLOCK: usize = 8;

const EPSILON: f64 = 1e-5;

/// Options of a study.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    /// Channels of every layer.
    channels: usize,
    /// Residual blocks, of two convolutions each.
    blocks: usize,
    /// Examples of a step.
    batch: usize,
    /// Device that losses and gradients are computed on.
    device: DeviceName,
}

impl Default for Options {
    fn default() -> Self {
        Self { channels: 32, blocks: 3, batch: 32, device: DeviceName::Cpu }
    }
}

/// The UCI handwritten digits and a residual network.
pub(crate) struct Residual {
    data: DigitImages,
    options: Options,
    shapes: Shapes,
}

impl Residual {
    /// With the data that is compiled into the program.
    ///
    /// # Errors
    /// An option out of range.
    pub(crate) fn new(options: Options) -> Result<Self> {
        let Options { channels, blocks, batch, device } = options;
        ensure!((1..=512).contains(&channels), "channels = {channels} must be from 1 to 512");
        ensure!((1..=32).contains(&blocks), "blocks = {blocks} must be from 1 to 32");
        let data = DigitImages::load(&device.open()?)?;
        data.check_batch(batch)?;
        let shapes = Shapes::of(&initial_parameters(&options, 0)).on(data.device());
        Ok(Self { data, shapes, options })
    }

    fn logits(&self, weights: &[Tensor], images: &Tensor) -> Result<Tensor> {
        let images = images.reshape(((), 1, SIDE, SIDE))?;
        let (stem, rest) = weights.split_at(STEM);
        let (blocks, last) = rest.split_at(self.options.blocks * PER_BLOCK);
        let mut stream = padded_convolution(&images, &stem[0], &stem[1])?;
        for block in blocks.chunks_exact(PER_BLOCK) {
            let mut branch = stream.clone();
            for part in block.chunks_exact(PER_BLOCK / 2) {
                branch =
                    padded_convolution(&normed(&branch, &part[0], &part[1])?.relu()?, &part[2], &part[3])?;
            }
            stream = (stream + branch)?;
        }
        let pooled = normed(&stream, &last[0], &last[1])?.relu()?.flatten_from(2)?.mean(2)?;
        Ok(pooled.matmul(&last[2].t()?)?.broadcast_add(&last[3])?)
    }
}

/// A convolution that keeps the images' size.
fn padded_convolution(images: &Tensor, kernels: &Tensor, bias: &Tensor) -> Result<Tensor> {
    const AROUND: usize = KERNEL / 2;
    let padded = images.pad_with_zeros(2, AROUND, AROUND)?.pad_with_zeros(3, AROUND, AROUND)?;
    Ok(convolve(&padded, kernels, bias)?)
}

/// Every image normalised to mean 0 and variance 1 over its channels and pixels, with a gain and a bias for every
/// channel: group normalisation of one group (Wu and He,
/// 1803.08494), in which no image depends on the others of its batch.
fn normed(images: &Tensor, gain: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (count, channels, height, width) = images.dims4()?;
    let flat = images.flatten_from(1)?;
    let centred = flat.broadcast_sub(&flat.mean_keepdim(1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(1)? + EPSILON)?.sqrt()?;
    let images = centred.broadcast_div(&deviation)?.reshape((count, channels, height, width))?;
    let by_channel = |values: &Tensor| values.reshape((1, channels, 1, 1));
    Ok(images.broadcast_mul(&by_channel(gain)?)?.broadcast_add(&by_channel(bias)?)?)
}

/// He et al.'s normal distribution (1502.01852); the last convolution of every block begins with 0, so that blocks do
/// nothing at first.
fn initial_parameters(options: &Options, seed: u64) -> Vec<InitialParameter> {
    let Options { channels, blocks, .. } = *options;
    let mut generator = generator(seed, Purpose::Initialisation);
    let mut draw = |name: String, shape: &[usize], of: f32| {
        let inputs: usize = shape[1..].iter().product();
        let values = normal(&mut generator, shape.iter().product(), (of / inputs as f32).sqrt());
        InitialParameter::new(name, shape, values)
    };
    let fill = |name: String, len: usize, value: f32| InitialParameter::new(name, &[len], vec![value; len]);
    let kernels = [channels, channels, KERNEL, KERNEL];
    let mut parameters = vec![
        draw("stem.weight".into(), &[channels, 1, KERNEL, KERNEL], 2.0),
        fill("stem.bias".into(), channels, 0.0),
    ];
    for block in 1..=blocks {
        for (part, scale) in [("first", 2.0), ("second", 0.0)] {
            let name = |of: &str| format!("block{block}.{part}.{of}");
            parameters.push(fill(name("gain"), channels, 1.0));
            parameters.push(fill(name("shift"), channels, 0.0));
            parameters.push(draw(name("weight"), &kernels, scale));
            parameters.push(fill(name("bias"), channels, 0.0));
        }
    }
    parameters.push(fill("norm.gain".into(), channels, 1.0));
    parameters.push(fill("norm.shift".into(), channels, 0.0));
    parameters.push(draw("head.weight".into(), &[CLASSES as usize, channels], 1.0));
    parameters.push(fill("head.bias".into(), CLASSES as usize, 0.0));
    parameters
}

impl Task for Residual {
    fn about(&self) -> About {
        let Options { channels, blocks, batch, .. } = self.options;
        let train = self.data.split(Split::Train).len();
        let count: usize = initial_parameters(&self.options, 0).iter().map(|p| p.values.len()).sum();
        About {
            description: format!(
                "UCI handwritten digits (1797 images of 8x8 pixels): {train} for training, {VALIDATION} for validation, {TEST} \
                 for the test, split once with seed {SPLIT_SEED}. A residual network: a 3x3 convolution to {channels} channels, {blocks} blocks of two times \
                 normalisation over the image, ReLU and convolution, the mean over the pixels, a dense layer; {count} parameters, initialised after He, with 0 at \
                 the end of every block. Trained on the cross-entropy in batches of {batch}, reshuffled every epoch."
            ) + &note(self.shapes.device()),
            reason: "Convolutions behind each other, whose kernels are matrices of an unusual shape; gains; parameters that start at zero."
                .into(),
            measure: Measure::Accuracy,
            target: 0.975,
            test_examples: Some(TEST),
            steps: 20 * (train / batch),
        }
    }

    fn initial_parameters(&self, seed: u64) -> Vec<InitialParameter> {
        initial_parameters(&self.options, seed)
    }

    fn batch(&self, seed: u64, step: usize) -> Batch {
        let examples = epoch_batch(seed, step, self.data.split(Split::Train).len(), self.options.batch);
        Batch { seed, step, examples }
    }

    fn gradients(&self, weights: &[&[f32]], batch: &Batch) -> Result<Gradients> {
        let examples = self.data.split(Split::Train).batch(&batch.examples)?;
        self.shapes.gradients(weights, |weights| {
            Ok(cross_entropy(&self.logits(weights, &examples.images)?, &examples.labels)?)
        })
    }

    fn evaluate(&self, weights: &[&[f32]], split: Split) -> Result<Evaluation> {
        let weights = self.shapes.tensors(weights)?;
        self.data.evaluate(split, |images| self.logits(&weights, images))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn weights(task: &Residual) -> Vec<Tensor> {
        let start = task.initial_parameters(0);
        let weights: Vec<&[f32]> = start.iter().map(|parameter| parameter.values.as_slice()).collect();
        task.shapes.tensors(&weights).unwrap()
    }

    #[test]
    fn an_image_has_the_same_logits_in_every_batch() {
        let task = Residual::new(Options { channels: 4, blocks: 2, batch: 2, ..Options::default() }).unwrap();
        let weights = weights(&task);
        let images = &task.data.split(Split::Train).images;
        let logits = |first: usize, count: usize| {
            let images = images.narrow(0, first, count).unwrap();
            task.logits(&weights, &images).unwrap().to_vec2::<f32>().unwrap()
        };
        let together = logits(0, 3);
        for (image, expected) in together.iter().enumerate() {
            for (found, expected) in logits(image, 1)[0].iter().zip(expected) {
                assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            }
        }
    }

    #[test]
    fn blocks_do_nothing_at_first() {
        let deep = Residual::new(Options { channels: 4, blocks: 3, batch: 2, ..Options::default() }).unwrap();
        let flat = Residual::new(Options { channels: 4, blocks: 1, batch: 2, ..Options::default() }).unwrap();
        let images = deep.data.split(Split::Train).images.narrow(0, 0, 2).unwrap();
        let deep_weights = weights(&deep);
        let ends = &deep_weights[STEM + 3 * PER_BLOCK..];
        let of_flat = [&deep_weights[..STEM + PER_BLOCK], ends].concat();
        let [deep, flat] = [deep.logits(&deep_weights, &images), flat.logits(&of_flat, &images)]
            .map(|logits| logits.unwrap().to_vec2::<f32>().unwrap());
        assert_eq!(deep, flat);
    }

    #[test]
    fn a_convolution_with_a_border_keeps_the_size() {
        let image = Tensor::arange(0_f32, 9.0, &Device::Cpu).unwrap().reshape((1, 1, 3, 3)).unwrap();
        let kernels = Tensor::ones((1, 1, 3, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let bias = Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu).unwrap();
        let sums = padded_convolution(&image, &kernels, &bias).unwrap();
        let sums = sums.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(sums, [8.0, 15.0, 12.0, 21.0, 36.0, 27.0, 20.0, 33.0, 24.0]);
    }
}
