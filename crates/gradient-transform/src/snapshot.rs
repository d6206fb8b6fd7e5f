//! An optimizer's state, by name, for saving and resuming.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::buffer::Buffer;
use crate::compose::Stages;
use crate::context::{Estimate, TensorInfo};
use crate::element::{DType, Real};

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
