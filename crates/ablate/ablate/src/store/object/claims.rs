//! Claims in an object store.
//!
//! A claim is an object. It is created only if there is none, and rewritten or taken over only if its version is still
//! the last one that was read. So only one of several processes succeeds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::path::Path;
use object_store::{PutMode, UpdateVersion};

use super::ObjectError;
use super::objects::Objects;
use crate::store::claim::{self, CLAIM, EXPIRY, owner};
use crate::store::owner::Owner;
use crate::store::watch::Watch;

/// A claim's object.
pub(super) struct Lease {
    objects: Objects,
    path: Path,
    owner: Owner,
    beats: u64,
    version: UpdateVersion,
    /// Before the last sign of life.
    alive: Instant,
    is_lost: bool,
}

impl Lease {
    /// Writes the next sign of life, unless the claim is another owner's by now.
    fn write(&mut self) -> Result<(), ObjectError> {
        let content = claim::content(&self.owner, self.beats + 1).unwrap_or_default();
        loop {
            let now = Instant::now();
            let mode = PutMode::Update(self.version.clone());
            if let Some(version) = self.objects.put(&self.path, &content, mode)? {
                (self.version, self.alive) = (version, now);
                self.beats += 1;
                return Ok(());
            }
            match own_version(&self.objects, &self.path, &self.owner)? {
                Some(version) if version != self.version => self.version = version,
                _ => {
                    self.is_lost = true;
                    return Ok(());
                }
            }
        }
    }

    fn remove(mut self) -> Result<(), ObjectError> {
        // Stores remove an object whatever its version is. Nobody takes over what gave a sign of life a moment ago.
        if !self.is_lost && self.alive.elapsed() > EXPIRY / 2 {
            self.write()?;
        }
        if self.is_lost { Ok(()) } else { self.objects.delete(&self.path) }
    }
}

impl claim::Lease for Lease {
    fn beat(&mut self) {
        if !self.is_lost {
            let _ = self.write();
        }
    }

    fn give_back(self) {
        let _ = self.remove();
    }
}

/// Claims of a store, for one process.
#[derive(Debug, Clone)]
pub(super) struct Claims(Arc<Watch>);

impl Claims {
    pub(super) fn new() -> Self {
        Self(Arc::new(Watch::new()))
    }

    /// The time of this process' own clock.
    pub(super) fn now(&self) -> Duration {
        self.0.now()
    }

    /// Claims a run, unless another process has, at a time of this process' own clock.
    pub(super) fn lease(
        &self,
        objects: &Objects,
        address: &str,
        now: Duration,
    ) -> Result<Option<Lease>, ObjectError> {
        let path = objects.of_run(&format!("{address}.{CLAIM}"));
        let own = Owner::new();
        loop {
            let mode = match objects.get(&path)? {
                None => PutMode::Create,
                Some((content, version)) => {
                    let is_gone = owner(&content).is_some_and(|owner| owner.is_gone());
                    let mark = format!("{version:?}");
                    if !is_gone && !self.0.has_expired(address, mark.as_bytes(), now) {
                        return Ok(None);
                    }
                    PutMode::Update(version)
                }
            };
            let alive = Instant::now();
            let content = claim::content(&own, 0).unwrap_or_default();
            let version = match objects.put(&path, &content, mode)? {
                Some(version) => Some(version),
                None => own_version(objects, &path, &own)?,
            };
            if let Some(version) = version {
                self.0.forget(address);
                let objects = objects.clone();
                return Ok(Some(Lease {
                    objects,
                    path,
                    owner: own,
                    beats: 0,
                    version,
                    alive,
                    is_lost: false,
                }));
            }
        }
    }
}

