/// Errors. Every error leaves variables and state as they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The optimizer rejects an option, a chain, a gradient, or a state.
    #[error(transparent)]
    Optimizer(#[from] gradient_transform::Error),
    /// candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// A saved state cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// A variable, or its gradient, that is not in the memory of the optimizer's device.
    #[cfg(any(feature = "cuda", test))]
    #[error(
        "variable `{name}`, or its gradient, is not where the optimizer steps: {reason}; move it there, or step it with `VarOptimizer`"
    )]
    Elsewhere {
        /// The variable.
        name: String,
        /// The reason.
        reason: String,
    },
    /// The executor of steps on CUDA cannot begin.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Cuda(#[from] gradient_cuda::CudaError),
    /// An element type that is not supported.
    #[error(
        "variable `{name}` has type {dtype:?}; the optimizer takes F32 and BF16, and F64 as `VarOptimizer<f64>`: use one of these types, or pass only the other variables"
    )]
    ElementType {
        /// The variable.
        name: String,
        /// Its type.
        dtype: candle_core::DType,
    },
    /// A parameter of the optimizer has no variable.
    #[error("parameter `{name}` of the optimizer has no variable; pass a variable of this name")]
    NoVariable {
        /// The parameter.
        name: String,
    },
    /// A variable is not a parameter of the optimizer.
    #[error(
        "variable `{name}` is in no group of the optimizer, which has: {known}. Put it into a group, or, if it is frozen, leave it out here too"
    )]
    NoParameter {
        /// The variable.
        name: String,
        /// Parameters of the optimizer.
        known: String,
    },
    /// Two names of the same variable.
    #[error(
        "`{first}` and `{second}` are the same variable; pass it once, because its gradient contains both uses already"
    )]
    SameVariable {
        /// One name.
        first: String,
        /// The other.
        second: String,
    },
    /// A variable, or a gradient, that shares memory with another variable.
    #[error("variable `{name}` or its gradient shares memory with another variable; make a copy of it")]
    SharedMemory {
        /// The variable.
        name: String,
    },
}

/// The result of an operation of this crate.
///
/// ```
/// use candle_nn::VarMap;
/// use prodigy_plus_candle::{Error, Options, ProdigyPlus, Result};
///
/// fn new(options: &Options) -> Result<ProdigyPlus> {
///     ProdigyPlus::from_varmap(&VarMap::new(), options)
/// }
/// assert!(matches!(new(&Options::default().d0(0.0)), Err(Error::Optimizer(_))));
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// For candle's own trait, and for functions that return candle's errors.
impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            other => Self::wrap(other),
        }
    }
}
