//! The tables, column by column:
//!
//! ```text
//! runs     a row for every reported run: what it was, how it ended, and its last numbers
//! curves   a row for every number of a run: | task | arm | seed | forked_at | step | name | value |
//! ```
//!
//! Names of numbers are those of [`scalars`](crate::scalars), without those of the end, which runs have.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::record::Outcome;
use crate::report::RunLine;
use crate::results::{Reported, Results};
use crate::scalars::of_course;

/// Values of a column; absent ones are `None`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Column<'a> {
    Text(Vec<Option<Cow<'a, str>>>),
    /// Texts of JSON.
    Json(Vec<Option<Cow<'a, str>>>),
    Integer(Vec<Option<i64>>),
    Number(Vec<Option<f64>>),
}

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table<'a> {
    pub(super) name: &'static str,
    pub(super) rows: usize,
    pub(super) columns: Vec<(&'static str, Column<'a>)>,
}

/// Options that differ from the base's, as an object.
fn options(reported: &Reported<'_>) -> String {
    let value = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str()));
    let options = reported.arm.options.iter().map(|(name, text)| (name.clone(), value(text)));
    Value::Object(options.collect::<Map<_, _>>()).to_string()
}

fn reason<'a>(reported: &Reported<'a>) -> Option<&'a str> {
    match &reported.run.record.outcome {
        Outcome::Finished { .. } => None,
        Outcome::Diverged { reason, .. } => Some(reason),
    }
}

fn integer(number: impl TryInto<i64>) -> Option<i64> {
    number.try_into().ok()
}

/// The table of runs: the columns of `runs.csv`, and what depends on the machine, or is too long for a line of text.
pub(super) fn runs(results: &Results) -> Table<'_> {
    let rows: Vec<(RunLine<'_>, Reported<'_>)> =
        results.reported().map(|reported| (RunLine::of(reported), reported)).collect();
    let texts = |of: &dyn Fn(&(RunLine<'_>, Reported<'_>)) -> Option<String>| -> Vec<Option<Cow<'_, str>>> {
        rows.iter().map(|row| of(row).map(Cow::Owned)).collect()
    };
    let integers = |of: &dyn Fn(&RunLine<'_>) -> Option<usize>| {
        Column::Integer(rows.iter().map(|(line, _)| of(line).and_then(integer)).collect())
    };
    let numbers = |of: &dyn Fn(&RunLine<'_>) -> Option<f64>| {
        Column::Number(rows.iter().map(|(line, _)| of(line)).collect())
    };
    let seconds = rows.iter().map(|(_, reported)| reported.run.record.last().map(|point| point.seconds));
    let seeds = rows.iter().map(|(line, _)| integer(line.seed));
    let columns = vec![
        ("task", Column::Text(texts(&|(line, _)| Some(line.task.to_owned())))),
        ("arm", Column::Text(texts(&|(line, _)| Some(line.arm.to_owned())))),
        ("options", Column::Json(texts(&|(_, reported)| Some(options(reported))))),
        ("setting", Column::Text(texts(&|(line, _)| Some(line.setting.clone()).filter(|s| !s.is_empty())))),
        ("seed", Column::Integer(seeds.collect())),
        ("forked_at", integers(&|line| line.forked_at)),
        ("outcome", Column::Text(texts(&|(line, _)| Some(line.outcome.to_owned())))),
        ("reason", Column::Text(texts(&|(_, reported)| reason(reported).map(str::to_owned)))),
        ("steps", integers(&|line| line.steps)),
        ("skipped", integers(&|line| Some(line.skipped))),
        ("test_accuracy", numbers(&|line| line.test_accuracy)),
        ("test_loss", numbers(&|line| line.test_loss)),
        ("validation_accuracy", numbers(&|line| line.validation_accuracy)),
        ("validation_loss", numbers(&|line| line.validation_loss)),
        ("train_loss", numbers(&|line| line.train_loss)),
        ("state_bytes", integers(&|line| line.state_bytes)),
        ("seconds", Column::Number(seconds.collect())),
        ("trajectory_sha256", Column::Text(texts(&|(line, _)| Some(line.trajectory_sha256.to_owned())))),
    ];
    Table { name: "runs", rows: rows.len(), columns }
}

/// The table of curves.
pub(super) fn curves(results: &Results) -> Table<'_> {
    let (mut tasks, mut arms, mut names) = (Vec::new(), Vec::new(), Vec::new());
    let (mut seeds, mut forks, mut steps, mut values) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for reported in results.reported() {
        for (step, numbers) in of_course(reported.run, &reported.task.groups) {
            for (name, value) in numbers {
                tasks.push(Some(Cow::Borrowed(reported.task.name.as_str())));
                arms.push(Some(Cow::Borrowed(reported.arm.name.as_str())));
                seeds.push(integer(reported.run.seed));
                forks.push(reported.fork.and_then(integer));
                steps.push(integer(step));
                names.push(Some(Cow::Owned(name)));
                values.push(Some(value));
            }
        }
    }
    let rows = values.len();
    let columns = vec![
        ("task", Column::Text(tasks)),
        ("arm", Column::Text(arms)),
        ("seed", Column::Integer(seeds)),
        ("forked_at", Column::Integer(forks)),
        ("step", Column::Integer(steps)),
        ("name", Column::Text(names)),
        ("value", Column::Number(values)),
    ];
    Table { name: "curves", rows, columns }
}
