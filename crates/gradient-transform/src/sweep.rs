//! One pass of a chain over a tensor, tile by tile.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use smallvec::SmallVec;

use crate::buffer::{Slice, SliceMut};
use crate::compose::Stages;
use crate::context::Context;
use crate::element::Real;
use crate::plan::{Base, Plan, Sweep, Then};
use crate::prefetch;
use crate::rounding::{Rounding, Stream};
use crate::state::{Storage, Sums};
use crate::tile::Tile;
use crate::update::{Deferred, Update};
use crate::writer::Writer;

/// Elements of a tile at most; sweeps over many columns have shorter ones.
///
/// ```
/// use gradient_transform::{Context, Descent, GradientTransform, Optimizer, Parameter, TILE, Tile};
///
/// #[derive(Debug)]
/// struct Count;
///
/// impl GradientTransform<f32> for Count {
///     fn name(&self) -> &str {
///         "count"
///     }
///
///     fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, f32>) {
///         assert!(tile.update.len() <= TILE);
///         let first = tile.offset as f32;
///         tile.update.values_mut().iter_mut().enumerate().for_each(|(i, u)| *u = -(first + i as f32));
///     }
/// }
///
/// let n = 2 * TILE + 1;
/// let mut optimizer: Optimizer = Optimizer::new((Count, Descent::default()), [("w", &[n][..])])?;
/// let mut w = vec![0.0_f32; n];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&vec![0.0; n]))])?;
/// assert!(w.iter().enumerate().all(|(i, w)| *w == i as f32));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub const TILE: usize = 4096;

/// Elements of a tile at least, but for a tensor's last.
pub(crate) const SHORTEST_TILE: usize = 1024;

/// Elements of a chunk, the unit of parallel work and of partial sums. Its boundaries depend on the tensor's length
/// alone, so sums do not depend on the number of threads.
pub(crate) const CHUNK: usize = 1 << 19;

/// Working memory of the threads that are at work, kept from step to step.
#[derive(Debug, Default)]
pub(crate) struct ScratchPool<T>(Mutex<Vec<Vec<T>>>);

impl<T: Real> ScratchPool<T> {
    fn with<R>(&self, len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
        // A poisoned lock only means that another thread's transform panicked; the buffers have no invariant to lose.
        let lock = || self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut buffer = lock().pop().unwrap_or_default();
        // Aligned to a cache line, so that a vector is within one.
        const SPARE: usize = 64;
        if buffer.len() < len + SPARE {
            buffer.resize(len + SPARE, T::zero());
        }
        let at = buffer.as_ptr().align_offset(64).min(SPARE);
        let result = f(&mut buffer[at..][..len]);
        lock().push(buffer);
        result
    }
}

/// What all chunks of one sweep share.
pub(crate) struct Job<'a, T> {
    pub(crate) stages: &'a Stages<'a, T>,
    pub(crate) plan: &'a Plan,
    pub(crate) sweep: &'a Sweep,
    pub(crate) writer: Option<&'a dyn Writer<T>>,
    pub(crate) cx: Context<'a>,
    /// Which transforms have seen no gradient of the tensor yet.
    pub(crate) fresh: &'a [bool],
    /// Small workspace arrays of all stages.
    pub(crate) scratch: &'a [Vec<T>],
    pub(crate) rounding: Rounding,
    pub(crate) parameter_stream: Stream,
    pub(crate) column_streams: &'a [Stream],
    /// To be set to false if an element of the gradient is too large or not finite.
    pub(crate) finite: Option<&'a AtomicBool>,
    pub(crate) pool: &'a ScratchPool<T>,
    pub(crate) parallel: bool,
}

/// A column's part of a range.
pub(crate) struct Active<'a> {
    pub(crate) index: usize,
    pub(crate) every: usize,
    pub(crate) stored: bool,
    pub(crate) data: SliceMut<'a>,
    /// The present tile's part of the data.
    pub(crate) tile: Range<usize>,
}

