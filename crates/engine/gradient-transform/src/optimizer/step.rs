//! Steps over all parameters, and steps whose gradients arrive one by one.

use std::slice::from_mut;

use smallvec::SmallVec;

use crate::engine::sweep::ScratchPool;
use crate::engine::sweep::watch::Coverage;
use crate::engine::tensor::{Progress, Run, Tensor};
use crate::error::{Error, Result};
use crate::link::compose::stages;
use crate::link::context::{StepSummary, is_valid_d};
use crate::link::published::Published;
use crate::memory::buffer::{Buffer, Slice};
use crate::memory::element::Real;
use crate::optimizer::Optimizer;
use crate::optimizer::check::check;
use crate::optimizer::group::{Group, NonFinite, Settings, check_lr};
use crate::optimizer::parameter::{Parameter, Value};
use crate::optimizer::policy::{GroupPolicy, GroupState, SplitGroups};
use crate::optimizer::shared_sums;

/// Steps of fewer elements in total run on the calling thread: entering a thread pool costs more.
const SERIAL_BELOW: usize = 100_000;

/// Outcome of [`Optimizer::step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// The step was done.
    Done,
    /// Nothing moved: a gradient was not finite or too large, and [`NonFinite::Skip`] is set; or the rule of
    /// [`Optimizer::step_if`] rejected the norm.
    Skipped,
}

