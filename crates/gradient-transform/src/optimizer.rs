//! The optimizer: groups of parameters, each stepped by a chain.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::buffer::{Buffer, Slice, SliceMut};
use crate::compose::stages;
use crate::context::{Estimate, StepContext, StepSummary};
use crate::element::{DType, Element, Real};
use crate::error::{Error, Result};
use crate::group::{Group, NonFinite, ParameterGroup, Settings, SplitGroups, check_lr, describe};
use crate::parameter::{Parameter, Shape, Value};
use crate::rounding::{Rounding, Stream};
use crate::snapshot::{GroupSnapshot, Snapshot, TensorSnapshot};
use crate::sweep::ScratchPool;
use crate::tensor::{Run, Tensor};
use crate::transform::GradientTransform;

/// Steps smaller than this many elements in all run on the calling thread: entering a thread pool costs more.
const SERIAL_BELOW: usize = 100_000;

/// A chain at work on named parameters.
///
/// `T` is the type computed in: `f32` (for float32 and bfloat16 parameters) or `f64`.
///
/// ```
/// use gradient_transform::{Descent, Optimizer, Parameter};
/// let mut optimizer: Optimizer = Optimizer::new(Descent::default(), [("w", &[2, 2][..]), ("b", &[2][..])])?;
/// optimizer.set_lr(0, 0.5)?;
/// let (mut w, mut b) = ([1.0_f32, 2.0, 3.0, 4.0], [5.0_f32, 6.0]);
/// optimizer.step(&mut [
///     Parameter::slice(&mut w, Some(&[2.0, 2.0, 2.0, 2.0])),
///     Parameter::slice(&mut b, None), // no gradient in this step
/// ])?;
/// assert_eq!((w, b), ([0.0, 1.0, 2.0, 3.0], [5.0, 6.0]));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub struct Optimizer<T: Real = f32> {
    pub(crate) groups: Vec<Group<T>>,
    pub(crate) tensors: Vec<Tensor<T>>,
    pub(crate) settings: Settings,
    /// The training point y of every parameter, while the parameters are at x.
    evaluating: Option<Vec<Buffer>>,
    skipped: u64,
    /// State was loaded and no step done since.
    pub(crate) resumed: bool,
    pool: ScratchPool<T>,
}

/// What [`Optimizer::step`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum StepOutcome {
    /// The step was done.
    Done,
    /// A gradient was not finite, and [`NonFinite::Skip`] is set: nothing moved.
    Skipped,
}

impl<T: Real> Optimizer<T> {
    /// One group at learning rate 1, with the default [`Settings`]. Parameters are (name, shape), in the order in
    /// which every step will give them.
    ///
    /// # Errors
    /// [`Error::InvalidChain`], [`Error::Excluded`] or [`Error::OptionOutOfRange`] for a chain that cannot run;
    /// [`Error::DuplicateName`].
    pub fn new<'s, N: Into<String>>(
        chain: impl GradientTransform<T> + 'static,
        parameters: impl IntoIterator<Item = (N, &'s [usize])>,
    ) -> Result<Self> {
        Self::with_groups([ParameterGroup::new(chain, parameters)], Settings::default())
    }

