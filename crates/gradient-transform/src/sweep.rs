//! One pass of a chain over a tensor, tile by tile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use smallvec::SmallVec;

use crate::buffer::{Slice, SliceMut};
use crate::compose::Stages;
use crate::context::Context;
use crate::element::Real;
use crate::plan::{Base, Plan, Sweep, Then};
use crate::prefetch::Prefetch;
use crate::rounding::{Rounding, Stream};
use crate::state::{Storage, Sums};
use crate::transform::{Tile, Writer};
use crate::update::Update;

/// Elements of a tile: a handful of columns of it fit into the first-level cache.
pub const TILE: usize = 1024;

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
        if buffer.len() < len {
            buffer.resize(len, T::zero());
        }
        let result = f(&mut buffer[..len]);
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
    /// Small workspace arrays of all stages.
    pub(crate) scratch: &'a [Vec<T>],
    pub(crate) rounding: Rounding,
    pub(crate) parameter_stream: Stream,
    pub(crate) column_streams: &'a [Stream],
    /// To be set to false if an element of the gradient is not finite.
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
            Active { data: column.data.split_off_first(n), ..*column }
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
    const fn len(columns: usize) -> usize {
        (4 + columns) * TILE
    }

    fn new(memory: &'m mut [T]) -> Self {
        let (gradient, memory) = memory.split_at_mut(TILE);
        let (parameter, memory) = memory.split_at_mut(TILE);
        let (update, memory) = memory.split_at_mut(TILE);
        let (displacement, columns) = memory.split_at_mut(TILE);
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
            self.pool.with(Memory::<T>::len(work.columns.len()), |memory| {
                let mut memory = Memory::new(memory);
                while !work.gradient.is_empty() {
                    self.tile(&mut work, &mut memory);
                }
            });
        }
    }

    /// Works on the first tile of `work`, and takes it off.
    fn tile(&self, work: &mut Work<'_, T>, memory: &mut Memory<'_, T>) {
        let (n, offset) = (work.gradient.len().min(TILE), work.start);
        work.start += n;
        // A portion before each call: asked for all at once, the lines would queue up.
        let mut prefetch = Prefetch::new(self.sweep.calls.len());

        let raw = work.gradient.split_off_first(n);
        prefetch.tile(work.gradient, n);
        let gradient = match T::native(&raw) {
            Some(values) => values,
            None => {
                raw.load(&mut memory.gradient[..n]);
                &memory.gradient[..n]
            }
        };
        let mut narrow_parameter = None;
        let parameter = if self.sweep.parameter {
            let stored = work.parameter.split_off_first(n);
            prefetch.tile(work.parameter.as_slice(), n);
            let loaded = &mut memory.parameter[..n];
            native_or_loaded(stored, loaded, |stored| narrow_parameter = Some(stored))
        } else {
            &mut []
        };
        let mut narrow_columns: SmallVec<[(usize, SliceMut<'_>); 8]> = SmallVec::new();
        let mut columns: SmallVec<[&mut [T]; 8]> = SmallVec::new();
        for (i, (active, loaded)) in
            work.columns.iter_mut().zip(memory.columns.chunks_exact_mut(TILE)).enumerate()
        {
            let n = nth(offset + n, active.every) - nth(offset, active.every);
            let stored = active.data.split_off_first(n);
            prefetch.tile(active.data.as_slice(), n);
            let narrow = |stored| narrow_columns.push((i, stored));
            columns.push(native_or_loaded(stored, &mut loaded[..n], narrow));
        }

        let (mut values, mut displacement) = (&mut memory.update[..n], &mut memory.displacement[..n]);
        // Until a transform writes, the update is the gradient.
        let mut written = false;
        let mut displaced = false;
        for call in &self.sweep.calls {
            prefetch.portion();
            let stage = &self.plan.stages[call.stage];
            let transform = &*self.stages[call.stage];
            let (own, base) = split_base(&mut columns, call.columns.clone(), call.base, parameter);
            let mut tile = Tile {
                update: Update::unwritten(values, gradient, &mut written),
                direction: &[],
                gradient,
                parameter,
                base,
                columns: own,
                scratch: &self.scratch[stage.scratch.clone()],
                offset,
            };
            if let (Then::Direct | Then::Displace, Some(writer)) = (call.then, self.writer) {
                writer.direct(&self.cx, &mut tile);
                if call.then == Then::Displace {
                    writer.displace(&self.cx, &mut tile, displacement);
                    // From here on the update is the displacement, and the other buffer holds the direction.
                    tile.update.values();
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
                transform.observe(&self.cx, &mut tile, sums);
            }
            match call.then {
                Then::Nothing | Then::Direct | Then::Displace => {}
                Then::Emit => transform.emit(&self.cx, &mut tile),
                Then::Commit => transform.commit(&self.cx, &mut tile, Sums { scalars, vector }),
            }
        }

        // Behind the calls, as the elements are in the first-level cache now.
        if let Some(finite) = self.finite.filter(|_| !raw.is_finite()) {
            finite.store(false, Ordering::Relaxed);
        }
        if let (Some(call), Some(writer)) = (self.sweep.writer, self.writer) {
            let call = &self.sweep.calls[call];
            if displaced {
                std::mem::swap(&mut values, &mut displacement);
            }
            let mut tile = Tile {
                update: Update::unwritten(values, gradient, &mut written),
                direction: &[],
                gradient,
                parameter: &[],
                base: &[],
                columns: &mut columns[call.columns.clone()],
                scratch: &self.scratch[self.plan.stages[call.stage].scratch.clone()],
                offset,
            };
            writer.apply(&self.cx, &mut tile, displaced.then_some(&*displacement), parameter);
            if let Some(mut stored) = narrow_parameter {
                stored.store(parameter, offset, self.rounding, self.parameter_stream);
            }
        }
        for (i, mut stored) in narrow_columns {
            let Active { index, every, stored: is_stored, .. } = work.columns[i];
            if is_stored {
                // What is declared as bfloat16 is rounded to the nearest, whatever the parameters are.
                let rounding = match self.plan.columns[index].storage {
                    Storage::Bf16 => Rounding::Nearest,
                    Storage::Parameter | Storage::Compute => self.rounding,
                };
                stored.store(columns[i], nth(offset, every), rounding, self.column_streams[index]);
            }
        }
    }
}

/// The elements themselves, if they are of the type computed in; otherwise `loaded`, converted, and `narrow` is given
/// the place that they have to be stored to.
fn native_or_loaded<'m, T: Real>(
    stored: SliceMut<'m>,
    loaded: &'m mut [T],
    narrow: impl FnOnce(SliceMut<'m>),
) -> &'m mut [T] {
    match T::native_mut(stored) {
        Ok(values) => values,
        Err(stored) => {
            stored.as_slice().load(loaded);
            narrow(stored);
            loaded
        }
    }
}

/// A stage's own columns, and the base iterate.
fn split_base<'s, 'c, T>(
    columns: &'s mut [&'c mut [T]],
    own: std::ops::Range<usize>,
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
