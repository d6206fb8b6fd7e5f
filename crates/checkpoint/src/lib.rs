#![doc = include_str!("../README.md")]

mod error;
mod format;
mod migrate;

use std::io::Write;
use std::path::Path;

use atomic_write_file::AtomicWriteFile;
pub use error::{Error, Result};
use gradient_transform::{Optimizer, Real, Restored};

/// Saves an optimizer's state. An earlier file is replaced when the new one is complete, and is whole until then.
///
/// # Errors
/// [`Error::Io`].
pub fn save<T: Real>(path: impl AsRef<Path>, optimizer: &Optimizer<T>) -> Result<()> {
    let path = path.as_ref();
    let bytes = to_bytes(optimizer)?;
    let write = || {
        let mut file = AtomicWriteFile::open(path)?;
        file.write_all(&bytes)?;
        file.commit()
    };
    write().map_err(|source| Error::Io { what: "write", path: path.to_owned(), source })
}

/// Puts an optimizer of the same groups and parameters to a saved state. Transforms that the file doesn't know begin anew;
/// state of transforms that are not in the chain is left out; both are listed in what is returned. Files of older versions of
/// the format are read too.
///
/// # Errors
/// Any [`Error`]: a file that cannot be read, is damaged, newer, or belongs to other parameters. Nothing has changed then.
pub fn load<T: Real>(path: impl AsRef<Path>, optimizer: &mut Optimizer<T>) -> Result<Restored> {
    let path = path.as_ref();
    let bytes =
        std::fs::read(path).map_err(|source| Error::Io { what: "read", path: path.to_owned(), source })?;
    from_bytes(&bytes, optimizer)
}

/// What [`save`] writes.
///
/// # Errors
/// [`Error::Damaged`] for a state that safetensors cannot hold.
pub fn to_bytes<T: Real>(optimizer: &Optimizer<T>) -> Result<Vec<u8>> {
    format::write(optimizer)
}

/// As [`load`], from the content of a file.
///
/// # Errors
/// As [`load`], but for reading.
pub fn from_bytes<T: Real>(bytes: &[u8], optimizer: &mut Optimizer<T>) -> Result<Restored> {
    Ok(optimizer.restore(format::read(bytes)?)?)
}
