//! One pass of a chain over a tensor, chunk by chunk and tile by tile.

mod links;
mod pool;
mod tiles;
mod work;

use std::sync::atomic::AtomicBool;

pub(crate) use pool::ScratchPool;
pub(crate) use work::{Active, Work};

use crate::author::fused::{Loops, Source};
use crate::compose::Stages;
use crate::context::Context;
use crate::element::Real;
use crate::plan::{Plan, Sweep};
use crate::rounding::{Rounding, Stream};
use crate::sums::Gathered;
use crate::sweep::tiles::{Memory, WorkTiles};
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

/// Elements of a chunk, the unit of parallel work and of partial sums. Its boundaries depend on the tensor's length
/// alone, so sums do not depend on the number of threads.
pub(crate) const CHUNK: usize = 1 << 19;

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
                let mut tiles = WorkTiles { job: self, work, memory: Memory::new(memory) };
                match (self.sweep.program, self.loops) {
                    (Some(program), Some(loops)) => loops.run(program, &mut self.source(), &mut tiles),
                    _ => tiles.run_links(),
                }
            });
        }
    }

    fn source(&self) -> Source<'_, T> {
        Source {
            stages: self.stages,
            planned: &self.plan.stages,
            tensor: self.cx.tensor,
            calls: self.sweep.calls.iter(),
            scratch: self.scratch,
        }
    }
}
