//! The findings for the console.

use comfy_table::{Attribute, Cell, CellAlignment};

use super::answer::{answer, counted};
use super::number::{p_value, short};
use super::view::{View, word};
use crate::columns::Columns;
use crate::findings::{Findings, Verdict};
use crate::results::Results;

/// A table per task, the answer, and what limits it.
pub fn summary(results: &Results, findings: &Findings) -> String {
    let view = View { results, findings };
    let mut text = format!("{}\n{}\n", results.study.title, counted(view));
    for (task, task_results) in view.tasks() {
        text += &format!("\n{}: {}\n{}\n", task_results.name, view.shown(task).name(), table(view, task));
    }
    text += "\nDifferences are paired by seed, arm minus base; p is corrected over the arms of a task (step-down max-T).\n\n";
    for sentence in answer(view) {
        text += &format!("{}. {}\n", sentence.heading, sentence.text);
    }
    text += "\nKeep in mind:\n";
    for caveat in &findings.caveats {
        text += &format!("  • {caveat}\n");
    }
    text
}

fn table(view: View<'_>, task: usize) -> String {
    let shown = view.shown(task);
    let mut table = Columns::new([
        "arm",
        "mean ± sd",
        "difference [95 % interval]",
        "p",
        "",
        "steps to target (reached)",
        "d at the end",
    ]);
    for arm in std::iter::once(0).chain(view.compared()) {
        let found = view.found(task, arm);
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let verdict = match found.verdict {
            // There is little room, and no sign is missed.
            Verdict::Unclear => Cell::new(word(found.verdict)),
            _ => Cell::new(view.verdict_alone(task, arm)).add_attribute(Attribute::Bold),
        };
        let diverged =
            if found.diverged > 0 { format!("\n{} diverged", found.diverged) } else { String::new() };
        let steps = view.steps_to_target(task, arm);
        let d: Vec<String> = found.d.iter().flatten().map(|d| short(*d)).collect();
        table.add_row([
            Cell::new(format!("{}{diverged}", view.arms()[arm].title)),
            right(shown.summary(found.value.as_ref())),
            right(view.comparison(task, arm)),
            right(if arm > 0 { p_value(found.adjusted_p) } else { String::new() }),
            verdict,
            right(steps),
            right(if d.is_empty() { "–".to_owned() } else { d.join(" / ") }),
        ]);
    }
    table.shown()
}
