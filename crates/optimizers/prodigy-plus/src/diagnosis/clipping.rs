//! Gradients that were clipped or normalised before the optimizer.

use gradient_transform::{Record, TensorRecord};

use crate::diagnosis::finding::Finding;
use crate::diagnosis::history::{FEWEST, History};

/// Relative difference below which norms count as equal: clipping adds a small number to the norm, and
/// gradients may be rounded to bfloat16.
const SAME: f64 = 1e-3;

/// Difference above which norms of parts, or cosines, count as different.
const OTHER: f64 = 1e-2;

/// Finds a largest norm that at least half of the records have, although their gradients differ. Without
/// clipping only one record has the largest norm.
pub(super) fn find(history: &History<'_>) -> Vec<Finding> {
    if history.groups().is_empty() {
        return Vec::new();
    }
    let norm = |record: &Record| record.norms().gradient;
    let largest = history.records.iter().map(|record| norm(record)).fold(0.0, f64::max);
    let at_largest: Vec<&Record> =
        history.records.iter().copied().filter(|record| norm(record) >= (1.0 - SAME) * largest).collect();
    let (steps, records) = (at_largest.len(), history.records.len());
    let clipped = largest > 0.0 && steps >= FEWEST && 2 * steps >= records && differ(&at_largest);
    let finding = Finding::Clipped { norm: largest, steps, records };
    clipped.then_some(finding).into_iter().collect()
}

/// Whether the gradients of some tensor differ, in size or in direction. They don't if the weights hardly
/// move and nothing is random.
fn differ(records: &[&Record]) -> bool {
    let Some(first) = records.first() else { return false };
    first.tensors.iter().any(|tensor| {
        let of_tensor = || {
            records.iter().flat_map(|record| record.tensors.iter().find(|found| found.name == tensor.name))
        };
        let (least, most) = range(of_tensor().map(|found| found.norms.gradient));
        let (least_cosine, most_cosine) = range(of_tensor().filter_map(first_cosine));
        most - least > OTHER * most || most_cosine - least_cosine > OTHER
    })
}

/// The cosine between the gradient and the update after the first link, which depends on the gradient's
/// direction.
fn first_cosine(tensor: &TensorRecord) -> Option<f64> {
    tensor.links.first()?.cosine
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)))
}
