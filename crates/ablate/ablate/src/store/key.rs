//! Keys that determine runs and states, and their addresses.

use std::collections::BTreeMap;

use ablate_tasks::Split;
use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value};

use super::hex;
use crate::optimizer::{OptimizerSpec, Setting};

/// Everything that determines a run. Two runs with equal keys have equal records, except for the time they took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Key<'a> {
    /// The digest of the program's own sources.
    pub code: &'a str,
    /// The version of a user's own tasks and transforms.
    pub own: &'a str,
    /// The kind of task.
    pub task: &'a str,
    /// Its options.
    pub options: &'a Value,
    /// The optimizer.
    pub optimizer: &'a OptimizerSpec,
    /// The candidate of a tuned arm.
    pub setting: Option<Setting>,
    /// The seed.
    pub seed: u64,
    /// The length.
    pub steps: usize,
    /// Number of evaluations.
    pub evaluations: usize,
    /// The split of the final evaluation.
    pub final_split: Split,
    /// The address of the state that it continues from; absent for a run from its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<&'a str>,
}

/// Everything that determines the state of a run after a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PrefixKey<'a> {
    /// The digest of the program's own sources.
    pub(crate) code: &'a str,
    /// The version of a user's own tasks and transforms.
    pub(crate) own: &'a str,
    /// The kind of task.
    pub(crate) task: &'a str,
    /// Its options.
    pub(crate) options: &'a Value,
    /// The optimizer.
    pub(crate) optimizer: &'a OptimizerSpec,
    /// The seed.
    pub(crate) seed: u64,
    /// The length of the whole run, which schedules depend on.
    pub(crate) steps: usize,
    /// Number of evaluations of the whole run.
    pub(crate) evaluations: usize,
    /// Steps that it has taken.
    pub(crate) taken: usize,
}

impl PrefixKey<'_> {
    pub(crate) fn address(&self) -> Result<String> {
        address(self)
    }
}

impl Key<'_> {
    /// The address: SHA-256 of the key as JSON, whose tables are sorted.
    ///
    /// # Errors
    /// A number that JSON doesn't have.
    pub fn address(&self) -> Result<String> {
        address(self)
    }
}

/// Everything that determines a run of a command, as far as a study can know.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct CommandKey<'a> {
    /// The program and its arguments, with their places.
    pub(crate) command: &'a [String],
    /// Variables of its environment, with their places.
    pub(crate) environment: &'a BTreeMap<String, String>,
    /// Inherited environment variables, with their values.
    pub(crate) inherited: &'a BTreeMap<String, Option<String>>,
    /// Its number of threads.
    pub(crate) cores: usize,
    /// The digest of its sources.
    pub(crate) sources: &'a str,
    /// The task's options.
    pub(crate) task: &'a Map<String, Value>,
    /// The arm's.
    pub(crate) options: &'a Map<String, Value>,
    /// The candidate of a tuned arm.
    pub(crate) setting: Option<Setting>,
    /// The seed.
    pub(crate) seed: u64,
    /// The length.
    pub(crate) steps: usize,
    /// The split of the final evaluation.
    pub(crate) final_split: Split,
    /// 0, or which time it is run again.
    pub(crate) repeat: usize,
}

impl CommandKey<'_> {
    pub(crate) fn address(&self) -> Result<String> {
        address(self)
    }
}

fn address(key: &impl Serialize) -> Result<String> {
    Ok(hex(&serde_json::to_vec(&serde_json::to_value(key)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::Named;

    #[test]
    fn everything_that_determines_a_run_changes_its_address() {
        let options = serde_json::json!({});
        let other_options = serde_json::json!({ "batch": 16 });
        let optimizer = OptimizerSpec::Baseline(Named::of("sgd").unwrap());
        let other_optimizer = OptimizerSpec::Baseline(Named::of("adamw").unwrap());
        let key = Key {
            code: "1",
            own: "",
            task: "digits",
            options: &options,
            optimizer: &optimizer,
            setting: None,
            seed: 0,
            steps: 10,
            evaluations: 2,
            final_split: Split::Test,
            prefix: None,
        };
        let setting = Setting { learning_rate: 0.1, schedule: crate::optimizer::Schedule::Constant };
        let keys = [
            key.clone(),
            Key { code: "2", ..key.clone() },
            Key { own: "2", ..key.clone() },
            Key { task: "mnist", ..key.clone() },
            Key { options: &other_options, ..key.clone() },
            Key { optimizer: &other_optimizer, ..key.clone() },
            Key { setting: Some(setting), ..key.clone() },
            Key { seed: 1, ..key.clone() },
            Key { steps: 11, ..key.clone() },
            Key { evaluations: 3, ..key.clone() },
            Key { final_split: Split::Validation, ..key.clone() },
            Key { prefix: Some("a"), ..key.clone() },
            Key { prefix: Some("b"), ..key.clone() },
        ];
        let mut addresses: Vec<String> = keys.iter().map(|key| key.address().unwrap()).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), keys.len());
        assert_eq!(key.address().unwrap(), keys[0].address().unwrap());
    }
}
