//! The report for the browser: one file, no network, light, dark and on paper.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::curves::{Curve, losses, step_sizes};
use super::forest::forest;
use super::number::{Metric, short};
use crate::run::{Outcome, Record};
use crate::statistics::PairedDifference;
use crate::study::{ArmResult, Results, Tuning};
use crate::summary::{ArmSummary, Findings};
use crate::versions::{platform, versions};

const STYLE: &str = include_str!("style.css");

/// The palette has this many colours; a study with more arms uses them again.
const COLOURS: usize = 6;

pub(super) fn page(results: &Results, findings: &Findings) -> String {
    let colour = |name: &str| colour(results, name);
    let title = format!("What each part of the optimizer does: {}", results.task.name);
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    header {
                        p.kicker { "Ablation study · " (counted(results)) }
                        h1 { "What does each part of the optimizer do on " (results.task.name) "?" }
                        (answer(findings))
                    }
                    @if !findings.compared().is_empty() {
                        div.pair {
                            (forest(results, findings, Metric::Accuracy, colour))
                            (forest(results, findings, Metric::Loss, colour))
                        }
                        p.note {
                            "Dot and bar: mean difference, arm minus default, paired by seed, with its 95 % interval \
                             (Student’s t). Small circles: the seeds. Bold: the interval leaves zero out. An arm with − runs \
                             without that part, so “worse” says that the part helps."
                        }
                    }
                    (summary_table(findings, colour))

                    h2 { "Training loss" }
                    p.note {
                        "Over the whole training split, with the weights that would be used (the average, where the arm keeps \
                         one). Line: mean over seeds; band: their range; grey: the default; at the right: where the means end."
                    }
                    (losses(results, &Curve { name: "Training loss", of: |point| point.train.loss }, colour))
                    h2 { "Validation loss" }
                    (losses(results, &Curve { name: "Validation loss", of: |point| point.validation.loss }, colour))
                    @if let Some(figures) = step_sizes(results, colour) {
                        h2 { "Prodigy’s step size d" }
                        p.note { "A line per seed, both axes logarithmic. Arms without adaptation have no d." }
                        (figures)
                    }

                    h2 { "Keep in mind" }
                    ul.prose { @for caveat in &findings.caveats { li { (caveat) } } }

                    h2 { "What was done" }
                    p { (results.task.description) }
                    p { (protocol(results)) }
                    (arms_table(results, colour))
                    (tunings(results))
                    h2 { "Every run" }
                    (runs_table(results, colour))
                    p.note {
                        "Computed on " (platform()) " with "
                        @for (index, version) in versions().iter().enumerate() {
                            @if index > 0 { ", " }
                            (version.name) " " (version.version)
                        }
                        ". The numbers are also in " code { "results.json" } ", " code { "runs.csv" } " and "
                        code { "curves.csv" } " beside this page."
                    }
                }
            }
        }
    };
    markup.into_string()
}

fn colour(results: &Results, name: &str) -> String {
    match results.arms.iter().position(|arm| arm.name == name) {
        Some(0) | None => "base".to_owned(),
        Some(index) => format!("a{}", (index - 1) % COLOURS + 1),
    }
}

fn counted(results: &Results) -> String {
    let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    format!(
        "{}, {}, {} each",
        plural(results.arms.len(), "arm"),
        plural(results.budget.seeds as usize, "seed"),
        plural(results.budget.epochs, "epoch")
    )
}

/// An arm's title within a list.
fn in_words(arm: &ArmSummary) -> String {
    match arm.title.strip_prefix("− ") {
        Some(part) => format!("without {part}"),
        None => arm.title.clone(),
    }
}

