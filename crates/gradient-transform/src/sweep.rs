//! One pass of a chain over a tensor, tile by tile.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use crate::author::fused::{Loops, Program, Remaining, Source};
use crate::author::pass::Arrays;
use crate::buffer::{Slice, SliceMut};
use crate::compose::Stages;
use crate::context::Context;
use crate::element::Real;
use crate::plan::{Base, Plan, Sweep, Then};
use crate::prefetch;
use crate::rounding::{Rounding, Stream};
use crate::state::{Storage, Sums};
use crate::sums::Gathered;
use crate::tile::Tile;
use crate::transform::Role;
use crate::update::{Deferred, Update};
use crate::writer::WriterLink;

/// Elements of a tile, but for a tensor's last.
///
/// One length for all sweeps, so that sums, which begin anew with every tile, are the same bits whatever else is in a chain.
///
/// ```
/// use gradient_transform::{Context, Descent, Link, Optimizer, Parameter, TILE, Tile};
///
/// #[derive(Debug)]
/// struct Count;
///
/// impl Link<f32> for Count {
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
pub const TILE: usize = 1024;

/// Elements of a tensor from which on tiles are asked for ahead: smaller ones tend to be in the second-level cache.
const AHEAD: usize = 1 << 16;

/// Elements of a chunk, the unit of parallel work and of partial sums. Its boundaries depend on the tensor's length
/// alone, so sums do not depend on the number of threads.
pub(crate) const CHUNK: usize = 1 << 19;

/// Buffers that tasks borrow, kept from step to step.
#[derive(Debug, Default)]
struct Pool<B>(Mutex<Vec<Vec<B>>>);

impl<B> Pool<B> {
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<B>>> {
        // A poisoned lock only means that another thread's transform panicked; the buffers have no invariant to lose.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(&self, f: impl FnOnce(&mut Vec<B>) -> R) -> R {
        let mut buffer = self.lock().pop().unwrap_or_default();
        let result = f(&mut buffer);
        self.lock().push(buffer);
        result
    }
}

/// Working memory of the threads that are at work, kept from step to step.
#[derive(Debug, Default)]
pub(crate) struct ScratchPool<T> {
    tiles: Pool<T>,
    sums: Pool<Gathered<T>>,
    /// Plans that were made lately.
    plans: Mutex<Vec<Arc<Plan>>>,
}

impl<T: Real> ScratchPool<T> {
    fn with_tiles<R>(&self, len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
        self.tiles.with(|buffer| {
            // Aligned to a cache line, so that a vector is within one.
            const SPARE: usize = 64;
            if buffer.len() < len + SPARE {
                buffer.resize(len + SPARE, T::zero());
            }
            let at = buffer.as_ptr().align_offset(64).min(SPARE);
            f(&mut buffer[at..][..len])
        })
    }

    /// `count` arrays of sums, of any contents.
    fn with_sums<R>(&self, count: usize, f: impl FnOnce(&mut [Gathered<T>]) -> R) -> R {
        self.sums.with(|buffer| {
            if buffer.len() < count {
                buffer.resize_with(count, Gathered::default);
            }
            f(&mut buffer[..count])
        })
    }

    /// The plan, in one place for all tensors that have the same one: with many small tensors, a step is as long as it takes to
    /// fetch what belongs to them.
    pub(crate) fn shared(&self, plan: Plan) -> Arc<Plan> {
        /// Tensors of a model repeat themselves after a few.
        const LATELY: usize = 16;
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = plans.iter().find(|made| ***made == plan) {
            return Arc::clone(same);
        }
        if plans.len() == LATELY {
            plans.remove(0);
        }
        let plan = Arc::new(plan);
        plans.push(Arc::clone(&plan));
        plan
    }

    /// Bytes that are held.
    pub(crate) fn bytes(&self) -> usize {
        let tiles: usize = self.tiles.lock().iter().map(|buffer| buffer.capacity() * size_of::<T>()).sum();
        let sums: usize = self.sums.lock().iter().flatten().map(Gathered::bytes).sum();
        tiles + sums
    }
}

