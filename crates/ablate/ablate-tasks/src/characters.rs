//! A small transformer that reads a novel letter by letter.

use std::io::Read;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use candle_nn::loss::cross_entropy;
use candle_nn::ops::softmax;
use flate2::read::GzDecoder;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::candle::Shapes;
use crate::random::{Purpose, generator, normal};
use crate::task::{About, Batch, Evaluation, Gradients, InitialParameter, Measure, Split, Task};

const DATA: &[u8] = include_bytes!("../data/persuasion.txt.gz");

/// Characters that are told apart: letters without their case, white space as one, and the commonest marks. Everything else is the last.
const ALPHABET: &[u8] = b" abcdefghijklmnopqrstuvwxyz,.;'\"-!?:#";

/// Matrices of a layer after the gain of its first norm: query, key and value; output; gain; up; down.
const PER_LAYER: usize = 6;

/// Windows of an evaluation, evenly spaced over the split.
const WINDOWS: usize = 48;

const EPSILON: f64 = 1e-5;

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
}

impl Default for Options {
    fn default() -> Self {
        Self { width: 32, heads: 2, layers: 2, context: 32, batch: 16 }
    }
}

/// A character-level transformer on Jane Austen's *Persuasion*.
pub(crate) struct Characters {
    train: Vec<u32>,
    validation: Vec<u32>,
    test: Vec<u32>,
    options: Options,
    positions: Tensor,
    /// Minus infinity where a letter would look ahead.
    mask: Tensor,
    shapes: Shapes,
}

impl Characters {
    /// With the text that is compiled into the program.
    ///
    /// # Errors
    /// An option out of range.
    pub(crate) fn new(options: Options) -> Result<Self> {
        let Options { width, heads, layers, context, batch } = options;
        ensure!(
            heads > 0 && (1..=1024).contains(&width) && width % heads == 0,
            "width = {width} must be a multiple of heads = {heads}, from 1 to 1024"
        );
        ensure!((1..=24).contains(&layers), "layers = {layers} must be from 1 to 24");
        ensure!((2..=512).contains(&context), "context = {context} must be from 2 to 512");
        ensure!((1..=4096).contains(&batch), "batch = {batch} must be from 1 to 4096");
        let letters = letters()?;
        let tenth = letters.len() / 10;
        let ahead = |place: usize| if place % context > place / context { f32::NEG_INFINITY } else { 0.0 };
        let mask: Vec<f32> = (0..context * context).map(ahead).collect();
        Ok(Self {
            train: letters[..8 * tenth].to_vec(),
            validation: letters[8 * tenth..9 * tenth].to_vec(),
            test: letters[9 * tenth..].to_vec(),
            positions: Tensor::arange(0, context as u32, &Device::Cpu)?,
            mask: Tensor::from_vec(mask, (context, context), &Device::Cpu)?,
            shapes: Shapes::of(&initial_parameters(&options, 0)),
            options,
        })
    }

    fn split(&self, split: Split) -> &[u32] {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
            Split::Test => &self.test,
        }
    }

    /// The mean cross-entropy of the letters that follow each of the windows' own, in nats.
    fn loss(&self, weights: &[Tensor], letters: &[u32], starts: &[usize]) -> Result<Tensor> {
        let context = self.options.context;
        let windows = |shift: usize| -> Result<Tensor> {
            let window = |start: &usize| letters[start + shift..start + shift + context].to_vec();
            let flat: Vec<u32> = starts.iter().flat_map(window).collect();
            Ok(Tensor::from_vec(flat, starts.len() * context, &Device::Cpu)?)
        };
        let logits = self.logits(weights, &windows(0)?, starts.len())?;
        Ok(cross_entropy(&logits, &windows(1)?)?)
    }

    fn logits(&self, weights: &[Tensor], letters: &Tensor, batch: usize) -> Result<Tensor> {
        let Options { width, layers, context, .. } = self.options;
        let embedded = weights[0].index_select(letters, 0)?.reshape((batch, context, width))?;
        let placed = embedded.broadcast_add(&weights[1].index_select(&self.positions, 0)?)?;
        let mut stream = placed.reshape((batch * context, width))?;
        let (inner, last) = weights[2..].split_at(layers * PER_LAYER);
        for layer in inner.chunks_exact(PER_LAYER) {
            let attended = self.attention(&normed(&stream, &layer[0])?.matmul(&layer[1].t()?)?, batch)?;
            stream = (stream + attended.matmul(&layer[2].t()?)?)?;
            let up = normed(&stream, &layer[3])?.matmul(&layer[4].t()?)?.relu()?;
            stream = (stream + up.matmul(&layer[5].t()?)?)?;
        }
        Ok(normed(&stream, &last[0])?.matmul(&last[1].t()?)?)
    }

    /// Causal attention over queries, keys and values side by side.
    fn attention(&self, joined: &Tensor, batch: usize) -> Result<Tensor> {
        let Options { width, heads, context, .. } = self.options;
        let joined = joined.reshape((batch, context, 3, heads, width / heads))?;
        let part = |index: usize| -> Result<Tensor> {
            Ok(joined.narrow(2, index, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous()?)
        };
        let (queries, keys, values) = (part(0)?, part(1)?, part(2)?);
        let scale = 1.0 / (width as f64 / heads as f64).sqrt();
        let scores = (queries.matmul(&keys.t()?)? * scale)?.broadcast_add(&self.mask)?;
        let mixed = softmax(&scores, 3)?.matmul(&values)?;
        Ok(mixed.transpose(1, 2)?.reshape((batch * context, width))?)
    }
}

