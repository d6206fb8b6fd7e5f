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
//! /// List of the messages.
//! #[derive(Default)]
//! struct Diary(Mutex<Vec<String>>);
//!
//! impl Observer for Diary {
//!     fn stage(&self, name: &str, jobs: &[Job], stored: usize) {
//!         self.0.lock().unwrap().push(format!("{name}: {} to do, {stored} stored", jobs.len()));
//!     }
//!
//!     fn begun(&self, _job: &Job, so_far: &[Point]) {
//!         assert!(so_far.is_empty()); // no run continues from a checkpoint
//!     }
//!
//!     fn numbers(&self, _job: &Job, _step: usize, _numbers: &[(String, f64)]) {} // of commands only
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
//! # let store = Store::open(folder.path())?;
//! # let execution = Execution::new(&study, &registry, &store);
//! // For tuning: one rate, two schedules. Reported: three arms, two seeds. Only commands are run a second time.
//! assert_eq!(run_counts(&study), RunCounts { tuning: 2, reported: 6, repeated: 0, forked: 0 });
//! assert_eq!(grid(&study.arms[2], &study.file.tuning.rates).len(), 2);
//! assert!(seconds_per_run(&study, &registry, &study.tasks[0])?.is_some_and(|seconds| seconds > 0.0));
//! let diary = Diary::default();
//! let results = execution.results(&diary)?;
//! assert_eq!(*diary.0.lock().unwrap(), ["tuning: 2 to do, 0 stored", "measuring: 6 to do, 0 stored"]);
//! assert_eq!(execution.results(&())?, results); // from the store
//!
//! // On two machines, each with a store of its own: what waits for tuning runs of the other share is left.
//! use ablate::execute::{Phase, Shard, ShardError, State, Survey};
//!
//! let other = Store::open(&folder.path().join("share"))?;
//! let shared = Execution::new(&study, &registry, &other);
//! let shard = Shard::read("0/2", &|name| std::env::var(name).ok())?;
//! assert_eq!((shard, shard.index(), shard.count()), (Shard::new(0, 2)?, 0, 2));
//! assert_eq!(Shard::new(2, 2), Err(ShardError::OutOfRange { index: 2, count: 2 }));
//! let Survey { phases, results: none } = shared.share(shard, &())?;
//! let [tuning, measuring]: [Phase; 2] = phases.try_into().unwrap();
//! assert!(none.is_none() && matches!(measuring.runs[0].1, State::Stored { .. } | State::Missing));
//! assert_eq!((tuning.stored(), tuning.missing().len(), measuring.waiting()), (1, 1, 2));
//! shared.share(Shard::new(1, 2)?, &())?; // on the same store; else they are merged
//! assert_eq!(shared.share(shard, &())?.results.map(|results| results.tasks[0].arms.len()), Some(3));
//! assert!(execution.survey()?.results.is_some());
//! assert_eq!(execution.name("the address of no run")?, None);
//!
//! // Without training, and with a flag that another thread or a signal sets.
//! use std::sync::atomic::AtomicBool;
//!
//! let empty = Store::open(&folder.path().join("other"))?;
//! let of_nothing = || Execution::new(&study, &registry, &empty);
//! assert!(of_nothing().only_stored().results(&()).unwrap_err().to_string().contains("are missing"));
//! let stop = AtomicBool::new(true);
//! assert!(of_nothing().stop_when(&stop).results(&()).unwrap_err().is::<Interrupted>());
//! # Ok::<(), anyhow::Error>(())
//! ```

mod address;
mod counts;
mod jobs;
mod names;
mod shard;
mod stage;
mod survey;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ablate_tasks::Split;
use anyhow::{Context, Result, bail};
use rayon::prelude::*;

pub use self::counts::{RunCounts, grid, run_counts, seconds_per_run};
pub use self::shard::{Shard, ShardError};
use self::stage::{Attempt, Stage};
use self::survey::Known;
pub use self::survey::{Phase, State, Survey};
use crate::command::Resources;
use crate::optimizer::Setting;
use crate::record::{Point, Record};
use crate::registry::Registry;
use crate::results::Results;
use crate::store::{Found, Store};
use crate::study::Study;

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
    /// 0, or the number of the repetition, which tests whether equal runs are equal.
    pub repeat: usize,
    /// Step of the base from which it continues; absent for a run from its start.
    pub fork: Option<usize>,
}

