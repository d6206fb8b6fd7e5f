//! `ablate merge`: the union of stores.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::execute::Execution;
use crate::folder::{Folder, STUDY_FILE};
use crate::registry::Registry;
use crate::store::{Conflict, MergeError, ObjectError, Store, is_url};
use crate::study::{Overrides, SHIPPED, Study};

/// Folders to merge.
#[derive(Args)]
pub(super) struct Folders {
    /// Destination: a study, for its folder ablation/NAME; a folder, which is created if it does not exist; or the URL
    /// of an object store
    #[arg(value_name = "STUDY|DIR|URL")]
    into: PathBuf,
    /// Folders to read, from other machines or of shares, or URLs of object stores; they stay as they are
    #[arg(required = true, value_name = "DIR|URL")]
    from: Vec<PathBuf>,
}

pub(super) fn merge(folders: &Folders, registry: &Registry) -> Result<String> {
    let Folders { into, from } = folders;
    let is_study = into.is_file() || SHIPPED.iter().any(|(name, _)| into.as_os_str() == *name);
    let study = is_study.then(|| Study::open(into, registry, &Overrides::default())).transpose()?;
    let own = |study: &Study| Path::new("ablation").join(&study.name);
    let out = study.as_ref().map_or_else(|| into.clone(), own);
    // Before anything is written.
    let stores = from.iter().map(|place| existing(place)).collect::<Result<Vec<_>>>()?;
    let text = || text(study.as_ref(), &from[0], &stores[0]);
    let store = match url(&out) {
        Some(url) => {
            let store = Store::at(url, Path::new("."))?;
            if store.study()?.is_none() {
                store.take(&text()?)?;
            }
            store
        }
        None => {
            let folder = Folder::take(&out)?;
            if !folder.path().join(STUDY_FILE).exists() {
                folder.keep_study(&text()?)?;
            }
            Store::open(folder.path())?
        }
    };
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
        let next = match (&study, url(&out)) {
            (Some(_), _) => format!("ablate run {}", into.display()),
            (None, Some(url)) => format!("ablate run STUDY --store {url}"),
            (None, None) => format!("ablate run STUDY --out {}", out.display()),
        };
        return Ok(format!(
            "{shown}All of it is in {}. `{next}` does what is still missing, and writes the report.\n",
            out.display()
        ));
    }
    // A folder's own study, where it can be read, also says which runs these are.
    let study = match study {
        Some(study) => Some(study),
        None => {
            let text = store.study()?.unwrap_or_default();
            Study::parse("study", &text, registry, &Overrides::default()).ok()
        }
    };
    let name = |conflict: &Conflict| named(conflict, study.as_ref(), registry, &store);
    super::show(&shown)?;
    Err(MergeError::Conflicts(conflicts.iter().map(name).collect()).into())
}

/// The URL of an object store; nothing where it is a folder.
fn url(place: &Path) -> Option<&str> {
    place.to_str().filter(|text| is_url(text))
}

/// The store of a folder or an object store, which is there.
fn existing(place: &Path) -> Result<Store> {
    match url(place) {
        Some(url) => {
            let store = Store::at(url, Path::new("."))?;
            store.study()?.map(|_| store).ok_or_else(|| ObjectError::NoStudy(url.to_owned()).into())
        }
        None => Ok(Store::existing(place)?),
    }
}

/// The study that runs are kept with.
fn text(study: Option<&Study>, from: &Path, store: &Store) -> Result<String> {
    let text = match study {
        Some(study) => Some(study.text.clone()),
        None => store.study()?,
    };
    text.with_context(|| format!("cannot read {}", from.join(STUDY_FILE).display()))
}

/// Name of the run with two results. It needs a study that was run with the sources of this program.
fn named(conflict: &Conflict, study: Option<&Study>, registry: &Registry, store: &Store) -> String {
    let Conflict { address, here, there, difference } = conflict;
    let name = study.and_then(|study| {
        let execution = Execution::new(study, registry, store).only_stored();
        execution.name(address).ok().flatten()
    });
    let name = name.unwrap_or_else(|| address.clone());
    format!("{name}: {difference} ({here}, {there})")
}
