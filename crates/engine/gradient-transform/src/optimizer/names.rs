//! Finding a parameter by its name.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::engine::tensor::Tensor;

/// The places of the parameters, by the names that they have there: no name is kept twice.
#[derive(Default)]
pub(crate) struct Names {
    hasher: DefaultHashBuilder,
    places: HashTable<usize>,
}

impl Names {
    /// Where in `tensors` the parameter of this name is.
    pub(crate) fn find<T>(&self, tensors: &[Tensor<T>], name: &str) -> Option<usize> {
        let is_it = |&place: &usize| tensors.get(place).is_some_and(|tensor| tensor.info.name == name);
        self.places.find(self.hasher.hash_one(name), is_it).copied()
    }

    /// Takes the tensors from `first` on up, which have other names than those before them.
    pub(crate) fn extend<T>(&mut self, tensors: &[Tensor<T>], first: usize) {
        let Self { hasher, places } = self;
        let hash = |&place: &usize| hasher.hash_one(tensors[place].info.name.as_str());
        places.reserve(tensors.len() - first, hash);
        for place in first..tensors.len() {
            places.insert_unique(hash(&place), place, hash);
        }
    }
}
