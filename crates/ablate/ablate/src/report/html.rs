//! The report for the browser: one file, no network, light, dark and on paper.

use std::collections::BTreeSet;

use ablate_tasks::{Measure, Split};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::answer::{answer, counted, reading};
use super::curves::{Quantity, panels};
use super::forest::forest;
use super::number::short;
use super::view::{Curve, View, points};
use super::{Environment, fork, heat, profile, tables, time};
use crate::findings::looks;
use crate::record::Point;
use crate::results::{Run, TaskResults};

const STYLE: &str = include_str!("style.css");

pub(super) fn page(view: View<'_>, environment: &Environment) -> String {
    let study = &view.results.study;
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (study.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    header {
                        p.kicker { "Ablation study · " (counted(view)) }
                        h1 { (study.title) }
                        @if !study.question.is_empty() { p.question { (study.question) } }
                    }
                    (first_answer(view))
                    (caveats(view))
                    h2 { "Task by task" }
                    @for (task, _) in view.tasks() { (one_task(view, task)) }
                    @if let Some(figure) = profile::profiles(view) {
                        h2 { "How fast, over all tasks" }
                        p.note {
                            "Performance profiles: the share of runs (every seed of every task counts) in which an arm reached the task’s \
                             target within so many times the steps of the fastest arm. Higher is better; what an arm lacks to 1 at the right are targets it missed."
                        }
                        (figure)
                    }
                    @if let Some(tuning) = tables::tuning(view) { h2 { "Tuning" } (tuning) }
                    h2 { "Arms" }
                    (tables::arms(view))
                    h2 { "Every run" }
                    details { summary { "Show all runs" } (tables::runs(view)) }
                    (method(view))
                    (time::section(view, environment))
                }
            }
        }
    };
    markup.into_string()
}

fn first_answer(view: View<'_>) -> Markup {
    let sentences = answer(view);
    if sentences.is_empty() && view.compared().next().is_none() {
        return html! { p.answer { "There is one arm, and nothing to compare it with." } };
    }
    html! {
        (tables::overview(view))
        section.answers {
            @for sentence in &sentences { p.answer { strong { (sentence.heading) ". " } (sentence.text) } }
        }
        p.note { (reading(view)) }
        div.pair { @for (task, _) in view.tasks() { (forest(view, task)) } }
        p.note {
            "Dot and bar: the mean difference and its 95 % bootstrap-t interval. Filled: a verdict; hollow: unclear. Small circles: the seeds. \
             An arrow at the edge: the dot, or the end of its bar, lies beyond the axis. ✕: runs that diverged."
        }
    }
}

fn caveats(view: View<'_>) -> Markup {
    html! {
        h2 { "Keep in mind" }
        ul.prose { @for caveat in &view.findings.caveats { li { (caveat) } } }
    }
}

fn one_task(view: View<'_>, task: usize) -> Markup {
    let results = &view.results.tasks[task];
    let measure = results.about.measure;
    let validation = |point: &Point| match measure {
        // Errors, because arms differ in the last per cent.
        Measure::Accuracy => point.validation.accuracy.map(|accuracy| 100.0 * (1.0 - accuracy)),
        Measure::Loss | Measure::LogLoss => Some(point.validation.loss),
    };
    let what = if measure == Measure::Accuracy { "Validation error, %" } else { "Validation loss" };
    html! {
        details.task open[task == 0] {
            summary { h3 { (results.name) } span.note { (results.steps) " steps" @if let Some(target) = results.target { " · target " (short(target)) } } }
            p { (results.about.description) }
            @if !results.about.reason.is_empty() { p.note { strong { "Why it is here. " } (results.about.reason) } }
            (tables::task(view, task))
            (fork::section(view, task))
            @if results.measures(Split::Validation) { (curves_of(view, task, what, true, &|run| measured(run, Split::Validation, &validation))) }
            @if results.measures(Split::Train) { (curves_of(view, task, "Training loss", true, &|run| measured(run, Split::Train, &|point| Some(point.train.loss)))) }
            @for name in further(results) {
                (curves_of(view, task, name, false, &|run| {
                    let curve = run.further.get(name).into_iter().flatten();
                    curve.map(|(step, value)| (*step, Some(*value))).collect()
                }))
            }
            @for (group, name) in results.groups.iter().enumerate() {
                @let suffix = if results.groups.len() > 1 { format!(", group {name}") } else { String::new() };
                (figure(view, task, &format!("Effective learning rate lr·d{suffix}"), true, &|point| {
                    (point.step > 0).then(|| point.groups[group].step_size)
                }))
                (figure(view, task, &format!("d{suffix}"), true, &|point| point.groups[group].d))
                (figure(view, task, &format!("Root mean square of a step’s change{suffix}"), true, &|point| {
                    point.groups[group].update_rms
                }))
                (figure(view, task, &format!("Share of weights that a step changes{suffix}"), false, &|point| {
                    point.groups[group].moved
                }))
            }
            (links(view, task))
            @if let Some(factorial) = &view.findings.tasks[task].factorial {
                h4 { "Do the factors add up?" }
                p.note {
                    "A main effect is the mean change by a factor over all states of the others; a Shapley value its share of the whole \
                     change. An interaction is half of what one factor’s effect gains where the other is changed too: blue helps, orange hinders. Filled or bold: its sign-flip p is at most 0.05 after correction over the effects of its kind on this task (main effects, \
                     Shapley values, interactions); intervals are not corrected, and nothing is corrected over kinds or tasks."
                }
                div.pair {
                    (heat::effects(view, task, "Main effects", &factorial.main))
                    (heat::effects(view, task, "Shapley values", &factorial.shapley))
                }
                @if factorial.main.len() > 1 { (heat::interactions(view, task, factorial)) }
            }
        }
    }
}

