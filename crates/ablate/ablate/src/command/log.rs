//! Log of a run: the other output of its command, of all attempts one after the other.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// Beginning of the line of a log between two attempts.
const NEXT_ATTEMPT: &str = "--- attempt";

/// Lines of a command's last words that an error shows.
const LAST_LINES: usize = 8;

/// A log for an attempt, after what those before have said, and where it begins.
pub(super) fn begin(path: &Path) -> Result<(File, usize)> {
    let open = || -> io::Result<(File, usize)> {
        let mut log = OpenOptions::new().append(true).create(true).open(path)?;
        let before = fs::read(path)?;
        let before = String::from_utf8_lossy(&before);
        if !before.is_empty() {
            let attempts = before.lines().filter(|line| line.starts_with(NEXT_ATTEMPT)).count();
            let end = if before.ends_with('\n') { "" } else { "\n" };
            writeln!(log, "{end}{NEXT_ATTEMPT} {} ---", attempts + 2)?;
        }
        let begin = log.metadata()?.len();
        Ok((log, begin as usize))
    };
    open().with_context(|| format!("cannot write {}", path.display()))
}

/// Adds to a log.
///
/// # Errors
/// It cannot be written.
pub(super) fn append(path: &Path, content: &[u8]) -> Result<()> {
    let file = OpenOptions::new().append(true).open(path);
    file.and_then(|mut file| file.write_all(content))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The last lines of an attempt that began there.
pub(super) fn last_lines(path: &Path, begin: usize) -> String {
    let said = fs::read(path).unwrap_or_default();
    let said = String::from_utf8_lossy(said.get(begin..).unwrap_or_default());
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    last.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
