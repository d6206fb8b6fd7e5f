//! A stage of a study while it goes on: what becomes of its jobs.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, anyhow};

use super::{Execution, Interrupted, Job, Observer, PATIENCE, assignment, unlike};
use crate::command::{Place, Resources, SourcesChanged};
use crate::measured::Measured;
use crate::record::Point;
use crate::run::{Next, Plan, train};
use crate::store::Found;
use crate::study::{Recipe, Training};

/// Failures without a success after which the others of a stage would fail, too.
const HOPELESS: usize = 3;

/// Failures that are told with all that is known of them.
const TOLD: usize = 3;

/// Outcome of a job.
pub(super) enum Attempt {
    Done(Box<Measured>),
    /// Another process is at it.
    Elsewhere,
    Failed,
}

/// A stage of a study while it goes on.
pub(super) struct Stage<'s> {
    pub(super) execution: &'s Execution<'s>,
    pub(super) observer: &'s dyn Observer,
    pub(super) resources: Resources,
    pub(super) ended: Mutex<Ended>,
}

#[derive(Default)]
pub(super) struct Ended {
    done: usize,
    failures: Vec<anyhow::Error>,
}

impl Stage<'_> {
    /// Counts what becomes of a job. Only what ends the whole study is an error.
    pub(super) fn attempt(&self, job: &Job, act: impl FnOnce() -> Result<Attempt>) -> Result<Attempt> {
        let outcome = act();
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(attempt) => {
                ended.done += usize::from(matches!(attempt, Attempt::Done(_)));
                Ok(attempt)
            }
            Err(error) if error.is::<Interrupted>() || error.is::<SourcesChanged>() => Err(error),
            Err(error) => {
                let study = self.execution.study;
                let (task, arm) = (&study.tasks[job.task].name, &study.arms[job.arm].arm.name);
                ended.failures.push(error.context(format!("task {task}, arm {arm}")));
                if ended.done == 0 && ended.failures.len() >= HOPELESS {
                    return Err(failure(
                        &mut ended.failures,
                        "every run failed so far, and the others were not begun",
                    ));
                }
                Ok(Attempt::Failed)
            }
        }
    }

    pub(super) fn failures(&self) -> Result<()> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.failures.is_empty() {
            return Ok(());
        }
        Err(failure(&mut ended.failures, "what has ended is stored, and the same command tries these again"))
    }

    /// Does a job, unless another process is at it.
    pub(super) fn try_job(&self, job: &Job, address: &str) -> Result<Attempt> {
        let Execution { study, registry, store, stop, .. } = self.execution;
        let go_on = || if stop.load(Ordering::Relaxed) { Next::Stop } else { Next::Go };
        if go_on() == Next::Stop {
            return Err(Interrupted.into());
        }
        let Some(_claim) = store.claim(address)? else { return Ok(Attempt::Elsewhere) };
        // It may have been done between the look at the store and the claim.
        if let Found::Whole(run) = store.load(address)? {
            self.observer.finished(job, &run.record);
            return Ok(Attempt::Done(run));
        }
        let (task, arm) = (&study.tasks[job.task], &study.arms[job.arm]);
        let on_point = |point: &Point| self.observer.point(job, point);
        let run = match (&task.training, &arm.recipe) {
            (Training::Task(trained), Recipe::Optimizer(optimizer)) => {
                let plan = Plan {
                    task: &**trained,
                    optimizer,
                    setting: job.setting,
                    seed: job.seed,
                    steps: task.steps,
                    evaluations: study.file.evaluations,
                    final_split: job.final_split,
                };
                train(&plan, registry, on_point, go_on)?.map(Measured::from)
            }
            (Training::Command(command), Recipe::Options(options)) => {
                let place = Place { store, address };
                command.run(&assignment(job, task, options), &self.resources, &place, on_point, &go_on)?
            }
            _ => return Err(unlike(task, arm)),
        };
        let Some(run) = run else { return Err(Interrupted.into()) };
        store.save(address, &run)?;
        self.observer.finished(job, &run.record);
        Ok(Attempt::Done(Box::new(run)))
    }

    /// The run of a job that another process was at, or that it has left.
    pub(super) fn wait_for(&self, job: &Job, address: &str) -> Result<Attempt> {
        loop {
            if let Found::Whole(run) = self.execution.store.load(address)? {
                self.observer.finished(job, &run.record);
                return Ok(Attempt::Done(run));
            }
            match self.try_job(job, address)? {
                Attempt::Elsewhere => std::thread::sleep(PATIENCE),
                attempt => return Ok(attempt),
            }
        }
    }
}

fn failure(failures: &mut Vec<anyhow::Error>, what_else: &str) -> anyhow::Error {
    let all = failures.len();
    let told: Vec<String> = failures.drain(..).take(TOLD).map(|error| format!("{error:#}")).collect();
    let count = if all == 1 { "1 run".to_owned() } else { format!("{all} runs") };
    let shown = if all > TOLD { format!(", of which these are {TOLD}") } else { String::new() };
    anyhow!("{count} failed{shown}; {what_else}:\n{}", told.join("\n"))
}
