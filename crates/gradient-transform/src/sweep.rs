//! One pass of a chain over a tensor, tile by tile.

use std::sync::Mutex;

use smallvec::SmallVec;

use crate::buffer::{Slice, SliceMut};
use crate::compose::Stages;
use crate::context::Context;
use crate::element::Real;
use crate::plan::{Plan, Sweep};
use crate::prefetch::Prefetch;
use crate::rounding::{Rounding, Stream};
use crate::state::{Storage, Sums};
use crate::transform::{Role, Tile};

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
    pub(crate) cx: Context<'a>,
    /// Small workspace arrays of all stages.
    pub(crate) scratch: &'a [Vec<T>],
    /// The stage that holds the tensor, if one does: it observes, and the sweep ends there.
    pub(crate) held: Option<usize>,
    pub(crate) rounding: Rounding,
    pub(crate) parameter_stream: Stream,
    pub(crate) column_streams: &'a [Stream],
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
    element.div_ceil(every)
}

impl<'a, T: Real> Work<'a, T> {
    fn split(self, at: usize, plan: &Plan) -> (Self, Self) {
        let chunks = at / CHUNK;
        let middle = self.start + at;
        let (gradient, right_gradient) = self.gradient.split_at(at);
        let (parameter, right_parameter) = self.parameter.split_at(at);
        let (scalar_sums, right_scalar_sums) = self.scalar_sums.split_at_mut(chunks * plan.scalar_sums);
        let (vector_sums, right_vector_sums) = self.vector_sums.split_at_mut(chunks * plan.vector_sums);
        let (mut columns, mut right_columns) = (SmallVec::new(), SmallVec::new());
        for Active { index, every, stored, data } in self.columns {
            let (left, right) = data.split_at(nth(middle, every) - nth(self.start, every));
            columns.push(Active { index, every, stored, data: left });
            right_columns.push(Active { index, every, stored, data: right });
        }
        (
            Self { start: self.start, gradient, parameter, columns, scalar_sums, vector_sums },
            Self {
                start: middle,
                gradient: right_gradient,
                parameter: right_parameter,
                columns: right_columns,
                scalar_sums: right_scalar_sums,
                vector_sums: right_vector_sums,
            },
        )
    }
}

