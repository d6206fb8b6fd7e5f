//! A learning rate that is not 1.

use crate::diagnosis::finding::Finding;
use crate::diagnosis::history::History;

/// Finds a constant learning rate other than 1. At 0 the group does not move, maybe on purpose.
pub(super) fn find(history: &History<'_>) -> Vec<Finding> {
    let of_group = |&group: &usize| {
        let steps = history.of(group);
        let lr = steps.first()?.group.lr;
        let stands_still = steps.iter().all(|step| step.group.lr == lr);
        (stands_still && lr != 1.0).then(|| Finding::LearningRate { group: history.name(group), lr })
    };
    history.groups().iter().filter_map(of_group).collect()
}
