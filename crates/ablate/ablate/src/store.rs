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
//!     forked: None,
//! });
//! store.save(&address, &measured)?;
//! assert_eq!(store.load(&address)?, Found::Whole(Box::new(measured)));
//! drop(claim);
//! store.tidy(); // removes what killed processes left behind
//! std::fs::write(folder.path().join("runs").join(format!("{address}.json")), "half a fi")?;
//! assert!(matches!(store.load(&address)?, Found::Damaged(_)));
//! # Ok::<(), anyhow::Error>(())
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ablate_tasks::Split;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::measured::Measured;
use crate::optimizer::{OptimizerSpec, Setting};
use crate::prefix::Prefix;
use crate::replace::replace;

/// Everything that determines a run. Two runs with equal keys have equal records, but for the time they took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Key<'a> {
    /// The digest of the program's own sources.
    pub code: &'a str,
    /// The version of a user's own tasks and transforms.
    pub own: &'a str,
    /// The kind of task.
    pub task: &'a str,
    /// Its options.
    pub options: &'a Value,
    /// The optimizer.
    pub optimizer: &'a OptimizerSpec,
    /// The candidate of a tuned arm.
    pub setting: Option<Setting>,
    /// The seed.
    pub seed: u64,
    /// The length.
    pub steps: usize,
    /// Number of evaluations.
    pub evaluations: usize,
    /// The split of the final evaluation.
    pub final_split: Split,
    /// The address of the state that it goes on from; absent for a run from its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<&'a str>,
}

/// Everything that determines the state of a run after a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PrefixKey<'a> {
    /// The digest of the program's own sources.
    pub(crate) code: &'a str,
    /// The version of a user's own tasks and transforms.
    pub(crate) own: &'a str,
    /// The kind of task.
    pub(crate) task: &'a str,
    /// Its options.
    pub(crate) options: &'a Value,
    /// The optimizer.
    pub(crate) optimizer: &'a OptimizerSpec,
    /// The seed.
    pub(crate) seed: u64,
    /// The length of the whole run, which schedules depend on.
    pub(crate) steps: usize,
    /// Number of evaluations of the whole run.
    pub(crate) evaluations: usize,
    /// Steps that it has taken.
    pub(crate) taken: usize,
}

impl PrefixKey<'_> {
    pub(crate) fn address(&self) -> Result<String> {
        address(self)
    }
}

impl Key<'_> {
    /// The address: SHA-256 of the key as JSON, whose tables are sorted.
    ///
    /// # Errors
    /// A number that JSON doesn't have.
    pub fn address(&self) -> Result<String> {
        address(self)
    }
}

/// Everything that determines a run of a command, as far as a study can know.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct CommandKey<'a> {
    /// The program and its arguments, with their places.
    pub(crate) command: &'a [String],
    /// Variables of its environment, with their places.
    pub(crate) environment: &'a BTreeMap<String, String>,
    /// Those from outside, with their values.
    pub(crate) inherited: &'a BTreeMap<String, Option<String>>,
    /// Its number of threads.
    pub(crate) cores: usize,
    /// The digest of its sources.
    pub(crate) sources: &'a str,
    /// The task's options.
    pub(crate) task: &'a Map<String, Value>,
    /// The arm's.
    pub(crate) options: &'a Map<String, Value>,
    /// The candidate of a tuned arm.
    pub(crate) setting: Option<Setting>,
    /// The seed.
    pub(crate) seed: u64,
    /// The length.
    pub(crate) steps: usize,
    /// The split of the final evaluation.
    pub(crate) final_split: Split,
    /// 0, or which time it is run again.
    pub(crate) repeat: usize,
}

impl CommandKey<'_> {
    pub(crate) fn address(&self) -> Result<String> {
        address(self)
    }
}

fn address(key: &impl Serialize) -> Result<String> {
    Ok(hex(&serde_json::to_vec(&serde_json::to_value(key)?)?))
}

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

/// Ending of the files of states.
const PREFIX: &str = "state";

/// Between the address of a run and what tells its folders from each other.
const WORK: &str = ".work-";

/// A folder of runs.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// The right to do a run, which no other process has at the same time. Given back when it is dropped, or the process ends
/// in any way.
#[derive(Debug)]
pub struct Claim {
    file: File,
    path: PathBuf,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Another process that has just opened the file locks what is no longer there. It then does the run once more,
        // with the same result.
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

impl Store {
    /// The store of a study's folder.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(study_folder: &Path) -> Result<Self> {
        let folder = study_folder.join("runs");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// A folder for a run to work in, which is gone when it is dropped. No two have the same: a command that outlived a killed program may still write to
    /// its own.
    pub(crate) fn work_folder(&self, address: &str) -> Result<tempfile::TempDir> {
        let folder = tempfile::Builder::new().prefix(&format!("{address}{WORK}")).tempdir_in(&self.folder);
        folder.with_context(|| format!("cannot write to {}", self.folder.display()))
    }

