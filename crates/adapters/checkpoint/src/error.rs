use std::path::PathBuf;

/// Errors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is damaged, or is not a checkpoint.
    #[error("this is not a complete checkpoint: {reason}")]
    Damaged {
        /// The fault.
        reason: String,
    },
    /// The file has a newer version of the format than this program knows.
    #[error(
        "this checkpoint has format version {found}; this program knows up to {known}, a newer one is needed"
    )]
    Newer {
        /// The file's version.
        found: u64,
        /// The newest known version.
        known: u64,
    },
    /// Two arrays of state would have the same name in the file. Nothing is written.
    #[error("two arrays of the state would be called `{name}`; rename a parameter or a transform")]
    OneName {
        /// The name.
        name: String,
    },
    /// The names of parameters and arrays are longer than a file can hold. Nothing is written.
    #[error(
        "the names of the parameters and of {arrays} arrays take {bytes} bytes, and files of safetensors hold {limit}: shorten the parameters' names, or join small parameters"
    )]
    TooManyArrays {
        /// The number of arrays.
        arrays: usize,
        /// Bytes of their names and offsets.
        bytes: usize,
        /// Limit of these bytes.
        limit: usize,
    },
    /// The file belongs to an optimizer with other groups or parameters.
    #[error(transparent)]
    Misfit(#[from] gradient_transform::Error),
}

/// The result of an operation of this crate.
///
/// ```
/// use checkpoint::{Error, Result};
/// use gradient_transform::{Descent, Optimizer, Restored};
///
/// fn resume(optimizer: &mut Optimizer) -> Result<Restored> {
///     checkpoint::load("no/such/file", optimizer)
/// }
/// let mut optimizer = Optimizer::new(Descent::default(), [("w", &[1][..])])?;
/// assert!(matches!(resume(&mut optimizer), Err(Error::Io { .. })));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;
