//! Doing what is missing of a study, spread over the cores.
//!
//! With a study of one factor, one baseline and two seeds (in `study`, `registry` and `store`):
//!
//! ```
//! use std::sync::Mutex;
//!
//! use ablate::execute::{Interrupted, Job, Observer, grid, run_counts, seconds_per_run};
//! use ablate::record::{Point, Record};
//!
//! /// Writes down what it hears.
//! #[derive(Default)]
//! struct Diary(Mutex<Vec<String>>);
//!
//! impl Observer for Diary {
//!     fn stage(&self, name: &str, jobs: &[Job], stored: usize) {
//!         self.0.lock().unwrap().push(format!("{name}: {} to do, {stored} stored", jobs.len()));
//!     }
//!
//!     fn point(&self, _job: &Job, _point: &Point) {}
//!
//!     fn finished(&self, _job: &Job, _record: &Record) {}
//!
//!     fn damaged(&self, what: &str) {
//!         self.0.lock().unwrap().push(what.into());
//!     }
//!
//!     fn stage_finished(&self) {}
//! }
//!
//! # use std::sync::atomic::AtomicBool;
//! # use ablate::{execute::Execution, registry::Registry, store::Store, study::{Overrides, Study}};
//! # let text = r#"
//! #     tasks = ["digits"]
//! #     seeds = 2
//! #     length = 0.01
//! #     baselines = ["sgd"]
//! #     tuning = { rates = [0.1], seeds = 1 }
//! #     [[factor]]
//! #     name = "cautious"
//! #     on = { use_cautious = true }
//! # "#;
//! # let registry = Registry::shipped();
//! # let study = Study::parse("mine", text, &registry, &Overrides::default())?;
//! # let folder = tempfile::tempdir()?;
//! # let (store, stop) = (Store::open(folder.path())?, AtomicBool::new(false));
//! # let execution = Execution { study: &study, registry: &registry, store: &store, stop: &stop, may_run: true };
//! assert_eq!(run_counts(&study), (2, 6)); // for tuning: one rate, two schedules; reported: three arms, two seeds
//! assert_eq!(grid(&study.arms[2], &study.file.tuning.rates).len(), 2);
//! assert!(seconds_per_run(&study, &registry, &study.tasks[0])? > 0.0);
//! let diary = Diary::default();
//! let results = execution.results(&diary)?;
//! assert_eq!(*diary.0.lock().unwrap(), ["tuning: 2 to do, 0 stored", "measuring: 6 to do, 0 stored"]);
//! assert_eq!(execution.results(&())?, results); // from the store
//!
//! stop.store(true, std::sync::atomic::Ordering::Relaxed);
//! let empty = Store::open(&folder.path().join("other"))?;
//! let stopped = Execution { store: &empty, ..execution }.results(&()).unwrap_err();
//! assert!(stopped.is::<Interrupted>());
//! # Ok::<(), anyhow::Error>(())
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ablate_tasks::{Evaluation, Split};
use anyhow::{Context, Result, bail};
use rayon::prelude::*;

use crate::optimizer::Setting;
use crate::record::{Point, Record};
use crate::registry::Registry;
use crate::results::{ArmRuns, Candidate, Results, Run, TaskResults, Tuning};
use crate::run::{Next, Plan, group_names, train};
use crate::store::{Found, Key, Store};
use crate::study::{FIRST_TUNING_SEED, PlannedArm, PlannedTask, Study};
use crate::versions::{CODE, versions};

/// How often a run that another process does is looked for.
const PATIENCE: Duration = Duration::from_millis(200);

/// A run of a study.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Job {
    /// The task's place in the study.
    pub task: usize,
    /// The arm's place in the study.
    pub arm: usize,
    /// The candidate, for a tuned arm.
    pub setting: Option<Setting>,
    /// The seed.
    pub seed: u64,
    /// The split of its final evaluation.
    pub final_split: Split,
}

/// Hears of a study's progress, from several threads at once.
pub trait Observer: Sync {
    /// These runs are about to start; so many others of the stage were found stored.
    fn stage(&self, _name: &str, _jobs: &[Job], _stored: usize) {}
    /// A run came to a point of its curves.
    fn point(&self, _job: &Job, _point: &Point) {}
    /// A run ended.
    fn finished(&self, _job: &Job, _record: &Record) {}
    /// A stored run cannot be used and is done again.
    fn damaged(&self, _what: &str) {}
    /// The current stage's runs have all ended.
    fn stage_finished(&self) {}
}

/// Watches nothing.
impl Observer for () {}

/// The study was told to stop; what has ended is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stopped; the same command goes on from here")
    }
}

impl std::error::Error for Interrupted {}

/// Everything that executing a study needs.
pub struct Execution<'a> {
    /// What is to be run.
    pub study: &'a Study,
    /// What it can name.
    pub registry: &'a Registry,
    /// Where runs are kept.
    pub store: &'a Store,
    /// Set from outside to stop.
    pub stop: &'a AtomicBool,
    /// Whether runs that are missing are done; or else they are an error.
    pub may_run: bool,
}

