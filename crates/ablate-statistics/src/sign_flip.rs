use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::summary::mean;

/// Samples up to this size are tested exactly, by all 2^n sign patterns.
const EXACT: usize = 14;

/// Sign patterns drawn for larger samples.
const DRAWN: usize = 10_000;

/// Two-sided p of the hypothesis that differences are as likely to have the one sign as the other: the share of sign
/// patterns whose mean is at least as far from 0 (Fisher's randomisation test for pairs). Nothing is assumed of their
/// distribution but this symmetry, which holds under the hypothesis that arm and base are exchangeable.
///
/// Exact up to 14 differences; beyond, by 10,000 patterns drawn from `seed`, with the observed one counted in, so that p is
/// never too small. Absent below two values, or with one that is not finite.
///
/// ```
/// use ablate_statistics::sign_flip_p;
/// assert_eq!(sign_flip_p(&[1.0, 2.0, 3.0], 0), Some(0.25)); // two of eight patterns
/// assert_eq!(sign_flip_p(&[0.0, 0.0], 0), Some(1.0));
/// ```
pub fn sign_flip_p(differences: &[f64], seed: u64) -> Option<f64> {
    let n = differences.len();
    if n < 2 || differences.iter().any(|difference| !difference.is_finite()) {
        return None;
    }
    // In units of the largest, or else a sum of huge ones would be infinite. A power of two rounds nothing.
    let largest = differences.iter().map(|difference| difference.abs()).fold(0.0, f64::max);
    let unit = if largest > 1.0 { largest.log2().floor().exp2() } else { 1.0 };
    let differences: Vec<f64> = differences.iter().map(|difference| difference / unit).collect();
    let observed = mean(&differences).abs() * n as f64;
    // Sums of the same numbers in another order differ by rounding.
    let scale: f64 = differences.iter().map(|difference| difference.abs()).sum();
    let limit = observed - 1e-12 * scale;
    let is_as_far = |sign: &mut dyn FnMut(usize) -> bool| {
        let sum: f64 = (0..n).map(|i| if sign(i) { differences[i] } else { -differences[i] }).sum();
        sum.abs() >= limit
    };
    if n <= EXACT {
        let patterns = 1_u32 << n;
        let count = (0..patterns).filter(|pattern| is_as_far(&mut |i| pattern >> i & 1 == 1)).count();
        return Some(count as f64 / f64::from(patterns));
    }
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let count = (0..DRAWN).filter(|_| is_as_far(&mut |_| generator.random())).count();
    Some((count + 1) as f64 / (DRAWN + 1) as f64)
}
