//! A warm-up that has not ended.

use crate::diagnosis::finding::Finding;
use crate::diagnosis::history::History;

/// Finds a learning rate that has risen from the first record to the last, and is still rising.
pub(super) fn find(history: &History<'_>) -> Vec<Finding> {
    let of_group = |&group: &usize| {
        let steps = history.of(group);
        let rises = steps.windows(2).all(|pair| pair[1].group.lr >= pair[0].group.lr);
        let [.., before, last] = &steps[..] else { return None };
        let still = last.group.lr > before.group.lr;
        (rises && still && history.is_stuck(group)).then(|| Finding::WarmUp {
            group: history.name(group),
            step: last.step,
            lr: last.group.lr,
            d: last.group.after.d,
        })
    };
    history.groups().iter().filter_map(of_group).collect()
}
