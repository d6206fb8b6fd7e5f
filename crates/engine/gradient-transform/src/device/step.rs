//! A step on a device: sweep by sweep over all tensors, with the host's part between them.
//!
//! ```text
//! check of the gradients        nothing has moved if one is invalid
//! device    means of them and those that were accumulated, if any were
//! for every sweep:
//!     host      the transforms make numbers of the sums of the sweep before
//!     device    all tensors, in batches of those with the same formula
//! host          the estimate of the step size
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;

use crate::device::optimizer::{DeviceParameter, OnDevice, bring, device};
use crate::device::overlap::check_apart;
use crate::device::{Executor, SweepBatch, TensorSweep};
use crate::engine::elsewhere::HostPart;
use crate::engine::sweep::ScratchPool;
use crate::engine::tensor::{self, NewColumn, Progress, Run, Tensor};
use crate::error::{Error, Result};
use crate::link::compose::{Stages, stages};
use crate::link::state::Initial;
use crate::memory::buffer::Buffer;
use crate::memory::element::{DType, Real};
use crate::optimizer::Optimizer;
use crate::optimizer::check::{check_dtype, check_shape};
use crate::optimizer::group::{Group, Settings};
use crate::optimizer::shared_sums;
use crate::optimizer::step::StepOutcome;

