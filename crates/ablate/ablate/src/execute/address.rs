//! Addresses of a study's runs, and of the states that they pass by.

use anyhow::{Result, anyhow};
use serde_json::{Map, Value};

use super::{Execution, Job};
use crate::command::Assignment;
use crate::store::{Key, PrefixKey};
use crate::study::{PlannedArm, PlannedTask, Recipe, Training};
use crate::versions::CODE;

impl Execution<'_> {
    /// The address of the base's state after some steps.
    pub(super) fn prefix_address(&self, task: usize, seed: u64, taken: usize) -> Result<String> {
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

    pub(crate) fn address(&self, job: &Job) -> Result<String> {
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
}

/// A study has arms of chains or of options, as its tasks need them.
pub(super) fn unlike(task: &PlannedTask, arm: &PlannedArm) -> anyhow::Error {
    anyhow!(
        "arm {} is none of task {}: a command takes options, and a task that ships an optimizer",
        arm.arm.name,
        task.name
    )
}

pub(super) fn assignment<'a>(
    job: &Job,
    task: &PlannedTask,
    options: &'a Map<String, Value>,
) -> Assignment<'a> {
    Assignment {
        options,
        setting: job.setting,
        seed: job.seed,
        steps: task.steps,
        final_split: job.final_split,
        repeat: job.repeat,
    }
}
