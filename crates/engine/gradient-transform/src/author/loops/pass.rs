//! Loops over a tile that call transforms' functions of an element.
//!
//! ```text
//! for every run of the tile:                                                              (one, if there are no arrays along axes)
//!     open the run's part of the arrays along axes: slices of them, or one number for the whole run
//!     for every vector of the run's blocks of 32 elements:
//!         e <- update, gradient, parameter, base, direction, state, scalars, along
//!         e <- the transforms' functions of e, one after the other
//!         update, state, parameter or sums <- e, as far as this loop keeps them
//! the same for the elements after the last full block, in copies filled up with zeros
//! ```
//!
//! If runs do not consist of whole blocks, or two transforms have arrays along axes, the tile is one run.
//! Every element's values of these arrays are written out before the loop, and the terms of their sums are
//! added up after it.
//!
//! A sum has 32 lanes on every instruction set: element `i` of a tile is added to lane `i mod 32`, except for
//! those after the last full block, which are added one by one after the lanes. So its bits do not depend on
//! the width of the vectors or on the other transforms of the loop.

use std::ops::Range;

use crate::author::kind::Kind;
use crate::author::loops::array::{Array, Block, Len, with_len};
use crate::author::loops::part::{Part, Shared};
use crate::author::loops::work::{
    Accumulate, Displace, Measure, Update, UpdateAndMeasure, Work, Write, WriteDisplaced,
};
use crate::author::loops::works::{Before, End, Works};
use crate::author::{GradientTransform, Writer};
use crate::layout::axes::Axes;
use crate::link::loops::{Arrays, Own};
use crate::memory::element::Real;
use crate::memory::kernel::Prefetch;
use crate::memory::number::{LANES, Num, Vectors, WithVectors};

/// Task of a loop of one transform.
#[derive(Clone, Copy, Debug)]
pub(in crate::author) enum Task {
    /// The outgoing update, and the state if it is to be kept.
    Update {
        keeps_state: bool,
    },
    Measure,
    /// The outgoing update, the state and the sums of a lagged transform.
    UpdateAndMeasure,
    /// The state and the sums of a transform that holds the tensor.
    Accumulate,
}

/// Task of a writer's loop.
#[derive(Clone, Copy, Debug)]
pub(in crate::author) enum WriterTask {
    Displace,
    Write,
    WriteDisplaced,
}

/// A loop of one transform over a tile.
pub struct Pass<'a, 'c, T, G: GradientTransform> {
    pub(in crate::author) arrays: Arrays<'a, T>,
    pub(in crate::author) own: Own<'a, 'c, T>,
    pub(in crate::author) part: Part<'a, T, G>,
    pub(in crate::author) task: Task,
    pub(in crate::author) writer_task: WriterTask,
}

/// Runs a pass. `#[transform]` calls it from a function without type parameters, so that a transform's loops
/// are compiled once, in its own crate, and not in every program that uses it.
#[doc(hidden)]
#[inline(always)]
pub fn run<T: Real, G: GradientTransform>(pass: Pass<'_, '_, T, G>) {
    match pass.task {
        Task::Update { keeps_state: true } => over::<T, G, Update<true>>(pass),
        Task::Update { keeps_state: false } => over::<T, G, Update<false>>(pass),
        Task::Measure => over::<T, G, Measure>(pass),
        Task::UpdateAndMeasure if G::Kind::LAGS => over::<T, G, UpdateAndMeasure>(pass),
        Task::Accumulate if G::Kind::LAGS => over::<T, G, Accumulate>(pass),
        Task::UpdateAndMeasure | Task::Accumulate => unreachable!("only lagged transforms have this task"),
    }
}

/// Runs a writer's pass. See [`run`].
#[doc(hidden)]
#[inline(always)]
pub fn run_writer<T: Real, G: Writer>(pass: Pass<'_, '_, T, G>) {
    match pass.writer_task {
        WriterTask::Displace => over::<T, G, Displace>(pass),
        WriterTask::Write => over::<T, G, Write>(pass),
        WriterTask::WriteDisplaced => over::<T, G, WriteDisplaced>(pass),
    }
}

