//! An optimizer whose arrays are on a device.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rayon::prelude::*;

use crate::device::{Executor, TensorSweep};
use crate::engine::elsewhere::{HostPart, NextSweep};
use crate::engine::formula::{SweepFormula, Variants, formula};
use crate::engine::plan::Plan;
use crate::engine::sweep::ScratchPool;
use crate::engine::tensor::{self, NewColumn, Progress, Run, Tensor};
use crate::error::{Error, Result};
use crate::link::compose::{Stages, stages};
use crate::link::context::{Context, Estimate, StepContext, TensorInfo};
use crate::link::published::Published;
use crate::link::state::Initial;
use crate::memory::buffer::Buffer;
use crate::memory::element::{DType, Real, Scalar};
use crate::optimizer::Optimizer;
use crate::optimizer::check::{check_shape, check_type};
use crate::optimizer::group::{Group, NonFinite, Settings};
use crate::optimizer::shared_sums;
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
/// It is made of an optimizer, new or with state, and gives one back: a run can change sides, in the middle and to the bit, as far as the
/// executor's arithmetic allows.
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
    optimizer: Optimizer<T>,
    executor: E,
    /// The columns of each tensor.
    columns: Vec<Vec<E::Array>>,
    formulas: Formulas,
    /// Why the device failed in an earlier call.
    failure: Option<String>,
}

/// Formulas that were made, each once.
#[derive(Default)]
struct Formulas {
    known: HashMap<FormulaKey, Arc<SweepFormula>>,
    distinct: Vec<Arc<SweepFormula>>,
    /// The plans of the keys, whose addresses are taken as long as they are here.
    plans: HashMap<usize, Arc<Plan>>,
}

/// Address of the plan, number of the sweep, the stage that holds the tensor, and the stages' variants.
type FormulaKey = (usize, usize, Option<usize>, Variants);

impl Formulas {
    fn of<T: Real>(
        &mut self,
        stages: &Stages<'_, T>,
        tensor: &Tensor<T>,
        next: &NextSweep<T>,
    ) -> Result<Option<Arc<SweepFormula>>> {
        let key = (tensor.plan_address(), next.number, next.held, next.variants.clone());
        if let Some(known) = self.known.get(&key) {
            return Ok(Some(Arc::clone(known)));
        }
        let Some((plan, sweep)) = tensor.planned(next) else { return Ok(None) };
        let made = formula(stages, plan, &sweep, next.held, &tensor.info, &key.3)?;
        let known = self.distinct.iter().find(|known| ***known == made);
        let made = known.cloned().unwrap_or_else(|| {
            let made = Arc::new(made);
            self.distinct.push(Arc::clone(&made));
            made
        });
        self.plans.insert(key.0, Arc::clone(plan));
        self.known.insert(key, Arc::clone(&made));
        Ok(Some(made))
    }
}

impl<T: Real> Optimizer<T> {
    /// The formulas of a group's chain for a tensor of the given shape, in the type computed in: one for each sweep of a usual step.
    ///
    /// # Errors
    /// [`Error::NoSuch`]; [`Error::NoFormula`] for a link that works on tiles.
    pub fn formulas(&self, group: usize, shape: &[usize]) -> Result<Vec<SweepFormula>> {
        let tensor = TensorInfo { name: String::new(), shape: shape.to_vec(), dtype: T::DTYPE, updates: 1 };
        let stages = stages(&*self.group(group)?.chain);
        let plan = Plan::new(&stages, &StepContext::new(2, 1.0), &tensor);
        let usual = StepContext::new(2, 1.0);
        let cx = Context::new(&usual, &tensor);
        let mut variants = Variants::new();
        let mut numbers = 0;
        for (transform, stage) in stages.iter().zip(&plan.stages) {
            variants.push((numbers, 0));
            if !stage.idle {
                let scratch: Vec<Vec<T>> =
                    transform.state(&tensor).scratch.iter().map(|&len| vec![T::zero(); len]).collect();
                numbers += transform.formula_numbers(&cx, &scratch).values.len() as u32;
            }
        }
        plan.sweeps.iter().map(|sweep| formula(&stages, &plan, sweep, None, &tensor, &variants)).collect()
    }
}

