//! The files that determine what a command does.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use glob::{MatchOptions, Pattern};
use sha2::{Digest, Sha256};

/// Files that Python writes while it runs.
const BYTE_CODE: &str = "__pycache__";

/// SHA-256 of the files that patterns name, relative to `folder`, with their names. Hidden ones and Python's byte code
/// don't count.
///
/// # Errors
/// A pattern that is none or matches nothing, or a file that cannot be read.
pub(super) fn digest(folder: &Path, patterns: &[String]) -> Result<String> {
    let mut digest = Sha256::new();
    for file in files(folder, patterns)? {
        let content = fs::read(folder.join(&file))
            .with_context(|| format!("cannot read {}, one of the `sources`", file.display()))?;
        let name = file.to_string_lossy().replace('\\', "/");
        for part in [name.as_bytes(), &content] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn files(folder: &Path, patterns: &[String]) -> Result<BTreeSet<PathBuf>> {
    let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::default() };
    let mut files = BTreeSet::new();
    for pattern in patterns {
        // To glob, what ends in `**` is the folders alone.
        let of_files = if pattern.ends_with("**") { format!("{pattern}/*") } else { pattern.clone() };
        let within = Path::new(&Pattern::escape(&folder.to_string_lossy())).join(of_files);
        let found = glob::glob_with(&within.to_string_lossy(), options)
            .with_context(|| format!("`sources`: {pattern:?} is no pattern of files"))?;
        let before = files.len();
        for path in found {
            let path = path.with_context(|| format!("`sources`: {pattern:?}"))?;
            let is_byte_code = path.components().any(|part| part.as_os_str() == BYTE_CODE);
            if path.is_file() && !is_byte_code {
                files.insert(path.strip_prefix(folder).unwrap_or(&path).to_owned());
            }
        }
        let named = format!("`sources`: there is no file {pattern:?} in {}", shown(folder));
        ensure!(
            files.len() > before || has_file(&files, pattern),
            "{named}; a pattern is relative to the study file"
        );
    }
    Ok(files)
}

/// Whether another pattern has already named what this one names.
fn has_file(files: &BTreeSet<PathBuf>, pattern: &str) -> bool {
    Pattern::new(pattern).is_ok_and(|pattern| files.iter().any(|file| pattern.matches_path(file)))
}

fn shown(folder: &Path) -> String {
    if folder.as_os_str().is_empty() { "this folder".to_owned() } else { folder.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_of_names_and_contents_and_not_of_what_running_leaves_behind() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        let of = |patterns: &[&str]| {
            digest(folder.path(), &patterns.iter().map(|pattern| (*pattern).to_owned()).collect::<Vec<_>>())
        };
        write("train.py", "a");
        write("model/block.py", "b");
        write("model/deep/norm.py", "c");
        let patterns = ["train.py", "model/**"];
        let first = of(&patterns).unwrap();
        write("model/__pycache__/block.pyc", "x");
        write("model/.block.py.swp", "x");
        write("notes.txt", "x");
        assert_eq!(of(&patterns).unwrap(), first);
        assert_eq!(of(&["model/**", "train.py", "train.py", "model/*.py"]).unwrap(), first);
        write("model/deep/norm.py", "d");
        let second = of(&patterns).unwrap();
        assert_ne!(second, first);
        fs::rename(folder.path().join("model/block.py"), folder.path().join("model/blocks.py")).unwrap();
        assert_ne!(of(&patterns).unwrap(), second);
        let error = format!("{:#}", of(&["trian.py"]).unwrap_err());
        assert!(
            error.contains("no file \"trian.py\"") && error.contains("relative to the study file"),
            "{error}"
        );
        assert!(format!("{:#}", of(&["a***"]).unwrap_err()).contains("no pattern"));
        assert!(of(&[]).is_ok());
    }
}
