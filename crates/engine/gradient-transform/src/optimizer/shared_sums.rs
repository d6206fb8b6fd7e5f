//! Sums over the tensors of a group or of all groups, complete before any parameter moves.
//!
//! ```text
//! for every transform with such sums, in the order of the chains:
//!     every tensor: sweeps up to the one in which it measures
//!     total <- the tensors' sums, added in the order of the tensors
//!     every tensor: the total in place of its own sum
//! every tensor: the other sweeps, in the first of which the transform is finalized
//! ```

use smallvec::SmallVec;

use crate::engine::tensor::Tensor;
use crate::error::{Error, Result};
use crate::link::compose::stages;
use crate::link::sums_over::SumsOver;
use crate::memory::element::Real;
use crate::optimizer::group::Group;

/// The names of the transforms with sums over several tensors, in the order in which they are completed.
pub(crate) fn order<'g, T: Real>(groups: impl Iterator<Item = &'g Group<T>>) -> Result<Vec<String>> {
    let mut order: Vec<String> = Vec::new();
    for group in groups {
        let mut behind = 0;
        for stage in stages(&*group.chain).iter().filter(|stage| stage.sums_over() != SumsOver::Tensor) {
            let name = stage.name();
            match order.iter().position(|other| other == name) {
                Some(at) if at >= behind => behind = at + 1,
                Some(_) => {
                    return Err(Error::Excluded {
                        first: name.into(),
                        second: order[behind - 1].clone(),
                        reason: "both have sums over several tensors, and their order differs between groups; use the same order in all groups",
                    });
                }
                None => {
                    order.insert(behind, name.into());
                    behind += 1;
                }
            }
        }
    }
    Ok(order)
}

/// Replaces the tensors' own sums by the totals of the transform `name`.
pub(crate) fn complete<T: Real>(name: &str, groups: &[Group<T>], tensors: &mut [Tensor<T>]) {
    type Totals = SmallVec<[f64; 8]>;
    let add = |totals: &mut Totals, tensors: &mut [Tensor<T>], stage: usize| {
        for sums in tensors.iter_mut().filter_map(|tensor| tensor.sums_of(stage)) {
            totals.resize(sums.len(), 0.0);
            totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += *sum);
        }
    };
    let put = |totals: &Totals, tensors: &mut [Tensor<T>], stage: usize| {
        tensors
            .iter_mut()
            .filter_map(|tensor| tensor.sums_of(stage))
            .for_each(|sums| sums.copy_from_slice(totals));
    };
    // A group's tensors are consecutive.
    type Visit<'v, T> = dyn FnMut(&mut [Tensor<T>], usize, SumsOver) + 'v;
    let of_groups = |tensors: &mut [Tensor<T>], f: &mut Visit<'_, T>| {
        for tensors in tensors.chunk_by_mut(|a, b| a.group == b.group) {
            let chain = stages(&*groups[tensors[0].group].chain);
            let stage = chain.iter().position(|stage| stage.name() == name);
            if let Some(stage) = stage {
                f(tensors, stage, chain[stage].sums_over());
            }
        }
    };
    let mut totals = Totals::new();
    of_groups(tensors, &mut |tensors, stage, over| match over {
        SumsOver::Tensor => {}
        SumsOver::Group => {
            let mut totals = Totals::new();
            add(&mut totals, tensors, stage);
            put(&totals, tensors, stage);
        }
        SumsOver::All => add(&mut totals, tensors, stage),
    });
    of_groups(tensors, &mut |tensors, stage, over| {
        if over == SumsOver::All {
            put(&totals, tensors, stage);
        }
    });
}