impl<T: Real, E: Executor<T>> OnDevice<E, T> {
    pub(super) fn step_once(
        &mut self,
        parameters: &mut [DeviceParameter<'_, E::Array>],
    ) -> Result<StepOutcome> {
        self.check_all(parameters)?;
        self.check_apart(parameters)?;
        for tensor in &mut self.optimizer.tensors {
            (tensor.outcome, tensor.progress) = (None, Progress::default());
        }
        self.optimizer.begin()?;
        let refused = match self.examine(parameters) {
            Ok(Some(refused)) => refused,
            invalid => {
                self.optimizer.unbegin();
                return invalid.map(|_| self.skip());
            }
        };
        for (tensor, _) in self.optimizer.tensors.iter_mut().zip(refused).filter(|(_, refused)| *refused) {
            tensor.progress = Progress::refused();
        }
        if self.optimizer.accumulated == 0 {
            self.go_through(parameters)?;
        } else {
            let means = self.take_means(parameters)?;
            let parameters = parameters.iter_mut().zip(&means);
            let mut parameters: Vec<DeviceParameter<'_, E::Array>> = parameters
                .map(|(p, mean)| DeviceParameter { value: p.value, gradient: mean.as_ref() })
                .collect();
            self.go_through(&mut parameters)?;
            self.drop_accumulated();
        }
        self.optimizer.end();
        Ok(StepOutcome::Done)
    }

    /// Counts a step that is skipped, and drops what was given for it.
    pub(super) fn skip(&mut self) -> StepOutcome {
        self.optimizer.skipped += 1;
        self.optimizer.drop_arrays();
        self.drop_accumulated();
        StepOutcome::Skipped
    }

    /// All sweeps of a step that has begun.
    fn go_through(&mut self, parameters: &mut [DeviceParameter<'_, E::Array>]) -> Result<()> {
        self.begin_tensors(parameters, None)?;
        for name in self.optimizer.shared_sums.clone() {
            self.advance(Some(&name), parameters)?;
            let Optimizer { groups, tensors, .. } = &mut self.optimizer;
            shared_sums::complete(&name, groups, tensors);
        }
        self.advance(None, parameters)?;
        self.for_each(parameters, |tensor, run| tensor.conclude_elsewhere(run));
        Ok(())
    }

    /// Refuses parameters and gradients that do not fit, and every step in evaluation mode.
    pub(super) fn check_all(&self, parameters: &[DeviceParameter<'_, E::Array>]) -> Result<()> {
        self.optimizer.check_count(parameters.len())?;
        if self.optimizer.evaluating.is_some() {
            return Err(Error::EvaluationMode);
        }
        let mut tensors = self.optimizer.tensors.iter().zip(parameters);
        tensors.try_for_each(|(tensor, parameter)| check::<T, E>(tensor, parameter))
    }

    /// Refuses parameters that a step would write and that share memory with another's, or with a gradient.
    pub(super) fn check_apart(&self, parameters: &[DeviceParameter<'_, E::Array>]) -> Result<()> {
        let tensors = self.optimizer.tensors.iter().zip(parameters).zip(&self.accumulated);
        check_apart::<T, E>(tensors.flat_map(|((tensor, parameter), sum)| {
            let name = &*tensor.info.name;
            // One without a gradient is not touched.
            let moves = parameter.gradient.is_some() || sum.is_some();
            let value = moves.then_some((name, &*parameter.value, true));
            value.into_iter().chain(parameter.gradient.map(|gradient| (name, gradient, false)))
        }))
    }

    /// Begins the step of every tensor, or of those that are asked for, and makes the columns that they lack.
    pub(super) fn begin_tensors(
        &mut self,
        parameters: &[DeviceParameter<'_, E::Array>],
        only: Option<&[bool]>,
    ) -> Result<()> {
        let Self { optimizer, executor, columns, .. } = self;
        let Optimizer { groups, tensors, settings, pool, .. } = optimizer;
        for (i, ((tensor, parameter), columns)) in tensors.iter_mut().zip(parameters).zip(columns).enumerate()
        {
            if tensor.progress.has_begun() || only.is_some_and(|only| !only[i]) {
                continue;
            }
            let Some(gradient) = parameter.gradient.filter(|_| !tensor.progress.refused) else { continue };
            let group = &groups[tensor.group];
            let stages = &stages(&*group.chain);
            let run = run(group, stages, settings, pool);
            if tensor.is_replanned(&run) {
                bring(tensor, executor, columns)?;
                tensor.unplan(stages);
                columns.clear();
            }
            let mut failed = None;
            let types = [E::dtype(parameter.value), E::dtype(gradient)];
            tensor.begin_elsewhere(&run, types, &mut |column| {
                let empty = Buffer::zeros(column.dtype, 0);
                match first_values(executor, column, parameter.value) {
                    Ok(array) => columns.push(array),
                    Err(error) => failed = Some(error),
                }
                empty
            });
            if let Some(error) = failed {
                return Err(device(error));
            }
            for (column, values) in tensor.take_values_of_step() {
                columns[column] = executor.upload(values).map_err(device)?;
            }
        }
        Ok(())
    }

    /// Goes on with the step of every tensor until the transform `until` has taken its sums, or through all sweeps.
    fn advance(
        &mut self,
        until: Option<&str>,
        parameters: &mut [DeviceParameter<'_, E::Array>],
    ) -> Result<()> {
        loop {
            self.work_on_matrices(until, parameters)?;
            self.for_each(parameters, |tensor, run| tensor.seal_elsewhere(run, until));
            if !self.sweep(until, parameters, None)? {
                return Ok(());
            }
        }
    }

    /// Runs the next sweep of every tensor that has one, or of those that are asked for; false if there are none.
    pub(super) fn sweep(
        &mut self,
        until: Option<&str>,
        parameters: &mut [DeviceParameter<'_, E::Array>],
        only: Option<&[bool]>,
    ) -> Result<bool> {
        let Self { optimizer, executor, columns, formulas, .. } = self;
        let Optimizer { groups, tensors, settings, pool, .. } = optimizer;
        let mut batches: Vec<SweepBatch<'_, T, E::Array>> = Vec::new();
        let mut places: HashMap<usize, usize> = HashMap::new();
        let mut swept = Vec::new();
        let mut rest = tensors.iter_mut().zip(parameters.iter_mut()).zip(columns).enumerate().peekable();
        // A group's tensors stand together.
        while let Some((_, ((first, _), _))) = rest.peek() {
            let index = first.group;
            let group = &groups[index];
            let stages = &stages(&*group.chain);
            let run = run(group, stages, settings, pool);
            while let Some((i, ((tensor, parameter), columns))) =
                rest.next_if(|(_, ((tensor, _), _))| tensor.group == index)
            {
                let takes_part = !tensor.progress.refused && only.is_none_or(|only| only[i]);
                let Some(gradient) = parameter.gradient.filter(|_| takes_part) else { continue };
                let Some(next) = tensor.next_sweep(&run, until) else { continue };
                let Some(formula) = formulas.of(stages, tensor, &next, executor.has_float64())? else {
                    continue;
                };
                let Some(part) = tensor.host_part(&run) else { continue };
                let HostPart { along, sums, sums_along, parameter_stream, column_streams, shape } = part;
                let sweep = TensorSweep {
                    shape,
                    numbers: next.numbers,
                    along,
                    parameter: &mut *parameter.value,
                    gradient,
                    columns,
                    rounding: group.rounding,
                    parameter_stream,
                    column_streams,
                    sums,
                    sums_along,
                };
                let place = *places.entry(Arc::as_ptr(&formula).addr()).or_insert_with(|| {
                    batches.push(SweepBatch { formula, tensors: Vec::new() });
                    batches.len() - 1
                });
                batches[place].tensors.push(sweep);
                swept.push(i);
            }
        }
        let any = !batches.is_empty();
        if any {
            executor.sweep(&mut batches).map_err(device)?;
        }
        drop(batches);
        for &tensor in &swept {
            self.optimizer.tensors[tensor].note_swept();
        }
        Ok(any)
    }

    /// Does something for every tensor that takes part in the step, on several threads where there are many.
    fn for_each(
        &mut self,
        parameters: &[DeviceParameter<'_, E::Array>],
        f: impl Fn(&mut Tensor<T>, &Run<'_, T>) + Sync,
    ) {
        /// Tensors that are worth a task.
        const OF_A_TASK: usize = 16;
        let Optimizer { groups, tensors, settings, pool, .. } = &mut self.optimizer;
        let mut rest = tensors.iter_mut().zip(parameters).peekable();
        // A group's tensors stand together.
        while let Some((first, _)) = rest.peek() {
            let index = first.group;
            let group = &groups[index];
            let stages = &stages(&*group.chain);
            let run = run(group, stages, settings, pool);
            let mut own: Vec<&mut Tensor<T>> = Vec::new();
            while let Some((tensor, parameter)) = rest.next_if(|(tensor, _)| tensor.group == index) {
                if parameter.gradient.is_some() && !tensor.progress.refused {
                    own.push(tensor);
                }
            }
            if own.len() < 2 * OF_A_TASK {
                own.iter_mut().for_each(|tensor| f(tensor, &run));
            } else {
                own.par_iter_mut().with_min_len(OF_A_TASK).for_each(|tensor| f(tensor, &run));
            }
        }
    }
}

pub(super) fn run<'a, T: Real>(
    group: &'a Group<T>,
    stages: &'a Stages<'a, T>,
    settings: &Settings,
    pool: &'a ScratchPool<T>,
) -> Run<'a, T> {
    let (step, still, rounding, seed) = (&group.context, group.still, group.rounding, settings.seed);
    Run { stages, step, still, rounding, seed, pool, parallel: false, recorded: None }
}

/// A column on the device before its first step.
fn first_values<T: Real, E: Executor<T>>(
    executor: &mut E,
    column: NewColumn<'_>,
    parameter: &E::Array,
) -> Result<E::Array, E::Error> {
    let copies = column.kept.is_none() && column.spec.initial == Initial::Parameter;
    if column.kept.is_none() && !copies {
        // Workspace has no length on the host.
        let every = column.spec.every;
        let len = if column.spec.kept { column.len } else { E::len(parameter).div_ceil(every) };
        return executor.zeros(column.dtype, len);
    }
    let mut values = Buffer::zeros(column.dtype, 0);
    if copies {
        if let Some(copy) = executor.sample(parameter, column.spec.every, column.dtype)? {
            // As on the host: of weights that begin at 0, nothing need be kept.
            let is_zero = column.spec.is_constant_copy() && executor.usable(&[&copy], 0.0)? == [true];
            return if is_zero { executor.zeros(column.dtype, 0) } else { Ok(copy) };
        }
        values = executor.download(parameter)?;
    }
    executor.upload(tensor::first_values(column, values.as_slice()))
}

/// Whether a parameter and its gradient fit the tensor.
fn check<T: Real, E: Executor<T>>(
    tensor: &Tensor<T>,
    parameter: &DeviceParameter<'_, E::Array>,
) -> Result<()> {
    check_value::<T, E>(tensor, parameter.value)?;
    let Some(gradient) = parameter.gradient else { return Ok(()) };
    check_shape(tensor, "gradient", None, E::len(gradient))?;
    let found = E::dtype(gradient);
    if found == DType::F64 && T::DTYPE == DType::F32 {
        return Err(Error::GradientType { name: tensor.info.name.clone(), found });
    }
    Ok(())
}

/// Whether a parameter's value fits the tensor.
pub(super) fn check_value<T: Real, E: Executor<T>>(tensor: &Tensor<T>, value: &E::Array) -> Result<()> {
    check_shape(tensor, "value", None, E::len(value))?;
    check_dtype(tensor, E::dtype(value))
}
