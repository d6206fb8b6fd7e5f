//! Errors. Every error leaves parameters and state as they were.

use crate::memory::element::DType;

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors. Every error leaves parameters and state as they were.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value of an option is out of range.
    #[error("option `{option}` is {value}, but it must be {expected}")]
    OptionOutOfRange {
        /// Documented name of the option.
        option: &'static str,
        /// The value that was given.
        value: String,
        /// Description of the valid values.
        expected: &'static str,
    },
    /// Two options, or two transforms, that exclude each other.
    #[error("`{first}` and `{second}` exclude each other: {reason}")]
    Excluded {
        /// One of them.
        first: String,
        /// The other.
        second: String,
        /// The reason, and the remedy.
        reason: &'static str,
    },
    /// A chain that cannot run: no writer, two writers, or a transform in the wrong place.
    #[error("the chain [{chain}] cannot run: {reason}")]
    InvalidChain {
        /// The names of its transforms, in order.
        chain: String,
        /// The fault, and the remedy.
        reason: String,
    },
    /// Two parameters of the same name.
    #[error("there are two parameters called `{name}`; state is kept by name, so give each its own")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A parameter with more elements than memory can hold.
    #[error("parameter `{name}` has shape {shape:?}, which is more elements than memory can hold")]
    ShapeTooLarge {
        /// The name.
        name: String,
        /// The shape.
        shape: Vec<usize>,
    },
    /// An unknown parameter name.
    #[error("no parameter is called `{name}`; the parameters are: {known}")]
    UnknownName {
        /// The name.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// An index that is too large.
    #[error("there is no {what} {index}; there are {count}, counted from 0")]
    NoSuch {
        /// `parameter` or `group`.
        what: &'static str,
        /// The index that was given.
        index: usize,
        /// The number that exist.
        count: usize,
    },
    /// The number of parameters in a call is not the number of registered parameters.
    #[error(
        "{found} parameters were given, but the optimizer was made for {expected}; pass all of them in the order of registration, with `None` as the gradient of those without one"
    )]
    ParameterCount {
        /// Parameters registered.
        expected: usize,
        /// Parameters given.
        found: usize,
    },
    /// The shape of a parameter's value, gradient or output is not the registered one.
    #[error(
        "the {what} of parameter `{name}` has shape {found:?}, but the parameter was registered with {expected:?}"
    )]
    ShapeMismatch {
        /// `value`, `gradient`, `array` or `output`.
        what: &'static str,
        /// The parameter.
        name: String,
        /// Shape registered.
        expected: Vec<usize>,
        /// Shape given. For a plain slice, only its length.
        found: Vec<usize>,
    },
    /// A parameter's element type changed, or is not supported by this optimizer.
    #[error("parameter `{name}` is {found}, but {reason}")]
    ElementType {
        /// The parameter.
        name: String,
        /// The type given.
        found: DType,
        /// The reason, and the remedy.
        reason: String,
    },
    /// A gradient's element type is not supported by this optimizer.
    #[error(
        "the gradient of parameter `{name}` is {found}, but this optimizer computes in float32; use an `Optimizer<f64>`, or convert the gradient"
    )]
    GradientType {
        /// The parameter.
        name: String,
        /// The gradient's type.
        found: DType,
    },
    /// A gradient is infinite or not a number.
    #[error(
        "the gradient of parameter `{name}` is {value} at element {index} (in logical order); nothing was changed. Skip such steps with `NonFinite::Skip`, or lower the loss scale"
    )]
    NonFiniteGradient {
        /// The parameter.
        name: String,
        /// Index of the first such element, in logical (row-major) order.
        index: usize,
        /// The value: `inf`, `-inf` or `NaN`.
        value: String,
    },
    /// An element of a given array is infinite or not a number.
    #[error(
        "the array given for parameter `{name}` is {value} at element {index} (in logical order); the array was not stored"
    )]
    NonFiniteArray {
        /// The parameter.
        name: String,
        /// Index of the first such element, in logical (row-major) order.
        index: usize,
        /// The value: `inf`, `-inf` or `NaN`.
        value: String,
    },
    /// An element of a gradient is so large that a sum of its squares could overflow: see
    /// [`Real::LARGEST_GRADIENT`](crate::Real::LARGEST_GRADIENT).
    #[error(
        "the gradient of parameter `{name}` is {value:e} at element {index} (in logical order), too large for {dtype} to square and add up: the limit is {limit:.1e}; nothing was changed. Skip such steps with `NonFinite::Skip`, or lower the loss scale"
    )]
    GradientTooLarge {
        /// The parameter.
        name: String,
        /// Index of the first such element, in logical (row-major) order.
        index: usize,
        /// The value.
        value: f64,
        /// The largest accepted value.
        limit: f64,
        /// The type of the computation.
        dtype: DType,
    },
    /// Gradients cannot be passed one by one, because a transform needs sums over several tensors before any
    /// of them moves.
    #[error(
        "`{transform}` needs sums over several tensors before any of them moves, so a step needs all gradients at once: pass them to `step`, or remove the transform from the chain"
    )]
    NeedsAllGradients {
        /// The first such transform.
        transform: String,
    },
    /// There are accumulated gradients, and a step whose gradients arrive one by one cannot use their mean.
    #[error(
        "gradients were accumulated {count} times, and a step whose gradients arrive one by one cannot use them: pass the last gradients to `step`, or drop the sum with `drop_accumulated`"
    )]
    GradientsAccumulated {
        /// How many times.
        count: u64,
    },
    /// A step lacks a value that a transform needs in addition to parameters and gradients.
    #[error("`{transform}` needs a `{what}` in every step; pass one to `step_with`")]
    NotGiven {
        /// The first such transform.
        transform: String,
        /// The type of the value.
        what: &'static str,
    },
    /// A chain cannot run on a device, because one of its links works on tiles and has no formula of one
    /// element.
    #[error(
        "`{transform}` works on tiles of the processor's memory and has no formula of one element, so it cannot run on a device; remove it from the chain, or write it as a `GradientTransform`"
    )]
    NoFormula {
        /// The first such link.
        transform: String,
    },
    /// A chain cannot run on a device, because one of its links multiplies whole matrices and the device does not.
    #[error(
        "`{transform}` multiplies whole matrices, and this device has no products (`Executor::multiply`); leave it out of the chain, or step on the processor"
    )]
    NoProducts {
        /// The first such link.
        transform: String,
    },
    /// A chain cannot run on a device that has no float64, because one of its transforms has its sums in float64.
    #[error(
        "`{transform}` has its sums in float64, which this device does not have; leave it out of the chain, or step on the processor or on CUDA"
    )]
    NoFloat64 {
        /// The first such transform.
        transform: String,
    },
    /// An optimizer with a [`Recorder`](crate::Recorder) cannot run on a device.
    #[error(
        "a recorder reads tiles in the processor's caches, which a device does not have; remove it with `set_recorder(None)`"
    )]
    RecorderOnDevice,
    /// Parameters that share memory of a device, or a parameter and a gradient.
    #[error(
        "parameter `{first}` or its gradient and parameter `{second}` or its gradient share memory that is to be written; nothing was changed. Use separate memory for each"
    )]
    Overlap {
        /// One of the two.
        first: String,
        /// The other; the same name if a parameter shares memory with its gradient.
        second: String,
    },
    /// A device reported an error.
    #[error("the device failed: {reason}")]
    Device {
        /// Its message.
        reason: String,
    },
    /// A [`GroupPolicy`](crate::GroupPolicy) returned an invalid step size for a group.
    #[error(
        "the policy {policy} gives group {group} {reason}; nothing was changed. Set another policy (`set_policy`)"
    )]
    InvalidPolicy {
        /// The policy, in its `Debug` form.
        policy: String,
        /// The group.
        group: usize,
        /// The result.
        reason: String,
    },
    /// A step was called in evaluation mode.
    #[error("the parameters are at the evaluation point x; call `train` before the next step")]
    EvaluationMode,
    /// [`crate::Optimizer::train`] was called without [`crate::Optimizer::eval`] before.
    #[error("the parameters are at the training point y already")]
    TrainingMode,
    /// A parameter was given twice within one step.
    #[error("parameter `{name}` was given twice within one step")]
    GivenTwice {
        /// The parameter.
        name: String,
    },
    /// The averaging changes: the parameters y must move so that the evaluation point x stays where it is,
    /// and they were not passed.
    #[error(
        "the weight of the averaging (Schedule-Free's beta1) changes from {from} to {to}: to keep x, the y of parameter `{name}` must move. Pass the parameters: `replace_chain_with` in place of `replace_chain`, and `RestoreOptions::parameters` when restoring"
    )]
    ParametersMustMove {
        /// The first such parameter.
        name: String,
        /// The weight so far; 1 if x is y.
        from: f64,
        /// The weight from now on.
        to: f64,
    },
    /// State that does not fit this optimizer.
    #[error("the state does not fit: {reason}")]
    State {
        /// Description of the missing, surplus or differently shaped part.
        reason: String,
    },
}

impl Error {
    /// An error for an option's value that is out of range, unless `valid`.
    pub fn check(option: &'static str, value: f64, valid: bool, expected: &'static str) -> Result<()> {
        if valid {
            Ok(())
        } else {
            Err(Self::OptionOutOfRange { option, value: value.to_string(), expected })
        }
    }
}
