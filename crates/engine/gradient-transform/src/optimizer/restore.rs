//! Restoring from a snapshot.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use crate::engine::tensor::Tensor;
use crate::error::{Error, Result};
use crate::link::compose::{Stages, stages};
use crate::link::context::{Estimate, StepContext, TensorInfo};
use crate::link::state::{is_key, key};
use crate::memory::buffer::Buffer;
use crate::memory::element::{DType, Real};
use crate::optimizer::check::{check_shape, check_type};
use crate::optimizer::evaluation::{Averaging, Between};
use crate::optimizer::group::Group;
use crate::optimizer::hyperparameters::differences;
use crate::optimizer::origins::{Origins, Saved};
use crate::optimizer::parameter::Parameter;
use crate::optimizer::policy::SplitGroups;
use crate::optimizer::snapshot::{GroupSnapshot, Snapshot};
use crate::optimizer::{Optimizer, share_first_estimate};

/// Differences between a snapshot and the optimizer that was restored from it.
///
/// All lists are empty when an optimizer continues from its own snapshot, except for parameters that had no
/// gradient before it.
///
/// ```
/// use gradient_transform::{Descent, Optimizer, Restored};
///
/// let mut optimizer = Optimizer::new(Descent::default(), [("w", &[1][..])])?;
/// let saved = optimizer.snapshot();
/// let mut decayed = Optimizer::new(Descent::with_decay(0.1), [("w", &[1][..])])?;
/// let Restored { new_parameters, changed, missing, surplus, .. } = decayed.restore(saved)?;
/// assert_eq!(new_parameters, ["w"]); // no step yet, so the snapshot does not have it
/// assert_eq!(changed, ["group 0: Descent.weight_decay is 0.1, and 0.0 in the snapshot"]);
/// assert!(missing.is_empty() && surplus.is_empty());
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Parameters that the snapshot does not have: they start fresh.
    pub new_parameters: Vec<String>,
    /// State that this chain keeps and the snapshot lacks, or has for other elements than this chain samples, as
    /// `parameter/transform/array` or `group 0/transform/number`. This state starts fresh.
    pub missing: Vec<String>,
    /// State of transforms that are not in this chain, named in the same way. It is not used.
    pub surplus: Vec<String>,
    /// Hyperparameters that differ from the snapshot's, and transforms that only one of the two chains has.
    /// Those of this optimizer are used. The learning rate is not compared, because schedules change it.
    pub changed: Vec<String>,
    /// State that was converted, because this chain keeps it in another type: exactly to a wider type, and
    /// rounded to the nearest to a narrower one.
    pub converted: Vec<String>,
    /// With [`RestoreOptions::partly`]: parameters and groups of the snapshot that do not exist here. They
    /// are not used.
    pub left_out: Vec<String>,
    /// With [`RestoreOptions::partly`]: parameters that were in a group with other parameters. They keep
    /// their state, and continue with the d of their new group.
    pub regrouped: Vec<String>,
}

/// Options of [`Optimizer::restore_with`].
///
/// ```
/// use gradient_transform::{Descent, Optimizer, ParameterGroup, RestoreOptions, Settings};
///
/// let one = Optimizer::new(Descent::default(), [("w", &[1][..])])?;
/// let group = |name: &'static str| ParameterGroup::new(Descent::default(), [(name, &[1][..])]);
/// let mut two: Optimizer = Optimizer::with_groups([group("adapter"), group("w")], Settings::default())?;
/// assert!(two.restore(one.snapshot()).is_err());
/// let options = RestoreOptions { partly: true, ..RestoreOptions::default() };
/// let restored = two.restore_with(one.snapshot(), options)?;
/// assert_eq!(restored.new_parameters, ["adapter", "w"]); // neither has had a gradient
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct RestoreOptions<'p, 'v> {
    /// Restores what fits, although parameters or groups are missing on either side, or parameters are in other groups:
    /// [`Restored`] lists them. A group takes over the d of the group that most of its parameters were in. If
    /// that group had other parameters too, d stays and its sums start again, because they are sums over all
    /// its parameters.
    pub partly: bool,
    /// All parameters at their training point, as in a step: if the averaging differs from the snapshot's,
    /// they are moved so that x stays where it is. Needed only in that case, and not for a snapshot in
    /// evaluation mode, which contains y.
    pub parameters: Option<&'p mut [Parameter<'v>]>,
}

