//! Runs across arms and seeds, and the tuning before them.

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use serde::Serialize;

use crate::arm::{Arm, Setting};
use crate::run::{CurvePoint, Plan, Record, train};
use crate::task::{Evaluation, Split, Task};

/// The seeds that tuning uses; far from the reported ones, which count from 0.
pub const FIRST_TUNING_SEED: u64 = 1_000_000;

/// How much to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// Reported seeds per arm.
    pub seeds: u64,
    /// Epochs per run.
    pub epochs: usize,
    /// Seeds per candidate of a tuned arm.
    pub tuning_seeds: u64,
    /// Runs at the same time; 0 for rayon's default, one per core.
    pub threads: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { seeds: 10, epochs: 40, tuning_seeds: 3, threads: 0 }
    }
}

/// Hears of a study's progress, from several threads at once.
pub trait Observer: Sync {
    /// Runs are about to start.
    fn stage(&self, _name: &str, _runs: usize) {}
    /// A run completed an epoch.
    fn epoch(&self, _plan: &Plan<'_>, _point: &CurvePoint) {}
    /// A run ended.
    fn finished(&self, _plan: &Plan<'_>, _record: &Record) {}
    /// The current stage's runs have all ended.
    fn stage_finished(&self) {}
}

/// Watches nothing.
impl Observer for () {}

/// A candidate and how it did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// What was tried.
    pub setting: Setting,
    /// The final evaluation on the validation split per tuning seed; absent where the run diverged.
    pub runs: Vec<Option<Evaluation>>,
    /// Their mean; absent if any run diverged.
    pub mean: Option<Evaluation>,
}

/// How a tuned arm got its setting.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tuning {
    /// The seeds of the tuning runs.
    pub seeds: Vec<u64>,
    /// Everything that was tried, in the grid's order.
    pub candidates: Vec<Candidate>,
    /// The candidate with the highest mean validation accuracy; among equals, the one with the lowest loss.
    pub chosen: Setting,
}

impl Tuning {
    /// Whether the chosen learning rate is the smallest or largest that was tried: a better one may lie outside.
    pub fn is_at_the_edge(&self) -> bool {
        let rates = || self.candidates.iter().map(|candidate| candidate.setting.learning_rate);
        let chosen = self.chosen.learning_rate;
        rates().all(|rate| rate >= chosen) || rates().all(|rate| rate <= chosen)
    }
}

/// An arm's runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArmResult {
    /// The arm's name.
    pub name: String,
    /// The arm's name for people.
    pub title: String,
    /// What differs from the base.
    pub description: String,
    /// The options that define it.
    pub options: Vec<(String, String)>,
    /// How its setting was found, if it was tuned.
    pub tuning: Option<Tuning>,
    /// One per seed, in the seeds' order.
    pub runs: Vec<Record>,
}

/// A task as it was trained.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskInfo {
    /// The task's name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Examples in the test split.
    pub test_examples: usize,
}

/// All that a study measured; the base comes first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Results {
    /// What was trained.
    pub task: TaskInfo,
    /// How much was run.
    pub budget: Budget,
    /// What was found, per arm.
    pub arms: Vec<ArmResult>,
}

/// Tunes the arms that need it, then runs every arm on every seed.
pub fn run(task: &dyn Task, arms: &[Arm], budget: Budget, observer: &dyn Observer) -> Result<Results> {
    ensure!(!arms.is_empty(), "a study needs at least one arm");
    ensure!(budget.seeds > 0, "a study needs at least one seed (--seeds 5 gives an interval)");
    ensure!(
        budget.seeds < FIRST_TUNING_SEED,
        "at most {} seeds: the next ones belong to tuning",
        FIRST_TUNING_SEED - 1
    );
    ensure!(budget.epochs > 0, "a run needs at least one epoch (--epochs, 40 by default)");
    ensure!(budget.tuning_seeds > 0, "tuning needs at least one seed");
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(budget.threads)
        .build()
        .context("the threads could not be started; try fewer with --threads")?;
    pool.install(|| {
        let tunings = tune(task, arms, budget, observer)?;
        let plans: Vec<Plan<'_>> = arms
            .iter()
            .zip(&tunings)
            .flat_map(|(arm, tuning)| {
                let setting = tuning.as_ref().map(|tuning| tuning.chosen);
                (0..budget.seeds).map(move |seed| Plan {
                    task,
                    arm,
                    setting,
                    seed,
                    epochs: budget.epochs,
                    final_split: Split::Test,
                })
            })
            .collect();
        let mut records = execute("measuring", &plans, observer)?.into_iter();
        let arms = arms
            .iter()
            .zip(tunings)
            .map(|(arm, tuning)| ArmResult {
                name: arm.name.to_owned(),
                title: arm.title.to_owned(),
                description: arm.description.to_owned(),
                options: arm
                    .options
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), value.clone()))
                    .collect(),
                tuning,
                runs: records.by_ref().take(budget.seeds as usize).collect(),
            })
            .collect();
        let info = TaskInfo {
            name: task.name().to_owned(),
            description: task.description(),
            test_examples: task.examples(Split::Test),
        };
        Ok(Results { task: info, budget, arms })
    })
}

