//! How the groups of an optimizer act together: their step sizes, and which steps count.
//!
//! ```text
//! a step begins:  d of every group with an estimator <- share
//! every tensor:   moves, and contributes to the estimate
//! a step ends:    of every group:  counts; if the step counts:
//!                     estimate <- the estimator, by the total of its tensors' contributions
//!                 or, with a joint estimate, of all groups together:
//!                     the first one's estimate <- its estimator, by the total of the tensors of all groups that join
//!                     the estimate of every other one <- adopt
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::link::context::{Estimate, StepSummary};

/// How the groups' estimates of the step size act together. A group without an estimator steps with its own
/// learning rate, and is not part of a mean or a joint estimate.
///
/// ```
/// use gradient_transform::SplitGroups;
///
/// // By their names in lower case in files and options.
/// let policies: [SplitGroups; 3] = serde_json::from_str(r#"["mean", "each", "joint"]"#)?;
/// assert_eq!(policies, [SplitGroups::Mean, SplitGroups::Each, SplitGroups::Joint]);
/// assert_eq!(SplitGroups::default(), SplitGroups::Mean);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitGroups {
    /// Each group estimates its own d; all groups step with the harmonic mean.
    ///
    /// The mean is over the groups whose d has left d0 and whose learning rate is above 0. A group whose d
    /// has not left d0, such as one that started late, steps with the smaller of the mean and its own d until
    /// it has.
    #[default]
    Mean,
    /// Each group estimates its own d and steps with it.
    Each,
    /// One d is estimated from all groups together, as in the Prodigy paper. A group counts from the first
    /// step on that could move it: a group that has always been at learning rate 0 does not count.
    Joint,
}

impl SplitGroups {
    /// Replaces each group's own d by the one that it steps with: the default of [`GroupPolicy::share`].
    ///
    /// The mean is over the groups whose d has left d0; without any, over those that can move; without any of
    /// these either, over all. A group at d0 has not found its distance yet, and 1/d0 would dominate the
    /// mean.
    ///
    /// ```
    /// use gradient_transform::{Estimate, GroupState, SplitGroups, StepSummary};
    ///
    /// let group = |index, d| {
    ///     let estimate = Estimate { d, ..Estimate::new(1e-6) };
    ///     GroupState { index, k: 9, lr: 1.0, estimate, has_moved: true, resumed: false, summary: StepSummary::default() }
    /// };
    /// let groups = [group(0, 2e-3), group(1, 6e-3), group(2, 1e-6)]; // the third one has started late
    /// let mut d = groups.map(|group| group.estimate.d);
    /// SplitGroups::Mean.share(&groups, &mut d);
    /// assert!((d[0] - 3e-3).abs() < 1e-15 && d[1] == d[0] && d[2] == 1e-6);
    /// ```
    pub fn share(self, groups: &[GroupState], d: &mut [f64]) {
        // The mean of one d differs from it by a rounding.
        if self != Self::Mean || groups.len() < 2 {
            return;
        }
        let any_left = groups.iter().any(GroupState::has_left_d0);
        let any_moves = groups.iter().any(GroupState::can_move);
        let counts = |group: &&GroupState| match (any_left, any_moves) {
            (true, _) => group.has_left_d0(),
            (false, true) => group.can_move(),
            (false, false) => true,
        };
        let terms = groups.iter().filter(counts).map(|group| 1.0 / group.estimate.d);
        let (sum, count) = terms.fold((0.0, 0.0), |(sum, count), term| (sum + term, count + 1.0));
        let mean: f64 = count / sum;
        for (group, d) in groups.iter().zip(d) {
            // A group that has not found its distance must not start with that of others.
            *d = if any_left && !group.has_left_d0() { mean.min(*d) } else { mean };
        }
    }
}

/// A group, as an argument of a [`GroupPolicy`]. [`SplitGroups::share`] has an example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupState {
    /// Number of the group in the optimizer.
    pub index: usize,
    /// Number of its steps that counted.
    pub k: u64,
    /// Its learning rate.
    pub lr: f64,
    /// Its estimate; [`Estimate::FIXED`] in a chain without an estimator.
    pub estimate: Estimate,
    /// Whether it had a gradient at a learning rate above 0 in any step before this one.
    pub has_moved: bool,
    /// Whether the optimizer was restored from a snapshot, and no step has been done since.
    pub resumed: bool,
    /// Gradients and updates of the step; none at its beginning.
    pub summary: StepSummary,
}

impl GroupState {
    /// Whether a step can move the group, and the group has had gradients.
    ///
    /// ```
    /// use gradient_transform::{Estimate, GroupState, StepSummary};
    ///
    /// let estimate = Estimate { d: 2e-6, ..Estimate::new(1e-6) };
    /// let summary = StepSummary::default();
    /// let group = GroupState { index: 0, k: 9, lr: 1.0, estimate, has_moved: true, resumed: false, summary };
    /// assert!(group.can_move() && group.has_left_d0());
    /// let still = GroupState { lr: 0.0, ..group };
    /// assert!(!still.can_move() && !still.has_left_d0()); // as long as its learning rate is 0
    /// ```
    pub fn can_move(&self) -> bool {
        self.has_moved && self.lr > 0.0
    }

    /// Whether it can move, and its estimate has left the initial one.
    pub fn has_left_d0(&self) -> bool {
        self.can_move() && self.estimate.d > self.estimate.d0
    }

    /// Purposes for which the step counts: the default of [`GroupPolicy::counts`].
    pub fn counts(&self) -> Counts {
        Counts {
            step: self.summary.gradients > 0,
            moves: self.lr > 0.0,
            joins: true,
            estimate: self.summary.updates > 0,
        }
    }
}

