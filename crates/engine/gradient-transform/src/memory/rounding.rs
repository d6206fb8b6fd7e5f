//! Rounding to bfloat16 when a column is stored.

use std::array;

use half::bf16;
use multiversion::multiversion;
use serde::{Deserialize, Serialize};

/// How float32 results are rounded into bfloat16 parameters and state.
///
/// ```
/// use gradient_transform::{Descent, Optimizer, Parameter, ParameterGroup, Rounding, Settings};
/// use half::bf16;
///
/// let after_200_steps = |rounding| -> Result<bf16, gradient_transform::Error> {
///     let group = ParameterGroup::new(Descent::default(), [("w", &[1][..])]).lr(1e-3).rounding(rounding);
///     let mut optimizer: Optimizer = Optimizer::with_groups([group], Settings::default())?;
///     let mut w = [bf16::ONE];
///     for _ in 0..200 {
///         optimizer.step(&mut [Parameter::slice(&mut w, Some(&[bf16::ONE]))])?;
///     }
///     Ok(w[0])
/// };
/// // bfloat16 numbers below 1 are 2^-8 apart: steps of 0.001 are lost, or rounded up to 2^-8 one time in four.
/// assert_eq!(after_200_steps(Rounding::Nearest)?, bf16::ONE);
/// assert!((after_200_steps(Rounding::Stochastic)?.to_f32() - 0.8).abs() < 0.1);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rounding {
    /// To the nearest value, ties to even. Updates below half a unit in the last place (2^-9 of the weight) are lost.
    Nearest,
    /// Up or down, with probabilities that make the expected value exact.
    Stochastic,
}

/// The random numbers of one column of one parameter in one step.
///
/// They are a function of (seed, parameter's name, column's name, step, element), so they do not depend on
/// the number of threads or on the order of parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream(u64);

impl From<u64> for Stream {
    fn from(key: u64) -> Self {
        Self(key)
    }
}

