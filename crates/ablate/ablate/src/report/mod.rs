//! Reports of a study: a page for the browser, Markdown, tables for programs, and a summary for the console.
//!
//! With a study of one factor, one baseline and two seeds (in `execution`):
//!
//! ```
//! use ablate::findings::Findings;
//! use ablate::report::{self, Environment};
//!
//! # use ablate::{execute::Execution, registry::Registry, store::Store, study::{Overrides, Study}};
//! # let text = r#"
//! #     tasks = ["digits"]
//! #     seeds = 2
//! #     length = 0.01
//! #     baselines = ["sgd"]
//! #     tuning = { rates = [0.1], seeds = 1 }
//! #     [[factor]]
//! #     name = "cautious"
//! #     on = { use_cautious = true }
//! # "#;
//! # let registry = Registry::shipped();
//! # let study = Study::parse("mine", text, &registry, &Overrides::default())?;
//! # let folder = tempfile::tempdir()?;
//! # let store = Store::open(folder.path())?;
//! # let execution = Execution::new(&study, &registry, &store);
//! let results = execution.results(&())?;
//! let findings = Findings::of(&results);
//! let environment = Environment { lines: vec![("Machine".into(), "mine".into())], commit: None };
//! report::write(folder.path(), &results, &findings, &environment)?;
//! for file in [
//!     report::HTML_FILE,
//!     report::MARKDOWN_FILE,
//!     report::JSON_FILE,
//!     report::RUNS_FILE,
//!     report::CURVES_FILE,
//!     report::EFFECTS_FILE,
//! ] {
//!     assert!(folder.path().join(file).exists(), "{file}");
//! }
//! assert!(!folder.path().join(report::FORKS_FILE).exists()); // the study has no fork
//! assert!(report::terminal::summary(&results, &findings).contains("Keep in mind"));
//! # Ok::<(), anyhow::Error>(())
//! ```

mod answer;
mod column;
mod curves;
mod data;
mod figure;
mod forest;
mod fork;
mod heat;
mod html;
mod markdown;
pub(crate) mod number;
mod profile;
mod tables;
pub mod terminal;
mod time;
mod view;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

pub(crate) use self::data::RunLine;
use self::view::View;
use crate::findings::Findings;
use crate::results::Results;

/// The report for the browser.
pub const HTML_FILE: &str = "report.html";

/// The report for a repository's pages.
pub const MARKDOWN_FILE: &str = "report.md";

/// Results and findings for programs.
pub const JSON_FILE: &str = "results.json";

/// One line per task, arm and seed.
pub const RUNS_FILE: &str = "runs.csv";

/// One line per run, point and parameter group.
pub const CURVES_FILE: &str = "curves.csv";

/// One line per task and arm.
pub const EFFECTS_FILE: &str = "effects.csv";

/// One line per task, arm and step, of a study with a fork.
pub const FORKS_FILE: &str = "forks.csv";

/// Circumstances that may differ between two executions of the same study.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Environment {
    /// Name and value of each circumstance.
    pub lines: Vec<(String, String)>,
    /// The commit that was checked out.
    pub commit: Option<String>,
}

/// Writes every file of a report into `folder`.
///
/// Everything is a function of the study and the sources, except for the seconds in the JSON file, the section `time`
/// of the page and the last section of the Markdown.
///
/// # Errors
/// A file cannot be written.
pub fn write(folder: &Path, results: &Results, findings: &Findings, environment: &Environment) -> Result<()> {
    let view = View { results, findings };
    let save = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };
    save(JSON_FILE, &data::json(view)?)?;
    save(RUNS_FILE, &data::runs(view)?)?;
    save(CURVES_FILE, &data::curves(view)?)?;
    save(EFFECTS_FILE, &data::effects(view)?)?;
    if view.has_forks() {
        save(FORKS_FILE, &data::forks(view)?)?;
    }
    save(MARKDOWN_FILE, markdown::document(view, environment).as_bytes())?;
    save(HTML_FILE, html::page(view, environment).as_bytes())
}
