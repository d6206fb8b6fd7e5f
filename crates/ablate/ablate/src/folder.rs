//! A study's folder: the runs, and the report that is made from them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::findings::{FEWEST_PAIRS, Findings};
use crate::replace::replace;
use crate::report::{self, Environment};
use crate::results::Results;
use crate::store::Store;

/// The copy of the study, by which a folder is known to be one of this program's.
pub(crate) const STUDY_FILE: &str = "study.toml";

/// Seeds for which the folder's runs were reported, so that a report knows of the looks before it.
const LOOKS_FILE: &str = "looks.json";

/// A report that was written, or was about to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Look {
    /// The sources of its runs.
    code: String,
    seeds: usize,
    /// Names, and the lengths of runs.
    tasks: Vec<(String, usize)>,
    arms: Vec<String>,
}

impl Look {
    fn at(results: &Results) -> Self {
        Self {
            code: results.code.clone(),
            seeds: results.study.seeds,
            tasks: results.tasks.iter().map(|task| (task.name.clone(), task.steps)).collect(),
            arms: results.arms.iter().skip(1).map(|arm| arm.name.clone()).collect(),
        }
    }

    /// Whether the two have a difference in common.
    fn shares(&self, other: &Self) -> bool {
        self.code == other.code
            && self.tasks.iter().any(|task| other.tasks.contains(task))
            && self.arms.iter().any(|arm| other.arms.contains(arm))
    }
}

/// Numbers of other seeds with which some of these results were reported before, if these were enough for a verdict.
/// Also adds this look to the record of looks, which is next to the runs.
///
/// # Errors
/// The record of looks cannot be read or written.
pub(crate) fn look(store: &Store, results: &Results) -> Result<Vec<usize>> {
    let present = Look::at(results);
    let mut earlier = BTreeSet::new();
    store.change(LOOKS_FILE, |content| {
        let mut looks: Vec<Look> = match content {
            Some(bytes) => serde_json::from_slice(bytes).with_context(|| {
                format!("{LOOKS_FILE} is damaged; without it, the report does not know which reports were written before")
            })?,
            None => Vec::new(),
        };
        let is_earlier = |look: &&Look| {
            look.shares(&present) && look.seeds >= FEWEST_PAIRS && look.seeds != present.seeds
        };
        earlier = looks.iter().filter(is_earlier).map(|look| look.seeds).collect();
        if looks.contains(&present) {
            return Ok(None);
        }
        looks.push(present.clone());
        Ok(Some(serde_json::to_vec(&looks)?))
    })?;
    Ok(earlier.into_iter().collect())
}

/// A folder that may be written to.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Takes a folder that is new, empty, or has a study in it. The runs of other studies in it stay, and count where
    /// they are the same.
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
                "{shown} holds something other than a study (there is no {STUDY_FILE}); choose another folder with --out"
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
        // One that may only be read is read.
        if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(());
        }
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
        assert!(error.contains("something other") && error.contains("--out"), "{error}");
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

    fn results(seeds: usize, arms: &[&str], steps: usize) -> Results {
        let study = serde_json::json!({
            "name": "", "title": "", "question": "", "design": "", "factors": [], "seeds": seeds, "tuning_seeds": 1,
            "evaluations": 1, "text": "",
        });
        let arms: Vec<_> = ["base"]
            .iter()
            .chain(arms)
            .map(|name| {
                serde_json::json!({
                    "name": name, "title": name, "description": "", "role": "changed", "factors": [], "chain": "", "options": [],
                })
            })
            .collect();
        let task = serde_json::json!({
            "name": "digits", "options": {}, "steps": steps, "target": 1.0, "groups": [], "arms": [],
            "about": ablate_tasks::shipped()[0].build(&serde_json::json!({})).unwrap().about(),
        });
        serde_json::from_value(serde_json::json!({
            "study": study, "versions": [], "code": "a", "arms": arms, "refused": [], "tasks": [task],
        }))
        .unwrap()
    }

    #[test]
    fn a_look_at_the_same_runs_with_other_seeds_is_remembered() {
        let parent = tempfile::tempdir().unwrap();
        let store = Store::open(parent.path()).unwrap();
        let look = |seeds, arms: &[&str], steps| look(&store, &results(seeds, arms, steps)).unwrap();
        assert!(look(3, &["cautious"], 100).is_empty());
        assert!(look(8, &["cautious"], 100).is_empty()); // three seeds could say nothing
        assert!(look(8, &["cautious"], 100).is_empty());
        assert_eq!(look(10, &["cautious", "muon"], 100), [8]);
        assert_eq!(look(12, &["muon"], 100), [10]);
        assert!(look(14, &["cautious"], 200).is_empty()); // other runs
        assert!(look(14, &["adopt"], 100).is_empty());
        assert_eq!(look(8, &["cautious"], 100), [10]);
        fs::write(parent.path().join(LOOKS_FILE), "{").unwrap();
        let error = format!("{:#}", super::look(&store, &results(8, &[], 1)).unwrap_err());
        assert!(error.contains("looks.json is damaged"), "{error}");
    }

    #[test]
    fn a_folder_that_another_process_has_just_begun_to_fill_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(format!(".{STUDY_FILE}.a1b2c3")), "tas").unwrap();
        assert!(Folder::take(folder.path()).is_ok());
    }
}