impl<T: Real> Optimizer<T> {
    /// Steps every parameter that has a gradient.
    ///
    /// # Errors
    /// [`Error::EvaluationMode`], [`Error::ParameterCount`], [`Error::ShapeMismatch`], [`Error::ElementType`],
    /// [`Error::NonFiniteGradient`], [`Error::GradientTooLarge`], [`Error::InvalidPolicy`], [`Error::NotGiven`]; in each case neither parameters nor state have
    /// changed.
    pub fn step(&mut self, parameters: &mut [Parameter<'_>]) -> Result<StepOutcome> {
        self.check_count(parameters.len())?;
        if self.evaluating.is_some() {
            return Err(Error::EvaluationMode);
        }
        let mut total = 0;
        for (tensor, parameter) in self.tensors.iter_mut().zip(parameters.iter()) {
            check(tensor, parameter)?;
            (tensor.outcome, tensor.progress) = (None, Progress::default());
            total += if parameter.gradient.is_some() { parameter.value.len() } else { 0 };
        }
        let parallel = total >= SERIAL_BELOW && rayon::current_num_threads() > 1;
        let done = if parallel && rayon::current_thread_index().is_none() {
            // One entry into the pool for the whole step.
            rayon::scope(|_| self.step_checked(parameters, parallel))?
        } else {
            self.step_checked(parameters, parallel)?
        };
        if self.accumulated > 0 {
            self.drop_accumulated();
        }
        if !done {
            self.skipped += 1;
            self.drop_arrays();
            return Ok(StepOutcome::Skipped);
        }
        self.end();
        Ok(StepOutcome::Done)
    }

    /// A step with a further argument: a value of any plain type, which every transform can read by that type
    /// ([`StepContext::published`](crate::StepContext::published)). Polyak's step size needs the
    /// [`Loss`](crate::Loss). For several values, define a struct.
    ///
    /// ```
    /// use gradient_transform::prelude::author::*;
    /// use gradient_transform::{Descent, Error, Loss, Optimizer, Parameter, StepContext};
    ///
    /// /// `u <- loss u`.
    /// #[derive(Clone, Debug)]
    /// struct ByLoss;
    ///
    /// #[fields]
    /// struct Size<V> {
    ///     loss: V,
    /// }
    ///
    /// #[transform("by-loss")]
    /// impl GradientTransform for ByLoss {
    ///     type Scalars<V: Copy> = Size<V>;
    ///
    ///     fn check_step(&self, step: &StepContext) -> Result<()> {
    ///         step.required::<Loss>("by-loss").map(|_| ())
    ///     }
    ///
    ///     fn begin(&self, cx: &Context<'_>, scalars: &mut Size<f64>) {
    ///         scalars.loss = cx.step.published::<Loss>().map_or(0.0, |loss| loss.0);
    ///     }
    ///
    ///     fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
    ///         e.update = e.scalars.loss * e.update;
    ///     }
    /// }
    ///
    /// let mut optimizer = Optimizer::new((ByLoss, Descent::default()), [("w", [1])])?;
    /// let mut w = [0.0_f32];
    /// optimizer.step_with(Loss(0.5), &mut [Parameter::slice(&mut w, Some(&[1.0]))])?;
    /// assert_eq!(w, [-0.5]);
    /// let error = optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0]))]).unwrap_err();
    /// assert!(matches!(error, Error::NotGiven { .. })); // and nothing has moved
    /// assert_eq!((w, optimizer.steps(0)?), ([-0.5], 1));
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_with(
        &mut self,
        given: impl Published,
        parameters: &mut [Parameter<'_>],
    ) -> Result<StepOutcome> {
        self.given.set(given);
        let outcome = self.step(parameters);
        self.given.forget();
        outcome
    }

    /// A step with every group's learning rate multiplied by a factor, for this step only: for schedules, and for frameworks that
    /// pass one learning rate with every step. `step` is the call of [`step`](Self::step), [`step_if`](Self::step_if) or
    /// [`step_with`](Self::step_with).
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, Parameter, ParameterGroup, Settings};
    ///
    /// let group = |name: &'static str, lr| ParameterGroup::new(Descent::default(), [(name, &[1][..])]).lr(lr);
    /// let groups = [group("w", 0.5), group("frozen", 0.0)];
    /// let mut optimizer: Optimizer = Optimizer::with_groups(groups, Settings::default())?;
    /// let (mut w, mut frozen) = ([1.0_f32], [1.0_f32]);
    /// optimizer.at_lr_factor(0.25, |optimizer| {
    ///     optimizer.step(&mut [
    ///         Parameter::slice(&mut w, Some(&[1.0])),
    ///         Parameter::slice(&mut frozen, Some(&[1.0])),
    ///     ])
    /// })?;
    /// assert_eq!((w, frozen), ([0.875], [1.0]));
    /// assert_eq!(optimizer.lr(0)?, 0.5);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `step`; [`Error::OptionOutOfRange`] for a factor below 0, or one that takes a group's learning rate beyond
    /// 2^32. Nothing has changed then.
    pub fn at_lr_factor<R>(&mut self, factor: f64, step: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        let own = self.multiply_lrs(factor)?;
        let outcome = step(self);
        self.put_lrs(own);
        outcome
    }

    /// Multiplies every group's learning rate, and returns the previous ones.
    pub(crate) fn multiply_lrs(&mut self, factor: f64) -> Result<SmallVec<[f64; 4]>> {
        // 0 times infinity is NaN, and -1 times 0 is not below 0.
        Error::check("lr", factor, factor.is_finite() && factor >= 0.0, "finite and at least 0")?;
        let own: SmallVec<[f64; 4]> = self.groups.iter().map(|group| group.lr).collect();
        own.iter().try_for_each(|lr| check_lr(lr * factor))?;
        self.groups.iter_mut().for_each(|group| group.lr *= factor);
        Ok(own)
    }

    pub(crate) fn put_lrs(&mut self, lrs: SmallVec<[f64; 4]>) {
        self.groups.iter_mut().zip(lrs).for_each(|(group, lr)| group.lr = lr);
    }

    /// Steps parameters whose shapes have been checked; returns false if a gradient is invalid and the step
    /// has to be skipped.
    fn step_checked(&mut self, parameters: &mut [Parameter<'_>], parallel: bool) -> Result<bool> {
        self.begin()?;
        let of_mean = self.accumulated > 0;
        let usable = if of_mean { self.take_mean(parameters) } else { Ok(true) };
        if usable != Ok(true) {
            self.unbegin();
            return usable;
        }
        let recorded = self.recorded();
        let Self { groups, tensors, settings, shared_sums, pool, .. } = &mut *self;
        let jobs = TensorJobs { groups, settings, pool, parallel, of_mean, recorded };
        if settings.non_finite == NonFinite::SkipTensor && shared_sums.is_empty() && !of_mean {
            jobs.all(tensors, parameters, &step_if_usable);
            return Ok(true);
        }
        let finite = match settings.non_finite {
            // The gradients of a mean have been checked already.
            _ if of_mean => true,
            NonFinite::Unchecked => true,
            NonFinite::SkipTensor => jobs.all(tensors, parameters, &refuse_unusable),
            NonFinite::Error | NonFinite::Skip => jobs.all(tensors, parameters, &examine),
        };
        if finite {
            for name in &*shared_sums {
                jobs.all(tensors, parameters, &|tensor, run, value, gradient| {
                    tensor.step(run, value.as_mut_slice(), gradient, Some(name));
                    true
                });
                shared_sums::complete(name, groups, tensors);
            }
            jobs.all(tensors, parameters, &step);
            return Ok(true);
        }
        let skips = settings.non_finite == NonFinite::Skip;
        self.unbegin();
        if skips {
            return Ok(false);
        }
        Err(self.unusable_gradient(parameters))
    }

    /// Undoes the beginning of a step.
    pub(crate) fn unbegin(&mut self) {
        for group in &mut self.groups {
            std::mem::swap(&mut group.context, &mut group.previous);
        }
    }

    /// Begins a step whose gradients arrive one by one, as in a fused backward pass. Give each parameter that has a
    /// gradient to [`StepInProgress::parameter`], and then call [`StepInProgress::end`].
    ///
    /// # Errors
    /// [`Error::EvaluationMode`]; [`Error::NeedsAllGradients`] for chains with [sums over several tensors](crate::SumsOver);
    /// [`Error::GradientsAccumulated`]; [`Error::InvalidPolicy`]; [`Error::NotGiven`].
    pub fn begin_step(&mut self) -> Result<StepInProgress<'_, T>> {
        self.begin_one_by_one()?;
        Ok(StepInProgress { optimizer: self })
    }

    /// [`begin_step`](Self::begin_step) with a value, as in [`step_with`](Self::step_with).
    ///
    /// ```
    /// use gradient_transform::{Descent, Loss, Optimizer, Parameter, map};
    ///
    /// let by_loss = map!("by-loss", |cx| { loss: cx.step.published::<Loss>().map_or(1.0, |loss| loss.0) }, |u| loss * u);
    /// let mut optimizer = Optimizer::new((by_loss, Descent::default()), [("w", [1])])?;
    /// let mut w = [1.0_f32];
    /// let mut step = optimizer.begin_step_with(Loss(0.25))?;
    /// step.parameter(0, Parameter::slice(&mut w, Some(&[1.0])))?;
    /// step.end();
    /// assert_eq!(w, [0.75]);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`begin_step`](Self::begin_step).
    pub fn begin_step_with(&mut self, given: impl Published) -> Result<StepInProgress<'_, T>> {
        self.given.set(given);
        // From here on every group's step has a copy.
        let begun = self.begin_one_by_one();
        self.given.forget();
        begun.map(|()| StepInProgress { optimizer: self })
    }

