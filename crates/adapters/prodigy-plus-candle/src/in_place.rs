//! Steps of variables in their own memory: their memory, and their gradients', as arrays of an
//! executor.
//!
//! ```text
//! GradStore   gradients of a type that is computed with, row-major                      candle, on its stream
//!    v        storages, locked: none gets other memory during the step
//! Storage
//!    v        an address, if the memory is the executor's
//! array       one step of all variables                                                the executor, on the same stream
//! ```

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::ptr;

use candle_core::backprop::GradStore;
use candle_core::{DType, Layout, Storage, StorageRef, Tensor, Var};
use gradient_transform::StepOutcome;
use gradient_transform::device::{DeviceParameter, Executor, OnDevice};

use crate::error::{Error, Result};
use crate::evaluation::evaluation_tensors;
use crate::optimizer::VarOptimizer;

/// Memory of tensors that an executor steps in place.
pub(crate) trait Memory {
    type Executor: Executor;
    /// A guard that has to live as long as an array is used.
    type Held<'a>
    where
        Self: 'a;

    /// Some elements of a storage as an array.
    ///
    /// # Errors
    /// The reason why the executor cannot step there.
    fn array<'a>(
        &'a self,
        storage: &'a Storage,
        elements: Range<usize>,
    ) -> Result<(Array<Self>, Self::Held<'a>), String>;

    /// Prepares a variable for a step.
    ///
    /// # Errors
    /// candle's.
    fn begin(&self, var: &Var) -> candle_core::Result<()>;

    /// Ends the step of a variable, which was made in `array`.
    ///
    /// # Errors
    /// candle's.
    fn end(&self, var: &Var, array: Array<Self>) -> candle_core::Result<()>;
}

pub(crate) type Array<M> = <<M as Memory>::Executor as Executor>::Array;

/// A [`VarOptimizer`] whose variables are stepped in their own memory, and whose state is with the executor.
pub(crate) struct InPlace<M: Memory> {
    pub(crate) engine: OnDevice<M::Executor>,
    memory: M,
    pub(crate) variables: Vec<(String, Var)>,
    pub(crate) left_out: Vec<(String, Var)>,
    /// Factor of every group's own learning rate.
    pub(crate) learning_rate: f64,
}

impl<M: Memory> InPlace<M> {
    pub(crate) fn new(optimizer: VarOptimizer, executor: M::Executor, memory: M) -> Result<Self> {
        let VarOptimizer { engine, variables, left_out, learning_rate } = optimizer;
        for (name, var) in &variables {
            resident(&memory, name, &var.storage_and_layout())?;
        }
        let engine = OnDevice::new(engine, executor)?;
        Ok(Self { engine, memory, variables, left_out, learning_rate })
    }

