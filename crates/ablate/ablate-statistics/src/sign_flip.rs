use crate::joint::joint_sign_flip_p;

/// Two-sided p of the hypothesis that both signs of a difference are equally likely (Fisher's randomisation test for
/// pairs): the share of sign patterns with a sum at least as far from 0. The sum is over the roots of the differences'
/// sizes, with their signs. The only assumption is this symmetry, which holds if arm and base are exchangeable.
///
/// It is [`joint_sign_flip_p`] of a single arm: exact up to 14 differences, and from 10,000 patterns drawn from `seed`
/// beyond. Absent below two values, or with a value that is not finite.
///
/// ```
/// use ablate_statistics::sign_flip_p;
/// assert_eq!(sign_flip_p(&[1.0, 2.0, 3.0], 0), Some(0.25)); // two of eight patterns
/// assert_eq!(sign_flip_p(&[0.0, 0.0], 0), Some(1.0));
/// ```
pub fn sign_flip_p(differences: &[f64], seed: u64) -> Option<f64> {
    joint_sign_flip_p(&[differences.iter().copied().map(Some).collect()], seed).pop().flatten()
}

/// Smallest number of pairs with which a sign-flip test can reject at a level, of one arm or of many: of the 2^n sign
/// patterns at least two are as extreme as any.
///
/// ```
/// assert_eq!(ablate_statistics::fewest_pairs(0.05), 6); // 2/32 is above it, 2/64 is not
/// ```
pub const fn fewest_pairs(level: f64) -> usize {
    let mut pairs = 1;
    let mut smallest = 1.0;
    // Below 2^-63 no study is so large.
    while smallest > level && pairs < 64 {
        pairs += 1;
        smallest /= 2.0;
    }
    pairs
}
