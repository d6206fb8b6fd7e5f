//! A folder as the place of a store, which several machines may share by a network file system.

mod claims;

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use self::claims::{AWAY, Claims};
use super::backend::{Backend, Changed};
use super::claim::Claim;
use crate::replace::replace;

/// A folder of runs in a study's.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    claims: Claims,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), claims: Claims::new(path) }
    }
}

impl Backend for Folder {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        replace(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }

    fn create(&self, name: &str, content: &[u8]) -> Result<bool> {
        let path = self.path.join(name);
        create(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    fn names(&self) -> Result<Vec<String>> {
        let cannot = || format!("cannot read {}", self.path.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).with_context(cannot)? {
            // Names of this program's files are text.
            names.extend(entry.with_context(cannot)?.file_name().into_string());
        }
        Ok(names)
    }

    fn claim(&self, address: &str) -> Result<Option<Claim>> {
        self.claims.claim(address)
    }

    fn change(&self, name: &str, change: &mut dyn FnMut(Option<&[u8]>) -> Changed) -> Result<()> {
        let path = self.path.with_file_name(name);
        let shown = path.display();
        let content = match fs::read(&path) {
            Ok(content) => Some(content),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        };
        match change(content.as_deref()).with_context(|| shown.to_string())? {
            Some(content) => replace(&path, &content).with_context(|| format!("cannot write {shown}")),
            None => Ok(()),
        }
    }

    fn tidy(&self) {
        for name in self.names().unwrap_or_default() {
            let path = self.path.join(name);
            if path.extension().is_some_and(|extension| extension == AWAY) {
                self.claims.tidy_away(&path);
            }
        }
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(200)
    }

    fn shown(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

/// Writes a file, unless there is one. It appears when all of it is on the disk.
fn create(path: &Path, content: &[u8]) -> std::io::Result<bool> {
    let mut builder = tempfile::Builder::new();
    // Temporary files are their owner's alone, and runs anybody's, as far as the mask allows.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.prefix(".merge-").tempfile_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.error),
    }
}
