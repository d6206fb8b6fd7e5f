//! A d that has grown far beyond the weights.

use crate::diagnosis::finding::Finding;
use crate::diagnosis::history::History;

/// An estimate from which on d is large: every weight would move by about this distance, which is
/// far in any network.
const LARGE: f64 = 1.0;

/// Ratio of a large d to the size of the first weights.
const BEYOND: f64 = 10.0;

/// Finds a group whose d is large, and many times the size that its weights had in the first
/// record.
pub(super) fn find(history: &History<'_>) -> Vec<Finding> {
    let of_group = |&group: &usize| {
        let steps = history.of(group);
        let (first, last) = (steps.first()?, steps.last()?);
        let elements = first.tensors().map(|tensor| tensor.elements).sum::<usize>();
        let squares = first.joined().map(|group| group.norms.parameter.powi(2)).sum::<f64>();
        let weight = (squares / elements.max(1) as f64).sqrt();
        let is_large = |d: f64| d >= LARGE && d >= BEYOND * weight;
        let since = steps.iter().find(|step| is_large(step.group.after.d))?.step;
        Some(Finding::TooLarge {
            group: history.name(group),
            since,
            step: last.step,
            d: last.group.after.d,
            weight,
        })
    };
    history.groups().iter().filter_map(of_group).collect()
}
