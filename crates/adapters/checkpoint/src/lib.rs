#![doc = include_str!("../README.md")]

mod error;
mod file;
mod format;
mod image;
mod migrate;
mod read;

use std::path::Path;

pub use error::{Error, Result};
use gradient_transform::{Optimizer, Real, RestoreOptions, Restored};
use image::Image;

/// Saves an optimizer's state. An earlier file stays intact until the new one is complete and on the disk,
/// and is then replaced. State is written without a copy, so that saving needs little memory.
///
/// If `path` is a symbolic link, the file that it points to is replaced, as by any program that writes a
/// file. The next save to the same path removes files of processes that were killed during a save
/// (`.state.safetensors.a1B2c3.part`).
///
/// # Errors
/// [`Error::Io`], also for a path that is a folder or a device; [`Error::OneName`] and
/// [`Error::TooManyArrays`] for state that a file cannot hold. An earlier file is unchanged then.
pub fn save<T: Real>(path: impl AsRef<Path>, optimizer: &Optimizer<T>) -> Result<()> {
    let path = path.as_ref();
    let image = Image::of(optimizer)?;
    file::replace(path, |to| image.write(to)).map_err(|source| Error::Io {
        what: "write",
        path: path.to_owned(),
        source,
    })
}

/// Sets an optimizer with the same groups and parameters to a saved state. Groups are matched by the names of
/// their parameters. Transforms that the file doesn't have start fresh. State of transforms that are not in
/// the chain is not used. Hyperparameters may differ. The result lists all of this. Files of older versions
/// of the format are read too.
///
/// # Errors
/// Any [`Error`]: a file that cannot be read, is damaged, newer, or belongs to other parameters. Nothing has changed then.
pub fn load<T: Real>(path: impl AsRef<Path>, optimizer: &mut Optimizer<T>) -> Result<Restored> {
    load_with(path, optimizer, RestoreOptions::default())
}

/// As [`load`], also if parameters or groups are missing on either side, or if y has to move because the
/// averaging has changed: see [`RestoreOptions`].
///
/// ```
/// use gradient_transform::{Optimizer, Parameter, RestoreOptions};
/// use prodigy_plus::ProdigyPlus;
///
/// let mut w = [1.0_f32; 4];
/// let mut first: Optimizer = ProdigyPlus::builder().betas((0.9, 0.99)).build([("w", &[4][..])])?;
/// first.step(&mut [Parameter::slice(&mut w, Some(&[0.1; 4]))])?;
/// let path = tempfile::tempdir()?.keep().join("state.safetensors");
/// checkpoint::save(&path, &first)?;
///
/// // Another beta1: the average x stays, and y, which is between x and z, is moved.
/// let mut second: Optimizer = ProdigyPlus::builder().betas((0.98, 0.99)).build([("w", &[4][..])])?;
/// assert!(checkpoint::load(&path, &mut second).is_err()); // this needs the parameters
/// let parameters = &mut [Parameter::slice(&mut w, None)];
/// let options = RestoreOptions { parameters: Some(parameters), ..RestoreOptions::default() };
/// let restored = checkpoint::load_with(&path, &mut second, options)?;
/// assert_eq!(restored.changed, ["group 0: ScheduleFree.beta1 is 0.98, and 0.9 in the snapshot"]);
/// # std::fs::remove_dir_all(path.parent().unwrap())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`load`], except for the differences that the options allow.
pub fn load_with<T: Real>(
    path: impl AsRef<Path>,
    optimizer: &mut Optimizer<T>,
    options: RestoreOptions<'_, '_>,
) -> Result<Restored> {
    let path = path.as_ref();
    let bytes =
        std::fs::read(path).map_err(|source| Error::Io { what: "read", path: path.to_owned(), source })?;
    from_bytes_with(&bytes, optimizer, options)
}

/// Bytes that [`save`] writes.
///
/// # Errors
/// [`Error::OneName`] and [`Error::TooManyArrays`].
pub fn to_bytes<T: Real>(optimizer: &Optimizer<T>) -> Result<Vec<u8>> {
    let image = Image::of(optimizer)?;
    let mut bytes = Vec::with_capacity(image.len());
    image.write(&mut bytes).map_err(format::damaged)?;
    Ok(bytes)
}

/// As [`load`], from the content of a file.
///
/// # Errors
/// As [`load`], without those of reading.
pub fn from_bytes<T: Real>(bytes: &[u8], optimizer: &mut Optimizer<T>) -> Result<Restored> {
    from_bytes_with(bytes, optimizer, RestoreOptions::default())
}

/// As [`load_with`], from the content of a file.
///
/// ```
/// use gradient_transform::{Descent, Optimizer, RestoreOptions};
///
/// let whole = Optimizer::new(Descent::default(), [("w", &[4][..]), ("head", &[2])])?;
/// let mut part = Optimizer::new(Descent::default(), [("w", &[4][..])])?;
/// let options = RestoreOptions { partly: true, ..RestoreOptions::default() };
/// let restored = checkpoint::from_bytes_with(&checkpoint::to_bytes(&whole)?, &mut part, options)?;
/// assert!(restored.left_out.is_empty()); // the head has had no gradient
/// # Ok::<(), checkpoint::Error>(())
/// ```
///
/// # Errors
/// As [`load_with`], without those of reading.
pub fn from_bytes_with<T: Real>(
    bytes: &[u8],
    optimizer: &mut Optimizer<T>,
    options: RestoreOptions<'_, '_>,
) -> Result<Restored> {
    Ok(optimizer.restore_with(read::read(bytes)?, options)?)
}
