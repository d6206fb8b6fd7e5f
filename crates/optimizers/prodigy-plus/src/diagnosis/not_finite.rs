//! Values that are not finite.

use crate::diagnosis::finding::Finding;
use crate::diagnosis::history::History;

/// Finds the first value that is not finite: after it, all sums are NaN, and d does not change.
pub(super) fn find(history: &History<'_>) -> Vec<Finding> {
    let first = history.records.iter().find_map(|record| record.not_finite.clone());
    first.map(Finding::NotFinite).into_iter().collect()
}
