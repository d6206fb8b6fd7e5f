//! Keys of a study file.

use std::time::Duration;

use ablate_tasks::{known_options, read_options};
use anyhow::Result;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::fork::ForkEntry;
use crate::command::CommandEntry;
use crate::optimizer::{Change, Schedule};
use crate::results::Matters;

/// A study file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyFile {
    /// The title of the report.
    #[serde(default, deserialize_with = "one_line")]
    pub title: String,
    /// The question.
    #[serde(default, deserialize_with = "one_line")]
    pub question: String,
    /// Tasks: names, or tables with a `task`, its options, and `name`, `steps` and `target`; or with a `command`.
    pub tasks: Vec<TaskEntry>,
    /// Combination of factors to arms.
    #[serde(default)]
    pub design: Design,
    /// The arms of an explicit design, each a list of factors to change.
    #[serde(default)]
    pub arms: Vec<Vec<String>>,
    /// Other optimizers to compare with, tuned.
    #[serde(default)]
    pub baselines: Vec<String>,
    /// Reported seeds per arm and task.
    #[serde(default = "ten")]
    pub seeds: usize,
    /// Whether these are the most, and arms stop where they are decided.
    #[serde(default)]
    pub sequential: bool,
    /// Length of every run as a multiple of the task's own.
    #[serde(default = "one")]
    pub length: f64,
    /// Evaluations of a run after the first.
    #[serde(default = "twenty")]
    pub evaluations: usize,
    /// Minutes of training after which the state of a run is kept, so that it loses no more when it is killed.
    #[serde(default = "ten_minutes")]
    pub checkpoint_minutes: f64,
    /// The budget of every tuned arm.
    #[serde(default)]
    pub tuning: TuningBudget,
    /// Options of the base, by their documented names; or its `chain` or `optimizer`, with options of their members.
    #[serde(default)]
    pub base: Map<String, Value>,
    /// The smallest difference that matters, on every task that says nothing else.
    pub matters: Option<Matters>,
    /// Runs that continue from the base's state with an arm.
    pub fork: Option<ForkEntry>,
    /// The factors.
    #[serde(default, rename = "factor")]
    pub factors: Vec<Factor>,
}

fn ten() -> usize {
    10
}

fn ten_minutes() -> f64 {
    10.0
}

impl StudyFile {
    /// Time between two checkpoints of a run.
    pub(crate) fn checkpoint_every(&self) -> Duration {
        Duration::try_from_secs_f64(60.0 * self.checkpoint_minutes).unwrap_or(Duration::MAX)
    }
}

fn twenty() -> usize {
    20
}

fn one() -> f64 {
    1.0
}

/// Combination of factors to arms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Design {
    /// Every factor on its own: `off` leaves something out, `on` adds something.
    #[default]
    OneAtATime,
    /// Every factor with `off`, on its own.
    LeaveOneOut,
    /// Every factor with `on`, on its own.
    AddOneIn,
    /// Every factor on its own, and every pair of them.
    Pairs,
    /// Every combination of factors: 2^k arms, for main effects, interactions and Shapley values.
    Factorial,
    /// The combinations listed under `arms`.
    Explicit,
}

/// A task, and what the study wants of it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskEntry {
    /// The kind of task.
    pub task: String,
    /// The name in reports: the kind's, if nothing else is said.
    pub name: String,
    /// The length of a run; the task's own, if nothing else is said.
    pub steps: Option<usize>,
    /// The target; the task's own, if nothing else is said.
    pub target: Option<f64>,
    /// The smallest difference that matters; the study's, if nothing else is said.
    pub matters: Option<Matters>,
    /// The task's options.
    pub options: Map<String, Value>,
    /// For a task that is a command.
    pub command: Option<CommandEntry>,
}

/// Keys of a task that are none of its options.
const OF_EVERY_TASK: [&str; 5] = ["task", "name", "steps", "target", "matters"];

/// The kind and the name of a command that has none.
pub(super) const COMMAND: &str = "command";

const MATTERS: &str =
    "a difference in the unit of its measure, or { sd = … }, a multiple of the base's spread over seeds";

