//! What a study leaves behind: a table for the terminal, a page for the browser, and the raw results.

mod curves;
mod data;
mod figure;
mod forest;
mod html;
mod number;
pub mod table;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::output::RESULTS_FILE;
use crate::study::Results;
use crate::summary::Findings;

/// The report for the browser.
pub const HTML_FILE: &str = "report.html";

/// One line per run.
pub const RUNS_FILE: &str = "runs.csv";

/// One line per run and epoch.
pub const CURVES_FILE: &str = "curves.csv";

/// Writes every file of a report into `folder`.
pub fn write(folder: &Path, results: &Results, findings: &Findings) -> Result<()> {
    let save = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };
    save(RESULTS_FILE, &data::json(results, findings)?)?;
    save(RUNS_FILE, &data::runs_csv(results)?)?;
    save(CURVES_FILE, &data::curves_csv(results)?)?;
    save(HTML_FILE, html::page(results, findings).as_bytes())
}
