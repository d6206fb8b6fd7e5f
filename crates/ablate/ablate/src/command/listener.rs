//! Reader of a command's lines, which also has the lines of earlier attempts.

use std::time::Instant;

use anyhow::{Context, Result};

use super::attempt::Attempt;
use super::process::{Reader, Reading};
use super::said::before;
use super::transcript::{Mark, Transcript};
use super::{Heard, is_object};
use crate::measured::Measured;

pub(super) struct Listener<'h> {
    transcript: Transcript,
    /// The attempt, where the run has checkpoints.
    kept: Option<Attempt>,
    /// Whether lines may be others than the program's measurements.
    is_output: bool,
    hear: &'h mut dyn FnMut(Heard<'_>),
    started: Instant,
    /// Time of training of the attempts before.
    earlier: f64,
    /// Whether this attempt has said a line.
    has_begun: bool,
    from: Option<usize>,
}

impl<'h> Listener<'h> {
    pub(super) fn new(
        transcript: Transcript,
        kept: Option<Attempt>,
        is_output: bool,
        hear: &'h mut dyn FnMut(Heard<'_>),
    ) -> Self {
        let started = Instant::now();
        Self { transcript, kept, is_output, hear, started, earlier: 0.0, has_begun: false, from: None }
    }

    /// Step of the attempt's first line, if it has said one.
    pub(super) fn from(&self) -> Option<usize> {
        self.from
    }

    /// The run, when the command has ended.
    ///
    /// # Errors
    /// Nobody has said what it is measured by.
    pub(super) fn finish(mut self) -> Result<Measured> {
        if !self.has_begun {
            // Whatever there was to say had been said.
            self.go_on(None)?;
        }
        self.transcript.finish()
    }

    /// Hears again what the attempts before had said before this one's first line.
    fn go_on(&mut self, first: Option<&str>) -> Result<()> {
        self.has_begun = true;
        let Some(kept) = &self.kept else { return Ok(()) };
        let inherited = kept.inherited();
        let before = match first {
            Some(first) => before(inherited, first).with_context(|| {
                format!("the first line of a run that goes on from a checkpoint needs its `step`: {first}")
            })?,
            None => inherited,
        };
        let before = before.to_vec();
        for said in before {
            self.earlier = said.seconds;
            self.take(&said.line, said.seconds)?;
        }
        Ok(())
    }

    fn take(&mut self, line: &str, seconds: f64) -> Result<()> {
        let point = self.transcript.line(line, seconds)?;
        (self.hear)(Heard::Numbers(self.transcript.step(), self.transcript.latest()));
        if let Some(point) = point {
            (self.hear)(Heard::Point(&point));
        }
        Ok(())
    }
}

impl Reader for Listener<'_> {
    fn started(&mut self, group: u32) {
        self.started = Instant::now();
        if let Some(kept) = &mut self.kept {
            kept.started(group);
        }
    }

    fn line(&mut self, line: &str) -> Result<Reading> {
        if self.is_output && !is_object(line) {
            return Ok(Reading::More);
        }
        let is_first = !self.has_begun;
        if is_first {
            self.go_on(Some(line))?;
        }
        let seconds = self.earlier + self.started.elapsed().as_secs_f64();
        if let Some(kept) = &mut self.kept {
            kept.heard(seconds);
        }
        self.take(line, seconds)?;
        if is_first {
            self.from = Mark::of(line).step.or(Some(self.transcript.step()));
        }
        Ok(if self.transcript.has_diverged() { Reading::Enough } else { Reading::More })
    }
}
