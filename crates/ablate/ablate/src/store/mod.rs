//! Store of runs: one file each, addressed by everything that determines it.
//!
//! ```
//! use ablate::optimizer::{ChainSpec, OptimizerSpec};
//! use ablate::record::{Outcome, Point, Record};
//! use ablate::measured::Measured;
//! use ablate::store::{Claim, Found, Key, Store};
//! use ablate_tasks::{Evaluation, Split};
//!
//! let optimizer = OptimizerSpec::Chain(ChainSpec::default());
//! let key = Key {
//!     code: "the digest of the sources",
//!     own: "1",
//!     task: "digits",
//!     options: &serde_json::json!({}),
//!     optimizer: &optimizer,
//!     setting: None,
//!     seed: 0,
//!     steps: 100,
//!     evaluations: 20,
//!     final_split: Split::Test,
//!     prefix: None,
//! };
//! let address = key.address()?;
//! assert_ne!(Key { seed: 1, ..key }.address()?, address);
//!
//! let folder = tempfile::tempdir()?;
//! let store = Store::open(folder.path())?;
//! assert_eq!(store.load(&address)?, Found::Nothing);
//! let claim: Option<Claim> = store.claim(&address)?; // of two processes, one gets it
//! assert!(claim.is_some());
//! let curve = vec![Point {
//!     step: 0,
//!     batch_loss: None,
//!     train: Evaluation { loss: 2.3, accuracy: None },
//!     validation: Evaluation { loss: 2.3, accuracy: None },
//!     groups: Vec::new(),
//!     seconds: 0.0,
//! }];
//! let measured = Measured::from(Record {
//!     outcome: Outcome::Diverged { step: 1, reason: "the loss is infinite".into() },
//!     curve,
//!     steps: 0,
//!     skipped: 0,
//!     state_bytes: None,
//!     initial_sha256: String::new(),
//!     batches_sha256: String::new(),
//!     trajectory_sha256: String::new(),
//!     forked: None, findings: vec![],
//! });
//! store.save(&address, &measured)?;
//! assert_eq!(store.load(&address)?, Found::Whole(Box::new(measured)));
//! drop(claim);
//! store.tidy(); // removes what killed processes left behind
//!
//! // Another machine's runs: what is not here yet is copied, and what is must have the same result.
//! use ablate::store::{Conflict, MergeError, Merged};
//!
//! let other = tempfile::tempdir()?;
//! let there = Store::open(other.path())?;
//! let Merged { copied, known, conflicts, damaged } = there.merge(&store)?;
//! let none: Vec<Conflict> = conflicts;
//! assert_eq!((copied, known, none.len(), damaged.len()), (1, 0, 0, 0));
//! assert_eq!(there.merge(&Store::existing(folder.path())?)?.known, 1);
//! assert!(matches!(Store::existing(&other.path().join("none")), Err(MergeError::NoStore(_))));
//!
//! std::fs::write(folder.path().join("runs").join(format!("{address}.json")), "half a fi")?;
//! assert!(matches!(store.load(&address)?, Found::Damaged(_)));
//! # Ok::<(), anyhow::Error>(())
//! ```

mod backend;
mod claim;
mod folder;
mod key;
mod merge;
mod object;
mod owner;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::backend::{Backend, Changed};
use self::claim::CLAIM;
pub use self::claim::Claim;
use self::folder::Folder;
pub use self::key::Key;
pub(crate) use self::key::{CommandKey, PrefixKey};
use self::merge::difference;
pub use self::merge::{Conflict, MergeError, Merged};
pub(crate) use self::object::{ObjectError, is_url};
pub(crate) use self::owner::machine;
use crate::folder::STUDY_FILE;
use crate::measured::Measured;
use crate::prefix::Prefix;
use crate::replace::replace;

/// A file of the store.
#[derive(Serialize, Deserialize)]
struct Stored {
    sha256: String,
    record: String,
}

/// Content of an address.
#[derive(Debug, Clone, PartialEq)]
pub enum Found<C = Measured> {
    /// A run, or something else that is stored.
    Whole(Box<C>),
    /// Nothing.
    Nothing,
    /// A file that is not what was written.
    Damaged(String),
}

/// The folder of runs in a study's.
const RUNS: &str = "runs";

/// Ending of the files of runs.
const RUN: &str = "json";

/// Ending of the files of states.
const PREFIX: &str = "state";

/// Ending of the files of runs that have not ended.
const CHECKPOINT: &str = "checkpoint";

/// Ending of the folders of attempts at a command's runs.
const ATTEMPTS: &str = "attempts";

/// Separator between the address of a run and the random part of a folder's name.
const WORK: &str = ".work-";

