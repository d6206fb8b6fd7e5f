//! Claims on runs.
//!
//! A claim is a file that its owner has created, which of several one alone can, and which it rewrites from time to time. A process that wants the run watches the
//! file: when it has stayed the same for long enough by the watcher's own clock, the owner is taken for dead, and the claim is taken over. No clock is compared
//! with another one, neither in the file nor by its date. A process of the same machine that has ended is known to be dead at once.
//!
//! An owner that has only been slow continues and stores the run, as whoever took over does: with the same result.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::owner::Owner;

/// Ending of the files of claims.
pub(super) const CLAIM: &str = "claim";

/// Time between two signs of life.
const BEAT: Duration = Duration::from_secs(5);

/// Time without a sign of life after which an owner is taken for dead. A server may be busy for a while.
pub(super) const EXPIRY: Duration = Duration::from_secs(60);

/// Content of a claim.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    #[serde(flatten)]
    owner: Owner,
    /// Signs of life so far, all of the same width, so that the file never is shorter than its content.
    beat: String,
}

/// The content of an owner's claim after so many signs of life.
pub(super) fn content(owner: &Owner, beats: u64) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Content { owner: owner.clone(), beat: format!("{beats:012}") })
}

/// The owner that a claim names.
pub(super) fn owner(content: &[u8]) -> Option<Owner> {
    serde_json::from_slice(content).ok().map(|content: Content| content.owner)
}

/// A claim's file, as its owner has it.
pub(super) trait Lease: Send + 'static {
    /// Gives a sign of life. Where it fails, others may take over, and do the run again.
    fn beat(&mut self);

    /// Removes the file, unless it is another owner's by now. Where it stays, it is taken for that of a dead owner in a while.
    fn give_back(self);
}

/// The right to do a run, which no other process has at the same time. Given back when it is dropped, and lost some time after the process has ended in
/// any other way.
#[derive(Debug)]
pub struct Claim {
    end: Option<Sender<()>>,
    heart: Option<JoinHandle<()>>,
}

impl Claim {
    pub(super) fn of(mut lease: impl Lease) -> Result<Self> {
        let (end, ended) = channel();
        let beats = move || {
            while ended.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                lease.beat();
            }
            lease.give_back();
        };
        let heart = std::thread::Builder::new().name("claim".into()).spawn(beats);
        let heart = heart.context("the thread of a claim could not be started")?;
        Ok(Self { end: Some(end), heart: Some(heart) })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(heart) = self.heart.take() {
            let _ = heart.join();
        }
    }
}
