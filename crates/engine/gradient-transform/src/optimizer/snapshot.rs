//! An optimizer's state, by name, for saving and resuming.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::link::Link;
use crate::link::compose::stages;
use crate::link::context::Estimate;
use crate::link::state::key;
use crate::memory::buffer::Buffer;
use crate::memory::element::{DType, Real};
use crate::optimizer::evaluation::{Averaging, Between};
use crate::optimizer::group::Group;
use crate::optimizer::parameter::Parameter;
use crate::optimizer::policy::SplitGroups;
use crate::optimizer::samples::samples;
use crate::optimizer::shared_sums;
use crate::optimizer::{Optimizer, check_one_estimator, range_of};

/// The complete state for resuming: the result of [`crate::Optimizer::snapshot`].
///
/// State is addressed by parameter, transform and array, never by position. All of it is serialisable with
/// serde; with a format that keeps every bit of a float64, the resumed run has the same bits (for JSON:
/// serde_json with its feature `float_roundtrip`).
///
/// ```
/// use gradient_transform::{Descent, DType, GroupSnapshot, Optimizer, Parameter, Snapshot, TensorSnapshot};
///
/// let mut optimizer = Optimizer::new(Descent::default(), [("w", &[2][..])])?;
/// let mut w = [1.0_f32, 1.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.5, 0.5]))])?;
///
/// let text = serde_json::to_string(&optimizer.snapshot()).unwrap();
/// let Snapshot { evaluating, groups, tensors } = serde_json::from_str(&text).unwrap();
/// assert!(!evaluating);
/// let group: &GroupSnapshot = &groups[0];
/// assert_eq!((group.k, group.seen, group.estimate, group.scalars.len()), (1, true, None, 0));
/// assert_eq!((&group.parameters[..], &group.transforms[..]), (&["w".to_owned()][..], optimizer.transforms(0)?.as_slice()));
/// let tensor: &TensorSnapshot = &tensors["w"];
/// assert_eq!((&tensor.shape[..], tensor.dtype, tensor.updates, tensor.arrays.len()), (&[2][..], DType::F32, 1, 0));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot<B = Buffer> {
    /// Whether the parameters were at their evaluation point.
    pub evaluating: bool,
    /// The groups, in order.
    pub groups: Vec<GroupSnapshot>,
    /// The parameters that have had a gradient, by name.
    pub tensors: BTreeMap<String, TensorSnapshot<B>>,
}

/// State shared by a group's parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupSnapshot {
    /// The names of its parameters, including those that have had no gradient: groups are matched by them. In
    /// a snapshot of an older version no group has names, and groups are matched by position.
    #[serde(default)]
    pub parameters: Vec<String>,
    /// Its transforms with their hyperparameters: [`Optimizer::transforms`].
    #[serde(default)]
    pub transforms: Vec<String>,
    /// Relation of x to y, if the chain averages.
    #[serde(default)]
    pub averaging: Option<Averaging>,
    /// Steps done.
    pub k: u64,
    /// Number of them at learning rate 0, which a limit on the steps of an estimator does not count.
    #[serde(default)]
    pub still_steps: u64,
    /// The estimate of the step size, if the chain has an estimator.
    pub estimate: Option<Estimate>,
    /// Whether the group ever had a gradient at a learning rate above 0.
    pub seen: bool,
    /// The transforms' own numbers, by `transform/name`.
    pub scalars: BTreeMap<String, f64>,
}

/// State of one parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorSnapshot<B = Buffer> {
    /// Shape of the parameter.
    pub shape: Vec<usize>,
    /// Element type of the parameter.
    pub dtype: DType,
    /// Number of its gradients so far.
    pub updates: u64,
    /// The transforms that have not had any of them ([`Context::fresh`](crate::Context::fresh)).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub fresh: BTreeSet<String>,
    /// Its state, by `transform/array`.
    pub arrays: BTreeMap<String, B>,
    /// The parameter at its training point y, which the optimizer keeps while it is at the evaluation point.
    pub training: Option<B>,
}

impl Snapshot<&Buffer> {
    /// A copy of all state.
    pub fn to_owned(&self) -> Snapshot {
        let of_tensor = |tensor: &TensorSnapshot<&Buffer>| TensorSnapshot {
            shape: tensor.shape.clone(),
            dtype: tensor.dtype,
            updates: tensor.updates,
            fresh: tensor.fresh.clone(),
            arrays: tensor.arrays.iter().map(|(key, &buffer)| (key.clone(), buffer.clone())).collect(),
            training: tensor.training.cloned(),
        };
        Snapshot {
            evaluating: self.evaluating,
            groups: self.groups.clone(),
            tensors: self.tensors.iter().map(|(name, tensor)| (name.clone(), of_tensor(tensor))).collect(),
        }
    }
}

