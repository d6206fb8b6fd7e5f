//! A child process with an end: its own, that of its time, or that of the study.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::running;
use crate::run::Next;

/// Time between two checks of a child.
const BETWEEN_LOOKS: Duration = Duration::from_millis(30);

/// End of a child process.
pub(super) enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// Because of its time limit.
    TimedOut,
    /// Because of a line that it wrote.
    Enough,
    /// Because the study stops.
    Stopped,
}

/// Limits of a child process.
pub(super) struct Limits {
    pub(super) time: Option<Duration>,
    /// Time between the request to end and the forced end.
    pub(super) grace: Duration,
}

/// Receiver of a child's lines.
pub(super) trait Reader {
    /// It has been started, as the leader of a group.
    fn started(&mut self, group: u32);

    /// It has written a line.
    ///
    /// # Errors
    /// The line is refused.
    fn line(&mut self, line: &str) -> Result<Reading>;
}

/// Messages of the reader of a child's lines.
pub(super) enum Reading {
    /// The child continues.
    More,
    /// The child can be stopped.
    Enough,
}

/// The file that a child writes its lines to.
pub(super) struct Source<'p> {
    pub(super) path: &'p Path,
    /// Whether lines shall outlive the machine as soon as they are read.
    pub(super) is_kept: bool,
}

/// Runs a child until it ends, and reads the lines that it writes to a file. The reader gets its process group first.
///
/// # Errors
/// It cannot be started, or its lines cannot be read, or are refused; then it has ended, too.
pub(super) fn run(
    command: &mut Command,
    source: Source<'_>,
    limits: &Limits,
    go_on: &dyn Fn() -> Next,
    reader: &mut impl Reader,
) -> Result<Ended> {
    let mut child = Group::start(command)?;
    reader.started(child.child.id());
    let started = Instant::now();
    let mut lines = Lines { file: None, source, unfinished: Vec::new() };
    loop {
        // Looked at first: what it wrote before its end is then there to be read.
        let ended = child.ended()?;
        let read = lines.read(ended.is_some(), reader);
        match (ended, read) {
            (Some(status), Ok(Reading::More)) => return Ok(Ended::Exited(status)),
            (Some(_), Ok(Reading::Enough)) => return Ok(Ended::Enough),
            (None, Ok(Reading::More)) => {}
            (None, Ok(Reading::Enough)) => {
                child.stop(limits.grace);
                return Ok(Ended::Enough);
            }
            (_, Err(error)) => {
                child.stop(limits.grace);
                return Err(error);
            }
        }
        if go_on() == Next::Stop {
            child.stop(limits.grace);
            return Ok(Ended::Stopped);
        }
        if limits.time.is_some_and(|time| started.elapsed() > time) {
            child.stop(limits.grace);
            return Ok(Ended::TimedOut);
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// The lines of a file that grows.
struct Lines<'a> {
    file: Option<File>,
    source: Source<'a>,
    unfinished: Vec<u8>,
}

impl Lines<'_> {
    fn read(&mut self, is_whole: bool, reader: &mut impl Reader) -> Result<Reading> {
        if self.file.is_none() {
            // It may be there later, or never.
            self.file = File::open(self.source.path).ok();
        }
        if let Some(file) = &mut self.file {
            let read = file.read_to_end(&mut self.unfinished);
            let read = read.with_context(|| format!("cannot read {}", self.source.path.display()))?;
            if self.source.is_kept && read > 0 {
                // A checkpoint that comes afterwards must not be without them. Where the system cannot do it, they are
                // there in a while.
                let _ = file.sync_data();
            }
        }
        let mut start = 0;
        while start < self.unfinished.len() {
            let end =
                self.unfinished[start..].iter().position(|byte| *byte == b'\n').map(|length| start + length);
            let Some(end) = end.or(is_whole.then_some(self.unfinished.len())) else { break };
            let line = String::from_utf8_lossy(&self.unfinished[start..end]).trim().to_owned();
            start = (end + 1).min(self.unfinished.len());
            if !line.is_empty()
                && let Reading::Enough = reader.line(&line)?
            {
                return Ok(Reading::Enough);
            }
        }
        self.unfinished.drain(..start);
        Ok(Reading::More)
    }
}

/// A child, and whatever it starts.
struct Group {
    child: Child,
    has_ended: bool,
}

impl Group {
    fn start(command: &mut Command) -> Result<Self> {
        // So that a signal reaches what it starts as well, and Ctrl-C comes from here alone.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        let child = command
            .spawn()
            .with_context(|| format!("{} cannot be started", command.get_program().to_string_lossy()))?;
        running::started(child.id());
        Ok(Self { child, has_ended: false })
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait().context("cannot wait for the command")?;
        if status.is_some() {
            self.has_ended = true;
            running::ended(self.child.id());
        }
        Ok(status)
    }

    /// Asks it to end, and ends it when it hasn't after the time of grace. What it started ends with it.
    fn stop(&mut self, grace: Duration) {
        if self.has_ended {
            return;
        }
        running::ask(self.child.id());
        let asked = Instant::now();
        // A shell may end sooner than the program that it started, which still saves.
        while asked.elapsed() < grace {
            if !matches!(self.child.try_wait(), Ok(None)) && !running::has_members(self.child.id()) {
                break;
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        running::kill(self.child.id());
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.has_ended = true;
        running::ended(self.child.id());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}
