//! Negative sums in the numerator, step after step.

use crate::diagnosis::finding::Finding;
use crate::diagnosis::history::{FEWEST, GroupStep, History};

/// Finds a group whose d is still near its initial value, whose sums of `<g, p0 - y>` have been negative in
/// at least half of the records, up to the last, and whose gradients have not become smaller, as they do near
/// a solution. Single sums are noisy, so they are added up over a few records.
pub(super) fn find(history: &History<'_>) -> Vec<Finding> {
    let of_group = |&group: &usize| {
        let steps = history.of(group);
        let sum = |window: &[GroupStep<'_>]| window.iter().map(|step| step.numerator()).sum::<f64>();
        let negative = steps.windows(FEWEST).rev().take_while(|window| sum(window) < 0.0).count();
        // A negative window counts up to its end.
        let since = steps.len().checked_sub(negative)?;
        let norm = |step: &GroupStep<'_>| step.group.norms.gradient;
        let half = &steps[steps.len() / 2..];
        let mean = half.iter().map(norm).sum::<f64>() / half.len().max(1) as f64;
        let found = history.is_stuck(group) && 2 * negative >= steps.len() && mean >= norm(steps.first()?);
        found.then(|| Finding::NegativeSums {
            group: history.name(group),
            since: steps[since].step,
            until: steps[steps.len() - 1].step,
            d: steps[steps.len() - 1].group.after.d,
        })
    };
    history.groups().iter().filter_map(of_group).collect()
}
