//! Too few elements for an estimate.

use crate::diagnosis::finding::Finding;
use crate::diagnosis::history::History;

/// Distance between Prodigy's samples.
const EVERY: usize = 11;

/// Number of samples below which an estimate jumps.
const FEWEST_SAMPLES: usize = 10;

/// Finds a group with so few elements that its estimate depends on a few of them.
pub(super) fn find(history: &History<'_>) -> Vec<Finding> {
    let groups = history.groups();
    let of_group = |&group: &usize| {
        let last = *history.of(group).last()?;
        let elements = last.tensors().map(|tensor| tensor.elements).sum::<usize>();
        let few = elements < EVERY * FEWEST_SAMPLES && last.group.lr > 0.0;
        few.then(|| Finding::FewElements {
            group: history.name(group),
            elements,
            samples: elements.div_ceil(EVERY),
        })
    };
    groups.iter().filter_map(of_group).collect()
}
