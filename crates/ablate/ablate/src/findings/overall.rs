//! Over the tasks: how often an arm helps, and performance profiles.

use ablate_statistics::{Probability, performance_profiles};
use ablate_tasks::Split;
use serde::Serialize;

use super::{TaskFindings, Verdict};
use crate::results::{Results, Run, TaskResults};

/// An arm over all tasks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overall {
    /// Tasks on which it is better than the base.
    pub better: usize,
    /// Tasks on which it is worse.
    pub worse: usize,
    /// Tasks on which it makes no difference that matters.
    pub equivalent: usize,
    /// Tasks on which the data don't say.
    pub unclear: usize,
    /// Tasks on which it does nothing.
    pub dead: usize,
    /// The probability of improvement over the base, averaged over the tasks, which are those of the study and not a
    /// sample of more; absent for the base.
    pub probability_of_improvement: Option<Probability>,
    /// Runs that diverged, of all tasks.
    pub diverged: usize,
}

/// An arm's performance profile (Dolan and Moré, 2002).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// The arm, in the order of [`Results::arms`].
    pub arm: usize,
    /// Points (factor, share): on this share of the (task, seed) pairs the arm reached the target in at most `factor`
    /// times the steps of the fastest arm. In rising order.
    pub points: Vec<(f64, f64)>,
}

pub(super) fn overall(arms: usize, tasks: &[TaskFindings]) -> Vec<Overall> {
    let of_arm = |arm: usize| {
        let count = |verdict| tasks.iter().filter(|task| task.arms[arm].verdict == verdict).count();
        let probabilities: Vec<Probability> =
            tasks.iter().filter_map(|task| task.arms[arm].probability_of_improvement).collect();
        Overall {
            better: count(Verdict::Better),
            worse: count(Verdict::Worse),
            equivalent: count(Verdict::Equivalent),
            unclear: count(Verdict::Unclear),
            dead: count(Verdict::Dead),
            probability_of_improvement: Probability::mean(&probabilities),
            diverged: tasks.iter().map(|task| task.arms[arm].diverged).sum(),
        }
    };
    (0..arms).map(of_arm).collect()
}

/// Steps until the target, by seed and then arm: every seed of every task is a problem of its own.
pub(super) fn profiles(results: &Results) -> Vec<Profile> {
    let tasks: Vec<&TaskResults> =
        results.tasks.iter().filter(|task| task.validated_target().is_some()).collect();
    // Arms that stopped have fewer problems than others.
    if tasks.len() < 2 || results.study.sequential {
        return Vec::new();
    }
    let costs: Vec<Vec<Option<f64>>> = (0..results.arms.len())
        .map(|arm| {
            tasks
                .iter()
                .flat_map(|task| task.arms[arm].runs.iter().map(|run| steps_to_target(task, run)))
                .collect()
        })
        .collect();
    performance_profiles(&costs)
        .into_iter()
        .map(|profile| Profile { arm: profile.solver, points: profile.points })
        .collect()
}

/// The first evaluation at which the validation split reached the target.
pub(super) fn steps_to_target(task: &TaskResults, run: &Run) -> Option<f64> {
    let target = task.validated_target()?;
    let reached = |point: &&crate::record::Point| task.about.measure.reaches(&point.validation, target);
    run.points_of(Split::Validation).iter().find(reached).map(|point| point.step as f64)
}