/// A number of a task.
fn number<N: DeserializeOwned, E: serde::de::Error>(key: &str, what: &str, value: Value) -> Result<N, E> {
    // JSON has no number that is not finite.
    let shown = if value.is_null() { "nan or inf".to_owned() } else { value.to_string() };
    serde_json::from_value(value).map_err(|_| E::custom(format!("option {key} = {shown}: it is {what}")))
}

/// A name or title, which lists, tables and headings have in one line: whatever is between words becomes a blank.
fn one_line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(|text| words(&text))
}

fn words(text: &str) -> String {
    let is_between = |c: char| c.is_whitespace() || c.is_control();
    text.split(is_between).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Checks that a task has only the common keys and its own.
///
/// # Errors
/// The first that is unknown.
pub(super) fn known_keys(options: &Value, mut own: Value) -> Result<()> {
    if let Value::Object(own) = &mut own {
        own.extend(OF_EVERY_TASK.map(|key| (key.to_owned(), Value::Null)));
    }
    known_options(options, &own)
}

impl<'de> Deserialize<'de> for TaskEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut options = match Value::deserialize(deserializer)? {
            Value::String(task) => Map::from_iter([("task".to_owned(), Value::String(task))]),
            Value::Object(table) => table,
            other => return Err(D::Error::custom(format!("a task is a name or a table, not {other}"))),
        };
        let is_command = options.contains_key(COMMAND);
        let mut take = |key: &str| options.remove(key);
        let text = |key: &str, value: Value| match value {
            Value::String(text) => Ok(text),
            other => Err(D::Error::custom(format!("option {key} = {other}: it is a text"))),
        };
        let task = match take("task") {
            Some(task) => text("task", task)?,
            None if is_command => COMMAND.to_owned(),
            None => {
                return Err(D::Error::custom(
                    "a table of tasks needs `task`, the name of what is trained, or `command`, what trains it",
                ));
            }
        };
        let name = take("name").map_or(Ok(task.clone()), |name| Ok(words(&text("name", name)?)))?;
        let steps = take("steps").map(|value| number("steps", "a whole number", value)).transpose()?;
        let target = take("target").map(|value| number("target", "a finite number", value)).transpose()?;
        let matters = take("matters").map(|value| number("matters", MATTERS, value)).transpose()?;
        let (options, command) = if is_command {
            let all = serde_json::to_value(CommandEntry::default()).map_err(D::Error::custom)?;
            let options = Value::Object(options);
            let entry = known_keys(&options, all).and_then(|()| read_options(&options, Clone::clone));
            (
                Map::new(),
                Some(entry.map_err(|error| D::Error::custom(format!("the command {name}: {error:#}")))?),
            )
        } else {
            (options, None)
        };
        Ok(Self { task, name, steps, target, matters, options, command })
    }
}

/// Settings that a tuned arm may try. Every tuned arm has the same number of settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TuningBudget {
    /// Learning rates, from which each arm's grid is made with two schedules.
    pub rates: Vec<f64>,
    /// Seeds per setting, none of which is reported.
    pub seeds: usize,
    /// Schedules with which every arm without its own ones is tuned, including the base.
    pub every: Vec<Schedule>,
}

impl Default for TuningBudget {
    fn default() -> Self {
        Self { rates: vec![1e-3, 3e-3, 1e-2, 3e-2, 1e-1], seeds: 3, every: Vec::new() }
    }
}

/// Component under study: left out if the base has it, added if it does not.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Factor {
    /// The name in arms and files.
    pub name: String,
    /// The name for people; the name, if nothing else is said.
    #[serde(default, deserialize_with = "one_line")]
    pub title: String,
    /// Description, for people.
    #[serde(default, deserialize_with = "one_line")]
    pub description: String,
    /// Change that switches it on, for a base without it.
    pub on: Option<Change>,
    /// Change that switches it off, for a base that has it.
    pub off: Option<Change>,
    /// Schedules with which the learning rate is tuned if the factor is changed, for a change that removes the estimate
    /// of the step size.
    #[serde(default)]
    pub tune: Vec<Schedule>,
}

impl Factor {
    /// Its change of the base.
    pub fn change(&self) -> Option<&Change> {
        self.on.as_ref().or(self.off.as_ref())
    }
}
