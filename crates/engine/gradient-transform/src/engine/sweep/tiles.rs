//! Tiles of a range: their working memory, loading and storing.

use std::ops::Range;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use crate::engine::plan::Base;
use crate::engine::sweep::watch::Watch;
use crate::engine::sweep::{Job, Work};
use crate::layout::{TILE, nth};
use crate::link::Role;
use crate::link::loops::{Arrays, Own, Program, Tiles};
use crate::link::state::Storage;
use crate::memory::buffer::Slice;
use crate::memory::element::Real;
use crate::memory::prefetch;
use crate::memory::rounding::Rounding;

/// Number of elements from which on tiles are prefetched: smaller tensors tend to be in the second-level
/// cache.
const AHEAD: usize = 1 << 16;

/// Working memory of one tile.
pub(super) struct Memory<'m, T> {
    /// For arrays whose type in memory is not the type of the computation.
    gradient: &'m mut [T],
    parameter: &'m mut [T],
    columns: &'m mut [T],
    update: &'m mut [T],
    displacement: &'m mut [T],
    /// In a sweep that is recorded: the update before a link, and the parameter before the step.
    before: &'m mut [T],
    start: &'m mut [T],
}

impl<'m, T: Real> Memory<'m, T> {
    pub(super) const fn len(columns: usize, recorded: bool) -> usize {
        (4 + 2 * recorded as usize + columns) * TILE
    }

    pub(super) fn new(memory: &'m mut [T], recorded: bool) -> Self {
        let (gradient, memory) = memory.split_at_mut(TILE);
        let (parameter, memory) = memory.split_at_mut(TILE);
        let (update, memory) = memory.split_at_mut(TILE);
        let (displacement, memory) = memory.split_at_mut(TILE);
        let (before, memory) = memory.split_at_mut(if recorded { TILE } else { 0 });
        let (start, columns) = memory.split_at_mut(if recorded { TILE } else { 0 });
        Self { gradient, parameter, columns, update, displacement, before, start }
    }
}

/// A tile of a range, in the type of the computation.
pub(super) struct Loaded<'t, 'c, T> {
    pub(super) gradient: &'t [T],
    /// Empty in a sweep that does not read it.
    pub(super) parameter: &'t mut [T],
    pub(super) own: Own<'t, 'c, T>,
    /// Index of the first element within the tensor.
    pub(super) offset: usize,
    /// In a sweep that is recorded.
    pub(super) watch: Option<Watch<'t, T>>,
}

/// The tiles of a range.
pub(super) struct WorkTiles<'j, 'a, 's, 'm, T: Real> {
    pub(super) job: &'j Job<'j, T>,
    pub(super) work: Work<'a, 's, T>,
    pub(super) memory: Memory<'m, T>,
}

impl<T: Real> WorkTiles<'_, '_, '_, '_, T> {
    /// Does the work of links, one after the other.
    pub(super) fn run_links(&mut self) {
        self.for_each(|job, tile, update| job.links(tile, update));
    }

    fn for_each(&mut self, mut run: impl FnMut(&Job<'_, T>, &mut Loaded<'_, '_, T>, [&mut [T]; 2])) {
        let Self { job, work, memory } = self;
        let len = work.gradient.len();
        for at in (0..len).step_by(TILE) {
            job.tile(work, at..len.min(at + TILE), memory, &mut run);
        }
    }
}

/// For loops that run the whole chain.
impl<T: Real> Tiles<T> for WorkTiles<'_, '_, '_, '_, T> {
    fn each(&mut self, run: &mut dyn FnMut(&mut Arrays<'_, T>, &mut Own<'_, '_, T>)) {
        self.for_each(|job, tile, update| {
            // A loop of the whole chain stores no update between two links.
            if tile.watch.is_some() {
                return job.links(tile, update);
            }
            job.observe_all(tile);
            let mut arrays = Arrays::of(tile.gradient, tile.offset);
            match job.sweep.program {
                Some(Program::Commit) => arrays.written = tile.parameter,
                _ => arrays.parameter = tile.parameter,
            }
            match job.base_of_loop() {
                // In the writer's sweeps this is among its own columns.
                Base::Column(column) => {
                    let base = std::mem::take(&mut tile.own.columns[column]);
                    arrays.base = base;
                    run(&mut arrays, &mut tile.own);
                    tile.own.columns[column] = base;
                }
                Base::Parameter => {
                    arrays.base = arrays.parameter;
                    run(&mut arrays, &mut tile.own);
                }
                Base::Unread => run(&mut arrays, &mut tile.own),
            }
        });
    }
}

impl<T: Real> Job<'_, T> {
    /// The base iterate that transforms before the writer read, in a loop that does not have the writer.
    fn base_of_loop(&self) -> Base {
        let calls = &self.sweep.calls;
        if calls.iter().any(|call| self.plan.stages[call.stage].role == Role::Writer) {
            return Base::Unread;
        }
        calls.iter().map(|call| call.base).find(|base| *base != Base::Unread).unwrap_or(Base::Unread)
    }

