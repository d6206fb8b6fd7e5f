//! Going on from a snapshot.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::buffer::Buffer;
use crate::check::{check_shape, check_type};
use crate::compose::{Stages, stages};
use crate::context::{Estimate, StepContext, TensorInfo};
use crate::element::{DType, Real};
use crate::error::{Error, Result};
use crate::evaluation::{Averaging, Between};
use crate::group::{Group, SplitGroups};
use crate::hyperparameters::differences;
use crate::optimizer::{Optimizer, share_first_estimate};
use crate::parameter::Parameter;
use crate::snapshot::{GroupSnapshot, Snapshot, TensorSnapshot};
use crate::state::Storage;
use crate::tensor::Tensor;

/// What a snapshot and the optimizer that was restored from it did not have in common.
///
/// All lists are empty when an optimizer goes on from its own snapshot, but for parameters that had no gradient before it.
///
/// ```
/// use gradient_transform::{Descent, Optimizer, Restored};
///
/// let mut optimizer: Optimizer = Optimizer::new(Descent::default(), [("w", &[1][..])])?;
/// let saved = optimizer.snapshot();
/// let mut decayed: Optimizer = Optimizer::new(Descent { weight_decay: 0.1 }, [("w", &[1][..])])?;
/// let Restored { new_parameters, changed, missing, surplus, .. } = decayed.restore(saved)?;
/// assert_eq!(new_parameters, ["w"]); // no step yet, so there is nothing of it in the snapshot
/// assert_eq!(changed, ["group 0: Descent.weight_decay is 0.1, and 0.0 in the snapshot"]);
/// assert!(missing.is_empty() && surplus.is_empty());
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Parameters of which there is nothing in the snapshot: they begin as new ones.
    pub new_parameters: Vec<String>,
    /// State that this chain keeps and the snapshot lacks, or has of other elements than this chain samples, as
    /// `parameter/transform/array` or `group 0/transform/number`. It begins anew.
    pub missing: Vec<String>,
    /// State of transforms that are not in this chain, named in the same way. It was left out.
    pub surplus: Vec<String>,
    /// Hyperparameters that are not those of the snapshot, and transforms that are in one of the two chains only. This
    /// optimizer's are used. The learning rate is not compared, as schedules move it.
    pub changed: Vec<String>,
    /// State that this chain keeps in another type of number, which it was converted to: exactly to a wider one, and rounded to the
    /// nearest to a narrower one.
    pub converted: Vec<String>,
    /// With [`RestoreOptions::partly`]: parameters and groups of the snapshot that do not exist here. They were left out.
    pub left_out: Vec<String>,
    /// With [`RestoreOptions::partly`]: parameters that were in another group, by those that they were together with. They keep
    /// their state, and go on with the d of the group they are in.
    pub regrouped: Vec<String>,
}

/// How a snapshot is taken up by [`Optimizer::restore_with`].
///
/// ```
/// use gradient_transform::{Descent, Optimizer, ParameterGroup, RestoreOptions, Settings};
///
/// let one: Optimizer = Optimizer::new(Descent::default(), [("w", &[1][..])])?;
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
    /// Take what there is, although parameters or groups are missing on either side, or parameters are in other groups:
    /// [`Restored`] lists them. A group takes over the d of the one that most of its parameters were in. Where that one had
    /// others too, d stays and the sums behind it begin anew, as they are of all its parameters together.
    pub partly: bool,
    /// The parameters at their training point, all of them, as in a step: they are moved where this optimizer averages in another way
    /// than the snapshot's, so that x stays where it is. Needed in that case alone, and not for a snapshot in evaluation
    /// mode, which has y itself.
    pub parameters: Option<&'p mut [Parameter<'v>]>,
}

/// The largest counter that is taken: up to here, every whole number is one in float64 too.
const MOST_STEPS: u64 = 1 << 53;

