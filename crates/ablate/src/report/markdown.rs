//! The report as Markdown: the same answer, tables and caveats, without figures.
//!
//! The overview, every arm, and every task's effects of a factorial are between mdBook's anchors, so that a page of a book can
//! include just these: `{{#include report.md:overview}}`, `{{#include report.md:no-prodigy}}`,
//! `{{#include report.md:digits-effects}}`.

use std::fmt::Write;

use super::Environment;
use super::answer::{answer, counted, reading};
use super::number::p_value;
use super::view::{View, sign};
use crate::findings::{ArmFindings, FactorEffect};

/// A list, a heading or a table goes on as long as its line does.
fn line(text: &str) -> String {
    // And not at the blanks that keep a sign beside its name.
    text.split(char::is_control).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A cell must not end its row.
fn cell(text: &str) -> String {
    line(text).replace('|', "\\|")
}

fn row(into: &mut String, cells: &[String]) {
    let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
    let _ = writeln!(into, "| {} |", cells.join(" | "));
}

fn head(into: &mut String, cells: &[String]) {
    row(into, cells);
    row(into, &vec!["---".to_owned(); cells.len()]);
}

pub(super) fn document(view: View<'_>, environment: &Environment) -> String {
    let study = &view.results.study;
    let (title, question) = (line(&study.title), line(&study.question));
    let mut text = format!("# {title}\n\n{question}\n\n{}.\n\n", counted(view));
    for sentence in answer(view) {
        let _ = writeln!(text, "**{}.** {}\n", sentence.heading, line(&sentence.text));
    }
    anchored("overview", &mut text, |text| overview(view, text));
    let _ = writeln!(text, "\n{}\n\n## Keep in mind\n", reading(view));
    for caveat in &view.findings.caveats {
        let _ = writeln!(text, "- {}", line(caveat));
    }
    for (task, _) in view.tasks() {
        one_task(view, task, &mut text);
    }
    let _ = writeln!(text, "\n## Arm by arm");
    for arm in 0..view.arms().len() {
        one_arm(view, arm, &mut text);
    }
    for refused in &view.results.refused {
        let _ = writeln!(text, "\nCannot be combined: {}: {}", refused.name, line(&refused.reason));
    }
    let _ = writeln!(text, "\n## Time and machine\n");
    for (name, value) in &environment.lines {
        let _ = writeln!(text, "- {}: {}", line(name), line(value));
    }
    if let Some(commit) = &environment.commit {
        let _ = writeln!(text, "- Commit: {commit}");
    }
    text
}

fn anchored(name: &str, text: &mut String, write: impl FnOnce(&mut String)) {
    let _ = writeln!(text, "<!-- ANCHOR: {name} -->");
    write(text);
    let _ = writeln!(text, "<!-- ANCHOR_END: {name} -->");
}

fn overview(view: View<'_>, text: &mut String) {
    let mut cells = vec!["arm".to_owned()];
    cells.extend(
        view.tasks()
            .map(|(task, results)| format!("{} ({})", results.name, view.shown(task).difference_name())),
    );
    head(text, &cells);
    let mut base = vec![view.arms()[0].title.clone()];
    base.extend(view.tasks().map(|(task, _)| {
        let found = view.found(task, 0);
        let value = found.value.as_ref().map_or("–".to_owned(), |value| view.shown(task).value(value.mean));
        value + &diverged(found)
    }));
    row(text, &base);
    for arm in view.compared() {
        let mut cells = vec![view.arms()[arm].title.clone()];
        cells.extend(view.tasks().map(|(task, _)| {
            let found = view.found(task, arm);
            let shown = view.shown(task).mean_difference(found.difference.as_ref());
            format!("{} {shown}{}", sign(found.verdict), diverged(found))
        }));
        row(text, &cells);
    }
}

fn one_task(view: View<'_>, task: usize, text: &mut String) {
    let results = &view.results.tasks[task];
    let shown = view.shown(task);
    let _ = writeln!(
        text,
        "\n## {}\n\n{} {}\n",
        line(&results.name),
        results.about.description,
        results.about.reason
    );
    let mut heads = vec!["arm", shown.name(), "difference [95 %]"];
    heads.extend(p_heads(view));
    heads.extend(["verdict", "P(better run)"]);
    let mut heads: Vec<String> = heads.into_iter().map(str::to_owned).collect();
    heads.push(view.steps_to_target_head(task));
    head(text, &heads);
    for arm in std::iter::once(0).chain(view.compared()) {
        let found = view.found(task, arm);
        let steps = view.steps_to_target(task, arm);
        let mut cells = vec![
            view.arms()[arm].title.clone(),
            shown.summary(found.value.as_ref()),
            view.comparison(task, arm),
        ];
        cells.extend(p_values(view, task, arm));
        cells.extend([view.verdict(task, arm), better(found), steps]);
        row(text, &cells);
    }
    effects(view, task, text);
}

/// Main effects, Shapley values and interactions, for a factorial.
fn effects(view: View<'_>, task: usize, text: &mut String) {
    let Some(factorial) = &view.findings.tasks[task].factorial else { return };
    let shown = view.shown(task);
    let named = |effect: &FactorEffect| {
        let titles: Vec<&str> = effect.factors.iter().map(|factor| view.factor_title(factor)).collect();
        titles.join(" × ")
    };
    let kinds = [
        ("main effect", &factorial.main),
        ("Shapley value", &factorial.shapley),
        ("interaction", &factorial.interactions),
    ];
    let _ = writeln!(text);
    anchored(&format!("{}-effects", view.results.tasks[task].name), text, |text| {
        let unit = format!("{} [95 %]", shown.difference_name());
        head(
            text,
            &["".to_owned(), "of".to_owned(), unit, "p, alone".to_owned(), "p, of its kind".to_owned()],
        );
        for (kind, effects) in kinds {
            for effect in effects {
                let size = format!("{} {}", shown.difference(effect.mean), shown.interval(effect.interval));
                row(
                    text,
                    &[kind.to_owned(), named(effect), size, p_value(effect.p), p_value(effect.adjusted_p)],
                );
            }
        }
    });
}

/// What an arm is, and what it does on every task.
fn one_arm(view: View<'_>, arm: usize, text: &mut String) {
    let about = &view.arms()[arm];
    let _ = writeln!(text, "\n### {}\n\n{}\n\n`{}`\n", line(&about.title), about.description, about.chain);
    anchored(&about.name, text, |text| {
        let heads = if arm == 0 {
            vec!["task", "value"]
        } else {
            let mut heads = vec!["task", "base", "arm", "difference [95 %]"];
            heads.extend(p_heads(view));
            heads.extend(["verdict", "P(better run)"]);
            heads
        };
        head(text, &heads.into_iter().map(str::to_owned).collect::<Vec<_>>());
        for (task, results) in view.tasks() {
            let (found, shown) = (view.found(task, arm), view.shown(task));
            let mut cells = vec![format!("{}: {}", results.name, shown.name())];
            if arm > 0 {
                cells.push(shown.summary(view.found(task, 0).value.as_ref()));
            }
            cells.push(shown.summary(found.value.as_ref()));
            if arm > 0 {
                cells.push(view.comparison(task, arm));
                cells.extend(p_values(view, task, arm));
                cells.extend([view.verdict(task, arm), better(found)]);
            }
            row(text, &cells);
        }
    });
}

fn p_heads(view: View<'_>) -> Vec<&'static str> {
    if view.has_tasks() { vec!["p, this task", "p, all tasks"] } else { vec!["p"] }
}

fn p_values(view: View<'_>, task: usize, arm: usize) -> Vec<String> {
    let found = view.found(task, arm);
    let shown = |p| if arm > 0 { p_value(p) } else { String::new() };
    let of_study = view.has_tasks().then(|| shown(found.study_p));
    std::iter::once(shown(found.adjusted_p)).chain(of_study).collect()
}

fn better(found: &ArmFindings) -> String {
    found.probability_of_improvement.map_or(String::new(), |found| format!("{:.2}", found.value))
}

fn diverged(found: &ArmFindings) -> String {
    if found.diverged > 0 { format!(", {} diverged", found.diverged) } else { String::new() }
}
