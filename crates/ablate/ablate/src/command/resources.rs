//! Resources that concurrent runs share: cores and devices.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::run::Next;

/// Time after which a waiting run checks whether the study continues.
const PATIENCE: Duration = Duration::from_millis(100);

/// Cores and devices of this machine, which runs share.
pub(crate) struct Resources {
    cores: usize,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    free_cores: usize,
    taken_gpus: BTreeSet<String>,
}

/// Resources of one run, until dropped.
pub(crate) struct Share<'r> {
    resources: &'r Resources,
    cores: usize,
    gpu: Option<String>,
}

impl Resources {
    pub(crate) fn new(cores: usize) -> Self {
        let state = State { free_cores: cores, taken_gpus: BTreeSet::new() };
        Self { cores, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so many cores and one of the devices are free; nothing if the study stops before. A run that wants
    /// more cores than there are runs alone.
    pub(crate) fn take(&self, cores: usize, gpus: &[String], go_on: &dyn Fn() -> Next) -> Option<Share<'_>> {
        let cores = cores.min(self.cores);
        let mut state = self.lock();
        loop {
            if go_on() == Next::Stop {
                return None;
            }
            let gpu = gpus.iter().find(|gpu| !state.taken_gpus.contains(*gpu));
            if state.free_cores >= cores && (gpus.is_empty() || gpu.is_some()) {
                state.free_cores -= cores;
                state.taken_gpus.extend(gpu.cloned());
                return Some(Share { resources: self, cores, gpu: gpu.cloned() });
            }
            let waited = self.changed.wait_timeout(state, PATIENCE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Share<'_> {
    /// The device of the run, if it has one.
    pub(crate) fn gpu(&self) -> Option<&str> {
        self.gpu.as_deref()
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut state = self.resources.lock();
        state.free_cores += self.cores;
        if let Some(gpu) = &self.gpu {
            state.taken_gpus.remove(gpu);
        }
        self.resources.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_and_devices_are_given_once_and_come_back() {
        let resources = Resources::new(4);
        let go = || Next::Go;
        let stop = || Next::Stop;
        let gpus = ["0".to_owned(), "1".to_owned()];
        let first = resources.take(1, &gpus, &go).unwrap();
        let second = resources.take(1, &gpus, &go).unwrap();
        assert_eq!((first.gpu(), second.gpu()), (Some("0"), Some("1")));
        assert!(resources.take(1, &gpus, &stop).is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| resources.take(1, &gpus, &go).unwrap().gpu().map(str::to_owned));
            drop(first);
            assert_eq!(waiting.join().unwrap().as_deref(), Some("0"));
        });
        drop(second);
        // More than there is means alone.
        let alone = resources.take(100, &[], &go).unwrap();
        assert_eq!(resources.lock().free_cores, 0);
        drop(alone);
        assert_eq!(resources.lock().free_cores, 4);
    }
}