impl<T: Real, E: Executor<T>> OnDevice<E, T> {
    /// Takes an optimizer to a device, with the state that it has.
    ///
    /// # Errors
    /// [`Error::NoFormula`] for a link that works on tiles; [`Error::EvaluationMode`] between `eval` and `train`;
    /// [`Error::GradientsAccumulated`]; [`Error::RecorderOnDevice`].
    pub fn new(mut optimizer: Optimizer<T>, executor: E) -> Result<Self> {
        if optimizer.evaluating.is_some() {
            return Err(Error::EvaluationMode);
        }
        if optimizer.accumulated > 0 {
            return Err(Error::GradientsAccumulated { count: optimizer.accumulated });
        }
        if optimizer.recorder.is_some() {
            return Err(Error::RecorderOnDevice);
        }
        for tensor in &optimizer.tensors {
            optimizer.formulas(tensor.group, &tensor.info.shape)?;
        }
        let Optimizer { groups, tensors, .. } = &mut optimizer;
        for tensor in tensors.iter_mut() {
            tensor.unplan(&stages(&*groups[tensor.group].chain));
        }
        let columns = tensors.iter().map(|_| Vec::new()).collect();
        Ok(Self { optimizer, executor, columns, formulas: Formulas::default(), failure: None })
    }

    /// Brings the state to the host: the optimizer, and the device.
    ///
    /// # Errors
    /// [`Error::Device`]; the state is lost then.
    pub fn into_parts(mut self) -> Result<(Optimizer<T>, E)> {
        self.usable_still()?;
        self.bring_all()?;
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
        self.usable_still()?;
        self.bring_all()?;
        let snapshot = self.optimizer.snapshot();
        self.optimizer.tensors.iter_mut().for_each(Tensor::forget_columns);
        Ok(snapshot)
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

    /// Number of different formulas that steps had so far: a step has one launch for each of its own.
    pub fn distinct_formulas(&self) -> usize {
        self.formulas.distinct.len()
    }

    /// Steps every parameter that has a gradient.
    ///
    /// # Errors
    /// Those of [`Optimizer::step`], in each case without a change; [`Error::Device`], after which parameters may have moved, and nothing
    /// more is done: go on from the last snapshot.
    pub fn step(&mut self, parameters: &mut [DeviceParameter<'_, E::Array>]) -> Result<StepOutcome> {
        self.usable_still()?;
        let outcome = self.step_once(parameters);
        if let Err(Error::Device { reason }) = &outcome {
            self.failure = Some(reason.clone());
        }
        outcome
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

    /// Refuses to go on with state that a failure has left half stepped.
    fn usable_still(&self) -> Result<()> {
        let Some(reason) = &self.failure else { return Ok(()) };
        let reason =
            format!("{reason}, in an earlier step, which was not completed; go on from the last snapshot");
        Err(Error::Device { reason })
    }

    fn step_once(&mut self, parameters: &mut [DeviceParameter<'_, E::Array>]) -> Result<StepOutcome> {
        self.optimizer.check_count(parameters.len())?;
        for (tensor, parameter) in self.optimizer.tensors.iter_mut().zip(parameters.iter()) {
            check::<T, E>(tensor, parameter)?;
            (tensor.outcome, tensor.progress) = (None, Progress::default());
        }
        if !self.examine(parameters)? {
            self.optimizer.skipped += 1;
            return Ok(StepOutcome::Skipped);
        }
        self.optimizer.begin()?;
        self.make_columns(parameters)?;
        for name in self.optimizer.shared_sums.clone() {
            self.advance(Some(&name), parameters)?;
            let Optimizer { groups, tensors, .. } = &mut self.optimizer;
            shared_sums::complete(&name, groups, tensors);
        }
        self.advance(None, parameters)?;
        self.for_each(parameters, |tensor, run| tensor.conclude_elsewhere(run));
        self.optimizer.end();
        Ok(StepOutcome::Done)
    }

    /// Looks at the gradients; false if the step is to be skipped.
    fn examine(&mut self, parameters: &[DeviceParameter<'_, E::Array>]) -> Result<bool> {
        let non_finite = self.optimizer.settings.non_finite;
        if non_finite == NonFinite::Unchecked {
            return Ok(true);
        }
        let given: Vec<(usize, &E::Array)> =
            parameters.iter().enumerate().filter_map(|(i, p)| Some((i, p.gradient?))).collect();
        let gradients: Vec<&E::Array> = given.iter().map(|(_, gradient)| *gradient).collect();
        let usable = self.executor.usable(&gradients, T::LARGEST_GRADIENT).map_err(device)?;
        for ((i, gradient), _) in given.into_iter().zip(usable).filter(|(_, usable)| !usable) {
            match non_finite {
                NonFinite::Skip => return Ok(false),
                NonFinite::SkipTensor => self.optimizer.tensors[i].progress.refused = true,
                _ => {
                    let gradient = self.executor.download(gradient).map_err(device)?;
                    return Err(unusable(&self.optimizer.tensors[i], &gradient));
                }
            }
        }
        Ok(true)
    }

    /// Begins the step of every tensor, and makes the columns that it lacks.
    fn make_columns(&mut self, parameters: &mut [DeviceParameter<'_, E::Array>]) -> Result<()> {
        let Self { optimizer, executor, columns, .. } = self;
        let Optimizer { groups, tensors, settings, pool, .. } = optimizer;
        for ((tensor, parameter), columns) in tensors.iter_mut().zip(parameters.iter()).zip(columns) {
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
            self.for_each(parameters, |tensor, run| tensor.seal_elsewhere(run, until));
            if !self.sweep(until, parameters)? {
                return Ok(());
            }
        }
    }

    /// Runs the next sweep of every tensor that has one; false if there are none.
    fn sweep(
        &mut self,
        until: Option<&str>,
        parameters: &mut [DeviceParameter<'_, E::Array>],
    ) -> Result<bool> {
        type Batch<'a, T, A> = (Arc<SweepFormula>, Vec<TensorSweep<'a, T, A>>);
        let Self { optimizer, executor, columns, formulas, .. } = self;
        let Optimizer { groups, tensors, settings, pool, .. } = optimizer;
        let mut batches: Vec<Batch<'_, T, E::Array>> = Vec::new();
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
                let Some(gradient) = parameter.gradient.filter(|_| !tensor.progress.refused) else {
                    continue;
                };
                let Some(next) = tensor.next_sweep(&run, until) else { continue };
                let Some(formula) = formulas.of(stages, tensor, &next)? else { continue };
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
                    batches.push((formula, Vec::new()));
                    batches.len() - 1
                });
                batches[place].1.push(sweep);
                swept.push(i);
            }
        }
        let any = !batches.is_empty();
        for (formula, mut tensors) in batches {
            executor.sweep(&formula, &mut tensors).map_err(device)?;
        }
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

    fn bring_all(&mut self) -> Result<()> {
        let Self { optimizer, executor, columns, .. } = self;
        optimizer
            .tensors
            .iter_mut()
            .zip(columns)
            .try_for_each(|(tensor, columns)| bring(tensor, executor, columns))
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

fn run<'a, T: Real>(
    group: &'a Group<T>,
    stages: &'a Stages<'a, T>,
    settings: &Settings,
    pool: &'a ScratchPool<T>,
) -> Run<'a, T> {
    let (step, rounding, seed) = (&group.context, group.rounding, settings.seed);
    Run { stages, step, rounding, seed, pool, parallel: false, recorded: false }
}

/// A column on the device before its first step.
fn first_values<T: Real, E: Executor<T>>(
    executor: &mut E,
    column: NewColumn<'_>,
    parameter: &E::Array,
) -> Result<E::Array, E::Error> {
    let copies = column.kept.is_none() && column.spec.initial == Initial::Parameter;
    if column.kept.is_none() && !copies {
        return executor.zeros(column.dtype, column.len);
    }
    let values = if copies { executor.download(parameter)? } else { Buffer::zeros(column.dtype, 0) };
    executor.upload(tensor::first_values(column, values.as_slice()))
}

/// Copies of a tensor's columns on the host.
fn bring<T: Real, E: Executor<T>>(
    tensor: &mut Tensor<T>,
    executor: &mut E,
    columns: &[E::Array],
) -> Result<()> {
    let arrays: Result<Vec<Buffer>, E::Error> =
        columns.iter().map(|array| executor.download(array)).collect();
    tensor.bring_columns(arrays.map_err(device)?);
    Ok(())
}

fn device(error: impl fmt::Display) -> Error {
    Error::Device { reason: error.to_string() }
}

/// Whether a parameter fits the tensor.
fn check<T: Real, E: Executor<T>>(
    tensor: &Tensor<T>,
    parameter: &DeviceParameter<'_, E::Array>,
) -> Result<()> {
    check_shape(tensor, "value", None, E::len(parameter.value))?;
    let (name, found) = (&tensor.info.name, E::dtype(parameter.value));
    check_type::<T>(name, found)?;
    if tensor.is_typed() && tensor.info.dtype != found {
        let reason = format!("it was {} before; its state is of that type", tensor.info.dtype);
        return Err(Error::ElementType { name: name.clone(), found, reason });
    }
    let Some(gradient) = parameter.gradient else { return Ok(()) };
    check_shape(tensor, "gradient", None, E::len(gradient))?;
    let found = E::dtype(gradient);
    if found == DType::F64 && T::DTYPE == DType::F32 {
        return Err(Error::GradientType { name: name.clone(), found });
    }
    Ok(())
}

/// The error for a gradient that cannot be stepped with.
fn unusable<T: Real>(tensor: &Tensor<T>, gradient: &Buffer) -> Error {
    let limit = T::LARGEST_GRADIENT;
    let name = tensor.info.name.clone();
    match gradient.as_slice().first_beyond(limit, false) {
        Some((index, value)) if value.is_finite() => {
            Error::GradientTooLarge { name, index, value, limit, dtype: T::DTYPE }
        }
        Some((index, value)) => Error::NonFiniteGradient { name, index, value: value.to_string() },
        None => Error::NonFiniteGradient { name, index: 0, value: String::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::author::{Descent, Element, GradientTransform, fields, transform};
    use crate::device::Interpreter;
    use crate::memory::number::Backend;

    #[derive(Clone, Debug)]
    struct Momentum;

    #[fields]
    struct Average<V> {
        m: V,
    }

    #[transform("momentum")]
    impl GradientTransform for Momentum {
        type State<V: Copy> = Average<V>;

        fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
            e.state.m = 0.5 * e.state.m + e.update;
            e.update = e.state.m;
        }
    }

    /// The interpreter, whose memory or sweeps give out at some call.
    #[derive(Debug)]
    struct GivesOut {
        calls: usize,
    }

    impl GivesOut {
        fn call(&mut self) -> Result<(), &'static str> {
            self.calls = self.calls.checked_sub(1).ok_or("out of memory")?;
            Ok(())
        }
    }

    impl Executor for GivesOut {
        type Array = Buffer;
        type Error = &'static str;

        fn len(array: &Buffer) -> usize {
            array.len()
        }
        fn dtype(array: &Buffer) -> DType {
            array.dtype()
        }
        fn upload(&mut self, values: Buffer) -> Result<Buffer, &'static str> {
            self.call().map(|()| values)
        }
        fn zeros(&mut self, dtype: DType, len: usize) -> Result<Buffer, &'static str> {
            self.call().map(|()| Buffer::zeros(dtype, len))
        }
        fn download(&mut self, array: &Buffer) -> Result<Buffer, &'static str> {
            self.call().map(|()| array.clone())
        }
        fn usable(&mut self, gradients: &[&Buffer], _limit: f64) -> Result<Vec<bool>, &'static str> {
            self.call().map(|()| vec![true; gradients.len()])
        }
        fn sweep(
            &mut self,
            formula: &Arc<SweepFormula>,
            tensors: &mut [TensorSweep<'_, f32, Buffer>],
        ) -> Result<(), &'static str> {
            self.call()?;
            let Ok(()) = Interpreter.sweep(formula, tensors);
            Ok(())
        }
    }

    #[test]
    fn behind_a_device_that_failed_nothing_goes_on() {
        let mut completed = 0;
        for calls in 0..8 {
            let optimizer = Optimizer::new((Momentum, Descent::default()), [("w", [2])]).unwrap();
            let mut optimizer = OnDevice::new(optimizer, GivesOut { calls }).unwrap();
            let (mut w, g) = (Buffer::F32(vec![1.0, 2.0]), Buffer::F32(vec![0.5, 0.5]));
            let mut step = |optimizer: &mut OnDevice<GivesOut>| {
                optimizer.step(&mut [DeviceParameter { value: &mut w, gradient: Some(&g) }])
            };
            if step(&mut optimizer).is_ok() {
                completed += 1;
                continue;
            }
            let again = step(&mut optimizer).unwrap_err().to_string();
            assert!(again.contains("out of memory, in an earlier step"), "{again}");
            assert!(optimizer.snapshot().is_err() && optimizer.into_parts().is_err());
        }
        // Three calls make a step: the check, an array of state, and the sweep.
        assert_eq!(completed, 8 - 3);
    }
}
