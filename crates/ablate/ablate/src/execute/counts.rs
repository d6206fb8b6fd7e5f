//! Numbers of runs of a study, and their length.

use ablate_tasks::Split;
use anyhow::Result;

use super::jobs::repeats;
use crate::optimizer::Setting;
use crate::registry::Registry;
use crate::run::{Next, Plan, train};
use crate::study::{FIRST_TUNING_SEED, PlannedArm, PlannedTask, Recipe, Study, Training};

/// Settings that tuning tries for an arm; empty for an arm without tuning.
pub fn grid(arm: &PlannedArm, rates: &[f64]) -> Vec<Setting> {
    let at_rate =
        |&learning_rate: &f64| arm.schedules.iter().map(move |&schedule| Setting { learning_rate, schedule });
    rates.iter().flat_map(at_rate).collect()
}

/// Numbers of runs of a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunCounts {
    /// For tuning.
    pub tuning: usize,
    /// Reported ones.
    pub reported: usize,
    /// Runs of the base a second time.
    pub repeated: usize,
    /// Runs that continue from the base's state; those at step 0 are reported ones.
    pub forked: usize,
}

/// Numbers of runs of a study; in a sequential one, the largest that they can be.
pub fn run_counts(study: &Study) -> RunCounts {
    let settings: usize = study.arms.iter().map(|arm| grid(arm, &study.file.tuning.rates).len()).sum();
    let tasks = study.tasks.len();
    let later = |task: &PlannedTask| task.forks.iter().filter(|step| **step > 0).count();
    RunCounts {
        tuning: tasks * settings * study.file.tuning.seeds,
        reported: tasks * study.arms.len() * study.file.seeds,
        repeated: study.tasks.iter().map(|task| repeats(study, task)).sum(),
        forked: study.tasks.iter().map(later).sum::<usize>() * study.forked.len() * study.file.seeds,
    }
}

/// Seconds that one run of a task takes, by a short piece of a base run; nothing of a command, of which there are no
/// pieces.
///
/// # Errors
/// The task or the optimizer failed.
pub fn seconds_per_run(study: &Study, registry: &Registry, task: &PlannedTask) -> Result<Option<f64>> {
    const PROBED: usize = 12;
    let (Training::Task(trained), Recipe::Optimizer(optimizer)) = (&task.training, &study.arms[0].recipe)
    else {
        return Ok(None);
    };
    let steps = task.steps.min(PROBED);
    let probe = |steps: usize| {
        let plan = Plan {
            task: &**trained,
            optimizer,
            setting: None,
            seed: FIRST_TUNING_SEED,
            steps,
            evaluations: 1,
            final_split: Split::Validation,
            from: None,
        };
        let started = std::time::Instant::now();
        let record = train(&plan, registry, None, |_| {}, || Next::Go)?;
        let stepping = record.and_then(|record| record.last().map(|point| point.seconds)).unwrap_or(0.0);
        Ok::<_, anyhow::Error>((stepping, started.elapsed().as_secs_f64()))
    };
    probe(1)?; // The first one finds cold caches.
    let (stepping, whole) = probe(steps)?;
    // A probe evaluates three times: before, after, and at the end.
    let evaluation = (whole - stepping).max(0.0) / 3.0;
    let evaluations = study.file.evaluations.min(task.steps) as f64;
    Ok(Some(stepping / steps as f64 * task.steps as f64 + evaluation * (evaluations + 2.0)))
}
