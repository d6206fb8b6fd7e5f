//! An optimizer whose arrays are on a device.

use std::fmt;

use crate::device::Executor;
use crate::device::formulas::Formulas;
use crate::device::matrices::Matrices;
use crate::device::pointwise::Pointwise;
use crate::engine::tensor::Tensor;
use crate::error::{Error, Result};
use crate::link::compose::stages;
use crate::link::context::{Estimate, StepContext};
use crate::link::published::Published;
use crate::memory::buffer::Buffer;
use crate::memory::element::{Real, Scalar};
use crate::optimizer::Optimizer;
use crate::optimizer::snapshot::Snapshot;
use crate::optimizer::step::StepOutcome;

/// A parameter on a device and its gradient for one step.
///
/// ```
/// use gradient_transform::device::{DeviceParameter, Executor, Interpreter};
/// use gradient_transform::{Buffer, DType};
///
/// let mut weights = Buffer::F32(vec![1.0, 2.0]);
/// let parameter = DeviceParameter { value: &mut weights, gradient: None };
/// assert_eq!(<Interpreter as Executor>::dtype(parameter.value), DType::F32);
/// ```
#[derive(Debug)]
pub struct DeviceParameter<'a, A> {
    /// The parameter, which the step changes in place.
    pub value: &'a mut A,
    /// `None` leaves it as it is in this step.
    pub gradient: Option<&'a A>,
}

/// An [`Optimizer`] whose parameters, gradients and state are on a device.
///
/// It is made from an optimizer, new or with state, and turns back into one: a run can move between host and device in the middle,
/// to the bit as far as the executor's arithmetic allows.
///
/// ```
/// use gradient_transform::device::{DeviceParameter, Interpreter, OnDevice};
/// use gradient_transform::{Buffer, Descent, Optimizer, Parameter};
///
/// let optimizer = Optimizer::new(Descent::default(), [("w", [2])])?;
/// let mut optimizer = OnDevice::new(optimizer, Interpreter)?;
/// let (mut w, g) = (Buffer::F32(vec![1.0, 2.0]), Buffer::F32(vec![0.5, 0.5]));
/// optimizer.step(&mut [DeviceParameter { value: &mut w, gradient: Some(&g) }])?;
/// assert_eq!(w, Buffer::F32(vec![0.5, 1.5]));
///
/// let (mut optimizer, _) = optimizer.into_parts()?; // and on the processor from now on
/// let mut w = [0.5_f32, 1.5];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.5, 0.5]))])?;
/// assert_eq!((w, optimizer.steps(0)?), ([0.0, 1.0], 2));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub struct OnDevice<E: Executor<T>, T: Real = f32> {
    pub(super) optimizer: Optimizer<T>,
    pub(super) executor: E,
    /// The columns of each tensor.
    pub(super) columns: Vec<Vec<E::Array>>,
    pub(super) formulas: Formulas,
    pub(super) matrices: Matrices<E::Array>,
    /// Formulas of changes outside of steps.
    pub(super) pointwise: Pointwise,
    /// The sums of gradients that were given for the next step.
    pub(super) accumulated: Vec<Option<E::Array>>,
    /// The training point y of every parameter, while the parameters are at x, where it is kept.
    pub(super) training: Vec<Option<E::Array>>,
    /// Why the device failed in an earlier call.
    failure: Option<String>,
}

impl<T: Real, E: Executor<T>> OnDevice<E, T> {
    /// Takes an optimizer to a device, with the state that it has, gradients that were accumulated and, between `eval` and `train`, the
    /// training points.
    ///
    /// # Errors
    /// [`Error::NoFormula`] for a link that works on tiles; [`Error::NoProducts`] for one that multiplies matrices, on a device that
    /// does not; [`Error::NoFloat64`] for one whose sums are in float64, on a device that has none; [`Error::InvalidChain`];
    /// [`Error::RecorderOnDevice`]; [`Error::Device`].
    pub fn new(mut optimizer: Optimizer<T>, mut executor: E) -> Result<Self> {
        if optimizer.recorder.is_some() {
            return Err(Error::RecorderOnDevice);
        }
        for tensor in &optimizer.tensors {
            optimizer.formulas_on(tensor.group, &tensor.info.shape, executor.has_float64())?;
        }
        let matrices = Matrices::new(&optimizer, &mut executor)?;
        let Optimizer { groups, tensors, .. } = &mut optimizer;
        for tensor in tensors.iter_mut() {
            tensor.unplan(&stages(&*groups[tensor.group].chain));
        }
        let mut upload = |values: Option<Buffer>| {
            let values = values.filter(|values| !values.is_empty());
            values.map(|values| executor.upload(values)).transpose().map_err(device)
        };
        let accumulated = tensors.iter_mut().map(|tensor| upload(tensor.accumulated.take()));
        let accumulated = accumulated.collect::<Result<_>>()?;
        let training = optimizer.evaluating.iter_mut().flat_map(std::mem::take);
        let training = training.map(|kept| upload(Some(kept))).collect::<Result<_>>()?;
        Ok(Self {
            columns: optimizer.tensors.iter().map(|_| Vec::new()).collect(),
            optimizer,
            executor,
            formulas: Formulas::default(),
            matrices,
            pointwise: Pointwise::default(),
            accumulated,
            training,
            failure: None,
        })
    }

