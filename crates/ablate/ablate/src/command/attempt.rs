//! Attempts at a run of a command: the folder that the program keeps its checkpoint in, and the lines that belong to
//! it.
//!
//! A run has a folder for all its attempts, next to its file, with one for each that may still be under way while
//! another begins:
//!
//! ```text
//! ADDRESS.attempts/0/checkpoint/      the program's own files: `{checkpoint}`
//!                    inherited.jsonl  lines of the attempts before
//!                    lines.jsonl      lines of this attempt, as the program writes them
//!                    times.txt        for each of these, when it was heard
//!                    holder.json      whose it is
//! ```
//!
//! An attempt continues in the folder of its predecessor where that is known to have ended. Where it isn't (its process
//! was of another machine, or only the program that listened to it was killed, and it trains on), it gets a copy: so
//! that no two ever write to the same checkpoint, and the lines that belong to a checkpoint are always next to it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::running;
use super::said::{Said, joined};
use crate::replace::replace;
use crate::store::machine;

const CHECKPOINT: &str = "checkpoint";
const INHERITED: &str = "inherited.jsonl";
const LINES: &str = "lines.jsonl";
const TIMES: &str = "times.txt";
const HOLDER: &str = "holder.json";

/// Tries to copy a checkpoint that is being written meanwhile. Afterwards a copy is no worse than what a killed program
/// leaves.
const COPIES: usize = 20;
const BETWEEN_COPIES: Duration = Duration::from_millis(100);

/// Process group that an attempt's folder belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    /// A random number, which no other one has.
    id: String,
    machine: Option<String>,
    /// Unknown until the program is started.
    group: Option<u32>,
    has_ended: bool,
}

impl Holder {
    fn new() -> Self {
        Self {
            id: format!("{:016x}", rand::random::<u64>()),
            machine: machine(),
            group: None,
            has_ended: false,
        }
    }

    /// Whether it is known that nobody writes to the folder any more. Of other machines' processes nobody knows.
    fn is_gone(&self) -> bool {
        let is_here = self.machine.is_some() && self.machine == machine();
        self.has_ended || (is_here && self.group.is_some_and(|group| !running::has_members(group)))
    }

    fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(HOLDER)).ok()?).ok()
    }

    fn write(&self, folder: &Path) -> Result<()> {
        Ok(replace(&folder.join(HOLDER), &serde_json::to_vec(self)?)?)
    }
}

/// An attempt that is under way.
#[derive(Debug)]
pub(super) struct Attempt {
    folder: PathBuf,
    holder: Holder,
    inherited: Vec<Said>,
    times: File,
}

impl Attempt {
    /// Begins an attempt, whose run belongs to this process only. `all` is the folder of its run's attempts; `is_line`
    /// says which of the lines count.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub(super) fn begin(all: &Path, is_line: fn(&str) -> bool) -> Result<Self> {
        let begin = || -> Result<Self> {
            fs::create_dir_all(all)?;
            let latest = numbers(all)?.into_iter().max();
            let holder = Holder::new();
            let (folder, said) = match latest.map(|number| all.join(number.to_string())) {
                Some(before) if take_over(&before, &holder)? => {
                    let said = said(&before, is_line)?;
                    (before, said)
                }
                before => successor(all, before.as_deref(), is_line, &holder)?,
            };
            // A program, or whoever wants a run to start fresh, may have removed it.
            fs::create_dir_all(folder.join(CHECKPOINT))?;
            // Where the program has saved nothing, it starts at its start.
            let inherited = if is_empty(&folder.join(CHECKPOINT))? { Vec::new() } else { said };
            let lines = inherited.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
            replace(&folder.join(INHERITED), lines.join("\n").as_bytes())?;
            // A new file, as another process may still read the old one.
            remove(&folder.join(LINES))?;
            remove(&folder.join(TIMES))?;
            let times = File::create(folder.join(TIMES))?;
            Ok(Self { folder, holder, inherited, times })
        };
        begin().with_context(|| format!("cannot keep checkpoints in {}", all.display()))
    }

    /// Folder for the program's files.
    pub(super) fn checkpoint(&self) -> PathBuf {
        self.folder.join(CHECKPOINT)
    }

    /// File that the program writes its lines to.
    pub(super) fn lines(&self) -> PathBuf {
        self.folder.join(LINES)
    }

    /// Lines of the attempts before.
    pub(super) fn inherited(&self) -> &[Said] {
        &self.inherited
    }

    /// Whether the program finds something to continue with.
    pub(super) fn has_checkpoint(&self) -> bool {
        is_empty(&self.checkpoint()).is_ok_and(|is_empty| !is_empty)
    }

    /// The program runs.
    pub(super) fn started(&mut self, group: u32) {
        let holder = Holder { group: Some(group), ..self.holder.clone() };
        // Where it is not known who has the folder, the next attempt gets a copy.
        if holder.write(&self.folder).is_ok() {
            self.holder = holder;
        }
    }

    /// A line was heard at this time of training.
    pub(super) fn heard(&mut self, seconds: f64) {
        // Without its time, a line has that of the one before.
        let _ = writeln!(self.times, "{seconds}");
    }
}

