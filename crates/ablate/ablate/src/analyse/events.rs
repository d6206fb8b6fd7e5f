//! Runs of TensorBoard's event files: a folder with a folder for every run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::table::{RUN, Row, STEP};
use crate::events::{NAME, Scalar, next_record, read_event};

/// Fault of an event file.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// It cannot be read.
    #[error("cannot read {}", file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// Reason.
        source: std::io::Error,
    },
    /// There is none in a folder.
    #[error("there is no event file (events.out.tfevents.*) in {}, nor in a folder within; name the folder that TensorBoard is given as --logdir", .0.display())]
    NoFiles(PathBuf),
    /// A checksum that is not that of what it is of.
    #[error(
        "{}: record {record}, at byte {position}: the checksum of its {part} is another one. The file is damaged, or no event file; take an undamaged copy, or leave the run out",
        file.display()
    )]
    Checksum {
        /// The file.
        file: PathBuf,
        /// The record, counted from 1.
        record: usize,
        /// Its place in the file.
        position: usize,
        /// `length` or `data`.
        part: &'static str,
    },
    /// Data that are no event.
    #[error(
        "{}: record {record}, at byte {position}, is no event of TensorBoard: {what}. A file of TFRecords that holds something else has no runs to analyse",
        file.display()
    )]
    Message {
        /// The file.
        file: PathBuf,
        /// The record, counted from 1.
        record: usize,
        /// Its place in the file.
        position: usize,
        /// Fault of the message.
        what: &'static str,
    },
}

type Result<T> = std::result::Result<T, EventError>;

/// Whether a path is for this reader: a folder, or a file that is called as event files are.
pub(super) fn is_for(path: &Path) -> bool {
    path.is_dir() || path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(NAME))
}

/// The rows of a file or of a folder with a folder for every run: one for every run and step, with a column for every
/// tag. What was left out goes to `notes`.
pub(super) fn rows(path: &Path, notes: &mut Vec<String>) -> Result<Vec<Row>> {
    let mut files = Vec::new();
    let top = if path.is_dir() {
        collect(path, &mut files)?;
        if files.is_empty() {
            return Err(EventError::NoFiles(path.to_owned()));
        }
        path
    } else {
        files.push(path.to_owned());
        path.parent().and_then(Path::parent).unwrap_or(Path::new(""))
    };
    // A run that was continued has several files, whose names begin with the time; of a step that is in two, the later
    // one counts.
    files.sort();
    let mut runs: BTreeMap<(String, i64), Row> = BTreeMap::new();
    for file in files {
        let folder = file.parent().unwrap_or(Path::new(""));
        let within = folder.strip_prefix(top).unwrap_or(folder);
        let parts: Vec<_> = within.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        let run = if parts.is_empty() { name_of(folder) } else { parts.join("/") };
        for Scalar { tag, step, value } in scalars(&file, notes)? {
            let row = runs.entry((run.clone(), step)).or_insert_with(|| {
                Row::from([(RUN.to_owned(), run.clone()), (STEP.to_owned(), step.to_string())])
            });
            row.insert(tag, value.to_string());
        }
    }
    Ok(runs.into_values().collect())
}

fn name_of(folder: &Path) -> String {
    folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |source| EventError::Io { file: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if is_for(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// The scalars of a file, in its order.
fn scalars(file: &Path, notes: &mut Vec<String>) -> Result<Vec<Scalar>> {
    let bytes = std::fs::read(file).map_err(|source| EventError::Io { file: file.to_owned(), source })?;
    let mut found = Vec::new();
    let (mut rest, mut record) = (&bytes[..], 0);
    while !rest.is_empty() {
        let position = bytes.len() - rest.len();
        record += 1;
        let checksum = |part| EventError::Checksum { file: file.to_owned(), record, position, part };
        let Some(data) = next_record(&mut rest).map_err(checksum)? else {
            notes.push(format!(
                "{}: its last record, the {}, at byte {position}, is cut off, as in the file of a run that is not over or was killed. What is before it was read.",
                file.display(),
                nth(record)
            ));
            break;
        };
        read_event(data, &mut found).map_err(|what| EventError::Message {
            file: file.to_owned(),
            record,
            position,
            what,
        })?;
    }
    Ok(found)
}

fn nth(number: usize) -> String {
    let ending = match (number % 10, number % 100) {
        (1, tens) if tens != 11 => "st",
        (2, tens) if tens != 12 => "nd",
        (3, tens) if tens != 13 => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_their_endings() {
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 13, 21, 111].map(nth),
            ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "111th"]
        );
    }
}
