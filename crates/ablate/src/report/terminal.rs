//! The findings for the console.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table};

use super::answer::{answer, counted};
use super::number::{p_value, short};
use super::view::{View, sign, word};
use crate::findings::{Findings, Verdict};
use crate::results::Results;

/// Where no terminal says how wide it is.
const WIDTH_IN_FILES: u16 = 120;

/// Some terminals say 0. Below this, broken lines are easier to read than columns of single letters.
const NARROWEST: u16 = 60;

/// A table per task, the answer, and what limits it.
pub fn summary(results: &Results, findings: &Findings) -> String {
    let view = View { results, findings };
    let mut text = format!("{}\n{}\n", results.study.title, counted(view));
    for (task, task_results) in view.tasks() {
        text += &format!("\n{}: {}\n{}\n", task_results.name, view.shown(task).name(), table(view, task));
    }
    text += "\nDifferences are paired by seed, arm minus base; p is corrected over the arms of a task.\n\n";
    for sentence in answer(view) {
        text += &format!("{}. {}\n", sentence.heading, sentence.text);
    }
    text += "\nKeep in mind:\n";
    for caveat in &findings.caveats {
        text += &format!("  • {caveat}\n");
    }
    text
}

fn table(view: View<'_>, task: usize) -> Table {
    let shown = view.shown(task);
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none_or(|width| width < NARROWEST) {
        table.set_width(WIDTH_IN_FILES);
    }
    table.set_header([
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
        let difference =
            found.difference.as_ref().map_or(String::new(), |difference| shown.comparison(difference));
        let verdict = match found.verdict {
            Verdict::Base => Cell::new(""),
            Verdict::Unclear => Cell::new(word(found.verdict)),
            _ => Cell::new(format!("{} {}", sign(found.verdict), word(found.verdict)))
                .add_attribute(Attribute::Bold),
        };
        let diverged =
            if found.diverged > 0 { format!("\n{} diverged", found.diverged) } else { String::new() };
        let steps = found.to_target.as_ref().map_or("–".to_owned(), |steps| {
            format!("{} ({}/{})", steps.median.map_or("–".to_owned(), short), steps.reached, steps.n)
        });
        let d: Vec<String> = found.d.iter().flatten().map(|d| short(*d)).collect();
        table.add_row([
            Cell::new(format!("{}{diverged}", view.arms()[arm].title)),
            right(shown.summary(found.value.as_ref())),
            right(difference),
            right(if arm > 0 { p_value(found.adjusted_p) } else { String::new() }),
            verdict,
            right(steps),
            right(if d.is_empty() { "–".to_owned() } else { d.join(" / ") }),
        ]);
    }
    table
}