impl<T: Real> Job<'_, T> {
    /// Runs the sweep over a range, on several threads if it is long.
    pub(crate) fn run(&self, work: Work<'_, T>) {
        let chunks = work.gradient.len().div_ceil(CHUNK);
        if chunks > 1 {
            let (left, right) = work.split(chunks / 2 * CHUNK, self.plan);
            if self.parallel {
                rayon::join(|| self.run(left), || self.run(right));
            } else {
                self.run(left);
                self.run(right);
            }
        } else {
            // Tiles of the gradient, the parameter, the update, the displacement and each column, where these have to
            // be converted or changed.
            self.pool.with((4 + work.columns.len()) * TILE, |memory| self.chunk(work, memory));
        }
    }

    fn chunk(&self, mut work: Work<'_, T>, memory: &mut [T]) {
        let len = work.gradient.len();
        let mut at = 0;
        while at < len {
            let to = (at + TILE).min(len);
            self.tile(&mut work, at, to, memory);
            at = to;
        }
    }

    fn tile(&self, work: &mut Work<'_, T>, from: usize, to: usize, memory: &mut [T]) {
        let (n, offset) = (to - from, work.start + from);
        let (fixed, converted) = memory.split_at_mut(4 * TILE);
        let (gradient_memory, fixed) = fixed.split_at_mut(TILE);
        let (parameter_memory, fixed) = fixed.split_at_mut(TILE);
        let (update, displacement) = fixed.split_at_mut(TILE);
        let (mut update, mut displacement) = (&mut update[..n], &mut displacement[..n]);

        // A portion before each stage of the chain: asked for all at once, the lines would queue up.
        let mut prefetch = Prefetch::new(self.sweep.end);
        let raw = work.gradient.range(from, to);
        raw.prefetch_after(&mut prefetch);
        let gradient: &[T] = match T::native(&raw) {
            Some(values) => values,
            None => {
                raw.load(&mut gradient_memory[..n]);
                &gradient_memory[..n]
            }
        };
        update.copy_from_slice(gradient);

        if self.sweep.parameter {
            work.parameter.range(from, to).as_slice().prefetch_after(&mut prefetch);
        }
        let mut parameter_is_native = true;
        let parameter: &mut [T] = match T::native_mut(work.parameter.range(from, to)) {
            Ok(values) => values,
            Err(stored) => {
                parameter_is_native = false;
                if self.sweep.parameter {
                    stored.as_slice().load(&mut parameter_memory[..n]);
                }
                &mut parameter_memory[..n]
            }
        };

        let start = work.start;
        let within = |every: usize| {
            let first = nth(start, every);
            (nth(start + from, every) - first, nth(start + to, every) - first)
        };
        let mut columns: SmallVec<[&mut [T]; 8]> = SmallVec::new();
        for (active, memory) in work.columns.iter_mut().zip(converted.chunks_exact_mut(TILE)) {
            let (lo, hi) = within(active.every);
            active.data.range(lo, hi).as_slice().prefetch_after(&mut prefetch);
            columns.push(match T::native_mut(active.data.range(lo, hi)) {
                Ok(values) => values,
                Err(stored) => {
                    stored.as_slice().load(&mut memory[..hi - lo]);
                    &mut memory[..hi - lo]
                }
            });
        }

        let mut behind_writer = false;
        let scalar_sums = &mut *work.scalar_sums;
        let vector_sums = &mut *work.vector_sums;
        for (i, stage) in self.plan.stages[..self.sweep.end].iter().enumerate() {
            prefetch.portion(i);
            if stage.idle || (stage.role == Role::Observer && !self.sweep.last) {
                continue;
            }
            let own = self.active(stage.columns.start)..self.active(stage.columns.end);
            let base_column = self.plan.base.filter(|b| stage.reads.base && !stage.columns.contains(b));
            let (own, base) = split_base(&mut columns, own, base_column.map(|b| self.active(b)));
            let base = match base {
                Some(base) => base,
                None if stage.reads.base && self.plan.base.is_none() => &*parameter,
                None => &[],
            };
            let transform = &self.stages[i];
            let scratch = &self.scratch[stage.scratch.clone()];
            if let Some(writer) = transform.writer() {
                let mut tile = Tile {
                    update: &mut *update,
                    direction: &[],
                    gradient,
                    parameter: &*parameter,
                    base,
                    columns: own,
                    scratch,
                    offset,
                };
                writer.direct(&self.cx, tile.reborrow());
                if i + 1 < self.sweep.end {
                    writer.displace(&self.cx, tile, displacement);
                    // From here on the update is the displacement, and the other buffer holds the direction.
                    std::mem::swap(&mut update, &mut displacement);
                    behind_writer = true;
                }
                continue;
            }
            let mut tile = Tile {
                update: &mut *update,
                direction: if behind_writer { &*displacement } else { &[] },
                gradient,
                parameter: &*parameter,
                base,
                columns: own,
                scratch,
                offset,
            };
            let mut sums = Sums {
                scalars: &mut scalar_sums[stage.scalar_sums.clone()],
                vector: &mut vector_sums[stage.vector_sums.clone()],
            };
            if self.held == Some(i) {
                transform.observe(&self.cx, tile, sums);
                break;
            }
            if stage.sweep == self.sweep.number {
                transform.observe(&self.cx, tile.reborrow(), sums.reborrow());
            }
            match stage.role {
                Role::Observer => {}
                _ if self.sweep.last => transform.commit(&self.cx, tile, sums),
                Role::Reduce if stage.sweep == self.sweep.number => break,
                _ => transform.emit(&self.cx, tile),
            }
        }

        if self.sweep.last && self.held.is_none() {
            for (stage, transform) in self.plan.stages.iter().zip(self.stages) {
                let Some(writer) = transform.writer() else { continue };
                let own = self.active(stage.columns.start)..self.active(stage.columns.end);
                if behind_writer {
                    std::mem::swap(&mut update, &mut displacement);
                }
                let tile = Tile {
                    update: &mut *update,
                    direction: &[],
                    gradient,
                    parameter: &[],
                    base: &[],
                    columns: &mut columns[own],
                    scratch: &self.scratch[stage.scratch.clone()],
                    offset,
                };
                writer.apply(&self.cx, tile, behind_writer.then_some(&*displacement), parameter);
            }
            if !parameter_is_native {
                work.parameter.range(from, to).store(
                    &parameter_memory[..n],
                    offset,
                    self.rounding,
                    self.parameter_stream,
                );
            }
        }
        drop(columns);
        for (active, memory) in work.columns.iter_mut().zip(converted.chunks_exact(TILE)) {
            if active.stored && active.data.dtype() != T::DTYPE {
                let (lo, hi) = within(active.every);
                let stream = self.column_streams[active.index];
                // What is declared as bfloat16 is rounded to the nearest, whatever the parameters are.
                let rounding = match self.plan.columns[active.index].storage {
                    Storage::Bf16 => Rounding::Nearest,
                    Storage::Parameter | Storage::Compute => self.rounding,
                };
                active.data.range(lo, hi).store(
                    &memory[..hi - lo],
                    nth(offset, active.every),
                    rounding,
                    stream,
                );
            }
        }
    }

    /// Where a column of the tensor's list stands among those of this sweep.
    fn active(&self, column: usize) -> usize {
        self.sweep.columns.partition_point(|c| c.index < column)
    }
}

/// A stage's own columns, and the base column among the others.
fn split_base<'s, 'c, T>(
    columns: &'s mut [&'c mut [T]],
    own: std::ops::Range<usize>,
    base: Option<usize>,
) -> (&'s mut [&'c mut [T]], Option<&'s [T]>) {
    match base {
        None => (&mut columns[own], None),
        Some(base) if base < own.start => {
            let (left, right) = columns.split_at_mut(own.start);
            (&mut right[..own.len()], Some(&*left[base]))
        }
        Some(base) => {
            let (left, right) = columns.split_at_mut(own.end);
            (&mut left[own.start..], Some(&*right[base - own.end]))
        }
    }
}
