//! Finding a parameter by its name.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::engine::tensor::Tensor;

/// The positions of the parameters by name. The names themselves are stored only with the tensors.
#[derive(Default)]
pub(crate) struct Names {
    hasher: DefaultHashBuilder,
    places: HashTable<usize>,
}

impl Names {
    /// Position of the parameter of this name in `tensors`.
    pub(crate) fn find<T>(&self, tensors: &[Tensor<T>], name: &str) -> Option<usize> {
        let is_it = |&place: &usize| tensors.get(place).is_some_and(|tensor| tensor.info.name == name);
        self.places.find(self.hasher.hash_one(name), is_it).copied()
    }

    /// Adds the tensors from `first` on, whose names differ from the earlier ones.
    pub(crate) fn extend<T>(&mut self, tensors: &[Tensor<T>], first: usize) {
        let Self { hasher, places } = self;
        let hash = |&place: &usize| hasher.hash_one(tensors[place].info.name.as_str());
        places.reserve(tensors.len() - first, hash);
        for place in first..tensors.len() {
            places.insert_unique(hash(&place), place, hash);
        }
    }
}
