//! The optimizer: groups of parameters, each stepped by a chain.

mod accumulation;
mod arrays;
pub(crate) mod check;
pub(crate) mod evaluating;
pub(crate) mod evaluation;
mod explain;
mod fit;
pub(crate) mod group;
mod hyperparameters;
mod names;
mod origins;
pub(crate) mod parameter;
pub(crate) mod policy;
pub(crate) mod record;
pub(crate) mod recorder;
pub(crate) mod restore;
mod samples;
pub(crate) mod shape;
pub(crate) mod shared_sums;
pub(crate) mod snapshot;
pub(crate) mod step;

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use crate::engine::sweep::ScratchPool;
use crate::engine::tensor::Tensor;
use crate::error::{Error, Result};
use crate::link::Link;
use crate::link::context::{Estimate, StepContext};
use crate::link::published::Publications;
use crate::memory::buffer::Buffer;
use crate::memory::element::Real;
use crate::optimizer::check::check_size;
use crate::optimizer::group::{Group, ParameterGroup, Settings, check_lr, describe};
use crate::optimizer::names::Names;
use crate::optimizer::policy::{GroupPolicy, GroupState, SplitGroups};
use crate::optimizer::recorder::Recorder;
use crate::optimizer::shape::IntoShape;

/// Optimizer: chains of transforms, with state, for named parameters.
///
/// `T` is the type of the computation: `f32` (for float32 and bfloat16 parameters) or `f64`.
///
/// ```
/// use gradient_transform::{Descent, Optimizer, Parameter};
/// let mut optimizer = Optimizer::new(Descent::default(), [("w", &[2, 2][..]), ("b", &[2][..])])?;
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
    /// In the order of the groups.
    pub(crate) tensors: Vec<Tensor<T>>,
    pub(crate) names: Names,
    pub(crate) settings: Settings,
    pub(crate) policy: Box<dyn GroupPolicy>,
    /// The training point y of every parameter, while the parameters are at x.
    pub(crate) evaluating: Option<Vec<Buffer>>,
    pub(crate) skipped: u64,
    /// Number of accumulated gradients since the latest step.
    pub(crate) accumulated: u64,
    /// Values of the caller for the current step, in addition to the parameters.
    pub(crate) given: Publications,
    /// Whether a tensor has an array of the caller for the next step.
    pub(crate) has_arrays: bool,
    pub(crate) skipped_tensors: u64,
    /// Whether state was loaded and no step has been done since.
    pub(crate) resumed: bool,
    /// The transforms with sums over several tensors, in the order in which the sums are completed.
    pub(crate) shared_sums: Vec<String>,
    pub(crate) pool: ScratchPool<T>,
    pub(crate) recorder: Option<Recorder>,
    /// At the beginning of a step, for the groups with an estimator: the policy's view of them, and the d
    /// that they step with. Kept to reuse the memory.
    pub(crate) states: Vec<GroupState>,
    pub(crate) shared_d: Vec<f64>,
}

impl Optimizer<f32> {
    /// An optimizer with one group at learning rate 1 and the default [`Settings`], which computes in
    /// float32. Parameters are (name, shape), in the order in which every step passes them; in memory they
    /// are float32 or bfloat16.
    ///
    /// # Errors
    /// [`Error::InvalidChain`], [`Error::Excluded`] or [`Error::OptionOutOfRange`] for a chain that cannot run;
    /// [`Error::DuplicateName`]; [`Error::ShapeTooLarge`].
    pub fn new<N: Into<String>>(
        chain: impl Link<f32> + 'static,
        parameters: impl IntoIterator<Item = (N, impl IntoShape)>,
    ) -> Result<Self> {
        Self::new_in(chain, parameters)
    }
}