    fn begin_one_by_one(&mut self) -> Result<()> {
        if self.evaluating.is_some() {
            return Err(Error::EvaluationMode);
        }
        if let Some(transform) = self.shared_sums.first() {
            return Err(Error::NeedsAllGradients { transform: transform.clone() });
        }
        if self.accumulated > 0 {
            return Err(Error::GradientsAccumulated { count: self.accumulated });
        }
        self.begin()?;
        let tensors = self.tensors.iter_mut();
        tensors.for_each(|tensor| (tensor.outcome, tensor.progress) = (None, Progress::default()));
        Ok(())
    }

    /// Publishes the step to every group's chain, unless a group cannot step.
    pub(crate) fn begin(&mut self) -> Result<()> {
        let Self { groups, settings, policy, resumed, states, shared_d, given, .. } = &mut *self;
        groups.iter_mut().for_each(|group| group.summary = StepSummary::default());
        let estimating = groups.iter().enumerate().filter(|(_, group)| group.estimates);
        states.clear();
        states.extend(estimating.map(|(index, group)| group.state(index, *resumed)));
        shared_d.clear();
        shared_d.extend(states.iter().map(|state| state.estimate.d));
        policy.share(settings.split_groups, states, shared_d);
        // The estimator checks everything else of an estimate.
        let adopts = settings.split_groups == SplitGroups::Joint
            && states.first().is_some_and(|first| first.estimate.fault().is_none());
        for (GroupState { index, estimate, .. }, &d) in states.iter().zip(&*shared_d) {
            let reason = if d.to_bits() != estimate.d.to_bits() && !is_valid_d(d) {
                format!("a d of {d}, which must be above 0 and at most 2^50")
            } else if let Some(fault) = estimate.fault().filter(|_| adopts) {
                format!("an estimate that allows no step, and that only earlier state can replace: {fault}")
            } else {
                continue;
            };
            return Err(Error::InvalidPolicy { policy: format!("{policy:?}"), group: *index, reason });
        }
        let joint = settings.split_groups == SplitGroups::Joint && groups.len() > 1;
        let mut shared_d = shared_d.iter();
        for group in groups {
            let shared = if group.estimates { shared_d.next() } else { None };
            group.begin_step(shared.copied().unwrap_or(group.estimate.d), joint, given);
        }
        let lacks = self.groups.iter().try_for_each(Group::check_step);
        match lacks {
            Ok(()) => self.begin_record(),
            Err(_) => self.unbegin(),
        }
        lacks
    }

