//! A small transformer that reads a novel letter by letter.

use anyhow::{Result, ensure};
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::candle::Shapes;
use crate::device::{DeviceName, note};
use crate::random::{Purpose, generator, normal};
use crate::task::{About, Batch, Evaluation, Gradients, InitialParameter, Measure, Split, Task};
use crate::text::{ALPHABET, Text, WINDOWS};
use crate::transformer::{attention, mask, normed, split_heads};

/// Matrices of a layer after the gain of its first norm: query, key and value; output; gain; up; down.
const PER_LAYER: usize = 6;

/// Options of a study.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    /// Width of the residual stream, a multiple of `heads`.
    width: usize,
    /// Heads of attention.
    heads: usize,
    /// Layers.
    layers: usize,
    /// Letters that are looked at.
    context: usize,
    /// Windows of a step.
    batch: usize,
    /// Device that losses and gradients are computed on.
    device: DeviceName,
}

impl Default for Options {
    fn default() -> Self {
        Self { width: 32, heads: 2, layers: 2, context: 32, batch: 16, device: DeviceName::Cpu }
    }
}

/// A character-level transformer on Jane Austen's *Persuasion*.
pub(crate) struct Characters {
    text: Text,
    options: Options,
    positions: Tensor,
    mask: Tensor,
    shapes: Shapes,
}

impl Characters {
    /// With the text that is compiled into the program.
    ///
    /// # Errors
    /// An option out of range.
    pub(crate) fn new(options: Options) -> Result<Self> {
        let Options { width, heads, layers, context, batch, device } = options;
        ensure!(
            heads > 0 && (1..=1024).contains(&width) && width % heads == 0,
            "width = {width} must be a multiple of heads = {heads}, from 1 to 1024"
        );
        ensure!((1..=24).contains(&layers), "layers = {layers} must be from 1 to 24");
        ensure!((2..=512).contains(&context), "context = {context} must be from 2 to 512");
        ensure!((1..=4096).contains(&batch), "batch = {batch} must be from 1 to 4096");
        let device = device.open()?;
        Ok(Self {
            text: Text::load()?,
            positions: Tensor::arange(0, context as u32, &device)?,
            mask: mask(context, &device)?,
            shapes: Shapes::of(&initial_parameters(&options, 0)).on(&device),
            options,
        })
    }

    fn logits(&self, weights: &[Tensor], letters: &Tensor, batch: usize) -> Result<Tensor> {
        let Options { width, heads, layers, context, .. } = self.options;
        let embedded = weights[0].index_select(letters, 0)?.reshape((batch, context, width))?;
        let placed = embedded.broadcast_add(&weights[1].index_select(&self.positions, 0)?)?;
        let mut stream = placed.reshape((batch * context, width))?;
        let (inner, last) = weights[2..].split_at(layers * PER_LAYER);
        for layer in inner.chunks_exact(PER_LAYER) {
            let joined = normed(&stream, &layer[0])?.matmul(&layer[1].t()?)?;
            let attended = attention(&split_heads(&joined, batch, heads)?, &self.mask)?;
            stream = (stream + attended.matmul(&layer[2].t()?)?)?;
            let up = normed(&stream, &layer[3])?.matmul(&layer[4].t()?)?.relu()?;
            stream = (stream + up.matmul(&layer[5].t()?)?)?;
        }
        Ok(normed(&stream, &last[0])?.matmul(&last[1].t()?)?)
    }
}

fn initial_parameters(options: &Options, seed: u64) -> Vec<InitialParameter> {
    let Options { width, layers, context, .. } = *options;
    let mut generator = generator(seed, Purpose::Initialisation);
    let mut parameters = Vec::new();
    let mut draw = |name: String, shape: [usize; 2], deviation: f32| {
        let values = normal(&mut generator, shape[0] * shape[1], deviation);
        InitialParameter::new(name, &shape, values)
    };
    let gain = |name: String| InitialParameter::new(name, &[width], vec![1.0; width]);
    let inner = 1.0 / (width as f32).sqrt();
    // What is added to the stream once per layer starts smaller, so that the stream does not grow with their number.
    let added = inner / (2.0 * layers as f32).sqrt();
    parameters.push(draw("letters".into(), [ALPHABET.len(), width], 0.1));
    parameters.push(draw("positions".into(), [context, width], 0.1));
    for layer in 1..=layers {
        let name = |part: &str| format!("layer{layer}.{part}");
        parameters.push(gain(name("attention.norm")));
        parameters.push(draw(name("attention.in"), [3 * width, width], inner));
        parameters.push(draw(name("attention.out"), [width, width], added));
        parameters.push(gain(name("mlp.norm")));
        parameters.push(draw(name("mlp.in"), [4 * width, width], inner));
        parameters.push(draw(name("mlp.out"), [width, 4 * width], added / 2.0));
    }
    parameters.push(gain("norm".into()));
    parameters.push(draw("head".into(), [ALPHABET.len(), width], inner));
    parameters
}

impl Task for Characters {
    fn about(&self) -> About {
        let Options { width, heads, layers, context, batch, .. } = self.options;
        let count: usize = initial_parameters(&self.options, 0).iter().map(|p| p.values.len()).sum();
        About {
            description: format!(
                "Jane Austen's Persuasion, its letters reduced to {} characters: the first 80 % for training, then 10 % for \
                 validation and 10 % for the test. A transformer with {layers} layers of width {width}, {heads} heads, a context of {context} \
                 characters, root mean square norms before attention and perceptron, {count} parameters, initialised normally with 1/sqrt(width), predicts \
                 the next character, trained on the cross-entropy (nats) in batches of {batch} windows drawn at random. Evaluated on {WINDOWS} \
                 windows of each split.",
                ALPHABET.len()
            ) + &note(self.shapes.device()),
            reason: "What most deep learning is today, in small: embeddings, attention, gains, matrices of several shapes, and \
                     rare letters with rare gradients."
                .into(),
            measure: Measure::Loss,
            target: 2.1,
            test_examples: None,
            steps: 1000,
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

    #[test]
    fn no_letter_sees_what_comes_after_it() {
        let task = Characters::new(Options::default()).unwrap();
        let start = task.initial_parameters(0);
        let weights: Vec<&[f32]> = start.iter().map(|parameter| parameter.values.as_slice()).collect();
        let weights = task.shapes.tensors(&weights).unwrap();
        let context = task.options.context;
        let logits = |last: u32| {
            let mut window: Vec<u32> = task.text.split(Split::Train)[..context].to_vec();
            window[context - 1] = last;
            let window = Tensor::from_vec(window, context, task.shapes.device()).unwrap();
            task.logits(&weights, &window, 1).unwrap().to_vec2::<f32>().unwrap()
        };
        let (one, other) = (logits(1), logits(2));
        assert_eq!(one[..context - 1], other[..context - 1]);
        assert_ne!(one[context - 1], other[context - 1]);
    }

    #[test]
    fn an_untrained_network_knows_nothing() {
        let task = Characters::new(Options::default()).unwrap();
        let start = task.initial_parameters(0);
        let weights: Vec<&[f32]> = start.iter().map(|parameter| parameter.values.as_slice()).collect();
        let loss = task.evaluate(&weights, Split::Validation).unwrap().loss;
        let uniform = (ALPHABET.len() as f64).ln();
        assert!((loss - uniform).abs() < 0.7, "{loss} {uniform}");
    }
}