/// In words: which differences have a sign, and which arms the study cannot tell from the base.
fn answer(findings: &Findings) -> Markup {
    let diverged: Vec<&ArmSummary> =
        findings.compared().iter().filter(|arm| arm.accuracy_difference.is_none()).collect();
    html! {
        @if let Some(base) = findings.arms.first() {
            p.answer {
                "The default, which nothing was tuned for, reaches a test accuracy of "
                strong { (Metric::Accuracy.summary(&base.accuracy)) " %" } ". "
                @for arm in &diverged { strong { (in_words(arm)) } " has no run to compare: every one diverged. " }
            }
        }
        @if !findings.compared().is_empty() {
            (verdict(findings, Metric::Accuracy, |arm| arm.accuracy_difference))
            (verdict(findings, Metric::Loss, |arm| arm.loss_difference))
        }
    }
}

fn verdict(findings: &Findings, metric: Metric, of: fn(&ArmSummary) -> Option<PairedDifference>) -> Markup {
    let differences = || findings.compared().iter().filter_map(|arm| Some((arm, of(arm)?)));
    let resolved: Vec<_> = differences().filter(|(_, difference)| difference.is_resolved()).collect();
    let unresolved: Vec<_> = differences().filter(|(_, difference)| !difference.is_resolved()).collect();
    let (name, unit, better_is_higher) = match metric {
        Metric::Accuracy => ("Test accuracy", " points", true),
        Metric::Loss => ("Test loss", "", false),
    };
    html! {
        p.answer {
            strong { (name) } ": "
            @for (index, (arm, difference)) in resolved.iter().enumerate() {
                @let words = in_words(arm);
                @if words == arm.title { (words) } @else { "the default " (words) }
                " is "
                strong {
                    @if (difference.mean > 0.0) == better_is_higher { "better" } @else { "worse" }
                    " by " (metric.value(difference.mean.abs())) (unit)
                }
                " " span.note { (metric.interval(difference)) }
                @if index + 1 < resolved.len() || !unresolved.is_empty() { "; " } @else { "." }
            }
            @if !unresolved.is_empty() {
                "not to be told from the default, as the interval contains zero: "
                @for (index, (arm, _)) in unresolved.iter().enumerate() {
                    @if index > 0 { ", " }
                    (in_words(arm))
                }
                "."
            }
        }
    }
}

fn named(title: &str, class: &str) -> Markup {
    html! { td.name { span class={ "swatch " (class) } {} (title) } }
}

fn summary_table(findings: &Findings, colour: impl Fn(&str) -> String) -> Markup {
    let difference = |metric: Metric, difference: Option<&PairedDifference>| {
        html! {
            td.n {
                @if let Some(difference) = difference {
                    @let mean = metric.difference(difference.mean);
                    @if difference.is_resolved() { strong { (mean) } } @else { (mean) }
                    " " span.note { (metric.interval(difference)) }
                }
            }
        }
    };
    let any_diverged = findings.arms.iter().any(|arm| arm.diverged > 0);
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        th { "arm" } th.n { "test accuracy, %" br; "mean ± sd" } th.n { "difference, points" br; "[95 % interval]" }
                        th.n { "test loss" br; "mean ± sd" } th.n { "difference" br; "[95 % interval]" }
                        th.n { "training loss" br; "mean" } th.n { "d at the end" br; "mean" } @if any_diverged { th.n { "diverged" } }
                    }
                }
                tbody {
                    @for arm in &findings.arms {
                        tr {
                            (named(&arm.title, &colour(&arm.name)))
                            td.n { (Metric::Accuracy.summary(&arm.accuracy)) }
                            (difference(Metric::Accuracy, arm.accuracy_difference.as_ref()))
                            td.n { (Metric::Loss.summary(&arm.loss)) }
                            (difference(Metric::Loss, arm.loss_difference.as_ref()))
                            td.n { @if arm.train_loss.n > 0 { (short(arm.train_loss.mean)) } @else { "–" } }
                            td.n { @if let Some(d) = arm.d { (short(d.mean)) } @else { "–" } }
                            @if any_diverged { td.n { (arm.diverged) } }
                        }
                    }
                }
            }
        }
    }
}

