//! A group that keeps the common step size of all groups low.

use gradient_transform::GroupRecord;

use crate::diagnosis::finding::Finding;
use crate::diagnosis::history::History;

/// Ratio of a group's d to its step size from which on the mean limits it.
const HELD_DOWN: f64 = 5.0;

/// Finds groups with their own estimates that step with the harmonic mean of all, which is far below the
/// largest of them.
pub(super) fn find(history: &History<'_>) -> Vec<Finding> {
    let Some(latest) = history.records.last() else { return Vec::new() };
    let moving = |group: &&GroupRecord| {
        group.contribution.is_some() && group.lr > 0.0 && group.before.d > group.before.d0
    };
    let groups: Vec<&GroupRecord> = latest.groups.iter().filter(moving).collect();
    let by_d = |a: &&&GroupRecord, b: &&&GroupRecord| a.before.d.total_cmp(&b.before.d);
    let (Some(smallest), Some(largest)) = (groups.iter().min_by(by_d), groups.iter().max_by(by_d)) else {
        return Vec::new();
    };
    // With one d for all, their step sizes are proportional to their learning rates.
    let rate = |group: &GroupRecord| group.step_size / group.lr;
    let is_shared = (rate(smallest) - rate(largest)).abs() <= 1e-9 * rate(largest).abs();
    let mean = groups.len() as f64 / groups.iter().map(|group| 1.0 / group.before.d).sum::<f64>();
    let (held, by) = (largest.before.d, smallest.before.d);
    let finding = || Finding::HeldDown {
        group: history.name(largest.group),
        d: held,
        mean,
        by: history.name(smallest.group),
        by_d: by,
    };
    if is_shared && held >= HELD_DOWN * mean { vec![finding()] } else { Vec::new() }
}
