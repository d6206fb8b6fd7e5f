//! Analysis of runs that are finished, whatever trained them: files with a row for every run, or for every evaluation;
//! TensorBoard's event files; exports of Weights & Biases.
//!
//! ```
//! use ablate::analyse::{EventError, Source, WandbError, read};
//! use ablate::findings::{Findings, Verdict};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("runs.csv");
//! let rows = (0..8).map(|seed| format!("adam,{seed},{0}\nlion,{seed},{1}\n", 2.5 + 0.1 * seed as f64, 2.3 + 0.1 * seed as f64));
//! std::fs::write(&path, "optimizer,seed,val_loss\n".to_owned() + &rows.collect::<String>())?;
//! let source = Source { arm: "optimizer".into(), seed: Some("seed".into()), value: "val_loss".into(), ..Source::new(vec![path]) };
//! let results = read(&source)?;
//! assert_eq!((results.arms[0].name.as_str(), results.study.seeds), ("adam", 8));
//! assert_eq!(Findings::of(&results).tasks[0].arms[1].verdict, Verdict::Better);
//!
//! // Event files and exports of W&B have their own types of errors.
//! let path = folder.path().join("events.out.tfevents.1.host");
//! std::fs::write(&path, [0; 20])?;
//! let error = read(&Source::new(vec![path])).unwrap_err();
//! assert!(matches!(error.downcast_ref(), Some(EventError::Checksum { record: 1, part: "length", .. })));
//! let path = folder.path().join("wandb.csv");
//! std::fs::write(&path, "Step,a - x,a - x__MIN,a - x__MAX,a - x,a - x__MIN,a - x__MAX\n")?;
//! let error = read(&Source::new(vec![path])).unwrap_err();
//! assert_eq!(error.downcast_ref(), Some(&WandbError::SameName("a - x".into())));
//! # Ok::<(), anyhow::Error>(())
//! ```

mod events;
mod name;
mod table;
mod wandb;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ablate_tasks::{About, Measure, unknown};
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

pub use self::events::EventError;
pub use self::name::Pattern;
use self::table::{FILE, RUN, Row, STEP, rows};
pub use self::wandb::WandbError;
use crate::command::Transcript;
use crate::results::{Arm, ArmRuns, Matters, Origin, Results, Role, Run, StudyInfo, TaskResults};

/// Files of runs, and the meaning of their columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Tables with commas or tabs, JSON lines, exports of W&B; event files, or folders with a folder of these for every
    /// run.
    pub files: Vec<PathBuf>,
    /// The column of arms.
    pub arm: String,
    /// The column of the values by which arms are compared.
    pub value: String,
    /// The column of tasks; without it, there is one task.
    pub task: Option<String>,
    /// The column of seeds; without it, runs have no pairs.
    pub seed: Option<String>,
    /// The column of runs, if neither seeds nor files distinguish them. Event files and exports of W&B have one, `run`.
    pub run: Option<String>,
    /// Pattern of the names of runs, or of files if runs have no names. Its placeholders are further columns.
    pub name: Option<Pattern>,
    /// The column of steps, if a run has a row for every evaluation; its last row counts. Event files and exports of
    /// W&B have one, `step`.
    pub step: Option<String>,
    /// The arm with which the others are compared; without it, the first one.
    pub base: Option<String>,
    /// Kind of the values.
    pub measure: Measure,
    /// The smallest difference that matters.
    pub matters: Option<f64>,
}

impl Source {
    /// Losses of arms by file: to be changed.
    pub fn new(files: Vec<PathBuf>) -> Self {
        Self {
            files,
            arm: FILE.to_owned(),
            value: "loss".to_owned(),
            task: None,
            seed: None,
            run: None,
            name: None,
            step: None,
            base: None,
            measure: Measure::Loss,
            matters: None,
        }
    }
}

/// The rows of a run, in their order; of a task, by arm and run.
type Runs = Vec<(String, Vec<Row>)>;
type Arms = BTreeMap<String, Runs>;

