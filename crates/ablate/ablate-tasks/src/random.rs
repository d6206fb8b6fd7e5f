//! Random numbers that depend only on a seed and a purpose.
//!
//! ```
//! use ablate_tasks::random::{Purpose, epoch_batch, generator, normal, uniform};
//!
//! let mut initial = generator(3, Purpose::Initialisation);
//! let weights = uniform(&mut initial, 4, 0.5);
//! assert!(weights.iter().all(|w| w.abs() <= 0.5));
//! assert_ne!(weights, uniform(&mut initial, 4, 0.5)); // the next numbers
//! assert_eq!(weights, uniform(&mut generator(3, Purpose::Initialisation), 4, 0.5));
//! assert_eq!(normal(&mut generator(3, Purpose::Noise(7)), 2, 0.0), [0.0, 0.0]);
//! let batch = epoch_batch(3, 12, 100, 10); // the third one of the second epoch
//! assert_eq!(batch.len(), 10);
//! assert_eq!(batch, epoch_batch(3, 12, 100, 10));
//! ```

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, Uniform};

/// Purposes of random numbers. Purposes have streams of their own, so that drawing more for one leaves the others
/// as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The initial parameters.
    Initialisation,
    /// The order of the examples in an epoch (counted from 0).
    Order(usize),
    /// The noise of a step (counted from 0): dropout, or a noisy gradient.
    Noise(usize),
}

/// The generator of a seed and a purpose.
pub fn generator(seed: u64, purpose: Purpose) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(match purpose {
        Purpose::Initialisation => 0,
        Purpose::Order(epoch) => 1 + 2 * epoch as u64,
        Purpose::Noise(step) => 2 + 2 * step as u64,
    });
    generator
}

/// The examples of a step, where every epoch visits all `examples` in a new order, in batches of `size`.
///
/// Examples that don't fill a batch are left out of the epoch: a shorter batch would have noisier gradients than the
/// others, and the same weight. `size` must be from 1 to `examples`.
pub fn epoch_batch(seed: u64, step: usize, examples: usize, size: usize) -> Vec<u32> {
    let batches = examples / size;
    let (epoch, index) = (step / batches, step % batches);
    let mut order: Vec<u32> = (0..examples as u32).collect();
    order.shuffle(&mut generator(seed, Purpose::Order(epoch)));
    order[index * size..][..size].to_vec()
}

/// `count` numbers, uniform in [-bound, bound); zeros for a bound of 0.
pub fn uniform(generator: &mut ChaCha8Rng, count: usize, bound: f32) -> Vec<f32> {
    match Uniform::new(-bound, bound) {
        Ok(distribution) => distribution.sample_iter(generator).take(count).collect(),
        Err(_) => vec![0.0; count],
    }
}

/// `count` numbers from a normal distribution around 0.
pub fn normal(generator: &mut ChaCha8Rng, count: usize, standard_deviation: f32) -> Vec<f32> {
    let draw = |_| {
        let value: f32 = StandardNormal.sample(generator);
        standard_deviation * value
    };
    (0..count).map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_visits_no_example_twice_and_the_next_one_has_another_order() {
        let epoch = |epoch: usize| -> Vec<u32> {
            (0..10).flat_map(|index| epoch_batch(3, 10 * epoch + index, 105, 10)).collect()
        };
        let (first, second) = (epoch(0), epoch(1));
        let mut sorted = first.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!((sorted.len(), first.len()), (100, 100));
        assert_ne!(first, second);
        assert_eq!(first, epoch(0));
    }

    #[test]
    fn seeds_and_purposes_have_streams_of_their_own() {
        let draw = |seed, purpose| uniform(&mut generator(seed, purpose), 8, 1.0);
        let all = [
            draw(0, Purpose::Initialisation),
            draw(1, Purpose::Initialisation),
            draw(0, Purpose::Order(0)),
            draw(0, Purpose::Noise(0)),
            draw(0, Purpose::Order(1)),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b), "stream {i} comes twice");
        }
    }
}