    /// Several groups. The parameters' order is that of the groups.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_groups(
        groups: impl IntoIterator<Item = ParameterGroup<T>>,
        settings: Settings,
    ) -> Result<Self> {
        let mut names = BTreeSet::new();
        let (mut tensors, mut made) = (Vec::new(), Vec::new());
        for (index, group) in groups.into_iter().enumerate() {
            for (name, shape) in group.parameters {
                if !names.insert(name.clone()) {
                    return Err(Error::DuplicateName { name });
                }
                tensors.push(Tensor::new(name, &shape, index));
            }
            made.push(Group::new(group.chain, group.lr, group.rounding)?);
        }
        if settings.split_groups == SplitGroups::Joint {
            share_first_estimate(&mut made);
        }
        Ok(Self {
            groups: made,
            tensors,
            settings,
            evaluating: None,
            skipped: 0,
            resumed: false,
            pool: ScratchPool::default(),
        })
    }

    /// Adds a group; its parameters come behind those already there.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::EvaluationMode`] between `eval` and `train`.
    pub fn add_group(&mut self, group: ParameterGroup<T>) -> Result<()> {
        if self.evaluating.is_some() {
            return Err(Error::EvaluationMode);
        }
        let index = self.groups.len();
        let mut names: BTreeSet<&str> = self.tensors.iter().map(|t| t.info.name.as_str()).collect();
        for (name, _) in &group.parameters {
            if !names.insert(name) {
                return Err(Error::DuplicateName { name: name.clone() });
            }
        }
        let made = Group::new(group.chain, group.lr, group.rounding)?;
        self.groups.push(made);
        if self.settings.split_groups == SplitGroups::Joint {
            share_first_estimate(&mut self.groups);
        }
        self.tensors
            .extend(group.parameters.into_iter().map(|(name, shape)| Tensor::new(name, &shape, index)));
        Ok(())
    }

    /// Steps every parameter that has a gradient.
    ///
    /// # Errors
    /// [`Error::EvaluationMode`], [`Error::ParameterCount`], [`Error::ShapeMismatch`], [`Error::ElementType`],
    /// [`Error::NonFiniteGradient`]; in each case neither parameters nor state have changed.
    pub fn step(&mut self, parameters: &mut [Parameter<'_>]) -> Result<StepOutcome> {
        self.check_count(parameters.len())?;
        if self.evaluating.is_some() {
            return Err(Error::EvaluationMode);
        }
        for (tensor, parameter) in self.tensors.iter().zip(parameters.iter()) {
            check(tensor, parameter)?;
        }
        let total: usize = parameters.iter().filter(|p| p.gradient.is_some()).map(|p| p.value.len()).sum();
        let parallel = total >= SERIAL_BELOW && rayon::current_num_threads() > 1;
        let done = if parallel && rayon::current_thread_index().is_none() {
            // One entry into the pool for the whole step.
            rayon::scope(|_| self.step_checked(parameters, parallel))?
        } else {
            self.step_checked(parameters, parallel)?
        };
        if !done {
            self.skipped += 1;
            return Ok(StepOutcome::Skipped);
        }
        for parameter in parameters.iter_mut().filter(|p| p.gradient.is_some()) {
            parameter.value.write_back();
        }
        self.end();
        Ok(StepOutcome::Done)
    }

    /// Steps parameters whose shapes have been checked; false if a gradient is not finite and the step is to be skipped.
    fn step_checked(&mut self, parameters: &mut [Parameter<'_>], parallel: bool) -> Result<bool> {
        if !self.all_finite(parameters, parallel)? {
            return Ok(false);
        }
        self.begin();
        let Self { groups, tensors, settings, pool, .. } = self;
        TensorJobs { groups, settings, pool, parallel }.run(tensors, parameters);
        Ok(true)
    }

    /// Begins a step whose gradients arrive one by one, as in a fused backward pass. Give each parameter that has a
    /// gradient to [`StepInProgress::parameter`], and then call [`StepInProgress::end`].
    ///
    /// # Errors
    /// [`Error::EvaluationMode`].
    pub fn begin_step(&mut self) -> Result<StepInProgress<'_, T>> {
        if self.evaluating.is_some() {
            return Err(Error::EvaluationMode);
        }
        self.begin();
        Ok(StepInProgress { optimizer: self })
    }

    /// The harmonic mean of the groups' d, in the groups it is taken over; `None` if each has its own.
    fn shared_d(&self) -> Option<f64> {
        let compat = &self.settings.compat;
        if self.settings.split_groups != SplitGroups::Mean
            || self.groups.len() < 2
            || (compat.shared_d_not_saved && self.resumed)
        {
            return None;
        }
        let counted = |g: &&Group<T>| compat.harmonic_mean_counts_inactive || g.seen;
        let any = self.groups.iter().any(|g| counted(&g));
        let (mut sum, mut count) = (0.0, 0.0);
        for group in self.groups.iter().filter(|g| !any || counted(g)) {
            sum += 1.0 / group.estimate.d;
            count += 1.0;
        }
        Some(count / sum)
    }

    fn begin(&mut self) {
        let shared = self.shared_d();
        for group in &mut self.groups {
            let d = shared.unwrap_or(group.estimate.d);
            group.begin_step(d);
        }
        for tensor in &mut self.tensors {
            tensor.outcome = None;
        }
    }

    fn end(&mut self) {
        let Self { groups, tensors, settings, .. } = self;
        let compat = &settings.compat;
        let joint = settings.split_groups == SplitGroups::Joint && groups.len() > 1;
        let mut joint_total = [0.0; 2];
        let mut any_update = false;
        for (index, group) in groups.iter_mut().enumerate() {
            let mut summary = StepSummary::default();
            let mut total = [0.0; 2];
            for tensor in tensors.iter().filter(|t| t.group == index) {
                let outcome = tensor.outcome;
                summary.gradients += usize::from(outcome.is_some());
                summary.updates += usize::from(outcome.is_some_and(|o| o.updated));
                summary.last_updated = outcome.is_some_and(|o| o.updated);
                if let Some(outcome) = outcome {
                    total[0] += outcome.contribution[0];
                    total[1] += outcome.contribution[1];
                }
            }
            any_update |= summary.updates > 0;
            group.seen |= summary.gradients > 0;
            if summary.gradients == 0 && !compat.k_advances_without_gradients {
                continue;
            }
            if joint {
                joint_total[0] += total[0];
                joint_total[1] += total[1];
            } else if summary.updates > 0 || compat.k_advances_without_gradients {
                group.conclude(total);
            }
            group.end_step(&summary);
        }
        if joint && (any_update || compat.k_advances_without_gradients) {
            // The estimate is the first group's; it stands still when the step that any group is at says so.
            groups[0].context.k = groups.iter().map(|g| g.context.k).max().unwrap_or(1);
            groups[0].conclude(joint_total);
            let shared = groups[0].estimate;
            for group in &mut groups[1..] {
                let d_prev =
                    if compat.joint_d_prev_not_copied { group.estimate.d_prev } else { shared.d_prev };
                group.estimate = Estimate { d_prev, d0: group.estimate.d0, ..shared };
            }
        }
        self.resumed = false;
    }

    fn check_count(&self, found: usize) -> Result<()> {
        let expected = self.tensors.len();
        if found == expected { Ok(()) } else { Err(Error::ParameterCount { expected, found }) }
    }

    fn all_finite(&self, parameters: &[Parameter<'_>], parallel: bool) -> Result<bool> {
        if self.settings.non_finite == NonFinite::Unchecked {
            return Ok(true);
        }
        let Some((tensor, index, value)) = first_non_finite(parameters, parallel) else { return Ok(true) };
        if self.settings.non_finite == NonFinite::Skip {
            return Ok(false);
        }
        let name = self.tensors[tensor].info.name.clone();
        Err(Error::NonFiniteGradient { name, index, value: value.to_string() })
    }

    /// Puts every parameter to its evaluation point x. The training point y is kept, and [`train`](Self::train)
    /// puts it back exactly. Does nothing to parameters that have not had a gradient.
    ///
    /// The gradients in `parameters` are not looked at.
    ///
    /// # Errors
    /// [`Error::EvaluationMode`] when called twice, and the shape errors of [`step`](Self::step).
    pub fn eval(&mut self, parameters: &mut [Parameter<'_>]) -> Result<()> {
        if self.evaluating.is_some() {
            return Err(Error::EvaluationMode);
        }
        self.check_values(parameters)?;
        let mut training = Vec::with_capacity(parameters.len());
        for (tensor, parameter) in self.tensors.iter().zip(parameters) {
            let mut value = parameter.value.as_mut_slice();
            let mut copy = Buffer::zeros(
                value.dtype(),
                if self.settings.compat.evaluation_moves_parameters { 0 } else { value.len() },
            );
            if !copy.is_empty() {
                copy_between(value.as_slice(), copy.as_mut_slice());
            }
            training.push(copy);
            self.at_base(tensor, &mut value, |writer, y, z| writer.evaluate(y, z));
            parameter.value.write_back();
        }
        self.evaluating = Some(training);
        Ok(())
    }

    /// Puts every parameter back to its training point y.
    ///
    /// # Errors
    /// [`Error::TrainingMode`] without `eval` before, and the shape errors of [`step`](Self::step).
    pub fn train(&mut self, parameters: &mut [Parameter<'_>]) -> Result<()> {
        if self.evaluating.is_none() {
            return Err(Error::TrainingMode);
        }
        self.check_values(parameters)?;
        let training = self.evaluating.take().unwrap_or_default();
        for ((tensor, parameter), kept) in self.tensors.iter().zip(parameters).zip(training) {
            let mut value = parameter.value.as_mut_slice();
            if self.settings.compat.evaluation_moves_parameters {
                self.at_base(tensor, &mut value, |writer, x, z| writer.resume(x, z));
            } else if !kept.is_empty() {
                copy_between(kept.as_slice(), value);
            }
            parameter.value.write_back();
        }
        Ok(())
    }

    /// Whether the parameters are at the evaluation point.
    pub fn is_evaluating(&self) -> bool {
        self.evaluating.is_some()
    }

    /// Writes the evaluation point x of parameter `index` into `out`; `value` is the parameter at its training
    /// point y and is not touched.
    ///
    /// # Errors
    /// [`Error::NoSuch`]; [`Error::ShapeMismatch`] when a slice does not have the parameter's number of elements.
    pub fn evaluation_point<E: Element>(&self, index: usize, value: &[E], out: &mut [E]) -> Result<()> {
        let count = self.tensors.len();
        let tensor = self.tensors.get(index).ok_or(Error::NoSuch { what: "parameter", index, count })?;
        check_shape(tensor, "value", None, value.len())?;
        check_shape(tensor, "output", None, out.len())?;
        out.copy_from_slice(value);
        self.at_base(tensor, &mut E::slice_mut(out), |writer, y, z| writer.evaluate(y, z));
        Ok(())
    }

    /// Applies `f` to the parameter and its base iterate, tile by tile.
    fn at_base(
        &self,
        tensor: &Tensor<T>,
        value: &mut SliceMut<'_>,
        f: impl Fn(&dyn crate::Writer<T>, &mut [T], &[T]),
    ) {
        let stages = stages(&*self.groups[tensor.group].chain);
        let Some(base) = tensor.base(&stages) else { return };
        let Some(writer) = stages.iter().find_map(|t| t.writer()) else { return };
        let (mut y, mut z) = ([T::zero(); 256], [T::zero(); 256]);
        let len = base.len();
        for from in (0..len).step_by(256) {
            let to = (from + 256).min(len);
            let (y, z) = (&mut y[..to - from], &mut z[..to - from]);
            value.range(from, to).as_slice().load(y);
            base.range(from, to).load(z);
            f(writer, y, z);
            value.range(from, to).store(y, from, Rounding::Nearest, Stream::new(0, 0, 0, 0));
        }
    }

    fn check_values(&self, parameters: &[Parameter<'_>]) -> Result<()> {
        self.check_count(parameters.len())?;
        self.tensors.iter().zip(parameters).try_for_each(|(t, p)| check_value(t, &p.value))
    }

    fn group(&self, index: usize) -> Result<&Group<T>> {
        let count = self.groups.len();
        self.groups.get(index).ok_or(Error::NoSuch { what: "group", index, count })
    }

    /// Sets a group's learning rate: finite and at least 0.
    ///
    /// # Errors
    /// [`Error::NoSuch`] or [`Error::OptionOutOfRange`].
    pub fn set_lr(&mut self, group: usize, lr: f64) -> Result<()> {
        self.group(group)?;
        check_lr(lr)?;
        self.groups[group].lr = lr;
        Ok(())
    }

    /// A group's learning rate.
    ///
    /// # Errors
    /// [`Error::NoSuch`].
    pub fn lr(&self, group: usize) -> Result<f64> {
        Ok(self.group(group)?.lr)
    }

    /// A group's estimate of the step size; d is 1 for ever in a chain without an estimator.
    ///
    /// # Errors
    /// [`Error::NoSuch`].
    pub fn estimate(&self, group: usize) -> Result<Estimate> {
        Ok(self.group(group)?.estimate)
    }

    /// What the tensors of a group shared in the latest step: step size, averaging weight and so on.
    ///
    /// # Errors
    /// [`Error::NoSuch`].
    pub fn latest_step(&self, group: usize) -> Result<StepContext> {
        Ok(self.group(group)?.context)
    }

    /// Gives a group another chain. The state of transforms that are in both, by name, is kept; that of others is
    /// dropped, and new ones begin with theirs.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`Error::NoSuch`].
    pub fn replace_chain(&mut self, group: usize, chain: impl GradientTransform<T> + 'static) -> Result<()> {
        self.group(group)?;
        let chain: Box<dyn GradientTransform<T>> = Box::new(chain);
        let snapshot = self.groups[group].scalars_by_name();
        let old = &self.groups[group];
        let mut made = Group::new(chain, old.lr, old.rounding)?;
        made.k = old.k;
        made.seen = old.seen;
        if made.has_estimator() && old.has_estimator() {
            made.estimate = old.estimate;
        }
        made.set_scalars(&snapshot);
        for tensor in self.tensors.iter_mut().filter(|t| t.group == group) {
            tensor.unplan(&stages(&*self.groups[group].chain));
        }
        self.groups[group] = made;
        Ok(())
    }

    /// The names of a group's transforms in order; `‖` marks those behind which another sweep begins, for a tensor
    /// of the given shape.
    ///
    /// # Errors
    /// [`Error::NoSuch`].
    pub fn describe_chain(&self, group: usize, shape: &[usize]) -> Result<String> {
        Ok(describe(&*self.group(group)?.chain, shape))
    }

    /// Steps skipped because of a non-finite gradient.
    pub fn skipped_steps(&self) -> u64 {
        self.skipped
    }

    /// Steps done by a group.
    ///
    /// # Errors
    /// [`Error::NoSuch`].
    pub fn steps(&self, group: usize) -> Result<u64> {
        Ok(self.group(group)?.k)
    }

    /// Names of the parameters, in the order in which a step gives them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|t| t.info.name.as_str())
    }

    /// Bytes of state kept between steps, all parameters together.
    pub fn state_bytes(&self) -> usize {
        self.tensors.iter().map(Tensor::bytes).sum()
    }

    /// Bytes that one step moves between memory and processor according to the plan, and the largest number of
    /// sweeps over a tensor. Parameters that have not had a gradient yet are not counted.
    pub fn planned_traffic(&self) -> (u64, usize) {
        self.tensors
            .iter()
            .filter_map(Tensor::traffic)
            .fold((0, 0), |(bytes, sweeps), (b, s)| (bytes + b, sweeps.max(s)))
    }

    /// Everything that a later run needs to go on from here: state by parameter, transform and array.
    pub fn snapshot(&self) -> Snapshot {
        let groups = self
            .groups
            .iter()
            .map(|g| GroupSnapshot {
                k: g.k,
                estimate: g.estimate,
                seen: g.seen,
                scalars: g.scalars_by_name(),
            })
            .collect();
        let tensors = self
            .tensors
            .iter()
            .filter(|t| t.is_typed())
            .map(|t| {
                let arrays = t.arrays(&stages(&*self.groups[t.group].chain));
                let arrays = arrays.into_iter().map(|(k, b)| (k, b.clone())).collect();
                let info = &t.info;
                let shape = info.shape.clone();
                (
                    info.name.clone(),
                    TensorSnapshot { shape, dtype: info.dtype, updates: info.updates, arrays },
                )
            })
            .collect::<BTreeMap<_, _>>();
        Snapshot { groups, tensors }
    }

    /// Goes on from a snapshot of an optimizer with the same groups and parameters. Transforms that the snapshot
    /// does not know begin anew; state of transforms that are not in the chain is dropped.
    ///
    /// # Errors
    /// [`Error::State`] if the groups or parameters differ; [`Error::EvaluationMode`]. Nothing has changed then.
    pub fn restore(&mut self, snapshot: Snapshot) -> Result<()> {
        if self.evaluating.is_some() {
            return Err(Error::EvaluationMode);
        }
        let unfit = |reason: String| Err(Error::State { reason });
        if snapshot.groups.len() != self.groups.len() {
            return unfit(format!(
                "it has {} groups, this optimizer {}",
                snapshot.groups.len(),
                self.groups.len()
            ));
        }
        let known: BTreeMap<&str, usize> =
            self.tensors.iter().enumerate().map(|(i, t)| (t.info.name.as_str(), i)).collect();
        for (name, tensor) in &snapshot.tensors {
            let Some(&index) = known.get(name.as_str()) else {
                return unfit(format!("parameter `{name}` does not exist here"));
            };
            if let Some(reason) = tensor
                .misfit(&self.tensors[index].info, &stages(&*self.groups[self.tensors[index].group].chain))
            {
                return unfit(format!("parameter `{name}`: {reason}"));
            }
        }
        for (group, saved) in self.groups.iter_mut().zip(snapshot.groups) {
            group.k = saved.k;
            group.seen = saved.seen;
            if group.has_estimator() {
                group.estimate = Estimate { d0: group.estimate.d0, ..saved.estimate };
            }
            group.set_scalars(&saved.scalars);
        }
        let mut saved = snapshot.tensors;
        for tensor in &mut self.tensors {
            match saved.remove(&tensor.info.name) {
                Some(s) => tensor.restore(s.dtype, s.updates, s.arrays),
                None => tensor.restore(DType::F32, 0, BTreeMap::new()),
            }
        }
        self.resumed = true;
        Ok(())
    }
}

impl<T: Real> Group<T> {
    fn has_estimator(&self) -> bool {
        stages(&*self.chain).iter().any(|t| t.estimator().is_some())
    }

    fn scalar_names(&self) -> Vec<String> {
        stages(&*self.chain)
            .iter()
            .flat_map(|t| t.group_scalars().iter().map(|s| format!("{}/{s}", t.name())))
            .collect()
    }

    fn scalars_by_name(&self) -> BTreeMap<String, f64> {
        self.scalar_names().into_iter().zip(self.scalars.iter().copied()).collect()
    }

    fn set_scalars(&mut self, by_name: &BTreeMap<String, f64>) {
        for (name, scalar) in self.scalar_names().iter().zip(&mut self.scalars) {
            *scalar = by_name.get(name).copied().unwrap_or(0.0);
        }
    }
}

impl<T: Real> fmt::Debug for Optimizer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for (index, group) in self.groups.iter().enumerate() {
            let names: Vec<&str> =
                self.tensors.iter().filter(|t| t.group == index).map(|t| t.info.name.as_str()).collect();
            list.entry(&format_args!(
                "[{}] lr {} d {:e} step {} of {}",
                describe(&*group.chain, &[64, 64]),
                group.lr,
                group.estimate.d,
                group.k,
                names.join(", ")
            ));
        }
        list.finish()
    }
}

/// A step whose gradients arrive one by one.
///
/// Dropped without [`end`](Self::end), the parameters given so far have moved, but the step does not count: the
/// estimate of the step size and the average's weight stay as they were.
#[must_use = "call `end` when every gradient has arrived"]
pub struct StepInProgress<'o, T: Real = f32> {
    optimizer: &'o mut Optimizer<T>,
}

