//! Over the tasks: how often an arm helps, and performance profiles.

use ablate_statistics::{Bootstrap, Interval, performance_profiles};
use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{TaskFindings, Verdict};
use crate::results::{ArmRuns, Results, TaskResults};

/// An arm over all tasks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overall {
    /// Tasks on which it is better than the base.
    pub better: usize,
    /// Tasks on which it is worse.
    pub worse: usize,
    /// Tasks on which the data don't say.
    pub unclear: usize,
    /// Tasks on which it does nothing.
    pub dead: usize,
    /// The probability of improvement over the base, averaged over the tasks; absent for the base.
    pub probability_of_improvement: Option<f64>,
    /// Its interval, from resampling the seeds within each task.
    pub probability_interval: Option<Interval>,
    /// Runs that diverged, of all tasks.
    pub diverged: usize,
}

/// An arm's performance profile (Dolan and Moré, 2002).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// The arm, in the order of [`Results::arms`].
    pub arm: usize,
    /// Points (factor, share): on this share of the (task, seed) pairs the arm reached the target in at most `factor` times
    /// the steps of the fastest arm. In rising order.
    pub points: Vec<(f64, f64)>,
}

pub(super) fn overall(results: &Results, tasks: &[TaskFindings], method: &Bootstrap) -> Vec<Overall> {
    let of_arm = |arm: usize| {
        let count = |verdict| tasks.iter().filter(|task| task.arms[arm].verdict == verdict).count();
        let scores: Vec<Vec<(f64, f64)>> = if arm == 0 {
            Vec::new()
        } else {
            results.tasks.iter().map(|task| scores(task, arm)).filter(|scores| !scores.is_empty()).collect()
        };
        Overall {
            better: count(Verdict::Better),
            worse: count(Verdict::Worse),
            unclear: count(Verdict::Unclear),
            dead: count(Verdict::Dead),
            probability_of_improvement: mean_probability(&scores),
            probability_interval: interval(&scores, method),
            diverged: tasks.iter().map(|task| task.arms[arm].diverged).sum(),
        }
    };
    (0..results.arms.len()).map(of_arm).collect()
}

/// A run's value where higher is better; a run that diverged, or was not measured, is below every other.
fn score(task: &TaskResults, runs: &ArmRuns, seed: u64) -> Option<f64> {
    let run = runs.runs.iter().find(|run| run.seed == seed)?;
    let value = run.record.evaluation().map(|evaluation| task.about.measure.of(&evaluation));
    let sign = if task.about.measure.higher_is_better() { 1.0 } else { -1.0 };
    Some(value.map(|value| sign * value).filter(|value| !value.is_nan()).unwrap_or(f64::NEG_INFINITY))
}

/// By seed, the scores of the arm and of the base.
pub(super) fn scores(task: &TaskResults, arm: usize) -> Vec<(f64, f64)> {
    let (arm, base) = (&task.arms[arm], &task.arms[0]);
    let of_seed = |seed| Some((score(task, arm, seed)?, score(task, base, seed)?));
    base.runs.iter().filter_map(|run| of_seed(run.seed)).collect()
}

/// Over all pairs of runs, the share in which the first is higher; ties count half.
pub(super) fn probability(pairs: &[(f64, f64)]) -> f64 {
    let wins: f64 = pairs
        .iter()
        .flat_map(|(arm, _)| pairs.iter().map(move |(_, base)| (arm, base)))
        .map(|(arm, base)| match arm.partial_cmp(base) {
            Some(std::cmp::Ordering::Greater) => 1.0,
            Some(std::cmp::Ordering::Less) => 0.0,
            _ => 0.5,
        })
        .sum();
    wins / (pairs.len() * pairs.len()) as f64
}

fn mean_probability(tasks: &[Vec<(f64, f64)>]) -> Option<f64> {
    let sum: f64 = tasks.iter().map(|pairs| probability(pairs)).sum();
    (!tasks.is_empty()).then(|| sum / tasks.len() as f64)
}

/// A percentile interval over resampled seeds; the tasks are those of the study, and not a sample of more.
fn interval(tasks: &[Vec<(f64, f64)>], method: &Bootstrap) -> Option<Interval> {
    if tasks.is_empty() || tasks.iter().any(|pairs| pairs.len() < 3) {
        return None;
    }
    let mut generator = ChaCha8Rng::seed_from_u64(method.seed);
    // Every resample costs a comparison of all pairs of runs on every task.
    let resamples = method.resamples.min(2000);
    let mut means: Vec<f64> = (0..resamples)
        .filter_map(|_| {
            let mut resample = |pairs: &Vec<(f64, f64)>| -> Vec<(f64, f64)> {
                (0..pairs.len()).filter_map(|_| pairs.choose(&mut generator).copied()).collect()
            };
            mean_probability(&tasks.iter().map(&mut resample).collect::<Vec<_>>())
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let tail = (1.0 - method.confidence) / 2.0;
    let at = |share: f64| means[((means.len() - 1) as f64 * share).round() as usize];
    Some(Interval { low: at(tail), high: at(1.0 - tail) })
}

/// Steps until the target, by seed and then arm: every seed of every task is a problem of its own.
pub(super) fn profiles(results: &Results) -> Vec<Profile> {
    if results.tasks.len() < 2 {
        return Vec::new();
    }
    let costs: Vec<Vec<Option<f64>>> = (0..results.arms.len())
        .map(|arm| {
            results
                .tasks
                .iter()
                .flat_map(|task| task.arms[arm].runs.iter().map(|run| steps_to_target(task, &run.record)))
                .collect()
        })
        .collect();
    performance_profiles(&costs)
        .into_iter()
        .map(|profile| Profile { arm: profile.solver, points: profile.points })
        .collect()
}

/// The first evaluation at which the validation split reached the target.
pub(super) fn steps_to_target(task: &TaskResults, record: &crate::record::Record) -> Option<f64> {
    let reached = |point: &&crate::record::Point| task.about.measure.reaches(&point.validation, task.target);
    record.curve.iter().find(reached).map(|point| point.step as f64)
}