/// Figures of what every link does to the update.
fn links(view: View<'_>, task: usize) -> Markup {
    let results = &view.results.tasks[task];
    // In the order of the chains: a link that an arm adds is after the one that it follows there.
    let names = |group: usize| -> Vec<&str> {
        let runs = results.arms.iter().flat_map(|arm| &arm.runs);
        let points = runs.flat_map(|run| &run.record.curve).filter_map(|point| point.groups.get(group));
        let mut names: Vec<&str> = Vec::new();
        for group in points {
            let mut place = 0;
            for link in &group.links {
                let found = names.iter().position(|name| *name == link.link);
                if found.is_none() {
                    names.insert(place, &link.link);
                }
                place = found.unwrap_or(place) + 1;
            }
        }
        names
    };
    if (0..results.groups.len()).all(|group| names(group).is_empty()) {
        return html! {};
    }
    html! {
        details {
            summary { "What every link does to the update" }
            p.note {
                "Norm of the update after a link over its norm before, in the latest step before every point of the curves, over all tensors that the link applies to. Of a writer,                  the displacement over the update."
            }
            @for (group, of_group) in results.groups.iter().enumerate() {
                @let suffix = if results.groups.len() > 1 { format!(", group {of_group}") } else { String::new() };
                @for name in names(group) {
                    (figure(view, task, &format!("{name}{suffix}"), true, &|point| {
                        point.groups.get(group)?.links.iter().find(|link| link.link == name)?.gain()
                    }))
                }
            }
        }
    }
}

fn figure(
    view: View<'_>,
    task: usize,
    name: &str,
    is_log: bool,
    of: &dyn Fn(&Point) -> Option<f64>,
) -> Markup {
    curves_of(view, task, name, is_log, &|run| points(run, of))
}

/// Curve of a quantity on a split. A run that ended early may have no numbers of the split.
fn measured(run: &Run, split: Split, of: &dyn Fn(&Point) -> Option<f64>) -> Curve {
    run.points_of(split).iter().map(|point| (point.step, of(point))).collect()
}

/// Names of the numbers that commands wrote in addition to losses and accuracies.
fn further(results: &TaskResults) -> BTreeSet<&str> {
    let runs = results.arms.iter().flat_map(|arm| &arm.runs);
    // One number is no curve.
    let curves = runs.flat_map(|run| &run.further).filter(|(_, curve)| curve.len() > 1);
    curves.map(|(name, _)| name.as_str()).collect()
}

fn curves_of(view: View<'_>, task: usize, name: &str, is_log: bool, of: &dyn Fn(&Run) -> Curve) -> Markup {
    let Some(figure) = panels(view, task, &Quantity { name, is_log, of }) else { return html! {} };
    html! { h4 { (name) } (figure) }
}

