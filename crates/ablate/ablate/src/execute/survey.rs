//! Content of a study's store, and runs that can be done next.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::jobs::{Choice, own_job};
use super::{Execution, Job};
use crate::measured::Measured;
use crate::results::{ArmRuns, Fork, Launched, Results, Run, TaskResults};
use crate::run::group_names;
use crate::store::Found;
use crate::study::{PlannedTask, Training};
use crate::versions::{CODE, versions};

/// State of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum State {
    /// It is stored.
    Stored {
        /// Steps that it took.
        steps: usize,
        /// Time of these, without evaluations.
        seconds: f64,
    },
    /// It can be done.
    Missing,
    /// It needs other runs first: those of tuning, or the base's run from which it continues.
    Waiting,
}

/// Runs that are done together.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// `tuning`, `measuring` or `forking`.
    pub name: &'static str,
    /// The look of a sequential study before which these runs are done, from 1.
    pub round: Option<usize>,
    /// The runs.
    pub runs: Vec<(Job, State)>,
    /// Whether the number of runs is an upper bound. A round of a sequential study depends on the looks before it.
    pub is_bound: bool,
}

impl Phase {
    /// Number of runs that are stored.
    pub fn stored(&self) -> usize {
        self.runs.iter().filter(|(_, state)| matches!(state, State::Stored { .. })).count()
    }

    /// The runs that can be done.
    pub fn missing(&self) -> Vec<Job> {
        self.runs.iter().filter(|(_, state)| *state == State::Missing).map(|(job, _)| *job).collect()
    }

    /// Number of runs that wait for others.
    pub fn waiting(&self) -> usize {
        self.runs.iter().filter(|(_, state)| *state == State::Waiting).count()
    }
}

/// Content of a study's store.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// The phases in the order in which they are done; those without a run are left out.
    pub phases: Vec<Phase>,
    /// The results, where every run is stored.
    pub results: Option<Results>,
}

/// Stored runs that were read before, by address.
#[derive(Default)]
pub(super) struct Known(pub(super) BTreeMap<String, Measured>);

