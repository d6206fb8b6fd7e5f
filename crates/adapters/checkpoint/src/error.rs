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
    /// It is not what was saved, or something else.
    #[error("this is no whole checkpoint: {reason}")]
    Damaged {
        /// The fault.
        reason: String,
    },
    /// It is of a newer version of the format than is known here.
    #[error(
        "this checkpoint has format version {found}; this program knows up to {known}, a newer one is needed"
    )]
    Newer {
        /// The file's version.
        found: u64,
        /// The newest that is known.
        known: u64,
    },
    /// Two arrays of state would have one name in the file. Nothing is written.
    #[error("two arrays of the state would be called `{name}`; rename a parameter or a transform")]
    OneName {
        /// The name.
        name: String,
    },
    /// The names of parameters and arrays are more than a file can have. Nothing is written.
    #[error(
        "the names of the parameters and of {arrays} arrays take {bytes} bytes, and files of safetensors hold {limit}: shorten the parameters' names, or join small parameters"
    )]
    TooManyArrays {
        /// How many arrays there are.
        arrays: usize,
        /// Bytes of their names and places.
        bytes: usize,
        /// Limit of these bytes.
        limit: usize,
    },
    /// It belongs to an optimizer of other groups or parameters.
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
