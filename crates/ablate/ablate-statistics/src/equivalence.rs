use crate::joint::{Column, Effort, Sides, step_down};

/// p of arms that share a base to make a difference of at least a margin, corrected over them: where it is small, the difference is smaller than the
/// margin. Two one-sided tests (Schuirmann, 1987), each a sign-flip test, in one step-down max-T family over all arms and both sides,
/// as [`joint_sign_flip_p`](crate::joint_sign_flip_p) has it for the arms alone.
///
/// `arms[arm][seed]` is the difference to the base, absent where there is no pair; `margins[arm]` is above 0. The answers are in the order of the
/// arms, absent for one with fewer than two pairs, with a difference that is not finite, or without a margin.
///
/// The one test of an arm asks whether its differences, less the margin, lie below 0, the other one whether they lie above 0 with the margin
/// added; p is the larger one. Both are of the differences' place, and not of p-values of no difference: few seeds, or a wide spread,
/// are no evidence that an arm does nothing.
///
/// Rejecting where p is at most a calls an arm equivalent that is not in at most a share a of studies, whichever arms are, where the differences of those
/// that are not are jointly symmetric around a centre at the margin or beyond. **Symmetry is what the answer rests on**, more than a test of no
/// difference does: there, skewed runs of equal spread still have symmetric differences. Here the same holds of an arm that is the base moved
/// by a constant. Where an arm's runs are skewed and spread otherwise than the base's, its mean may be beyond the margin while most of its
/// differences are within, and it is called equivalent too often (the crate's README has figures).
///
/// The smallest p there can be is 1 / 2^seeds, and 2 / 2^seeds beside an arm that is far beyond its margin on every seed, however many the arms. Exact up to 14 seeds, drawn beyond.
///
/// ```
/// use ablate_statistics::joint_equivalence_p;
///
/// let close: Vec<Option<f64>> = [0.1, -0.2, 0.3, -0.1, 0.2, -0.3, 0.1].map(Some).to_vec();
/// let far: Vec<Option<f64>> = [2.0, 2.1, 1.9, 2.2, 2.0, 2.1, 1.8].map(Some).to_vec();
/// let p = joint_equivalence_p(&[close, far], &[1.0, 1.0], 0);
/// assert_eq!(p[0], Some(2.0 / 128.0));
/// assert_eq!(p[1], Some(1.0));
/// ```
pub fn joint_equivalence_p(arms: &[Vec<Option<f64>>], margins: &[f64], seed: u64) -> Vec<Option<f64>> {
    let mut columns = Vec::new();
    for (arm, (differences, margin)) in arms.iter().zip(margins).enumerate() {
        if !(margin.is_finite() && *margin > 0.0) {
            continue;
        }
        // Both shall be above 0.
        for sign in [1.0, -1.0] {
            let shifted: Vec<Option<f64>> =
                differences.iter().map(|difference| difference.map(|d| margin + sign * d)).collect();
            columns.extend(Column::of(arm, &shifted, Sides::One));
        }
    }
    let mut corrected: Vec<Option<f64>> = vec![None; arms.len()];
    for (arm, p) in step_down(columns, seed, Sides::One, Effort::VERDICT) {
        corrected[arm] = Some(corrected[arm].map_or(p, |other| other.max(p)));
    }
    corrected
}