/// Purposes that a step counts for in a group.
///
/// ```
/// use gradient_transform::{Counts, Estimate, GroupState, StepSummary};
///
/// // A first step at learning rate 0, as in a warm-up.
/// let summary = StepSummary { gradients: 2, updates: 2, last_updated: true };
/// let estimate = Estimate::new(1e-6);
/// let group = GroupState { index: 0, k: 0, lr: 0.0, estimate, has_moved: false, resumed: false, summary };
/// assert_eq!(group.counts(), Counts { step: true, moves: false, joins: true, estimate: true });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Whether the number of steps and the transforms' numbers per group advance. By default, if a tensor of
    /// the group had a gradient.
    pub step: bool,
    /// Whether [`StepContext::moves`](crate::StepContext::moves) counts it, as a step that could move a
    /// parameter. By default, if the learning rate is above 0.
    pub moves: bool,
    /// Whether the tensors' contributions are part of a joint estimate. By default, always.
    pub joins: bool,
    /// Whether the estimate is updated; a joint estimate is updated if this is true for any group with an
    /// estimator. By default, if a tensor moved.
    pub estimate: bool,
}

/// A custom rule of how the groups of an optimizer act together, in addition to [`SplitGroups`]: set it by
/// [`Optimizer::set_policy`](crate::Optimizer::set_policy). The default of each method is the behaviour
/// without a policy.
///
/// ```
/// use gradient_transform::{Descent, Estimate, GroupPolicy, GroupState, Optimizer, SplitGroups, StepSummary};
///
/// /// All groups step with the smallest d of all.
/// #[derive(Debug)]
/// struct Smallest;
///
/// impl GroupPolicy for Smallest {
///     fn share(&self, _split: SplitGroups, groups: &[GroupState], d: &mut [f64]) {
///         let found = groups.iter().filter(|group| group.has_left_d0()).map(|group| group.estimate.d);
///         let smallest = found.fold(f64::INFINITY, f64::min);
///         d.iter_mut().for_each(|d| *d = d.min(smallest));
///     }
/// }
///
/// let mut optimizer = Optimizer::new(Descent::default(), [("w", &[8, 4][..])])?;
/// optimizer.set_policy(Smallest);
///
/// // A policy depends only on its arguments, so you can test it without an optimizer.
/// let group = |index, d| {
///     let estimate = Estimate { d, ..Estimate::new(1e-6) };
///     GroupState { index, k: 9, lr: 1.0, estimate, has_moved: true, resumed: false, summary: StepSummary::default() }
/// };
/// let groups = [group(0, 2e-3), group(1, 5e-3), group(2, 1e-6)];
/// let mut d = groups.map(|group| group.estimate.d);
/// Smallest.share(SplitGroups::Each, &groups, &mut d);
/// assert_eq!(d, [2e-3, 2e-3, 1e-6]);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
///
/// The other methods:
///
/// ```
/// use gradient_transform::{Counts, Estimate, GroupPolicy, GroupState};
///
/// /// One d for all. A group that is added later contributes from its hundredth step on, and steps with a tenth of d.
/// #[derive(Debug)]
/// struct Newcomers {
///     first: usize,
/// }
///
/// impl GroupPolicy for Newcomers {
///     fn counts(&self, group: &GroupState) -> Counts {
///         let counts = group.counts();
///         Counts { joins: counts.joins && (group.index < self.first || group.k >= 100), ..counts }
///     }
///
///     fn total(&self, contributions: &mut dyn Iterator<Item = [f64; 2]>) -> [f64; 2] {
///         // No tensor must outweigh all others.
///         contributions.fold([0.0; 2], |[a, b], [x, y]| [a + x.clamp(-1.0, 1.0), b + y.min(1.0)])
///     }
///
///     fn adopt(&self, joint: &Estimate, group: &GroupState) -> Estimate {
///         let part = if group.index < self.first { 1.0 } else { 0.1 };
///         let own = Estimate { d: part * joint.d, d_prev: part * joint.d_prev, ..*joint };
///         Estimate { d0: group.estimate.d0, ..own }
///     }
/// }
///
/// let policy = Newcomers { first: 1 };
/// assert_eq!(policy.total(&mut [[0.5, 0.25], [-3.0, 2.0]].into_iter()), [-0.5, 1.25]);
/// ```
///
/// Like the [`Settings`](crate::Settings), a policy is not part of a [`Snapshot`](crate::Snapshot). It is
/// called a few times in each step for each group, and never for an element. If it returns an invalid step
/// size for a group, the step is an [`Error::InvalidPolicy`](crate::Error::InvalidPolicy), and nothing moves.
pub trait GroupPolicy: fmt::Debug + Send + Sync {
    /// Replaces each group's own d by the one that it steps with, above 0 and at most 2^50. Groups without an
    /// estimator are not included.
    fn share(&self, split: SplitGroups, groups: &[GroupState], d: &mut [f64]) {
        split.share(groups, d);
    }

    /// Purposes for which the finished step counts.
    fn counts(&self, group: &GroupState) -> Counts {
        group.counts()
    }

    /// Sum of the tensors' contributions to the numerator and the denominator of the estimate. They come in the order of the parameters.
    fn total(&self, contributions: &mut dyn Iterator<Item = [f64; 2]>) -> [f64; 2] {
        contributions.fold([0.0; 2], |total, term| [total[0] + term[0], total[1] + term[1]])
    }

    /// The estimate of a group under [`SplitGroups::Joint`], after that of the first group has become
    /// `joint`. By default, `joint` with the group's own d0, which the group compares d with.
    fn adopt(&self, joint: &Estimate, group: &GroupState) -> Estimate {
        Estimate { d0: group.estimate.d0, ..*joint }
    }
}

/// No policy: only [`SplitGroups`] applies.
impl GroupPolicy for () {}
