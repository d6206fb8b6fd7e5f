//! An optimizer's state, by name, for saving and resuming.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::buffer::Buffer;
use crate::compose::stages;
use crate::context::Estimate;
use crate::element::{DType, Real};
use crate::error::Result;
use crate::group::{Group, SplitGroups};
use crate::optimizer::Optimizer;
use crate::transform::GradientTransform;

/// Everything that a later run needs to go on: what [`crate::Optimizer::snapshot`] gives.
///
/// State is addressed by parameter, transform and array, never by position. All of it is serialisable with serde; a format that keeps
/// every bit of a float64 resumes identically to the bit (for JSON: serde_json with its feature `float_roundtrip`).
///
/// ```
/// use gradient_transform::{Descent, DType, GroupSnapshot, Optimizer, Parameter, Snapshot, TensorSnapshot};
///
/// let mut optimizer: Optimizer = Optimizer::new(Descent::default(), [("w", &[2][..])])?;
/// let mut w = [1.0_f32, 1.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.5, 0.5]))])?;
///
/// let text = serde_json::to_string(&optimizer.snapshot()).unwrap();
/// let Snapshot { evaluating, groups, tensors } = serde_json::from_str(&text).unwrap();
/// assert!(!evaluating);
/// let group: &GroupSnapshot = &groups[0];
/// assert_eq!((group.k, group.seen, group.estimate, group.scalars.len()), (1, true, None, 0));
/// let tensor: &TensorSnapshot = &tensors["w"];
/// assert_eq!((&tensor.shape[..], tensor.dtype, tensor.updates, tensor.arrays.len()), (&[2][..], DType::F32, 1, 0));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Whether the parameters were at their evaluation point.
    pub evaluating: bool,
    /// The groups, in order.
    pub groups: Vec<GroupSnapshot>,
    /// The parameters that have had a gradient, by name.
    pub tensors: BTreeMap<String, TensorSnapshot>,
}

/// What is shared by a group's parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupSnapshot {
    /// Steps done.
    pub k: u64,
    /// How many of them at learning rate 0, which a limit on the steps of an estimator does not count.
    #[serde(default)]
    pub still_steps: u64,
    /// The estimate of the step size, where the chain has an estimator.
    pub estimate: Option<Estimate>,
    /// Whether the group ever had a gradient at a learning rate above 0.
    pub seen: bool,
    /// The transforms' own numbers, by `transform/name`.
    pub scalars: BTreeMap<String, f64>,
}

/// What is kept of one parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorSnapshot {
    /// Shape of the parameter.
    pub shape: Vec<usize>,
    /// Element type of the parameter.
    pub dtype: DType,
    /// How many of its gradients have been seen.
    pub updates: u64,
    /// Its state, by `transform/array`.
    pub arrays: BTreeMap<String, Buffer>,
    /// The parameter at its training point y, which the optimizer keeps while it is at the evaluation point.
    pub training: Option<Buffer>,
}

impl<T: Real> Optimizer<T> {
    /// Gives a group another chain. The state of transforms that are in both, by name, is kept; that of others is
    /// dropped, and new ones begin with theirs.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, Parameter, map};
    ///
    /// let mut optimizer: Optimizer = Optimizer::new(Descent::default(), [("w", &[1][..])])?;
    /// let mut w = [0.0_f32];
    /// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0]))])?;
    /// let sign = map("sign", |_step, u: f32, _g, _y| u.signum());
    /// optimizer.replace_chain(0, (sign, Descent::default()))?;
    /// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0]))])?;
    /// assert_eq!((w, optimizer.steps(0)?), ([-4.0], 2));
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`Error::NoSuch`](crate::Error::NoSuch).
    pub fn replace_chain(&mut self, group: usize, chain: impl GradientTransform<T> + 'static) -> Result<()> {
        self.group(group)?;
        let chain: Box<dyn GradientTransform<T>> = Box::new(chain);
        let snapshot = self.groups[group].scalars_by_name();
        let old = &self.groups[group];
        let mut made = Group::new(chain, old.lr, old.rounding)?;
        made.k = old.k;
        made.still_steps = old.still_steps;
        made.seen = old.seen;
        if made.estimates {
            let joint = self.settings.split_groups == SplitGroups::Joint;
            let of_others = self.groups.iter().find(|g| joint && g.estimates).map(|g| g.estimate);
            match of_others {
                _ if old.estimates => made.estimate = old.estimate,
                Some(estimate) => made.estimate = Estimate { d0: made.estimate.d0, ..estimate },
                None => {}
            }
        }
        made.set_scalars(&snapshot);
        for tensor in self.tensors.iter_mut().filter(|t| t.group == group) {
            tensor.unplan(&stages(&*self.groups[group].chain));
        }
        self.groups[group] = made;
        Ok(())
    }

    /// Everything that a later run needs to go on from here: state by parameter, transform and array.
    pub fn snapshot(&self) -> Snapshot {
        let groups = self
            .groups
            .iter()
            .map(|g| GroupSnapshot {
                k: g.k,
                still_steps: g.still_steps,
                estimate: g.estimates.then_some(g.estimate),
                seen: g.seen,
                scalars: g.scalars_by_name(),
            })
            .collect();
        let tensors = self
            .tensors
            .iter()
            .enumerate()
            .filter(|(_, t)| t.is_typed())
            .map(|(i, t)| {
                let arrays = t.arrays(&stages(&*self.groups[t.group].chain));
                let arrays = arrays.into_iter().map(|(k, b)| (k, b.clone())).collect();
                let training = self.evaluating.as_ref().and_then(|training| training.get(i));
                let snapshot = TensorSnapshot {
                    shape: t.info.shape.clone(),
                    dtype: t.info.dtype,
                    updates: t.info.updates,
                    arrays,
                    training: training.filter(|y| y.len() == t.info.len()).cloned(),
                };
                (t.info.name.clone(), snapshot)
            })
            .collect::<BTreeMap<_, _>>();
        Snapshot { evaluating: self.evaluating.is_some(), groups, tensors }
    }
}

impl<T: Real> Group<T> {
    pub(crate) fn scalar_names(&self) -> Vec<String> {
        stages(&*self.chain)
            .iter()
            .flat_map(|t| t.group_scalars().iter().map(|s| format!("{}/{s}", t.name())))
            .collect()
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
