//! The worst errors by what a case exercises, as a table.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::case::{Case, Precision};
use crate::replay::Verdict;

/// The worst errors of the cases that exercise one thing.
#[derive(Debug, Default)]
pub struct Table {
    rows: BTreeMap<String, Row>,
}

#[derive(Debug, Default)]
struct Row {
    cases: usize,
    failed: usize,
    y: f64,
    x: f64,
    d: f64,
    /// The largest error as a share of what passes.
    share: f64,
}

impl Table {
    /// Adds a float32 case's errors to the rows of every option that it sets, in the constructor or in a group.
    /// bfloat16 cases, whose errors are those of the rounding, go into a row of their own.
    pub fn add(&mut self, case: &Case, verdict: &Verdict) {
        let description = &case.description;
        let mut names: Vec<String> = match description.dtype {
            Precision::Bfloat16 => vec!["bfloat16 parameters".into()],
            Precision::Float32 => {
                let groups = description.groups.iter().map(|group| &group.overrides);
                std::iter::once(&description.options)
                    .chain(groups)
                    .flatten()
                    .map(|(n, v)| label(n, v))
                    .collect()
            }
        };
        if names.is_empty() {
            names.push("default options".into());
        }
        names.sort();
        names.dedup();
        for name in names {
            let row = self.rows.entry(name).or_default();
            row.cases += 1;
            row.failed += usize::from(!verdict.passed);
            row.y = row.y.max(verdict.y);
            row.x = row.x.max(verdict.x);
            row.d = row.d.max(verdict.d);
            row.share = row.share.max(verdict.y.max(verdict.x).max(verdict.d) / verdict.tol);
        }
    }

    /// The table in Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::from(
            "| cases with | passed | worst y | worst x | worst d | worst share of the tolerance |\n\
             | --- | --- | --- | --- | --- | --- |\n",
        );
        for (name, row) in &self.rows {
            text += &format!(
                "| `{name}` | {} of {} | {:.1e} | {:.1e} | {:.1e} | {:.0} % |\n",
                row.cases - row.failed,
                row.cases,
                row.y,
                row.x,
                row.d,
                100.0 * row.share
            );
        }
        text
    }
}

/// `name=value` for switches, the name alone for numbers.
fn label(name: &str, value: &Value) -> String {
    match value {
        Value::Bool(value) => format!("{name}={value}"),
        Value::Null => format!("{name}=None"),
        _ => name.to_owned(),
    }
}