impl Execution<'_> {
    /// Tunes the arms that need it, then does every run that isn't stored, on the current pool of threads.
    ///
    /// # Errors
    /// [`Interrupted`], a task or an optimizer that failed, or a store that cannot be used.
    pub fn results(&self, observer: &dyn Observer) -> Result<Results> {
        let tuned = self.do_all("tuning", &self.tuning_jobs(), observer)?;
        let tunings = self.tunings(&tuned);
        let jobs = self.reported_jobs(&tunings);
        let mut records = self.do_all("measuring", &jobs, observer)?.into_iter().zip(&jobs);
        let study = self.study;
        let mut tunings = tunings.into_iter();
        let mut tasks = Vec::new();
        for task in &study.tasks {
            let arms = study.arms.iter().map(|_| {
                let runs = records.by_ref().take(study.file.seeds);
                let runs = runs.map(|(record, job)| Run { seed: job.seed, record }).collect();
                ArmRuns { tuning: tunings.next().flatten(), runs }
            });
            let arms = arms.collect();
            tasks.push(TaskResults {
                name: task.name.clone(),
                about: task.task.about(),
                options: task.options.clone(),
                steps: task.steps,
                target: task.target,
                groups: group_names(&*task.task),
                arms,
            });
        }
        Ok(Results {
            study: study.info(),
            versions: versions(),
            code: CODE.to_owned(),
            arms: study.arms.iter().map(|planned| planned.arm.clone()).collect(),
            refused: study.refused.clone(),
            tasks,
        })
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let arms = self.study.arms.len();
        (0..self.study.tasks.len()).flat_map(move |task| (0..arms).map(move |arm| (task, arm)))
    }

    fn tuning_jobs(&self) -> Vec<Job> {
        let tuning = &self.study.file.tuning;
        let jobs = self.pairs().flat_map(|(task, arm)| {
            grid(&self.study.arms[arm], &tuning.rates).into_iter().flat_map(move |setting| {
                tuning_seeds(tuning.seeds).map(move |seed| Job {
                    task,
                    arm,
                    setting: Some(setting),
                    seed,
                    final_split: Split::Validation,
                })
            })
        });
        jobs.collect()
    }

    /// By task and arm, nothing for the arms that are run as they are.
    fn tunings(&self, records: &[Record]) -> Vec<Option<Tuning>> {
        let budget = &self.study.file.tuning;
        let mut records = records.iter();
        let of_pair = |(task, arm): (usize, usize)| {
            let measure = self.study.tasks[task].task.about().measure;
            let candidates: Vec<Candidate> = grid(&self.study.arms[arm], &budget.rates)
                .into_iter()
                .map(|setting| {
                    let runs: Vec<Option<Evaluation>> =
                        records.by_ref().take(budget.seeds).map(Record::evaluation).collect();
                    let finished: Option<Vec<f64>> =
                        runs.iter().map(|run| run.map(|evaluation| measure.of(&evaluation))).collect();
                    let mean = finished.map(|values| values.iter().sum::<f64>() / values.len() as f64);
                    Candidate { setting, runs, mean }
                })
                .collect();
            let sign = if measure.higher_is_better() { -1.0 } else { 1.0 };
            let cost = |candidate: &&Candidate| candidate.mean.map_or(f64::INFINITY, |mean| sign * mean);
            // Where every candidate diverged, the reported runs shall show it.
            let best = candidates.iter().min_by(|a, b| cost(a).total_cmp(&cost(b)))?.setting;
            Some(Tuning { seeds: tuning_seeds(budget.seeds).collect(), candidates, chosen: best })
        };
        self.pairs().map(of_pair).collect()
    }

    fn reported_jobs(&self, tunings: &[Option<Tuning>]) -> Vec<Job> {
        let of_pair = |((task, arm), tuning): ((usize, usize), &Option<Tuning>)| {
            let setting = tuning.as_ref().map(|tuning| tuning.chosen);
            let seeds = 0..self.study.file.seeds as u64;
            seeds.map(|seed| Job { task, arm, setting, seed, final_split: Split::Test }).collect::<Vec<_>>()
        };
        self.pairs().zip(tunings).flat_map(of_pair).collect()
    }

    fn address(&self, job: &Job) -> Result<String> {
        let (task, arm) = (&self.study.tasks[job.task], &self.study.arms[job.arm]);
        let key = Key {
            code: CODE,
            own: self.registry.version(),
            task: &task.kind,
            options: &task.options,
            optimizer: &arm.optimizer,
            setting: job.setting,
            seed: job.seed,
            steps: task.steps,
            evaluations: self.study.file.evaluations,
            final_split: job.final_split,
        };
        key.address()
    }

    /// The records of all jobs, in their order.
    fn do_all(&self, stage: &str, jobs: &[Job], observer: &dyn Observer) -> Result<Vec<Record>> {
        let addresses = jobs.iter().map(|job| self.address(job)).collect::<Result<Vec<_>>>()?;
        let mut records: Vec<Option<Record>> = Vec::with_capacity(jobs.len());
        for address in &addresses {
            records.push(match self.store.load(address)? {
                Found::Whole(record) => Some(*record),
                Found::Nothing => None,
                Found::Damaged(what) => {
                    observer.damaged(&what);
                    None
                }
            });
        }
        let missing: Vec<usize> = (0..jobs.len()).filter(|&index| records[index].is_none()).collect();
        if missing.is_empty() {
            return Ok(records.into_iter().flatten().collect());
        }
        if !self.may_run {
            bail!("{} of {} runs for {stage} are missing; `ablate run` does them", missing.len(), jobs.len());
        }
        observer.stage(
            stage,
            &missing.iter().map(|&index| jobs[index]).collect::<Vec<_>>(),
            jobs.len() - missing.len(),
        );
        let claimed =
            |index: &usize| Ok((*index, self.try_job(&jobs[*index], &addresses[*index], observer)?));
        // A run is long: were several handed out together, one thread would be left with a queue of them at the end.
        let done = missing.par_iter().with_max_len(1).map(claimed).collect::<Result<Vec<_>>>()?;
        for (index, record) in done {
            records[index] = match record {
                Some(record) => Some(record),
                None => Some(self.wait_for(&jobs[index], &addresses[index], observer)?),
            };
        }
        observer.stage_finished();
        Ok(records.into_iter().flatten().collect())
    }

    /// Does a job, unless another process is at it.
    fn try_job(&self, job: &Job, address: &str, observer: &dyn Observer) -> Result<Option<Record>> {
        let go_on = || if self.stop.load(Ordering::Relaxed) { Next::Stop } else { Next::Go };
        if go_on() == Next::Stop {
            return Err(Interrupted.into());
        }
        let Some(_claim) = self.store.claim(address)? else { return Ok(None) };
        // It may have been done between the look at the store and the claim.
        if let Found::Whole(record) = self.store.load(address)? {
            observer.finished(job, &record);
            return Ok(Some(*record));
        }
        let (task, arm) = (&self.study.tasks[job.task], &self.study.arms[job.arm]);
        let plan = Plan {
            task: &*task.task,
            optimizer: &arm.optimizer,
            setting: job.setting,
            seed: job.seed,
            steps: task.steps,
            evaluations: self.study.file.evaluations,
            final_split: job.final_split,
        };
        let record = train(&plan, self.registry, |point| observer.point(job, point), go_on)
            .with_context(|| format!("task {}, arm {}", task.name, arm.arm.name))?;
        let Some(record) = record else { return Err(Interrupted.into()) };
        self.store.save(address, &record)?;
        observer.finished(job, &record);
        Ok(Some(record))
    }

    /// The record of a job that another process was at, or that it has left.
    fn wait_for(&self, job: &Job, address: &str, observer: &dyn Observer) -> Result<Record> {
        loop {
            if let Found::Whole(record) = self.store.load(address)? {
                observer.finished(job, &record);
                return Ok(*record);
            }
            if let Some(record) = self.try_job(job, address, observer)? {
                return Ok(record);
            }
            std::thread::sleep(PATIENCE);
        }
    }
}

