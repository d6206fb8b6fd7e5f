//! Arms that took over from the base in the course of a run.

use ablate_statistics::{Bootstrap, joint_equivalence_p, joint_sign_flip_p};
use serde::Serialize;

use super::{ArmFindings, Corrected, task};
use crate::record::Forked;
use crate::results::{ArmRuns, TaskResults};

/// An arm from a step on, against the base.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ForkFindings {
    /// The arm, in the order of [`Results::arms`](crate::results::Results::arms).
    pub arm: usize,
    /// Steps of the base before.
    pub step: usize,
    /// State that began as at a start, as the base has none of it.
    pub anew: Vec<String>,
    /// State of the base that was left out.
    pub left_out: Vec<String>,
    /// Comparison with the base at the end of the run. p is corrected over all arms and steps of forks of the task.
    pub found: ArmFindings,
}

/// Findings of a task's forks, which are treated as the arms of a task.
pub(super) fn findings(task: &TaskResults, method: &Bootstrap) -> Vec<ForkFindings> {
    const ALL: usize = usize::MAX;
    if task.forks.is_empty() {
        return Vec::new();
    }
    let runs = task.forks.iter().map(|fork| ArmRuns { tuning: None, runs: fork.runs.clone() });
    let arms = [task.arms[0].clone()].into_iter().chain(runs).collect();
    let family = TaskResults { arms, forks: Vec::new(), ..task.clone() };
    let different = joint_sign_flip_p(&task::family(&family, ALL), method.seed);
    let (finite, margins) = (task::finite_family(&family, ALL), task::margins(&family, ALL));
    let alike = joint_equivalence_p(&finite, &margins, method.seed);
    let of_fork = |(index, fork): (usize, &crate::results::Fork)| {
        let place = index + 1;
        let corrected =
            Corrected { different: (different[place], None), alike: (alike[place], None), stop: None };
        let forked = || fork.runs.iter().filter_map(|run| run.record.forked.as_ref());
        let kinds = |of: fn(&Forked) -> &Vec<String>| {
            let mut kinds: Vec<String> = forked().flat_map(of).cloned().collect();
            kinds.sort_unstable();
            kinds.dedup();
            kinds
        };
        ForkFindings {
            arm: fork.arm,
            step: fork.step,
            anew: kinds(|forked| &forked.anew),
            left_out: kinds(|forked| &forked.left_out),
            found: task::arm_findings(&family, place, corrected, method),
        }
    };
    task.forks.iter().enumerate().map(of_fork).collect()
}
