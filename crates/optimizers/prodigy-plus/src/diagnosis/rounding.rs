//! Steps that are lost in the rounding of the weights.

use gradient_transform::{DType, TensorRecord};

use crate::diagnosis::finding::Finding;
use crate::diagnosis::history::History;

/// Finds a group whose d is still near its initial value, and most of whose elements are in tensors where a
/// step is less than half the distance between two numbers and hardly any element has moved.
pub(super) fn find(history: &History<'_>) -> Vec<Finding> {
    history.groups().into_iter().filter_map(|group| of_group(history, group)).collect()
}

fn of_group(history: &History<'_>, group: usize) -> Option<Finding> {
    let last = *history.of(group).last().filter(|_| history.is_stuck(group))?;
    if last.group.lr == 0.0 {
        return None;
    }
    let lost: Vec<&TensorRecord> =
        last.tensors().filter(|tensor| is_lost(history, tensor, last.group.lr)).collect();
    let elements = |tensors: &[&TensorRecord]| tensors.iter().map(|tensor| tensor.elements).sum::<usize>();
    let all: Vec<&TensorRecord> = last.tensors().collect();
    if 2 * elements(&lost) <= elements(&all) {
        return None;
    }
    let largest = *lost.iter().max_by_key(|tensor| tensor.elements)?;
    let (weight, step) = (per_element(largest, largest.norms.parameter), step(largest, last.group.lr)?);
    let spacing = weight * precision(largest.dtype);
    Some(Finding::Rounded {
        group: history.name(group),
        tensor: largest.name.clone(),
        dtype: largest.dtype,
        weight,
        spacing,
        step,
        moved: largest.moved,
        d: last.group.after.d,
        // So that a step is not rounded to 0.
        d0: last.group.before.d * spacing / 2.0 / step,
    })
}

fn is_lost(history: &History<'_>, tensor: &TensorRecord, lr: f64) -> bool {
    let moved: Vec<f64> = history
        .records
        .iter()
        .flat_map(|record| record.tensors.iter().find(|found| found.name == tensor.name))
        .map(|found| found.moved)
        .collect();
    let moved = moved.iter().sum::<f64>() / moved.len().max(1) as f64;
    let spacing = per_element(tensor, tensor.norms.parameter) * precision(tensor.dtype);
    moved < 0.5 && step(tensor, lr).is_some_and(|step| step > 0.0 && step < spacing / 2.0)
}

/// The root mean square of the displacement before it is rounded, as it would be at a learning rate of 1.
fn step(tensor: &TensorRecord, lr: f64) -> Option<f64> {
    tensor.links.last().map(|link| per_element(tensor, link.after) / lr)
}

fn per_element(tensor: &TensorRecord, norm: f64) -> f64 {
    norm / (tensor.elements.max(1) as f64).sqrt()
}

/// The smallest relative distance between two numbers.
fn precision(dtype: DType) -> f64 {
    match dtype {
        DType::Bf16 => 2.0_f64.powi(-8),
        DType::F32 => 2.0_f64.powi(-24),
        DType::F64 => 2.0_f64.powi(-53),
    }
}
