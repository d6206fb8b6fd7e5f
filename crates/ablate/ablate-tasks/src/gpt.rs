//! A language model as people train it now, at a size for two cores: root mean square norms, rotary positions, SwiGLU.

use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};
use candle_nn::rotary_emb::rope_slow;
use serde::{Deserialize, Serialize};

use crate::candle::Shapes;
use crate::device::{DeviceName, note};
use crate::random::{Purpose, generator, normal};
use crate::task::{About, Batch, Evaluation, Gradients, InitialParameter, Measure, Split, Task};
use crate::text::{ALPHABET, Text, WINDOWS};
use crate::transformer::{attention, mask, normed, split_heads};

/// Gain; queries, keys and values; output; gain; gate and up, side by side; down.
const PER_LAYER: usize = 6;

/// Wavelength of the slowest rotation, over 2 pi (Su et al., 2104.09864).
const BASE: f64 = 10_000.0;

/// Options of a study.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    /// Width of the residual stream; an even number of them for each head.
    width: usize,
    /// Heads of attention.
    heads: usize,
    /// Layers.
    layers: usize,
    /// Characters that are looked at.
    context: usize,
    /// Windows of a step.
    batch: usize,
    /// Device that losses and gradients are computed on.
    device: DeviceName,
}

impl Default for Options {
    fn default() -> Self {
        Self { width: 128, heads: 4, layers: 6, context: 64, batch: 8, device: DeviceName::Cpu }
    }
}

impl Options {
    /// Width of the gated layer: 8/3 of the stream's, so that its three matrices have as many parameters as two of four
    /// times the width (Shazeer, 2002.05202).
    fn gated(&self) -> usize {
        (8 * self.width / 3).next_multiple_of(8)
    }
}

/// A character-level GPT on Jane Austen's *Persuasion*.
pub(crate) struct Gpt {
    text: Text,
    options: Options,
    mask: Tensor,
    /// Cosines and sines of the rotations, by place and pair of elements.
    rotations: [Tensor; 2],
    shapes: Shapes,
}

impl Gpt {
    /// With the text that is compiled into the program.
    ///
    /// # Errors
    /// An option out of range.
    pub(crate) fn new(options: Options) -> Result<Self> {
        let Options { width, heads, layers, context, batch, device } = options;
        ensure!(
            heads > 0 && (2..=2048).contains(&width) && width % (2 * heads) == 0,
            "width = {width} must be a multiple of twice heads = {heads}, from 2 to 2048"
        );
        ensure!((1..=48).contains(&layers), "layers = {layers} must be from 1 to 48");
        ensure!((2..=2048).contains(&context), "context = {context} must be from 2 to 2048");
        ensure!((1..=4096).contains(&batch), "batch = {batch} must be from 1 to 4096");
        let device = device.open()?;
        Ok(Self {
            text: Text::load()?,
            mask: mask(context, &device)?,
            rotations: rotations(context, width / heads, &device)?,
            shapes: Shapes::of(&initial_parameters(&options, 0)).on(&device),
            options,
        })
    }

    fn logits(&self, weights: &[Tensor], letters: &Tensor, batch: usize) -> Result<Tensor> {
        let Options { heads, layers, .. } = self.options;
        let mut stream = weights[0].index_select(letters, 0)?;
        let (inner, last) = weights[1..].split_at(layers * PER_LAYER);
        let [cosines, sines] = &self.rotations;
        for layer in inner.chunks_exact(PER_LAYER) {
            let joined = normed(&stream, &layer[0])?.matmul(&layer[1].t()?)?;
            let [queries, keys, values] = split_heads(&joined, batch, heads)?;
            let turned = [rope_slow(&queries, cosines, sines)?, rope_slow(&keys, cosines, sines)?, values];
            stream = (stream + attention(&turned, &self.mask)?.matmul(&layer[2].t()?)?)?;
            let both = normed(&stream, &layer[3])?.matmul(&layer[4].t()?)?;
            let gated = self.options.gated();
            let product = (both.narrow(1, 0, gated)?.silu()? * both.narrow(1, gated, gated)?)?;
            stream = (stream + product.matmul(&layer[5].t()?)?)?;
        }
        Ok(normed(&stream, &last[0])?.matmul(&last[1].t()?)?)
    }
}

/// By place, the cosines and sines of its angles.
fn rotations(context: usize, size: usize, device: &Device) -> Result<[Tensor; 2]> {
    let angle = |place: usize| {
        let (place, pair) = (place / (size / 2), place % (size / 2));
        place as f64 * BASE.powf(-2.0 * pair as f64 / size as f64)
    };
    let table = |of: fn(f64) -> f64| -> Result<Tensor> {
        let values: Vec<f32> = (0..context * size / 2).map(|place| of(angle(place)) as f32).collect();
        Ok(Tensor::from_vec(values, (context, size / 2), device)?)
    };
    Ok([table(f64::cos)?, table(f64::sin)?])
}