impl Active<'_> {
    /// Moves on to the tile of elements `range` of the work that begins at `start`.
    fn begin_tile(&mut self, start: usize, range: &Range<usize>) {
        self.tile = if self.every == 1 {
            range.clone()
        } else {
            let end = nth(start + range.end, self.every) - nth(start, self.every);
            if range.start == 0 { 0..end } else { self.tile.end..end }
        };
    }
}

/// A range of a tensor, with everything elementwise that belongs to it.
pub(crate) struct Work<'a, T> {
    pub(crate) start: usize,
    pub(crate) gradient: Slice<'a>,
    pub(crate) parameter: SliceMut<'a>,
    pub(crate) columns: SmallVec<[Active<'a>; 8]>,
    /// Partial sums, one row for each chunk of the range.
    pub(crate) scalar_sums: &'a mut [f64],
    pub(crate) vector_sums: &'a mut [T],
}

/// Index within an every-`n`-th column of the first element at or after `element`.
const fn nth(element: usize, every: usize) -> usize {
    if every == 1 { element } else { element.div_ceil(every) }
}

impl<'a, T: Real> Work<'a, T> {
    /// Splits off the first `chunks` chunks.
    fn split_off_first(&mut self, chunks: usize, plan: &Plan) -> Self {
        let (start, at) = (self.start, chunks * CHUNK);
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
            vector_sums: self.vector_sums.split_off_mut(..chunks * plan.vector_sums).unwrap_or_default(),
        }
    }
}

/// Where one tile is worked on.
struct Memory<'m, T> {
    /// For what has another type in memory than it is computed in.
    gradient: &'m mut [T],
    parameter: &'m mut [T],
    columns: &'m mut [T],
    update: &'m mut [T],
    displacement: &'m mut [T],
}

impl<'m, T: Real> Memory<'m, T> {
    const fn len(tile: usize, columns: usize) -> usize {
        (4 + columns) * tile
    }

    fn new(memory: &'m mut [T], tile: usize) -> Self {
        let (gradient, memory) = memory.split_at_mut(tile);
        let (parameter, memory) = memory.split_at_mut(tile);
        let (update, memory) = memory.split_at_mut(tile);
        let (displacement, columns) = memory.split_at_mut(tile);
        Self { gradient, parameter, columns, update, displacement }
    }
}