impl Drop for Attempt {
    /// Leaves the folder to the next attempt, unless a part of the program still runs, or another process has it by
    /// now.
    fn drop(&mut self) {
        let has_ended = self.holder.group.is_none_or(|group| !running::has_members(group));
        if has_ended && Holder::read(&self.folder).as_ref() == Some(&self.holder) {
            let _ = Holder { has_ended, ..self.holder.clone() }.write(&self.folder);
        }
    }
}

/// Folder with the files that the next attempt continues from, if there are any.
pub(crate) fn saved(all: &Path) -> Option<PathBuf> {
    let latest = numbers(all).ok()?.into_iter().max()?;
    let folder = all.join(latest.to_string()).join(CHECKPOINT);
    is_empty(&folder).is_ok_and(|is_empty| !is_empty).then_some(folder)
}

/// Takes the folder of an attempt that has ended. Only one of several processes can.
fn take_over(folder: &Path, holder: &Holder) -> Result<bool> {
    let Some(before) = Holder::read(folder).filter(Holder::is_gone) else { return Ok(false) };
    let (path, away) = (folder.join(HOLDER), folder.join(format!("{}.away", holder.id)));
    match fs::rename(&path, &away) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        outcome => outcome?,
    }
    let taken: Option<Holder> = serde_json::from_slice(&fs::read(&away)?).ok();
    if taken.as_ref() != Some(&before) {
        // Another process has taken it meanwhile.
        fs::rename(&away, &path)?;
        return Ok(false);
    }
    holder.write(folder)?;
    fs::remove_file(&away)?;
    Ok(true)
}

/// A folder of its own for an attempt, with what another one has in its folder by now, and the lines up to there.
fn successor(
    all: &Path,
    before: Option<&Path>,
    is_line: fn(&str) -> bool,
    holder: &Holder,
) -> Result<(PathBuf, Vec<Said>)> {
    let mut builder = tempfile::Builder::new();
    // Temporary folders are their owner's alone, and runs anybody's, as far as the mask allows.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    let new = builder.prefix(".new-").tempdir_in(all)?;
    let checkpoint = new.path().join(CHECKPOINT);
    let mut lines = Vec::new();
    match before.filter(|before| before.join(CHECKPOINT).is_dir()) {
        Some(before) => {
            copy_whole(&before.join(CHECKPOINT), &checkpoint)?;
            // Afterwards: what belongs to the checkpoint has been said before it was made.
            lines = said(before, is_line)?;
        }
        None => fs::create_dir(&checkpoint)?,
    }
    holder.write(new.path())?;
    loop {
        let number = numbers(all)?.into_iter().max().map_or(0, |latest| latest + 1);
        let folder = all.join(number.to_string());
        match fs::rename(new.path(), &folder) {
            Err(_) if folder.exists() => {}
            outcome => {
                outcome?;
                return Ok((folder, lines));
            }
        }
    }
}

/// Lines of an attempt and of those before it.
fn said(folder: &Path, is_line: fn(&str) -> bool) -> Result<Vec<Said>> {
    let text = |name: &str| -> Result<String> {
        match fs::read(folder.join(name)) {
            Ok(content) => Ok(String::from_utf8_lossy(&content).into_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error.into()),
        }
    };
    let inherited = text(INHERITED)?.lines().map(serde_json::from_str).collect::<Result<Vec<Said>, _>>()?;
    let (lines, times) = (text(LINES)?, text(TIMES)?);
    let mut times = times.lines().filter_map(|time| time.parse::<f64>().ok());
    let mut seconds = inherited.last().map_or(0.0, |said| said.seconds);
    let mut later = Vec::new();
    // A line without an end is half of one.
    let whole = lines.rfind('\n').map_or("", |end| &lines[..end]);
    for line in whole.lines().map(str::trim).filter(|line| !line.is_empty() && is_line(line)) {
        seconds = times.next().unwrap_or(seconds);
        later.push(Said { seconds, line: line.to_owned() });
    }
    Ok(joined(inherited, later))
}