impl Execution<'_> {
    /// The part of the study that the store holds. Nothing is run.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn survey(&self) -> Result<Survey> {
        self.survey_with(&mut Known::default())
    }

    pub(super) fn survey_with(&self, known: &mut Known) -> Result<Survey> {
        let tuning: Vec<(Job, bool)> = self.tuning_jobs().into_iter().map(|job| (job, true)).collect();
        let tuned = self.stored(&tuning, known)?;
        let mut phases = vec![phase("tuning", None, &tuning, &tuned)];
        let choices = self.choices(&tuned);
        let mut results = self.without_runs(&choices);
        let mut repeated = self.repeated_jobs(&choices);
        let (mut is_whole, mut before) = (true, 0);
        for (index, seeds) in self.rounds().into_iter().enumerate() {
            let round = self.study.file.sequential.then_some(index + 1);
            if !is_whole {
                let seeds = before as u64..seeds as u64;
                let jobs = self.pairs().flat_map(|(task, arm)| {
                    seeds.clone().map(move |seed| (own_job(task, arm, seed), State::Waiting))
                });
                phases.push(Phase { name: "measuring", round, runs: jobs.collect(), is_bound: true });
            } else {
                let mut jobs = self.reported_jobs(&choices, &results, seeds);
                jobs.append(&mut repeated);
                let runs = self.stored(&jobs, known)?;
                phases.push(phase("measuring", round, &jobs, &runs));
                match runs.into_iter().collect::<Option<Vec<_>>>() {
                    Some(runs) => add(&mut results, &jobs, runs),
                    None => is_whole = false,
                }
                if is_whole && self.study.file.sequential && self.are_decided(&results) {
                    break;
                }
            }
            before = seeds;
        }
        let forked = self.forked_jobs();
        let bases: Vec<(Job, bool)> =
            forked.iter().map(|job| (own_job(job.task, 0, job.seed), true)).collect();
        let bases = self.stored(&bases, known)?;
        let forks: Vec<(Job, bool)> =
            forked.into_iter().zip(bases).map(|(job, base)| (job, base.is_some())).collect();
        let runs = self.stored(&forks, known)?;
        phases.push(phase("forking", None, &forks, &runs));
        match runs.into_iter().collect::<Option<Vec<_>>>() {
            Some(runs) if is_whole => self.add_forks(&mut results, &forks, runs),
            _ => is_whole = false,
        }
        phases.retain(|phase| !phase.runs.is_empty());
        Ok(Survey { phases, results: is_whole.then_some(results) })
    }

    /// The stored runs of the jobs whose setting is known. One that is damaged is found where it is done again.
    fn stored(&self, jobs: &[(Job, bool)], known: &mut Known) -> Result<Vec<Option<Measured>>> {
        let address = |(job, is_known): &(Job, bool)| is_known.then(|| self.address(job)).transpose();
        let addresses = jobs.iter().map(address).collect::<Result<Vec<Option<String>>>>()?;
        let wanted = addresses.iter().flatten().filter(|address| !known.0.contains_key(*address));
        // Runs that continue from the base ask for one of its runs several times.
        let wanted: BTreeSet<&String> = wanted.collect();
        let wanted: Vec<String> = wanted.into_iter().cloned().collect();
        for (address, found) in wanted.iter().zip(self.store.load_all(&wanted)?) {
            if let Found::Whole(run) = found {
                known.0.insert(address.clone(), *run);
            }
        }
        Ok(addresses.iter().map(|address| known.0.get(address.as_ref()?).cloned()).collect())
    }

    /// The study before its first reported run.
    fn without_runs(&self, choices: &[Choice]) -> Results {
        let study = self.study;
        let mut choices = choices.iter();
        let mut tasks = Vec::new();
        for task in &study.tasks {
            let of_arm = |choice: &Choice| ArmRuns { tuning: choice.tuning(), runs: Vec::new() };
            let arms = choices.by_ref().take(study.arms.len()).map(of_arm).collect();
            tasks.push(TaskResults {
                name: task.name.clone(),
                about: task.about(),
                options: task.options.clone(),
                steps: task.steps,
                target: task.target,
                matters: task.matters,
                groups: match &task.training {
                    Training::Task(task) => group_names(&**task),
                    Training::Command(_) => Vec::new(),
                },
                arms,
                forks: Vec::new(),
                read: None,
                launched: match &task.training {
                    Training::Task(_) => None,
                    Training::Command(command) => Some(Launched {
                        command: command.entry().command.clone(),
                        sources: command.sources().map(str::to_owned),
                        repeats: Vec::new(),
                    }),
                },
            });
        }
        Results {
            study: study.info(),
            versions: versions(study.tasks.iter().any(|task| matches!(task.training, Training::Task(_)))),
            code: self.code(),
            arms: study.arms.iter().map(|planned| planned.arm.clone()).collect(),
            refused: study.refused.clone(),
            tasks,
        }
    }

    /// The digest of the sources that determine the runs: this program's, or the commands'.
    fn code(&self) -> String {
        let sources = |task: &PlannedTask| match &task.training {
            Training::Task(_) => None,
            Training::Command(command) => Some(command.sources().unwrap_or("unknown").to_owned()),
        };
        let sources: Vec<String> = self.study.tasks.iter().filter_map(sources).collect();
        if sources.is_empty() { CODE.to_owned() } else { sources.join("+") }
    }

    /// The runs that continue from the base's state. One that does so at step 0 is the arm's own.
    fn add_forks(&self, results: &mut Results, jobs: &[(Job, bool)], runs: Vec<Measured>) {
        for (task, planned) in self.study.tasks.iter().enumerate() {
            let results = &mut results.tasks[task];
            for &arm in &self.study.forked {
                for &step in &planned.forks {
                    let runs = if step == 0 { results.arms[arm].runs.clone() } else { Vec::new() };
                    results.forks.push(Fork { arm, step, runs });
                }
            }
        }
        for ((job, _), measured) in jobs.iter().zip(runs) {
            let is_its = |fork: &&mut Fork| (fork.arm, Some(fork.step)) == (job.arm, job.fork);
            if let Some(fork) = results.tasks[job.task].forks.iter_mut().find(is_its) {
                fork.runs.push(Run::of(job.seed, measured));
            }
        }
    }
}

fn phase(name: &'static str, round: Option<usize>, jobs: &[(Job, bool)], runs: &[Option<Measured>]) -> Phase {
    let stored = |run: &Measured| {
        let (steps, seconds) = run.record.last().map_or((0, 0.0), |point| (point.step, point.seconds));
        State::Stored { steps, seconds }
    };
    let state = |is_ready: bool, run: &Option<Measured>| match run {
        Some(run) => stored(run),
        None if is_ready => State::Missing,
        None => State::Waiting,
    };
    let runs = jobs.iter().zip(runs).map(|((job, is_ready), run)| (*job, state(*is_ready, run))).collect();
    Phase { name, round, runs, is_bound: false }
}

fn add(results: &mut Results, jobs: &[(Job, bool)], runs: Vec<Measured>) {
    for ((job, _), measured) in jobs.iter().zip(runs) {
        let (task, run) = (&mut results.tasks[job.task], Run::of(job.seed, measured));
        match &mut task.launched {
            Some(launched) if job.repeat > 0 => launched.repeats.push(run),
            _ => task.arms[job.arm].runs.push(run),
        }
    }
}