impl<T: Real> StepInProgress<'_, T> {
    /// Steps parameter `index`; its gradient can be freed afterwards. Parameters may come in any order.
    ///
    /// # Errors
    /// [`Error::NoSuch`], [`Error::GivenTwice`], and those of [`Optimizer::step`]; this parameter has not changed then.
    /// A non-finite gradient is an error here under [`NonFinite::Skip`] too, as others may have moved already.
    pub fn parameter(&mut self, index: usize, mut parameter: Parameter<'_>) -> Result<()> {
        let Optimizer { groups, tensors, settings, pool, .. } = &mut *self.optimizer;
        let count = tensors.len();
        let tensor = tensors.get_mut(index).ok_or(Error::NoSuch { what: "parameter", index, count })?;
        if tensor.outcome.is_some() {
            return Err(Error::GivenTwice { name: tensor.info.name.clone() });
        }
        check(tensor, &parameter)?;
        let Some(gradient) = &parameter.gradient else { return Ok(()) };
        if settings.non_finite != NonFinite::Unchecked
            && let Some((index, value)) = gradient.as_slice().first_non_finite(false)
        {
            return Err(Error::NonFiniteGradient {
                name: tensor.info.name.clone(),
                index,
                value: value.to_string(),
            });
        }
        let parallel = parameter.value.len() >= SERIAL_BELOW && rayon::current_num_threads() > 1;
        TensorJobs { groups, settings, pool, parallel }.one(tensor, &mut parameter);
        parameter.value.write_back();
        Ok(())
    }

    /// Ends the step: the estimate of the step size moves on.
    pub fn end(self) {
        self.optimizer.end();
    }
}

