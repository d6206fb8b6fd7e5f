//! The children that run, so that none outlives the program: each leads a process group of its own.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn running() -> MutexGuard<'static, BTreeSet<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn started(id: u32) {
    running().insert(id);
}

pub(super) fn ended(id: u32) {
    running().remove(&id);
}

/// Kills every child that still runs.
pub(crate) fn kill_all() {
    for id in running().iter() {
        kill(*id);
    }
}

/// Whether a process of a group is left. Where the system doesn't say, one is.
pub(super) fn has_members(group: u32) -> bool {
    #[cfg(unix)]
    {
        let Ok(group) = i32::try_from(group) else { return true };
        let group = nix::unistd::Pid::from_raw(group);
        nix::sys::signal::killpg(group, None) != Err(nix::errno::Errno::ESRCH)
    }
    #[cfg(not(unix))]
    {
        let _ = group;
        true
    }
}

/// Asks a child to end.
pub(super) fn ask(id: u32) {
    #[cfg(unix)]
    signal(id, nix::sys::signal::Signal::SIGTERM);
    #[cfg(not(unix))]
    let _ = id;
}

/// Ends a child, and what it started.
pub(super) fn kill(id: u32) {
    #[cfg(unix)]
    signal(id, nix::sys::signal::Signal::SIGKILL);
    #[cfg(not(unix))]
    let _ = id;
}

#[cfg(unix)]
fn signal(id: u32, signal: nix::sys::signal::Signal) {
    if let Ok(id) = i32::try_from(id) {
        // Where it fails, there is nobody left.
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(id), signal);
    }
}
