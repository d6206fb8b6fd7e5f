/// Noise between two runs that should be equal: the root mean square of their differences. Their mean is taken as 0,
/// because the order of the two is arbitrary. So this is the standard deviation that such noise gives to a pair's
/// difference.
///
/// Pairs without a finite difference are left out. Absent without any pair.
///
/// For normal noise, its relative error with k pairs is about 1 / sqrt(2 k): 71 % with one pair.
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