    pub(crate) fn end(&mut self) {
        let Self { groups, tensors, settings, policy, skipped_tensors, resumed, .. } = self;
        let joint = settings.split_groups == SplitGroups::Joint && groups.len() > 1;
        // A group's tensors are consecutive.
        let mut rest = &tensors[..];
        for (index, group) in groups.iter_mut().enumerate() {
            let own = rest.partition_point(|tensor| tensor.group == index);
            let (tensors, later) = rest.split_at(own);
            rest = later;
            for tensor in tensors {
                *skipped_tensors += u64::from(tensor.progress.refused);
                group.summary.add(tensor.outcome.map(|outcome| outcome.updated));
            }
            group.counts = policy.counts(&group.state(index, *resumed));
            let can_move = group.lr > 0.0;
            group.seen |= group.summary.gradients > 0 && can_move;
            if group.counts.step {
                group.still_steps += u64::from(!group.counts.moves);
                let concludes = group.estimates && group.counts.estimate && !joint;
                group.end_step(concludes.then(|| policy.total(&mut tensors.iter().filter_map(contribution))));
            }
        }
        let moves = |group: &Group<T>| group.estimates && group.counts.step && group.counts.estimate;
        if joint && groups.iter().any(moves) {
            let joins = |tensor: &&Tensor<T>| {
                let group = &groups[tensor.group];
                group.estimates && group.counts.joins
            };
            let total = policy.total(&mut tensors.iter().filter(joins).filter_map(contribution));
            conclude_jointly(groups, total, &**policy, *resumed);
        }
        self.resumed = false;
        self.drop_arrays();
        self.end_record();
    }

