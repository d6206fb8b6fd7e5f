//! Columns of the tables of arms, in one list. The page, the terminal, Markdown and the table for programs each have a
//! selection of them. A new column is an entry here, and nowhere else.

use ablate_statistics::PairedSteps;
use serde::Serialize;

use super::number::{p_value, probability, short};
use super::view::{View, word};
use crate::findings::{ArmFindings, Reason, Stop};

/// A row: an arm on a task.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) view: View<'a>,
    pub(super) task: usize,
    pub(super) arm: usize,
}

impl<'a> Row<'a> {
    fn found(self) -> &'a ArmFindings {
        self.view.found(self.task, self.arm)
    }

    /// Text of an arm other than the base, for which it is empty.
    fn compared(self, shown: impl FnOnce(&'a ArmFindings) -> String) -> String {
        if self.arm == 0 { String::new() } else { shown(self.found()) }
    }
}

/// A table that takes columns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Table of a task in the browser.
    Page,
    /// Table of a task in the terminal, which is narrow.
    Terminal,
    /// Table of a task in Markdown.
    Markdown,
    /// Table of an arm in Markdown, with a row for every task.
    Arm,
}

/// Kind of column, by which a form chooses alignment and colour.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Arm,
    Number,
    Difference,
    Verdict,
}

/// A cell of the table for programs.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Datum {
    Text(String),
    Number(Option<f64>),
    Count(Option<usize>),
}

type Data = (&'static str, fn(Row<'_>) -> Datum);

