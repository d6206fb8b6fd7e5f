//! `ablate analyse`: the report of runs that others did.

use std::path::{Path, PathBuf};

use ablate_tasks::Measure;
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::analyse::{Pattern, Source, read};
use crate::findings::Findings;
use crate::folder::Folder;
use crate::report::{self, Environment};

/// The files, and what their columns mean.
#[derive(Args)]
pub(super) struct Columns {
    /// Tables with commas or tabs, JSON lines, exports of W&B; TensorBoard's event files, or its --logdir
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The column of arms; it can be left out where --name has an {arm}
    #[arg(long, value_name = "COLUMN")]
    arm: Option<String>,
    /// The column by which arms are compared: in event files the tag, in exports of W&B the metric
    #[arg(long, value_name = "COLUMN")]
    value: String,
    /// Pattern of the names of runs, or of their files: "{arm}/seed{seed}". The text in each place becomes a column of
    /// that name; {arm}, {seed} and {task} are the arm, the seed and the task
    #[arg(long, value_name = "PATTERN")]
    name: Option<Pattern>,
    /// The column of tasks; without it, there is one task
    #[arg(long, value_name = "COLUMN")]
    task: Option<String>,
    /// The column of seeds; without it, runs are not paired
    #[arg(long, value_name = "COLUMN")]
    seed: Option<String>,
    /// The column of runs, where neither seeds nor files tell them apart
    #[arg(long, value_name = "COLUMN")]
    run: Option<String>,
    /// The column of steps, where a run has a row for every evaluation
    #[arg(long, value_name = "COLUMN")]
    step: Option<String>,
    /// The arm that the others are compared with; without it, the first one of the files
    #[arg(long, value_name = "ARM")]
    base: Option<String>,
    /// Kind of the values: accuracies are shares of 1, and higher is better
    #[arg(long, value_enum, default_value_t = Kind::Loss)]
    measure: Kind,
    /// The smallest difference that matters, in the unit of the values
    #[arg(long, value_name = "X")]
    matters: Option<f64>,
    /// The folder of the report [default: ablation/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Loss,
    LogLoss,
    Accuracy,
}

pub(super) fn analyse(columns: Columns) -> Result<String> {
    let Columns { files, arm, value, name, task, seed, run, step, base, measure, matters, out } = columns;
    ensure!(matters.is_none_or(|size| size.is_finite() && size > 0.0), "--matters: a difference above 0");
    let measure = match measure {
        Kind::Loss => Measure::Loss,
        Kind::LogLoss => Measure::LogLoss,
        Kind::Accuracy => Measure::Accuracy,
    };
    let place = |place: &str| name.as_ref().filter(|name| name.has(place)).map(|_| place.to_owned());
    let arm = arm.or_else(|| place("arm")).context(
        "which column has the arms? Name it (--arm), or say how runs are named (--name \"{arm}/seed{seed}\")",
    )?;
    let (task, seed) = (task.or_else(|| place("task")), seed.or_else(|| place("seed")));
    let results = read(&Source { files, arm, value, name, task, seed, run, step, base, measure, matters })?;
    let findings = Findings::of(&results);
    let folder = Folder::take(&out.unwrap_or_else(|| Path::new("ablation").join(&results.study.name)))?;
    folder
        .keep_study(&format!("# Runs that were read from files: no study.\n# {}\n", results.study.title))?;
    let lines = vec![("Read".to_owned(), "from files; nothing was trained".to_owned())];
    folder.write_report(&results, &findings, &Environment { lines, commit: None })?;
    let page = folder.path().join(report::HTML_FILE);
    Ok(format!("{}\nThe report: {}\n", report::terminal::summary(&results, &findings), page.display()))
}