/// Receiver of a study's progress, from several threads at once.
pub trait Observer: Sync {
    /// These runs are about to start; `stored` others of the stage are stored already.
    fn stage(&self, _name: &str, _jobs: &[Job], _stored: usize) {}
    /// A run begins, or begins again. `so_far` has the points of a run that continues from a checkpoint.
    fn begun(&self, _job: &Job, _so_far: &[Point]) {}
    /// A command wrote numbers of a step, by name.
    fn numbers(&self, _job: &Job, _step: usize, _numbers: &[(String, f64)]) {}
    /// A run reached a point of its curves.
    fn point(&self, _job: &Job, _point: &Point) {}
    /// A run ended.
    fn finished(&self, _job: &Job, _record: &Record) {}
    /// A stored run cannot be used and is done again.
    fn damaged(&self, _what: &str) {}
    /// The current stage's runs have all ended.
    fn stage_finished(&self) {}
}

/// Ignores everything.
impl Observer for () {}

/// Each of them receives everything.
impl Observer for Vec<&dyn Observer> {
    fn stage(&self, name: &str, jobs: &[Job], stored: usize) {
        self.iter().for_each(|each| each.stage(name, jobs, stored));
    }

    fn begun(&self, job: &Job, so_far: &[Point]) {
        self.iter().for_each(|each| each.begun(job, so_far));
    }

    fn numbers(&self, job: &Job, step: usize, numbers: &[(String, f64)]) {
        self.iter().for_each(|each| each.numbers(job, step, numbers));
    }

    fn point(&self, job: &Job, point: &Point) {
        self.iter().for_each(|each| each.point(job, point));
    }

    fn finished(&self, job: &Job, record: &Record) {
        self.iter().for_each(|each| each.finished(job, record));
    }

    fn damaged(&self, what: &str) {
        self.iter().for_each(|each| each.damaged(what));
    }

    fn stage_finished(&self) {
        self.iter().for_each(|each| each.stage_finished());
    }
}

/// The study was stopped. Runs that had ended are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stopped; the same command goes on from here")
    }
}

impl std::error::Error for Interrupted {}

/// Execution of a study.
pub struct Execution<'a> {
    pub(crate) study: &'a Study,
    registry: &'a Registry,
    pub(crate) store: &'a Store,
    stop: Option<&'a AtomicBool>,
    only_stored: bool,
}

impl<'a> Execution<'a> {
    /// Execution of a study whose tasks and transforms are in `registry`, with its runs in `store`.
    pub fn new(study: &'a Study, registry: &'a Registry, store: &'a Store) -> Self {
        Self { study, registry, store, stop: None, only_stored: false }
    }

    /// Ends with [`Interrupted`] as soon as `stop` is set.
    #[must_use]
    pub fn stop_when(mut self, stop: &'a AtomicBool) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Trains nothing: a missing run is an error.
    #[must_use]
    pub fn only_stored(mut self) -> Self {
        self.only_stored = true;
        self
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }
}

impl Execution<'_> {
    /// Tunes the arms that need it, then does every run that isn't stored, on the current pool of threads.
    ///
    /// # Errors
    /// [`Interrupted`], a task or an optimizer that failed, or a store that cannot be used.
    pub fn results(&self, observer: &dyn Observer) -> Result<Results> {
        let mut known = Known::default();
        loop {
            let Survey { phases, results } = self.survey_with(&mut known)?;
            if let Some(results) = results {
                return Ok(results);
            }
            let phase = phases.iter().find(|phase| !phase.missing().is_empty());
            let phase = phase.context("runs wait for others, of which none is missing")?;
            self.do_missing(phase, &mut known, observer)?;
        }
    }

    /// Does the missing runs of a phase. If one fails, the others are still done.
    fn do_missing(&self, phase: &Phase, known: &mut Known, observer: &dyn Observer) -> Result<()> {
        let jobs = phase.missing();
        if self.only_stored {
            let (missing, all, name) = (jobs.len(), phase.runs.len(), phase.name);
            bail!("{missing} of {all} runs for {name} are missing; `ablate run` does them");
        }
        let addresses = jobs.iter().map(|job| self.address(job)).collect::<Result<Vec<_>>>()?;
        for found in self.store.load_all(&addresses)? {
            if let Found::Damaged(what) = found {
                observer.damaged(&what);
            }
        }
        observer.stage(phase.name, &jobs, phase.stored());
        let stage = Stage {
            execution: self,
            observer,
            resources: Resources::new(rayon::current_num_threads()),
            ended: Mutex::default(),
        };
        // One at a time, because runs are long: otherwise one thread could have a queue at the end.
        let done = jobs.par_iter().zip(&addresses).with_max_len(1);
        let done = done.map(|(job, address)| stage.attempt(job, || stage.try_job(job, address)));
        let done = done.collect::<Result<Vec<_>>>()?;
        for ((job, address), mut attempt) in jobs.iter().zip(addresses).zip(done) {
            if matches!(attempt, Attempt::Elsewhere) {
                attempt = stage.attempt(job, || stage.wait_for(job, &address))?;
            }
            if let Attempt::Done(run) = attempt {
                known.0.insert(address, *run);
            }
        }
        observer.stage_finished();
        stage.failures()
    }
}