fn numbers(all: &Path) -> std::io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(all)? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    Ok(numbers)
}

fn is_empty(folder: &Path) -> std::io::Result<bool> {
    Ok(fs::read_dir(folder)?.next().is_none())
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Names, sizes and dates of what is in a folder.
type Content = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

/// Copies a folder as it was at one moment, although somebody may write to it: until nothing has changed meanwhile.
fn copy_whole(from: &Path, to: &Path) -> Result<()> {
    let mut before = Content::new();
    scan(from, from, &mut before)?;
    for remaining in (0..COPIES).rev() {
        copy(from, to)?;
        let mut after = Content::new();
        scan(from, from, &mut after)?;
        if after == before || remaining == 0 {
            break;
        }
        before = after;
        fs::remove_dir_all(to)?;
        std::thread::sleep(BETWEEN_COPIES);
    }
    Ok(())
}

fn scan(root: &Path, folder: &Path, content: &mut Content) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // What is gone by now is missing from the next look.
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        let name = path.strip_prefix(root).unwrap_or(&path).to_owned();
        content.insert(name, (about.len(), about.modified().ok()));
        if about.is_dir() {
            present(scan(root, &path, content))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, copied) = (entry.path(), to.join(entry.file_name()));
        let Ok(about) = fs::symlink_metadata(&path) else { continue };
        if about.is_dir() {
            present(copy(&path, &copied))?;
        } else if about.is_file() {
            present(fs::copy(&path, &copied).map(drop))?;
        } else {
            #[cfg(unix)]
            if about.is_symlink() {
                present(fs::read_link(&path).and_then(|target| std::os::unix::fs::symlink(target, &copied)))?;
            }
        }
    }
    Ok(())
}