/// What all chunks of one sweep share.
pub(crate) struct Job<'a, T: 'static> {
    pub(crate) stages: &'a Stages<'a, T>,
    pub(crate) plan: &'a Plan,
    pub(crate) sweep: &'a Sweep,
    /// Loops that run the whole chain, if there are such.
    pub(crate) loops: Option<&'static dyn Loops<T>>,
    pub(crate) writer: Option<&'a dyn WriterLink<T>>,
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
pub(crate) struct Work<'a, 's, T> {
    pub(crate) start: usize,
    pub(crate) gradient: Slice<'a>,
    pub(crate) parameter: SliceMut<'a>,
    pub(crate) columns: SmallVec<[Active<'a>; 8]>,
    /// Partial sums, one row for each chunk of the range.
    pub(crate) scalar_sums: &'a mut [f64],
    /// Arrays of sums: those of each chunk of the range, or the tensor's own where it is one chunk. None in a sweep that gathers
    /// no arrays.
    pub(crate) vector_sums: &'s mut [Gathered<T>],
}

/// Index within an every-`n`-th column of the first element at or after `element`.
const fn nth(element: usize, every: usize) -> usize {
    if every == 1 { element } else { element.div_ceil(every) }
}

impl<'a, T: Real> Work<'a, '_, T> {
    /// The same work, with arrays of sums.
    fn with<'b>(self, vector_sums: &'b mut [Gathered<T>]) -> Work<'a, 'b, T> {
        let Self { start, gradient, parameter, columns, scalar_sums, .. } = self;
        Work { start, gradient, parameter, columns, scalar_sums, vector_sums }
    }

    /// Splits off the first `chunks` chunks, which may be all.
    fn split_off_first(&mut self, chunks: usize, plan: &Plan) -> Self {
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
    /// Runs the sweep over a tensor. Where arrays of sums are gathered, `totals`, several chunks go at a time, each with the part
    /// of the arrays that it adds to; the parts are added in the order of the chunks, so that their number is of no
    /// consequence.
    pub(crate) fn run_all(&self, mut work: Work<'_, '_, T>, totals: &mut [Gathered<T>]) {
        let gathers = self.sweep.calls.iter().any(|call| call.gathers_arrays(&self.plan.stages));
        let mut chunks = work.gradient.len().div_ceil(CHUNK);
        if !gathers {
            return self.run(work);
        }
        if chunks <= 1 {
            return self.run(work.with(totals));
        }
        // Two for a thread, so that one that is late does not keep all others waiting for long.
        let round = if self.parallel { 2 * rayon::current_num_threads() } else { 1 };
        let arrays = totals.len();
        self.pool.with_sums(round.min(chunks) * arrays, |parts| {
            while chunks > 0 {
                let now = round.min(chunks);
                let parts = &mut parts[..now * arrays];
                let first = work.split_off_first(now, self.plan);
                self.run(first.with(parts));
                for (i, total) in totals.iter_mut().enumerate() {
                    total.add(parts.iter().skip(i).step_by(arrays), self.parallel);
                }
                chunks -= now;
            }
        });
    }

    /// Runs the sweep over a range, on several threads if it is long.
    fn run(&self, mut work: Work<'_, '_, T>) {
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
            if work.gradient.len() < self.cx.tensor.len() {
                let elements = work.start..work.start + work.gradient.len();
                for (part, layout) in work.vector_sums.iter_mut().zip(&self.plan.vector_sums) {
                    part.open(layout, elements.clone());
                }
            }
            self.pool.with_tiles(Memory::<T>::len(work.columns.len()), |memory| {
                let mut memory = Memory::new(memory);
                let len = work.gradient.len();
                for at in (0..len).step_by(TILE) {
                    self.tile(&mut work, at..len.min(at + TILE), &mut memory);
                }
            });
        }
    }

