//! A child process with an end: its own, that of its time, or that of the study.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::running;
use crate::run::Next;

/// How often a child is looked at: seldom enough to cost nothing.
const BETWEEN_LOOKS: Duration = Duration::from_millis(30);

/// How a child ended.
pub(super) enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// Because its time was over.
    TimedOut,
    /// Because of what it wrote.
    Enough,
    /// Because the study stops.
    Stopped,
}

/// Limits of a child process.
pub(super) struct Limits {
    pub(super) time: Option<Duration>,
    /// From the request to end to the order.
    pub(super) grace: Duration,
}

/// Messages of the reader of a child's lines.
pub(super) enum Reading {
    /// Go on.
    More,
    /// Its end is of no interest.
    Enough,
}

/// Runs a child until it ends, and reads the lines of `file`, which it writes.
///
/// # Errors
/// It cannot be started, or its lines cannot be read, or are refused; then it has ended, too.
pub(super) fn run(
    command: &mut Command,
    file: &Path,
    limits: &Limits,
    go_on: &dyn Fn() -> Next,
    mut on_line: impl FnMut(&str) -> Result<Reading>,
) -> Result<Ended> {
    let mut child = Group::start(command)?;
    let started = Instant::now();
    let mut lines = Lines { file: None, path: file, unfinished: Vec::new() };
    loop {
        // Looked at first: what it wrote before its end is then there to be read.
        let ended = child.ended()?;
        let read = lines.read(ended.is_some(), &mut on_line);
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
    path: &'a Path,
    unfinished: Vec<u8>,
}

impl Lines<'_> {
    fn read(&mut self, is_whole: bool, on_line: &mut impl FnMut(&str) -> Result<Reading>) -> Result<Reading> {
        if self.file.is_none() {
            // It may be there later, or never.
            self.file = File::open(self.path).ok();
        }
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut self.unfinished)
                .with_context(|| format!("cannot read {}", self.path.display()))?;
        }
        let mut start = 0;
        while start < self.unfinished.len() {
            let end =
                self.unfinished[start..].iter().position(|byte| *byte == b'\n').map(|length| start + length);
            let Some(end) = end.or(is_whole.then_some(self.unfinished.len())) else { break };
            let line = String::from_utf8_lossy(&self.unfinished[start..end]).trim().to_owned();
            start = (end + 1).min(self.unfinished.len());
            if !line.is_empty()
                && let Reading::Enough = on_line(&line)?
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
        while asked.elapsed() < grace {
            if !matches!(self.ended(), Ok(None)) {
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