impl<T: Real> Job<'_, T> {
    /// Runs the sweep over a range, on several threads if it is long.
    pub(crate) fn run(&self, mut work: Work<'_, T>) {
        let chunks = work.gradient.len().div_ceil(CHUNK);
        if chunks > 1 {
            let first = work.split_off_first(chunks / 2, self.plan);
            if self.parallel {
                rayon::join(|| self.run(first), || self.run(work));
            } else {
                self.run(first);
                self.run(work);
            }
        } else {
            self.pool.with(Memory::<T>::len(self.sweep.tile, work.columns.len()), |memory| {
                let mut memory = Memory::new(memory, self.sweep.tile);
                let len = work.gradient.len();
                for at in (0..len).step_by(self.sweep.tile) {
                    self.tile(&mut work, at..len.min(at + self.sweep.tile), &mut memory);
                }
            });
        }
    }

    /// Works on a range of `work`.
    fn tile(&self, work: &mut Work<'_, T>, range: Range<usize>, memory: &mut Memory<'_, T>) {
        let (n, offset) = (range.len(), work.start + range.start);
        prefetch::next_tile(|ahead| {
            ahead.add(work.gradient, &range);
            ahead.add(work.parameter.as_slice(), &range);
            for column in &mut work.columns {
                column.begin_tile(work.start, &range);
                ahead.add(column.data.as_slice(), &column.tile);
            }
        });

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
        for (column, loaded) in work.columns.iter_mut().zip(memory.columns.chunks_exact_mut(self.sweep.tile))
        {
            columns.push(column.data.native_or_loaded(column.tile.clone(), loaded));
        }

        let (mut values, mut displacement) = (&mut memory.update[..n], &mut memory.displacement[..n]);
        // Until a transform writes, the update is the gradient.
        let mut deferred = Deferred::unwritten();
        let mut displaced = false;
        for call in &self.sweep.calls {
            let stage = &self.plan.stages[call.stage];
            let transform = &*self.stages[call.stage];
            let cx = self.cx.of(self.fresh[call.stage]);
            let (own, base) = split_base(&mut columns, call.columns.clone(), call.base, parameter);
            let mut tile = Tile {
                update: Update::deferred(values, gradient, &mut deferred),
                direction: &[],
                gradient,
                parameter,
                base,
                columns: own,
                scratch: &self.scratch[stage.scratch.clone()],
                offset,
            };
            if let (Then::Direct | Then::Displace, Some(writer)) = (call.then, self.writer) {
                writer.direct(&cx, &mut tile);
                if call.then == Then::Displace {
                    writer.displace(&cx, &mut tile, displacement);
                    // From here on the update is the displacement, and the other buffer holds the direction.
                    tile.update.values_mut();
                    std::mem::swap(&mut values, &mut displacement);
                    displaced = true;
                }
                continue;
            }
            if displaced {
                tile.direction = displacement;
            }
            let scalars = &mut work.scalar_sums[stage.scalar_sums.clone()];
            let vector = &mut work.vector_sums[stage.vector_sums.clone()];
            if call.observes {
                let sums = Sums { scalars: &mut *scalars, vector: &mut *vector };
                transform.observe(&cx, &mut tile, sums);
            }
            match call.then {
                Then::Nothing | Then::Direct | Then::Displace => {}
                Then::Emit => transform.emit(&cx, &mut tile),
                Then::Commit => transform.commit(&cx, &mut tile, Sums { scalars, vector }),
            }
        }

        // Behind the calls, as the elements are in the first-level cache now.
        if let Some(finite) =
            self.finite.filter(|_| !work.gradient.range(range.clone()).is_within(T::LARGEST_GRADIENT))
        {
            finite.store(false, Ordering::Relaxed);
        }
        if let (Some(call), Some(writer)) = (self.sweep.writer, self.writer) {
            let call = &self.sweep.calls[call];
            let cx = self.cx.of(self.fresh[call.stage]);
            if displaced {
                Update::deferred(values, gradient, &mut deferred).values_mut();
                std::mem::swap(&mut values, &mut displacement);
            }
            let mut tile = Tile {
                update: Update::deferred(values, gradient, &mut deferred),
                direction: &[],
                gradient,
                parameter: &[],
                base: &[],
                columns: &mut columns[call.columns.clone()],
                scratch: &self.scratch[self.plan.stages[call.stage].scratch.clone()],
                offset,
            };
            writer.apply(&cx, &mut tile, displaced.then_some(&*displacement), parameter);
        }
        drop(columns);
        // What has another type in memory than it was computed in.
        if self.sweep.writer.is_some() && work.parameter.dtype() != T::DTYPE {
            let values = &memory.parameter[..n];
            work.parameter.range_mut(range).store(values, offset, self.rounding, self.parameter_stream);
        }
        for (column, values) in work.columns.iter_mut().zip(memory.columns.chunks_exact(self.sweep.tile)) {
            if column.stored && column.data.dtype() != T::DTYPE {
                // What is declared as bfloat16 is rounded to the nearest, whatever the parameters are.
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

/// A stage's own columns, and the base iterate.
fn split_base<'s, 'c, T>(
    columns: &'s mut [&'c mut [T]],
    own: Range<usize>,
    base: Base,
    parameter: &'s [T],
) -> (&'s mut [&'c mut [T]], &'s [T]) {
    match base {
        Base::Unread => (&mut columns[own], &[]),
        Base::Parameter => (&mut columns[own], parameter),
        Base::Column(base) if base < own.start => {
            let (left, right) = columns.split_at_mut(own.start);
            (&mut right[..own.len()], &*left[base])
        }
        Base::Column(base) => {
            let (left, right) = columns.split_at_mut(own.end);
            (&mut left[own.start..], &*right[base - own.end])
        }
    }
}
