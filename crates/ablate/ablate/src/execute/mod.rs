//! Execution of what is missing of a study, spread over the cores.
//!
//! With a study of one factor, one baseline and two seeds (in `study`, `registry` and `store`):
//!
//! ```
//! use std::sync::Mutex;
//!
//! use ablate::execute::{Interrupted, Job, Observer, RunCounts, grid, run_counts, seconds_per_run};
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
//! // For tuning: one rate, two schedules. Reported: three arms, two seeds. Only commands are run a second time.
//! assert_eq!(run_counts(&study), RunCounts { tuning: 2, reported: 6, repeated: 0, forked: 0 });
//! assert_eq!(grid(&study.arms[2], &study.file.tuning.rates).len(), 2);
//! assert!(seconds_per_run(&study, &registry, &study.tasks[0])?.is_some_and(|seconds| seconds > 0.0));
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

mod counts;
mod stage;

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ablate_tasks::{Evaluation, Split};
use anyhow::{Result, anyhow, bail};
use rayon::prelude::*;
use serde_json::{Map, Value};

pub use self::counts::{RunCounts, grid, run_counts, seconds_per_run};
use self::stage::{Attempt, Stage};
use crate::command::{Assignment, Resources};
use crate::findings::{looks, stops};
use crate::measured::Measured;
use crate::optimizer::Setting;
use crate::record::{Point, Record};
use crate::registry::Registry;
use crate::results::{ArmRuns, Candidate, Fork, Launched, Results, Run, TaskResults, Tuning};
use crate::run::group_names;
use crate::store::{Found, Key, PrefixKey, Store};
use crate::study::{FIRST_TUNING_SEED, PlannedArm, PlannedTask, Recipe, Study, Training};
use crate::versions::{CODE, versions};

