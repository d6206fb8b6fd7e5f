//! Addition modulo a prime: a network that learns the table by heart long before it understands it.

use anyhow::{Result, ensure};
use candle_core::Tensor;
use candle_nn::loss::cross_entropy;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::candle::{Shapes, correct};
use crate::device::{DeviceName, note};
use crate::random::{Purpose, generator, uniform};
use crate::task::{About, Batch, Evaluation, Gradients, InitialParameter, Measure, Split, Task};

/// The split belongs to the task, not to a run.
const SPLIT_SEED: u64 = 23;

/// Options of a study.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    /// The modulus p; there are p^2 sums.
    prime: usize,
    /// The share of all sums that is trained on; the rest is split evenly.
    train_share: f64,
    /// Width of the hidden layer.
    width: usize,
    /// Device that losses and gradients are computed on.
    device: DeviceName,
}

impl Default for Options {
    fn default() -> Self {
        Self { prime: 31, train_share: 0.7, width: 96, device: DeviceName::Cpu }
    }
}

struct Sums {
    first: Tensor,
    second: Tensor,
    sum: Tensor,
}

/// (a + b) mod p from one-hot a and b.
pub(crate) struct Modular {
    train: Sums,
    validation: Sums,
    test: Sums,
    options: Options,
    shapes: Shapes,
}

impl Modular {
    /// All sums, split.
    ///
    /// # Errors
    /// An option out of range.
    pub(crate) fn new(options: Options) -> Result<Self> {
        let Options { prime, train_share, width, device } = options;
        ensure!((5..=199).contains(&prime), "prime = {prime} must be from 5 to 199");
        ensure!((0.1..=0.9).contains(&train_share), "train_share = {train_share} must be from 0.1 to 0.9");
        ensure!((1..=4096).contains(&width), "width = {width} must be from 1 to 4096");
        let mut pairs: Vec<usize> = (0..prime * prime).collect();
        pairs.shuffle(&mut ChaCha8Rng::seed_from_u64(SPLIT_SEED));
        let (train, rest) = pairs.split_at((train_share * (prime * prime) as f64).round() as usize);
        let (validation, test) = rest.split_at(rest.len() / 2);
        let device = device.open()?;
        let sums = |pairs: &[usize]| -> Result<Sums> {
            let tensor = |of: &dyn Fn(usize) -> usize| {
                let values: Vec<u32> = pairs.iter().map(|&pair| of(pair) as u32).collect();
                Tensor::from_vec(values, pairs.len(), &device)
            };
            Ok(Sums {
                first: tensor(&|pair| pair / prime)?,
                second: tensor(&|pair| prime + pair % prime)?,
                sum: tensor(&|pair| (pair / prime + pair % prime) % prime)?,
            })
        };
        Ok(Self {
            train: sums(train)?,
            validation: sums(validation)?,
            test: sums(test)?,
            shapes: Shapes::of(&initial_parameters(&options, 0)).on(&device),
            options,
        })
    }

    fn split(&self, split: Split) -> &Sums {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
            Split::Test => &self.test,
        }
    }
}

/// One row of the first layer per number and place: what a one-hot input picks.
fn logits(weights: &[Tensor], sums: &Sums) -> Result<Tensor> {
    let picked = (weights[0].index_select(&sums.first, 0)? + weights[0].index_select(&sums.second, 0)?)?;
    let hidden = picked.relu()?;
    Ok(hidden.matmul(&weights[1].t()?)?)
}

fn initial_parameters(options: &Options, seed: u64) -> Vec<InitialParameter> {
    let Options { prime, width, .. } = *options;
    let mut generator = generator(seed, Purpose::Initialisation);
    let mut draw = |name: &str, shape: &[usize], inputs: usize| {
        let values = uniform(&mut generator, shape.iter().product(), 1.0 / (inputs as f32).sqrt());
        InitialParameter::new(name, shape, values)
    };
    vec![draw("numbers", &[2 * prime, width], 2 * prime), draw("sums", &[prime, width], width)]
}

impl Task for Modular {
    fn about(&self) -> About {
        let Options { prime, width, .. } = self.options;
        let counts =
            [Split::Train, Split::Validation, Split::Test].map(|split| self.split(split).sum.elem_count());
        About {
            description: format!(
                "(a + b) mod {prime} for all pairs: {} for training, {} for validation, {} for the test, split once with seed \
                 {SPLIT_SEED}. A perceptron {}-{width}-{prime} with ReLU and without biases on one-hot a and b, initialised \
                 uniformly within 1/sqrt(inputs), is trained on the cross-entropy of all training pairs at once, without \
                 weight decay.",
                counts[0],
                counts[1],
                counts[2],
                2 * prime
            ) + &note(self.shapes.device()),
            reason: "Grokking: the training pairs are soon known by heart, and whether the rule is found depends on the \
                     optimizer. OrthoGrad's paper (Prieto et al., 2501.04697) claims that it is."
                .into(),
            measure: Measure::Accuracy,
            target: 0.5,
            test_examples: Some(counts[2]),
            steps: 2000,
        }
    }

    fn initial_parameters(&self, seed: u64) -> Vec<InitialParameter> {
        initial_parameters(&self.options, seed)
    }

    fn batch(&self, seed: u64, step: usize) -> Batch {
        Batch { seed, step, examples: (0..self.train.sum.elem_count() as u32).collect() }
    }

    fn gradients(&self, weights: &[&[f32]], _batch: &Batch) -> Result<Gradients> {
        self.shapes
            .gradients(weights, |weights| Ok(cross_entropy(&logits(weights, &self.train)?, &self.train.sum)?))
    }

    fn evaluate(&self, weights: &[&[f32]], split: Split) -> Result<Evaluation> {
        let (weights, sums) = (self.shapes.tensors(weights)?, self.split(split));
        let logits = logits(&weights, sums)?;
        let loss = f64::from(cross_entropy(&logits, &sums.sum)?.to_scalar::<f32>()?);
        let accuracy = correct(&logits, &sums.sum)? / sums.sum.elem_count() as f64;
        Ok(Evaluation { loss, accuracy: Some(accuracy) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_in_one_split_with_its_sum() {
        let task = Modular::new(Options { prime: 7, ..Options::default() }).unwrap();
        let mut pairs = Vec::new();
        for split in [Split::Train, Split::Validation, Split::Test] {
            let sums = task.split(split);
            let read = |tensor: &Tensor| tensor.to_vec1::<u32>().unwrap();
            for ((a, b), sum) in read(&sums.first).into_iter().zip(read(&sums.second)).zip(read(&sums.sum)) {
                assert_eq!((a + b - 7) % 7, sum);
                pairs.push((a, b - 7));
            }
        }
        pairs.sort_unstable();
        pairs.dedup();
        assert_eq!(pairs.len(), 49);
    }
}
