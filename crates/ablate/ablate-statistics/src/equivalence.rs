use crate::joint::{Column, Effort, Sides, step_down};

/// p of the hypothesis that an arm makes a difference of at least a margin, for arms that share a base, corrected over
/// them. A small p says that the difference is smaller than the margin. Two one-sided tests (Schuirmann, 1987), each a
/// sign-flip test, form one step-down max-T family over all arms and both sides, as in
/// [`joint_sign_flip_p`](crate::joint_sign_flip_p).
///
/// `arms[arm][seed]` is the difference to the base, absent without a pair; `margins[arm]` is above 0. The answers are
/// in the order of the arms. They are absent for an arm with fewer than two pairs, with a difference that is not
/// finite, or without a margin.
///
/// One test of an arm asks whether its differences minus the margin lie below 0, the other one whether its differences
/// plus the margin lie above 0; p is the larger of the two. Both test the location of the differences. A large p of no
/// difference is not evidence of equivalence: few seeds or a wide spread do not make an arm equivalent.
///
/// If arms with p of at most a are called equivalent, one that is not is among them in at most a share a of studies,
/// whichever arms are. The condition: the differences of the arms that are not equivalent are jointly symmetric around
/// a centre at the margin or beyond. **The answer rests on symmetry**, more than in a test of no difference, where
/// skewed runs of equal spread still have symmetric differences. That also holds here if an arm is the base moved by a
/// constant. But if an arm's runs are skewed and their spread differs from the base's, its mean may be beyond the
/// margin while most of its differences are within, and it is called equivalent too often (the crate's README has
/// figures).
///
/// The smallest possible p is 1 / 2^seeds for any number of arms, and 2 / 2^seeds if another arm is far beyond its
/// margin on every seed. It is exact up to 14 seeds, and drawn beyond.
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
