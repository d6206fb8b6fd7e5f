//! Differences between two executions of a study: the only section of a report that may change.

use ablate_tasks::Split;
use maud::{Markup, html};

use super::Environment;
use super::number::short;
use super::view::View;

/// Mean milliseconds of a step of an arm on a task.
pub(super) fn per_step(view: View<'_>, task: usize, arm: usize) -> Option<f64> {
    let runs = &view.results.tasks[task].arms[arm].runs;
    let seconds: f64 = runs.iter().filter_map(|run| run.record.last()).map(|point| point.seconds).sum();
    let steps: usize = runs.iter().filter_map(|run| run.record.last()).map(|point| point.step).sum();
    (steps > 0).then(|| 1000.0 * seconds / steps as f64)
}

/// Median seconds of gradients and steps until the target, over the runs that reached it.
fn to_target(view: View<'_>, task: usize, arm: usize) -> Option<f64> {
    let results = &view.results.tasks[task];
    let target = results.validated_target()?;
    let reached = |point: &&crate::record::Point| results.about.measure.reaches(&point.validation, target);
    let seconds: Vec<f64> = results.arms[arm]
        .runs
        .iter()
        .filter_map(|run| run.points_of(Split::Validation).iter().find(reached))
        .map(|point| point.seconds)
        .collect();
    ablate_statistics::Summary::of(&seconds).map(|summary| summary.median)
}

pub(super) fn section(view: View<'_>, environment: &Environment) -> Markup {
    html! {
        section id="time" {
            h2 { "Time and machine" }
            p.note { "Measured while other runs shared the machine: a rough guide, not a benchmark. " (again(view)) }
            ul.prose {
                @for (name, value) in &environment.lines { li { (name) ": " (value) } }
                @if let Some(commit) = &environment.commit { li { "Commit: " code { (commit) } } }
            }
            @if let Some(summary) = measured(view) { details {
                summary { (summary) }
                div.scroll {
                    table {
                        thead { tr { th { "arm" } @for (_, task) in view.tasks() { th.n { (task.name) } } } }
                        tbody {
                            @for (arm, named) in view.arms().iter().enumerate() {
                                tr {
                                    td.name { (named.title) }
                                    @for (task, _) in view.tasks() {
                                        td.n { (times(view, task, arm)) }
                                    }
                                }
                            }
                        }
                    }
                }
            } }
        }
    }
}

/// Title of the table of times; absent if no run has steps.
fn measured(view: View<'_>) -> Option<&'static str> {
    let all = || view.tasks().flat_map(|(task, _)| (0..view.arms().len()).map(move |arm| (task, arm)));
    if all().any(|(task, arm)| to_target(view, task, arm).is_some()) {
        return Some("Milliseconds per step, and seconds to the target (median of the runs that reached it)");
    }
    all().any(|(task, arm)| per_step(view, task, arm).is_some()).then_some("Milliseconds per step")
}

/// Times of an arm on a task, as far as there are any.
fn times(view: View<'_>, task: usize, arm: usize) -> String {
    let per_step = per_step(view, task, arm).map(|time| format!("{} ms", short(time)));
    let to_target = to_target(view, task, arm).map(|seconds| format!("{} s", short(seconds)));
    let known: Vec<String> = per_step.into_iter().chain(to_target).collect();
    if known.is_empty() { "–".to_owned() } else { known.join(" · ") }
}

/// Expected differences of another execution.
fn again(view: View<'_>) -> &'static str {
    if view.runs_commands() {
        "Everything above is made from the runs’ numbers alone; whether the commands give the same numbers elsewhere is up to them."
    } else {
        "Everything above is the same wherever the study is run again with these sources; but where a matrix product of a task adds more than 512 terms, candle cuts the sum by the size of the processor’s first-level cache, and another processor may round it differently."
    }
}
