//! Going on from a snapshot.

use std::collections::{BTreeMap, BTreeSet};

use crate::buffer::Buffer;
use crate::compose::{Stages, stages};
use crate::context::{Estimate, StepContext, TensorInfo};
use crate::element::{DType, Real};
use crate::error::{Error, Result};
use crate::group::Group;
use crate::optimizer::Optimizer;
use crate::snapshot::{GroupSnapshot, Snapshot, TensorSnapshot};

/// What a snapshot and the optimizer that was restored from it did not have in common.
///
/// All three are empty when an optimizer goes on from its own snapshot, but for parameters that had no gradient before it.
///
/// ```
/// use gradient_transform::{Descent, Optimizer, Restored};
///
/// let mut optimizer: Optimizer = Optimizer::new(Descent::default(), [("w", &[1][..])])?;
/// let Restored { new_parameters, missing, surplus } = optimizer.restore(optimizer.snapshot())?;
/// assert_eq!(new_parameters, ["w"]); // no step yet, so there is nothing of it in the snapshot
/// assert!(missing.is_empty() && surplus.is_empty());
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Parameters of which there is nothing in the snapshot: they begin as new ones.
    pub new_parameters: Vec<String>,
    /// State that this chain keeps and the snapshot lacks, as `parameter/transform/array` or `group 0/transform/number`. It
    /// begins anew.
    pub missing: Vec<String>,
    /// State of transforms that are not in this chain, named in the same way. It was left out.
    pub surplus: Vec<String>,
}

/// The largest counter that is taken: up to here, every whole number is one in float64 too.
const MOST_STEPS: u64 = 1 << 53;

