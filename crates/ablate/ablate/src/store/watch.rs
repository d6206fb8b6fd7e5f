//! Other processes' claims, as they were last seen.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::claim::EXPIRY;

/// Another process' claim, as it was last seen.
#[derive(Debug)]
struct Seen {
    mark: Vec<u8>,
    /// First look that saw this mark, by this process' clock.
    since: Duration,
}

/// Claims that this process watches, by address.
#[derive(Debug)]
pub(super) struct Watch {
    started: Instant,
    seen: Mutex<BTreeMap<String, Seen>>,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), seen: Mutex::default() }
    }

    /// The time of this process' own clock.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether the mark has been the same for so long. It changes with every sign of life, so that there was none
    /// between two looks that saw the same.
    pub(super) fn has_expired(&self, address: &str, mark: &[u8], now: Duration) -> bool {
        let mut seen = self.seen();
        match seen.get(address) {
            Some(seen) if seen.mark == mark => now.saturating_sub(seen.since) >= EXPIRY,
            _ => {
                seen.insert(address.to_owned(), Seen { mark: mark.to_owned(), since: now });
                false
            }
        }
    }

    /// Forgets a claim that is this process' own by now.
    pub(super) fn forget(&self, address: &str) {
        self.seen().remove(address);
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