fn over<T: Real, G: GradientTransform, W: Work<G> + 'static>(pass: Pass<'_, '_, T, G>) {
    let Pass { mut arrays, mut own, part, .. } = pass;
    Passes::<T, Before<W, G, End>, false>::new((part, ())).over(&mut arrays, &mut own);
}

/// The works `L` over the tiles of a range. At the `HEAD` of a chain the update is the gradient. The end of a
/// chain leaves no update.
pub(crate) struct Passes<'a, T: Real, L: Works<T>, const HEAD: bool> {
    parts: L::Parts<'a>,
    store: L::Store,
    usual: bool,
    /// Whether the tensor has arrays along axes.
    along: bool,
    /// The axes by which tiles can be cut into runs.
    axes: Option<Axes>,
}

impl<'a, T: Real, L: Works<T>, const HEAD: bool> Passes<'a, T, L, HEAD> {
    pub(crate) fn new(parts: L::Parts<'a>) -> Self {
        let first = L::axes(&parts);
        let axes = first.filter(|axes| L::HAVE_ALONG == 1 && axes.run_length() % LANES == 0).cloned();
        Self { axes, along: first.is_some(), usual: L::is_usual(&parts), store: L::store(), parts }
    }

    /// A tile.
    pub(crate) fn over(&mut self, arrays: &mut Arrays<'_, T>, own: &mut Own<'_, '_, T>) {
        let (tile, offset) = (arrays.len, arrays.offset);
        let axes = self.axes.as_ref().filter(|_| offset % LANES == 0 && tile % LANES == 0);
        if !self.along || axes.is_some() {
            return Self::full(&self.parts, &mut self.store, self.usual, axes, &mut [], arrays, own);
        }
        T::with_workspace(2 * L::ALONG * tile.next_multiple_of(LANES), |workspace| {
            L::expand(&self.parts, workspace, offset, tile);
            Self::full(&self.parts, &mut self.store, self.usual, None, workspace, arrays, own);
        });
    }

    /// The full blocks of a tile, and what is after them.
    fn full(
        parts: &L::Parts<'_>,
        store: &mut L::Store,
        usual: bool,
        axes: Option<&Axes>,
        workspace: &mut [T],
        arrays: &mut Arrays<'_, T>,
        own: &mut Own<'_, '_, T>,
    ) {
        let (tile, offset) = (arrays.len, arrays.offset);
        let (full, rest) = (tile / LANES * LANES, tile % LANES);
        with_len(full, |len| {
            let arrays = &arrays.open(0..tile, len);
            let (opened, mut sides) = L::open(parts, store, &mut own.remaining(), workspace, tile, len);
            // None without a full block, because a run has elements.
            let line = Axes::line(full.max(1));
            let (axes, offset) = axes.map_or((&line, 0), |axes| (axes, offset));
            let (opened, sides) = (&opened, &mut sides);
            let work = Loop::<T, L, HEAD> { parts, arrays, opened, sides, axes, offset, len };
            if HEAD && usual {
                T::with_vectors(Usual(work));
            } else {
                T::with_vectors(work);
            }
        });
        if rest > 0 {
            Self::rest(parts, store, workspace, arrays, own);
        }
        L::finish(parts, store, own, workspace, offset, tile);
    }

    /// The elements after the full blocks.
    #[cold]
    fn rest(
        parts: &L::Parts<'_>,
        store: &mut L::Store,
        workspace: &mut [T],
        arrays: &mut Arrays<'_, T>,
        own: &mut Own<'_, '_, T>,
    ) {
        let tile = arrays.len;
        let range = tile / LANES * LANES..tile;
        let (mut copies, mut rest) = (Copies::of(arrays, range.clone()), L::rest());
        with_len(range.len(), |len| {
            let mut arrays = copies.arrays(arrays);
            let arrays = &arrays.open(0..LANES, len);
            let (opened, mut sides) =
                L::open_rest(parts, &mut rest, &mut own.remaining(), workspace, tile, len);
            let (opened, sides, axes) = (&opened, &mut sides, &Axes::line(range.len()));
            T::with_vectors(Loop::<T, L, HEAD> { parts, arrays, opened, sides, axes, offset: 0, len });
        });
        copies.put_back(arrays, range);
        L::close_rest(parts, store, &rest, own.columns, tile);
    }
}

