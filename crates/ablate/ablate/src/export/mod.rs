//! Tables of the reported runs and their curves for other programs, as JSON lines or Parquet: [`tables`] says what is
//! in them.

mod json_lines;
#[cfg(feature = "parquet")]
mod parquet;
mod tables;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use self::tables::Table;
use crate::replace::replace;
use crate::results::Results;

/// Form of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    JsonLines,
    #[cfg(feature = "parquet")]
    Parquet,
}

impl Form {
    fn ending(self) -> &'static str {
        match self {
            Self::JsonLines => "jsonl",
            #[cfg(feature = "parquet")]
            Self::Parquet => "parquet",
        }
    }

    fn bytes(self, table: &Table<'_>) -> Result<Vec<u8>> {
        match self {
            Self::JsonLines => json_lines::bytes(table),
            #[cfg(feature = "parquet")]
            Self::Parquet => parquet::bytes(table),
        }
    }
}

/// Writes the tables into a study's folder, replaces existing ones, and returns their paths.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn write(results: &Results, form: Form, folder: &Path) -> Result<Vec<PathBuf>> {
    let write = |table: Table<'_>| {
        let path = folder.join(format!("{}.{}", table.name, form.ending()));
        let written = form.bytes(&table).and_then(|bytes| Ok(replace(&path, &bytes)?));
        written.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    [tables::runs(results), tables::curves(results)].into_iter().map(write).collect()
}