    /// Runs a tile.
    fn tile(
        &self,
        work: &mut Work<'_, '_, T>,
        range: Range<usize>,
        memory: &mut Memory<'_, T>,
        run: impl FnOnce(&Self, &mut Loaded<'_, '_, T>, [&mut [T]; 2]),
    ) {
        let (n, offset) = (range.len(), work.start + range.start);
        for column in &mut work.columns {
            column.begin_tile(work.start, &range);
        }
        if self.cx.tensor.len() >= AHEAD {
            prefetch::next_tile(|ahead| {
                ahead.add(work.gradient, &range);
                ahead.add(work.parameter.as_slice(), &range);
                for column in work.columns.iter_mut().filter(|column| !column.data.is_empty()) {
                    ahead.add(column.data.as_slice(), &column.tile);
                }
            });
        }
        let gradient = match T::native(&work.gradient) {
            Some(values) => &values[range.clone()],
            None => {
                work.gradient.range(range.clone()).load(&mut memory.gradient[..n]);
                &memory.gradient[..n]
            }
        };
        let read = if self.sweep.parameter { range.clone() } else { 0..0 };
        let parameter = work.parameter.native_or_loaded(read, memory.parameter);
        let mut columns: SmallVec<[&mut [T]; 8]> = SmallVec::new();
        for (column, loaded) in work.columns.iter_mut().zip(memory.columns.chunks_exact_mut(TILE)) {
            columns.push(if column.data.is_empty() {
                let zeros = &mut loaded[..column.tile.len()];
                zeros.fill(T::zero());
                zeros
            } else {
                column.data.native_or_loaded(column.tile.clone(), loaded)
            });
        }
        let own = Own {
            columns: &mut columns,
            scalar_sums: &mut *work.scalar_sums,
            vector_sums: &mut *work.vector_sums,
        };
        let is_recorded = !work.seen.is_empty();
        let squares = if is_recorded { Watch::begin(work.seen, gradient, parameter, offset) } else { 0.0 };
        let watch = (is_recorded && self.sample.has(offset)).then(|| {
            memory.start[..n].copy_from_slice(parameter);
            Watch::new(&mut memory.before[..n], &mut *work.seen, gradient, squares, offset)
        });
        let mut tile = Loaded { gradient, parameter, own, offset, watch };
        run(self, &mut tile, [&mut memory.update[..n], &mut memory.displacement[..n]]);
        let watched = tile.watch.map(|watch| watch.of_gradient);
        drop(columns);
        // After everything else, because the elements are in the first-level cache now.
        self.examine(work.gradient.range(range.clone()));
        self.store(work, range.clone(), memory);
        if let Some(squares) = watched {
            self.watch_displacement(work, range, memory, squares);
        } else if is_recorded {
            let stored = work.parameter.as_slice().range(range);
            if let Some((at, value)) = stored.first_beyond(f64::INFINITY, false) {
                Watch::<T>::not_finite(work.seen, (offset + at, value));
            }
        }
    }

    /// Looks for invalid elements of a tile's gradient, if the sweep has to check it.
    fn examine(&self, gradient: Slice<'_>) {
        if let Some(finite) = self.finite.filter(|_| !gradient.is_within(T::LARGEST_GRADIENT)) {
            finite.store(false, Ordering::Relaxed);
        }
    }

    /// Compares the parameter as it is in memory now with what it was before the step.
    fn watch_displacement(
        &self,
        work: &mut Work<'_, '_, T>,
        range: Range<usize>,
        memory: &mut Memory<'_, T>,
        squares: f64,
    ) {
        let (n, offset) = (range.len(), work.start + range.start);
        let gradient =
            T::native(&work.gradient).map_or(&memory.gradient[..n], |values| &values[range.clone()]);
        let stored = work.parameter.as_slice();
        let parameter = match T::native(&stored) {
            Some(values) => &values[range],
            None => {
                stored.range(range).load(&mut memory.parameter[..n]);
                &memory.parameter[..n]
            }
        };
        Watch::displacement(work.seen, gradient, squares, &mut memory.start[..n], parameter, offset);
    }

    /// Stores arrays whose type in memory is not the type of the computation.
    fn store(&self, work: &mut Work<'_, '_, T>, range: Range<usize>, memory: &Memory<'_, T>) {
        let (n, offset) = (range.len(), work.start + range.start);
        if self.sweep.writer.is_some() && work.parameter.dtype() != T::DTYPE {
            let values = &memory.parameter[..n];
            work.parameter.range_mut(range).store(values, offset, self.rounding, self.parameter_stream);
        }
        for (column, values) in work.columns.iter_mut().zip(memory.columns.chunks_exact(TILE)) {
            if column.stored && column.data.dtype() != T::DTYPE {
                // Columns declared as bfloat16 are rounded to the nearest, whatever the parameters'
                // type.
                let rounding = match self.plan.columns[column.index].storage {
                    Storage::Bf16 => Rounding::Nearest,
                    Storage::Parameter | Storage::Compute => self.rounding,
                };
                let (values, first) = (&values[..column.tile.len()], nth(offset, column.every));
                let stream = self.column_streams[column.index];
                column.data.range_mut(column.tile.clone()).store(values, first, rounding, stream);
            }
        }
    }
}
