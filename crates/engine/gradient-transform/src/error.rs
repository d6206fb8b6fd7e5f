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
        /// Why, and what to do.
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
    #[error("parameter `{name}` has shape {shape:?}, which is more elements than memory can have")]
    ShapeTooLarge {
        /// The name.
        name: String,
        /// The shape.
        shape: Vec<usize>,
    },
    /// An unknown parameter name.
    #[error("no parameter is called `{name}`; there are: {known}")]
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
        /// How many there are.
        count: usize,
    },
    /// The number of parameters given is not the number registered.
    #[error(
        "{found} parameters were given, but the optimizer was made for {expected}; give all of them in the order of registration, with `None` as the gradient of those that have none"
    )]
    ParameterCount {
        /// Parameters registered.
        expected: usize,
        /// Parameters given.
        found: usize,
    },
    /// A parameter's value, gradient or output has another shape than the parameter was registered with.
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
        /// Shape given. For a plain slice: its length alone.
        found: Vec<usize>,
    },
    /// A parameter's element type changed, or cannot be computed with.
    #[error("parameter `{name}` is {found}, but {reason}")]
    ElementType {
        /// The parameter.
        name: String,
        /// The type given.
        found: DType,
        /// Why that is not possible, and what to do.
        reason: String,
    },
    /// A gradient has an element type that cannot be computed with.
    #[error(
        "the gradient of parameter `{name}` is {found}, but this optimizer computes in float32; make an `Optimizer<f64>`, or convert the gradient"
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
    /// An array that was given beside a gradient is infinite or not a number somewhere.
    #[error(
        "the array given for parameter `{name}` is {value} at element {index} (in logical order); it was not taken"
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
        /// The largest that is accepted.
        limit: f64,
        /// The type that is computed in.
        dtype: DType,
    },
    /// Gradients cannot be given one by one, because a transform takes sums over several tensors before any of them moves.
    #[error(
        "`{transform}` takes sums over several tensors before any of them moves, so a step needs all gradients at once: give them to `step`, or leave it out of the chain"
    )]
    NeedsAllGradients {
        /// The first such transform.
        transform: String,
    },
    /// Accumulated gradients are waiting for a step, and one whose gradients arrive one by one cannot use their mean.
    #[error(
        "gradients were accumulated {count} times for the next step, which this one would leave out: give the last ones to `step`, or forget them with `drop_accumulated`"
    )]
    GradientsAccumulated {
        /// How many times.
        count: u64,
    },
    /// A step was not given a value that a transform needs beside parameters and gradients.
    #[error("`{transform}` needs a `{what}` in every step, and none was given; give one to `step_with`")]
    NotGiven {
        /// The first such transform.
        transform: String,
        /// The type of the value.
        what: &'static str,
    },
    /// A chain cannot run on a device, because one of its links works on tiles and has no formula of an element.
    #[error(
        "`{transform}` works on tiles of the processor's memory and has no formula of one element, so it cannot run on a device; leave it out of the chain, or write it as a `GradientTransform`"
    )]
    NoFormula {
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
        "a recorder looks at tiles in the processor's caches, and on a device there are none; take it off with `set_recorder(None)`"
    )]
    RecorderOnDevice,
    /// Parameters that share memory of a device, or a parameter and a gradient.
    #[error(
        "parameter `{first}` or its gradient and parameter `{second}` or its gradient share memory that is to be written; nothing was changed. Give each memory of its own"
    )]
    Overlap {
        /// The one.
        first: String,
        /// The other; the same where a parameter shares memory with its gradient.
        second: String,
    },
    /// A device reported an error.
    #[error("the device failed: {reason}")]
    Device {
        /// Its message.
        reason: String,
    },
    /// A [`GroupPolicy`](crate::GroupPolicy) gave a group a step size with which no step can be taken.
    #[error(
        "the policy {policy} gives group {group} {reason}; nothing was changed. Give the optimizer another policy (`set_policy`)"
    )]
    InvalidPolicy {
        /// The policy, in its `Debug` form.
        policy: String,
        /// The group.
        group: usize,
        /// The result.
        reason: String,
    },
    /// A step was asked for in evaluation mode.
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
    /// A chain with another averaging takes over: the parameters y must move so that the evaluation point x stays where it is, and
    /// they were not given.
    #[error(
        "x was averaged with a weight (Schedule-Free's beta1) of {from}, and with {to} from now on: to keep it, the y of parameter `{name}` must move. Give the parameters: `replace_chain_with` in place of `replace_chain`, and `RestoreOptions::parameters` when restoring"
    )]
    ParametersMustMove {
        /// The first such parameter.
        name: String,
        /// The weight until now; 1 where x is y.
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
    /// An option's value that is out of range, unless `valid`.
    pub fn check(option: &'static str, value: f64, valid: bool, expected: &'static str) -> Result<()> {
        if valid {
            Ok(())
        } else {
            Err(Self::OptionOutOfRange { option, value: value.to_string(), expected })
        }
    }
}
