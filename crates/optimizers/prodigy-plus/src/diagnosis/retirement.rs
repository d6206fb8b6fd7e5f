//! An estimate that was frozen before it had grown.

use crate::diagnosis::finding::Finding;
use crate::diagnosis::history::{FEWEST, History};

/// A group whose d has stayed where it began, and whose gradients add nothing to the estimate any more.
pub(super) fn find(history: &History<'_>) -> Vec<Finding> {
    let of_group = |&group: &usize| {
        let steps = history.of(group);
        let frozen = steps
            .iter()
            .rev()
            .take_while(|step| step.group.contribution == Some([0.0; 2]) && step.group.norms.gradient > 0.0)
            .count();
        let found = history.is_stuck(group) && 2 * frozen >= FEWEST;
        found.then(|| Finding::Frozen {
            group: history.name(group),
            since: steps[steps.len() - frozen].step,
            d: steps[steps.len() - 1].group.after.d,
        })
    };
    history.groups().iter().filter_map(of_group).collect()
}
