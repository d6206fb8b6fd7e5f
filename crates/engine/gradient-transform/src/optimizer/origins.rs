//! The groups and parameters of an optimizer in a snapshot.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::memory::element::Real;
use crate::optimizer::Optimizer;
use crate::optimizer::snapshot::{GroupSnapshot, Snapshot, TensorSnapshot};

/// A snapshot, by the positions of its parameters in this optimizer.
pub(crate) struct Saved {
    pub(crate) evaluating: bool,
    pub(crate) groups: Vec<GroupSnapshot>,
    pub(crate) tensors: Vec<Option<TensorSnapshot>>,
    /// The parameters that do not exist here, in order.
    pub(crate) strangers: Vec<String>,
}

impl Saved {
    pub(crate) fn new<T: Real>(snapshot: Snapshot, optimizer: &Optimizer<T>) -> Self {
        let Snapshot { evaluating, groups, tensors: by_name } = snapshot;
        let mut tensors: Vec<Option<TensorSnapshot>> = Vec::new();
        tensors.resize_with(optimizer.tensors.len(), || None);
        let mut strangers = Vec::new();
        for (name, tensor) in by_name {
            match optimizer.names.find(&optimizer.tensors, &name) {
                Some(place) => tensors[place] = Some(tensor),
                None => strangers.push(name),
            }
        }
        Self { evaluating, groups, tensors, strangers }
    }
}

/// The groups and parameters of an optimizer in a snapshot.
#[derive(Default)]
pub(crate) struct Origins {
    /// For each group, the group of the snapshot that it continues: the one that most of its parameters
    /// were in.
    pub(crate) of_groups: Vec<Option<usize>>,
    pub(crate) of_tensors: Vec<Option<usize>>,
    /// For each group, whether it continues without some of the parameters of its sums.
    pub(crate) partial: Vec<bool>,
    /// Groups of the snapshot that no group continues.
    pub(crate) left_out: Vec<usize>,
    pub(crate) regrouped: Vec<String>,
}

impl Origins {
    pub(crate) fn new<T: Real>(saved: &Saved, optimizer: &Optimizer<T>) -> Self {
        let Optimizer { groups, tensors, names, .. } = optimizer;
        let (here, there) = (groups.len(), saved.groups.len());
        let mut origins = Self { of_groups: vec![None; here], partial: vec![false; here], ..Self::default() };
        if saved.groups.iter().all(|group| group.parameters.is_empty()) {
            // From a version without names, or without parameters.
            origins.of_groups = (0..here).map(|index| (index < there).then_some(index)).collect();
            origins.of_tensors = tensors.iter().map(|t| origins.of_groups[t.group]).collect();
            origins.left_out = (here..there).collect();
            return origins;
        }
        origins.of_tensors = vec![None; tensors.len()];
        // For each group, the number of parameters with state.
        let mut had = vec![0; there];
        for (origin, group) in saved.groups.iter().enumerate() {
            for name in &group.parameters {
                let place = names.find(tensors, name);
                let has_state = match place {
                    Some(place) => saved.tensors[place].is_some(),
                    None => saved.strangers.binary_search(name).is_ok(),
                };
                had[origin] += usize::from(has_state);
                if let Some(place) = place {
                    origins.of_tensors[place] = Some(origin);
                }
            }
        }
        let mut shared: Vec<BTreeMap<usize, usize>> = vec![BTreeMap::new(); here];
        for (tensor, origin) in tensors.iter().zip(&origins.of_tensors) {
            if let Some(origin) = origin {
                *shared[tensor.group].entry(*origin).or_default() += 1;
            }
        }
        let mut heirs: Vec<Option<usize>> = vec![None; there];
        for (index, shared) in shared.iter().enumerate() {
            // For equal numbers, the first.
            let most = shared.iter().max_by_key(|(origin, count)| (**count, Reverse(**origin)));
            let origin = match most {
                Some((origin, _)) => Some(*origin),
                // Groups without parameters differ only in their position.
                None if optimizer.tensors_of(index).is_empty() => {
                    Some(index).filter(|&i| saved.groups.get(i).is_some_and(|g| g.parameters.is_empty()))
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
        for (place, (tensor, origin)) in tensors.iter().zip(&origins.of_tensors).enumerate() {
            let Some(origin) = *origin else { continue };
            let stays = origins.of_groups[tensor.group] == Some(origin);
            taken[tensor.group] += usize::from(stays && saved.tensors[place].is_some());
            if !stays || heirs[origin] != Some(tensor.group) {
                let name = &tensor.info.name;
                let others = saved.groups[origin].parameters.iter().find(|other| *other != name);
                let with = others.map_or_else(String::new, |other| format!(" with `{other}`"));
                let to = tensor.group;
                origins
                    .regrouped
                    .push(format!("`{name}` was in group {origin}{with}, and is in group {to} here"));
            }
        }
        for (index, origin) in origins.of_groups.iter().enumerate() {
            origins.partial[index] = origin.is_some_and(|origin| taken[index] < had[origin]);
        }
        origins
    }
}
