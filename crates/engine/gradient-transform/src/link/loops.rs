//! Loops that run whole chains, as the engine calls them.

use std::any::{Any, TypeId};
use std::ops::Range;

use crate::link::context::TensorInfo;
use crate::memory::element::Real;
use crate::memory::sums::Gathered;

/// Work of a sweep that is one loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The transforms before one, and what that measures.
    Measure(usize),
    /// All of the step.
    Commit,
}

/// A transform of a sweep that is one loop.
pub(crate) struct Member<'a, T> {
    /// The transform itself.
    pub(crate) transform: &'a dyn Any,
    /// Its columns among those of a tile.
    pub(crate) columns: Range<usize>,
    /// Its small workspace arrays.
    pub(crate) scratch: &'a [Vec<T>],
    /// Its sums and its arrays of sums among those of a tile.
    pub(crate) sums: Range<usize>,
    pub(crate) vector_sums: Range<usize>,
}

/// The transforms of a sweep over a tensor.
pub struct Source<'s, 'a, T> {
    pub(crate) tensor: &'a TensorInfo,
    pub(crate) members: &'s mut dyn Iterator<Item = Member<'a, T>>,
}

/// Tiles of a range of a tensor, one after the other.
pub trait Tiles<T> {
    fn each(&mut self, work: &mut dyn FnMut(&mut Arrays<'_, T>, &mut Own<'_, '_, T>));
}

/// Loops that are compiled for a list of transforms: what [`loops`](crate::loops) gives.
pub trait Loops<T: Real>: Send + Sync {
    /// Types of the transforms, in order.
    #[doc(hidden)]
    fn types(&self) -> Vec<TypeId>;
    #[doc(hidden)]
    fn run(&self, program: Program, source: &mut Source<'_, '_, T>, tiles: &mut dyn Tiles<T>);
}

/// Arrays of a tile that do not belong to a transform. Those that are not looked at are empty.
pub struct Arrays<'a, T> {
    /// Where the update is, if that is not where it goes.
    pub(crate) source: Option<&'a [T]>,
    /// By what it is still to be multiplied.
    pub(crate) factor: T,
    pub(crate) update: &'a mut [T],
    pub(crate) gradient: &'a [T],
    /// The parameter, where it is only read.
    pub(crate) parameter: &'a [T],
    /// The parameter, where it is written.
    pub(crate) written: &'a mut [T],
    pub(crate) base: &'a [T],
    /// Empty where it is the update itself.
    pub(crate) direction: &'a [T],
    pub(crate) displacement: &'a [T],
    /// Index of the first element within the tensor.
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

impl<'a, T: Real> Arrays<'a, T> {
    /// The arrays of a tile of a gradient: no others.
    pub(crate) fn of(gradient: &'a [T], offset: usize) -> Self {
        Self {
            source: None,
            factor: T::one(),
            update: &mut [],
            gradient,
            parameter: &[],
            written: &mut [],
            base: &[],
            direction: &[],
            displacement: &[],
            offset,
            len: gradient.len(),
        }
    }
}

/// Arrays of a tile that belong to transforms: each has its [`Part`] of them.
pub struct Own<'t, 'c, T> {
    pub(crate) columns: &'t mut [&'c mut [T]],
    pub(crate) scalar_sums: &'t mut [f64],
    pub(crate) vector_sums: &'t mut [Gathered<T>],
}