impl<T: Real> Optimizer<T> {
    /// As [`new`](Optimizer::new), for a type that is named or inferred.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, Parameter};
    ///
    /// let mut optimizer = Optimizer::<f64>::new_in(Descent::default(), [("w", [2])])?;
    /// let mut w = [1.0_f64, 2.0];
    /// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.5, 0.25]))])?;
    /// assert_eq!(w, [0.5, 1.75]);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`new`](Optimizer::new).
    pub fn new_in<N: Into<String>>(
        chain: impl Link<T> + 'static,
        parameters: impl IntoIterator<Item = (N, impl IntoShape)>,
    ) -> Result<Self> {
        Self::with_groups([ParameterGroup::new(chain, parameters)], Settings::default())
    }

    /// An optimizer with several groups. The order of the parameters is that of the groups.
    ///
    /// ```
    /// use gradient_transform::{
    ///     Descent, NonFinite, Optimizer, ParameterGroup, Rounding, Settings, SplitGroups, TrainingPoint,
    /// };
    ///
    /// let matrices = ParameterGroup::new(Descent::with_decay(0.01), [("w", &[8, 4][..])]);
    /// let biases = ParameterGroup::new(Descent::default(), [("b", &[4][..])]).lr(0.5).rounding(Rounding::Nearest);
    /// let settings = Settings {
    ///     split_groups: SplitGroups::Each,
    ///     non_finite: NonFinite::Skip,
    ///     seed: 7,
    ///     training_point: TrainingPoint::Kept,
    /// };
    /// let optimizer: Optimizer = Optimizer::with_groups([matrices, biases], settings)?;
    /// assert_eq!((optimizer.lr(0)?, optimizer.lr(1)?), (1.0, 0.5));
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::Excluded`] for different estimators under [`SplitGroups::Joint`], and for transforms with
    /// [sums over several tensors](crate::SumsOver) that stand in different orders.
    pub fn with_groups(
        groups: impl IntoIterator<Item = ParameterGroup<T>>,
        settings: Settings,
    ) -> Result<Self> {
        let mut optimizer = Self {
            groups: Vec::new(),
            tensors: Vec::new(),
            names: Names::default(),
            settings,
            policy: Box::new(()),
            evaluating: None,
            skipped: 0,
            accumulated: 0,
            has_arrays: false,
            given: Publications::default(),
            skipped_tensors: 0,
            resumed: false,
            shared_sums: Vec::new(),
            pool: ScratchPool::default(),
            recorder: None,
            states: Vec::new(),
            shared_d: Vec::new(),
        };
        groups.into_iter().try_for_each(|group| optimizer.add_group(group))?;
        Ok(optimizer)
    }

    /// Adds a group; its parameters come after the existing ones.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, ParameterGroup};
    ///
    /// let mut optimizer = Optimizer::new(Descent::default(), [("w", &[8, 4][..])])?;
    /// optimizer.add_group(ParameterGroup::new(Descent::default(), [("adapter", &[8, 2][..])]).lr(0.1))?;
    /// assert!(optimizer.names().eq(["w", "adapter"]));
    /// assert!(optimizer.add_group(ParameterGroup::new(Descent::default(), [("w", &[1][..])])).is_err()); // the name exists already
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`with_groups`](Self::with_groups); [`Error::EvaluationMode`] between `eval` and `train`.
    pub fn add_group(&mut self, group: ParameterGroup<T>) -> Result<()> {
        if self.evaluating.is_some() {
            return Err(Error::EvaluationMode);
        }
        let mut new = HashSet::with_capacity(group.parameters.len());
        for (name, shape) in &group.parameters {
            if !new.insert(name.as_str()) || self.names.find(&self.tensors, name).is_some() {
                return Err(Error::DuplicateName { name: name.clone() });
            }
            check_size(name, shape)?;
        }
        let mut made = Group::new(group.chain, group.lr, group.rounding)?;
        if self.settings.split_groups == SplitGroups::Joint {
            // All groups before it have the same one.
            let first = self.groups.iter().find(|group| group.estimates);
            check_one_estimator(first.into_iter().chain([&made]))?;
            if let Some(first) = first.filter(|_| made.estimates) {
                made.share_estimate(&first.estimate);
            }
        }
        self.shared_sums = shared_sums::order(self.groups.iter().chain([&made]))?;
        let (index, first) = (self.groups.len(), self.tensors.len());
        self.groups.push(made);
        self.tensors
            .extend(group.parameters.into_iter().map(|(name, shape)| Tensor::new(name, shape, index)));
        self.names.extend(&self.tensors, first);
        Ok(())
    }

    /// Sets a custom policy of how the groups act together, from the next step on; `()` removes it.
    ///
    /// ```
    /// use gradient_transform::{Counts, Descent, GroupPolicy, GroupState, Optimizer, Parameter};
    ///
    /// /// Every call of `step` is a step of every group, with or without gradients.
    /// #[derive(Debug)]
    /// struct InStep;
    ///
    /// impl GroupPolicy for InStep {
    ///     fn counts(&self, group: &GroupState) -> Counts {
    ///         Counts { step: true, ..group.counts() }
    ///     }
    /// }
    ///
    /// let mut optimizer = Optimizer::new(Descent::default(), [("w", [1])])?;
    /// let mut w = [1.0_f32];
    /// optimizer.step(&mut [Parameter::slice(&mut w, None)])?;
    /// assert_eq!(optimizer.steps(0)?, 0);
    /// optimizer.set_policy(InStep);
    /// optimizer.step(&mut [Parameter::slice(&mut w, None)])?;
    /// assert_eq!(optimizer.steps(0)?, 1);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn set_policy(&mut self, policy: impl GroupPolicy + 'static) {
        self.policy = Box::new(policy);
    }

    /// The tensors of a group, which are consecutive.
    pub(crate) fn tensors_of(&self, group: usize) -> &[Tensor<T>] {
        &self.tensors[range_of(&self.tensors, group)]
    }

    pub(crate) fn group(&self, index: usize) -> Result<&Group<T>> {
        let count = self.groups.len();
        self.groups.get(index).ok_or(Error::NoSuch { what: "group", index, count })
    }

    /// Sets a group's learning rate: at least 0 and at most 2^32.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer};
    ///
    /// let mut optimizer = Optimizer::new(Descent::default(), [("w", &[1][..])])?;
    /// optimizer.set_lr(0, 0.01)?;
    /// assert_eq!(optimizer.lr(0)?, 0.01);
    /// assert!(optimizer.set_lr(0, f64::NAN).is_err() && optimizer.set_lr(1, 0.01).is_err());
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuch`] or [`Error::OptionOutOfRange`].
    pub fn set_lr(&mut self, group: usize, lr: f64) -> Result<()> {
        self.group(group)?;
        check_lr(lr)?;
        self.groups[group].lr = lr;
        Ok(())
    }

    /// Sets the learning rate of all groups. If the rate is out of range, none changes.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, ParameterGroup, Settings};
    ///
    /// let group = |name| ParameterGroup::<f32>::new(Descent::default(), [(name, [1])]);
    /// let mut optimizer = Optimizer::with_groups([group("w"), group("b")], Settings::default())?;
    /// optimizer.set_lr_everywhere(0.01)?;
    /// assert_eq!((optimizer.groups(), optimizer.lr(0)?, optimizer.lr(1)?), (2, 0.01, 0.01));
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OptionOutOfRange`].
    pub fn set_lr_everywhere(&mut self, lr: f64) -> Result<()> {
        check_lr(lr)?;
        self.groups.iter_mut().for_each(|group| group.lr = lr);
        Ok(())
    }

    /// Number of parameter groups.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// A group's learning rate.
    ///
    /// # Errors
    /// [`Error::NoSuch`].
    pub fn lr(&self, group: usize) -> Result<f64> {
        Ok(self.group(group)?.lr)
    }

    /// A group's estimate of the step size; without an estimator, d stays at 1.
    ///
    /// ```
    /// use gradient_transform::{Descent, Estimate, Optimizer};
    ///
    /// let optimizer = Optimizer::new(Descent::default(), [("w", &[1][..])])?;
    /// assert_eq!(optimizer.estimate(0)?, Estimate::FIXED); // no estimator in this chain
    /// assert_eq!(Estimate::FIXED, Estimate::new(1.0));
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuch`].
    pub fn estimate(&self, group: usize) -> Result<Estimate> {
        Ok(self.group(group)?.estimate)
    }

    /// Numbers shared by the tensors of a group in the latest step: step size, averaging weight and so on.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, Parameter};
    ///
    /// let mut optimizer = Optimizer::new(Descent::default(), [("w", &[1][..])])?;
    /// optimizer.set_lr(0, 0.5)?;
    /// optimizer.step(&mut [Parameter::slice(&mut [1.0_f32], Some(&[1.0]))])?;
    /// let step = optimizer.latest_step(0)?;
    /// assert_eq!((step.k, step.lr, step.step_size), (1, 0.5, 0.5));
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuch`].
    pub fn latest_step(&self, group: usize) -> Result<&StepContext> {
        Ok(&self.group(group)?.context)
    }

    /// The names of a group's transforms in order, for a tensor of the given shape; `‖` marks those after
    /// which another sweep begins.
    ///
    /// # Errors
    /// [`Error::NoSuch`].
    pub fn describe_chain(&self, group: usize, shape: &[usize]) -> Result<String> {
        Ok(describe(&*self.group(group)?.chain, shape))
    }

    /// A group's transforms in order with their hyperparameters, in their `Debug` form.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer};
    ///
    /// let optimizer = Optimizer::new(Descent::with_decay(0.1), [("w", &[1][..])])?;
    /// assert_eq!(optimizer.transforms(0)?, ["Descent { weight_decay: 0.1, weight_decay_by_lr: true, decays_first: false }"]);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuch`].
    pub fn transforms(&self, group: usize) -> Result<Vec<String>> {
        Ok(self.group(group)?.transforms())
    }

    /// Steps skipped because of a non-finite gradient, or by the rule of [`step_if`](Self::step_if).
    ///
    /// ```
    /// use gradient_transform::{Descent, NonFinite, Optimizer, Parameter, ParameterGroup, Settings, StepOutcome};
    ///
    /// let group = ParameterGroup::new(Descent::default(), [("w", &[1][..])]);
    /// let settings = Settings { non_finite: NonFinite::Skip, ..Settings::default() };
    /// let mut optimizer: Optimizer = Optimizer::with_groups([group], settings)?;
    /// let mut w = [1.0_f32];
    /// let outcome = optimizer.step(&mut [Parameter::slice(&mut w, Some(&[f32::INFINITY]))])?;
    /// assert_eq!((outcome, w), (StepOutcome::Skipped, [1.0]));
    /// let outcome = optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.5]))])?;
    /// assert_eq!((outcome, w), (StepOutcome::Done, [0.5]));
    /// assert_eq!((optimizer.skipped_steps(), optimizer.steps(0)?), (1, 1));
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn skipped_steps(&self) -> u64 {
        self.skipped
    }

    /// Gradients left out of their step because they were not finite.
    ///
    /// ```
    /// use gradient_transform::{Descent, NonFinite, Optimizer, Parameter, ParameterGroup, Settings, StepOutcome};
    ///
    /// let group = ParameterGroup::new(Descent::default(), [("w", &[1][..]), ("b", &[1][..])]);
    /// let settings = Settings { non_finite: NonFinite::SkipTensor, ..Settings::default() };
    /// let mut optimizer: Optimizer = Optimizer::with_groups([group], settings)?;
    /// let (mut w, mut b) = ([1.0_f32], [1.0_f32]);
    /// let parameters = &mut [Parameter::slice(&mut w, Some(&[f32::NAN])), Parameter::slice(&mut b, Some(&[0.5]))];
    /// assert_eq!(optimizer.step(parameters)?, StepOutcome::Done);
    /// assert_eq!((w, b, optimizer.skipped_tensors()), ([1.0], [0.5], 1));
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn skipped_tensors(&self) -> u64 {
        self.skipped_tensors
    }

    /// Steps done by a group.
    ///
    /// # Errors
    /// [`Error::NoSuch`].
    pub fn steps(&self, group: usize) -> Result<u64> {
        Ok(self.group(group)?.k)
    }

    /// Names of the parameters, in the order of a step.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|t| t.info.name.as_str())
    }

    /// Bytes of state kept between steps, all parameters together.
    pub fn state_bytes(&self) -> usize {
        self.tensors.iter().map(Tensor::bytes).sum()
    }

    /// Bytes of working memory that is kept from step to step in addition to the state: sums over axes and
    /// arrays computed from them, which grow with the axes and not with their product, and tiles and partial
    /// sums of the threads.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, Parameter, TILE};
    ///
    /// let n = 100 * TILE;
    /// let mut optimizer = Optimizer::new(Descent::default(), [("w", &[n][..])])?;
    /// optimizer.step(&mut [Parameter::slice(&mut vec![0.0_f32; n], Some(&vec![1.0; n]))])?;
    /// assert!((1..8 * 4 * TILE).contains(&optimizer.workspace_bytes())); // a few tiles of float32
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn workspace_bytes(&self) -> usize {
        self.tensors.iter().map(Tensor::workspace).sum::<usize>() + self.pool.bytes()
    }

    /// The bytes that one step moves between memory and processor according to the plan, and the largest
    /// number of sweeps over a tensor. Parameters that have not had a gradient yet are not counted.
    ///
    /// The check for gradients that are not finite is not part of the plan. It moves nothing if the first
    /// sweep stores nothing, because that sweep includes the check; otherwise it reads the gradient again.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, Parameter, rescale};
    ///
    /// let n = 1000;
    /// let unit = rescale!("unit-norm", |u| u * u, |sum, _n| 1.0 / sum.sqrt());
    /// let mut optimizer = Optimizer::new((unit, Descent::default()), [("w", &[n][..])])?;
    /// optimizer.step(&mut [Parameter::slice(&mut vec![0.0_f32; n], Some(&vec![1.0; n]))])?;
    /// // One sweep reads the gradient for the norm; the other reads gradient and parameter, and writes the parameter.
    /// assert_eq!(optimizer.planned_traffic(), (4 * n as u64 * (1 + 3), 2));
    /// assert_eq!(optimizer.state_bytes(), 0);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn planned_traffic(&self) -> (u64, usize) {
        self.tensors
            .iter()
            .filter_map(Tensor::traffic)
            .fold((0, 0), |(bytes, sweeps), (b, s)| (bytes + b, sweeps.max(s)))
    }
}

