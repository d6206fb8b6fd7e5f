//! Arrays along axes, and the elements of a tile that belong to their elements.

use crate::axes::{Axes, Run};
use crate::element::Real;
use crate::kernel;
use crate::number::{LANES, Vectors, WithVectors};
use crate::sums::Gathered;

/// Which element of an array along axes an element of a tile belongs to.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) axes: &'a Axes,
    /// Whether the array lacks the first of the axes, or else the second.
    pub(super) lacks_first: bool,
    /// Index of the tile's first element within the tensor.
    pub(super) offset: usize,
}

/// The elements of an array that belong to a run.
enum Within {
    /// As many as the run has, from this one on.
    From(usize),
    /// This one.
    One(usize),
}

impl Places<'_> {
    #[inline(always)]
    fn within(&self, run: &Run) -> Within {
        match (self.lacks_first, self.axes.second_is_last()) {
            (true, _) => Within::From(run.i),
            (false, false) => Within::From(run.j),
            (false, true) => Within::One(run.j),
        }
    }
}

/// Every element's value of an array.
pub(super) struct Expand<'a, T> {
    pub(super) values: &'a [T],
    pub(super) expanded: &'a mut [T],
    pub(super) places: Places<'a>,
}

impl<T: Real> WithVectors<T> for Expand<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<B: Vectors<Element = T>>(self, _: B) {
        let Self { values, expanded, places } = self;
        for run in places.axes.runs(places.offset, expanded.len()) {
            let expanded = &mut expanded[run.at..run.to];
            match places.within(&run) {
                Within::From(from) => {
                    let values = &values[from..from + expanded.len()];
                    expanded.iter_mut().zip(values).for_each(|(to, &value)| *to = value);
                }
                Within::One(at) => {
                    let value = values[at];
                    expanded.iter_mut().for_each(|to| *to = value);
                }
            }
        }
    }
}

/// Addition of every element's term to its sum. A sum of elements that follow one another has 32 lanes on every instruction set, and
/// those behind the last full block are added one by one.
pub(super) struct Reduce<'a, T> {
    pub(super) terms: &'a [T],
    pub(super) sums: &'a mut Gathered<T>,
    pub(super) places: Places<'a>,
}

impl<T: Real> WithVectors<T> for Reduce<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<B: Vectors<Element = T>>(self, _: B) {
        let Self { terms, sums, places } = self;
        for run in places.axes.runs(places.offset, terms.len()) {
            let terms = &terms[run.at..run.to];
            match places.within(&run) {
                Within::From(from) => {
                    let sums = sums.at(from, terms.len());
                    sums.iter_mut().zip(terms).for_each(|(sum, &term)| *sum += term);
                }
                Within::One(at) => {
                    let (blocks, rest) = terms.as_chunks::<LANES>();
                    let behind = rest.iter().fold(T::zero(), |sum, &term| sum + term);
                    let mut lanes = [T::zero(); LANES];
                    for block in blocks {
                        (0..LANES).for_each(|i| lanes[i] += block[i]);
                    }
                    let total = if blocks.is_empty() { behind } else { kernel::total(lanes) + behind };
                    sums.at(at, 1)[0] += total;
                }
            }
        }
    }
}
