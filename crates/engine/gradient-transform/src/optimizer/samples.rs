//! The elements that an estimator samples.

use crate::link::compose::{Stages, stages};
use crate::link::context::TensorInfo;
use crate::memory::buffer::Buffer;
use crate::memory::element::Real;
use crate::optimizer::Optimizer;
use crate::optimizer::snapshot::Snapshot;

/// Keys of an estimator's arrays, and the distance between the elements of each.
pub(crate) type Samples = Vec<(String, usize)>;

/// The arrays of the chain's estimator by their keys, with the distance between sampled elements.
pub(crate) fn samples<T: Real>(chain: &Stages<'_, T>, tensor: &TensorInfo) -> Samples {
    let Some(estimator) = chain.iter().find(|transform| transform.estimator().is_some()) else {
        return Vec::new();
    };
    let columns = estimator.state(tensor).columns;
    let kept = columns.iter().filter(|column| column.kept);
    kept.map(|column| (format!("{}/{}", estimator.name(), column.name), column.every)).collect()
}

impl<T: Real> Optimizer<T> {
    /// Drops an estimator's samples of other elements than it samples here, so that it starts fresh. The
    /// distance is the same for the whole group, so one tensor decides for all of them, even for those with
    /// the same number of samples.
    pub(crate) fn drop_other_samples(&self, snapshot: &mut Snapshot) {
        let chains: Vec<_> = self.groups.iter().map(|group| stages(&*group.chain)).collect();
        let mut others = vec![false; chains.len()];
        // Most of many small tensors are like the previous one.
        let mut like: Option<(usize, TensorInfo, Samples)> = None;
        for tensor in &self.tensors {
            let Some(saved) = snapshot.tensors.get(&tensor.info.name) else { continue };
            if saved.shape != tensor.info.shape {
                continue;
            }
            let is_like = |(group, info, _): &(usize, TensorInfo, _)| {
                *group == tensor.group && info.shape == tensor.info.shape && info.dtype == saved.dtype
            };
            let known = like.take_if(|like| is_like(like)).unwrap_or_else(|| {
                let info = TensorInfo { dtype: saved.dtype, updates: saved.updates, ..tensor.info.clone() };
                let samples = samples(&chains[tensor.group], &info);
                (tensor.group, info, samples)
            });
            let (_, _, samples) = like.insert(known);
            let len = tensor.info.len();
            others[tensor.group] |= samples.iter().any(|(key, every)| {
                let found = saved.arrays.get(key).map_or(0, Buffer::len);
                found != len.div_ceil(*every) && is_sampled(len, found)
            });
        }
        for tensor in self.tensors.iter().filter(|tensor| others[tensor.group]) {
            let Some(saved) = snapshot.tensors.get_mut(&tensor.info.name) else { continue };
            for (key, _) in samples(&chains[tensor.group], &tensor.info) {
                saved.arrays.remove(&key);
            }
        }
    }
}

/// Whether there is a distance at which `len` elements have `found` samples. Otherwise the state is
/// damaged.
fn is_sampled(len: usize, found: usize) -> bool {
    found > 0 && len.div_ceil(len.div_ceil(found).max(1)) == found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_samples_is_one_that_some_distance_gives() {
        assert!([1, 102, 110, 120, 1320].iter().all(|&found| is_sampled(1320, found)));
        assert!(![0, 121, 1319, 1321].iter().any(|&found| is_sampled(1320, found)));
        assert!(!is_sampled(0, 1));
    }
}
