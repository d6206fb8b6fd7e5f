//! A stage of a study under way: what becomes of its jobs.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, anyhow, bail};

use super::address::{assignment, unlike};
use super::jobs::own_job;
use super::{Execution, Interrupted, Job, Observer};
use crate::command::{Heard, Place, Resources, SourcesChanged};
use crate::measured::Measured;
use crate::prefix::Prefix;
use crate::record::{Forked, Outcome, Point};
use crate::run::{Checkpoint, Keep, Next, Plan, train};
use crate::store::{Found, ObjectError};
use crate::study::{Recipe, Training};

/// Failures without a success after which the others of a stage would fail, too.
const HOPELESS: usize = 3;

/// Failures that are reported with all details.
const TOLD: usize = 3;

/// Outcome of a job.
pub(super) enum Attempt {
    Done(Box<Measured>),
    /// Another process is at it.
    Elsewhere,
    Failed,
}

/// Beginning of a run that continues from the base.
enum Beginning {
    State(Box<Prefix>),
    Diverged(Box<Measured>),
}

/// A stage of a study under way.
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
            Err(error) if ends_study(&error) => Err(error),
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
        let Execution { study, registry, store, .. } = self.execution;
        let go_on = || if self.execution.is_stopped() { Next::Stop } else { Next::Go };
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
        let mut hear = |heard: Heard<'_>| match heard {
            Heard::Begun => self.observer.begun(job, &[]),
            Heard::Numbers(step, numbers) => self.observer.numbers(job, step, numbers),
            Heard::Point(point) => self.observer.point(job, point),
        };
        let run = match (&task.training, &arm.recipe) {
            (Training::Task(trained), Recipe::Optimizer(optimizer)) => {
                let prefix = match job.fork {
                    None => None,
                    Some(step) => match self.beginning(job, step)? {
                        Beginning::State(prefix) => Some(prefix),
                        Beginning::Diverged(mut run) => {
                            run.record.forked = Some(Forked { step, anew: Vec::new(), left_out: Vec::new() });
                            store.save(address, &run)?;
                            self.observer.begun(job, &run.record.curve);
                            self.observer.finished(job, &run.record);
                            return Ok(Attempt::Done(run));
                        }
                    },
                };
                // The base passes by where arms will continue from.
                let is_base = (job.arm, job.fork, job.setting) == (0, None, None);
                let kept: &[usize] = if is_base && !study.forked.is_empty() { &task.forks } else { &[] };
                let mut save = |step: usize, prefix: Prefix| {
                    store.save_prefix(&self.execution.prefix_address(job.task, job.seed, step)?, &prefix)
                };
                let plan = Plan {
                    task: &**trained,
                    optimizer,
                    setting: job.setting,
                    seed: job.seed,
                    steps: task.steps,
                    evaluations: study.file.evaluations,
                    final_split: job.final_split,
                    from: prefix.as_deref(),
                };
                let found = match store.load_checkpoint(address)? {
                    Found::Whole(prefix) => Some(prefix),
                    Found::Nothing => None,
                    Found::Damaged(what) => {
                        self.observer.damaged(&what);
                        None
                    }
                };
                let state = found.as_ref().or(prefix.as_ref());
                self.observer.begun(job, state.map_or(&[], |state| state.seen.points()));
                let mut save_checkpoint = |prefix: &Prefix| store.save_checkpoint(address, prefix);
                let every = study.file.checkpoint_every();
                let checkpoint = Some(Checkpoint { found, every, save: &mut save_checkpoint });
                let keep = Keep { steps: kept, save: &mut save, checkpoint };
                train(&plan, registry, Some(keep), on_point, go_on)?.map(Measured::from)
            }
            (Training::Command(command), Recipe::Options(options)) => {
                let place = Place { store, address };
                let assignment = assignment(job, task, options);
                match command.run(&assignment, &self.resources, &place, &mut hear, &go_on) {
                    // Another process has taken it over and done it, and has then removed what this one would have gone
                    // on with.
                    Err(error) if !ends_study(&error) => match store.load(address)? {
                        Found::Whole(run) => Some(*run),
                        Found::Nothing | Found::Damaged(_) => return Err(error),
                    },
                    outcome => outcome?,
                }
            }
            _ => return Err(unlike(task, arm)),
        };
        let Some(run) = run else { return Err(Interrupted.into()) };
        store.save(address, &run)?;
        match task.training {
            Training::Task(_) => store.remove_checkpoint(address),
            Training::Command(_) => store.remove_attempts(address),
        }
        self.observer.finished(job, &run.record);
        Ok(Attempt::Done(Box::new(run)))
    }

    /// Beginning of a job that continues from the base: its state after so many steps, or its run, where that ended
    /// before.
    fn beginning(&self, job: &Job, step: usize) -> Result<Beginning> {
        let Execution { study, registry, store, .. } = self.execution;
        let own = own_job(job.task, 0, job.seed);
        if let Found::Whole(run) = store.load(&self.execution.address(&own)?)?
            && let Outcome::Diverged { step: end, .. } = run.record.outcome
            && end <= step
        {
            return Ok(Beginning::Diverged(run));
        }
        let task = &study.tasks[job.task];
        let address = |step: usize| self.execution.prefix_address(job.task, job.seed, step);
        let wanted = address(step)?;
        // One at a time trains the base again, and for all steps.
        let _claim = loop {
            match store.load_prefix(&wanted)? {
                Found::Whole(prefix) => return Ok(Beginning::State(prefix)),
                Found::Nothing | Found::Damaged(_) => {}
            }
            if self.execution.is_stopped() {
                return Err(Interrupted.into());
            }
            match store.claim(&address(0)?)? {
                Some(claim) => break claim,
                None => std::thread::sleep(store.patience()),
            }
        };
        let (mut known, mut missing) = (None, Vec::new());
        for &at in task.forks.iter().filter(|at| **at > 0) {
            match store.load_prefix(&address(at)?)? {
                Found::Whole(prefix) if at == step => return Ok(Beginning::State(prefix)),
                Found::Whole(prefix) if missing.is_empty() => known = Some(prefix),
                Found::Whole(_) => {}
                Found::Nothing => missing.push(at),
                Found::Damaged(what) => {
                    self.observer.damaged(&what);
                    missing.push(at);
                }
            }
        }
        let (Training::Task(trained), Recipe::Optimizer(optimizer)) = (&task.training, &study.arms[0].recipe)
        else {
            return Err(unlike(task, &study.arms[0]));
        };
        let plan = Plan {
            task: &**trained,
            optimizer,
            setting: None,
            seed: job.seed,
            steps: task.steps,
            evaluations: study.file.evaluations,
            final_split: job.final_split,
            from: known.as_deref(),
        };
        let (last, is_over) = (missing.last().copied(), Cell::new(false));
        let mut found = None;
        let mut save = |at: usize, prefix: Prefix| {
            store.save_prefix(&address(at)?, &prefix)?;
            is_over.set(Some(at) == last);
            if at == step {
                found = Some(prefix);
            }
            Ok(())
        };
        let go_on = || if is_over.get() || self.execution.is_stopped() { Next::Stop } else { Next::Go };
        let keep = Keep { steps: &missing, save: &mut save, checkpoint: None };
        train(&plan, registry, Some(keep), |_| {}, go_on)?;
        match found {
            Some(prefix) => Ok(Beginning::State(Box::new(prefix))),
            None if self.execution.is_stopped() => Err(Interrupted.into()),
            None => bail!(
                "the base's run of seed {} had no step {step} this time, although it has ended later",
                job.seed
            ),
        }
    }

    /// The run of a job that another process was at, or that it has left.
    pub(super) fn wait_for(&self, job: &Job, address: &str) -> Result<Attempt> {
        loop {
            if let Found::Whole(run) = self.execution.store.load(address)? {
                self.observer.finished(job, &run.record);
                return Ok(Attempt::Done(run));
            }
            match self.try_job(job, address)? {
                Attempt::Elsewhere => std::thread::sleep(self.execution.store.patience()),
                attempt => return Ok(attempt),
            }
        }
    }
}

/// Whether no other run would fare better.
fn ends_study(error: &anyhow::Error) -> bool {
    error.is::<Interrupted>() || error.is::<SourcesChanged>() || error.is::<ObjectError>()
}

fn failure(failures: &mut Vec<anyhow::Error>, what_else: &str) -> anyhow::Error {
    let all = failures.len();
    let told: Vec<String> = failures.drain(..).take(TOLD).map(|error| format!("{error:#}")).collect();
    let count = if all == 1 { "1 run".to_owned() } else { format!("{all} runs") };
    let shown = if all > TOLD { format!(", of which these are {TOLD}") } else { String::new() };
    anyhow!("{count} failed{shown}; {what_else}:\n{}", told.join("\n"))
}