impl<T: Real> Optimizer<T> {
    /// Goes on from a snapshot of an optimizer with the same groups and parameters. Groups are found by their parameters, in
    /// whatever order they are. Transforms that the snapshot does not know begin anew; state of transforms that are
    /// not in the chain is left out; hyperparameters can be others. All of this is listed.
    ///
    /// After a snapshot in evaluation mode, the optimizer is in evaluation mode, and [`train`](Self::train) puts the parameters
    /// to the y of back then.
    ///
    /// ```
    /// use gradient_transform::{map, Descent, Optimizer, Parameter, Snapshot};
    /// let sign = || map("sign", |_step, u: f32, _g, _y| u.signum());
    /// let mut first = Optimizer::new((sign(), Descent::default()), [("w", &[1][..])])?;
    /// first.step(&mut [Parameter::slice(&mut [1.0_f32], Some(&[3.0]))])?;
    /// let mut second: Optimizer = Optimizer::new(Descent::default(), [("w", &[1][..]), ("b", &[1][..])])?;
    /// let restored = second.restore(first.snapshot())?;
    /// assert_eq!(second.steps(0)?, 1);
    /// assert_eq!(restored.new_parameters, ["b"]);
    /// assert_eq!(restored.changed, ["group 0: Map(\"sign\") is in the snapshot only"]);
    /// assert!(restored.missing.is_empty() && restored.surplus.is_empty()); // neither keeps anything
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::State`], with everything that does not fit: other groups, parameters that do not exist here,
    /// state of another shape, impossible counters or estimates. [`Error::ParametersMustMove`] where the averaging is another one.
    /// [`Error::EvaluationMode`] while this optimizer is in evaluation mode. Nothing has changed then.
    pub fn restore(&mut self, snapshot: Snapshot) -> Result<Restored> {
        self.restore_with(snapshot, RestoreOptions::default())
    }

    /// As [`restore`](Self::restore), with [`RestoreOptions`].
    ///
    /// # Errors
    /// As [`restore`](Self::restore), but for what the options allow; the shape errors of [`step`](Self::step) for parameters.
    pub fn restore_with(
        &mut self,
        mut snapshot: Snapshot,
        options: RestoreOptions<'_, '_>,
    ) -> Result<Restored> {
        if self.evaluating.is_some() {
            return Err(Error::EvaluationMode);
        }
        let RestoreOptions { partly, mut parameters } = options;
        let origins = self.origins(&snapshot);
        self.drop_other_samples(&mut snapshot);
        self.check_fit(&snapshot, &origins, partly)?;
        let changes = self.changes(&snapshot, &origins);
        self.check_parameters(&snapshot, &changes, parameters.as_deref())?;
        let mut restored = Restored { regrouped: origins.regrouped, ..Restored::default() };
        for index in origins.left_out {
            restored.left_out.push(format!("group {index}"));
        }
        for (index, group) in self.groups.iter_mut().enumerate() {
            match origins.of_groups[index] {
                Some(origin) => group.restore(index, &snapshot.groups[origin], &mut restored),
                None => group.begin_anew(),
            }
        }
        let Snapshot { evaluating, tensors: mut saved, .. } = snapshot;
        let mut training = Vec::new();
        let mut forget = origins.partial;
        for (index, tensor) in self.tensors.iter_mut().enumerate() {
            let group = &self.groups[tensor.group];
            match saved.remove(&tensor.info.name) {
                Some(mut s) => {
                    let info = TensorInfo { dtype: s.dtype, updates: s.updates, ..tensor.info.clone() };
                    let step = StepContext::new(group.k + 1, group.lr);
                    forget[tensor.group] |= restored.compare(&info, &s.arrays, &stages(&*group.chain), &step);
                    if let Some((change, base)) = &changes[index]
                        && let Some(base) = s.arrays.get(base)
                    {
                        if let Some(y) = &mut s.training {
                            change.apply::<T>(y.as_mut_slice(), base.as_slice());
                        } else if !evaluating && let Some(parameters) = &mut parameters {
                            let value = &mut parameters[index].value;
                            change.apply::<T>(value.as_mut_slice(), base.as_slice());
                            value.write_back();
                        }
                    }
                    tensor.restore(s.dtype, s.updates, s.arrays, s.fresh);
                    training.push(s.training.unwrap_or_else(|| Buffer::zeros(s.dtype, 0)));
                }
                None => {
                    training.push(Buffer::zeros(DType::F32, 0));
                    restored.new_parameters.push(tensor.info.name.clone());
                    tensor.restore(DType::F32, 0, BTreeMap::new(), BTreeSet::new());
                }
            }
        }
        if self.settings.split_groups == SplitGroups::Joint {
            // The sums are of all groups together.
            let any = !saved.is_empty() || forget.contains(&true);
            forget.fill(any);
            share_restored_estimate(&mut self.groups, &origins.of_groups);
        }
        restored.left_out.extend(saved.into_keys());
        for (group, _) in self.groups.iter_mut().zip(forget).filter(|(_, forget)| *forget) {
            group.estimate.forget_sums();
        }
        self.evaluating = evaluating.then_some(training);
        self.resumed = true;
        Ok(restored)
    }

    /// Finds the group of the snapshot that each group goes on from: the one that most of its parameters were in.
    fn origins(&self, snapshot: &Snapshot) -> Origins {
        let (here, there) = (self.groups.len(), snapshot.groups.len());
        let mut origins =
            Origins { of_groups: vec![None; here], partial: vec![false; here], ..Origins::default() };
        if snapshot.groups.iter().all(|group| group.parameters.is_empty()) {
            // Of a time before names were kept, or without any.
            origins.of_groups = (0..here).map(|index| (index < there).then_some(index)).collect();
            origins.of_tensors = self.tensors.iter().map(|t| origins.of_groups[t.group]).collect();
            origins.left_out = (here..there).collect();
            return origins;
        }
        let by_name: HashMap<&str, usize> = snapshot
            .groups
            .iter()
            .enumerate()
            .flat_map(|(index, group)| group.parameters.iter().map(move |name| (name.as_str(), index)))
            .collect();
        origins.of_tensors =
            self.tensors.iter().map(|t| by_name.get(t.info.name.as_str()).copied()).collect();
        let mut shared: Vec<BTreeMap<usize, usize>> = vec![BTreeMap::new(); here];
        let mut empty = vec![true; here];
        for (tensor, origin) in self.tensors.iter().zip(&origins.of_tensors) {
            empty[tensor.group] = false;
            if let Some(origin) = origin {
                *shared[tensor.group].entry(*origin).or_default() += 1;
            }
        }
        let mut heirs: Vec<Option<usize>> = vec![None; there];
        for (index, shared) in shared.iter().enumerate() {
            // Of equally many, the first.
            let most = shared.iter().max_by_key(|(origin, count)| (**count, Reverse(**origin)));
            let origin = match most {
                Some((origin, _)) => Some(*origin),
                // Groups without parameters are told apart by nothing else.
                None if empty[index] => {
                    Some(index).filter(|&i| snapshot.groups.get(i).is_some_and(|g| g.parameters.is_empty()))
                }
                None => None,
            };
            origins.of_groups[index] = origin;
            if let Some(origin) = origin {
                heirs[origin].get_or_insert(index);
            }
        }
        origins.left_out = (0..there).filter(|&origin| heirs[origin].is_none()).collect();
        let mut taken = vec![0; here];
        for (tensor, origin) in self.tensors.iter().zip(&origins.of_tensors) {
            let Some(origin) = *origin else { continue };
            if origins.of_groups[tensor.group] == Some(origin)
                && snapshot.tensors.contains_key(&tensor.info.name)
            {
                taken[tensor.group] += 1;
            }
            if origins.of_groups[tensor.group] != Some(origin) || heirs[origin] != Some(tensor.group) {
                let name = &tensor.info.name;
                let others = snapshot.groups[origin].parameters.iter().find(|other| *other != name);
                let with = others.map_or_else(String::new, |other| format!(" with `{other}`"));
                let to = tensor.group;
                origins
                    .regrouped
                    .push(format!("`{name}` was in group {origin}{with}, and is in group {to} here"));
            }
        }
        for (index, origin) in origins.of_groups.iter().enumerate() {
            let Some(origin) = origin else { continue };
            let names = &snapshot.groups[*origin].parameters;
            let had = names.iter().filter(|name| snapshot.tensors.contains_key(*name)).count();
            origins.partial[index] = taken[index] < had;
        }
        origins
    }

    /// By what y has to move for every parameter, with the base iterate's key, so that x stays.
    fn changes(&self, snapshot: &Snapshot, origins: &Origins) -> Vec<Option<(Between, String)>> {
        let later: Vec<Option<Averaging>> =
            self.groups.iter().map(|group| Averaging::of(&stages(&*group.chain))).collect();
        let change = |(tensor, origin): (&Tensor<T>, &Option<usize>)| {
            let earlier = snapshot.groups[(*origin)?].averaging.as_ref()?;
            let saved = snapshot.tensors.get(&tensor.info.name)?;
            saved.arrays.get(&earlier.base)?;
            Some((earlier.change(later[tensor.group].as_ref())?, earlier.base.clone()))
        };
        self.tensors.iter().zip(&origins.of_tensors).map(change).collect()
    }

    /// Whether the parameters are those that have to move, or none has to.
    fn check_parameters(
        &self,
        snapshot: &Snapshot,
        changes: &[Option<(Between, String)>],
        parameters: Option<&[Parameter<'_>]>,
    ) -> Result<()> {
        let Some(parameters) = parameters else {
            let mut moves = self.tensors.iter().zip(changes).filter_map(|(t, c)| Some((t, c.as_ref()?)));
            return match moves.next() {
                Some((tensor, (change, _))) if !snapshot.evaluating => {
                    let name = tensor.info.name.clone();
                    Err(Error::ParametersMustMove { name, from: change.from, to: change.to })
                }
                _ => Ok(()),
            };
        };
        self.check_count(parameters.len())?;
        for (tensor, Parameter { value, .. }) in self.tensors.iter().zip(parameters) {
            check_shape(tensor, "value", value.shape.as_ref(), value.len())?;
            let (name, found) = (tensor.info.name.clone(), value.dtype());
            check_type::<T>(&name, found)?;
            if let Some(saved) = snapshot.tensors.get(&name).filter(|saved| saved.dtype != found) {
                let reason = format!("it was {} in the snapshot; its state is of that type", saved.dtype);
                return Err(Error::ElementType { name, found, reason });
            }
        }
        Ok(())
    }

    /// Lists everything that makes a snapshot unfit.
    fn check_fit(&self, snapshot: &Snapshot, origins: &Origins, partly: bool) -> Result<()> {
        let mut reasons = Vec::new();
        for (index, group) in snapshot.groups.iter().enumerate() {
            reasons.extend(group.fault().map(|fault| format!("group {index}: {fault}")));
        }
        let known: HashMap<&str, usize> =
            self.tensors.iter().enumerate().map(|(i, t)| (t.info.name.as_str(), i)).collect();
        let mut unknown = Vec::new();
        for (name, saved) in &snapshot.tensors {
            match known.get(name.as_str()) {
                Some(&index) => {
                    let tensor = &self.tensors[index];
                    let chain = stages(&*self.groups[tensor.group].chain);
                    let averaging =
                        origins.of_tensors[index].and_then(|o| snapshot.groups[o].averaging.as_ref());
                    let faults = saved.faults(&tensor.info, &chain, averaging);
                    reasons.extend(faults.into_iter().map(|fault| format!("parameter `{name}`: {fault}")));
                }
                None => unknown.push(format!("parameter `{name}` does not exist here")),
            }
        }
        if !partly {
            let whole = reasons.is_empty();
            let (found, expected) = (snapshot.groups.len(), self.groups.len());
            if found != expected {
                reasons.push(format!("it has {found} groups, this optimizer {expected}"));
            }
            reasons.extend(unknown);
            reasons.extend(origins.regrouped.iter().map(|what| format!("parameter {what}")));
            let left_out = origins.left_out.iter().map(|&index| (index, &snapshot.groups[index].parameters));
            reasons.extend(left_out.map(|(index, names)| match names.first() {
                Some(name) => format!("its group {index}, of `{name}`, has no parameter here"),
                None => format!("its group {index} does not exist here"),
            }));
            let new = origins.of_groups.iter().enumerate().filter(|(_, origin)| origin.is_none());
            reasons.extend(new.map(|(index, _)| format!("group {index} is not in it")));
            if whole && let Some(reason) = listed(&reasons) {
                let reason = format!("{reason} (`RestoreOptions::partly` takes what there is)");
                return Err(Error::State { reason });
            }
        }
        match listed(&reasons) {
            Some(reason) => Err(Error::State { reason }),
            None => Ok(()),
        }
    }
}

/// Where an optimizer's groups and parameters are in a snapshot.
#[derive(Default)]
struct Origins {
    of_groups: Vec<Option<usize>>,
    of_tensors: Vec<Option<usize>>,
    /// Groups here that go on without some of the state that their sums are of.
    partial: Vec<bool>,
    /// Groups of the snapshot that none here goes on from.
    left_out: Vec<usize>,
    regrouped: Vec<String>,
}

/// With a joint estimate, groups that the snapshot has not go on with that of those it has.
fn share_restored_estimate<T: Real>(groups: &mut [Group<T>], origins: &[Option<usize>]) {
    let restored = |(group, origin): (&Group<T>, &Option<usize>)| {
        (origin.is_some() && group.estimates).then_some(group.estimate)
    };
    let Some(shared) = groups.iter().zip(origins).find_map(restored) else {
        return share_first_estimate(groups);
    };
    for (group, origin) in groups.iter_mut().zip(origins) {
        if origin.is_none() && group.estimates {
            group.estimate = Estimate { d0: group.estimate.d0, ..shared };
        }
    }
}

/// The first few, and how many more there are.
fn listed(reasons: &[String]) -> Option<String> {
    const SHOWN: usize = 8;
    let (shown, more) = reasons.split_at(reasons.len().min(SHOWN));
    let text = shown.join("; ");
    match more.len() {
        0 if text.is_empty() => None,
        0 => Some(text),
        more => Some(format!("{text}; and {more} more")),
    }
}

impl GroupSnapshot {
    /// What no group can have come to.
    fn fault(&self) -> Option<String> {
        if self.k > MOST_STEPS {
            return Some(format!("{} steps, more than can be counted", self.k));
        }
        if self.still_steps > self.k {
            return Some(format!("{} of {} steps at learning rate 0", self.still_steps, self.k));
        }
        if let Some(fault) = self.estimate.and_then(|estimate| estimate.fault()) {
            return Some(fault);
        }
        if let Some(weight) = self.averaging.as_ref().map(|averaging| averaging.weight)
            && !(weight > 0.0 && weight <= 1.0)
        {
            return Some(format!("x has a weight of {weight}, but it must be above 0 and at most 1"));
        }
        let number = self.scalars.iter().find(|(_, value)| !value.is_finite());
        number.map(|(name, value)| format!("`{name}` is {value}, but must be finite"))
    }
}

impl TensorSnapshot {
    /// Why this state cannot belong to `tensor`, as far as it cannot.
    fn faults<T: Real>(
        &self,
        tensor: &TensorInfo,
        chain: &Stages<'_, T>,
        averaging: Option<&Averaging>,
    ) -> Vec<String> {
        if self.shape != tensor.shape {
            return vec![format!("its shape is {:?}, but {:?} is needed", self.shape, tensor.shape)];
        }
        let mut faults = Vec::new();
        if self.updates > MOST_STEPS {
            faults.push(format!("{} gradients, more than can be counted", self.updates));
        }
        let tensor = TensorInfo { dtype: self.dtype, updates: self.updates, ..tensor.clone() };
        let mut check = |key: &str, found: Option<&Buffer>, len: usize, dtype: DType, others: &[DType]| {
            let fits = |b: &&Buffer| b.len() == len && (b.dtype() == dtype || others.contains(&b.dtype()));
            if let Some(found) = found.filter(|found| !fits(found)) {
                let (had, of) = (found.len(), found.dtype());
                faults.push(format!("`{key}` has {had} elements of {of}, but {len} of {dtype} are needed"));
            }
        };
        // A transform may have kept an array in any of the types that it can ask for.
        let kinds = [Storage::Parameter, Storage::Compute, Storage::Bf16];
        let others = kinds.map(|storage| storage.dtype::<T>(self.dtype));
        // y moves by its base iterate, which no transform here need have.
        let own: Option<&str> = averaging.map(|averaging| averaging.base.as_str());
        let mut is_known = own.is_none();
        for transform in chain {
            let spec = transform.state(&tensor);
            let columns = spec.columns.iter().map(|c| (c.name, tensor.len().div_ceil(c.every), c.storage));
            let vectors = spec.vectors.iter().map(|v| (v.name, v.len, v.storage));
            for (name, len, storage) in columns.chain(vectors) {
                let key = format!("{}/{name}", transform.name());
                is_known |= own == Some(key.as_str());
                let others: &[DType] = if own == Some(key.as_str()) { &[] } else { &others };
                check(&key, self.arrays.get(&key), len, storage.dtype::<T>(self.dtype), others);
            }
        }
        check("the training point", self.training.as_ref(), tensor.len(), self.dtype, &[]);
        if let Some(base) = own.filter(|_| !is_known) {
            check(base, self.arrays.get(base), tensor.len(), self.dtype, &others);
        }
        faults
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
                self.estimate = Estimate { d0: self.estimate.d0, ..estimate };
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

    /// As before the first step.
    fn begin_anew(&mut self) {
        (self.k, self.still_steps) = (0, 0);
        self.seen = false;
        self.scalars.fill(0.0);
        let initial = stages(&*self.chain).iter().find_map(|t| t.estimator().map(|e| e.initial()));
        self.estimate = initial.unwrap_or(Estimate::FIXED);
    }
}

impl Restored {
    /// Adds what one parameter's chain keeps from `step` on and the state lacks, what it has and the chain does not keep, and
    /// what it has in another type. Whether the lack is the estimator's.
    fn compare<T: Real>(
        &mut self,
        tensor: &TensorInfo,
        arrays: &BTreeMap<String, Buffer>,
        chain: &Stages<'_, T>,
        step: &StepContext,
    ) -> bool {
        // What a transform has retired from may still be there, until the next step frees it.
        let mut known = BTreeSet::new();
        let mut missing = Vec::new();
        let mut of_estimator = false;
        for transform in chain {
            let spec = transform.state(tensor);
            let columns = spec.columns.iter().filter(|column| column.kept).map(|c| (c.name, c.storage));
            for (array, storage) in columns.chain(spec.vectors.iter().map(|v| (v.name, v.storage))) {
                let key = format!("{}/{array}", transform.name());
                let dtype = storage.dtype::<T>(tensor.dtype);
                match arrays.get(&key) {
                    Some(had) if had.dtype() != dtype => {
                        self.converted.push(format!("{}/{key}: {} to {dtype}", tensor.name, had.dtype()));
                    }
                    Some(_) => {}
                    None if transform.is_idle(step, tensor) => {}
                    None => {
                        of_estimator |= transform.estimator().is_some();
                        missing.push(key.clone());
                    }
                }
                known.insert(key);
            }
        }
        missing.sort_unstable();
        missing.dedup();
        self.missing.extend(missing.into_iter().map(|key| format!("{}/{key}", tensor.name)));
        let surplus = arrays.keys().filter(|key| !known.contains(*key));
        self.surplus.extend(surplus.map(|key| format!("{}/{key}", tensor.name)));
        of_estimator
    }
}
