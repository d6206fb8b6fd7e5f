//! Task that is a command: a script in any language that prints its measurements as JSON objects, one a line.
//!
//! ```
//! use ablate::command::{CommandEntry, CommandTask};
//! use ablate::registry::Registry;
//! use ablate::study::{Overrides, Study, Training};
//!
//! let text = r#"
//!     [[tasks]]
//!     command = ["python3", "train.py", "--seed={seed}", "--{option}={value}"]
//!     sources = []
//!     steps = 100
//!     [base]
//!     lr = 0.1
//! "#;
//! let study = Study::parse("script", text, &Registry::shipped(), &Overrides::default())?;
//! let Training::Command(task) = &study.tasks[0].training else { panic!("it is a command") };
//! let task: &CommandTask = task;
//! let CommandEntry { command, cores, .. } = task.entry();
//! assert_eq!((command.len(), *cores), (4, 1));
//! assert_eq!(task.sources(), None); // none is named
//!
//! let text = text.replace("--{option}={value}", "--rate=0.1");
//! let error = Study::parse("script", &text, &Registry::shipped(), &Overrides::default()).err().unwrap();
//! assert!(format!("{error:#}").contains("option lr does not reach the command"));
//! # Ok::<(), anyhow::Error>(())
//! ```

mod attempt;
mod entry;
mod listener;
mod log;
mod process;
mod resources;
mod running;
mod said;
mod sources;
mod template;
mod transcript;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ablate_tasks::{About, Split};
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};

use self::attempt::Attempt;
pub(crate) use self::attempt::saved;
pub use self::entry::CommandEntry;
use self::listener::Listener;
use self::process::{Ended, Limits, Source};
pub(crate) use self::resources::Resources;
pub(crate) use self::running::kill_all;
use self::template::{fill, places};
pub(crate) use self::transcript::Transcript;
use crate::measured::Measured;
use crate::optimizer::{Change, Setting};
use crate::record::Point;
use crate::run::Next;
use crate::store::{CommandKey, Store};

/// The options' names and values, one after the other.
const EACH: [&str; 2] = ["option", "value"];
/// A file of all options.
const FILES: [&str; 2] = ["options.json", "options.toml"];
/// Placeholders of a run other than its options.
const OWN: [&str; 4] = ["seed", OUT, "steps", CHECKPOINT];
/// The file to write to.
const OUT: &str = "out";
/// The folder for the program's own checkpoints.
const CHECKPOINT: &str = "checkpoint";
/// The candidate of a tuned arm, which are options there.
const TUNED: [&str; 2] = ["learning_rate", "schedule"];

/// Exit status of a command that a scheduler has stopped and should queue again: EX_TEMPFAIL of sysexits.h.
pub(crate) const QUEUE_AGAIN: u8 = 75;

/// A command that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandTask {
    entry: CommandEntry,
    /// Folder of the study file, in which the command runs.
    folder: PathBuf,
    sources: String,
    patterns: Vec<String>,
    inherited: BTreeMap<String, Option<String>>,
}

/// Values that one run gets.
#[derive(Clone, Copy)]
pub(crate) struct Assignment<'a> {
    /// The arm's options.
    pub(crate) options: &'a Map<String, Value>,
    pub(crate) setting: Option<Setting>,
    pub(crate) seed: u64,
    pub(crate) steps: usize,
    pub(crate) final_split: Split,
    /// 0, or the number of the repetition.
    pub(crate) repeat: usize,
}

/// Message of a run's command.
pub(crate) enum Heard<'h> {
    /// It begins, or begins again after a failure.
    Begun,
    /// Numbers of a line, by name, and its step.
    Numbers(usize, &'h [(String, f64)]),
    /// A point of the curves.
    Point(&'h Point),
}

/// Place where a run may write.
pub(crate) struct Place<'a> {
    /// The store, and the run's address in it.
    pub(crate) store: &'a Store,
    pub(crate) address: &'a str,
}

impl Place<'_> {
    /// File of the command's other output, of all attempts one after the other.
    fn log(&self) -> PathBuf {
        self.store.path(self.address, "log")
    }
}