/// The runs of files, as if a study had done them.
///
/// # Errors
/// A file that cannot be read, a column that isn't there, a value that is no number, or two rows of a run without
/// steps.
pub fn read(source: &Source) -> Result<Results> {
    let (mut all, mut notes, mut have_names) = (Vec::new(), Vec::new(), false);
    for file in &source.files {
        let found = rows(file, &mut notes)?;
        have_names |= found.has_names;
        all.extend(found.rows);
    }
    ensure!(!all.is_empty(), "there are no rows in the files");
    let mut source = source.clone();
    if have_names {
        source.run.get_or_insert_with(|| RUN.to_owned());
        source.step.get_or_insert_with(|| STEP.to_owned());
    }
    let source = &source;
    if let Some(pattern) = &source.name {
        let column = source.run.as_deref().unwrap_or(FILE);
        all.iter_mut().try_for_each(|row| pattern.add(column, row))?;
    }
    columns_are_there(source, &all)?;
    let names = arms(source, &all)?;
    let mut tasks: Vec<(String, Arms)> = Vec::new();
    for row in all {
        place(source, row, &mut tasks)?;
    }
    let tasks = tasks.into_iter().map(|(name, arms)| task(source, &name, &arms, &names, &notes));
    let tasks = tasks.collect::<Result<Vec<_>>>()?;
    let seeds = tasks.iter().flat_map(|task| &task.arms).map(|arm| arm.runs.len()).max().unwrap_or(0);
    Ok(Results {
        study: info(source, seeds),
        versions: crate::versions::versions(false),
        code: String::new(),
        arms: names.iter().enumerate().map(|(index, name)| arm(name, index == 0)).collect(),
        refused: Vec::new(),
        tasks,
    })
}

fn columns_are_there(source: &Source, rows: &[Row]) -> Result<()> {
    let Source { arm, value, task, seed, run, step, .. } = source;
    let others = [task, seed, run, step].into_iter().flatten();
    for column in [arm, value].into_iter().chain(others) {
        if rows.iter().all(|row| !row.contains_key(column)) {
            let mut known: Vec<&str> = rows.iter().flat_map(|row| row.keys().map(String::as_str)).collect();
            known.sort_unstable();
            known.dedup();
            return Err(unknown("column", column, &known));
        }
    }
    Ok(())
}

/// The arms in the order of the rows, the base first.
fn arms(source: &Source, rows: &[Row]) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for name in rows.iter().filter_map(|row| row.get(&source.arm)) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    if let Some(base) = &source.base {
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        let index = names.iter().position(|name| name == base);
        let index = index.ok_or_else(|| unknown("arm", base, &known))?;
        names[..=index].rotate_right(1);
    }
    ensure!(names.len() > 1, "there is one arm, {}, and nothing to compare it with", names.join(""));
    Ok(names)
}

/// Puts a row to the others of its run.
fn place(source: &Source, row: Row, tasks: &mut Vec<(String, Arms)>) -> Result<()> {
    // Rows of something else that the files have, too.
    let (Some(arm), true) = (row.get(&source.arm), row.contains_key(&source.value)) else { return Ok(()) };
    let of_task = source.task.as_ref().map_or(Some("runs"), |column| row.get(column).map(String::as_str));
    let Some(of_task) = of_task else { return Ok(()) };
    // Without seeds, a run of several rows is a file.
    let file = FILE.to_owned();
    let of_run = source.seed.as_ref().or(source.run.as_ref()).or(source.step.as_ref().map(|_| &file));
    let run = of_run.map(|column| row.get(column).with_context(|| format!("a row of {arm} has no {column}")));
    let run = run.transpose()?.cloned().unwrap_or_default();
    let position = tasks.iter().position(|(name, _)| name == of_task).unwrap_or_else(|| {
        tasks.push((of_task.to_owned(), Arms::new()));
        tasks.len() - 1
    });
    let runs = tasks[position].1.entry(arm.clone()).or_default();
    let is_new = of_run.is_none();
    match runs.iter_mut().find(|(name, _)| !is_new && *name == run) {
        None => runs.push((run, vec![row])),
        Some((_, rows)) if source.step.is_some() => {
            // Two runs of a seed must not become one.
            let name = |row: &Row| source.run.as_ref().and_then(|column| row.get(column)).cloned();
            if let (Some(one), Some(other)) = (rows.first().and_then(name), name(&row))
                && one != other
            {
                bail!(
                    "arm {arm} has two runs of seed {run}: {one} and {other}; leave one of them out, or tell them apart by a place of --name"
                );
            }
            rows.push(row);
        }
        Some(_) => bail!(
            "there are two rows of arm {arm} with {} {run}{}; name the column of steps (--step), if they are evaluations of a run",
            of_run.map_or("", String::as_str),
            source.task.as_ref().map_or(String::new(), |_| format!(" on {of_task}"))
        ),
    }
    Ok(())
}

