//! A range of a tensor with everything elementwise that belongs to it.

use std::ops::Range;

use smallvec::SmallVec;

use crate::engine::comparison::Comparison;
use crate::engine::plan::Plan;
use crate::engine::sweep::watch::Watch;
use crate::layout::{CHUNK, nth};
use crate::memory::buffer::{Slice, SliceMut};
use crate::memory::element::Real;
use crate::memory::sums::Gathered;

/// A column's part of a range.
pub(crate) struct Active<'a> {
    pub(crate) index: usize,
    pub(crate) every: usize,
    pub(crate) stored: bool,
    /// Empty if all of it is 0 and stays 0.
    pub(crate) data: SliceMut<'a>,
    /// The current tile's part of the data.
    pub(crate) tile: Range<usize>,
}

impl Active<'_> {
    /// Advances to the tile of elements `range` of the work that begins at `start`.
    pub(super) fn begin_tile(&mut self, start: usize, range: &Range<usize>) {
        self.tile = if self.every == 1 {
            range.clone()
        } else {
            let end = nth(start + range.end, self.every) - nth(start, self.every);
            if range.start == 0 { 0..end } else { self.tile.end..end }
        };
    }
}

/// A range of a tensor, with everything elementwise that belongs to it.
pub(crate) struct Work<'a, 's, T> {
    pub(crate) start: usize,
    pub(crate) gradient: Slice<'a>,
    pub(crate) parameter: SliceMut<'a>,
    pub(crate) columns: SmallVec<[Active<'a>; 8]>,
    /// Partial sums, one row for each chunk of the range.
    pub(crate) scalar_sums: &'a mut [f64],
    /// Arrays of sums: those of each chunk of the range, or the tensor's own if it is one chunk. None in a
    /// sweep without arrays of sums.
    pub(crate) vector_sums: &'s mut [Gathered<T>],
    /// Work of the links in a sweep that is recorded, one row for each chunk of the range: see [`Watch`](super::watch::Watch).
    pub(crate) seen: &'a mut [Comparison],
}

impl<'a, T: Real> Work<'a, '_, T> {
    /// The same work, with arrays of sums.
    pub(super) fn with<'b>(self, vector_sums: &'b mut [Gathered<T>]) -> Work<'a, 'b, T> {
        let Self { start, gradient, parameter, columns, scalar_sums, seen, .. } = self;
        Work { start, gradient, parameter, columns, scalar_sums, vector_sums, seen }
    }

    /// Splits off the first `chunks` chunks, which may be all.
    pub(super) fn split_off_first(&mut self, chunks: usize, plan: &Plan) -> Self {
        let (start, at) = (self.start, self.gradient.len().min(chunks * CHUNK));
        self.start += at;
        let columns = self.columns.iter_mut().map(|column| {
            let n = nth(start + at, column.every) - nth(start, column.every);
            Active { data: column.data.split_off_first(n), tile: 0..0, ..*column }
        });
        Self {
            start,
            gradient: self.gradient.split_off_first(at),
            parameter: self.parameter.split_off_first(at),
            columns: columns.collect(),
            scalar_sums: self.scalar_sums.split_off_mut(..chunks * plan.scalar_sums).unwrap_or_default(),
            vector_sums: self
                .vector_sums
                .split_off_mut(..chunks * plan.vector_sums.len())
                .unwrap_or_default(),
            seen: self.seen.split_off_mut(..chunks * Watch::<T>::slots(plan)).unwrap_or_default(),
        }
    }
}