/// The settings that tuning tries for an arm; none for one that is run as it is.
pub fn grid(arm: &PlannedArm, rates: &[f64]) -> Vec<Setting> {
    let at_rate =
        |&learning_rate: &f64| arm.schedules.iter().map(move |&schedule| Setting { learning_rate, schedule });
    rates.iter().flat_map(at_rate).collect()
}

fn tuning_seeds(count: usize) -> impl Iterator<Item = u64> {
    (0..count as u64).map(|index| FIRST_TUNING_SEED + index)
}

/// How many runs a study has: for tuning, and reported.
pub fn run_counts(study: &Study) -> (usize, usize) {
    let settings: usize = study.arms.iter().map(|arm| grid(arm, &study.file.tuning.rates).len()).sum();
    let tasks = study.tasks.len();
    (tasks * settings * study.file.tuning.seeds, tasks * study.arms.len() * study.file.seeds)
}

/// What one run of a task takes, in seconds, by a short piece of a base run.
///
/// # Errors
/// The task or the optimizer failed.
pub fn seconds_per_run(study: &Study, registry: &Registry, task: &PlannedTask) -> Result<f64> {
    const PROBED: usize = 12;
    let steps = task.steps.min(PROBED);
    let probe = |steps: usize| {
        let plan = Plan {
            task: &*task.task,
            optimizer: &study.arms[0].optimizer,
            setting: None,
            seed: FIRST_TUNING_SEED,
            steps,
            evaluations: 1,
            final_split: Split::Validation,
        };
        let started = std::time::Instant::now();
        let record = train(&plan, registry, |_| {}, || Next::Go)?;
        let stepping = record.and_then(|record| record.last().map(|point| point.seconds)).unwrap_or(0.0);
        Ok::<_, anyhow::Error>((stepping, started.elapsed().as_secs_f64()))
    };
    probe(1)?; // The first one finds cold caches.
    let (stepping, whole) = probe(steps)?;
    // A probe evaluates three times: before, after, and at the end.
    let evaluation = (whole - stepping).max(0.0) / 3.0;
    let evaluations = study.file.evaluations.min(task.steps) as f64;
    Ok(stepping / steps as f64 * task.steps as f64 + evaluation * (evaluations + 2.0))
}