impl Stream {
    pub(crate) fn new(seed: u64, parameter: u64, column: u64, step: u64) -> Self {
        let mut key = seed;
        for part in [parameter, column, step] {
            key = mix64(key ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        Self(key)
    }

    /// The key of its random numbers.
    pub(crate) fn key(self) -> u64 {
        self.0
    }

    /// Stores `values`, the elements from `offset` on.
    pub(crate) fn store(self, mut values: &[f32], mut offset: usize, mut target: &mut [bf16]) {
        while !values.is_empty() {
            let (block, first) = (offset / BLOCK, offset % BLOCK);
            let n = (BLOCK - first).min(values.len());
            let head = target.split_off_mut(..n).unwrap_or_default();
            store(mix64(self.0 ^ block as u64), first, &values[..n], head);
            (values, offset) = (&values[n..], offset + n);
        }
    }
}

/// Number of elements with the same key, so that a counter of 32 bits is enough for any tensor.
const BLOCK: usize = 1024;

/// Number of hashes that are computed together: each has random bits for two elements, this number
/// apart.
const HASHES: usize = 64;

/// Stores `values`, the elements of a block from `first` on.
#[multiversion(targets = "simd")]
fn store(key: u64, first: usize, values: &[f32], target: &mut [bf16]) {
    let mut done = 0;
    while done < values.len() {
        let at = first + done;
        let hashes: [u32; HASHES] = array::from_fn(|i| hash(key, (at / (2 * HASHES) * HASHES + i) as u32));
        let within = at % (2 * HASHES);
        let to = values.len().min(done + 2 * HASHES - within);
        let (values, target) = (&values[done..to], &mut target[done..to]);
        if let (Ok(values), Ok(target)) = (values.try_into(), target.try_into()) {
            store_all(&hashes, values, target);
        } else {
            for (i, (target, &value)) in target.iter_mut().zip(values).enumerate() {
                *target = round_stochastic(value, noise(&hashes, within + i));
            }
        }
        done = to;
    }
}

/// The elements of all hashes, with loops of constant length.
#[inline(always)]
fn store_all(hashes: &[u32; HASHES], values: &[f32; 2 * HASHES], target: &mut [bf16; 2 * HASHES]) {
    for i in 0..HASHES {
        target[i] = round_stochastic(values[i], noise(hashes, i));
    }
    for i in HASHES..2 * HASHES {
        target[i] = round_stochastic(values[i], noise(hashes, i));
    }
}

/// A value as bfloat16, with 16 random bits for stochastic rounding.
pub(crate) fn round_with(rounding: Rounding, value: f32, random: u16) -> bf16 {
    match rounding {
        Rounding::Nearest => bf16::from_f32(value),
        Rounding::Stochastic => round_stochastic(value, u32::from(random)),
    }
}

/// The 16 random bits that stochastic rounding adds to an element below the last bit that bfloat16 keeps. `key` is the array's in a
/// step.
///
/// ```
/// use gradient_transform::device::random_bits;
///
/// let up = (0..100_000).filter(|&i| random_bits(7, i) >= 0x8000).count();
/// assert!((up as f64 / 100_000.0 - 0.5).abs() < 0.01);
/// ```
pub fn random_bits(key: u64, element: usize) -> u16 {
    let within = element % BLOCK;
    let counter = within / (2 * HASHES) * HASHES + within % HASHES;
    let hash = hash(mix64(key ^ (element / BLOCK) as u64), counter as u32);
    if within % (2 * HASHES) < HASHES { (hash >> 16) as u16 } else { (hash & 0xffff) as u16 }
}

/// 16 random bits for element `i`.
#[inline(always)]
fn noise(hashes: &[u32; HASHES], i: usize) -> u32 {
    if i < HASHES { hashes[i] >> 16 } else { hashes[i - HASHES] & 0xffff }
}

/// A finaliser with two rounds, into which both halves of the key go. 32-bit products vectorise on every target, 64-bit ones
/// do not.
#[inline(always)]
fn hash(key: u64, counter: u32) -> u32 {
    let mut h = counter.wrapping_mul(0x9e37_79b1) ^ key as u32;
    h ^= h >> 16;
    h = h.wrapping_mul(0x7feb_352d);
    h ^= h >> 15;
    h = h.wrapping_add((key >> 32) as u32);
    h = h.wrapping_mul(0x846c_a68b);
    h ^ (h >> 16)
}

/// Adds `noise`, 16 random bits, below the last bit that bfloat16 keeps, and cuts.
#[inline(always)]
fn round_stochastic(value: f32, noise: u32) -> bf16 {
    let bits = value.to_bits();
    // A carry out of the mantissa of the largest finite value gives infinity, as rounding to the nearest
    // would; NaN and infinity stay.
    let noise = if bits & 0x7f80_0000 == 0x7f80_0000 { 0 } else { noise };
    bf16::from_bits(((bits.wrapping_add(noise)) >> 16) as u16)
}

/// The finaliser of SplitMix64.
pub(crate) const fn mix64(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a: names turn into keys of random streams, the same on every machine and in every version.
pub(crate) fn hash_name(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stochastic_rounding_is_unbiased() {
        // 1 + 0.3 units in the last place of bfloat16: must round up in 30% of the cases.
        let value = 1.0 + 0.3 / 128.0;
        let n = 1 << 16;
        let mut target = vec![bf16::ZERO; n];
        let mut up = 0;
        for step in 0..8 {
            Stream::new(7, 1, 2, step).store(&vec![value; n], 0, &mut target);
            up += target.iter().filter(|t| t.to_f32() > 1.0).count();
        }
        let share = up as f64 / (8 * n) as f64;
        // Five standard deviations of a binomial with 2^19 trials.
        assert!((share - 0.3).abs() < 5.0 * (0.3 * 0.7 / (8.0 * n as f64)).sqrt(), "{share}");
    }

    #[test]
    fn neighbours_and_steps_are_uncorrelated() {
        let n = 1 << 16;
        let bits = |step: u64| -> Vec<f64> {
            let Stream(key) = Stream::new(1, 2, 3, step);
            let pairs = 0..n / (2 * HASHES);
            let bits = pairs.flat_map(|pair| {
                let (block, first) = (2 * HASHES * pair / BLOCK, HASHES * pair % (BLOCK / 2));
                let key = mix64(key ^ block as u64);
                let hashes: [u32; HASHES] = array::from_fn(|i| hash(key, (first + i) as u32));
                array::from_fn::<u32, { 2 * HASHES }, _>(|i| noise(&hashes, i))
            });
            bits.map(|bits| f64::from(bits) / 65536.0 - 0.5).collect()
        };
        let (a, b) = (bits(1), bits(2));
        let correlation =
            |x: &[f64], y: &[f64]| 12.0 * x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>() / x.len() as f64;
        for (name, value) in [
            ("steps", correlation(&a, &b)),
            ("neighbours", correlation(&a[1..], &a[..n - 1])),
            ("halves of a hash", correlation(&a[HASHES..], &a[..n - HASHES])),
            ("blocks", correlation(&a[BLOCK..], &a[..n - BLOCK])),
        ] {
            assert!(value.abs() < 5.0 / (n as f64).sqrt(), "{name}: {value}");
        }
    }

    #[test]
    fn the_same_elements_round_alike_wherever_a_tile_begins() {
        let values: Vec<f32> = (0..101).map(|i| 1.0 + i as f32 * 1e-3).collect();
        let stream = Stream::new(3, 4, 5, 6);
        let mut whole = vec![bf16::ZERO; 101];
        stream.store(&values, 0, &mut whole);
        for cut in [1, 2, 37, 100] {
            let mut parts = vec![bf16::ZERO; 101];
            let (left, right) = parts.split_at_mut(cut);
            stream.store(&values[..cut], 0, left);
            stream.store(&values[cut..], cut, right);
            assert_eq!(whole, parts);
        }
    }

    #[test]
    fn random_bits_are_those_of_whole_blocks() {
        let stream = Stream::new(3, 4, 5, 6);
        let values: Vec<f32> = (0..3000).map(|i| 1.0 + i as f32 * 1e-4).collect();
        let mut stored = vec![bf16::ZERO; values.len()];
        stream.store(&values, 0, &mut stored);
        for (i, (&value, stored)) in values.iter().zip(stored).enumerate() {
            assert_eq!(round_stochastic(value, u32::from(random_bits(stream.key(), i))), stored, "{i}");
        }
    }

    #[test]
    fn values_that_bfloat16_can_hold_are_kept() {
        for value in [0.0_f32, -0.0, 1.0, -3.5, 2.0_f32.powi(-130), f32::INFINITY, f32::NEG_INFINITY] {
            for noise in [0, 1, 0x8000, 0xffff] {
                assert_eq!(round_stochastic(value, noise).to_f32().to_bits(), value.to_bits());
            }
        }
        assert!(round_stochastic(f32::NAN, 0xffff).is_nan());
    }
}