pub(super) struct Column {
    pub(super) style: Style,
    forms: &'static [Form],
    /// Whether the column has content for a task.
    is_shown: fn(View<'_>, usize) -> bool,
    /// Its head, for a task.
    pub(super) head: fn(View<'_>, usize) -> String,
    /// Its text, for people.
    pub(super) text: fn(Row<'_>) -> String,
    /// Its numbers, by their names in the table for programs.
    data: &'static [Data],
}

/// Columns of a form for a task. [`Form::Arm`] has the columns of the first task.
pub(super) fn columns(view: View<'_>, task: usize, form: Form) -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(move |column| column.forms.contains(&form) && (column.is_shown)(view, task))
}

/// Cells of a row in the table for programs, by name.
pub(super) fn data() -> impl Iterator<Item = &'static Data> {
    COLUMNS.iter().flat_map(|column| column.data)
}

const EVERYWHERE: &[Form] = &[Form::Page, Form::Terminal, Form::Markdown, Form::Arm];
const BY_TASK: &[Form] = &[Form::Page, Form::Terminal, Form::Markdown];
const WIDE: &[Form] = &[Form::Page, Form::Markdown, Form::Arm];

const ALWAYS: fn(View<'_>, usize) -> bool = |_, _| true;
/// Tasks with a target and a validation split that can reach it.
const WITH_TARGET: fn(View<'_>, usize) -> bool =
    |view, task| view.results.tasks[task].validated_target().is_some();

static COLUMNS: &[Column] = &[
    Column {
        style: Style::Arm,
        forms: BY_TASK,
        is_shown: ALWAYS,
        head: |_, _| "arm".to_owned(),
        text: |row| row.view.arms()[row.arm].title.clone(),
        data: &[
            ("task", |row| Datum::Text(row.view.results.tasks[row.task].name.clone())),
            ("arm", |row| Datum::Text(row.view.arms()[row.arm].name.clone())),
            ("measure", |row| Datum::Text(row.view.findings.tasks[row.task].measure.name().to_owned())),
        ],
    },
    Column {
        style: Style::Number,
        forms: BY_TASK,
        is_shown: ALWAYS,
        head: |view, task| format!("{}, mean ± sd", view.shown(task).name()),
        text: |row| row.view.shown(row.task).summary(row.found().value.as_ref()),
        data: &[
            ("n", |row| Datum::Count(row.found().value.map(|value| value.n))),
            ("diverged", |row| Datum::Count(Some(row.found().diverged))),
            ("mean", |row| Datum::Number(row.found().value.map(|value| value.mean))),
            ("sd", |row| Datum::Number(row.found().value.and_then(|value| value.sd))),
        ],
    },
    Column {
        style: Style::Number,
        forms: &[Form::Page],
        is_shown: ALWAYS,
        head: |_, _| "IQM".to_owned(),
        text: |row| {
            let value = row.found().value;
            value.map_or("–".to_owned(), |value| row.view.shown(row.task).value(value.iqm))
        },
        data: &[("iqm", |row| Datum::Number(row.found().value.map(|value| value.iqm)))],
    },
    Column {
        style: Style::Difference,
        forms: EVERYWHERE,
        is_shown: ALWAYS,
        head: |_, _| "difference [95 % interval]".to_owned(),
        text: |row| row.view.comparison(row.task, row.arm),
        data: &[
            ("pairs", |row| Datum::Count(row.found().difference.map(|difference| difference.finite))),
            ("difference", |row| {
                Datum::Number(row.found().difference.and_then(|difference| difference.mean))
            }),
            ("low", |row| Datum::Number(row.found().difference.and_then(|found| Some(found.interval?.low)))),
            ("high", |row| {
                Datum::Number(row.found().difference.and_then(|found| Some(found.interval?.high)))
            }),
            ("p", |row| Datum::Number(row.found().difference.and_then(|difference| difference.p))),
        ],
    },
    Column {
        style: Style::Number,
        forms: EVERYWHERE,
        is_shown: ALWAYS,
        head: |view, _| if view.has_tasks() { "p, this task" } else { "p" }.to_owned(),
        text: |row| row.compared(|found| p_value(found.adjusted_p)),
        data: &[("p_task", |row| Datum::Number(row.found().adjusted_p))],
    },
    Column {
        style: Style::Number,
        forms: WIDE,
        is_shown: |view, _| view.has_tasks(),
        head: |_, _| "p, all tasks".to_owned(),
        text: |row| row.compared(|found| p_value(found.study_p)),
        data: &[("p_study", |row| Datum::Number(row.found().study_p))],
    },
    Column {
        style: Style::Verdict,
        forms: EVERYWHERE,
        is_shown: ALWAYS,
        head: |_, _| "verdict".to_owned(),
        text: |row| row.view.verdict(row.task, row.arm),
        data: &[
            ("matters", |row| Datum::Number(row.view.findings.tasks[row.task].matters)),
            ("p_equivalence_task", |row| Datum::Number(row.found().equivalence_p)),
            ("p_equivalence_study", |row| Datum::Number(row.found().study_equivalence_p)),
            ("verdict", |row| Datum::Text(word(row.found().verdict).to_owned())),
        ],
    },
    Column {
        style: Style::Number,
        forms: EVERYWHERE,
        is_shown: |view, _| view.results.study.sequential,
        head: |_, _| "stopped after".to_owned(),
        text: |row| row.found().stop.map_or(String::new(), stopped),
        data: &[
            ("stopped_after", |row| Datum::Count(row.found().stop.map(|stop| stop.seeds))),
            ("stopped_because", |row| {
                Datum::Text(row.found().stop.map_or(String::new(), |stop| because(stop.reason).to_owned()))
            }),
        ],
    },
    Column {
        style: Style::Number,
        forms: WIDE,
        is_shown: ALWAYS,
        head: |_, _| "P(better run)".to_owned(),
        text: |row| row.compared(|found| probability(found.probability_of_improvement)),
        data: &[
            ("probability_of_improvement", |row| {
                Datum::Number(row.found().probability_of_improvement.map(|better| better.value))
            }),
            ("probability_low", |row| {
                Datum::Number(row.found().probability_of_improvement.and_then(|p| Some(p.interval?.low)))
            }),
            ("probability_high", |row| {
                Datum::Number(row.found().probability_of_improvement.and_then(|p| Some(p.interval?.high)))
            }),
        ],
    },
    Column {
        style: Style::Number,
        forms: BY_TASK,
        is_shown: WITH_TARGET,
        head: |view, task| view.steps_to_target_head(task),
        text: |row| row.view.steps_to_target(row.task, row.arm),
        data: &[
            ("steps_to_target", |row| Datum::Number(row.found().to_target.and_then(|steps| steps.median))),
            ("reached", |row| Datum::Count(row.found().to_target.map(|steps| steps.reached))),
        ],
    },
    Column {
        style: Style::Number,
        forms: &[Form::Page],
        is_shown: WITH_TARGET,
        head: |_, _| "steps / base’s".to_owned(),
        text: |row| ratio(row.found()),
        data: &[],
    },
    Column {
        style: Style::Number,
        forms: &[Form::Page, Form::Terminal],
        is_shown: |view, task| view.findings.tasks[task].arms.iter().any(has_d),
        head: |_, _| "d at the end".to_owned(),
        text: |row| d(row.found()),
        data: &[],
    },
];

fn stopped(Stop { seeds, reason }: Stop) -> String {
    format!("{seeds} seeds: {}", because(reason))
}

fn because(reason: Reason) -> &'static str {
    match reason {
        Reason::Found => "decided",
        Reason::Equivalent => "no difference that matters",
        Reason::Dead => "does nothing",
        Reason::GivenUp => "given up",
        Reason::End => "the end",
    }
}

/// Steps as a multiple of the base's, with the number of pairs if a run of other pairs missed the target.
fn ratio(found: &ArmFindings) -> String {
    let seeds = found.difference.map_or(0, |difference| difference.n);
    match found.paired_steps {
        Some(PairedSteps { ratio: Some(ratio), both, .. }) if both < seeds => {
            format!("{ratio:.2}× ({both} of {seeds} pairs)")
        }
        Some(PairedSteps { ratio: Some(ratio), .. }) => format!("{ratio:.2}×"),
        _ => "–".to_owned(),
    }
}

fn d(found: &ArmFindings) -> String {
    let shown: Vec<String> = found.d.iter().map(|d| d.map_or("–".to_owned(), short)).collect();
    if has_d(found) { shown.join(" / ") } else { "–".to_owned() }
}

fn has_d(found: &ArmFindings) -> bool {
    found.d.iter().any(Option::is_some)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_column_has_a_form_and_no_name_is_given_twice() {
        assert!(COLUMNS.iter().all(|column| !column.forms.is_empty()));
        let names: Vec<&str> = data().map(|(name, _)| *name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    }
}