fn protocol(results: &Results) -> String {
    let last = results.budget.seeds - 1;
    let tuning = results.arms.iter().find_map(|arm| arm.tuning.as_ref());
    let tuning = tuning.map_or(String::new(), |tuning| {
        format!(
            " Tuned arms tried {} settings with {} seeds each, none of them reported, and took the one with the highest \
             mean validation accuracy (among equals, the lowest loss); the test split was not looked at.",
            tuning.candidates.len(),
            tuning.seeds.len()
        )
    });
    format!(
        "Seeds 0 to {last}; a seed determines the initial weights and the order of the batches, the same for every arm (checked by \
         fingerprint). Every run has {} epochs; what counts is its end, not its best moment.{tuning}",
        results.budget.epochs
    )
}

fn arms_table(results: &Results, colour: impl Fn(&str) -> String) -> Markup {
    let options = |arm: &ArmResult| {
        let mut options: Vec<String> =
            arm.options.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        options.extend(arm.tuning.as_ref().map(|tuning| format!("{} (tuned)", tuning.chosen)));
        options
    };
    html! {
        div.scroll {
            table {
                thead { tr { th { "arm" } th { "name" } th { "what it is" } th { "options" } } }
                tbody {
                    @for arm in &results.arms {
                        tr {
                            (named(&arm.title, &colour(&arm.name)))
                            td.id { code { (arm.name) } }
                            td.what { (arm.description) }
                            td { @for option in options(arm) { div { code { (option) } } } }
                        }
                    }
                }
            }
        }
    }
}

fn tunings(results: &Results) -> Markup {
    let table = |arm: &ArmResult, tuning: &Tuning| {
        html! {
            div {
                h3 { "Tuning of " (arm.title) }
                table {
                    thead { tr { th { "setting" } th.n { "validation accuracy, %" } th.n { "loss" } } }
                    tbody {
                        @for candidate in &tuning.candidates {
                            tr.chosen[candidate.setting == tuning.chosen] {
                                td { (candidate.setting) @if candidate.setting == tuning.chosen { " ← chosen" } }
                                @if let Some(mean) = candidate.mean {
                                    td.n { (Metric::Accuracy.value(mean.accuracy)) }
                                    td.n { (Metric::Loss.value(mean.loss)) }
                                } @else {
                                    td.n colspan="2" { "diverged" }
                                }
                            }
                        }
                    }
                }
            }
        }
    };
    html! {
        div.grids {
            @for arm in &results.arms { @if let Some(tuning) = &arm.tuning { (table(arm, tuning)) } }
        }
    }
}

fn runs_table(results: &Results, colour: impl Fn(&str) -> String) -> Markup {
    let row = |arm: &ArmResult, index: usize, run: &Record| {
        html! {
            tr.first[index == 0] {
                (named(&arm.title, &colour(&arm.name)))
                td.n { (run.seed) }
                @match &run.outcome {
                    Outcome::Finished { evaluation } => {
                        td.n { (Metric::Accuracy.value(evaluation.accuracy)) }
                        td.n { (Metric::Loss.value(evaluation.loss)) }
                    }
                    Outcome::Diverged { step, reason } => td colspan="2" { "diverged at step " (step) ": " (reason) },
                }
                td.n { @if let Some(point) = run.last() { (Metric::Loss.value(point.validation.loss)) } }
                td.n { @if let Some(point) = run.last() { (short(point.train.loss)) } }
                td.n { @if let Some(d) = run.final_d() { (short(d)) } @else { "–" } }
                td.n { (run.steps) }
                td.n { (format!("{:.1}", run.seconds)) }
            }
        }
    };
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        th { "arm" } th.n { "seed" } th.n { "test accuracy, %" } th.n { "test loss" } th.n { "validation loss" }
                        th.n { "training loss" } th.n { "d" } th.n { "steps" } th.n { "seconds" }
                    }
                }
                tbody {
                    @for arm in &results.arms {
                        @for (index, run) in arm.runs.iter().enumerate() { (row(arm, index, run)) }
                    }
                }
            }
        }
    }
}