/// The runs of a study, in its folder or in an object store.
#[derive(Debug, Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
    /// The folder on this machine, for what no other one needs.
    folder: PathBuf,
}

impl Store {
    /// The store of a study's folder.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(study_folder: &Path) -> Result<Self> {
        let store = Self::in_folder(study_folder);
        store.make_folder()?;
        Ok(store)
    }

    /// The store of a study's folder, which is there.
    ///
    /// # Errors
    /// It isn't.
    pub fn existing(study_folder: &Path) -> Result<Self, MergeError> {
        let store = Self::in_folder(study_folder);
        if store.folder.is_dir() { Ok(store) } else { Err(MergeError::NoStore(study_folder.to_owned())) }
    }

    fn in_folder(study_folder: &Path) -> Self {
        let folder = study_folder.join(RUNS);
        Self { backend: Arc::new(Folder::new(&folder)), folder }
    }

    /// The store in an object store. The study's folder is for files of this machine only, and is created when one is
    /// written.
    ///
    /// # Errors
    /// It is no address of one, or this program was built without them.
    pub(crate) fn at(url: &str, study_folder: &Path) -> Result<Self, ObjectError> {
        Ok(Self { backend: object::open(url)?, folder: study_folder.join(RUNS) })
    }

    /// Begins a study, or resumes one.
    ///
    /// # Errors
    /// The place holds something else, or cannot be used.
    pub(crate) fn take(&self, study: &str) -> Result<()> {
        self.backend.take(study)
    }

    /// The study that the runs are kept with, if it is there.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub(crate) fn study(&self) -> Result<Option<String>> {
        let mut study = None;
        self.change(STUDY_FILE, |content| {
            study = content.map(|content| String::from_utf8_lossy(content).into_owned());
            Ok(None)
        })?;
        Ok(study)
    }

    fn make_folder(&self) -> Result<()> {
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot create {}", self.folder.display()))
    }

    /// A folder for a run to work in, which is gone when it is dropped. No two have the same: a command that outlived a
    /// killed program may still write to its own.
    pub(crate) fn work_folder(&self, address: &str) -> Result<tempfile::TempDir> {
        self.make_folder()?;
        let folder = tempfile::Builder::new().prefix(&format!("{address}{WORK}")).tempdir_in(&self.folder);
        folder.with_context(|| format!("cannot write to {}", self.folder.display()))
    }

    /// Folder of the attempts at a command's run. With an object store, only this machine uses it.
    pub(crate) fn attempts(&self, address: &str) -> PathBuf {
        self.path(address, ATTEMPTS)
    }

    /// File of this machine for the checkpoint of a run. With an object store, checkpoints are in the store instead.
    pub(crate) fn checkpoint_file(&self, address: &str) -> PathBuf {
        self.path(address, CHECKPOINT)
    }

    /// The runs that have a folder of attempts.
    pub(crate) fn attempted(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let address = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let (address, ending) = name.rsplit_once('.')?;
            (ending == ATTEMPTS).then(|| address.to_owned())
        };
        let mut addresses: Vec<String> = entries.filter_map(address).collect();
        addresses.sort();
        addresses
    }

    /// A file of this machine.
    pub(crate) fn path(&self, address: &str, extension: &str) -> PathBuf {
        self.folder.join(name(address, extension))
    }

    /// Time between two looks for a run that another process does.
    pub(crate) fn patience(&self) -> Duration {
        self.backend.patience()
    }

    /// Changes a file of the study other than its runs. Other processes may change it, too.
    ///
    /// # Errors
    /// Those of the change, or the file cannot be read or written.
    pub(crate) fn change(&self, name: &str, mut change: impl FnMut(Option<&[u8]>) -> Changed) -> Result<()> {
        self.backend.change(name, &mut change)
    }

    /// Content of an address.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn load(&self, address: &str) -> Result<Found> {
        self.read(&name(address, RUN), parse)
    }

    /// The state of a run that is kept at an address.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub(crate) fn load_prefix(&self, address: &str) -> Result<Found<Prefix>> {
        self.read(&name(address, PREFIX), Prefix::from_bytes)
    }

    /// Keeps the state of a run, unless another process is about to: afterwards the whole file is there, or what was
    /// there before.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn save_prefix(&self, address: &str, prefix: &Prefix) -> Result<()> {
        let Some(_claim) = self.claim(address)? else { return Ok(()) };
        self.backend.write(&name(address, PREFIX), &prefix.to_bytes()?)
    }

    /// Checkpoint of a run that has not ended.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub(crate) fn load_checkpoint(&self, address: &str) -> Result<Found<Prefix>> {
        self.read(&name(address, CHECKPOINT), Prefix::from_bytes)
    }

    /// As [`save_prefix`](Self::save_prefix), for the run itself to continue with.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn save_checkpoint(&self, address: &str, prefix: &Prefix) -> Result<()> {
        self.backend.write(&name(address, CHECKPOINT), &prefix.to_bytes()?)
    }

    /// Forgets the checkpoint of a run that has ended.
    pub(crate) fn remove_checkpoint(&self, address: &str) {
        // Where it stays, it is tidied away.
        let _ = self.backend.remove(&name(address, CHECKPOINT));
    }

    /// Forgets the attempts at a command's run that has ended.
    pub(crate) fn remove_attempts(&self, address: &str) {
        // Where something writes to them, they are tidied away later.
        let _ = fs::remove_dir_all(self.attempts(address));
    }

    /// Contents of several addresses, in their order.
    ///
    /// # Errors
    /// A file is there and cannot be read.
    pub(crate) fn load_all(&self, addresses: &[String]) -> Result<Vec<Found>> {
        let names: Vec<String> = addresses.iter().map(|address| name(address, RUN)).collect();
        let contents = self.backend.read_all(&names)?;
        Ok(names.iter().zip(contents).map(|(name, content)| self.found(name, content, parse)).collect())
    }

    fn read<C>(&self, name: &str, parse: fn(&[u8]) -> Result<C>) -> Result<Found<C>> {
        Ok(self.found(name, self.backend.read(name)?, parse))
    }

    fn found<C>(&self, name: &str, content: Option<Vec<u8>>, parse: fn(&[u8]) -> Result<C>) -> Found<C> {
        match content.map(|content| parse(&content)) {
            None => Found::Nothing,
            Some(Ok(content)) => Found::Whole(Box::new(content)),
            Some(Err(error)) => Found::Damaged(format!("{}: {error:#}", self.backend.shown(name))),
        }
    }

    /// Stores a run: afterwards the whole file is there, or what was there before. In an object store the first result
    /// stays.
    ///
    /// # Errors
    /// It cannot be written, or there is another result. A run that does not reach an object store is kept in the
    /// study's folder.
    pub fn save(&self, address: &str, run: &Measured) -> Result<()> {
        let record = serde_json::to_string(run)?;
        let stored = Stored { sha256: hex(record.as_bytes()), record };
        let content = serde_json::to_vec(&stored)?;
        if !self.backend.keeps_first() {
            return self.backend.write(&name(address, RUN), &content);
        }
        match self.save_first(address, run, &content) {
            Err(error) if error.is::<ObjectError>() => Err(self.keep(address, &content, error)),
            outcome => outcome,
        }
    }

    /// Stores a run, unless another process has stored it meanwhile.
    fn save_first(&self, address: &str, run: &Measured, content: &[u8]) -> Result<()> {
        let name = name(address, RUN);
        while !self.backend.create(&name, content)? {
            match self.load(address)? {
                Found::Whole(first) => {
                    return match difference(&first, run) {
                        None => Ok(()),
                        Some(difference) => {
                            Err(MergeError::Second { at: self.backend.shown(&name), difference }.into())
                        }
                    };
                }
                Found::Damaged(_) => self.backend.remove(&name)?,
                Found::Nothing => {}
            }
        }
        Ok(())
    }

    /// Keeps a run on this machine that could not be stored, so that its training is not lost.
    fn keep(&self, address: &str, content: &[u8], error: anyhow::Error) -> anyhow::Error {
        let path = self.path(address, RUN);
        let kept = self.make_folder().and_then(|()| Ok(replace(&path, content)?));
        match kept {
            Ok(()) => error.context(format!(
                "the run has ended, but the store does not take it, so it is kept in {}; bring it to the store by `ablate merge` with the URL and the folder {}",
                path.display(),
                self.folder.parent().unwrap_or(&self.folder).display()
            )),
            Err(_) => error,
        }
    }

    /// Claims a run, unless another process has. One whose process is no more, or has given no sign of life for a
    /// minute of looking at it, is taken over.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn claim(&self, address: &str) -> Result<Option<Claim>> {
        self.backend.claim(address)
    }

    /// Removes files of killed processes, if these are known to have ended.
    pub fn tidy(&self) {
        let names = self.backend.names().unwrap_or_default();
        for file in &names {
            match file.rsplit_once('.') {
                Some((address, CLAIM)) => drop(self.claim(address)),
                Some((address, CHECKPOINT)) if names.contains(&name(address, RUN)) => {
                    self.remove_checkpoint(address);
                }
                _ => {}
            }
        }
        self.backend.tidy();
        for address in self.attempted() {
            if names.contains(&name(&address, RUN))
                && let Ok(Some(_claim)) = self.claim(&address)
            {
                self.remove_attempts(&address);
            }
        }
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let file = entry.file_name();
            if let Some(address) = file.to_str().and_then(unfinished)
                && let Ok(Some(_claim)) = self.claim(address)
            {
                let _ = fs::remove_file(entry.path());
            }
            if let Some((address, _)) = file.to_str().and_then(|name| name.split_once(WORK))
                && let Ok(Some(_claim)) = self.claim(address)
            {
                // Where it fails, a command still writes to it.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// The name of a file.
fn name(address: &str, extension: &str) -> String {
    format!("{address}.{extension}")
}

/// The address of a file that is written under another name first, until it is whole.
fn unfinished(name: &str) -> Option<&str> {
    let (address, rest) = name.strip_prefix('.')?.split_once('.')?;
    let (extension, _) = rest.split_once('.')?;
    [RUN, PREFIX, CHECKPOINT].contains(&extension).then_some(address)
}

fn parse(bytes: &[u8]) -> Result<Measured> {
    let stored: Stored = serde_json::from_slice(bytes).context("not a stored run")?;
    ensure!(hex(stored.record.as_bytes()) == stored.sha256, "its checksum is not that of its content");
    let run: Measured = serde_json::from_str(&stored.record).context("a stored run of another version")?;
    if run.record.curve.is_empty() {
        bail!("it has no curve");
    }
    Ok(run)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::{Outcome, Point, Record};
    use ablate_tasks::Evaluation;

    pub(crate) fn run() -> Measured {
        let evaluation = Evaluation { loss: 0.1, accuracy: None };
        let point = Point {
            step: 0,
            batch_loss: None,
            train: evaluation,
            validation: evaluation,
            groups: vec![],
            seconds: 0.5,
        };
        Measured::from(Record {
            outcome: Outcome::Finished { evaluation },
            curve: vec![point],
            steps: 3,
            skipped: 0,
            state_bytes: Some(8),
            initial_sha256: "a".into(),
            batches_sha256: "b".into(),
            trajectory_sha256: "c".into(),
            forked: None,
            findings: vec![],
        })
    }

    #[test]
    fn what_is_stored_is_found_and_what_is_damaged_is_noticed_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.load("x").unwrap(), Found::Nothing);
        store.save("x", &run()).unwrap();
        assert_eq!(store.load("x").unwrap(), Found::Whole(Box::new(run())));
        let path = folder.path().join("runs/x.json");
        let whole = fs::read(&path).unwrap();
        for position in (0..whole.len()).step_by(7) {
            let mut damaged = whole.clone();
            damaged[position] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert!(matches!(store.load("x").unwrap(), Found::Damaged(_)), "byte {position}");
        }
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(matches!(store.load("x").unwrap(), Found::Damaged(_)));
    }

    #[test]
    fn what_a_killed_process_had_half_written_is_removed_and_what_is_being_written_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let write = |name: &str| {
            let path = folder.path().join("runs").join(name);
            fs::write(&path, "half a fi").unwrap();
            path
        };
        let halves = [".x.checkpoint.Ab3", ".x.json.Ab3", ".y.state.Ab3"].map(write);
        let others = [".x.other.Ab3", ".merge-Ab3", "notes.txt", "x.checkpoint"].map(write);
        let claims = ["x", "y"].map(|address| store.claim(address).unwrap().unwrap());
        store.tidy();
        assert!(halves.iter().chain(&others).all(|path| path.exists()));
        drop(claims);
        store.tidy();
        assert!(halves.iter().all(|path| !path.exists()) && others.iter().all(|path| path.exists()));
        // A checkpoint is of no use when its run has ended.
        store.save("x", &run()).unwrap();
        store.tidy();
        assert!(!others[3].exists() && store.path("x", RUN).exists());
    }

    #[test]
    fn a_run_can_be_claimed_once_and_again_when_it_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let claim = store.claim("x").unwrap();
        assert!(claim.is_some());
        store.tidy();
        assert!(store.claim("x").unwrap().is_none(), "tidying must not take a claim away");
        // Nor the folder that a run works in, which goes with the claim when its program was killed.
        let work = store.work_folder("x").unwrap().keep();
        store.tidy();
        assert!(work.is_dir());
        drop(claim);
        store.tidy();
        assert!(!work.exists());
        assert!(store.claim("x").unwrap().is_some());
        assert_eq!(fs::read_dir(folder.path().join("runs")).unwrap().count(), 0);
    }
}