impl<T: Real> fmt::Debug for Optimizer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for (index, group) in self.groups.iter().enumerate() {
            let names: Vec<&str> = self.tensors_of(index).iter().map(|t| t.info.name.as_str()).collect();
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

/// Range of a group's tensors.
pub(crate) fn range_of<T>(tensors: &[Tensor<T>], group: usize) -> Range<usize> {
    let from = tensors.partition_point(|tensor| tensor.group < group);
    let count = tensors[from..].partition_point(|tensor| tensor.group == group);
    from..from + count
}

/// Rejects groups whose sums cannot be added to one estimate: the meaning of a sum depends on the kind of
/// estimator.
pub(crate) fn check_one_estimator<'g, T: Real>(groups: impl IntoIterator<Item = &'g Group<T>>) -> Result<()> {
    let mut names = groups.into_iter().filter_map(Group::estimator_name);
    let Some(first) = names.next() else { return Ok(()) };
    match names.find(|name| *name != first) {
        Some(second) => {
            let reason = "a joint estimate adds the sums of all groups, and different estimators have different sums; use the same estimator in all groups, or one estimate per group (`SplitGroups::Mean` or `Each`)";
            Err(Error::Excluded { first, second, reason })
        }
        None => Ok(()),
    }
}

/// With a joint estimate, all groups that have an estimator step with the first one's d.
pub(crate) fn share_first_estimate<T: Real>(groups: &mut [Group<T>]) {
    let mut estimating = groups.iter_mut().filter(|group| group.estimates);
    if let Some(first) = estimating.next() {
        estimating.for_each(|group| group.share_estimate(&first.estimate));
    }
}
