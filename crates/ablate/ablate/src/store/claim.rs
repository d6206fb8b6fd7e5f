//! Claims on runs.
//!
//! A claim is a file that its owner has created and rewrites from time to time. Only one of several processes can
//! create it. A process that waits for the run watches the file: if it does not change for long enough by the watcher's
//! own clock, the owner is taken for dead, and the watcher takes the claim over. No two clocks are compared, neither in
//! the file nor by its date. The end of a process of the same machine is known at once.
//!
//! An owner that was only slow continues and stores the run. So does the process that took over, with the same result.

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
    /// Number of signs of life so far, with a fixed width, so that the file always has the length of its content.
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
    /// Gives a sign of life. If this fails, others may take over and do the run again.
    fn beat(&mut self);

    /// Removes the file, unless it has another owner by now. If this fails, the claim expires.
    fn give_back(self);
}

/// Right to do a run, which no other process has at the same time. It ends when it is dropped, or some time after the
/// process has ended without dropping it.
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
