//! Claims in a folder, which hold on network file systems.
//!
//! A claim is created exclusively, and taken over by renaming its file. Only one of several processes can do either.
//! Locks of the system would end with their process, but many network file systems do not share them with other
//! machines.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::store::claim::{self, CLAIM, Claim, owner};
use crate::store::owner::Owner;
use crate::store::watch::Watch;

/// Ending of claims that have been taken away from somebody, for the moment in which it is looked at whose they were.
pub(super) const AWAY: &str = "away";

/// A claim's file.
#[derive(Debug)]
struct Lease {
    path: PathBuf,
    /// The file that was created, also where another process has taken it away and made one of its own of the same
    /// name.
    file: File,
    owner: Owner,
    beats: u64,
}

impl Lease {
    /// Creates the file, unless there is one.
    fn begin(path: &Path) -> std::io::Result<Option<Self>> {
        let file = match OpenOptions::new().create_new(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut lease = Self { path: path.to_owned(), file, owner: Owner::new(), beats: 0 };
        if let Err(error) = lease.write() {
            let _ = fs::remove_file(path);
            return Err(error);
        }
        Ok(Some(lease))
    }

    fn write(&mut self) -> std::io::Result<()> {
        let content = claim::content(&self.owner, self.beats)?;
        self.file.rewind()?;
        self.file.write_all(&content)
    }

    fn remove(&self) -> std::io::Result<()> {
        take_away(&self.path, |content| owner(content).as_ref() == Some(&self.owner)).map(drop)
    }
}

impl claim::Lease for Lease {
    fn beat(&mut self) {
        self.beats += 1;
        let _ = self.write().and_then(|()| self.file.sync_data());
    }

    fn give_back(self) {
        let _ = self.remove();
    }
}

/// Claims of a folder, for one process.
#[derive(Debug, Clone)]
pub(super) struct Claims {
    folder: PathBuf,
    watch: Arc<Watch>,
}

impl Claims {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), watch: Arc::new(Watch::new()) }
    }

    /// Claims a run, unless another process has.
    pub(super) fn claim(&self, address: &str) -> Result<Option<Claim>> {
        let path = self.path(address);
        let lease = self.lease(address, self.watch.now());
        let lease = lease.with_context(|| format!("cannot claim {}", path.display()))?;
        lease.map(Claim::of).transpose()
    }

    fn path(&self, address: &str) -> PathBuf {
        self.folder.join(format!("{address}.{CLAIM}"))
    }

    /// At a time of this process' own clock.
    fn lease(&self, address: &str, now: Duration) -> std::io::Result<Option<Lease>> {
        let path = self.path(address);
        loop {
            if let Some(lease) = Lease::begin(&path)? {
                self.watch.forget(address);
                return Ok(Some(lease));
            }
            let Some(content) = read(&path)? else { continue };
            let owner = owner(&content);
            let is_gone = owner.as_ref().is_some_and(Owner::is_gone);
            if !is_gone && !self.watch.has_expired(address, &content, now) {
                return Ok(None);
            }
            // Of all that have seen it expire, one may take it away: the next ones would take away what is claimed
            // again.
            let right = format!("{address}-{}", owner.map_or("unwritten".to_owned(), |owner| owner.claim));
            let Some(lease) = self.lease(&right, now)? else { return Ok(None) };
            if read(&path)?.as_ref() == Some(&content) {
                take_away(&path, |found| found == content)?;
            }
            lease.remove()?;
        }
    }

    /// Removes claims that were taken away by a process that has ended since.
    pub(super) fn tidy_away(&self, path: &Path) {
        let is_gone = |content: &[u8]| owner(content).is_none_or(|owner| owner.is_gone());
        if matches!(read(path), Ok(Some(content)) if is_gone(&content)) {
            let _ = fs::remove_file(path);
        }
    }
}

