//! Gradients that vanish in some tensors.

use gradient_transform::{Record, TensorRecord};

use crate::diagnosis::finding::Finding;
use crate::diagnosis::history::History;

/// The size of a tensor's gradient per element, relative to the largest of all tensors, below which it is
/// negligible.
const VANISHED: f64 = 1e-7;

/// Finds tensors of groups with an estimator whose gradients have vanished in every record, relative to the
/// largest or altogether.
pub(super) fn find(history: &History<'_>) -> Vec<Finding> {
    let latest = history.groups().into_iter().filter_map(|group| history.of(group).last().copied());
    let tensors: Vec<&TensorRecord> =
        latest.flat_map(|step| step.tensors()).filter(|tensor| tensor.elements > 0).collect();
    let vanished: Vec<&TensorRecord> = tensors
        .iter()
        .copied()
        .filter(|tensor| history.records.iter().all(|record| is_vanished(record, &tensor.name)))
        .collect();
    if vanished.is_empty() {
        return Vec::new();
    }
    vec![Finding::Vanishing {
        tensors: vanished.iter().map(|tensor| tensor.name.clone()).collect(),
        zeros: vanished.iter().filter(|tensor| tensor.norms.parameter == 0.0).count(),
        of: tensors.len(),
        records: history.records.len(),
    }]
}

/// A tensor without a record had no gradient at all.
fn is_vanished(record: &Record, name: &str) -> bool {
    let largest = record.tensors.iter().map(size).fold(0.0, f64::max);
    let found = record.tensors.iter().find(|found| found.name == name);
    found.is_none_or(|found| size(found) <= VANISHED * largest)
}

/// The root mean square of a tensor's gradient.
fn size(tensor: &TensorRecord) -> f64 {
    tensor.norms.gradient / (tensor.elements.max(1) as f64).sqrt()
}
