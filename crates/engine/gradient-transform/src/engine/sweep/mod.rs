//! One pass of a chain over a tensor, chunk by chunk and tile by tile.

mod links;
mod pool;
mod tiles;
pub(crate) mod watch;
mod work;

use std::sync::atomic::AtomicBool;

pub(crate) use pool::ScratchPool;
pub(crate) use work::{Active, Work};

use crate::engine::plan::{Plan, Sweep};
use crate::engine::sweep::tiles::{Memory, WorkTiles};
use crate::engine::sweep::watch::Sample;
use crate::layout::CHUNK;
use crate::link::Role;
use crate::link::compose::Stages;
use crate::link::context::Context;
use crate::link::loops::{Loops, Member, Source};
use crate::link::writer::WriterLink;
use crate::memory::element::Real;
use crate::memory::rounding::{Rounding, Stream};
use crate::memory::sums::Gathered;

/// Data shared by all chunks of one sweep.
pub(crate) struct Job<'a, T: 'static> {
    pub(crate) stages: &'a Stages<'a, T>,
    pub(crate) plan: &'a Plan,
    pub(crate) sweep: &'a Sweep,
    /// Loops that run the whole chain, if it has them.
    pub(crate) loops: Option<&'static dyn Loops<T>>,
    pub(crate) writer: Option<&'a dyn WriterLink<T>>,
    /// The observer that does not observe in this step.
    pub(crate) still: Option<usize>,
    pub(crate) cx: Context<'a>,
    /// For each transform, whether it has not had a gradient of the tensor yet.
    pub(crate) fresh: &'a [bool],
    /// Small workspace arrays of all stages.
    pub(crate) scratch: &'a [Vec<T>],
    pub(crate) rounding: Rounding,
    pub(crate) parameter_stream: Stream,
    pub(crate) column_streams: &'a [Stream],
    /// Set to false if an element of the gradient is too large or not finite.
    pub(crate) finite: Option<&'a AtomicBool>,
    /// The tiles in which the links are watched, in a sweep that is recorded.
    pub(crate) sample: Sample,
    pub(crate) pool: &'a ScratchPool<T>,
    pub(crate) parallel: bool,
}

impl<T: Real> Job<'_, T> {
    /// Runs the sweep over a tensor. With arrays of sums, `totals`, several chunks run at a time, each with
    /// its part of the arrays; the parts are added in the order of the chunks, so that their number does not
    /// matter.
    pub(crate) fn run_all(&self, mut work: Work<'_, '_, T>, totals: &mut [Gathered<T>]) {
        let gathers = self.sweep.calls.iter().any(|call| call.gathers_arrays(&self.plan.stages));
        let mut chunks = work.gradient.len().div_ceil(CHUNK);
        if !gathers {
            return self.run(work);
        }
        if chunks <= 1 {
            return self.run(work.with(totals));
        }
        // Two per thread, so that a slow one does not delay all others for long.
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
            // Every other sweep begins where the one before ended, with what of the gradient is in the caches.
            let (sooner, later) =
                if self.sweep.number.is_multiple_of(2) { (first, work) } else { (work, first) };
            if self.parallel {
                rayon::join(|| self.run(sooner), || self.run(later));
            } else {
                self.run(sooner);
                self.run(later);
            }
        } else {
            if work.gradient.len() < self.cx.tensor.len() {
                let elements = work.start..work.start + work.gradient.len();
                for (part, layout) in work.vector_sums.iter_mut().zip(&self.plan.vector_sums) {
                    part.open(layout, elements.clone());
                }
            }
            let recorded = !work.seen.is_empty();
            self.pool.with_tiles(Memory::<T>::len(work.columns.len(), recorded), |memory| {
                let mut tiles = WorkTiles { job: self, work, memory: Memory::new(memory, recorded) };
                match (self.sweep.program, self.loops) {
                    (Some(program), Some(loops)) => {
                        let source = Source { tensor: self.cx.tensor, members: &mut self.members() };
                        loops.run(program, &mut { source }, &mut tiles);
                    }
                    _ => tiles.run_links(),
                }
            });
        }
    }

    /// The transforms in the loop of this sweep.
    fn members(&self) -> impl Iterator<Item = Member<'_, T>> {
        let planned = &self.plan.stages;
        self.sweep.calls.iter().filter(|call| planned[call.stage].role != Role::Observer).map(|call| {
            let stage = &planned[call.stage];
            let Some(transform) = self.stages[call.stage].concrete() else {
                unreachable!("the types were compared when the plan was made")
            };
            Member {
                transform,
                columns: call.columns.clone(),
                scratch: &self.scratch[stage.scratch.clone()],
                sums: if call.gathers() { stage.scalar_sums.clone() } else { 0..0 },
                vector_sums: if call.gathers_arrays(planned) { stage.vector_sums.clone() } else { 0..0 },
            }
        })
    }
}