fn pairs(view: View<'_>) -> &'static str {
    if !view.is_paired() {
        "Runs have no pairs: means are compared as those of two samples, with Welch’s intervals, and p is that of a permutation test of Welch’s t (Janssen, 1997; Chung and Romano, 2013), over all divisions of the runs up to 20,000, drawn ones beyond, corrected over the arms of a task after Holm (1979). What follows of sign flips is of tasks with pairs."
    } else if view.was_read() {
        "Pairs: runs of arm and base with the same seed, as the files have them."
    } else if view.runs_commands() {
        "Pairs: every arm’s command is given the same seeds. Where it evaluates before its first step, that number is compared with the base’s; \
         some runs of the base are done a second time, and both are compared."
    } else {
        "Pairs: a seed determines initial weights, batches and rounding for every arm alike; the digests of the first two are compared."
    }
}

fn has_curves(task: &TaskResults) -> bool {
    task.measures(Split::Validation) || task.measures(Split::Train) || !further(task).is_empty()
}

fn programs(view: View<'_>) -> String {
    let named = view.results.versions.iter().map(|(name, version)| format!("{name} {version}"));
    named.collect::<Vec<_>>().join(", ")
}

/// Digests of what determines the runs, as far as the study names it.
fn sources(view: View<'_>) -> Markup {
    let digests: Vec<&str> = if view.was_read() {
        Vec::new()
    } else if view.runs_commands() {
        view.tasks().filter_map(|(_, task)| task.launched.as_ref()?.sources.as_deref()).collect()
    } else {
        vec![&view.results.code]
    };
    html! {
        @for (index, digest) in digests.iter().enumerate() {
            (if index == 0 { "Sources: " } else { ", " }) code { (digest.get(..16).unwrap_or(digest)) }
        }
        @if !digests.is_empty() { ". " }
    }
}

fn method(view: View<'_>) -> Markup {
    let results = view.results;
    html! {
        h2 { "Method" }
        ul.prose {
            li { (pairs(view)) }
            li { "Intervals: 95 %, bootstrap-t on the paired differences (Efron and Tibshirani, 1993), 10,000 resamples; none where the differences, or most of them, are equal." }
            li { "p: two-sided sign-flip test, over all sign patterns up to 14 seeds, drawn ones beyond. A pattern turns a seed’s differences round for all arms at once, which share the base’s run; p is corrected by the largest of the arms’ standardised sums, step by step (max-T: Westfall and Young, 1993; Romano and Wolf, 2005), over the arms of a task, and again over the arms of all tasks. Arms that do nothing have no part in it. A pair of which one run diverged counts as the largest finite difference of the arm, against the one that did; one of which both did as none." }
            @if results.study.sequential {
                li { "Looks: after " (looks(results.study.seeds).seeds.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")) " seeds. By each look, the probability of a false verdict so far is at most what Pocock’s spending function allows (Lan and DeMets, 1983), under the joint distribution of the largest sums at all looks, from the same sign patterns. p is the share of patterns with a verdict at an earlier look, or as large a sum at this one. From half of the seeds on an arm is given up that, going on as it did, would have a verdict in less than a tenth of cases. Over all tasks p is as many times as large. Means and intervals are those of a fixed number of seeds." }
            }
            @if view.findings.tasks.iter().any(|task| task.matters.is_some()) {
                li { "No difference that matters: two one-sided sign-flip tests (Schuirmann, 1987) of the differences less and plus the margin, in one max-T family over the arms and both sides; p is the larger one. A pair of which one run diverged is within no margin. A margin that is a multiple of the base’s spread is known as well as that spread is." }
            }
            li { "IQM: the mean of the middle half. P(better run): over all pairs of a run of the arm and a run of the base, the share in which the arm’s is better (Agarwal et al., 2021); a run that diverged loses. Intervals: 95 %, Newcombe (2006), method 5; over the tasks, of the mean, Zou and Donner (2008)." }
            @if results.tasks.iter().any(|task| task.validated_target().is_some()) {
                li { "Steps to the target: the first evaluation at which the validation split reached it; runs that missed it are censored at their length (Kaplan and Meier, 1958). The ratio to the base is the geometric mean over seeds that both reached." }
            }
            @if results.tasks.iter().any(has_curves) {
                li { "Curves: the mean over the seeds, and their range as a band; the base in grey; at the right, where the means end." }
            }
        }
        p.note { "Design: " (results.study.design) ". Program: " (programs(view)) ". " (sources(view)) "The numbers are also in results.json, effects.csv, runs.csv" @if view.has_forks() { ", forks.csv" } " and curves.csv beside this page." }
        details { summary { "The study file" } pre { (results.study.text) } }
    }
}
