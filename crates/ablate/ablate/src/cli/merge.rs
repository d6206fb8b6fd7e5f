//! `ablate merge`: the union of stores.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use clap::Args;

use super::{Place, run};
use crate::execute::Execution;
use crate::folder::{Folder, STUDY_FILE};
use crate::registry::Registry;
use crate::store::{Conflict, MergeError, Store};
use crate::study::{Overrides, SHIPPED, Study};

/// Folders to merge.
#[derive(Args)]
pub(super) struct Folders {
    /// Destination: a study, for its folder ablation/NAME, or a folder, which is created if it does not exist
    #[arg(value_name = "STUDY|DIR")]
    into: PathBuf,
    /// Folders to read, from other machines or of shares; they stay as they are
    #[arg(required = true, value_name = "DIR")]
    from: Vec<PathBuf>,
}

pub(super) fn merge(folders: &Folders, registry: &Registry) -> Result<String> {
    let Folders { into, from } = folders;
    let is_study = into.is_file() || SHIPPED.iter().any(|(name, _)| into.as_os_str() == *name);
    let study = is_study.then(|| Study::open(into, registry, &Overrides::default())).transpose()?;
    let out = match &study {
        Some(study) => run::folder(study, &Place { out: None }),
        None => into.clone(),
    };
    // Before anything is written.
    let stores = from.iter().map(|folder| Store::existing(folder)).collect::<Result<Vec<_>, _>>()?;
    let folder = Folder::take(&out)?;
    if !folder.path().join(STUDY_FILE).exists() {
        folder.keep_study(&text(study.as_ref(), &from[0])?)?;
    }
    let store = Store::open(folder.path())?;
    let (mut shown, mut conflicts) = (String::new(), Vec::new());
    for (path, other) in from.iter().zip(stores) {
        let merged = store.merge(&other).with_context(|| format!("{}", path.display()))?;
        writeln!(
            shown,
            "{}: {} copied, {} were there already, with the same result",
            path.display(),
            merged.copied,
            merged.known
        )?;
        for damaged in &merged.damaged {
            writeln!(shown, "  damaged, and not used: {damaged}")?;
        }
        conflicts.extend(merged.conflicts);
    }
    if conflicts.is_empty() {
        let next = if study.is_some() {
            format!("ablate run {}", into.display())
        } else {
            format!("ablate run STUDY --out {}", out.display())
        };
        return Ok(format!(
            "{shown}All of it is in {}. `{next}` does what is still missing, and writes the report.\n",
            out.display()
        ));
    }
    // A folder's own study, where it can be read, also says which runs these are.
    let study =
        study.or_else(|| Study::open(folder.path().join(STUDY_FILE), registry, &Overrides::default()).ok());
    let name = |conflict: &Conflict| named(conflict, study.as_ref(), registry, &store);
    super::show(&shown)?;
    Err(MergeError::Conflicts(conflicts.iter().map(name).collect()).into())
}

/// The study that the folder is kept with.
fn text(study: Option<&Study>, from: &Path) -> Result<String> {
    let path = from.join(STUDY_FILE);
    match study {
        Some(study) => Ok(study.text.clone()),
        None => std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The run with two results. A study says which one it is, where it is one of this program's sources.
fn named(conflict: &Conflict, study: Option<&Study>, registry: &Registry, store: &Store) -> String {
    let Conflict { address, here, there, difference } = conflict;
    let stop = AtomicBool::new(false);
    let name = study.and_then(|study| {
        let execution = Execution { study, registry, store, stop: &stop, may_run: false };
        execution.name(address).ok().flatten()
    });
    let name = name.unwrap_or_else(|| address.clone());
    format!("{name}: {difference} ({}, {})", here.display(), there.display())
}
