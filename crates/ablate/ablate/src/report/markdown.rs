//! The report as Markdown: the same answer, tables and caveats, without figures.
//!
//! The overview, every arm, and every task's effects of a factorial are between mdBook's anchors, so that a page of a
//! book can include just these: `{{#include report.md:overview}}`, `{{#include report.md:no-prodigy}}`, `{{#include
//! report.md:digits-effects}}`.

use std::fmt::Write;

use super::answer::{answer, counted, reading};
use super::column::{Form, Row, columns};
use super::number::p_value;
use super::view::{View, sign};
use super::{Environment, fork};
use crate::findings::{ArmFindings, FactorEffect};

/// A text as one line, because a line break ends a list, a heading or a table. A name such as `<i>` is not an element
/// of HTML.
fn line(text: &str) -> String {
    // The no-break space between a sign and its name stays.
    let parts = text.split(char::is_control).map(str::trim).filter(|part| !part.is_empty());
    let text = parts.collect::<Vec<_>>().join(" ");
    let (mut line, mut buffer) = (String::with_capacity(text.len()), [0; 4]);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let is_tag = letter == '<'
            && letters.peek().is_some_and(|next| next.is_ascii_alphabetic() || "/!?".contains(*next));
        line.push_str(if is_tag { "&lt;" } else { letter.encode_utf8(&mut buffer) });
    }
    line
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

/// A paragraph and an empty line; nothing for an empty text.
fn paragraph(into: &mut String, text: &str) {
    if !text.is_empty() {
        let _ = writeln!(into, "{text}\n");
    }
}

pub(super) fn document(view: View<'_>, environment: &Environment) -> String {
    let study = &view.results.study;
    let mut text = format!("# {}\n\n", line(&study.title));
    paragraph(&mut text, &line(&study.question));
    paragraph(&mut text, &format!("{}.", counted(view)));
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
            format!("{} {}{}", sign(found.verdict), view.difference_after_sign(task, arm), diverged(found))
        }));
        row(text, &cells);
    }
}

fn one_task(view: View<'_>, task: usize, text: &mut String) {
    let results = &view.results.tasks[task];
    let _ = writeln!(text, "\n## {}\n", line(&results.name));
    paragraph(text, &line(&format!("{} {}", results.about.description, results.about.reason)));
    head(
        text,
        &columns(view, task, Form::Markdown).map(|column| (column.head)(view, task)).collect::<Vec<_>>(),
    );
    for arm in std::iter::once(0).chain(view.compared()) {
        row(
            text,
            &columns(view, task, Form::Markdown)
                .map(|c| (c.text)(Row { view, task, arm }))
                .collect::<Vec<_>>(),
        );
    }
    forks(view, task, text);
    effects(view, task, text);
}

/// Arms that took over from the base, between anchors of their own.
fn forks(view: View<'_>, task: usize, text: &mut String) {
    if fork::rows(view, task).next().is_none() {
        return;
    }
    let _ = writeln!(text, "\nWhen does it matter? An arm goes on from the base’s state after a step:\n");
    anchored(&format!("{}-forks", view.results.tasks[task].name), text, |text| {
        head(text, &fork::COLUMNS.iter().map(|column| (column.head)(view, task)).collect::<Vec<_>>());
        for fork in fork::rows(view, task) {
            row(text, &fork::COLUMNS.iter().map(|column| (column.text)(fork)).collect::<Vec<_>>());
        }
    });
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

/// Description of an arm, and its differences on every task.
fn one_arm(view: View<'_>, arm: usize, text: &mut String) {
    let about = &view.arms()[arm];
    let _ = writeln!(text, "\n### {}\n", line(&about.title));
    paragraph(text, &line(&about.description));
    if !about.chain.is_empty() {
        paragraph(text, &format!("`{}`", about.chain));
    }
    anchored(&about.name, text, |text| {
        let compared = || columns(view, 0, Form::Arm).filter(|_| arm > 0);
        let mut heads = vec!["task".to_owned()];
        heads.extend(
            if arm == 0 { vec!["value"] } else { vec!["base", "arm"] }.into_iter().map(str::to_owned),
        );
        // Of no task in particular: what differs from one to the other is no column of this table.
        heads.extend(compared().map(|column| (column.head)(view, 0)));
        head(text, &heads);
        for (task, results) in view.tasks() {
            let shown = view.shown(task);
            let value = |arm: usize| shown.summary(view.found(task, arm).value.as_ref());
            let mut cells = vec![format!("{}: {}", results.name, shown.name())];
            cells.extend((arm > 0).then(|| value(0)));
            cells.push(value(arm));
            cells.extend(compared().map(|column| (column.text)(Row { view, task, arm })));
            row(text, &cells);
        }
    });
}

fn diverged(found: &ArmFindings) -> String {
    if found.diverged > 0 { format!(", {} diverged", found.diverged) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_no_row_and_is_no_element() {
        assert_eq!(cell("a | b\n<i> p < 0.001 </i> <- 3<4"), "a \\| b &lt;i> p < 0.001 &lt;/i> <- 3<4");
    }
}
