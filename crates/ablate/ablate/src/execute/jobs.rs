//! Runs that a study asks for, phase by phase.

use ablate_tasks::{Evaluation, Split};

use super::{Execution, Job, grid};
use crate::findings::{looks, stops};
use crate::measured::Measured;
use crate::results::{Candidate, Results, TaskResults, Tuning};
use crate::study::{FIRST_TUNING_SEED, PlannedTask, Study, Training};

/// Setting of an arm on a task.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Choice {
    /// It is not tuned.
    AsItIs,
    /// Tuning runs are missing.
    Open,
    /// The choice of tuning.
    Chosen(Tuning),
}

impl Execution<'_> {
    /// Numbers of seeds after which it is looked at what there is.
    pub(super) fn rounds(&self) -> Vec<usize> {
        let seeds = self.study.file.seeds;
        if self.study.file.sequential { looks(seeds).seeds } else { vec![seeds] }
    }

    pub(super) fn are_decided(&self, results: &Results) -> bool {
        let is_decided =
            |task: &TaskResults| stops(task, self.study.file.seeds)[1..].iter().all(Option::is_some);
        results.tasks.iter().all(is_decided)
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let arms = self.study.arms.len();
        (0..self.study.tasks.len()).flat_map(move |task| (0..arms).map(move |arm| (task, arm)))
    }

    pub(super) fn tuning_jobs(&self) -> Vec<Job> {
        let tuning = &self.study.file.tuning;
        let jobs = self.pairs().flat_map(|(task, arm)| {
            grid(&self.study.arms[arm], &tuning.rates).into_iter().flat_map(move |setting| {
                tuning_seeds(tuning.seeds).map(move |seed| Job {
                    setting: Some(setting),
                    final_split: Split::Validation,
                    ..own_job(task, arm, seed)
                })
            })
        });
        jobs.collect()
    }

    /// By task and arm, from the tuning runs that there are.
    pub(super) fn choices(&self, runs: &[Option<Measured>]) -> Vec<Choice> {
        let budget = &self.study.file.tuning;
        let mut tuned = runs.iter();
        let of_pair = |(task, arm): (usize, usize)| {
            let measure = self.study.tasks[task].about().measure;
            let settings = grid(&self.study.arms[arm], &budget.rates);
            // All of the pair's are taken, also where one of them is missing.
            let runs: Vec<&Option<Measured>> = tuned.by_ref().take(settings.len() * budget.seeds).collect();
            let runs: Option<Vec<&Measured>> = runs.into_iter().map(Option::as_ref).collect();
            let Some(runs) = runs else { return Choice::Open };
            let candidate = |(setting, runs): (_, &[&Measured])| {
                let runs: Vec<Option<Evaluation>> = runs.iter().map(|run| run.record.evaluation()).collect();
                let finished: Option<Vec<f64>> =
                    runs.iter().map(|run| run.map(|evaluation| measure.of(&evaluation))).collect();
                let mean = finished.map(|values| values.iter().sum::<f64>() / values.len() as f64);
                Candidate { setting, runs, mean }
            };
            let candidates: Vec<Candidate> =
                settings.into_iter().zip(runs.chunks(budget.seeds)).map(candidate).collect();
            let sign = if measure.higher_is_better() { -1.0 } else { 1.0 };
            let cost = |candidate: &&Candidate| candidate.mean.map_or(f64::INFINITY, |mean| sign * mean);
            // Where every candidate diverged, the reported runs shall show it.
            let best = candidates.iter().min_by(|a, b| cost(a).total_cmp(&cost(b)));
            let Some(chosen) = best.map(|candidate| candidate.setting) else { return Choice::AsItIs };
            Choice::Chosen(Tuning { seeds: tuning_seeds(budget.seeds).collect(), candidates, chosen })
        };
        self.pairs().map(of_pair).collect()
    }

    /// The runs of so many seeds that the results lack, and whether their setting is known: all of them, but for those
    /// of arms that are decided, and of a base that no other arm needs.
    pub(super) fn reported_jobs(
        &self,
        choices: &[Choice],
        results: &Results,
        seeds: usize,
    ) -> Vec<(Job, bool)> {
        let is_sequential = self.study.file.sequential;
        let mut jobs = Vec::new();
        let mut choices = choices.iter();
        for (task, so_far) in results.tasks.iter().enumerate() {
            let stops = if is_sequential { stops(so_far, self.study.file.seeds) } else { Vec::new() };
            let goes_on = |arm: usize| !is_sequential || stops[arm].is_none();
            let is_needed = |arm: usize| match arm {
                0 => so_far.arms.len() == 1 || (1..so_far.arms.len()).any(goes_on),
                arm => goes_on(arm),
            };
            for ((arm, runs), choice) in so_far.arms.iter().enumerate().zip(choices.by_ref()) {
                let missing = if is_needed(arm) { runs.runs.len()..seeds } else { 0..0 };
                jobs.extend(missing.map(|seed| choice.of(own_job(task, arm, seed as u64))));
            }
        }
        jobs
    }

    /// Some of the base's runs again, where it is unknown whether equal runs are equal.
    pub(super) fn repeated_jobs(&self, choices: &[Choice]) -> Vec<(Job, bool)> {
        let bases = self.pairs().zip(choices).filter(|((_, arm), _)| *arm == 0);
        let of_base = |((task, arm), choice): ((usize, usize), &Choice)| {
            let seeds = 0..repeats(self.study, &self.study.tasks[task]) as u64;
            let job = |seed| choice.of(Job { repeat: 1, ..own_job(task, arm, seed) });
            seeds.map(job).collect::<Vec<_>>()
        };
        bases.flat_map(of_base).collect()
    }

    /// The runs that continue from the base's state. One that does so at step 0 is the arm's own, and not among them.
    pub(super) fn forked_jobs(&self) -> Vec<Job> {
        let mut jobs = Vec::new();
        for (task, planned) in self.study.tasks.iter().enumerate() {
            for &arm in &self.study.forked {
                for &step in planned.forks.iter().filter(|step| **step > 0) {
                    let seeds = 0..self.study.file.seeds as u64;
                    jobs.extend(seeds.map(|seed| Job { fork: Some(step), ..own_job(task, arm, seed) }));
                }
            }
        }
        jobs
    }
}

impl Choice {
    fn of(&self, job: Job) -> (Job, bool) {
        match self {
            Self::AsItIs => (job, true),
            Self::Open => (job, false),
            Self::Chosen(tuning) => (Job { setting: Some(tuning.chosen), ..job }, true),
        }
    }

    pub(super) fn tuning(&self) -> Option<Tuning> {
        match self {
            Self::Chosen(tuning) => Some(tuning.clone()),
            Self::AsItIs | Self::Open => None,
        }
    }
}

/// A reported run of an arm that is run as it is.
pub(super) fn own_job(task: usize, arm: usize, seed: u64) -> Job {
    Job { task, arm, setting: None, seed, final_split: Split::Test, repeat: 0, fork: None }
}

/// Number of seeds of the base that a task runs a second time.
pub(super) fn repeats(study: &Study, task: &PlannedTask) -> usize {
    match &task.training {
        Training::Task(_) => 0,
        Training::Command(command) => command.entry().repeats.min(study.file.seeds),
    }
}

fn tuning_seeds(count: usize) -> impl Iterator<Item = u64> {
    (0..count as u64).map(|index| FIRST_TUNING_SEED + index)
}
