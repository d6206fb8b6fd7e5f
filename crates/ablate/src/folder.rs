//! A study's folder: the runs, and the report that is made from them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::findings::Findings;
use crate::replace::replace;
use crate::report::{self, Environment};
use crate::results::Results;

/// The copy of the study, by which a folder is known to be one of this program's.
pub(crate) const STUDY_FILE: &str = "study.toml";

/// A folder that may be written to.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Takes a folder that is new, empty, or has a study in it. The runs of other studies in it stay, and count where they
    /// are the same.
    ///
    /// # Errors
    /// It holds something else, or cannot be made.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        let shown = path.display();
        if path.exists() && !path.is_dir() {
            bail!("{shown} is a file; choose a folder with --out");
        }
        let made = fs::create_dir_all(path).and_then(|()| fs::read_dir(path));
        let mut entries = made.with_context(|| format!("cannot use {shown}"))?.flatten();
        // Another process may be about to put its copy of the study there, or was killed then.
        let begun = format!(".{STUDY_FILE}.");
        let is_empty = entries.all(|entry| entry.file_name().to_string_lossy().starts_with(&begun));
        if !is_empty && !path.join(STUDY_FILE).is_file() {
            bail!(
                "{shown} holds something else than a study (there is no {STUDY_FILE}); choose another folder with --out"
            );
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the study with its runs.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn keep_study(&self, text: &str) -> Result<()> {
        let path = self.path.join(STUDY_FILE);
        replace(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Writes the report: every file is replaced when the new one is complete.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn write_report(
        &self,
        results: &Results,
        findings: &Findings,
        environment: &Environment,
    ) -> Result<()> {
        let partial = tempfile::tempdir_in(&self.path)
            .with_context(|| format!("cannot write to {}", self.path.display()))?;
        report::write(partial.path(), results, findings, environment)?;
        for entry in fs::read_dir(partial.path())? {
            let from = entry?.path();
            let to = self.path.join(from.file_name().unwrap_or_default());
            fs::rename(&from, &to).with_context(|| format!("cannot replace {}", to.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_other_things_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "years").unwrap();
        let error = Folder::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains("something else") && error.contains("--out"), "{error}");
        let file = folder.path().join("thesis.tex");
        assert!(Folder::take(&file).unwrap_err().to_string().contains("is a file"));
        assert_eq!(fs::read_to_string(file).unwrap(), "years");
    }

    #[test]
    fn a_new_folder_is_made_and_taken_again_once_it_has_a_study() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("deep/study");
        Folder::take(&path).unwrap().keep_study("tasks = []").unwrap();
        fs::create_dir(path.join("runs")).unwrap();
        assert!(Folder::take(&path).is_ok());
    }

    #[test]
    fn a_folder_that_another_process_has_just_begun_to_fill_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(format!(".{STUDY_FILE}.a1b2c3")), "tas").unwrap();
        assert!(Folder::take(folder.path()).is_ok());
    }
}