/// The content of a claim, while there is one.
fn read(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if [ErrorKind::NotFound, ErrorKind::StaleNetworkFileHandle].contains(&error.kind()) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Removes a claim that is what it is expected to be; of several processes that try, one does.
fn take_away(path: &Path, is_expected: impl Fn(&[u8]) -> bool) -> std::io::Result<bool> {
    let aside = path.with_extension(format!("{:016x}.{AWAY}", rand::random::<u64>()));
    // What counts is whether it is there afterwards: an answer may have been lost on the way, and been asked for again.
    let _ = fs::rename(path, &aside);
    let Some(content) = read(&aside)? else { return Ok(false) };
    if is_expected(&content) {
        fs::remove_file(&aside)?;
        return Ok(true);
    }
    // Between the look and now, it has been claimed again. A third process may have its own there meanwhile: then two
    // do the same run.
    fs::rename(&aside, path)?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::claim::{EXPIRY, Lease as _};
    use std::time::SystemTime;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A claim of a machine of which this one knows nothing.
    fn foreign(claims: &Claims, address: &str) -> Lease {
        let mut lease = claims.lease(address, Duration::ZERO).unwrap().unwrap();
        let mut owner = serde_json::to_value(&lease.owner).unwrap();
        owner["machine"] = "another machine".into();
        owner["host"] = "node-7".into();
        lease.owner = serde_json::from_value(owner).unwrap();
        lease.file.set_len(0).unwrap();
        lease.write().unwrap();
        lease
    }

    fn files(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_claim_expires_by_its_watchers_own_clock_whatever_other_clocks_say() {
        let folder = tempfile::tempdir().unwrap();
        let [owner, first, second] = [(); 3].map(|()| Claims::new(folder.path()));
        let mut lease = foreign(&owner, "x");
        // The second watcher's clock is days ahead, and the file's date goes back and forth.
        let ahead = 48 * HOUR;
        let seconds = Duration::from_secs;
        for second_of_life in (0..600).step_by(30) {
            let now = seconds(second_of_life);
            let shift =
                if second_of_life % 60 == 0 { SystemTime::now() + HOUR } else { SystemTime::now() - HOUR };
            lease.file.set_modified(shift).unwrap();
            assert!(first.lease("x", now).unwrap().is_none(), "{now:?}");
            assert!(second.lease("x", ahead + now).unwrap().is_none(), "{now:?}");
            lease.beat();
        }
        // From here on it is dead. What counts is the first look that saw its last sign of life.
        let end = seconds(600);
        assert!(first.lease("x", end).unwrap().is_none());
        assert!(second.lease("x", ahead + end + seconds(50)).unwrap().is_none());
        lease.file.set_modified(SystemTime::now() + 24 * HOUR).unwrap();
        assert!(first.lease("x", end + EXPIRY - seconds(1)).unwrap().is_none());
        assert!(second.lease("x", ahead + end + EXPIRY).unwrap().is_none());
        let taken = first.lease("x", end + EXPIRY).unwrap().unwrap();
        // The second one now sees another owner, and begins to watch again.
        assert!(second.lease("x", ahead + end + seconds(50) + EXPIRY).unwrap().is_none());
        assert_eq!(files(folder.path()), 1);
        // The first owner was only slow: its signs of life go nowhere, and it gives back nothing of the other one's.
        lease.beat();
        lease.remove().unwrap();
        assert_eq!(super::owner(&fs::read(owner.path("x")).unwrap()), Some(taken.owner));
        assert_eq!(files(folder.path()), 1);
    }

    #[test]
    fn of_many_that_see_a_claim_expire_one_has_the_next() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..50 {
            let address = format!("{round}");
            let owner = Claims::new(folder.path());
            drop(foreign(&owner, &address));
            let watchers: Vec<Claims> = (0..8).map(|_| Claims::new(folder.path())).collect();
            for watcher in &watchers {
                assert!(watcher.lease(&address, Duration::ZERO).unwrap().is_none());
            }
            let barrier = std::sync::Barrier::new(watchers.len());
            let take = &|watcher: &Claims| {
                barrier.wait();
                watcher.lease(&address, EXPIRY).unwrap().is_some()
            };
            let wins: usize = std::thread::scope(|scope| {
                let take = |watcher| scope.spawn(move || take(watcher));
                let threads: Vec<_> = watchers.iter().map(take).collect();
                threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
            });
            assert_eq!(wins, 1, "round {round}");
            assert_eq!(files(folder.path()), round + 1);
        }
    }

    #[test]
    fn a_claim_that_changed_hands_since_it_was_looked_at_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claims::new(folder.path());
        let old = foreign(&claims, "x");
        let seen = fs::read(claims.path("x")).unwrap();
        drop(old);
        assert!(take_away(&claims.path("x"), |content| content == seen).unwrap());
        let new = foreign(&claims, "x");
        assert!(!take_away(&claims.path("x"), |content| content == seen).unwrap());
        assert_eq!(owner(&fs::read(claims.path("x")).unwrap()), Some(new.owner));
        assert_eq!(files(folder.path()), 1);
        assert!(!take_away(&claims.path("none"), |_| true).unwrap());
    }

    #[test]
    fn a_claim_whose_owner_was_killed_before_it_wrote_a_word_expires_like_any_other() {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claims::new(folder.path());
        File::create(claims.path("x")).unwrap();
        assert!(claims.lease("x", Duration::ZERO).unwrap().is_none());
        assert!(claims.lease("x", EXPIRY).unwrap().is_some());
    }

    #[test]
    fn a_dropped_claim_is_given_back_with_nothing_left() {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claims::new(folder.path());
        let claim = claims.claim("x").unwrap();
        assert!(claim.is_some() && claims.claim("x").unwrap().is_none());
        drop(claim);
        assert_eq!(files(folder.path()), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_an_error_and_no_endless_wait() {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claims::new(&folder.path().join("none"));
        let error = format!("{:#}", claims.claim("x").unwrap_err());
        assert!(error.contains("cannot claim"), "{error}");
    }
}