/// What the jobs of a step share, tensor by tensor.
struct TensorJobs<'a, T: Real> {
    groups: &'a [Group<T>],
    settings: &'a Settings,
    pool: &'a ScratchPool<T>,
    parallel: bool,
}

impl<T: Real> TensorJobs<'_, T> {
    fn run(&self, tensors: &mut [Tensor<T>], parameters: &mut [Parameter<'_>]) {
        if self.parallel && tensors.len() > 1 {
            let middle = tensors.len() / 2;
            let (tensors, right_tensors) = tensors.split_at_mut(middle);
            let (parameters, right_parameters) = parameters.split_at_mut(middle);
            rayon::join(|| self.run(tensors, parameters), || self.run(right_tensors, right_parameters));
        } else {
            for (tensor, parameter) in tensors.iter_mut().zip(parameters) {
                self.one(tensor, parameter);
            }
        }
    }

    fn one(&self, tensor: &mut Tensor<T>, parameter: &mut Parameter<'_>) {
        let Some(gradient) = &parameter.gradient else { return };
        let group = &self.groups[tensor.group];
        let stages = stages(&*group.chain);
        let run = Run {
            stages: &stages,
            step: group.context,
            rounding: group.rounding,
            seed: self.settings.seed,
            pool: self.pool,
            parallel: self.parallel,
        };
        tensor.step(&run, parameter.value.as_mut_slice(), gradient.as_slice());
    }
}

