use gradient_transform::{Counts, Estimate, GroupPolicy, GroupState, SplitGroups};
use serde::{Deserialize, Serialize};

/// The defects of the Python reference 1.9.2 between tensors and groups, and in evaluation. All are off by
/// default.
///
/// All but the last one are a policy of the engine, which you can also set for an optimizer with custom
/// groups:
///
/// ```
/// use gradient_transform::{Estimate, GroupPolicy, GroupState, Optimizer, SplitGroups, StepSummary};
/// use prodigy_plus::{EngineCompat, Options};
///
/// let one = EngineCompat { harmonic_mean_counts_inactive: true, ..EngineCompat::default() };
/// assert!(one != EngineCompat::V1_9_2 && EngineCompat::V1_9_2.harmonic_mean_counts_inactive);
/// let mut optimizer = Optimizer::new(Options::default().transforms()?, [("w", [64, 32])])?;
/// optimizer.set_policy(one);
///
/// // A group with d = 1e-3, and one that has had no gradient yet.
/// let group = |index, d, has_moved| {
///     let estimate = Estimate { d, ..Estimate::new(1e-6) };
///     GroupState { index, k: 9, lr: 1.0, estimate, has_moved, resumed: false, summary: StepSummary::default() }
/// };
/// let groups = [group(0, 1e-3, true), group(1, 1e-6, false)];
/// let step_with = |policy: &dyn GroupPolicy| {
///     let mut d = groups.map(|group| group.estimate.d);
///     policy.share(SplitGroups::Mean, &groups, &mut d);
///     d
/// };
/// assert_eq!(step_with(&EngineCompat::default()), [1e-3, 1e-6]);
/// assert!(step_with(&one).iter().all(|d| (d / 2e-6 - 1.0).abs() < 1e-2)); // 2/(1/1e-3 + 1/1e-6)
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineCompat {
    /// With one d for all groups, the first group's d_prev follows d and the others' stay at d0: their moments are rescaled by
    /// `(d0/d)^2` in every step, forever. Corrected: by `(d_prev/d)^2`, with the same d_prev in all groups.
    pub joint_d_prev_not_copied: bool,
    /// The harmonic mean `n / (1/d_1 + ... + 1/d_n)` is over all n groups, even those whose d cannot leave
    /// d0, and `1/d0` keeps it near `n d0`; and a group that is added later starts with it. Corrected: it is
    /// over the groups whose d has left d0, and a group at d0 steps with `min(d, mean)`.
    pub harmonic_mean_counts_inactive: bool,
    /// `prodigy_steps` is compared with the number of steps k, so that a longer warm-up at learning rate 0
    /// freezes d at d0. Corrected: with k minus the steps at learning rate 0.
    pub freeze_counts_still_steps: bool,
    /// The harmonic mean is not saved, so the first step after resuming has each group's own `lr d`.
    /// Corrected: `lr mean`.
    pub shared_d_not_saved: bool,
    /// A group's k grows and its estimate is moved in a step without any gradient of the group: the numerator decays, the denominator
    /// is 0, and d becomes `atan2(numerator, 0) = pi/2` once the numerator is positive. Corrected: the step does not count.
    pub k_advances_without_gradients: bool,
    /// The tensors' contributions to the estimate are summed in float32, one after the other. With SPEED, whose
    /// contributions `+w` and `-w` should cancel exactly, a negative rounding error of the sum resets the
    /// numerator, which becomes `min(numerator, sum)`. Corrected: they are summed in float64.
    pub sums_in_float32: bool,
    /// Evaluation replaces y by `x = y + (1 - 1/beta1) (z - y)`, and training continues from
    /// `x + (1 - beta1) (z - x)`; both are rounded to the parameter's type, which moves bfloat16 weights.
    /// Corrected: y is restored exactly.
    pub evaluation_moves_parameters: bool,
}

impl EngineCompat {
    /// All of the reference's defects.
    pub const V1_9_2: Self = Self {
        joint_d_prev_not_copied: true,
        harmonic_mean_counts_inactive: true,
        freeze_counts_still_steps: true,
        shared_d_not_saved: true,
        k_advances_without_gradients: true,
        sums_in_float32: true,
        evaluation_moves_parameters: true,
    };
}

impl GroupPolicy for EngineCompat {
    fn share(&self, split: SplitGroups, groups: &[GroupState], d: &mut [f64]) {
        let is_mean = split == SplitGroups::Mean && groups.len() > 1;
        if is_mean && self.shared_d_not_saved && groups[0].resumed {
            return;
        }
        if is_mean && self.harmonic_mean_counts_inactive {
            let sum: f64 = groups.iter().map(|group| 1.0 / group.estimate.d).sum();
            d.fill(groups.len() as f64 / sum);
        } else {
            split.share(groups, d);
        }
    }

    fn counts(&self, group: &GroupState) -> Counts {
        let counts = group.counts();
        Counts {
            step: counts.step || self.k_advances_without_gradients,
            moves: counts.moves || self.freeze_counts_still_steps,
            estimate: counts.estimate || self.k_advances_without_gradients,
            ..counts
        }
    }

    fn total(&self, contributions: &mut dyn Iterator<Item = [f64; 2]>) -> [f64; 2] {
        let add = |sum: f64, term: f64| {
            if self.sums_in_float32 { f64::from((sum + term) as f32) } else { sum + term }
        };
        contributions.fold([0.0; 2], |total, term| [add(total[0], term[0]), add(total[1], term[1])])
    }

    fn adopt(&self, joint: &Estimate, group: &GroupState) -> Estimate {
        let Estimate { d0, d_prev: own, .. } = group.estimate;
        Estimate { d0, d_prev: if self.joint_d_prev_not_copied { own } else { joint.d_prev }, ..*joint }
    }
}