/// Files may be renamed or removed while they are looked at.
fn present(outcome: std::io::Result<()>) -> std::io::Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(all: &Path) -> Attempt {
        Attempt::begin(all, |line| line.starts_with('{')).unwrap()
    }

    fn texts(attempt: &Attempt) -> Vec<&str> {
        attempt.inherited().iter().map(|said| said.line.as_str()).collect()
    }

    const FIRST: &str = r#"{"step": 1, "loss": 2}"#;
    const SECOND: &str = r#"{"step": 2, "loss": 1}"#;

    #[test]
    fn an_attempt_goes_on_where_the_one_before_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = begin(folder.path());
        assert!(first.inherited().is_empty() && !first.has_checkpoint());
        assert_eq!(saved(folder.path()), None);
        fs::write(first.checkpoint().join("state"), "1").unwrap();
        assert_eq!(saved(folder.path()), Some(first.checkpoint()));
        // The last line is half of one, and one is none.
        fs::write(first.lines(), format!("{FIRST}\nepoch 2\n{SECOND}\n{{\"step\": 3")).unwrap();
        first.heard(1.5);
        let at = first.checkpoint();
        drop(first);
        let second = begin(folder.path());
        assert_eq!((second.checkpoint(), texts(&second)), (at.clone(), vec![FIRST, SECOND]));
        // Of the second one nobody heard when it was said.
        assert_eq!(second.inherited().iter().map(|said| said.seconds).collect::<Vec<_>>(), [1.5, 1.5]);
        fs::write(second.lines(), format!("{SECOND}\n")).unwrap();
        drop(second);
        let third = begin(folder.path());
        assert_eq!(texts(&third), [FIRST, SECOND]);
        // Without a checkpoint what was said counts for nothing.
        fs::remove_dir_all(&at).unwrap();
        let beside = begin(folder.path());
        assert!(beside.inherited().is_empty() && beside.checkpoint().is_dir());
        fs::remove_dir_all(&beside.folder).unwrap();
        drop((beside, third));
        let fourth = begin(folder.path());
        assert!(fourth.checkpoint() == at && at.is_dir() && fourth.inherited().is_empty());
    }

    #[test]
    fn an_attempt_never_shares_a_folder_with_one_that_may_be_under_way() {
        let folder = tempfile::tempdir().unwrap();
        let first = begin(folder.path());
        fs::write(first.checkpoint().join("state"), "1").unwrap();
        fs::create_dir(first.checkpoint().join("rank0")).unwrap();
        fs::write(first.checkpoint().join("rank0/state"), "2").unwrap();
        fs::write(first.lines(), format!("{FIRST}\n")).unwrap();
        let second = begin(folder.path());
        assert_ne!(second.checkpoint(), first.checkpoint());
        assert_eq!(texts(&second), [FIRST]);
        assert_eq!(fs::read_to_string(second.checkpoint().join("rank0/state")).unwrap(), "2");
        // What either does is not the other's.
        fs::write(second.checkpoint().join("state"), "of the second").unwrap();
        fs::write(first.lines(), format!("{FIRST}\n{SECOND}\n")).unwrap();
        assert_eq!(fs::read_to_string(first.checkpoint().join("state")).unwrap(), "1");
        let at = second.checkpoint();
        drop(second);
        drop(first);
        let third = begin(folder.path());
        assert_eq!((third.checkpoint(), texts(&third)), (at, vec![FIRST]));
        assert_eq!(fs::read_to_string(third.checkpoint().join("state")).unwrap(), "of the second");
        assert_eq!(numbers(folder.path()).unwrap().len(), 2);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_group_of_an_attempt_says_whether_it_is_under_way() {
        use std::os::unix::process::CommandExt;
        let folder = tempfile::tempdir().unwrap();
        let mut first = begin(folder.path());
        let mut child = std::process::Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        first.started(child.id());
        let at = first.checkpoint();
        // As if its program had been killed: it is not dropped before the end.
        let second = begin(folder.path());
        assert_ne!(second.checkpoint(), at);
        fs::remove_dir_all(second.folder.clone()).unwrap();
        drop(second);
        // A program that listened and ended before the command did does not say that it has.
        child.kill().unwrap();
        child.wait().unwrap();
        let third = begin(folder.path());
        assert_eq!(third.checkpoint(), at);
        // The first one has lost the folder, and doesn't give it away.
        drop(first);
        assert_ne!(begin(folder.path()).checkpoint(), at);
        drop(third);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn of_another_machines_processes_nobody_knows_whether_they_have_ended() {
        use std::os::unix::process::CommandExt;
        let mut child = std::process::Command::new("true").process_group(0).spawn().unwrap();
        child.wait().unwrap();
        let here = Holder { group: Some(child.id()), ..Holder::new() };
        let there = Holder { machine: Some("another".to_owned()), ..here.clone() };
        assert!(here.is_gone() && !there.is_gone());
        assert!(!Holder { group: None, ..here }.is_gone());
        assert!(Holder { has_ended: true, ..there }.is_gone());
    }

    #[test]
    fn of_many_that_see_an_attempt_has_ended_one_goes_on_in_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let all = folder.path().join(round.to_string());
            let first = begin(&all);
            fs::write(first.checkpoint().join("state"), "1").unwrap();
            let at = first.checkpoint();
            drop(first);
            let barrier = std::sync::Barrier::new(8);
            let begin = || {
                barrier.wait();
                begin(&all)
            };
            let attempts: Vec<Attempt> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(begin)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let mut places: Vec<PathBuf> = attempts.iter().map(Attempt::checkpoint).collect();
            assert!(places.iter().filter(|place| **place == at).count() <= 1);
            places.sort();
            places.dedup();
            assert_eq!(places.len(), 8, "round {round}");
            assert!(places.iter().all(|place| fs::read_to_string(place.join("state")).unwrap() == "1"));
        }
    }

    #[test]
    fn a_copy_of_a_checkpoint_that_is_being_written_is_of_one_moment() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        fs::create_dir(&from).unwrap();
        // A file of its own for every state, an older one that goes, and the name of the latest, as frameworks write
        // them.
        let save = |number: usize| {
            fs::write(from.join(format!("state-{number}")), number.to_string()).unwrap();
            replace(&from.join("latest"), number.to_string().as_bytes()).unwrap();
            let _ = fs::remove_file(from.join(format!("state-{}", number.wrapping_sub(1))));
        };
        save(0);
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1.. {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                    save(number);
                    std::thread::sleep(Duration::from_millis(40));
                }
            });
            for round in 0..10 {
                let to = folder.path().join(round.to_string());
                copy_whole(&from, &to).unwrap();
                let latest = fs::read_to_string(to.join("latest")).unwrap();
                assert_eq!(fs::read_to_string(to.join(format!("state-{latest}"))).unwrap(), latest);
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