    /// Works on a range of `work`.
    fn tile(&self, work: &mut Work<'_, '_, T>, range: Range<usize>, memory: &mut Memory<'_, T>) {
        let (n, offset) = (range.len(), work.start + range.start);
        for column in &mut work.columns {
            column.begin_tile(work.start, &range);
        }
        if self.cx.tensor.len() >= AHEAD {
            prefetch::next_tile(|ahead| {
                ahead.add(work.gradient, &range);
                ahead.add(work.parameter.as_slice(), &range);
                for column in &mut work.columns {
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
            columns.push(column.data.native_or_loaded(column.tile.clone(), loaded));
        }

        if let (Some(program), Some(loops)) = (self.sweep.program, self.loops) {
            let sums = (&mut *work.scalar_sums, &mut *work.vector_sums);
            self.observe_all(sums, gradient, parameter, &mut columns, offset);
            let mut arrays = Arrays::of(gradient, offset);
            match program {
                Program::Measure(_) => arrays.parameter = parameter,
                Program::Commit => arrays.written = parameter,
            }
            let mut source = Source {
                stages: self.stages,
                planned: &self.plan.stages,
                tensor: self.cx.tensor,
                calls: self.sweep.calls.iter(),
                columns: Remaining::new(&mut columns),
                scalar_sums: Remaining::new(work.scalar_sums),
                vector_sums: Remaining::new(work.vector_sums),
                scratch: self.scratch,
            };
            loops.run(program, &mut source, &mut arrays);
            self.examine(work.gradient.range(range.clone()));
            drop(columns);
            return self.store(work, range, memory);
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
            let vectors = if call.gathers_arrays(&self.plan.stages) {
                &mut work.vector_sums[stage.vector_sums.clone()]
            } else {
                &mut []
            };
            if call.observes {
                let sums = Sums { scalars: &mut *scalars, vectors: &mut *vectors };
                transform.observe(&cx, &mut tile, sums);
            }
            match (call.then, stage.scales) {
                (Then::Emit | Then::Commit, Some(i)) => tile.update.scale(tile.scratch[0][i]),
                (Then::Nothing | Then::Direct | Then::Displace, _) => {}
                (Then::Emit, None) => transform.emit(&cx, &mut tile),
                (Then::Commit, None) => transform.commit(&cx, &mut tile, Sums { scalars, vectors }),
            }
        }

        // Behind the calls, as the elements are in the first-level cache now.
        self.examine(work.gradient.range(range.clone()));
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
        self.store(work, range, memory);
    }

    /// Lets all observers look at a tile.
    fn observe_all(
        &self,
        (scalar_sums, vector_sums): (&mut [f64], &mut [Gathered<T>]),
        gradient: &[T],
        parameter: &[T],
        columns: &mut [&mut [T]],
        offset: usize,
    ) {
        for call in self.sweep.calls.iter().filter(|call| self.plan.stages[call.stage].role == Role::Observer)
        {
            let stage = &self.plan.stages[call.stage];
            let mut tile = Tile {
                update: Update::new(&mut []),
                direction: &[],
                gradient,
                parameter,
                base: &[],
                columns: &mut columns[call.columns.clone()],
                scratch: &self.scratch[stage.scratch.clone()],
                offset,
            };
            let vectors = match call.gathers_arrays(&self.plan.stages) {
                true => &mut vector_sums[stage.vector_sums.clone()],
                false => &mut [],
            };
            let scalars = &mut scalar_sums[stage.scalar_sums.clone()];
            let cx = self.cx.of(self.fresh[call.stage]);
            self.stages[call.stage].observe(&cx, &mut tile, Sums { scalars, vectors });
        }
    }

    /// Looks for elements of a tile's gradient that cannot be stepped with, as far as that has been asked for.
    fn examine(&self, gradient: Slice<'_>) {
        if let Some(finite) = self.finite.filter(|_| !gradient.is_within(T::LARGEST_GRADIENT)) {
            finite.store(false, Ordering::Relaxed);
        }
    }

    /// Stores what has another type in memory than it was computed in.
    fn store(&self, work: &mut Work<'_, '_, T>, range: Range<usize>, memory: &Memory<'_, T>) {
        let (n, offset) = (range.len(), work.start + range.start);
        if self.sweep.writer.is_some() && work.parameter.dtype() != T::DTYPE {
            let values = &memory.parameter[..n];
            work.parameter.range_mut(range).store(values, offset, self.rounding, self.parameter_stream);
        }
        for (column, values) in work.columns.iter_mut().zip(memory.columns.chunks_exact(TILE)) {
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
