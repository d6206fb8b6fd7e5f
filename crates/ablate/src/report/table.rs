//! Tables for the terminal.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table};

use super::number::{Metric, short};
use crate::arm::Arm;
use crate::statistics::PairedDifference;
use crate::summary::{ArmSummary, Findings};

/// Where no terminal says how wide it is.
const WIDTH_IN_FILES: u16 = 120;

fn table() -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none() {
        table.set_width(WIDTH_IN_FILES);
    }
    table
}

/// The arms by name, with what each one is.
pub fn arms(arms: &[Arm]) -> String {
    let mut table = table();
    table.set_header(["arm", "runs as", "what it is"]);
    for arm in arms {
        let mut tuning = if arm.is_tuned() {
            format!("the best of {} settings", arm.candidates.len())
        } else {
            String::from("it is")
        };
        if arm.on_request {
            tuning += ", on request";
        }
        table.add_row([arm.name, &tuning, arm.description]);
    }
    format!("{table}\n")
}

/// What can be combined with what, and in which order.
pub fn rules() -> String {
    let (mut exclusions, mut positions) = (table(), table());
    exclusions.set_header(["option", "excludes", "because"]);
    for rule in prodigy_plus::EXCLUSIONS {
        exclusions.add_row([rule.first, rule.second, rule.reason]);
    }
    positions.set_header(["transform", "belongs", "otherwise"]);
    for rule in prodigy_plus::POSITIONS {
        positions.add_row([rule.transform, rule.place, rule.otherwise]);
    }
    format!("{exclusions}\n{positions}\n")
}

fn difference(metric: Metric, difference: Option<&PairedDifference>) -> Cell {
    let Some(difference) = difference else { return Cell::new("") };
    let text = format!("{}\n{}", metric.difference(difference.mean), metric.interval(difference));
    let cell = Cell::new(text).set_alignment(CellAlignment::Right);
    if difference.is_resolved() { cell.add_attribute(Attribute::Bold) } else { cell }
}

fn name(arm: &ArmSummary) -> String {
    let runs = arm.diverged + arm.accuracy.n;
    if arm.diverged == 0 {
        arm.title.clone()
    } else {
        format!("{}\n{} of {runs} diverged", arm.title, arm.diverged)
    }
}

/// The findings, followed by what limits them.
pub fn findings(findings: &Findings) -> String {
    let mut table = table();
    table.set_header([
        "arm",
        "test accuracy %\nmean ± sd",
        "difference, points\n[95 % interval]",
        "test loss\nmean ± sd",
        "difference\n[95 % interval]",
        "d at the end",
    ]);
    for arm in &findings.arms {
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.add_row([
            Cell::new(name(arm)),
            right(Metric::Accuracy.summary(&arm.accuracy)),
            difference(Metric::Accuracy, arm.accuracy_difference.as_ref()),
            right(Metric::Loss.summary(&arm.loss)),
            difference(Metric::Loss, arm.loss_difference.as_ref()),
            right(arm.d.map_or("–".to_owned(), |d| short(d.mean))),
        ]);
    }
    let caveats: String = findings.caveats.iter().map(|caveat| format!("  • {caveat}\n")).collect();
    format!("{table}\nDifferences are paired by seed, arm minus default.\n\nKeep in mind:\n{caveats}")
}