    /// The error for the first invalid gradient, which must exist.
    fn unusable_gradient(&self, parameters: &[Parameter<'_>]) -> Error {
        let mut found = parameters.iter().zip(&self.tensors).filter_map(|(p, tensor)| unusable(tensor, p));
        found.next().unwrap_or(Error::NonFiniteGradient {
            name: String::new(),
            index: 0,
            value: String::new(),
        })
    }
}

impl StepSummary {
    /// Adds a tensor, the group's last one so far: whether it moved, if it had a gradient.
    fn add(&mut self, updated: Option<bool>) {
        self.gradients += usize::from(updated.is_some());
        self.last_updated = updated == Some(true);
        self.updates += usize::from(self.last_updated);
    }
}

/// Contribution to the estimate of a tensor that had a gradient.
fn contribution<T: Real>(tensor: &Tensor<T>) -> Option<[f64; 2]> {
    tensor.outcome.map(|outcome| outcome.contribution)
}

/// Updates the joint estimate of all groups that have an estimator. It is that of the first group, and does
/// not change if the step of any of them forbids it.
fn conclude_jointly<T: Real>(
    groups: &mut [Group<T>],
    total: [f64; 2],
    policy: &dyn GroupPolicy,
    resumed: bool,
) {
    let Some(at) = groups.iter().position(|group| group.estimates) else { return };
    let Some((first, others)) = groups[at..].split_first_mut() else { return };
    for other in others.iter().filter(|group| group.estimates) {
        first.context.k = first.context.k.max(other.context.k);
        first.context.moves = first.context.moves.max(other.context.moves);
        first.context.informs_estimate |= other.context.informs_estimate;
    }
    first.conclude(total);
    for (other, index) in others.iter_mut().zip(at + 1..).filter(|(group, _)| group.estimates) {
        other.estimate = policy.adopt(&first.estimate, &other.state(index, resumed));
    }
}

/// The fault of this parameter's gradient, if it has one.
pub(crate) fn unusable<T: Real>(tensor: &Tensor<T>, parameter: &Parameter<'_>) -> Option<Error> {
    let limit = T::LARGEST_GRADIENT;
    let (index, value) = parameter.gradient.as_ref()?.as_slice().first_beyond(limit, false)?;
    let name = tensor.info.name.clone();
    Some(if value.is_finite() {
        Error::GradientTooLarge { name, index, value, limit, dtype: T::DTYPE }
    } else {
        Error::NonFiniteGradient { name, index, value: value.to_string() }
    })
}

/// A step whose gradients arrive one by one.
///
/// If it is dropped without [`end`](Self::end), the parameters passed so far have moved, but the step does
/// not count: the estimate of the step size and the average's weight do not change.
///
/// ```
/// use gradient_transform::{Descent, Error, Optimizer, Parameter, StepInProgress};
///
/// let mut optimizer = Optimizer::new(Descent::default(), [("w", &[1][..]), ("b", &[1][..])])?;
/// let (mut w, mut b) = ([1.0_f32], [1.0_f32]);
/// let mut step: StepInProgress<'_> = optimizer.begin_step()?;
/// step.parameter(1, Parameter::slice(&mut b, Some(&[0.5])))?;
/// let twice = step.parameter(1, Parameter::slice(&mut b, Some(&[0.5])));
/// assert_eq!(twice, Err(Error::GivenTwice { name: "b".into() }));
/// step.end(); // w had no gradient
/// assert_eq!((w, b, optimizer.steps(0)?), ([1.0], [0.5], 1));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[must_use = "call `end` when every gradient has arrived"]
pub struct StepInProgress<'o, T: Real = f32> {
    optimizer: &'o mut Optimizer<T>,
}

impl<T: Real> StepInProgress<'_, T> {
    /// Steps parameter `index`; its gradient can be freed afterwards. Parameters may come in any order.
    ///
    /// # Errors
    /// [`Error::NoSuch`], [`Error::GivenTwice`], and those of [`Optimizer::step`]; this parameter has not changed then.
    /// A non-finite gradient is an error here under [`NonFinite::Skip`] too, because other parameters may
    /// have moved already.
    pub fn parameter(&mut self, index: usize, mut parameter: Parameter<'_>) -> Result<()> {
        let recorded = self.optimizer.recorded();
        let Optimizer { groups, tensors, settings, pool, .. } = &mut *self.optimizer;
        let count = tensors.len();
        let tensor = tensors.get_mut(index).ok_or(Error::NoSuch { what: "parameter", index, count })?;
        if tensor.outcome.is_some() || tensor.progress.refused {
            return Err(Error::GivenTwice { name: tensor.info.name.clone() });
        }
        check(tensor, &parameter)?;
        let parallel = parameter.value.len() >= SERIAL_BELOW && rayon::current_num_threads() > 1;
        let jobs = TensorJobs { groups, settings, pool, parallel, of_mean: false, recorded };
        let (tensors, parameters) = (from_mut(tensor), from_mut(&mut parameter));
        if settings.non_finite == NonFinite::SkipTensor {
            jobs.all(tensors, parameters, &step_if_usable);
            return Ok(());
        }
        if settings.non_finite != NonFinite::Unchecked
            && !jobs.all(tensors, parameters, &examine)
            && let Some(error) = unusable(&tensors[0], &parameters[0])
        {
            return Err(error);
        }
        jobs.all(tensors, parameters, &step);
        Ok(())
    }

    /// Ends the step, and updates the estimate of the step size.
    pub fn end(self) {
        self.optimizer.end();
    }
}

/// Whether it is faster to split these tensors between two threads.
fn is_worth_splitting<T: Real>(tensors: &[Tensor<T>]) -> bool {
    /// Number of elements that take as long as the fixed work for a tensor.
    const OF_ONE: usize = 1 << 10;
    /// Number of elements that take a few times as long as passing them to another thread.
    const LEAST: usize = 1 << 15;
    // Many tensors are always enough, and are not counted repeatedly.
    let cost = || tensors.iter().map(|tensor| OF_ONE + tensor.info.len()).sum::<usize>();
    tensors.len() > 1 && (tensors.len() > LEAST / OF_ONE || cost() > LEAST)
}