    pub(crate) fn path(&self, address: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{address}.{extension}"))
    }

    /// Content of an address.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn load(&self, address: &str) -> Result<Found> {
        Self::read(&self.path(address, "json"), parse)
    }

    /// The state of a run that is kept at an address.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub(crate) fn load_prefix(&self, address: &str) -> Result<Found<Prefix>> {
        Self::read(&self.path(address, PREFIX), Prefix::from_bytes)
    }

    /// Keeps the state of a run: afterwards the whole file is there, or what was there before.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn save_prefix(&self, address: &str, prefix: &Prefix) -> Result<()> {
        let path = self.path(address, PREFIX);
        let save = || -> Result<()> { Ok(replace(&path, &prefix.to_bytes()?)?) };
        save().with_context(|| format!("cannot write {}", path.display()))
    }

    fn read<C>(path: &Path, parse: fn(&[u8]) -> Result<C>) -> Result<Found<C>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        Ok(match parse(&bytes) {
            Ok(content) => Found::Whole(Box::new(content)),
            Err(error) => Found::Damaged(format!("{}: {error:#}", path.display())),
        })
    }

    /// Stores a run: afterwards the whole file is there, or what was there before.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, address: &str, run: &Measured) -> Result<()> {
        let path = self.path(address, "json");
        let save = || -> Result<()> {
            let record = serde_json::to_string(run)?;
            let stored = Stored { sha256: hex(record.as_bytes()), record };
            Ok(replace(&path, &serde_json::to_vec(&stored)?)?)
        };
        save().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Claims a run, unless another process has.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn claim(&self, address: &str) -> Result<Option<Claim>> {
        let path = self.path(address, "lock");
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = open.with_context(|| format!("cannot write {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Claim { file, path })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    /// Removes what killed processes left behind, unless it is in use.
    pub fn tidy(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_lock = path.extension().is_some_and(|extension| extension == "lock");
            if is_lock && let Some(address) = path.file_stem().and_then(|stem| stem.to_str()) {
                drop(self.claim(address));
            }
            let name = entry.file_name();
            if let Some((address, _)) = name.to_str().and_then(|name| name.split_once(WORK))
                && let Ok(Some(_claim)) = self.claim(address)
            {
                // Where it fails, a command still writes to it.
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
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
mod tests {
    use super::*;
    use crate::optimizer::Named;
    use crate::record::{Outcome, Point, Record};
    use ablate_tasks::Evaluation;

    fn run() -> Measured {
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

    #[test]
    fn everything_that_determines_a_run_changes_its_address() {
        let options = serde_json::json!({});
        let other_options = serde_json::json!({ "batch": 16 });
        let optimizer = OptimizerSpec::Baseline(Named::of("sgd").unwrap());
        let other_optimizer = OptimizerSpec::Baseline(Named::of("adamw").unwrap());
        let key = Key {
            code: "1",
            own: "",
            task: "digits",
            options: &options,
            optimizer: &optimizer,
            setting: None,
            seed: 0,
            steps: 10,
            evaluations: 2,
            final_split: Split::Test,
            prefix: None,
        };
        let setting = Setting { learning_rate: 0.1, schedule: crate::optimizer::Schedule::Constant };
        let keys = [
            key.clone(),
            Key { code: "2", ..key.clone() },
            Key { own: "2", ..key.clone() },
            Key { task: "mnist", ..key.clone() },
            Key { options: &other_options, ..key.clone() },
            Key { optimizer: &other_optimizer, ..key.clone() },
            Key { setting: Some(setting), ..key.clone() },
            Key { seed: 1, ..key.clone() },
            Key { steps: 11, ..key.clone() },
            Key { evaluations: 3, ..key.clone() },
            Key { final_split: Split::Validation, ..key.clone() },
            Key { prefix: Some("a"), ..key.clone() },
            Key { prefix: Some("b"), ..key.clone() },
        ];
        let mut addresses: Vec<String> = keys.iter().map(|key| key.address().unwrap()).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), keys.len());
        assert_eq!(key.address().unwrap(), keys[0].address().unwrap());
    }
}
