/// How far apart two runs are that should be equal: the root mean square of their differences. Their mean is 0, as nobody says which of the
/// two is the first, so that this is the standard deviation that such noise alone gives to a pair's difference.
///
/// Pairs without a finite difference have no part in it; absent where there is none.
///
/// With k pairs it is known to about a share 1 / sqrt(2 k) of itself, where the noise is normal: of one pair to 71 %.
///
/// ```
/// use ablate_statistics::repeat_noise;
///
/// assert_eq!(repeat_noise(&[(0.5, 0.5), (0.3, 0.3)]), Some(0.0));
/// assert_eq!(repeat_noise(&[(1.0, 4.0), (2.0, -2.0), (f64::NAN, 1.0)]), Some(12.5_f64.sqrt()));
/// assert_eq!(repeat_noise(&[]), None);
/// ```
pub fn repeat_noise(pairs: &[(f64, f64)]) -> Option<f64> {
    let differences: Vec<f64> =
        pairs.iter().map(|(one, other)| one - other).filter(|difference| difference.is_finite()).collect();
    let squares: f64 = differences.iter().map(|difference| difference * difference).sum();
    (!differences.is_empty()).then(|| (squares / differences.len() as f64).sqrt())
}
