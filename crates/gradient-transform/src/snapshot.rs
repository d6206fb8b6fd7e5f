//! An optimizer's state, by name, for saving and resuming.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::buffer::Buffer;
use crate::compose::{Stages, stages};
use crate::context::{Estimate, TensorInfo};
use crate::element::{DType, Real};
use crate::error::{Error, Result};
use crate::group::Group;
use crate::optimizer::Optimizer;
use crate::transform::GradientTransform;

/// Everything that a later run needs to go on: what [`crate::Optimizer::snapshot`] gives.
///
/// State is addressed by parameter, transform and array, never by position. All of it is serialisable with serde; a format that keeps
/// every bit of a float64 resumes identically to the bit (for JSON: serde_json with its feature `float_roundtrip`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
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
    /// The estimate of the step size.
    pub estimate: Estimate,
    /// Whether the group ever had a gradient.
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
}

impl TensorSnapshot {
    /// Why this state cannot belong to `tensor`, if it cannot.
    pub(crate) fn misfit<T: Real>(&self, tensor: &TensorInfo, stages: &Stages<'_, T>) -> Option<String> {
        if self.shape != tensor.shape {
            return Some(format!("its shape is {:?}, but {:?} is needed", self.shape, tensor.shape));
        }
        let tensor = TensorInfo { dtype: self.dtype, updates: self.updates, ..tensor.clone() };
        for transform in stages {
            let spec = transform.state(&tensor);
            let columns = spec.columns.iter().map(|c| (c.name, tensor.len().div_ceil(c.every), c.storage));
            let vectors = spec.vectors.iter().map(|v| (v.name, v.len, v.storage));
            for (name, len, storage) in columns.chain(vectors) {
                let key = format!("{}/{name}", transform.name());
                let dtype = storage.dtype::<T>(self.dtype);
                if let Some(found) = self.arrays.get(&key).filter(|b| b.len() != len || b.dtype() != dtype) {
                    return Some(format!(
                        "`{key}` has {} elements of {}, but {len} of {dtype} are needed",
                        found.len(),
                        found.dtype()
                    ));
                }
            }
        }
        None
    }
}

impl<T: Real> Optimizer<T> {
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
    pub(crate) fn has_estimator(&self) -> bool {
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