/// The loop over a tile, the only part that is compiled for every instruction set.
struct Loop<'l, 'p, 'r, 'n, T: Real, L: Works<T>, const HEAD: bool> {
    parts: &'l L::Parts<'p>,
    arrays: &'l Opened<'r, 'n, T>,
    opened: &'l L::Opened<'r, 'n>,
    sides: &'l mut L::Sides<'r>,
    /// The axes by which it is cut into runs.
    axes: &'l Axes,
    /// Index of its first element by these axes.
    offset: usize,
    len: Len<'n>,
}

/// A loop for transforms that all have variant 0: the formulas of others are not in it.
struct Usual<W>(W);

impl<T: Real, L: Works<T>, const HEAD: bool> WithVectors<T> for Loop<'_, '_, '_, '_, T, L, HEAD> {
    type Output = ();

    #[inline(always)]
    fn run<B: Vectors<Element = T>>(self, numbers: B) {
        self.over_vectors::<B, false>(numbers);
    }
}

impl<T: Real, L: Works<T>, const HEAD: bool> WithVectors<T> for Usual<Loop<'_, '_, '_, '_, T, L, HEAD>> {
    type Output = ();

    #[inline(always)]
    fn run<B: Vectors<Element = T>>(self, numbers: B) {
        self.0.over_vectors::<B, HEAD>(numbers);
    }
}

impl<'n, T: Real, L: Works<T>, const HEAD: bool> Loop<'_, '_, '_, 'n, T, L, HEAD> {
    #[inline(always)]
    fn over_vectors<B: Vectors<Element = T>, const USUAL: bool>(self, numbers: B) {
        // Copies, so that no write in the loop can change them.
        let (arrays, opened, len, sides) = (*self.arrays, *self.opened, self.len, self.sides);
        let number = |value: B::Value| Num::new(numbers, value);
        let factor = number(numbers.splat(arrays.factor));
        let fixed = L::fixed::<B, USUAL>(self.parts, numbers);
        // A range that leaves an update has memory for it.
        let (updates, writes) = (!HEAD && L::UPDATES, L::WRITES);
        let Some(out) = arrays.out.map(Some).or((!updates && !writes).then_some(None)) else { return };
        let mut prefetch = Prefetch::resume();
        let mut sums = L::accumulators::<B>(numbers);
        for run in self.axes.runs(self.offset, len.elements()) {
            len.stretch(
                run.at..run.to,
                #[inline(always)]
                |stretch| {
                    let along = L::open_run(sides, &run, stretch);
                    stretch.for_each(
                        2,
                        #[inline(always)]
                        || prefetch.block(),
                        #[inline(always)]
                        |block| {
                            let along = L::block(&along, block);
                            block.for_each::<B>(
                                #[inline(always)]
                                |i| {
                                    let gradient = number(arrays.gradient.get::<B>(i));
                                    let update = if HEAD {
                                        gradient
                                    } else {
                                        factor * number(arrays.source.get::<B>(i))
                                    };
                                    let mut shared = Shared {
                                        numbers,
                                        update,
                                        gradient,
                                        parameter: number(arrays.parameter.get::<B>(i)),
                                        base: number(match L::base::<B>(&opened, &fixed, i) {
                                            Some(base) => base,
                                            None => arrays.base.get::<B>(i),
                                        }),
                                        direction: match arrays.direction {
                                            Some(direction) => number(direction.get::<B>(i)),
                                            None => update,
                                        },
                                        displacement: number(arrays.displacement.get::<B>(i)),
                                    };
                                    L::element(&opened, &fixed, &along, i, &mut sums, &mut shared);
                                    match out {
                                        Some(out) if writes => out.set::<B>(i, shared.parameter.value),
                                        Some(out) if updates => out.set::<B>(i, shared.update.value),
                                        _ => {}
                                    }
                                },
                            );
                        },
                    );
                },
            );
            L::close_run(sides, &run, &mut sums);
        }
        L::keep_sums(&opened, &sums);
        prefetch.suspend();
    }
}

