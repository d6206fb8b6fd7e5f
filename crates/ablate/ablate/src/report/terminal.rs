//! Findings of a study as text for the console.
//!
//! ```
//! use ablate::analyse::{Source, read};
//! use ablate::findings::Findings;
//! use ablate::report::terminal::summary;
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("runs.csv");
//! let rows: String = (0..6).map(|seed| format!("adam,{seed},2.{seed}\nlion,{seed},1.{seed}\n")).collect();
//! std::fs::write(&path, format!("arm,seed,loss\n{rows}"))?;
//! let results = read(&Source { arm: "arm".into(), seed: Some("seed".into()), ..Source::new(vec![path]) })?;
//! let text = summary(&results, &Findings::of(&results));
//! assert!(text.contains("2 arms, 6 seeds") && text.contains("▲ better"));
//! assert!(text.contains("−1.00 [")); // this table has the sign of arm minus base
//! # Ok::<(), anyhow::Error>(())
//! ```

use comfy_table::{Attribute, Cell, CellAlignment};

use super::answer::{answer, counted};
use super::column::{Column, Form, Row, Style, columns};
use super::fork;
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
    for (task, task_results) in view.tasks().filter(|(task, _)| fork::rows(view, *task).next().is_some()) {
        text += &format!(
            "\n{}: arms that go on from the base's state\n{}\n",
            task_results.name,
            forks(view, task)
        );
    }
    let (kind, correction) =
        if view.is_paired() { ("paired by seed, ", "step-down max-T") } else { ("", "after Holm") };
    text += &format!(
        "\nDifferences are {kind}arm minus base; p is corrected over the arms of a task ({correction}).\n\n"
    );
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
    let columns = || columns(view, task, Form::Terminal);
    let heads: Vec<String> = columns().map(|column| (column.head)(view, task)).collect();
    let mut table = Columns::of(heads);
    for arm in std::iter::once(0).chain(view.compared()) {
        table.add_row(columns().map(|column| cell(column, Row { view, task, arm })));
    }
    table.shown()
}

fn forks(view: View<'_>, task: usize) -> String {
    let mut table = Columns::of(fork::COLUMNS.iter().map(|column| (column.head)(view, task)).collect());
    for row in fork::rows(view, task) {
        table.add_row(fork::COLUMNS.iter().map(|column| {
            let alignment = if column.is_number { CellAlignment::Right } else { CellAlignment::Left };
            Cell::new((column.text)(row)).set_alignment(alignment)
        }));
    }
    table.shown()
}

fn cell(column: &Column, row: Row<'_>) -> Cell {
    let Row { view, task, arm } = row;
    let found = view.found(task, arm);
    let text = (column.text)(row);
    match column.style {
        // Where there is little room, a line of its own.
        Style::Arm if found.diverged > 0 => Cell::new(format!("{text}\n{} diverged", found.diverged)),
        Style::Arm => Cell::new(text),
        Style::Verdict if found.verdict == Verdict::Unclear => Cell::new(word(found.verdict)),
        Style::Verdict => Cell::new(view.verdict_alone(task, arm)).add_attribute(Attribute::Bold),
        Style::Number | Style::Difference => Cell::new(text).set_alignment(CellAlignment::Right),
    }
}
