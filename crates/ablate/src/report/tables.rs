//! The tables of the page.

use ablate_statistics::PairedSteps;
use ablate_tasks::Split;
use maud::{Markup, html};

use super::number::{p_value, probability, short};
use super::view::{View, class, sign, word};
use crate::findings::ArmFindings;
use crate::record::Outcome;
use crate::results::Tuning;

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
                                    (view.shown(task).mean_difference(found.difference.as_ref()))
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

/// Everything that was found about the arms of a task.
pub(super) fn task(view: View<'_>, task: usize) -> Markup {
    let shown = view.shown(task);
    let seeds = view.results.study.seeds;
    let row = |arm: usize, found: &ArmFindings| {
        html! {
            tr {
                (named(view, arm))
                td.n { (shown.summary(found.value.as_ref())) }
                td.n { @match &found.value { Some(value) => (shown.value(value.iqm)), None => "–" } }
                td class=(format!("n verdict {}", class(found.verdict))) {
                    (view.comparison(task, arm))
                }
                td.n { @if arm > 0 { (p_value(found.adjusted_p)) } }
                @if view.has_tasks() { td.n { @if arm > 0 { (p_value(found.study_p)) } } }
                td.id { (view.verdict(task, arm)) }
                td.n { @if arm > 0 { (probability(found.probability_of_improvement)) } }
                td.n { (view.steps_to_target(task, arm)) }
                td.n { (ratio(found, seeds)) }
                td.n { (d(found)) }
            }
        }
    };
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        th { "arm" } th.n { (shown.name()) ", mean ± sd" } th.n { "IQM" } th.n { "difference [95 % interval]" }
                        th.n { "p, this task" } @if view.has_tasks() { th.n { "p, all tasks" } } th { "verdict" } th.n { "P(better run)" } th.n { (view.steps_to_target_head(task)) }
                        th.n { "steps / base’s" } th.n { "d at the end" }
                    }
                }
                tbody { @for arm in std::iter::once(0).chain(view.compared()) { (row(arm, view.found(task, arm))) } }
            }
        }
    }
}

/// Steps as a multiple of the base's, and of how many pairs where a run of the others missed the target.
fn ratio(found: &ArmFindings, seeds: usize) -> String {
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
    if found.d.iter().all(Option::is_none) { "–".to_owned() } else { shown.join(" / ") }
}

/// What tuning tried, of every tuned arm on every task.
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

/// What each arm is.
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
            p { "Combinations that the design asks for and that cannot be:" }
            ul.prose { @for refused in &view.results.refused { li { strong { (refused.name) } ": " (refused.reason) } } }
        }
    }
}

/// Every run.
pub(super) fn runs(view: View<'_>) -> Markup {
    html! {
        div.scroll {
            table.runs {
                thead { tr { th { "task" } th { "arm" } th.n { "seed" } th.n { "test measure" } th.n { "test loss" } th.n { "training loss" } th.n { "steps" } th { "trajectory" } } }
                tbody {
                    @for (task, results) in view.tasks() {
                        @let shown = view.shown(task);
                        @for (arm, runs) in results.arms.iter().enumerate() {
                            @for run in &runs.runs {
                                tr {
                                    td { (results.name) } td { (view.arms()[arm].title) } td.n { (run.seed) }
                                    @match &run.record.outcome {
                                        Outcome::Finished { evaluation } => {
                                            td.n { (shown.value(results.about.measure.of(evaluation))) } td.n { (short(evaluation.loss)) }
                                        }
                                        Outcome::Diverged { step, reason } => td colspan="2" { "diverged at step " (step) ": " (reason) },
                                    }
                                    td.n { @if let Some(point) = run.record.last() && !run.unmeasured.contains(&Split::Train) { (short(point.train.loss)) } }
                                    td.n { (run.record.steps) @if run.record.skipped > 0 { ", " (run.record.skipped) " skipped" } }
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
