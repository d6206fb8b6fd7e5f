//! A file that is replaced when the new one is complete.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// Ending of the names of files that are being written.
const SUFFIX: &str = ".part";

/// Random letters in such a name.
const RANDOM: usize = 6;

/// Replaces the file at `path` by the output of `write`. If the path is a symbolic link, the file that it
/// points to is replaced.
///
/// Until it is complete, the new file has another name in the same folder, and is locked. Files that killed
/// processes have left there are not locked any more, and are removed.
pub(crate) fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    let path = target(path.to_owned())?;
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let earlier = fs::metadata(&path).ok();
    if earlier.as_ref().is_some_and(fs::Metadata::is_dir) {
        return Err(ErrorKind::IsADirectory.into());
    }
    if earlier.as_ref().is_some_and(|earlier| !earlier.is_file()) {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let prefix = prefix(name);
    remove_leftovers(folder, &prefix);
    let file = locked(folder, &prefix)?;
    let mut writer = BufWriter::new(file.as_file());
    write(&mut writer)?;
    writer.flush()?;
    drop(writer);
    if let Some(earlier) = earlier {
        file.as_file().set_permissions(earlier.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(&path)?;
    // So that the new name is on the disk too; if a folder cannot be opened, the system writes it
    // later.
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// The end of a chain of symbolic links, which need not exist.
fn target(mut path: PathBuf) -> io::Result<PathBuf> {
    const MOST_LINKS: usize = 40;
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(link) => path = path.parent().unwrap_or(Path::new("")).join(link),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::new(ErrorKind::InvalidInput, "too many symbolic links"))
}

fn prefix(name: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    prefix
}

/// A new file with a lock, by which other processes see that it is being written.
fn locked(folder: &Path, prefix: &OsStr) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(prefix).suffix(SUFFIX).rand_bytes(RANDOM);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    loop {
        let file = builder.tempfile_in(folder)?;
        // If files cannot be locked, leftovers cannot be distinguished from files that are being written, and
        // stay.
        let is_locked = file.as_file().lock().is_ok();
        if !is_locked || file.path().exists() {
            return Ok(file);
        }
        // Another process took it for a leftover before it was locked.
    }
}

/// Removes such files if no process is writing them. A file that cannot be removed does not affect
/// this save.
fn remove_leftovers(folder: &Path, prefix: &OsStr) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| is_ours(&entry.file_name(), prefix)) {
        let Ok(file) = File::open(entry.path()) else { continue };
        if file.try_lock().is_ok() {
            fs::remove_file(entry.path()).unwrap_or_default();
        }
    }
}

fn is_ours(name: &OsStr, prefix: &OsStr) -> bool {
    let random = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
    let random = random.and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
    random.is_some_and(|random| random.len() == RANDOM && random.iter().all(u8::is_ascii_alphanumeric))
}