/// Arrays in a loop.
#[derive(Clone, Copy)]
struct Opened<'r, 'n, T> {
    source: Array<'r, 'n, T, false>,
    factor: T,
    gradient: Array<'r, 'n, T, false>,
    parameter: Array<'r, 'n, T, false>,
    base: Array<'r, 'n, T, false>,
    direction: Option<Array<'r, 'n, T, false>>,
    displacement: Array<'r, 'n, T, false>,
    /// Memory for the outgoing update or the parameter.
    out: Option<Array<'r, 'n, T, true>>,
}

impl<T: Real> Arrays<'_, T> {
    /// The arrays of a range, with zeros for absent ones.
    fn open<'r, 'n>(&'r mut self, range: Range<usize>, len: Len<'n>) -> Opened<'r, 'n, T> {
        let read = |array: &'r [T]| len.read(array.get(range.clone()).unwrap_or(T::zeros()));
        let written = self.written.get_mut(range.clone()).map(|array| len.change(array));
        let update = self.update.get_mut(range.clone()).map(|array| len.change(array));
        Opened {
            source: self.source.map(read).or(update.map(Array::reads)).unwrap_or(read(&[])),
            factor: self.factor,
            gradient: read(self.gradient),
            parameter: written.map_or(read(self.parameter), Array::reads),
            // Where the parameter is written, it is the base iterate, unless the writer has another.
            base: written.map_or(read(self.base), Array::reads),
            direction: (!self.direction.is_empty()).then(|| read(self.direction)),
            displacement: read(self.displacement),
            out: written.or(update),
        }
    }
}

/// Copies of arrays after the last full block of a tile, filled up with zeros.
struct Copies<T> {
    source: Block<T>,
    update: Block<T>,
    gradient: Block<T>,
    parameter: Block<T>,
    written: Block<T>,
    base: Block<T>,
    direction: Block<T>,
    displacement: Block<T>,
}

impl<T: Real> Copies<T> {
    fn of(arrays: &Arrays<'_, T>, range: Range<usize>) -> Self {
        let copy = |array: &[T]| {
            let mut copy = [T::zero(); LANES];
            if let Some(array) = array.get(range.clone()) {
                copy[..array.len()].copy_from_slice(array);
            }
            copy
        };
        Self {
            source: copy(arrays.source.unwrap_or_default()),
            update: copy(arrays.update),
            gradient: copy(arrays.gradient),
            parameter: copy(arrays.parameter),
            written: copy(arrays.written),
            base: copy(arrays.base),
            direction: copy(arrays.direction),
            displacement: copy(arrays.displacement),
        }
    }

    fn arrays(&mut self, of: &Arrays<'_, T>) -> Arrays<'_, T> {
        Arrays {
            source: of.source.is_some().then_some(&self.source),
            factor: of.factor,
            update: if of.update.is_empty() { &mut [] } else { &mut self.update },
            gradient: &self.gradient,
            parameter: if of.parameter.is_empty() { &[] } else { &self.parameter },
            written: if of.written.is_empty() { &mut [] } else { &mut self.written },
            base: &self.base,
            direction: if of.direction.is_empty() { &[] } else { &self.direction },
            displacement: &self.displacement,
            offset: 0,
            len: LANES,
        }
    }

    fn put_back(&self, arrays: &mut Arrays<'_, T>, range: Range<usize>) {
        for (array, copy) in [(&mut *arrays.update, &self.update), (&mut *arrays.written, &self.written)] {
            if let Some(array) = array.get_mut(range.clone()) {
                array.copy_from_slice(&copy[..array.len()]);
            }
        }
    }
}