fn execute(stage: &str, plans: &[Plan<'_>], observer: &dyn Observer) -> Result<Vec<Record>> {
    observer.stage(stage, plans.len());
    let records = plans
        .par_iter()
        // A run is long: were several handed out together, one thread would be left with a queue of them at the end.
        .with_max_len(1)
        .map(|plan| {
            let record = train(plan, |point| observer.epoch(plan, point))?;
            observer.finished(plan, &record);
            Ok(record)
        })
        .collect();
    observer.stage_finished();
    records
}

/// One entry per arm, empty for the arms that are run as they are.
fn tune(
    task: &dyn Task,
    arms: &[Arm],
    budget: Budget,
    observer: &dyn Observer,
) -> Result<Vec<Option<Tuning>>> {
    let seeds: Vec<u64> = (FIRST_TUNING_SEED..).take(budget.tuning_seeds as usize).collect();
    let plans: Vec<Plan<'_>> = arms
        .iter()
        .flat_map(|arm| arm.candidates.iter().map(move |&setting| (arm, setting)))
        .flat_map(|(arm, setting)| {
            seeds.iter().map(move |&seed| Plan {
                task,
                arm,
                setting: Some(setting),
                seed,
                epochs: budget.epochs,
                final_split: Split::Validation,
            })
        })
        .collect();
    if plans.is_empty() {
        return Ok(arms.iter().map(|_| None).collect());
    }
    let mut records = execute("tuning", &plans, observer)?.into_iter();
    arms.iter()
        .map(|arm| {
            if !arm.is_tuned() {
                return Ok(None);
            }
            let candidates: Vec<Candidate> = arm
                .candidates
                .iter()
                .map(|&setting| {
                    let runs: Vec<Option<Evaluation>> =
                        records.by_ref().take(seeds.len()).map(|record| record.evaluation()).collect();
                    Candidate { setting, mean: mean(&runs), runs }
                })
                .collect();
            // Where every candidate diverged, the reported runs shall show it.
            let chosen = choose(&candidates).unwrap_or(arm.candidates[0]);
            Ok(Some(Tuning { seeds: seeds.clone(), candidates, chosen }))
        })
        .collect()
}

fn mean(runs: &[Option<Evaluation>]) -> Option<Evaluation> {
    let finished: Vec<Evaluation> = runs.iter().copied().collect::<Option<_>>()?;
    let of = |value: fn(&Evaluation) -> f64| finished.iter().map(value).sum::<f64>() / finished.len() as f64;
    Some(Evaluation {
        loss: of(|evaluation| evaluation.loss),
        accuracy: of(|evaluation| evaluation.accuracy),
    })
}

/// Accuracy decides, as it is what the study's first answer is about; a loss alone would favour settings that are merely
/// less confident.
fn choose(candidates: &[Candidate]) -> Option<Setting> {
    let with_mean = candidates.iter().filter_map(|candidate| Some((candidate.mean?, candidate.setting)));
    let best =
        with_mean.min_by(|(a, _), (b, _)| b.accuracy.total_cmp(&a.accuracy).then(a.loss.total_cmp(&b.loss)));
    best.map(|(_, setting)| setting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arm::Schedule;

    fn candidate(learning_rate: f64, mean: Option<(f64, f64)>) -> Candidate {
        let setting = Setting { learning_rate, schedule: Schedule::Constant };
        let mean = mean.map(|(accuracy, loss)| Evaluation { loss, accuracy });
        Candidate { setting, runs: vec![mean], mean }
    }

    #[test]
    fn accuracy_decides_and_loss_breaks_ties() {
        let candidates = [
            candidate(0.1, Some((0.8, 0.1))),
            candidate(0.2, Some((0.9, 0.5))),
            candidate(0.3, Some((0.9, 0.4))),
        ];
        assert_eq!(choose(&candidates).unwrap().learning_rate, 0.3);
    }

    #[test]
    fn a_candidate_that_diverged_is_never_chosen() {
        let candidates = [candidate(0.1, None), candidate(0.2, Some((0.5, 0.5)))];
        assert_eq!(choose(&candidates).unwrap().learning_rate, 0.2);
        assert_eq!(choose(&candidates[..1]), None);
        assert_eq!(mean(&[candidates[1].mean, None]), None);
    }

    #[test]
    fn the_edge_of_a_grid_is_noticed() {
        let candidates = [0.1, 0.2, 0.3].map(|rate| candidate(rate, None)).to_vec();
        let tuning = |index: usize| Tuning {
            seeds: vec![1],
            chosen: candidates[index].setting,
            candidates: candidates.clone(),
        };
        assert!(tuning(0).is_at_the_edge() && tuning(2).is_at_the_edge());
        assert!(!tuning(1).is_at_the_edge());
    }
}