/// Root mean square normalisation with a gain.
fn normed(stream: &Tensor, gain: &Tensor) -> Result<Tensor> {
    let scale = (stream.sqr()?.mean_keepdim(1)? + EPSILON)?.sqrt()?;
    Ok(stream.broadcast_div(&scale)?.broadcast_mul(gain)?)
}

/// The text as places in the alphabet, runs of white space as one.
fn letters() -> Result<Vec<u32>> {
    let mut text = String::new();
    GzDecoder::new(DATA).read_to_string(&mut text).context(
        "persuasion.txt.gz cannot be decompressed; restore it (crates/ablate/ablate-tasks/data/README.md says from where)",
    )?;
    let other = ALPHABET.len() - 1;
    let mut letters: Vec<u32> = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        let byte = if byte.is_ascii_whitespace() { b' ' } else { byte.to_ascii_lowercase() };
        let place = ALPHABET.iter().position(|letter| *letter == byte).unwrap_or(other) as u32;
        if place != 0 || letters.last() != Some(&0) {
            letters.push(place);
        }
    }
    Ok(letters)
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
        let Options { width, heads, layers, context, batch } = self.options;
        let count: usize = initial_parameters(&self.options, 0).iter().map(|p| p.values.len()).sum();
        About {
            description: format!(
                "Jane Austen's Persuasion, its letters reduced to {} characters: the first 80 % for training, then 10 % for \
                 validation and 10 % for the test. A transformer with {layers} layers of width {width}, {heads} heads, a context of {context} \
                 characters, root mean square norms before attention and perceptron, {count} parameters, initialised normally with 1/sqrt(width), predicts \
                 the next character, trained on the cross-entropy (nats) in batches of {batch} windows drawn at random. Evaluated on {WINDOWS} \
                 windows of each split.",
                ALPHABET.len()
            ),
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
        let mut generator = generator(seed, Purpose::Order(step));
        let last = self.train.len() - self.options.context - 1;
        let examples = (0..self.options.batch).map(|_| generator.random_range(0..=last as u32)).collect();
        Batch { seed, step, examples }
    }

    fn gradients(&self, weights: &[&[f32]], batch: &Batch) -> Result<Gradients> {
        let starts: Vec<usize> = batch.examples.iter().map(|&start| start as usize).collect();
        self.shapes.gradients(weights, |weights| self.loss(weights, &self.train, &starts))
    }

    fn evaluate(&self, weights: &[&[f32]], split: Split) -> Result<Evaluation> {
        let weights = self.shapes.tensors(weights)?;
        let letters = self.split(split);
        let last = letters.len() - self.options.context - 1;
        let starts: Vec<usize> = (0..WINDOWS).map(|window| window * last / (WINDOWS - 1)).collect();
        let mut sum = 0.0;
        for starts in starts.chunks(16) {
            let loss = self.loss(&weights, letters, starts)?.to_dtype(DType::F64)?;
            sum += loss.to_scalar::<f64>()? * starts.len() as f64;
        }
        Ok(Evaluation { loss: sum / WINDOWS as f64, accuracy: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_text_is_the_one_whose_source_is_named() {
        let digest: String = Sha256::digest(DATA).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, "4f03c434e94a3cac0b6f97562f194c278ad8035d47129cbc7bcedc204014e985");
        let letters = letters().unwrap();
        let text: String =
            letters[10..50].iter().map(|&letter| char::from(ALPHABET[letter as usize])).collect();
        assert_eq!(text, "sir walter elliot, of kellynch hall, in ");
    }

    #[test]
    fn no_letter_sees_what_comes_after_it() {
        let task = Characters::new(Options::default()).unwrap();
        let start = task.initial_parameters(0);
        let weights: Vec<&[f32]> = start.iter().map(|parameter| parameter.values.as_slice()).collect();
        let weights = task.shapes.tensors(&weights).unwrap();
        let context = task.options.context;
        let logits = |last: u32| {
            let mut window: Vec<u32> = task.train[..context].to_vec();
            window[context - 1] = last;
            let window = Tensor::from_vec(window, context, &Device::Cpu).unwrap();
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