impl<T: Real> Optimizer<T> {
    /// Restores a snapshot of an optimizer with the same groups and parameters. Groups are matched by their
    /// parameters, in any order. Transforms that the snapshot does not have start fresh, state of transforms
    /// that are not in the chain is not used, and hyperparameters may differ. The result lists all of this.
    ///
    /// After a snapshot in evaluation mode, the optimizer is in evaluation mode, and [`train`](Self::train)
    /// moves the parameters to the y of the snapshot.
    ///
    /// ```
    /// use gradient_transform::{map, Descent, Optimizer, Parameter, Snapshot};
    /// let sign = || map!("sign", |u| u.sign());
    /// let mut first = Optimizer::new((sign(), Descent::default()), [("w", &[1][..])])?;
    /// first.step(&mut [Parameter::slice(&mut [1.0_f32], Some(&[3.0]))])?;
    /// let mut second = Optimizer::new(Descent::default(), [("w", &[1][..]), ("b", &[1][..])])?;
    /// let restored = second.restore(first.snapshot())?;
    /// assert_eq!(second.steps(0)?, 1);
    /// assert_eq!(restored.new_parameters, ["b"]);
    /// assert_eq!(restored.changed, ["group 0: Map(\"sign\") is in the snapshot only"]);
    /// assert!(restored.missing.is_empty() && restored.surplus.is_empty()); // neither has state
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::State`], with everything that does not fit: other groups, parameters that do not exist here,
    /// state of another shape, impossible counters or estimates. [`Error::ParametersMustMove`] where the averaging differs.
    /// [`Error::EvaluationMode`] while this optimizer is in evaluation mode. Nothing has changed then.
    pub fn restore(&mut self, snapshot: Snapshot) -> Result<Restored> {
        self.restore_with(snapshot, RestoreOptions::default())
    }

    /// As [`restore`](Self::restore), with [`RestoreOptions`].
    ///
    /// # Errors
    /// As [`restore`](Self::restore), except for the differences that the options allow; the shape errors of
    /// [`step`](Self::step) for parameters.
    pub fn restore_with(
        &mut self,
        mut snapshot: Snapshot,
        options: RestoreOptions<'_, '_>,
    ) -> Result<Restored> {
        if self.evaluating.is_some() {
            return Err(Error::EvaluationMode);
        }
        let RestoreOptions { partly, mut parameters } = options;
        self.drop_other_samples(&mut snapshot);
        let saved = Saved::new(snapshot, self);
        let origins = Origins::new(&saved, self);
        self.check_fit(&saved, &origins, partly)?;
        let changes = self.changes(&saved, &origins);
        self.check_parameters(&saved, &changes, parameters.as_deref())?;
        let mut restored = Restored { regrouped: origins.regrouped, ..Restored::default() };
        for index in origins.left_out {
            restored.left_out.push(format!("group {index}"));
        }
        let Saved { evaluating, groups, tensors: saved, strangers } = saved;
        for (index, group) in self.groups.iter_mut().enumerate() {
            match origins.of_groups[index] {
                Some(origin) => group.restore(index, &groups[origin], &mut restored),
                None => group.begin_anew(),
            }
        }
        let mut training = Vec::with_capacity(if evaluating { saved.len() } else { 0 });
        let mut forget = origins.partial;
        for (index, (tensor, saved)) in self.tensors.iter_mut().zip(saved).enumerate() {
            let Some(mut saved) = saved else {
                training.extend(evaluating.then(|| Buffer::zeros(DType::F32, 0)));
                restored.new_parameters.push(tensor.info.name.clone());
                tensor.restore(DType::F32, 0, BTreeMap::new(), BTreeSet::new());
                continue;
            };
            let group = &self.groups[tensor.group];
            let step = StepContext::new(group.k + 1, group.lr);
            (tensor.info.dtype, tensor.info.updates) = (saved.dtype, saved.updates);
            let chain = stages(&*group.chain);
            forget[tensor.group] |= restored.compare(&tensor.info, &saved.arrays, &chain, &step);
            if let Some((change, base)) = &changes[index]
                && let Some(base) = saved.arrays.get(base)
            {
                if let Some(y) = &mut saved.training {
                    change.apply::<T>(y.as_mut_slice(), base.as_slice());
                } else if !evaluating && let Some(parameters) = &mut parameters {
                    let value = &mut parameters[index].value;
                    change.apply::<T>(value.as_mut_slice(), base.as_slice());
                    value.write_back();
                }
            }
            tensor.restore(saved.dtype, saved.updates, saved.arrays, saved.fresh);
            training
                .extend(evaluating.then(|| saved.training.unwrap_or_else(|| Buffer::zeros(saved.dtype, 0))));
        }
        if self.settings.split_groups == SplitGroups::Joint {
            // The sums are of all groups together.
            let any = !strangers.is_empty() || forget.contains(&true);
            forget.fill(any);
            share_restored_estimate(&mut self.groups, &origins.of_groups);
        }
        restored.left_out.extend(strangers);
        for (group, _) in self.groups.iter_mut().zip(forget).filter(|(_, forget)| *forget) {
            group.estimate.forget_sums();
        }
        self.evaluating = evaluating.then_some(training);
        self.drop_accumulated();
        self.drop_arrays();
        self.resumed = true;
        Ok(restored)
    }

    /// For every parameter, the move of y by which x stays, with the base iterate's key.
    fn changes(&self, saved: &Saved, origins: &Origins) -> Vec<Option<(Between, String)>> {
        let later: Vec<Option<Averaging>> =
            self.groups.iter().map(|group| Averaging::of(&stages(&*group.chain))).collect();
        let change = |(index, tensor): (usize, &Tensor<T>)| {
            let earlier = saved.groups[origins.of_tensors[index]?].averaging.as_ref()?;
            saved.tensors[index].as_ref()?.arrays.get(&earlier.base)?;
            Some((earlier.change(later[tensor.group].as_ref())?, earlier.base.clone()))
        };
        self.tensors.iter().enumerate().map(change).collect()
    }

    /// Checks that the parameters that have to move were passed.
    fn check_parameters(
        &self,
        saved: &Saved,
        changes: &[Option<(Between, String)>],
        parameters: Option<&[Parameter<'_>]>,
    ) -> Result<()> {
        let Some(parameters) = parameters else {
            let mut moves = self.tensors.iter().zip(changes).filter_map(|(t, c)| Some((t, c.as_ref()?)));
            return match moves.next() {
                Some((tensor, (change, _))) if !saved.evaluating => {
                    let name = tensor.info.name.clone();
                    Err(Error::ParametersMustMove { name, from: change.from, to: change.to })
                }
                _ => Ok(()),
            };
        };
        self.check_count(parameters.len())?;
        for ((tensor, Parameter { value, .. }), saved) in
            self.tensors.iter().zip(parameters).zip(&saved.tensors)
        {
            check_shape(tensor, "value", value.shape.as_ref(), value.len())?;
            let (name, found) = (&tensor.info.name, value.dtype());
            check_type::<T>(name, found)?;
            if let Some(saved) = saved.as_ref().filter(|saved| saved.dtype != found) {
                let name = name.clone();
                let reason = format!("it was {} in the snapshot; its state is of that type", saved.dtype);
                return Err(Error::ElementType { name, found, reason });
            }
        }
        Ok(())
    }
}

/// With a joint estimate, groups that the snapshot does not have take over that of the others.
fn share_restored_estimate<T: Real>(groups: &mut [Group<T>], origins: &[Option<usize>]) {
    let restored = |(group, origin): (&Group<T>, &Option<usize>)| {
        (origin.is_some() && group.estimates).then_some(group.estimate)
    };
    let Some(shared) = groups.iter().zip(origins).find_map(restored) else {
        return share_first_estimate(groups);
    };
    for (group, origin) in groups.iter_mut().zip(origins) {
        if origin.is_none() && group.estimates {
            group.share_estimate(&shared);
        }
    }
}

impl<T: Real> Group<T> {
    fn restore(&mut self, index: usize, saved: &GroupSnapshot, restored: &mut Restored) {
        self.begin_anew();
        self.k = saved.k;
        self.still_steps = saved.still_steps;
        self.seen = saved.seen;
        let estimator = self.estimates;
        match saved.estimate {
            Some(estimate) if estimator => {
                self.share_estimate(&estimate);
            }
            Some(_) => restored.surplus.push(format!("group {index}/estimate")),
            None if estimator => restored.missing.push(format!("group {index}/estimate")),
            None => {}
        }
        if !saved.transforms.is_empty() {
            let changed = differences(&saved.transforms, &self.transforms());
            restored.changed.extend(changed.into_iter().map(|what| format!("group {index}: {what}")));
        }
        let names: BTreeSet<String> = self.scalar_names().into_iter().collect();
        let saved_names: BTreeSet<String> = saved.scalars.keys().cloned().collect();
        let named = |name: &String| format!("group {index}/{name}");
        restored.missing.extend(names.difference(&saved_names).map(named));
        restored.surplus.extend(saved_names.difference(&names).map(named));
        self.set_scalars(&saved.scalars);
    }

    /// Resets everything to the state before the first step.
    fn begin_anew(&mut self) {
        (self.k, self.still_steps) = (0, 0);
        self.seen = false;
        self.scalars.fill(0.0);
        let initial = stages(&*self.chain).iter().find_map(|t| t.estimator().map(|e| e.initial()));
        self.estimate = initial.unwrap_or(Estimate::FIXED);
    }
}

impl Restored {
    /// Adds one parameter's differences: arrays that the chain keeps from `step` on and the state lacks,
    /// arrays that the chain does not keep, and arrays of another type. Returns whether an array of the
    /// estimator is missing.
    fn compare<T: Real>(
        &mut self,
        tensor: &TensorInfo,
        arrays: &BTreeMap<String, Buffer>,
        chain: &Stages<'_, T>,
        step: &StepContext,
    ) -> bool {
        let mut missing = Vec::new();
        let mut of_estimator = false;
        // State of a retired transform may still exist until the next step frees it.
        let mut known: SmallVec<[&str; 8]> = SmallVec::new();
        for transform in chain {
            let spec = transform.state(tensor);
            let columns = spec.columns.iter().filter(|column| column.kept).map(|c| (c.name, c.storage));
            for (array, storage) in columns.chain(spec.vectors.iter().map(|v| (v.name, v.storage))) {
                let dtype = storage.dtype::<T>(tensor.dtype);
                match arrays.iter().find(|(key, _)| is_key(key, transform.name(), array)) {
                    Some((key, had)) => {
                        if had.dtype() != dtype {
                            let what = format!("{}/{key}: {} to {dtype}", tensor.name, had.dtype());
                            self.converted.push(what);
                        }
                        known.push(key);
                    }
                    None if transform.is_idle(step, tensor) => {}
                    None => {
                        of_estimator |= transform.estimator().is_some();
                        missing.push(key(transform.name(), array));
                    }
                }
            }
        }
        missing.sort_unstable();
        missing.dedup();
        self.missing.extend(missing.into_iter().map(|key| format!("{}/{key}", tensor.name)));
        let surplus = arrays.keys().filter(|key| !known.contains(&key.as_str()));
        self.surplus.extend(surplus.map(|key| format!("{}/{key}", tensor.name)));
        of_estimator
    }
}