/// The first parameter whose gradient is not finite, and its first such element.
fn first_non_finite(parameters: &[Parameter<'_>], parallel: bool) -> Option<(usize, usize, f64)> {
    if parallel && parameters.len() > 1 {
        let middle = parameters.len() / 2;
        let (left, right) = parameters.split_at(middle);
        let (left, right) = rayon::join(|| first_non_finite(left, true), || first_non_finite(right, true));
        return left.or(right.map(|(tensor, index, value)| (middle + tensor, index, value)));
    }
    parameters.iter().enumerate().find_map(|(tensor, parameter)| {
        let gradient = parameter.gradient.as_ref()?.as_slice();
        gradient.first_non_finite(parallel).map(|(index, value)| (tensor, index, value))
    })
}

/// With a joint estimate, all groups step with the first one's d; each keeps its own d0, which it compares d with.
fn share_first_estimate<T: Real>(groups: &mut [Group<T>]) {
    if let Some((first, others)) = groups.split_first_mut() {
        for group in others.iter_mut().filter(|g| g.has_estimator()) {
            group.estimate = Estimate { d0: group.estimate.d0, ..first.estimate };
        }
    }
}

fn check<T: Real>(tensor: &Tensor<T>, parameter: &Parameter<'_>) -> Result<()> {
    check_value(tensor, &parameter.value)?;
    if let Some(gradient) = &parameter.gradient {
        check_shape(tensor, "gradient", gradient.shape.as_ref(), gradient.as_slice().len())?;
    }
    Ok(())
}

fn check_value<T: Real>(tensor: &Tensor<T>, value: &Value<'_>) -> Result<()> {
    check_shape(tensor, "value", value.shape.as_ref(), value.len())?;
    let found = value.dtype();
    let wrong = |reason: String| Err(Error::ElementType { name: tensor.info.name.clone(), found, reason });
    if found == DType::F64 && T::DTYPE == DType::F32 {
        return wrong("this optimizer computes in float32; make an `Optimizer<f64>` for it".into());
    }
    if tensor.is_typed() && tensor.info.dtype != found {
        return wrong(format!("it was {} before; its state is of that type", tensor.info.dtype));
    }
    Ok(())
}

fn check_shape<T: Real>(
    tensor: &Tensor<T>,
    what: &'static str,
    shape: Option<&Shape>,
    len: usize,
) -> Result<()> {
    let expected = &tensor.info.shape;
    let fits = match shape {
        Some(shape) => shape.as_slice() == expected.as_slice(),
        None => len == tensor.info.len(),
    };
    if fits {
        return Ok(());
    }
    let found = shape.map_or_else(|| vec![len], |s| s.to_vec());
    Err(Error::ShapeMismatch { what, name: tensor.info.name.clone(), expected: expected.clone(), found })
}

/// Copies between slices of one type and length.
fn copy_between(from: Slice<'_>, to: SliceMut<'_>) {
    match (from, to) {
        (Slice::F32(from), SliceMut::F32(to)) => to.copy_from_slice(from),
        (Slice::Bf16(from), SliceMut::Bf16(to)) => to.copy_from_slice(from),
        (Slice::F64(from), SliceMut::F64(to)) => to.copy_from_slice(from),
        _ => unreachable!("the element types were checked"),
    }
}