impl<T: Real> Optimizer<T> {
    /// Replaces a group's chain. The state of transforms that are in both, by name, is kept; that of others
    /// is dropped, and new transforms start fresh.
    ///
    /// The evaluation point x is the result of the training, so it stays where it is. If the averaging
    /// changes (another beta1 of Schedule-Free, or `Descent` in its place), the parameters y have to move for
    /// this:
    /// [`replace_chain_with`](Self::replace_chain_with).
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, Parameter, map};
    ///
    /// let mut optimizer = Optimizer::new(Descent::default(), [("w", &[1][..])])?;
    /// let mut w = [0.0_f32];
    /// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0]))])?;
    /// let sign = map!("sign", |u| u.sign());
    /// optimizer.replace_chain(0, (sign, Descent::default()))?;
    /// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0]))])?;
    /// assert_eq!((w, optimizer.steps(0)?), ([-4.0], 2));
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`with_groups`](Self::with_groups), [`Error::NoSuch`], and [`Error::ParametersMustMove`]. Nothing has changed then.
    pub fn replace_chain(&mut self, group: usize, chain: impl Link<T> + 'static) -> Result<()> {
        self.replace(group, Box::new(chain), None)
    }

    /// As [`replace_chain`](Self::replace_chain), and moves the group's parameters from the y of the earlier chain to that of the
    /// new one, so that x and z stay. Pass all parameters, as in a step; gradients are not used. In
    /// evaluation mode the parameters stay at x.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, Parameter};
    ///
    /// let mut optimizer = Optimizer::new(Descent::default(), [("w", &[1][..])])?;
    /// let mut w = [1.0_f32];
    /// let decayed = Descent::with_decay(0.1);
    /// optimizer.replace_chain_with(0, decayed, &mut [Parameter::slice(&mut w, None)])?;
    /// assert_eq!(w, [1.0]); // x is y before and after
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`with_groups`](Self::with_groups), [`Error::NoSuch`], and the shape errors of [`step`](Self::step). Nothing has changed then.
    pub fn replace_chain_with(
        &mut self,
        group: usize,
        chain: impl Link<T> + 'static,
        parameters: &mut [Parameter<'_>],
    ) -> Result<()> {
        self.replace(group, Box::new(chain), Some(parameters))
    }

    fn replace(
        &mut self,
        group: usize,
        chain: Box<dyn Link<T>>,
        parameters: Option<&mut [Parameter<'_>]>,
    ) -> Result<()> {
        let old = self.group(group)?;
        let mut made = Group::new(chain, old.lr, old.rounding)?;
        made.k = old.k;
        made.still_steps = old.still_steps;
        made.seen = old.seen;
        let joint = self.settings.split_groups == SplitGroups::Joint;
        if joint {
            let others = self.groups.iter().enumerate().filter(|(index, _)| *index != group);
            check_one_estimator(others.map(|(_, other)| other).chain([&made]))?;
        }
        let (before, behind) = (&self.groups[..group], &self.groups[group + 1..]);
        let shared_sums = shared_sums::order(before.iter().chain([&made]).chain(behind))?;
        let of_others = self.groups.iter().find(|g| joint && g.estimates).map(|g| g.estimate);
        let mut forgets = false;
        if made.estimates && old.estimates {
            made.estimate = old.estimate;
            forgets = made.estimator_name() != old.estimator_name();
        } else if let Some(estimate) = of_others.filter(|_| made.estimates) {
            made.share_estimate(&estimate);
        }
        made.set_scalars(&old.scalars_by_name());
        if let Some(parameters) = &parameters {
            self.check_values(parameters)?;
        }
        let averaging = |group: &Group<T>| Averaging::of(&stages(&*group.chain));
        let earlier = averaging(&self.groups[group]);
        if let Some(change) = earlier.and_then(|earlier| earlier.change(averaging(&made).as_ref())) {
            self.move_parameters(group, change, parameters)?;
        }
        let both_estimate = made.estimates && self.groups[group].estimates;
        let (old, new) = (stages(&*self.groups[group].chain), stages(&*made.chain));
        let range = range_of(&self.tensors, group);
        for tensor in &mut self.tensors[range] {
            tensor.unplan(&old);
            let sampled = samples(&new, &tensor.info);
            if both_estimate && sampled != samples(&old, &tensor.info) {
                tensor.drop_waiting(&sampled);
                forgets = true;
            }
        }
        drop((old, new));
        self.groups[group] = made;
        self.shared_sums = shared_sums;
        if forgets {
            // A joint estimate's sums are of all groups together.
            let joint = self.settings.split_groups == SplitGroups::Joint;
            let groups = self.groups.iter_mut().enumerate().filter(|(index, _)| joint || *index == group);
            groups.for_each(|(_, group)| group.estimate.forget_sums());
        }
        Ok(())
    }

    /// Moves the y of a group's parameters, in the parameters or in the kept copy.
    fn move_parameters(
        &mut self,
        group: usize,
        change: Between,
        parameters: Option<&mut [Parameter<'_>]>,
    ) -> Result<()> {
        let Self { tensors, groups, evaluating, .. } = self;
        let stages = stages(&*groups[group].chain);
        let range = range_of(tensors, group);
        let from = range.start;
        let tensors = tensors[range].iter().map(|tensor| (tensor, tensor.base(&stages)));
        match (evaluating, parameters) {
            (Some(training), _) => {
                for ((_, base), y) in tensors.zip(training.iter_mut().skip(from)) {
                    // Without a copy of y, it is computed from x later.
                    if let Some(base) = base.filter(|_| !y.is_empty()) {
                        change.apply::<T>(y.as_mut_slice(), base);
                    }
                }
            }
            (None, Some(parameters)) => {
                for ((_, base), parameter) in tensors.zip(parameters.iter_mut().skip(from)) {
                    if let Some(base) = base {
                        change.apply::<T>(parameter.value.as_mut_slice(), base);
                        parameter.value.write_back();
                    }
                }
            }
            (None, None) => {
                let mut moving = tensors.filter(|(_, base)| base.is_some());
                if let Some((tensor, _)) = moving.next() {
                    let name = tensor.info.name.clone();
                    return Err(Error::ParametersMustMove { name, from: change.from, to: change.to });
                }
            }
        }
        Ok(())
    }

    /// The complete state for resuming, by parameter, transform and array.
    pub fn snapshot(&self) -> Snapshot {
        self.borrowed_snapshot().to_owned()
    }

    /// The same as [`snapshot`](Self::snapshot) without a copy of the state, for writing it to a file.
    ///
    /// ```
    /// use gradient_transform::{Buffer, Descent, Optimizer, Snapshot};
    ///
    /// let optimizer = Optimizer::new(Descent::default(), [("w", &[1][..])])?;
    /// let borrowed: Snapshot<&Buffer> = optimizer.borrowed_snapshot();
    /// assert_eq!(borrowed.to_owned(), optimizer.snapshot());
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn borrowed_snapshot(&self) -> Snapshot<&Buffer> {
        let mut groups: Vec<GroupSnapshot> = self
            .groups
            .iter()
            .map(|g| GroupSnapshot {
                parameters: Vec::new(),
                transforms: g.transforms(),
                averaging: Averaging::of(&stages(&*g.chain)),
                k: g.k,
                still_steps: g.still_steps,
                estimate: g.estimates.then_some(g.estimate),
                seen: g.seen,
                scalars: g.scalars_by_name(),
            })
            .collect();
        for tensor in &self.tensors {
            groups[tensor.group].parameters.push(tensor.info.name.clone());
        }
        let tensors = self
            .tensors
            .iter()
            .enumerate()
            .filter(|(_, t)| t.is_typed())
            .map(|(i, t)| {
                let stages = stages(&*self.groups[t.group].chain);
                let training = self.evaluating.as_ref().and_then(|training| training.get(i));
                let snapshot = TensorSnapshot {
                    shape: t.info.shape.clone(),
                    dtype: t.info.dtype,
                    updates: t.info.updates,
                    fresh: t.fresh(&stages),
                    arrays: t.arrays(&stages),
                    training: training.filter(|y| y.len() == t.info.len()),
                };
                (t.info.name.clone(), snapshot)
            })
            .collect::<BTreeMap<_, _>>();
        Snapshot { evaluating: self.evaluating.is_some(), groups, tensors }
    }
}

impl<T: Real> Group<T> {
    pub(crate) fn estimator_name(&self) -> Option<String> {
        stages(&*self.chain).iter().find(|t| t.estimator().is_some()).map(|t| t.name().to_owned())
    }

    /// Its transforms in order with their hyperparameters, in their `Debug` form.
    pub(crate) fn transforms(&self) -> Vec<String> {
        stages(&*self.chain).iter().map(|transform| format!("{:?}", &**transform)).collect()
    }

    pub(crate) fn scalar_names(&self) -> Vec<String> {
        stages(&*self.chain).iter().flat_map(|t| t.group_scalars().iter().map(|s| key(t.name(), s))).collect()
    }

    fn scalars_by_name(&self) -> BTreeMap<String, f64> {
        self.scalar_names().into_iter().zip(self.scalars.iter().copied()).collect()
    }

    pub(crate) fn set_scalars(&mut self, by_name: &BTreeMap<String, f64>) {
        for (name, scalar) in self.scalar_names().iter().zip(&mut self.scalars) {
            *scalar = by_name.get(name).copied().unwrap_or(0.0);
        }
    }
}