fn task(source: &Source, name: &str, arms: &Arms, names: &[String], notes: &[String]) -> Result<TaskResults> {
    let missing: Vec<&str> =
        names.iter().filter(|name| !arms.contains_key(*name)).map(String::as_str).collect();
    ensure!(
        missing.is_empty(),
        "{name} has no run of {}; leave the task or these arms out of the files",
        missing.join(", ")
    );
    // A seed is the same for all arms, and a number where it is one.
    let mut seeds: Vec<&str> =
        names.iter().flat_map(|name| arms[name].iter().map(|(seed, _)| seed.as_str())).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let number = |seed: &str, index: usize| match seed.parse::<u64>() {
        Ok(number) => number,
        Err(_) => seeds.binary_search(&seed).unwrap_or(index) as u64,
    };
    let mut found = Vec::new();
    for arm in names {
        let mut runs = Vec::new();
        for (index, (seed, rows)) in arms[arm].iter().enumerate() {
            let run = run(source, rows).with_context(|| format!("{name}, arm {arm}, run {seed}"))?;
            let seed = if source.seed.is_some() { number(seed, index) } else { index as u64 };
            runs.push(Run::of(seed, run));
        }
        runs.sort_by_key(|run| run.seed);
        found.push(ArmRuns { tuning: None, runs });
    }
    let pairs_with = |arm: &ArmRuns| {
        arm.runs.iter().filter(|run| found[0].runs.iter().any(|base| base.seed == run.seed)).count()
    };
    let is_paired = source.seed.is_some() && found[1..].iter().all(|arm| pairs_with(arm) > 1);
    let steps = found.iter().flat_map(|arm| &arm.runs).map(|run| run.record.steps).max().unwrap_or(0);
    Ok(TaskResults {
        name: name.to_owned(),
        about: About {
            description: format!("Runs of {}, of which {} was read.", files(source), source.value),
            reason: String::new(),
            measure: source.measure,
            target: 0.0,
            test_examples: None,
            steps,
        },
        options: json!({}),
        steps,
        target: None,
        matters: source.matters.map(Matters::Difference),
        groups: Vec::new(),
        arms: found,
        forks: Vec::new(),
        launched: None,
        read: Some(Origin { files: source.files.len(), is_paired, notes: notes.to_vec() }),
    })
}

/// The run, as if a command had written it.
fn run(source: &Source, rows: &[Row]) -> Result<crate::measured::Measured> {
    let mut steps = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let step = match source.step.as_ref().and_then(|column| row.get(column)) {
            None => index as f64,
            Some(text) => text.parse().with_context(|| format!("step {text:?} is no number"))?,
        };
        let text = &row[&source.value];
        let value: f64 = text.parse().with_context(|| format!("{} {text:?} is no number", source.value))?;
        steps.push((step, value));
    }
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut transcript = Transcript::new(source.measure, ablate_tasks::Split::Test);
    for (step, value) in steps {
        ensure!((0.0..1e15).contains(&step), "step {step}: a number from 0 on");
        let shown = if value.is_finite() { json!(value) } else { json!(value.to_string()) };
        let mut line = json!({ "step": step.round(), "split": "validation" });
        match source.measure {
            // Of accuracies there is no loss but their rest.
            Measure::Accuracy => {
                line["accuracy"] = shown;
                line["loss"] = if value.is_finite() { json!(1.0 - value) } else { json!("NaN") };
            }
            Measure::Loss | Measure::LogLoss => line["loss"] = shown,
        }
        if transcript.has_diverged() {
            break;
        }
        transcript.line(&line.to_string(), 0.0)?;
    }
    transcript.finish()
}

fn files(source: &Source) -> String {
    match source.files.as_slice() {
        [one] => one.display().to_string(),
        several => format!("{} files", several.len()),
    }
}

fn arm(name: &str, is_base: bool) -> Arm {
    Arm {
        name: name.to_owned(),
        title: name.to_owned(),
        description: if is_base { "All other arms are compared with it." } else { "" }.to_owned(),
        role: if is_base { Role::Base } else { Role::Changed },
        factors: Vec::new(),
        chain: String::new(),
        options: Vec::new(),
    }
}

fn info(source: &Source, seeds: usize) -> StudyInfo {
    let first = source.files.first().and_then(|file| file.file_stem());
    let name = first.map_or_else(|| "runs".to_owned(), |stem| stem.to_string_lossy().into_owned());
    StudyInfo {
        title: format!("Runs of {}", files(source)),
        name,
        question: String::new(),
        design: "runs that were finished".to_owned(),
        factors: Vec::new(),
        seeds,
        sequential: false,
        tuning_seeds: 0,
        evaluations: 0,
        text: format!("{source:#?}"),
        arms_left_out: Vec::new(),
        tasks_left_out: Vec::new(),
        earlier_seeds: Vec::new(),
    }
}