/// Time between two looks for a run that another process does.
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
    /// 0, or which time it is run again, to see whether equal runs are equal.
    pub repeat: usize,
    /// Steps of the base that it goes on from; absent for a run from its start.
    pub fork: Option<usize>,
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
    /// The study to be run.
    pub study: &'a Study,
    /// Tasks and transforms that it can name.
    pub registry: &'a Registry,
    /// Store of the runs.
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
        let mut results = self.without_runs(&tunings);
        let mut repeated = self.repeated_jobs(&tunings);
        for seeds in self.rounds() {
            let mut jobs = self.reported_jobs(&tunings, &results, seeds);
            jobs.append(&mut repeated);
            let runs = self.do_all("measuring", &jobs, observer)?;
            for (job, measured) in jobs.iter().zip(runs) {
                let (task, run) = (&mut results.tasks[job.task], Run::of(job.seed, measured));
                match &mut task.launched {
                    Some(launched) if job.repeat > 0 => launched.repeats.push(run),
                    _ => task.arms[job.arm].runs.push(run),
                }
            }
            if self.study.file.sequential && self.are_decided(&results) {
                break;
            }
        }
        self.fork(&mut results, observer)?;
        Ok(results)
    }

    /// Numbers of seeds after which it is looked at what there is.
    fn rounds(&self) -> Vec<usize> {
        let seeds = self.study.file.seeds;
        if self.study.file.sequential { looks(seeds).seeds } else { vec![seeds] }
    }

    fn are_decided(&self, results: &Results) -> bool {
        let is_decided =
            |task: &TaskResults| stops(task, self.study.file.seeds)[1..].iter().all(Option::is_some);
        results.tasks.iter().all(is_decided)
    }

    /// The study before its first reported run.
    fn without_runs(&self, tunings: &[Option<Tuning>]) -> Results {
        let study = self.study;
        let mut tunings = tunings.iter().cloned();
        let mut tasks = Vec::new();
        for task in &study.tasks {
            let arms =
                study.arms.iter().map(|_| ArmRuns { tuning: tunings.next().flatten(), runs: Vec::new() });
            let arms = arms.collect();
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
            versions: versions(),
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
                    repeat: 0,
                    fork: None,
                })
            })
        });
        jobs.collect()
    }

    /// By task and arm, nothing for the arms that are run as they are.
    fn tunings(&self, runs: &[Measured]) -> Vec<Option<Tuning>> {
        let budget = &self.study.file.tuning;
        let mut tuned = runs.iter();
        let of_pair = |(task, arm): (usize, usize)| {
            let measure = self.study.tasks[task].about().measure;
            let candidates: Vec<Candidate> = grid(&self.study.arms[arm], &budget.rates)
                .into_iter()
                .map(|setting| {
                    let runs: Vec<Option<Evaluation>> =
                        tuned.by_ref().take(budget.seeds).map(|run| run.record.evaluation()).collect();
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

    /// The runs that are missing of so many seeds: all of them, but for those of arms that are decided, and of a base that no other arm needs.
    fn reported_jobs(&self, tunings: &[Option<Tuning>], results: &Results, seeds: usize) -> Vec<Job> {
        let is_sequential = self.study.file.sequential;
        let mut jobs = Vec::new();
        let mut tunings = tunings.iter();
        for (task, so_far) in results.tasks.iter().enumerate() {
            let stops = if is_sequential { stops(so_far, self.study.file.seeds) } else { Vec::new() };
            let goes_on = |arm: usize| !is_sequential || stops[arm].is_none();
            let is_needed = |arm: usize| match arm {
                0 => so_far.arms.len() == 1 || (1..so_far.arms.len()).any(goes_on),
                arm => goes_on(arm),
            };
            for (arm, runs) in so_far.arms.iter().enumerate() {
                let setting = tunings.next().and_then(|tuning| tuning.as_ref().map(|tuning| tuning.chosen));
                let missing = if is_needed(arm) { runs.runs.len()..seeds } else { 0..0 };
                jobs.extend(missing.map(|seed| Job {
                    task,
                    arm,
                    setting,
                    seed: seed as u64,
                    final_split: Split::Test,
                    repeat: 0,
                    fork: None,
                }));
            }
        }
        jobs
    }

    /// Some of the base's runs once more, where nobody knows whether they would be the same.
    fn repeated_jobs(&self, tunings: &[Option<Tuning>]) -> Vec<Job> {
        let bases = self.pairs().zip(tunings).filter(|((_, arm), _)| *arm == 0);
        let of_base = |((task, arm), tuning): ((usize, usize), &Option<Tuning>)| {
            let setting = tuning.as_ref().map(|tuning| tuning.chosen);
            let seeds = 0..repeats(self.study, &self.study.tasks[task]) as u64;
            seeds.map(move |seed| Job {
                task,
                arm,
                setting,
                seed,
                final_split: Split::Test,
                repeat: 1,
                fork: None,
            })
        };
        bases.flat_map(of_base).collect()
    }

    /// Does the runs that go on from the base's state. One that does so at step 0 is the arm's own.
    fn fork(&self, results: &mut Results, observer: &dyn Observer) -> Result<()> {
        let mut jobs = Vec::new();
        for (task, planned) in self.study.tasks.iter().enumerate() {
            for &arm in &self.study.forked {
                for &step in &planned.forks {
                    let own = &results.tasks[task].arms[arm].runs;
                    let runs = if step == 0 { own.clone() } else { Vec::new() };
                    results.tasks[task].forks.push(Fork { arm, step, runs });
                    let seeds = (0..self.study.file.seeds as u64).filter(|_| step > 0);
                    jobs.extend(seeds.map(|seed| Job { fork: Some(step), ..own_job(task, arm, seed) }));
                }
            }
        }
        for (job, measured) in jobs.iter().zip(self.do_all("forking", &jobs, observer)?) {
            let forks = &mut results.tasks[job.task].forks;
            if let Some(fork) =
                forks.iter_mut().find(|fork| (fork.arm, Some(fork.step)) == (job.arm, job.fork))
            {
                fork.runs.push(Run::of(job.seed, measured));
            }
        }
        Ok(())
    }

    /// The address of the base's state after some steps.
    fn prefix_address(&self, task: usize, seed: u64, taken: usize) -> Result<String> {
        let planned = &self.study.tasks[task];
        let Recipe::Optimizer(optimizer) = &self.study.arms[0].recipe else {
            return Err(unlike(planned, &self.study.arms[0]));
        };
        let key = PrefixKey {
            code: CODE,
            own: self.registry.version(),
            task: &planned.kind,
            options: &planned.options,
            optimizer,
            seed,
            steps: planned.steps,
            evaluations: self.study.file.evaluations,
            taken,
        };
        key.address()
    }

    fn address(&self, job: &Job) -> Result<String> {
        let prefix = job.fork.map(|step| self.prefix_address(job.task, job.seed, step)).transpose()?;
        let (task, arm) = (&self.study.tasks[job.task], &self.study.arms[job.arm]);
        match (&task.training, &arm.recipe) {
            (Training::Task(_), Recipe::Optimizer(optimizer)) => {
                let key = Key {
                    code: CODE,
                    own: self.registry.version(),
                    task: &task.kind,
                    options: &task.options,
                    optimizer,
                    setting: job.setting,
                    seed: job.seed,
                    steps: task.steps,
                    evaluations: self.study.file.evaluations,
                    final_split: job.final_split,
                    prefix: prefix.as_deref(),
                };
                key.address()
            }
            (Training::Command(command), Recipe::Options(options)) => {
                command.key(&assignment(job, task, options)).address()
            }
            _ => Err(unlike(task, arm)),
        }
    }

    /// The runs of all jobs, in their order. One that fails keeps none of the others from being done.
    fn do_all(&self, stage: &str, jobs: &[Job], observer: &dyn Observer) -> Result<Vec<Measured>> {
        let addresses = jobs.iter().map(|job| self.address(job)).collect::<Result<Vec<_>>>()?;
        let mut runs: Vec<Option<Measured>> = Vec::with_capacity(jobs.len());
        for address in &addresses {
            runs.push(match self.store.load(address)? {
                Found::Whole(run) => Some(*run),
                Found::Nothing => None,
                Found::Damaged(what) => {
                    observer.damaged(&what);
                    None
                }
            });
        }
        let missing: Vec<usize> = (0..jobs.len()).filter(|&index| runs[index].is_none()).collect();
        if missing.is_empty() {
            return Ok(runs.into_iter().flatten().collect());
        }
        if !self.may_run {
            bail!("{} of {} runs for {stage} are missing; `ablate run` does them", missing.len(), jobs.len());
        }
        observer.stage(
            stage,
            &missing.iter().map(|&index| jobs[index]).collect::<Vec<_>>(),
            jobs.len() - missing.len(),
        );
        let stage = Stage {
            execution: self,
            observer,
            resources: Resources::new(rayon::current_num_threads()),
            ended: Mutex::default(),
        };
        // A run is long: were several handed out together, one thread would be left with a queue of them at the end.
        let done = missing.par_iter().with_max_len(1).map(|&index| {
            stage
                .attempt(&jobs[index], || stage.try_job(&jobs[index], &addresses[index]))
                .map(|run| (index, run))
        });
        let done = done.collect::<Result<Vec<_>>>()?;
        for (index, attempt) in done {
            runs[index] = match attempt {
                Attempt::Done(run) => Some(*run),
                Attempt::Elsewhere => {
                    let waited =
                        stage.attempt(&jobs[index], || stage.wait_for(&jobs[index], &addresses[index]));
                    if let Attempt::Done(run) = waited? { Some(*run) } else { None }
                }
                Attempt::Failed => None,
            };
        }
        observer.stage_finished();
        stage.failures()?;
        Ok(runs.into_iter().flatten().collect())
    }
}

/// A reported run of an arm that is run as it is.
fn own_job(task: usize, arm: usize, seed: u64) -> Job {
    Job { task, arm, setting: None, seed, final_split: Split::Test, repeat: 0, fork: None }
}

/// A study has arms of chains or of options, as its tasks need them.
fn unlike(task: &PlannedTask, arm: &PlannedArm) -> anyhow::Error {
    anyhow!(
        "arm {} is none of task {}: a command takes options, and a task that ships an optimizer",
        arm.arm.name,
        task.name
    )
}

fn assignment<'a>(job: &Job, task: &PlannedTask, options: &'a Map<String, Value>) -> Assignment<'a> {
    Assignment {
        options,
        setting: job.setting,
        seed: job.seed,
        steps: task.steps,
        final_split: job.final_split,
        repeat: job.repeat,
    }
}

/// Number of seeds of the base that a task runs a second time.
fn repeats(study: &Study, task: &PlannedTask) -> usize {
    match &task.training {
        Training::Task(_) => 0,
        Training::Command(command) => command.entry().repeats.min(study.file.seeds),
    }
}

fn tuning_seeds(count: usize) -> impl Iterator<Item = u64> {
    (0..count as u64).map(|index| FIRST_TUNING_SEED + index)
}
