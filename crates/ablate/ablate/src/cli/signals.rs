//! Signals that ask the program to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::command::kill_all;
use crate::console::say;

/// A scheduler, or whoever else sends SIGTERM or SIGUSR1, wants the machine back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Preempted;

impl std::fmt::Display for Preempted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stopped by a signal; the same command goes on from here, and should be queued again")
    }
}

impl std::error::Error for Preempted {}

/// Signals that came so far.
pub(super) struct Signals {
    /// Set by any of the signals.
    pub(super) stop: Arc<AtomicBool>,
    is_preempted: Arc<AtomicBool>,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// The system doesn't allow it.
    pub(super) fn listen() -> Result<Self> {
        let (stop, is_preempted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let asked = Arc::clone(&stop);
        ctrlc::set_handler(move || {
            if asked.swap(true, Ordering::Relaxed) {
                // Asked twice: whoever waits has waited long enough, and nothing is lost but the runs in progress.
                kill_all();
                std::process::exit(i32::from(super::STOPPED));
            }
            say("stopping; once more to stop at once");
        })
        .context("cannot listen for Ctrl-C")?;
        #[cfg(unix)]
        for signal in
            [signal_hook::consts::SIGTERM, signal_hook::consts::SIGUSR1, signal_hook::consts::SIGHUP]
        {
            for flag in [&stop, &is_preempted] {
                signal_hook::flag::register(signal, Arc::clone(flag)).context("cannot listen for signals")?;
            }
        }
        Ok(Self { stop, is_preempted })
    }

    /// The outcome of a command, which says where a signal has ended it.
    pub(super) fn outcome<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| {
            let is_stopped = error.is::<crate::execute::Interrupted>();
            if is_stopped && self.is_preempted.load(Ordering::Relaxed) { Preempted.into() } else { error }
        })
    }
}
