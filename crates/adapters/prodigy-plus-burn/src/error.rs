use burn::store::RecordError;
use burn::tensor::DType;

/// Errors. Every error leaves module and state as they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The optimizer rejects an option, a chain, a gradient, or a state.
    #[error(transparent)]
    Optimizer(#[from] gradient_transform::Error),
    /// A record that is damaged, or does not belong to this optimizer.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// A record that burn cannot read or write.
    #[error("a record of burn: {0}")]
    Record(#[from] RecordError),
    /// A tensor that is not in the memory of burn's wgpu device.
    #[cfg(feature = "wgpu")]
    #[error(
        "`{name}` is not in memory of burn's wgpu device: {reason}; move it there, or step the module with `ModuleOptimizer`"
    )]
    Elsewhere {
        /// The parameter that it is or belongs to.
        name: String,
        /// burn's message.
        reason: String,
    },
    /// The executor of steps on wgpu rejects a tensor.
    #[cfg(feature = "wgpu")]
    #[error(transparent)]
    Wgpu(#[from] gradient_wgpu::WgpuError),
    /// A parameter's memory cannot be read.
    #[error("parameter `{name}` cannot be read: {reason}")]
    Read {
        /// The parameter.
        name: String,
        /// burn's message.
        reason: String,
    },
    /// An element type that is not supported.
    #[error(
        "parameter `{name}` has type {dtype:?}; the optimizer takes F32 and BF16, and F64 as `ModuleOptimizer<f64>`: cast it to one of these"
    )]
    ElementType {
        /// The parameter.
        name: String,
        /// Its type.
        dtype: DType,
    },
    /// A parameter whose places in the module hold different values.
    #[error(
        "`{first}` and `{second}` are one parameter, but hold different values; make one a clone of the other, or a separate parameter (`Param::from_tensor`)"
    )]
    Untied {
        /// Its first place.
        first: String,
        /// A later one.
        second: String,
    },
    /// The parameters of the module are not those that the optimizer was made for.
    #[error("the module has {found:?}, but the optimizer was made for {expected:?}")]
    OtherParameters {
        /// Names in the module that the optimizer doesn't know.
        found: Vec<String>,
        /// Names that the module lacks.
        expected: Vec<String>,
    },
}

/// The result of an operation of this crate.
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::Device;
/// use prodigy_plus_burn::{Error, Options, ProdigyPlus, Result};
///
/// fn new(layer: &Linear, options: &Options) -> Result<ProdigyPlus> {
///     ProdigyPlus::new(layer, options)
/// }
/// let layer = LinearConfig::new(3, 2).init(&Device::flex().autodiff());
/// assert!(matches!(new(&layer, &Options::default().d0(0.0)), Err(Error::Optimizer(_))));
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;
