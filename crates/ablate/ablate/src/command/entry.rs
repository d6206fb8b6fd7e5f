//! A command in a study file.

use std::collections::BTreeMap;

use ablate_tasks::Measure;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A task that is a command, as a study file describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CommandEntry {
    /// The program and its arguments, with placeholders for the values of a run: `{seed}`, `{steps}`, `{out}` (the file
    /// to write to; without it the lines are expected on standard output), `{checkpoint}` (a folder for what the
    /// program continues with when it is started again), an option by its name, every option in turn where an argument
    /// has `{option}` and `{value}`, or a file of them, `{options.json}` or `{options.toml}`.
    pub command: Vec<String>,
    /// The files that determine a run, as patterns relative to the study file. Required; an empty list means that there
    /// are none.
    pub sources: Option<Vec<String>>,
    /// Variables of the environment, with placeholders as in the command.
    pub environment: BTreeMap<String, String>,
    /// Names of inherited environment variables that determine a run.
    pub inherited: Vec<String>,
    /// Options of this task in addition to those of the arms.
    pub options: Map<String, Value>,
    /// Measure that arms are compared by.
    pub measure: Measure,
    /// Description of the training, for reports.
    pub description: String,
    /// Reason for it.
    pub reason: String,
    /// Examples of the test split.
    pub test_examples: Option<usize>,
    /// Seconds after which a run is stopped.
    pub time_limit: Option<f64>,
    /// Seconds between the request to end and the forced end.
    pub grace: f64,
    /// Number of times that a run that fails is tried again.
    pub retries: usize,
    /// Cores that a run takes.
    pub cores: usize,
    /// Devices, of which a run has one to itself, as CUDA_VISIBLE_DEVICES.
    pub gpus: Vec<String>,
    /// Number of the base's seeds that are run a second time, which tests whether equal runs are equal.
    pub repeats: usize,
}

impl Default for CommandEntry {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            sources: None,
            environment: BTreeMap::new(),
            inherited: Vec::new(),
            options: Map::new(),
            measure: Measure::Loss,
            description: String::new(),
            reason: String::new(),
            test_examples: None,
            time_limit: None,
            grace: 10.0,
            retries: 0,
            cores: 1,
            gpus: Vec::new(),
            repeats: 1,
        }
    }
}
