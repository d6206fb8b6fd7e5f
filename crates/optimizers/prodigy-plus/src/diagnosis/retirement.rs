//! An estimate that was frozen before it had grown.

use gradient_transform::GroupRecord;

use crate::diagnosis::finding::Finding;
use crate::diagnosis::history::{FEWEST, GroupStep, History};

/// Finds a group whose d is still near its initial value, and whose gradients no longer add anything to
/// the estimate.
pub(super) fn find(history: &History<'_>) -> Vec<Finding> {
    let of_group = |&group: &usize| {
        let steps = history.of(group);
        // At learning rate 0, an estimate does not change on purpose.
        let adds_nothing = |step: &&GroupStep<'_>| {
            let GroupRecord { contribution, norms, lr, .. } = step.group;
            *contribution == Some([0.0; 2]) && norms.gradient > 0.0 && *lr > 0.0
        };
        let frozen = steps.iter().rev().take_while(adds_nothing).count();
        let found = history.is_stuck(group) && 2 * frozen >= FEWEST;
        found.then(|| Finding::Frozen {
            group: history.name(group),
            since: steps[steps.len() - frozen].step,
            d: steps[steps.len() - 1].group.after.d,
        })
    };
    history.groups().iter().filter_map(of_group).collect()
}