fn initial_parameters(options: &Options, seed: u64) -> Vec<InitialParameter> {
    let Options { width, layers, .. } = *options;
    let gated = options.gated();
    let mut generator = generator(seed, Purpose::Initialisation);
    let mut parameters = Vec::new();
    let mut draw = |name: String, shape: [usize; 2], deviation: f32| {
        let values = normal(&mut generator, shape[0] * shape[1], deviation);
        InitialParameter::new(name, &shape, values)
    };
    let gain = |name: String| InitialParameter::new(name, &[width], vec![1.0; width]);
    let inner = 1.0 / (width as f32).sqrt();
    // What is added to the stream once per layer starts smaller, so that the stream does not grow with their number.
    let shrunk = 1.0 / (2.0 * layers as f32).sqrt();
    parameters.push(draw("embedding".into(), [ALPHABET.len(), width], 0.1));
    for layer in 1..=layers {
        let name = |part: &str| format!("layer{layer}.{part}");
        parameters.push(gain(name("attention.norm")));
        parameters.push(draw(name("attention.in"), [3 * width, width], inner));
        parameters.push(draw(name("attention.out"), [width, width], inner * shrunk));
        parameters.push(gain(name("mlp.norm")));
        parameters.push(draw(name("mlp.in"), [2 * gated, width], inner));
        parameters.push(draw(name("mlp.out"), [width, gated], shrunk / (gated as f32).sqrt()));
    }
    parameters.push(gain("norm".into()));
    parameters.push(draw("head".into(), [ALPHABET.len(), width], inner));
    parameters
}

impl Task for Gpt {
    fn about(&self) -> About {
        let Options { width, heads, layers, context, batch, .. } = self.options;
        let count: usize = initial_parameters(&self.options, 0).iter().map(|p| p.values.len()).sum();
        About {
            description: format!(
                "Jane Austen's Persuasion, its letters reduced to {} characters: the first 80 % for training, then 10 % for \
                 validation and 10 % for the test. A GPT with {layers} layers of width {width}, {heads} heads, a context of {context} \
                 characters, root mean square norms, rotary positions and SwiGLU, {count} parameters, initialised normally with 1/sqrt(inputs), predicts \
                 the next character, trained on the cross-entropy (nats) in batches of {batch} windows drawn at random. Evaluated on {WINDOWS} \
                 windows of each split.",
                ALPHABET.len()
            ) + &note(self.shapes.device()),
            reason: "The parts of today's language models, with a million parameters: the nearest to what people train."
                .into(),
            measure: Measure::Loss,
            target: 1.8,
            test_examples: None,
            steps: 600,
        }
    }

    fn initial_parameters(&self, seed: u64) -> Vec<InitialParameter> {
        initial_parameters(&self.options, seed)
    }

    fn batch(&self, seed: u64, step: usize) -> Batch {
        self.text.batch(seed, step, self.options.batch, self.options.context)
    }

    fn gradients(&self, weights: &[&[f32]], batch: &Batch) -> Result<Gradients> {
        self.shapes.gradients(weights, |weights| {
            let logits = |letters: &Tensor, windows| self.logits(weights, letters, windows);
            self.text.loss(Split::Train, &batch.examples, self.options.context, self.shapes.device(), logits)
        })
    }

    fn evaluate(&self, weights: &[&[f32]], split: Split) -> Result<Evaluation> {
        let weights = self.shapes.tensors(weights)?;
        let logits = |letters: &Tensor, windows| self.logits(&weights, letters, windows);
        self.text.evaluate(split, self.options.context, self.shapes.device(), logits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Gpt {
        Gpt::new(Options { width: 16, heads: 2, layers: 2, context: 12, batch: 2, ..Options::default() })
            .unwrap()
    }

    /// The logits of a window, by place.
    fn logits(task: &Gpt, window: &[u32]) -> Vec<Vec<f32>> {
        let start = task.initial_parameters(0);
        let weights: Vec<&[f32]> = start.iter().map(|parameter| parameter.values.as_slice()).collect();
        let weights = task.shapes.tensors(&weights).unwrap();
        let window = Tensor::from_slice(window, window.len(), &Device::Cpu).unwrap();
        task.logits(&weights, &window, 1).unwrap().to_vec2::<f32>().unwrap()
    }

    #[test]
    fn no_character_sees_the_ones_after_it() {
        let task = small();
        let mut window = task.text.split(Split::Train)[..12].to_vec();
        window[11] = 1;
        let one = logits(&task, &window);
        window[11] = 2;
        let other = logits(&task, &window);
        assert_eq!(one[..11], other[..11]);
        assert_ne!(one[11], other[11]);
    }

    #[test]
    fn order_matters_and_scores_depend_on_distances_alone() {
        let task = small();
        // Without rotations the last place would see a set.
        let last = |window: &[u32; 12]| logits(&task, window).pop().unwrap();
        assert_ne!(
            last(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
            last(&[2, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
        );
        let [cosines, sines] = &task.rotations;
        let row = |value: f32| Tensor::full(value, (1, 1, 12, 8), &Device::Cpu).unwrap();
        let [queries, keys] = [row(0.3), row(-0.7)].map(|row| rope_slow(&row, cosines, sines).unwrap());
        let scores = queries.matmul(&keys.t().unwrap()).unwrap().reshape((12, 12)).unwrap();
        let scores = scores.to_vec2::<f32>().unwrap();
        for (query, key) in [(5, 2), (11, 8), (3, 0)] {
            assert!((scores[query][key] - scores[4][1]).abs() < 1e-5, "{query} {key}");
        }
        assert!((scores[4][1] - scores[4][2]).abs() > 1e-3);
    }

    #[test]
    fn an_untrained_network_knows_nothing() {
        let task = small();
        let start = task.initial_parameters(0);
        let weights: Vec<&[f32]> = start.iter().map(|parameter| parameter.values.as_slice()).collect();
        let loss = task.evaluate(&weights, Split::Validation).unwrap().loss;
        let uniform = (ALPHABET.len() as f64).ln();
        assert!((loss - uniform).abs() < 0.9, "{loss} {uniform}");
    }
}