    /// Brings the state to the host, with gradients that were accumulated and, between `eval` and `train`, the training points. Returns the
    /// optimizer and the device.
    ///
    /// # Errors
    /// [`Error::Device`]; the state is lost then.
    pub fn into_parts(mut self) -> Result<(Optimizer<T>, E)> {
        self.usable_still()?;
        self.bring_all()?;
        self.bring_accumulated()?;
        let Self { mut optimizer, executor, .. } = self;
        let Optimizer { groups, tensors, .. } = &mut optimizer;
        for tensor in tensors.iter_mut() {
            tensor.unplan(&stages(&*groups[tensor.group].chain));
        }
        Ok((optimizer, executor))
    }

    /// The state, as [`Optimizer::snapshot`] gives it.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        self.look_at(Optimizer::snapshot)
    }

    /// Looks at the optimizer, with a copy of its state on the host as long as that takes: for checkpoints.
    ///
    /// ```
    /// use gradient_transform::device::{Interpreter, OnDevice};
    /// use gradient_transform::{Descent, Optimizer};
    ///
    /// let optimizer = Optimizer::new(Descent::default(), [("w", [2])])?;
    /// let mut optimizer = OnDevice::new(optimizer, Interpreter)?;
    /// assert_eq!(optimizer.look_at(Optimizer::state_bytes)?, 0); // plain descent keeps nothing
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn look_at<R>(&mut self, look: impl FnOnce(&Optimizer<T>) -> R) -> Result<R> {
        self.usable_still()?;
        self.bring_all()?;
        let seen = look(&self.optimizer);
        self.optimizer.tensors.iter_mut().for_each(Tensor::forget_columns);
        self.optimizer.evaluating.iter_mut().for_each(Vec::clear);
        Ok(seen)
    }

    /// The device.
    pub fn executor(&mut self) -> &mut E {
        &mut self.executor
    }

    /// See [`Optimizer::set_lr`].
    ///
    /// # Errors
    /// As there.
    pub fn set_lr(&mut self, group: usize, lr: f64) -> Result<()> {
        self.optimizer.set_lr(group, lr)
    }

    /// Does something, such as a step, with every group's learning rate multiplied by `factor`. See [`Optimizer::at_lr_factor`].
    ///
    /// ```
    /// use gradient_transform::device::{DeviceParameter, Interpreter, OnDevice};
    /// use gradient_transform::{Buffer, Descent, Optimizer};
    ///
    /// let optimizer = Optimizer::new(Descent::default(), [("w", [1])])?;
    /// let mut optimizer = OnDevice::new(optimizer, Interpreter)?;
    /// let (mut w, g) = (Buffer::F32(vec![1.0]), Buffer::F32(vec![1.0]));
    /// optimizer.at_lr_factor(0.25, |optimizer| {
    ///     optimizer.step(&mut [DeviceParameter { value: &mut w, gradient: Some(&g) }])
    /// })?;
    /// assert_eq!(w, Buffer::F32(vec![0.75]));
    /// assert!(optimizer.at_lr_factor(-1.0, |_| Ok(())).is_err());
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// As there.
    pub fn at_lr_factor<R>(&mut self, factor: f64, step: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        let own = self.optimizer.multiply_lrs(factor)?;
        let outcome = step(self);
        self.optimizer.put_lrs(own);
        outcome
    }

    /// See [`Optimizer::estimate`].
    ///
    /// # Errors
    /// As there.
    pub fn estimate(&self, group: usize) -> Result<Estimate> {
        self.optimizer.estimate(group)
    }

    /// See [`Optimizer::latest_step`].
    ///
    /// # Errors
    /// As there.
    pub fn latest_step(&self, group: usize) -> Result<&StepContext> {
        self.optimizer.latest_step(group)
    }

    /// Number of different formulas of the sweeps of steps so far: a step has one launch for each of its formulas, and those of work on whole
    /// matrices.
    pub fn distinct_formulas(&self) -> usize {
        self.formulas.distinct.len()
    }

    /// Steps every parameter that has a gradient.
    ///
    /// # Errors
    /// Those of [`Optimizer::step`], in each case without a change; [`Error::Device`], after which parameters may have moved, and
    /// every further call fails: resume from the last snapshot.
    pub fn step(&mut self, parameters: &mut [DeviceParameter<'_, E::Array>]) -> Result<StepOutcome> {
        self.usable_still()?;
        let outcome = self.step_once(parameters);
        self.noting_failures(outcome)
    }

    /// See [`Optimizer::step_with`].
    ///
    /// ```
    /// use gradient_transform::device::{DeviceParameter, Interpreter, OnDevice};
    /// use gradient_transform::{Buffer, Descent, Loss, Optimizer};
    ///
    /// let optimizer = Optimizer::new(Descent::default(), [("w", [1])])?;
    /// let mut optimizer = OnDevice::new(optimizer, Interpreter)?;
    /// let (mut w, g) = (Buffer::F32(vec![1.0]), Buffer::F32(vec![0.5]));
    /// optimizer.step_with(Loss(2.0), &mut [DeviceParameter { value: &mut w, gradient: Some(&g) }])?;
    /// assert_eq!(optimizer.latest_step(0)?.published(), Some(Loss(2.0)));
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_with(
        &mut self,
        given: impl Published,
        parameters: &mut [DeviceParameter<'_, E::Array>],
    ) -> Result<StepOutcome> {
        self.optimizer.given.set(given);
        let outcome = self.step(parameters);
        self.optimizer.given.forget();
        outcome
    }

    /// Gives the next step an array beside the gradient of parameter `index`, which is uploaded in that step. See [`Optimizer::give_array`].
    ///
    /// ```
    /// use gradient_transform::device::{Interpreter, OnDevice};
    /// use gradient_transform::{Descent, Error, Optimizer};
    ///
    /// let mut optimizer = OnDevice::new(Optimizer::new(Descent::default(), [("w", [2])])?, Interpreter)?;
    /// optimizer.give_array(0, &[1.0_f32, 2.0])?; // which no transform of this chain reads
    /// assert!(matches!(optimizer.give_array(0, &[1.0_f32]), Err(Error::ShapeMismatch { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As there.
    pub fn give_array<S: Scalar>(&mut self, index: usize, array: &[S]) -> Result<()> {
        self.optimizer.give_array(index, array)
    }

    /// Remembers that the device failed.
    pub(super) fn noting_failures<R>(&mut self, outcome: Result<R>) -> Result<R> {
        if let Err(Error::Device { reason }) = &outcome {
            self.failure = Some(reason.clone());
        }
        outcome
    }

    /// Error if a failure has left state half stepped.
    pub(super) fn usable_still(&self) -> Result<()> {
        let Some(reason) = &self.failure else { return Ok(()) };
        let reason =
            format!("{reason}, in an earlier call, which was not completed; go on from the last snapshot");
        Err(Error::Device { reason })
    }

    fn bring_all(&mut self) -> Result<()> {
        let Self { optimizer, executor, columns, .. } = self;
        optimizer
            .tensors
            .iter_mut()
            .zip(columns)
            .try_for_each(|(tensor, columns)| bring(tensor, executor, columns))?;
        self.bring_training()
    }
}

impl<T: Real, E: Executor<T>> fmt::Debug for OnDevice<E, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDevice")
            .field("optimizer", &self.optimizer)
            .field("executor", &self.executor)
            .finish_non_exhaustive()
    }
}

/// Copies of a tensor's columns on the host.
pub(super) fn bring<T: Real, E: Executor<T>>(
    tensor: &mut Tensor<T>,
    executor: &mut E,
    columns: &[E::Array],
) -> Result<()> {
    let arrays: Result<Vec<Buffer>, E::Error> =
        columns.iter().map(|array| executor.download(array)).collect();
    tensor.bring_columns(arrays.map_err(device)?);
    Ok(())
}

pub(super) fn device(error: impl fmt::Display) -> Error {
    Error::Device { reason: error.to_string() }
}

#[cfg(test)]
mod tests;
