//! Places of a study's runs and of its report.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;

use crate::folder::Folder;
use crate::store::{Store, is_url};
use crate::study::Study;

#[derive(Args, Default)]
pub(super) struct Place {
    /// The study's folder, for runs and report [default: ablation/NAME]
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Keep the runs in an object store, and only the report in the study's folder: s3://BUCKET/PREFIX,
    /// gs://BUCKET/PREFIX or az://CONTAINER/PREFIX, with credentials from the environment or the machine; needs a
    /// program that was built with the feature `object-store`
    #[arg(long, value_name = "URL")]
    pub(super) store: Option<String>,
}

/// Places of a study's runs and of its report.
pub(super) struct Places {
    /// The study's folder.
    pub(super) folder: PathBuf,
    /// The object store of its runs; absent where they are in the folder.
    pub(super) store: Option<String>,
}

impl Place {
    /// # Errors
    /// A folder is no URL, and an object store one.
    pub(super) fn of(&self, study: &Study) -> Result<Places> {
        if let Some(out) = self.out.as_ref().filter(|out| is_url(&out.to_string_lossy())) {
            anyhow::bail!(
                "--out {0} is a URL, and a report is written to a folder; --store {0} keeps the runs there",
                out.display()
            );
        }
        if let Some(store) = &self.store {
            ensure!(
                is_url(store),
                "--store {store} is no URL of an object store; --out {store} keeps the runs in a folder"
            );
        }
        let folder = self.out.clone().unwrap_or_else(|| Path::new("ablation").join(&study.name));
        Ok(Places { folder, store: self.store.clone() })
    }
}

impl Places {
    /// Takes the folder, and begins the study in it or resumes one.
    ///
    /// # Errors
    /// It holds something else, or cannot be used.
    pub(super) fn open(&self, study: &Study) -> Result<(Folder, Store)> {
        // Before anything is written.
        let remote = self.store.as_ref().map(|url| Store::at(url, &self.folder)).transpose()?;
        let folder = Folder::take(&self.folder)?;
        if let Some(store) = remote {
            store.take(&study.text)?;
            folder.keep_study(&study.text)?;
            return Ok((folder, store));
        }
        // First, as by it the folder is known to have a study.
        folder.keep_study(&study.text)?;
        let store = Store::open(folder.path())?;
        Ok((folder, store))
    }

    /// The runs that there are, where there is a place for them.
    ///
    /// # Errors
    /// An object store cannot be read.
    pub(super) fn existing(&self) -> Result<Option<Store>> {
        match &self.store {
            Some(url) => Ok(Some(Store::at(url, &self.folder)?)),
            None => Ok(Store::existing(&self.folder).ok()),
        }
    }

    /// Place of the runs, for messages.
    pub(super) fn runs(&self) -> String {
        self.store.clone().unwrap_or_else(|| self.folder.display().to_string())
    }
}