/// Data shared by the jobs of a step, one job per tensor.
struct TensorJobs<'a, T: Real> {
    groups: &'a [Group<T>],
    settings: &'a Settings,
    pool: &'a ScratchPool<T>,
    parallel: bool,
    /// Whether the step uses the tensors' means of accumulated gradients.
    of_mean: bool,
    /// The coverage of the record, if the step is recorded.
    recorded: Option<Coverage>,
}

/// The step of one tensor that has a gradient; returns whether it succeeded.
type TensorJob<'j, T> = dyn Fn(&mut Tensor<T>, &Run<'_, T>, &mut Value<'_>, Slice<'_>) -> bool + Sync + 'j;

fn examine<T: Real>(
    tensor: &mut Tensor<T>,
    run: &Run<'_, T>,
    value: &mut Value<'_>,
    gradient: Slice<'_>,
) -> bool {
    tensor.examine(run, value.as_mut_slice(), gradient)
}

/// Checks the gradient, and ends the step for the tensor if the gradient is invalid.
fn refuse_unusable<T: Real>(
    tensor: &mut Tensor<T>,
    run: &Run<'_, T>,
    value: &mut Value<'_>,
    gradient: Slice<'_>,
) -> bool {
    tensor.progress.refused = !tensor.examine(run, value.as_mut_slice(), gradient);
    true
}

fn step_if_usable<T: Real>(
    tensor: &mut Tensor<T>,
    run: &Run<'_, T>,
    value: &mut Value<'_>,
    gradient: Slice<'_>,
) -> bool {
    refuse_unusable(tensor, run, value, gradient);
    tensor.progress.refused || step(tensor, run, value, gradient)
}

fn step<T: Real>(
    tensor: &mut Tensor<T>,
    run: &Run<'_, T>,
    value: &mut Value<'_>,
    gradient: Slice<'_>,
) -> bool {
    tensor.step(run, value.as_mut_slice(), gradient, None);
    value.write_back();
    true
}

impl<T: Real> TensorJobs<'_, T> {
    /// Runs `job` for all tensors that have a gradient; returns whether all succeeded.
    fn all(
        &self,
        tensors: &mut [Tensor<T>],
        parameters: &mut [Parameter<'_>],
        job: &TensorJob<'_, T>,
    ) -> bool {
        if self.parallel && is_worth_splitting(tensors) {
            let middle = tensors.len() / 2;
            let (tensors, right_tensors) = tensors.split_at_mut(middle);
            let (parameters, right_parameters) = parameters.split_at_mut(middle);
            let (left, right) = rayon::join(
                || self.all(tensors, parameters, job),
                || self.all(right_tensors, right_parameters, job),
            );
            return left && right;
        }
        let mut well = true;
        let mut rest = tensors.iter_mut().zip(parameters).peekable();
        // A group's tensors are consecutive. Its chain is flattened where it is needed: the links of all
        // groups would be a list that is too long for the processor's caches where there are many.
        while let Some((first, _)) = rest.peek() {
            let index = first.group;
            let group = &self.groups[index];
            let run = Run {
                stages: &stages(&*group.chain),
                step: &group.context,
                still: group.still,
                rounding: group.rounding,
                seed: self.settings.seed,
                pool: self.pool,
                parallel: self.parallel,
                recorded: self.recorded,
            };
            while let Some((tensor, Parameter { value, gradient })) =
                rest.next_if(|(tensor, _)| tensor.group == index)
            {
                let mean = tensor.accumulated.take_if(|_| self.of_mean);
                let given = mean.as_ref().map(Buffer::as_slice);
                let given = given.or(gradient.as_ref().map(|gradient| gradient.as_slice()));
                if let Some(gradient) = given.filter(|_| !tensor.progress.refused) {
                    well &= job(tensor, &run, value, gradient);
                }
                // More sweeps may go over it.
                tensor.accumulated = mean.or(tensor.accumulated.take());
            }
        }
        well
    }
}
