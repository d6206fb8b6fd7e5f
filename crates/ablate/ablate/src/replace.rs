//! Files that are whole or not there.

use std::io::{Result, Write};
use std::path::Path;

use atomic_write_file::AtomicWriteFile;

/// Writes a file under a name of its own and puts it in `path`'s place when all of it is on the disk.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = AtomicWriteFile::open(path)?;
    file.write_all(content)?;
    file.commit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_replaced_with_the_permissions_of_any_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        replace(&path, b"old").unwrap();
        replace(&path, b"new").unwrap();
        fs::write(&other, "").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let permissions = |path: &Path| fs::metadata(path).unwrap().permissions();
        assert_eq!(permissions(&path), permissions(&other));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        assert!(replace(&folder.path().join("none/a"), b"").is_err());
    }
}
