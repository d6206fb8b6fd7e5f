//! Backend of a store: files by name.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::Result;

use super::claim::Claim;

/// Outcome of a change: the file's new content; nothing where it stays as it is.
pub(crate) type Changed = Result<Option<Vec<u8>>>;

/// Files by name, for several processes at once. A file is whole or not there.
pub(super) trait Backend: Debug + Send + Sync {
    /// Begins a study, or resumes one, unless the place holds something else. A study's folder is taken before it is a
    /// store.
    fn take(&self, _study: &str) -> Result<()> {
        Ok(())
    }

    /// The content of a file; nothing where there is none.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// The contents of several files, in their order.
    fn read_all(&self, names: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        names.iter().map(|name| self.read(name)).collect()
    }

    /// Writes a file, or replaces it. Afterwards the file has the new content or the old one, each complete.
    fn write(&self, name: &str, content: &[u8]) -> Result<()>;

    /// Writes a file, unless there is one. Only one of several processes succeeds.
    fn create(&self, name: &str, content: &[u8]) -> Result<bool>;

    /// Removes a file, if there is one.
    fn remove(&self, name: &str) -> Result<()>;

    /// The names of all files.
    fn names(&self) -> Result<Vec<String>>;

    /// Claims a run, unless another process has.
    fn claim(&self, address: &str) -> Result<Option<Claim>>;

    /// Changes a file of the study other than its runs.
    fn change(&self, name: &str, change: &mut dyn FnMut(Option<&[u8]>) -> Changed) -> Result<()>;

    /// Removes left-over files that only this kind of store has.
    fn tidy(&self) {}

    /// Whether the first result of a run stays, and is compared with later ones.
    fn keeps_first(&self) -> bool {
        false
    }

    /// Time between two looks for a run that another process does.
    fn patience(&self) -> Duration;

    /// Path or URL of a file, for messages.
    fn shown(&self, name: &str) -> String;
}
