//! The evaluation point x on the device, and the way back to the training point y.

use std::fmt;

use crate::device::optimizer::device;
use crate::device::pointwise::{Change, Next};
use crate::device::step::check_value;
use crate::device::{DeviceParameter, Executor, OnDevice};
use crate::engine::tensor::sample;
use crate::error::{Error, Result};
use crate::link::compose::stages;
use crate::memory::buffer::{Buffer, Slice};
use crate::memory::element::{DType, Real};
use crate::optimizer::Optimizer;
use crate::optimizer::evaluation::{Averaging, TrainingPoint};

/// The array that x follows from.
struct Source<A> {
    place: Place<A>,
    /// How far it is from a parameter at y to x, and back from x to y, where the array is 1 away. `None` where the array is x.
    shares: Option<[f64; 2]>,
}

enum Place<A> {
    /// A column of the tensor.
    Column(usize),
    /// A copy of what is still on the host.
    Copy(A),
}

impl<A> Source<A> {
    fn array<'a>(&'a self, columns: &'a [A]) -> &'a A {
        match &self.place {
            Place::Column(column) => &columns[*column],
            Place::Copy(array) => array,
        }
    }
}

impl<T: Real, E: Executor<T>> OnDevice<E, T> {
    /// Moves every parameter to its evaluation point x, on the device. See [`Optimizer::eval`]: y is kept there and restored exactly
    /// by [`train`](Self::train), unless [`TrainingPoint::Recomputed`] is set.
    ///
    /// The gradients in `parameters` are not looked at.
    ///
    /// ```
    /// use gradient_transform::device::{DeviceParameter, Interpreter, OnDevice};
    /// use gradient_transform::{Buffer, Descent, Error, Optimizer};
    ///
    /// let optimizer = Optimizer::new(Descent::default(), [("w", [2])])?;
    /// let mut optimizer = OnDevice::new(optimizer, Interpreter)?;
    /// let (mut w, g) = (Buffer::F32(vec![1.0, 2.0]), Buffer::F32(vec![0.5, 0.5]));
    /// optimizer.eval(&mut [DeviceParameter { value: &mut w, gradient: None }])?;
    /// assert!(optimizer.is_evaluating());
    /// assert_eq!(w, Buffer::F32(vec![1.0, 2.0])); // plain descent averages nothing
    /// let step = optimizer.step(&mut [DeviceParameter { value: &mut w, gradient: Some(&g) }]);
    /// assert_eq!(step, Err(Error::EvaluationMode)); // a gradient at x would be wrong
    /// optimizer.train(&mut [DeviceParameter { value: &mut w, gradient: None }])?;
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::EvaluationMode`] when called twice, the errors of shapes and types of [`step`](Self::step), and [`Error::Device`]. If
    /// there is no memory for y, nothing has moved, and the optimizer can still step.
    pub fn eval(&mut self, parameters: &mut [DeviceParameter<'_, E::Array>]) -> Result<()> {
        self.usable_still()?;
        if self.optimizer.evaluating.is_some() {
            return Err(Error::EvaluationMode);
        }
        self.check_values(parameters)?;
        let sources = self.sources()?;
        let keeps = self.optimizer.settings.training_point == TrainingPoint::Kept;
        let mut training = Vec::with_capacity(parameters.len());
        for (parameter, source) in parameters.iter().zip(&sources) {
            let is_kept = source.as_ref().is_some_and(|source| keeps || source.shares.is_none());
            let (dtype, len) = (E::dtype(parameter.value), E::len(parameter.value));
            let array = is_kept.then(|| self.executor.zeros(dtype, len)).transpose();
            training.push(array.map_err(device)?);
        }
        let moved = self.put_to_x(parameters, &sources, &mut training);
        self.noting_failures(moved)?;
        // The host has the mode, and the arrays are here.
        self.optimizer.evaluating = Some(Vec::new());
        self.training = training;
        Ok(())
    }

    /// Moves every parameter that `eval` moved back to its training point y, on the device.
    ///
    /// # Errors
    /// [`Error::TrainingMode`] without `eval` before, the errors of shapes and types of [`step`](Self::step), and [`Error::Device`].
    pub fn train(&mut self, parameters: &mut [DeviceParameter<'_, E::Array>]) -> Result<()> {
        self.usable_still()?;
        if self.optimizer.evaluating.is_none() {
            return Err(Error::TrainingMode);
        }
        self.check_values(parameters)?;
        // Of those whose y was not kept.
        let unkept = |kept: Option<&Option<E::Array>>| kept.is_none_or(Option::is_none);
        let bases =
            (0..parameters.len()).map(|i| if unkept(self.training.get(i)) { self.base(i) } else { Ok(None) });
        let bases = bases.collect::<Result<Vec<_>>>()?;
        let Self { optimizer, executor, columns, training, pointwise, .. } = self;
        let changes = parameters.iter_mut().enumerate().filter_map(|(i, parameter)| {
            let base = bases[i].as_ref();
            let (next, other, share) = match training.get(i).and_then(Option::as_ref) {
                Some(kept) => (Next::Other, kept, 0.0),
                None => (Next::Towards, base?.array(&columns[i]), base?.shares?[1]),
            };
            let (tensor, array) = (&optimizer.tensors[i].info, &mut *parameter.value);
            Some(Change { next, tensor, array, other, number: T::of(share), before: &mut [] })
        });
        let moved = pointwise.run(executor, changes);
        self.noting_failures(moved)?;
        self.optimizer.evaluating = None;
        self.training.clear();
        Ok(())
    }

    /// Whether the parameters are at the evaluation point.
    pub fn is_evaluating(&self) -> bool {
        self.optimizer.is_evaluating()
    }

    /// Moves copies of all parameters, which are at y, to x. The parameters and the mode stay as they are:
    /// [`Optimizer::evaluation_point`] for all parameters at once.
    ///
    /// ```
    /// use gradient_transform::device::{DeviceParameter, Interpreter, OnDevice};
    /// use gradient_transform::{Buffer, Descent, Optimizer};
    ///
    /// let optimizer = Optimizer::new(Descent::default(), [("w", [2])])?;
    /// let mut optimizer = OnDevice::new(optimizer, Interpreter)?;
    /// let y = Buffer::F32(vec![1.0, 2.0]);
    /// let mut x = y.clone();
    /// optimizer.evaluation_points(&mut [DeviceParameter { value: &mut x, gradient: None }])?;
    /// assert_eq!(x, y);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// The errors of shapes and types of [`step`](Self::step), and [`Error::Device`].
    pub fn evaluation_points(&mut self, copies: &mut [DeviceParameter<'_, E::Array>]) -> Result<()> {
        self.usable_still()?;
        self.check_values(copies)?;
        let sources = self.sources()?;
        let mut none: Vec<Option<E::Array>> = copies.iter().map(|_| None).collect();
        // State and parameters are as before, whatever happens.
        self.put_to_x(copies, &sources, &mut none)
    }

    /// Moves every parameter to its evaluation point x, as [`eval`](Self::eval) does, until the returned guard is dropped, also by
    /// an error or a panic.
    ///
    /// ```
    /// use gradient_transform::device::{DeviceParameter, EvaluatingOnDevice, Interpreter, OnDevice};
    /// use gradient_transform::{Buffer, Descent, Optimizer};
    ///
    /// let optimizer = Optimizer::new(Descent::default(), [("w", [2])])?;
    /// let mut optimizer = OnDevice::new(optimizer, Interpreter)?;
    /// let mut w = Buffer::F32(vec![1.0, 2.0]);
    /// let mut parameters = [DeviceParameter { value: &mut w, gradient: None }];
    /// let at_x: EvaluatingOnDevice<'_, '_, Interpreter> = optimizer.evaluate(&mut parameters)?;
    /// assert_eq!(at_x.value(0)?, &Buffer::F32(vec![1.0, 2.0])); // plain descent averages nothing
    /// assert!(at_x.optimizer().is_evaluating());
    /// drop(at_x);
    /// assert!(!optimizer.is_evaluating());
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`eval`](Self::eval). If the device fails on the way back, the optimizer's next call says so.
    pub fn evaluate<'e, 'p>(
        &'e mut self,
        parameters: &'e mut [DeviceParameter<'p, E::Array>],
    ) -> Result<EvaluatingOnDevice<'e, 'p, E, T>> {
        self.eval(parameters)?;
        Ok(EvaluatingOnDevice { optimizer: self, parameters })
    }

    fn check_values(&self, parameters: &[DeviceParameter<'_, E::Array>]) -> Result<()> {
        self.optimizer.check_count(parameters.len())?;
        let tensors = self.optimizer.tensors.iter().zip(parameters);
        tensors.into_iter().try_for_each(|(tensor, parameter)| check_value::<T, E>(tensor, parameter.value))
    }

    /// Of every parameter, what x follows from; `None` where it is y.
    fn sources(&mut self) -> Result<Vec<Option<Source<E::Array>>>> {
        let all = (0..self.optimizer.tensors.len()).map(|i| match self.average(i)? {
            Some(average) => Ok(Some(average)),
            None => self.base(i),
        });
        all.collect()
    }

    /// The average that a tensor's writer keeps, if it keeps one.
    fn average(&mut self, index: usize) -> Result<Option<Source<E::Array>>> {
        let Self { optimizer: Optimizer { groups, tensors, .. }, executor, columns, .. } = self;
        let tensor = &tensors[index];
        let stages = stages(&*groups[tensor.group].chain);
        let Some(average) = tensor.average(&stages) else { return Ok(None) };
        source(
            executor,
            &columns[index],
            tensor.columns_of_writer().and_then(|[_, average]| average),
            average,
            None,
        )
    }

    /// The base iterate of a tensor's writer, if it has one.
    fn base(&mut self, index: usize) -> Result<Option<Source<E::Array>>> {
        let Self { optimizer: Optimizer { groups, tensors, .. }, executor, columns, .. } = self;
        let tensor = &tensors[index];
        let stages = stages(&*groups[tensor.group].chain);
        let (Some(base), Some(averaging)) = (tensor.base(&stages), Averaging::of(&stages)) else {
            return Ok(None);
        };
        let column = tensor.columns_of_writer().and_then(|[base, _]| base);
        source(executor, &columns[index], column, base, Some(averaging.shares()))
    }

    /// Moves values from y to x, and puts y into the arrays that there are for it.
    fn put_to_x(
        &mut self,
        values: &mut [DeviceParameter<'_, E::Array>],
        sources: &[Option<Source<E::Array>>],
        before: &mut [Option<E::Array>],
    ) -> Result<()> {
        let Self { optimizer, executor, columns, pointwise, .. } = self;
        let changes = optimizer.tensors.iter().zip(&*columns).zip(values).zip(sources).zip(before);
        let changes = changes.filter_map(|((((tensor, columns), value), source), before)| {
            let source = source.as_ref()?;
            Some(Change {
                next: if source.shares.is_some() { Next::Towards } else { Next::Other },
                tensor: &tensor.info,
                array: &mut *value.value,
                other: source.array(columns),
                number: T::of(source.shares.map_or(0.0, |[to_x, _]| to_x)),
                before: before.as_mut_slice(),
            })
        });
        pointwise.run(executor, changes)
    }

    /// Takes copies of y to the host.
    pub(super) fn bring_training(&mut self) -> Result<()> {
        let Self { optimizer, executor, training, .. } = self;
        let Some(here) = &mut optimizer.evaluating else { return Ok(()) };
        let arrays = training.iter().map(|kept| match kept {
            Some(array) => executor.download(array).map_err(device),
            None => Ok(Buffer::zeros(DType::F32, 0)),
        });
        *here = arrays.collect::<Result<_>>()?;
        Ok(())
    }
}

/// A column, or an array that is still on the host, as what x follows from; `None` if it has no elements.
fn source<T: Real, E: Executor<T>>(
    executor: &mut E,
    columns: &[E::Array],
    column: Option<usize>,
    on_host: Slice<'_>,
    shares: Option<[f64; 2]>,
) -> Result<Option<Source<E::Array>>> {
    let place = match column {
        Some(column) => Place::Column(column),
        None => Place::Copy(executor.upload(sample(on_host, 1, on_host.dtype())).map_err(device)?),
    };
    let source = Source { place, shares };
    Ok(if E::len(source.array(columns)) > 0 { Some(source) } else { None })
}

/// Parameters at their evaluation points, until this is dropped: see [`OnDevice::evaluate`].
#[must_use = "the parameters are put back to their training points when this is dropped"]
pub struct EvaluatingOnDevice<'e, 'p, E: Executor<T>, T: Real = f32> {
    optimizer: &'e mut OnDevice<E, T>,
    parameters: &'e mut [DeviceParameter<'p, E::Array>],
}

impl<T: Real, E: Executor<T>> EvaluatingOnDevice<'_, '_, E, T> {
    /// The array of parameter `index`.
    ///
    /// # Errors
    /// [`Error::NoSuch`].
    pub fn value(&self, index: usize) -> Result<&E::Array> {
        let count = self.parameters.len();
        let parameter = self.parameters.get(index);
        parameter.map(|parameter| &*parameter.value).ok_or(Error::NoSuch { what: "parameter", index, count })
    }

    /// The optimizer, in evaluation mode.
    pub fn optimizer(&self) -> &OnDevice<E, T> {
        self.optimizer
    }
}

impl<T: Real, E: Executor<T>> Drop for EvaluatingOnDevice<'_, '_, E, T> {
    fn drop(&mut self) {
        // It is in evaluation mode, and the same parameters were taken there. The optimizer remembers a failure of the device.
        let _ = self.optimizer.train(self.parameters);
    }
}

impl<T: Real, E: Executor<T>> fmt::Debug for EvaluatingOnDevice<'_, '_, E, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvaluatingOnDevice").field("optimizer", &self.optimizer).finish_non_exhaustive()
    }
}
