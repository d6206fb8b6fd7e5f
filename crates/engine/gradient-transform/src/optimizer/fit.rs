//! Reasons why a snapshot does not fit an optimizer.

use crate::error::{Error, Result};
use crate::link::compose::{Stages, stages};
use crate::link::context::TensorInfo;
use crate::link::state::{Storage, is_key};
use crate::memory::buffer::Buffer;
use crate::memory::element::{DType, Real};
use crate::optimizer::Optimizer;
use crate::optimizer::evaluation::Averaging;
use crate::optimizer::origins::{Origins, Saved};
use crate::optimizer::snapshot::{GroupSnapshot, TensorSnapshot};

/// The largest valid counter: up to here, float64 can represent every whole number.
const MOST_STEPS: u64 = 1 << 53;

impl<T: Real> Optimizer<T> {
    /// Lists everything that makes a snapshot unfit.
    pub(crate) fn check_fit(&self, saved: &Saved, origins: &Origins, partly: bool) -> Result<()> {
        let mut reasons = Vec::new();
        for (index, group) in saved.groups.iter().enumerate() {
            reasons.extend(group.fault().map(|fault| format!("group {index}: {fault}")));
        }
        let mut info = TensorInfo { name: String::new(), shape: Vec::new(), dtype: DType::F32, updates: 0 };
        for ((tensor, found), origin) in self.tensors.iter().zip(&saved.tensors).zip(&origins.of_tensors) {
            let Some(found) = found else { continue };
            info.name.clone_from(&tensor.info.name);
            info.shape.clone_from(&tensor.info.shape);
            (info.dtype, info.updates) = (found.dtype, found.updates);
            let chain = stages(&*self.groups[tensor.group].chain);
            let averaging = origin.and_then(|origin| saved.groups[origin].averaging.as_ref());
            let faults = found.faults(&info, &chain, averaging);
            reasons.extend(faults.into_iter().map(|fault| format!("parameter `{}`: {fault}", info.name)));
        }
        if !partly {
            let whole = reasons.is_empty();
            let (found, expected) = (saved.groups.len(), self.groups.len());
            if found != expected {
                reasons.push(format!("it has {found} groups, this optimizer {expected}"));
            }
            let unknown = saved.strangers.iter();
            reasons.extend(unknown.map(|name| format!("parameter `{name}` does not exist here")));
            reasons.extend(origins.regrouped.iter().map(|what| format!("parameter {what}")));
            let left_out = origins.left_out.iter().map(|&index| (index, &saved.groups[index].parameters));
            reasons.extend(left_out.map(|(index, names)| match names.first() {
                Some(name) => format!("its group {index}, of `{name}`, has no parameter here"),
                None => format!("its group {index} does not exist here"),
            }));
            let new = origins.of_groups.iter().enumerate().filter(|(_, origin)| origin.is_none());
            reasons.extend(new.map(|(index, _)| format!("group {index} is not in it")));
            if whole && let Some(reason) = listed(&reasons) {
                let reason = format!("{reason} (`RestoreOptions::partly` restores the parts that fit)");
                return Err(Error::State { reason });
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
    /// Reason why no group can have this state.
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
    /// Reasons why this state cannot belong to `tensor`, which has its type and its number of gradients.
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
        let mut check = |key: &str, found: Option<&Buffer>, len: usize, dtype: DType, others: &[DType]| {
            let fits = |b: &&Buffer| b.len() == len && (b.dtype() == dtype || others.contains(&b.dtype()));
            if let Some(found) = found.filter(|found| !fits(found)) {
                let (had, of) = (found.len(), found.dtype());
                faults.push(format!("`{key}` has {had} elements of {of}, but {len} of {dtype} are needed"));
            }
        };
        // A transform may have kept an array in any type that it can declare.
        let kinds = [Storage::Parameter, Storage::Compute, Storage::Bf16];
        let others = kinds.map(|storage| storage.dtype::<T>(self.dtype));
        // y moves by its base iterate, which the transforms here may not have.
        let own: Option<&str> = averaging.map(|averaging| averaging.base.as_str());
        let mut is_known = own.is_none();
        for transform in chain {
            let spec = transform.state(tensor);
            let columns = spec
                .columns
                .iter()
                .map(|c| (c.name, tensor.len().div_ceil(c.every), c.storage, c.is_constant_copy()));
            let vectors = spec.vectors.iter().map(|v| (v.name, v.len, v.storage, false));
            for (name, len, storage, may_be_empty) in columns.chain(vectors) {
                let is_own = own.is_some_and(|own| is_key(own, transform.name(), name));
                is_known |= is_own;
                let others: &[DType] = if is_own { &[] } else { &others };
                let found = self.arrays.iter().find(|(key, _)| is_key(key, transform.name(), name));
                if let Some((key, found)) = found.filter(|(_, found)| !(may_be_empty && found.is_empty())) {
                    check(key, Some(found), len, storage.dtype::<T>(self.dtype), others);
                }
            }
        }
        check("the training point", self.training.as_ref(), tensor.len(), self.dtype, &[]);
        if let Some(base) = own.filter(|_| !is_known) {
            check(base, self.arrays.get(base), tensor.len(), self.dtype, &others);
        }
        faults
    }
}
