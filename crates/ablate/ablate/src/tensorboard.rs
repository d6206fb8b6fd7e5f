//! Event files for TensorBoard, in a folder for every reported run: `tensorboard/TASK/ARM/seed-N` of the study's
//! folder.
//!
//! A run that begins, or continues from a checkpoint, has a new file with all of its points so far, which replaces the
//! previous one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ablate_tasks::Split;
use anyhow::{Context, Result};

use crate::console::say;
use crate::events::{self, push_record};
use crate::execute::{Job, Observer};
use crate::record::{Point, Record};
use crate::results::Results;
use crate::run::group_names;
use crate::scalars::{Numbers, of_course, of_end, of_point};
use crate::study::{Study, Training};

/// The folder for TensorBoard within a study's.
pub(crate) const FOLDER: &str = "tensorboard";

/// The file of a run.
struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    fn begin(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let cannot = || format!("cannot begin an event file in {}", folder.display());
        for entry in fs::read_dir(folder).with_context(cannot)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(events::NAME) {
                match fs::remove_file(entry.path()) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error).with_context(cannot);
                    }
                    _ => {}
                }
            }
        }
        // TensorBoard takes a file for a later one where its name is.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, rest) = (now.as_secs(), now.subsec_nanos());
        let name = format!("{}{seconds}.{rest:09}.{}.ablate", events::NAME, std::process::id());
        let path = folder.join(name);
        let file = File::create_new(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut begun = Self { path, file };
        let mut records = Vec::new();
        push_record(&mut records, &events::version(now.as_secs_f64()));
        push_record(&mut records, &events::restart(now.as_secs_f64()));
        begun.append(&records)?;
        Ok(begun)
    }

    /// Adds the numbers of steps, at once on the disk.
    fn write<'n>(&mut self, steps: impl IntoIterator<Item = (usize, &'n Numbers)>) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let mut records = Vec::new();
        for (step, numbers) in steps {
            let step = i64::try_from(step).unwrap_or(i64::MAX);
            push_record(&mut records, &events::scalars(now, step, numbers));
        }
        self.append(&records)
    }

    fn append(&mut self, records: &[u8]) -> Result<()> {
        self.file.write_all(records).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// A run's folder, which no other one has.
fn folder(top: &Path, task: &str, arm: &str, fork: Option<usize>, seed: u64) -> PathBuf {
    let arm = fork.map_or_else(|| name(arm), |step| format!("{}{FROM}{step}", name(arm)));
    top.join(name(task)).join(arm).join(format!("seed-{seed}"))
}

/// Between an arm and the step that it continues from.
const FROM: &str = "-from-";

/// The name of a task or an arm as that of a folder. The separators of paths, what Windows allows in no name, and what
/// would make two names one are escaped as in URLs.
fn name(text: &str) -> String {
    let mut name = String::new();
    let last = text.chars().count().saturating_sub(1);
    for (index, (at, letter)) in text.char_indices().enumerate() {
        let is_special = "/\\:*?\"<>|%".contains(letter) || letter.is_ascii_control();
        // Windows leaves these out, and a folder of dots alone is another one.
        let is_trailing = index == last && ['.', ' '].contains(&letter);
        if is_special || is_trailing || text[at..].starts_with(FROM) {
            name += &format!("%{:02X}", u32::from(letter));
        } else {
            name.push(letter);
        }
    }
    name
}

/// Writes the event files of all reported runs, replaces existing ones, and returns their number.
///
/// # Errors
/// One cannot be written.
pub(crate) fn export(results: &Results, top: &Path) -> Result<usize> {
    let mut count = 0;
    for reported in results.reported() {
        let (task, arm, run) = (reported.task, &reported.arm.name, reported.run);
        let mut events = Events::begin(&folder(top, &task.name, arm, reported.fork, run.seed))?;
        let (course, (step, end)) = (of_course(run, &task.groups), of_end(&run.record));
        events.write(course.iter().map(|(step, numbers)| (*step, numbers)).chain([(step, &end)]))?;
        count += 1;
    }
    Ok(count)
}

/// Writes event files while runs are under way. One that cannot be written keeps no run from being done.
pub(crate) struct Live<'s> {
    study: &'s Study,
    /// By task.
    groups: Vec<Vec<String>>,
    top: PathBuf,
    open: Mutex<Vec<(Job, Events)>>,
    /// The first fault, and the number of runs that have one.
    fault: Mutex<Option<(String, usize)>>,
}