impl CommandTask {
    /// The command of an entry, in a study file's folder.
    ///
    /// # Errors
    /// Something that no command can have, or sources that aren't there.
    pub(crate) fn new(entry: &CommandEntry, folder: &Path) -> Result<Self> {
        ensure!(!entry.command.is_empty(), "`command` is empty: it is a program and its arguments");
        let patterns = entry.sources.clone().context(
            "`sources` is missing: name the files that determine a run, so that a run of an older script is not taken for one of this one, or \
             [] where there are none",
        )?;
        let is_time = |seconds: f64| Duration::try_from_secs_f64(seconds).is_ok();
        if let Some(limit) = entry.time_limit {
            ensure!(limit > 0.0 && is_time(limit), "time_limit = {limit}: seconds, above 0");
        }
        ensure!(is_time(entry.grace), "grace = {}: seconds, at least 0", entry.grace);
        ensure!(
            entry.cores > 0 || !entry.gpus.is_empty(),
            "cores = 0: only a run that has a device (`gpus`) may take no core"
        );
        for (index, gpu) in entry.gpus.iter().enumerate() {
            ensure!(!entry.gpus[..index].contains(gpu), "`gpus` names {gpu:?} twice");
        }
        for name in entry.environment.keys() {
            ensure!(
                !name.is_empty() && !name.contains(['=', '\0']),
                "`environment`: {name:?} is no name of a variable"
            );
        }
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let variable = |name: &String| {
            (name.clone(), std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
        };
        Ok(Self {
            sources: sources::digest(folder, &patterns)?,
            patterns,
            inherited: entry.inherited.iter().map(variable).collect(),
            folder: folder.to_owned(),
            entry: entry.clone(),
        })
    }

    /// Entry of the study file.
    pub fn entry(&self) -> &CommandEntry {
        &self.entry
    }

    /// SHA-256 of the sources, as they were when the study was read; nothing where none is named.
    pub fn sources(&self) -> Option<&str> {
        (!self.patterns.is_empty()).then_some(&self.sources)
    }

    /// For reports.
    pub(crate) fn about(&self, steps: usize) -> About {
        let CommandEntry { command, description, reason, measure, test_examples, .. } = &self.entry;
        let description = if description.is_empty() {
            format!("The command {}.", command.join(" "))
        } else {
            description.clone()
        };
        // A command has no target of its own, and a study says whether there is one.
        About {
            description,
            reason: reason.clone(),
            measure: *measure,
            target: 0.0,
            test_examples: *test_examples,
            steps,
        }
    }

    /// That every option of an arm has a place, and every place a value.
    ///
    /// # Errors
    /// One that hasn't.
    pub(crate) fn check(&self, options: &Map<String, Value>, setting: Option<Setting>) -> Result<()> {
        let assignment =
            Assignment { options, setting, seed: 0, steps: 1, final_split: Split::Test, repeat: 0 };
        self.filled(&assignment, &|name| Ok(Some(format!("/{name}")))).map(drop)
    }

    /// Everything that determines a run.
    pub(crate) fn key<'a>(&'a self, assignment: &Assignment<'a>) -> CommandKey<'a> {
        CommandKey {
            command: &self.entry.command,
            environment: &self.entry.environment,
            inherited: &self.inherited,
            cores: self.entry.cores,
            sources: &self.sources,
            task: &self.entry.options,
            options: assignment.options,
            setting: assignment.setting,
            seed: assignment.seed,
            steps: assignment.steps,
            final_split: assignment.final_split,
            repeat: assignment.repeat,
        }
    }

    fn options(&self, assignment: &Assignment<'_>) -> Map<String, Value> {
        let mut options = self.entry.options.clone();
        options.extend(assignment.options.clone());
        if let Some(Setting { learning_rate, schedule }) = assignment.setting {
            options.insert(TUNED[0].to_owned(), learning_rate.into());
            options.insert(TUNED[1].to_owned(), serde_json::to_value(schedule).unwrap_or_default());
        }
        options
    }

    /// The arguments, and the variables of the environment. `file` gives the path of `out`, of `checkpoint`, and of
    /// files of options.
    fn filled(
        &self,
        assignment: &Assignment<'_>,
        file: &dyn Fn(&str) -> Result<Option<String>>,
    ) -> Result<(Vec<String>, BTreeMap<String, String>)> {
        let CommandEntry { command, environment, .. } = &self.entry;
        let options = self.options(assignment);
        for name in options.keys() {
            let is_taken = OWN.iter().chain(&EACH).chain(&FILES).any(|taken| taken == name);
            ensure!(!is_taken, "option {name}: the name is taken by the place {{{name}}} of a command");
        }
        let templates = || command.iter().chain(environment.keys()).chain(environment.values());
        let placed: BTreeSet<&str> = templates().flat_map(|template| places(template)).collect();
        let whole = EACH.iter().chain(&FILES).any(|name| placed.contains(name));
        for name in options.keys() {
            ensure!(
                whole || placed.contains(name.as_str()),
                "option {name} does not reach the command: write {{{name}}} where it belongs, or \"--{{option}}={{value}}\" for every option, or \
                 {{options.json}} for a file of them"
            );
        }
        let mut files = BTreeMap::new();
        for name in FILES.into_iter().chain([OUT, CHECKPOINT]).filter(|name| placed.contains(name)) {
            files.insert(name, file(name)?);
        }
        let value_of = |name: &str| match name {
            "seed" => Some(assignment.seed.to_string()),
            "steps" => Some(assignment.steps.to_string()),
            name if files.contains_key(name) => files.get(name).cloned().flatten(),
            name => options.get(name).map(shown),
        };
        let is_each = |template: &str| places(template).any(|place| EACH.contains(&place));
        let rest = || options.iter().filter(|(name, _)| !placed.contains(name.as_str()));
        let for_option = |template: &str, (option, value): (&String, &Value)| {
            fill(template, |name| match name {
                "option" => Some(option.clone()),
                "value" => Some(shown(value)),
                name => value_of(name),
            })
        };
        let mut arguments = Vec::new();
        for template in command {
            if is_each(template) {
                for option in rest() {
                    arguments.push(for_option(template, option)?);
                }
            } else {
                arguments.push(fill(template, value_of)?);
            }
        }
        let mut variables = BTreeMap::new();
        for (name, value) in environment {
            if is_each(name) || is_each(value) {
                for option in rest() {
                    variables.insert(for_option(name, option)?, for_option(value, option)?);
                }
            } else {
                variables.insert(fill(name, value_of)?, fill(value, value_of)?);
            }
        }
        Ok((arguments, variables))
    }

    /// Runs once, and again where that fails and may be tried again, or asks for it; nothing where the study stops.
    ///
    /// # Errors
    /// It failed every time, or its sources have changed since the study was read.
    pub(crate) fn run(
        &self,
        assignment: &Assignment<'_>,
        resources: &Resources,
        place: &Place<'_>,
        hear: &mut dyn FnMut(Heard<'_>),
        go_on: &dyn Fn() -> Next,
    ) -> Result<Option<Measured>> {
        let CommandEntry { cores, gpus, retries, .. } = &self.entry;
        let (mut tried, mut latest) = (1, None);
        loop {
            let Some(share) = resources.take(*cores, gpus, go_on) else { return Ok(None) };
            self.check_sources()?;
            let error = match self.run_once(assignment, share.gpu(), place, hear, go_on) {
                Ok(End::Measured(measured)) => {
                    self.check_sources()?;
                    return Ok(Some(*measured));
                }
                Ok(End::Stopped) => return Ok(None),
                // Each continues from a later step, so that this ends.
                Ok(End::Again { from }) if from > latest => {
                    latest = from;
                    continue;
                }
                Ok(End::Again { .. }) => anyhow!(
                    "the command asked to be started again (exit status {QUEUE_AGAIN}), and had come no further since it was started; all that it said is in {}",
                    place.log().display()
                ),
                Err(error) => error,
            };
            if tried > *retries {
                let tries = if tried > 1 { format!(", the last of {tried} tries") } else { String::new() };
                return Err(error.context(format!("seed {}{tries}", assignment.seed)));
            }
            tried += 1;
        }
    }

    fn check_sources(&self) -> Result<()> {
        let now = sources::digest(&self.folder, &self.patterns)?;
        if now == self.sources {
            return Ok(());
        }
        Err(SourcesChanged.into())
    }

    fn run_once(
        &self,
        assignment: &Assignment<'_>,
        gpu: Option<&str>,
        place: &Place<'_>,
        hear: &mut dyn FnMut(Heard<'_>),
        go_on: &dyn Fn() -> Next,
    ) -> Result<End> {
        let work = place.store.work_folder(place.address)?;
        let log_path = place.log();
        let writes_file = self.writes_file();
        // The command runs in another folder.
        let work_folder = std::path::absolute(work.path())?;
        let kept = if self.has_place(CHECKPOINT) {
            let all = std::path::absolute(place.store.attempts(place.address))?;
            Some(Attempt::begin(&all, if writes_file { |_| true } else { is_object })?)
        } else {
            None
        };
        let checkpoint = kept.as_ref().map(Attempt::checkpoint);
        let goes_on = kept.as_ref().is_some_and(Attempt::has_checkpoint);
        let lines = kept.as_ref().map_or_else(|| work_folder.join("lines.jsonl"), Attempt::lines);
        let (arguments, variables) = self.filled(assignment, &|name| {
            let path = match name {
                OUT => lines.clone(),
                CHECKPOINT => checkpoint.clone().unwrap_or_default(),
                name => work_folder.join(name),
            };
            let options = || self.options(assignment);
            match name {
                "options.json" => fs::write(&path, serde_json::to_string_pretty(&options())?)?,
                "options.toml" => fs::write(&path, toml::to_string(&toml::Table::try_from(options())?)?)?,
                _ => {}
            }
            Ok(Some(path.to_str().context("the folder's name is no text")?.to_owned()))
        })?;
        let (log, begin) = log::begin(&log_path)?;
        let mut command = Command::new(&arguments[0]);
        command.args(&arguments[1..]).current_dir(&self.folder).stdin(std::process::Stdio::null());
        command.stderr(log.try_clone()?);
        if writes_file {
            command.stdout(log)
        } else {
            command.stdout(File::create(&lines)?)
        };
        self.set_environment(&mut command, gpu);
        command.envs(variables);
        let limits = Limits {
            time: self.entry.time_limit.map(Duration::from_secs_f64),
            grace: Duration::from_secs_f64(self.entry.grace),
        };
        let is_kept = kept.is_some();
        let source = Source { path: &lines, is_kept };
        let transcript = Transcript::new(self.entry.measure, assignment.final_split);
        hear(Heard::Begun);
        let mut listener = Listener::new(transcript, kept, !writes_file, hear);
        let ended = process::run(&mut command, source, &limits, go_on, &mut listener);
        let outcome = match ended {
            Ok(Ended::Stopped) => return Ok(End::Stopped),
            Ok(Ended::Exited(status)) if is_kept && status.code() == Some(QUEUE_AGAIN.into()) => {
                Ok(End::Again { from: listener.from() })
            }
            Ok(Ended::Exited(status)) if !status.success() => Err(anyhow!("the command ended with {status}")),
            Ok(Ended::Enough | Ended::Exited(_)) => {
                listener.finish().map(|measured| End::Measured(Box::new(measured)))
            }
            Ok(Ended::TimedOut) => Err(anyhow!(
                "the command was stopped after {} seconds, its `time_limit`",
                self.entry.time_limit.unwrap_or_default()
            )),
            Err(error) => Err(error),
        };
        // What it wrote is kept with what it said, as nobody knows what of it will be wanted.
        if let Ok(written) = fs::read(&lines)
            && (outcome.is_err() || !writes_file)
        {
            log::append(&log_path, &written)?;
        }
        outcome.map_err(|error| {
            let last = log::last_lines(&log_path, begin);
            let last = if last.is_empty() { String::new() } else { format!("; its last lines:\n{last}\n") };
            let from = match &checkpoint {
                Some(folder) if goes_on => {
                    format!("; it went on from {}, and starts fresh without that folder", folder.display())
                }
                _ => String::new(),
            };
            error.context(format!("all that it said is in {}{from}{last}", log_path.display()))
        })
    }

    fn has_place(&self, name: &str) -> bool {
        let CommandEntry { command, environment, .. } = &self.entry;
        let mut templates = command.iter().chain(environment.keys()).chain(environment.values());
        templates.any(|template| places(template).any(|place| place == name))
    }

    fn writes_file(&self) -> bool {
        self.has_place(OUT)
    }

    fn set_environment(&self, command: &mut Command, gpu: Option<&str>) {
        // Lines shall be there when they are written.
        command.env("PYTHONUNBUFFERED", "1");
        let cores = self.entry.cores;
        for name in ["OMP_NUM_THREADS", "RAYON_NUM_THREADS"] {
            // Those of this program are for its own runs.
            if cores > 0 {
                command.env(name, cores.to_string())
            } else {
                command.env_remove(name)
            };
        }
        if let Some(gpu) = gpu {
            command.env("CUDA_VISIBLE_DEVICES", gpu);
        }
    }
}

/// End of an attempt that did not fail.
enum End {
    Measured(Box<Measured>),
    /// Because the study stops.
    Stopped,
    /// It wants to be started again; its first line was of this step.
    Again {
        from: Option<usize>,
    },
}

/// A program may write other things to standard output as well.
fn is_object(line: &str) -> bool {
    line.starts_with('{')
}

/// A source has another content than it had when the study was read, so that nobody knows which of them a run was made
/// with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SourcesChanged;

impl std::fmt::Display for SourcesChanged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "one of the `sources` has changed since the study began, and the runs in progress were not stored; run it again, and all \
             runs will be of the new sources",
        )
    }
}

impl std::error::Error for SourcesChanged {}

/// As a command line or a variable has it: a text without quotes, the rest as JSON.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The options of an arm of commands, which has no chain that could be edited.
pub(crate) fn check_change(change: &Change) -> Result<()> {
    let Change { remove, replace, insert, .. } = change;
    if !(remove.is_empty() && replace.is_empty() && insert.is_empty()) {
        bail!("`remove`, `replace` and `insert` change a chain, and a command has options only");
    }
    Ok(())
}