/// The version of an owner's claim, where it is there. A write that was refused may have been done all the same: its
/// answer got lost on the way, and it was asked for again.
fn own_version(objects: &Objects, path: &Path, own: &Owner) -> Result<Option<UpdateVersion>, ObjectError> {
    let found = objects.get(path)?.filter(|(content, _)| owner(content).as_ref() == Some(own));
    Ok(found.map(|(_, version)| version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::backend::Backend;
    use crate::store::claim::Lease as _;
    use crate::store::object::objects::tests::in_memory;

    /// As a machine of which this one knows nothing would have claimed it.
    fn foreign(objects: &Objects, address: &str) -> Lease {
        let mut lease = take(objects, address, Duration::ZERO).unwrap();
        let mut owner = serde_json::to_value(&lease.owner).unwrap();
        owner["machine"] = "another machine".into();
        lease.owner = serde_json::from_value(owner).unwrap();
        let content = claim::content(&lease.owner, 0).unwrap();
        let mode = PutMode::Update(lease.version.clone());
        lease.version = objects.put(&lease.path, &content, mode).unwrap().unwrap();
        lease
    }

    fn take(objects: &Objects, address: &str, now: Duration) -> Option<Lease> {
        objects.claims.lease(objects, address, now).unwrap()
    }

    #[test]
    fn a_claim_of_a_live_owner_is_respected_and_an_expired_one_taken_over_by_the_watchers_own_clock() {
        let [owner, first, second] = in_memory();
        let mut lease = foreign(&owner, "x");
        // The second watcher's clock is days ahead.
        let (seconds, ahead) = (Duration::from_secs, Duration::from_secs(172_800));
        for second_of_life in (0..600).step_by(30) {
            let now = seconds(second_of_life);
            assert!(take(&first, "x", now).is_none() && take(&second, "x", ahead + now).is_none(), "{now:?}");
            lease.beat();
        }
        // From here on it is dead. What counts is the first look that saw its last sign of life.
        let end = seconds(600);
        assert!(take(&first, "x", end).is_none() && take(&second, "x", ahead + end + seconds(50)).is_none());
        assert!(take(&first, "x", end + EXPIRY - seconds(1)).is_none());
        assert!(take(&second, "x", ahead + end + EXPIRY).is_none());
        let taken = take(&first, "x", end + EXPIRY).unwrap();
        // The second one now sees another owner, and begins to watch again.
        assert!(take(&second, "x", ahead + end + seconds(50) + EXPIRY).is_none());
        // The first owner was only slow: its signs of life change nothing, and it gives back nothing of the other
        // one's.
        lease.beat();
        assert!(lease.is_lost);
        lease.give_back();
        let (content, version) = first.get(&taken.path).unwrap().unwrap();
        assert_eq!((super::owner(&content).as_ref(), &version), (Some(&taken.owner), &taken.version));
        taken.give_back();
        assert_eq!(first.names().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn of_many_that_see_a_claim_expire_one_has_the_next() {
        for round in 0..50 {
            let all: [Objects; 9] = in_memory();
            let (owner, watchers) = all.split_first().unwrap();
            drop(foreign(owner, "x"));
            for watcher in watchers {
                assert!(take(watcher, "x", Duration::ZERO).is_none());
            }
            let barrier = std::sync::Barrier::new(watchers.len());
            let wins = |watcher| {
                barrier.wait();
                usize::from(take(watcher, "x", EXPIRY).is_some())
            };
            let wins: usize = std::thread::scope(|scope| {
                let threads: Vec<_> = watchers.iter().map(|watcher| scope.spawn(|| wins(watcher))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(wins, 1, "round {round}");
        }
    }

    #[test]
    fn of_many_that_begin_a_run_one_has_the_claim() {
        let all: [Objects; 8] = in_memory();
        let take = |objects| usize::from(take(objects, "x", Duration::ZERO).is_some());
        let wins: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = all.iter().map(|objects| scope.spawn(|| take(objects))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(wins, 1);
    }

    #[test]
    fn a_dropped_claim_is_given_back_with_nothing_left_and_what_is_no_claim_expires_like_one() {
        let [objects, other] = in_memory();
        let claim = objects.claim("x").unwrap();
        assert!(claim.is_some() && other.claim("x").unwrap().is_none());
        drop(claim);
        assert_eq!(objects.names().unwrap(), Vec::<String>::new());
        objects.write("x.claim", b"").unwrap();
        assert!(take(&other, "x", Duration::ZERO).is_none() && take(&other, "x", EXPIRY).is_some());
    }

    #[test]
    fn a_sign_of_life_whose_answer_got_lost_is_no_lost_claim() {
        let [objects] = in_memory();
        let mut lease = take(&objects, "x", Duration::ZERO).unwrap();
        // It was written, and its owner never heard of the new version.
        let content = claim::content(&lease.owner, 1).unwrap();
        let mode = PutMode::Update(lease.version.clone());
        assert!(objects.put(&lease.path, &content, mode).unwrap().is_some());
        lease.beat();
        assert!(!lease.is_lost && lease.beats == 1);
        let (found, version) = objects.get(&lease.path).unwrap().unwrap();
        assert_eq!((found, version), (content, lease.version.clone()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_claim_of_a_process_of_this_machine_that_is_no_more_is_taken_over_at_once() {
        let [objects, other] = in_memory();
        let mut lease = take(&objects, "x", Duration::ZERO).unwrap();
        assert!(take(&other, "x", Duration::ZERO).is_none());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let mut owner = serde_json::to_value(&lease.owner).unwrap();
        owner["pid"] = child.id().into();
        child.wait().unwrap();
        lease.owner = serde_json::from_value(owner).unwrap();
        let content = claim::content(&lease.owner, 0).unwrap();
        objects.put(&lease.path, &content, PutMode::Overwrite).unwrap();
        assert!(take(&other, "x", Duration::ZERO).is_some());
    }
}
