//! The folder that results go to: written whole or not at all, and never over something else.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// The file by which a folder is known to hold a study's results.
pub const RESULTS_FILE: &str = "results.json";

/// A place that may be written to.
#[derive(Debug)]
pub struct Destination {
    folder: PathBuf,
    replace: bool,
}

impl Destination {
    /// Checks `folder` before any work is done; `replace` allows an earlier result to go.
    pub fn new(folder: &Path, replace: bool) -> Result<Self> {
        let destination = Self { folder: folder.to_path_buf(), replace };
        destination.check()?;
        Ok(destination)
    }

    fn check(&self) -> Result<()> {
        let folder = self.folder.display();
        ensure!(
            self.folder.file_name().is_some(),
            "{folder} cannot be used for results; name a folder of its own with --out"
        );
        if !self.folder.exists() {
            return Ok(());
        }
        ensure!(self.folder.is_dir(), "{folder} is a file; choose a folder with --out");
        let is_empty =
            fs::read_dir(&self.folder).with_context(|| format!("cannot read {folder}"))?.next().is_none();
        if is_empty {
            return Ok(());
        }
        // Without this, `--force --out ~` would be a way to lose a home directory.
        if !self.folder.join(RESULTS_FILE).is_file() {
            bail!(
                "{folder} holds something else than results (there is no {RESULTS_FILE}); choose another folder with --out"
            );
        }
        ensure!(
            self.replace,
            "{folder} already holds results; keep them by choosing another folder with --out, or replace them with --force"
        );
        Ok(())
    }

    /// Lets `fill` write into a temporary folder beside the destination, and puts that in place once it is complete.
    pub fn write(&self, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        self.check()?;
        let partial = self.beside("partial")?;
        fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
        let outcome = fill(&partial).and_then(|()| self.put_in_place(&partial));
        if outcome.is_err() {
            // What matters is the first error; a left-over folder does no harm.
            let _ = fs::remove_dir_all(&partial);
        }
        outcome
    }

    fn beside(&self, purpose: &str) -> Result<PathBuf> {
        let name = self.folder.file_name().context("the results need a folder of their own")?;
        let name = format!(".{}.{purpose}-{}", name.to_string_lossy(), std::process::id());
        Ok(self.folder.with_file_name(name))
    }

    fn put_in_place(&self, partial: &Path) -> Result<()> {
        let replaced = self.beside("replaced")?;
        let had_earlier = self.folder.exists();
        if had_earlier {
            fs::rename(&self.folder, &replaced)
                .with_context(|| format!("cannot move the earlier {} aside", self.folder.display()))?;
        }
        if let Err(error) = fs::rename(partial, &self.folder) {
            if had_earlier {
                let _ = fs::rename(&replaced, &self.folder);
            }
            return Err(error).with_context(|| format!("cannot create {}", self.folder.display()));
        }
        if had_earlier {
            fs::remove_dir_all(&replaced).with_context(|| format!("cannot remove {}", replaced.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, replace: bool, text: &str) -> Result<()> {
        Destination::new(folder, replace)?.write(|partial| Ok(fs::write(partial.join(RESULTS_FILE), text)?))
    }

    #[test]
    fn an_earlier_result_is_kept_unless_told_otherwise() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("deep/ablation");
        write(&folder, false, "first").unwrap();
        let error = write(&folder, false, "second").unwrap_err().to_string();
        assert!(error.contains("--force") && error.contains("--out"), "{error}");
        assert_eq!(fs::read_to_string(folder.join(RESULTS_FILE)).unwrap(), "first");
        write(&folder, true, "second").unwrap();
        assert_eq!(fs::read_to_string(folder.join(RESULTS_FILE)).unwrap(), "second");
        assert_eq!(fs::read_dir(folder.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_of_other_things_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "years").unwrap();
        let error = write(folder.path(), true, "results").unwrap_err().to_string();
        assert!(error.contains("something else"), "{error}");
        assert!(folder.path().join("thesis.tex").exists());
    }

    #[test]
    fn a_failure_leaves_neither_a_result_nor_a_partial_one() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("ablation");
        let destination = Destination::new(&folder, false).unwrap();
        let outcome = destination.write(|partial| {
            fs::write(partial.join("half"), "")?;
            bail!("interrupted")
        });
        assert_eq!(outcome.unwrap_err().to_string(), "interrupted");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_is_not_a_folder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Destination::new(file.path(), true).unwrap_err().to_string().contains("is a file"));
    }
}
