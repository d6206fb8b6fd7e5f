//! The tables of the page.

use ablate_tasks::{Measure, Split};
use maud::{Markup, html};

use super::column::{Column, Form, Row, Style, columns};
use super::number::{probability, short};
use super::view::{View, class, sign, word};
use crate::record::Outcome;
use crate::results::{Run, TaskResults, Tuning};

fn named(view: View<'_>, arm: usize) -> Markup {
    html! { td.name { span class=(format!("swatch {}", view.colour(arm))) {} (view.arms()[arm].title) } }
}

/// Arms by tasks: the whole answer at a glance.
pub(super) fn overview(view: View<'_>) -> Markup {
    html! {
        div.scroll {
            table.overview {
                thead {
                    tr {
                        th { "arm" }
                        @for (_, task) in view.tasks() { th.n { (task.name) } }
                        th.n { "P(better run)" }
                    }
                }
                tbody {
                    @for arm in view.compared() {
                        @let overall = &view.findings.overall[arm];
                        tr.outside[view.arms()[arm].role == crate::results::Role::Baseline] {
                            (named(view, arm))
                            @for (task, _) in view.tasks() {
                                @let found = view.found(task, arm);
                                td class=(format!("n verdict {}", class(found.verdict))) {
                                    span.sign title=(word(found.verdict)) { (sign(found.verdict)) } " "
                                    (view.difference_after_sign(task, arm))
                                    @if found.diverged > 0 { " ✕" (found.diverged) }
                                }
                            }
                            td.n {
                                (probability(overall.probability_of_improvement))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Findings about the arms of a task.
pub(super) fn task(view: View<'_>, task: usize) -> Markup {
    let head = |column: &Column| {
        let text = (column.head)(view, task);
        html! { @if column.style == Style::Number || column.style == Style::Difference { th.n { (text) } } @else { th { (text) } } }
    };
    let cell = |column: &Column, arm: usize| {
        let text = (column.text)(Row { view, task, arm });
        match column.style {
            Style::Arm => named(view, arm),
            Style::Number => html! { td.n { (text) } },
            Style::Difference => {
                html! { td class=(format!("n verdict {}", class(view.found(task, arm).verdict))) { (text) } }
            }
            Style::Verdict => html! { td.id { (text) } },
        }
    };
    html! {
        div.scroll {
            table {
                thead { tr { @for column in columns(view, task, Form::Page) { (head(column)) } } }
                tbody {
                    @for arm in std::iter::once(0).chain(view.compared()) {
                        tr { @for column in columns(view, task, Form::Page) { (cell(column, arm)) } }
                    }
                }
            }
        }
    }
}

/// Settings that tuning tried, of every tuned arm on every task.
pub(super) fn tuning(view: View<'_>) -> Option<Markup> {
    let tuned = |arm: &usize| view.results.tasks.iter().any(|task| task.arms[*arm].tuning.is_some());
    let arms: Vec<usize> = (0..view.arms().len()).filter(tuned).collect();
    let first: &Tuning = view.results.tasks.first()?.arms[*arms.first()?].tuning.as_ref()?;
    let tried = |tuning: &Tuning| {
        tuning.candidates.iter().map(|c| c.setting.to_string()).collect::<Vec<_>>().join(", ")
    };
    Some(html! {
        p {
            "Every tuned arm had the same budget: " strong { (first.candidates.len()) " settings × " (first.seeds.len()) " seeds" }
            " on every task, " (first.candidates.len() * first.seeds.len()) " runs, which are in no other number. The best mean on the validation split was chosen; the reported \
             seeds and the test split had no part in it. All other arms ran as they are."
        }
        div.scroll {
            table {
                thead { tr { th { "arm" } @for (_, task) in view.tasks() { th.n { (task.name) } } th { "tried" } } }
                tbody {
                    @for arm in arms {
                        tr {
                            (named(view, arm))
                            @for (_, task) in view.tasks() {
                                td.n {
                                    @if let Some(tuning) = &task.arms[arm].tuning {
                                        (tuning.chosen.to_string()) @if tuning.is_at_the_edge() { " (edge)" }
                                    }
                                }
                            }
                            td.what.note { @if let Some(tuning) = &view.results.tasks[0].arms[arm].tuning { (tried(tuning)) } }
                        }
                    }
                }
            }
        }
    })
}

/// Description of each arm.
pub(super) fn arms(view: View<'_>) -> Markup {
    html! {
        div.scroll {
            table {
                thead { tr { th { "arm" } th { "what it is" } th { (if view.runs_commands() { "options" } else { "chain" }) } } }
                tbody {
                    @for (index, arm) in view.arms().iter().enumerate() {
                        tr {
                            (named(view, index))
                            td.what { (arm.description) }
                            td.what {
                                code { (arm.chain) }
                                @if !arm.options.is_empty() && !view.runs_commands() {
                                    br;
                                    span.note { @for (name, value) in &arm.options { (name) " = " (value) " " } }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if !view.results.refused.is_empty() {
            p { "Combinations the design requests but the optimizer rejects:" }
            ul.prose { @for refused in &view.results.refused { li { strong { (refused.name) } ": " (refused.reason) } } }
        }
    }
}

/// Every run. A measure that no run has gets no column.
pub(super) fn runs(view: View<'_>) -> Markup {
    let any = |has: &dyn Fn(&TaskResults, &Run) -> bool| {
        view.results.reported().any(|reported| has(reported.task, reported.run))
    };
    let has_measure = any(&|task, _| task.about.measure != Measure::Loss);
    let has_training = any(&|_, run| !run.unmeasured.contains(&Split::Train));
    let has_steps = any(&|task, run| task.steps_of(&run.record).is_some());
    html! {
        div.scroll {
            table.runs {
                thead { tr { th { "task" } th { "arm" } th.n { "seed" } @if has_measure { th.n { "test measure" } } th.n { "test loss" } @if has_training { th.n { "training loss" } } @if has_steps { th.n { "steps" } } th { "trajectory" } } }
                tbody {
                    @for (task, results) in view.tasks() {
                        @let shown = view.shown(task);
                        @let own = results.arms.iter().enumerate().map(|(arm, runs)| (arm, &runs.runs));
                        @let later = results.forks.iter().filter(|fork| fork.step > 0).map(|fork| (fork.arm, &fork.runs));
                        @for (arm, runs) in own.chain(later) {
                            @for run in runs {
                                tr {
                                    td { (results.name) }
                                    td { (view.arms()[arm].title) @if let Some(forked) = &run.record.forked { " from step " (forked.step) } }
                                    td.n { (run.seed) }
                                    @match &run.record.outcome {
                                        Outcome::Finished { evaluation } => {
                                            @if has_measure { td.n { (shown.value(results.about.measure.of(evaluation))) } } td.n { (short(evaluation.loss)) }
                                        }
                                        Outcome::Diverged { step, reason } => {
                                            td colspan=(1 + usize::from(has_measure)) {
                                                "diverged" @if results.steps_of(&run.record).is_some() { " at step " (step) } ": " (reason)
                                            }
                                        }
                                    }
                                    @if has_training {
                                        td.n { @if let Some(point) = run.record.last() && !run.unmeasured.contains(&Split::Train) { (short(point.train.loss)) } }
                                    }
                                    @if has_steps {
                                        td.n { @if let Some(steps) = results.steps_of(&run.record) { (steps) @if run.record.skipped > 0 { ", " (run.record.skipped) " skipped" } } }
                                    }
                                    td { code { (run.record.trajectory_sha256.get(..8).unwrap_or_default()) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