impl<T: Real> Optimizer<T> {
    /// Goes on from a snapshot of an optimizer with the same groups and parameters. Transforms that the snapshot
    /// does not know begin anew; state of transforms that are not in the chain is left out. Both are listed.
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
    /// assert!(restored.missing.is_empty() && restored.surplus.is_empty()); // neither keeps anything
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::State`], with everything that does not fit: another number of groups, parameters that do not exist here,
    /// state of another shape or type, impossible counters or estimates. [`Error::EvaluationMode`] while this optimizer is in
    /// evaluation mode. Nothing has changed then.
    pub fn restore(&mut self, snapshot: Snapshot) -> Result<Restored> {
        if self.evaluating.is_some() {
            return Err(Error::EvaluationMode);
        }
        self.check_fit(&snapshot)?;
        let mut restored = Restored::default();
        for (index, (group, saved)) in self.groups.iter_mut().zip(&snapshot.groups).enumerate() {
            group.restore(index, saved, &mut restored);
        }
        let Snapshot { evaluating, tensors: mut saved, .. } = snapshot;
        let mut training = Vec::new();
        for tensor in &mut self.tensors {
            let group = &self.groups[tensor.group];
            match saved.remove(&tensor.info.name) {
                Some(s) => {
                    let info = TensorInfo { dtype: s.dtype, updates: s.updates, ..tensor.info.clone() };
                    let step = StepContext::new(group.k + 1, group.lr);
                    restored.compare(&info, &s.arrays, &stages(&*group.chain), &step);
                    tensor.restore(s.dtype, s.updates, s.arrays);
                    training.push(s.training.unwrap_or_else(|| Buffer::zeros(s.dtype, 0)));
                }
                None => {
                    training.push(Buffer::zeros(DType::F32, 0));
                    restored.new_parameters.push(tensor.info.name.clone());
                    tensor.restore(DType::F32, 0, BTreeMap::new());
                }
            }
        }
        self.evaluating = evaluating.then_some(training);
        self.resumed = true;
        Ok(restored)
    }

    /// Lists everything that makes a snapshot unfit.
    fn check_fit(&self, snapshot: &Snapshot) -> Result<()> {
        let mut reasons = Vec::new();
        let (found, expected) = (snapshot.groups.len(), self.groups.len());
        if found != expected {
            reasons.push(format!("it has {found} groups, this optimizer {expected}"));
        }
        for (index, group) in snapshot.groups.iter().enumerate() {
            reasons.extend(group.fault().map(|fault| format!("group {index}: {fault}")));
        }
        let known: BTreeMap<&str, usize> =
            self.tensors.iter().enumerate().map(|(i, t)| (t.info.name.as_str(), i)).collect();
        for (name, saved) in &snapshot.tensors {
            match known.get(name.as_str()) {
                Some(&index) => {
                    let tensor = &self.tensors[index];
                    let chain = stages(&*self.groups[tensor.group].chain);
                    let faults = saved.faults(&tensor.info, &chain);
                    reasons.extend(faults.into_iter().map(|fault| format!("parameter `{name}`: {fault}")));
                }
                None => reasons.push(format!("parameter `{name}` does not exist here")),
            }
        }
        match listed(&reasons) {
            Some(reason) => Err(Error::State { reason }),
            None => Ok(()),
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
        if let Some(Estimate { d, d_prev, d0, numerator, denominator }) = self.estimate {
            let positive = |value: f64| value.is_finite() && value > 0.0;
            if !(positive(d) && positive(d_prev) && positive(d0)) {
                return Some(format!("d {d}, d_prev {d_prev} and d0 {d0} must be finite and above 0"));
            }
            if !(numerator.is_finite() && denominator.is_finite()) {
                return Some(format!("numerator {numerator} and denominator {denominator} must be finite"));
            }
        }
        let number = self.scalars.iter().find(|(_, value)| !value.is_finite());
        number.map(|(name, value)| format!("`{name}` is {value}, but must be finite"))
    }
}

impl TensorSnapshot {
    /// Why this state cannot belong to `tensor`, as far as it cannot.
    fn faults<T: Real>(&self, tensor: &TensorInfo, chain: &Stages<'_, T>) -> Vec<String> {
        if self.shape != tensor.shape {
            return vec![format!("its shape is {:?}, but {:?} is needed", self.shape, tensor.shape)];
        }
        let mut faults = Vec::new();
        if self.updates > MOST_STEPS {
            faults.push(format!("{} gradients, more than can be counted", self.updates));
        }
        let tensor = TensorInfo { dtype: self.dtype, updates: self.updates, ..tensor.clone() };
        let mut check = |key: &str, found: Option<&Buffer>, len: usize, dtype: DType| {
            if let Some(found) = found.filter(|b| b.len() != len || b.dtype() != dtype) {
                let (had, of) = (found.len(), found.dtype());
                faults.push(format!("`{key}` has {had} elements of {of}, but {len} of {dtype} are needed"));
            }
        };
        for transform in chain {
            let spec = transform.state(&tensor);
            let columns = spec.columns.iter().map(|c| (c.name, tensor.len().div_ceil(c.every), c.storage));
            let vectors = spec.vectors.iter().map(|v| (v.name, v.len, v.storage));
            for (name, len, storage) in columns.chain(vectors) {
                let key = format!("{}/{name}", transform.name());
                check(&key, self.arrays.get(&key), len, storage.dtype::<T>(self.dtype));
            }
        }
        check("the training point", self.training.as_ref(), tensor.len(), self.dtype);
        faults
    }
}

impl<T: Real> Group<T> {
    fn restore(&mut self, index: usize, saved: &GroupSnapshot, restored: &mut Restored) {
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
        let names: BTreeSet<String> = self.scalar_names().into_iter().collect();
        let saved_names: BTreeSet<String> = saved.scalars.keys().cloned().collect();
        let named = |name: &String| format!("group {index}/{name}");
        restored.missing.extend(names.difference(&saved_names).map(named));
        restored.surplus.extend(saved_names.difference(&names).map(named));
        self.set_scalars(&saved.scalars);
    }
}

impl Restored {
    /// Adds what one parameter's chain keeps from `step` on and the state lacks, and what it has and the chain does not keep.
    fn compare<T: Real>(
        &mut self,
        tensor: &TensorInfo,
        arrays: &BTreeMap<String, Buffer>,
        chain: &Stages<'_, T>,
        step: &StepContext,
    ) {
        // What a transform has retired from may still be there, until the next step frees it.
        let (mut kept, mut known) = (BTreeSet::new(), BTreeSet::new());
        for transform in chain {
            let spec = transform.state(tensor);
            let columns = spec.columns.iter().filter(|column| column.kept).map(|column| column.name);
            for array in columns.chain(spec.vectors.iter().map(|vector| vector.name)) {
                let key = format!("{}/{array}", transform.name());
                if !transform.is_idle(step, tensor) {
                    kept.insert(key.clone());
                }
                known.insert(key);
            }
        }
        let named = |key: &String| format!("{}/{key}", tensor.name);
        self.missing.extend(kept.iter().filter(|key| !arrays.contains_key(*key)).map(named));
        self.surplus.extend(arrays.keys().filter(|key| !known.contains(*key)).map(named));
    }
}
