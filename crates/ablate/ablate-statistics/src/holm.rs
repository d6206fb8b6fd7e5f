/// p-values corrected for their number (Holm, 1979): with the m values in rising order, the k-th becomes the largest of
/// (m - j + 1) p_j over all j up to k, at most 1. Rejecting where the corrected p is at most a rejects any true
/// hypothesis in at most a share a of studies, however the tests depend on each other.
///
/// In the order given. An absent value stays absent and doesn't count.
///
/// ```
/// use ablate_statistics::holm;
/// assert_eq!(holm(&[Some(0.03), Some(0.01), None, Some(0.04)]), [Some(0.06), Some(0.03), None, Some(0.06)]);
/// ```
pub fn holm(p: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<(usize, f64)> = p.iter().enumerate().filter_map(|(i, p)| Some((i, (*p)?))).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut corrected = vec![None; p.len()];
    let mut largest = 0.0_f64;
    for (rank, (index, p)) in order.iter().enumerate() {
        largest = largest.max((order.len() - rank) as f64 * p).min(1.0);
        corrected[*index] = Some(largest);
    }
    corrected
}