impl<'s> Live<'s> {
    /// For a study and its folder.
    pub(crate) fn new(study: &'s Study, out: &Path) -> Self {
        let groups = study.tasks.iter().map(|task| match &task.training {
            Training::Task(task) => group_names(&**task),
            Training::Command(_) => Vec::new(),
        });
        Self {
            study,
            groups: groups.collect(),
            top: out.join(FOLDER),
            open: Mutex::default(),
            fault: Mutex::default(),
        }
    }

    /// Event files that are not whole.
    pub(crate) fn fault(&self) -> Option<String> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, runs) = fault.as_ref()?;
        let runs = if *runs == 1 { "1 run has".to_owned() } else { format!("{runs} runs have") };
        Some(format!(
            "TensorBoard: {runs} no whole event file, and are stored all the same; the first fault: {first}. `ablate export` with `--to tensorboard` writes all of \
             them again"
        ))
    }

    fn failed(&self, error: &anyhow::Error) {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *fault {
            Some((_, runs)) => *runs += 1,
            None => {
                say(format_args!("no event file for TensorBoard, and the run goes on: {error:#}"));
                *fault = Some((format!("{error:#}"), 1));
            }
        }
    }

    /// Adds to the file of a run, if it has one.
    fn write<'n>(&self, job: &Job, steps: impl IntoIterator<Item = (usize, &'n Numbers)>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(index) = open.iter().position(|(of, _)| of == job) else { return };
        if let Err(error) = open[index].1.write(steps) {
            open.swap_remove(index);
            self.failed(&error);
        }
    }

    fn is_command(&self, job: &Job) -> bool {
        matches!(self.study.tasks[job.task].training, Training::Command(_))
    }
}

impl Observer for Live<'_> {
    fn begun(&self, job: &Job, so_far: &[Point]) {
        // Tuning looks at the validation split, and none of its runs is reported.
        if job.final_split != Split::Test || job.repeat > 0 {
            return;
        }
        let (task, arm) = (&self.study.tasks[job.task].name, &self.study.arms[job.arm].arm.name);
        let begun = Events::begin(&folder(&self.top, task, arm, job.fork, job.seed));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(of, _)| of != job);
        match begun {
            Ok(events) => open.push((*job, events)),
            Err(error) => self.failed(&error),
        }
        drop(open);
        let of = |point: &Point| (point.step, of_point(point, &self.groups[job.task], &[]));
        let so_far: Vec<(usize, Numbers)> = so_far.iter().map(of).collect();
        self.write(job, so_far.iter().map(|(step, numbers)| (*step, numbers)));
    }

    fn point(&self, job: &Job, point: &Point) {
        // Those of a command are means of numbers that it has said.
        if !self.is_command(job) {
            self.write(job, [(point.step, &of_point(point, &self.groups[job.task], &[]))]);
        }
    }

    fn numbers(&self, job: &Job, step: usize, numbers: &[(String, f64)]) {
        if !numbers.is_empty() {
            self.write(job, [(step, &numbers.to_vec())]);
        }
    }

    fn finished(&self, job: &Job, record: &Record) {
        let (step, end) = of_end(record);
        self.write(job, [(step, &end)]);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _)| of != job);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_runs_have_the_same_folder_whatever_arms_are_called() {
        let top = Path::new("top");
        let arms = [
            "a/b", "a:b", "a\\b", "a_b", "a%2Fb", "a b", "a b ", "a b.", ".", "..", "a", "a-from-3", "a\nb",
            "größer",
        ];
        let folders = arms.iter().flat_map(|arm| [None, Some(3)].map(|fork| folder(top, "t", arm, fork, 0)));
        let folders: BTreeSet<PathBuf> = folders.collect();
        assert_eq!(folders.len(), 2 * arms.len());
        // All are where they should be.
        for folder in &folders {
            let parts: Vec<_> = folder.iter().collect();
            assert!(parts.len() == 4 && parts[..2] == ["top", "t"] && parts[3] == "seed-0", "{folder:?}");
            assert!(parts[2] != ".." && parts[2] != ".");
        }
        let of = |arm, fork| folder(top, "task", arm, fork, 7);
        assert_eq!(of("plain_name-1.5", None), top.join("task/plain_name-1.5/seed-7"));
        assert_eq!(of("a/b", Some(10)), top.join("task/a%2Fb-from-10/seed-7"));
    }
}
