//! Owners of claims: which process, on which machine.

use serde::{Deserialize, Serialize};

/// A process, as it is written into a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    /// A random number, which no other claim has.
    pub(super) claim: String,
    /// The machine's name, for people.
    host: String,
    pid: u32,
    /// The machine since it was started, and its namespace of processes, in which the number means one process; absent
    /// where the system doesn't say.
    machine: Option<String>,
    /// Start of the process, by the machine's own count, as numbers of processes are used again.
    started: Option<u64>,
}

impl Owner {
    /// This process, with a claim of its own.
    pub(super) fn new() -> Self {
        let pid = std::process::id();
        Self {
            claim: format!("{:016x}", rand::random::<u64>()),
            host: host(),
            pid,
            machine: machine(),
            started: Process::of(pid).map(|process| process.started),
        }
    }

    /// Whether the process is known to have ended. Nothing is known of processes of other machines.
    pub(super) fn is_gone(&self) -> bool {
        if self.machine.is_none() || self.machine != machine() {
            return false;
        }
        match Process::of(self.pid) {
            Some(process) => process.has_ended || Some(process.started) != self.started,
            None => !exists(self.pid),
        }
    }
}

#[cfg(unix)]
fn host() -> String {
    nix::unistd::gethostname().map_or(String::new(), |name| name.to_string_lossy().into_owned())
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

/// The machine since it was started, and its namespace of processes. Linux only. Containers share a machine, and may
/// share its name, but not its numbers of processes.
pub(crate) fn machine() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

/// A process, as Linux tells of it.
struct Process {
    started: u64,
    has_ended: bool,
}

impl Process {
    fn of(pid: u32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name is in parentheses, and may have any others in it.
        let (_, rest) = text.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let state = fields.next()?;
        Some(Self { started: fields.nth(18)?.parse().ok()?, has_ended: ["Z", "X"].contains(&state) })
    }
}

/// Of another user's process, only its existence is known.
#[cfg(unix)]
fn exists(pid: u32) -> bool {
    use nix::sys::signal::kill;
    let Ok(pid) = i32::try_from(pid) else { return true };
    kill(nix::unistd::Pid::from_raw(pid), None) != Err(nix::errno::Errno::ESRCH)
}

#[cfg(not(unix))]
fn exists(_pid: u32) -> bool {
    true
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_gone_when_it_has_ended_and_also_when_its_number_is_another_ones() {
        let own = Owner::new();
        assert!(own.machine.is_some() && own.started.is_some() && !own.is_gone());
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let started = Process::of(child.id()).map(|process| process.started);
        let of_child = Owner { pid: child.id(), started, ..Owner::new() };
        assert!(!of_child.is_gone());
        assert!(Owner { started: Some(1), ..of_child.clone() }.is_gone());
        child.kill().unwrap();
        // Before anybody has asked how it ended, and afterwards.
        while !of_child.is_gone() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(of_child.is_gone());
        // Of another machine's nobody knows.
        assert!(!Owner { machine: Some("another".into()), ..of_child.clone() }.is_gone());
        assert!(!Owner { machine: None, ..of_child }.is_gone());
    }
}