    /// A step that `step` makes, with the learning rates multiplied by the optimizer's.
    pub(crate) fn step_by(
        &mut self,
        gradients: &GradStore,
        step: impl FnOnce(
            &mut OnDevice<M::Executor>,
            &mut [DeviceParameter<'_, Array<M>>],
        ) -> gradient_transform::Result<StepOutcome>,
    ) -> Result<StepOutcome> {
        let Self { engine, memory, variables, learning_rate, .. } = self;
        let gradient = |(_, var): &(String, Var)| gradients.get(var).map(usable).transpose();
        let gradients = variables.iter().map(gradient).collect::<Result<Vec<_>>>()?;
        for (_, var) in variables.iter() {
            memory.begin(var)?;
        }
        let locked: Vec<Locked<'_>> = variables.iter().map(|(_, var)| var.storage_and_layout()).collect();
        let of_gradients: Vec<Option<Locked<'_>>> =
            gradients.iter().map(|gradient| gradient.as_ref().map(Tensor::storage_and_layout)).collect();
        check_sharing(variables, &locked, &of_gradients)?;

        let mut values = Vec::new();
        let mut given = Vec::new();
        for (((name, _), value), gradient) in variables.iter().zip(&locked).zip(&of_gradients) {
            values.push(resident(memory, name, value)?);
            given.push(gradient.as_ref().map(|gradient| resident(memory, name, gradient)).transpose()?);
        }
        let parameters = values.iter_mut().zip(&given).map(|((value, _), gradient)| DeviceParameter {
            value,
            gradient: gradient.as_ref().map(|(gradient, _)| gradient),
        });
        let mut parameters: Vec<DeviceParameter<'_, Array<M>>> = parameters.collect();
        let outcome = engine.at_lr_factor(*learning_rate, |engine| step(engine, &mut parameters))?;
        drop(parameters);
        let stepped: Vec<Option<Array<M>>> = values
            .into_iter()
            .zip(&given)
            .map(|((value, _), gradient)| gradient.as_ref().map(|_| value))
            .collect();
        drop(given);
        drop((of_gradients, locked));
        if outcome == StepOutcome::Done {
            for ((_, var), array) in variables.iter().zip(stepped) {
                array.map(|array| memory.end(var, array)).transpose()?;
            }
        }
        Ok(outcome)
    }

    pub(crate) fn evaluation_tensors(&mut self) -> Result<HashMap<String, Tensor>> {
        let Self { engine, variables, left_out, .. } = self;
        engine.look_at(|engine| evaluation_tensors(engine, variables, left_out))?
    }

    pub(crate) fn save_state(&mut self, path: impl AsRef<Path>) -> Result<()> {
        Ok(self.engine.look_at(|engine| checkpoint::save(path, engine))??)
    }

    pub(crate) fn into_host(self) -> Result<VarOptimizer> {
        let Self { engine, variables, left_out, learning_rate, .. } = self;
        let (engine, _) = engine.into_parts()?;
        Ok(VarOptimizer { engine, variables, left_out, learning_rate })
    }
}

/// A tensor's storage, whose memory cannot be replaced as long as this lives, and the tensor's place in it.
type Locked<'a> = (StorageRef<'a>, &'a Layout);

/// The array of a tensor's elements.
fn resident<'a, M: Memory>(
    memory: &'a M,
    name: &str,
    (storage, layout): &'a Locked<'_>,
) -> Result<(Array<M>, M::Held<'a>)> {
    let elsewhere = |reason| Error::Elsewhere { name: name.to_owned(), reason };
    let Some((first, end)) = layout.contiguous_offsets() else {
        return Err(elsewhere("its elements are not contiguous".to_owned()));
    };
    memory.array(storage, first..end).map_err(elsewhere)
}

/// A gradient on its device, of a supported type and row-major; the gradient itself if it is that
/// already.
fn usable(gradient: &Tensor) -> Result<Tensor> {
    let dtype = match gradient.dtype() {
        dtype @ (DType::F32 | DType::BF16) => dtype,
        _ => DType::F32,
    };
    Ok(gradient.to_dtype(dtype)?.contiguous()?)
}

/// Rejects gradients in the memory of variables, which the step changes.
fn check_sharing(
    variables: &[(String, Var)],
    locked: &[Locked<'_>],
    of_gradients: &[Option<Locked<'_>>],
) -> Result<()> {
    let place = |(storage, _): &Locked<'_>| ptr::from_ref::<Storage>(storage);
    let mut places = HashSet::new();
    let shared = |name: &str| Error::SharedMemory { name: name.to_owned() };
    for ((name, _), locked) in variables.iter().zip(locked) {
        if !places.insert(place(locked)) {
            return Err(shared(name));
        }
    }
    for ((name, _), gradient) in variables.iter().zip(of_gradients) {
        // In candle, a sum with a variable without elements is the variable itself, and so is a
        // gradient.
        let some = gradient.as_ref().filter(|(_, layout)| layout.shape().elem_count() > 0);
        if some.is_some_and(|locked| places.contains(&place(locked))) {
            return Err(shared(name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
