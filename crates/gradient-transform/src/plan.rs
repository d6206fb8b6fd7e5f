//! How a chain runs over one tensor: which transform works in which sweep, and which columns cross the memory bus.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::compose::Stages;
use crate::context::{StepContext, TensorInfo};
use crate::element::{DType, Real};
use crate::state::ColumnSpec;
use crate::transform::{Reads, Role};

/// One transform's place in the plan of a tensor. The ranges are into the tensor's lists, all transforms together.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) role: Role,
    pub(crate) reads: Reads,
    /// The sweep in which it observes.
    pub(crate) sweep: usize,
    pub(crate) columns: Range<usize>,
    /// Its columns change in the last sweep, whenever it observes.
    pub(crate) commits: bool,
    pub(crate) vectors: Range<usize>,
    pub(crate) scratch: Range<usize>,
    pub(crate) scalar_sums: Range<usize>,
    pub(crate) vector_sums: Range<usize>,
    /// It takes no part: it has retired, or does not apply to the tensor.
    pub(crate) idle: bool,
}

/// A column that a sweep touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ColumnUse {
    pub(crate) index: usize,
    pub(crate) stored: bool,
}

/// One pass over a tensor.
#[derive(Clone, Debug)]
pub(crate) struct Sweep {
    pub(crate) number: usize,
    /// The stages that run are those before this one.
    pub(crate) end: usize,
    /// Whether transforms commit, and the writer applies.
    pub(crate) last: bool,
    /// Whether the parameter is looked at.
    pub(crate) parameter: bool,
    /// The columns touched, in the order of the tensor's list.
    pub(crate) columns: Vec<ColumnUse>,
}

/// The plan of one tensor.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) stages: Vec<Stage>,
    pub(crate) columns: Vec<ColumnSpec>,
    pub(crate) sweeps: Vec<Sweep>,
    /// The writer's base column, in the tensor's list.
    pub(crate) base: Option<usize>,
    pub(crate) scalar_sums: usize,
    pub(crate) vector_sums: usize,
}

impl Plan {
    pub(crate) fn new<T: Real>(stages: &Stages<'_, T>, step: &StepContext, tensor: &TensorInfo) -> Self {
        let mut plan = Self {
            stages: Vec::new(),
            columns: Vec::new(),
            sweeps: Vec::new(),
            base: None,
            scalar_sums: 0,
            vector_sums: 0,
        };
        let (mut sweep, mut vectors, mut scratch) = (0, 0, 0);
        for transform in stages {
            let idle = transform.is_idle(step, tensor);
            let spec = if idle { Default::default() } else { transform.state(tensor) };
            let role = transform.role(tensor);
            let first = plan.columns.len();
            if let Some(column) = transform.writer().and_then(|w| w.base_column()) {
                plan.base = Some(first + column);
            }
            plan.columns.extend(spec.columns);
            plan.stages.push(Stage {
                role,
                reads: transform.reads(),
                sweep,
                columns: first..plan.columns.len(),
                commits: transform.commits_columns() || role == Role::Writer,
                vectors: vectors..vectors + spec.vectors.len(),
                scratch: scratch..scratch + spec.scratch.len(),
                scalar_sums: plan.scalar_sums..plan.scalar_sums + spec.scalar_sums,
                vector_sums: plan.vector_sums..plan.vector_sums + spec.vector_sums,
                idle,
            });
            vectors += spec.vectors.len();
            scratch += spec.scratch.len();
            plan.scalar_sums += spec.scalar_sums;
            plan.vector_sums += spec.vector_sums;
            if role == Role::Reduce && !idle {
                sweep += 1;
            }
        }
        for stage in &mut plan.stages {
            if stage.role == Role::Observer {
                stage.sweep = sweep;
            }
        }
        plan.sweeps =
            (0..=sweep).map(|number| plan.sweep(number, plan.stages.len(), number == sweep)).collect();
        plan
    }

    /// Sweep `number` over the stages before `end`, of which the last runs whether or not it can emit.
    pub(crate) fn sweep(&self, number: usize, end: usize, last: bool) -> Sweep {
        let barrier = self.stages[..end]
            .iter()
            .position(|s| s.role == Role::Reduce && !s.idle && s.sweep == number)
            .filter(|_| !last);
        let end = barrier.map_or(end, |b| b + 1);
        let running =
            || self.stages[..end].iter().filter(move |s| !s.idle && (s.role != Role::Observer || last));
        let parameter = last
            || running().any(|s| {
                s.reads.parameter || s.role == Role::Writer || (s.reads.base && self.base.is_none())
            });
        let base_read = running().any(|s| s.reads.base);
        let mut columns: Vec<ColumnUse> = Vec::new();
        for stage in running() {
            // A writer's sweep is the first in which it runs, but its columns change in the last alone.
            let observes = stage.sweep == number && stage.role != Role::Writer;
            let stored = observes || (last && stage.commits);
            columns.extend(
                stage
                    .columns
                    .clone()
                    .map(|index| ColumnUse { index, stored: stored && !self.columns[index].constant }),
            );
        }
        if let Some(base) = self.base.filter(|base| base_read && columns.iter().all(|c| c.index != *base)) {
            columns.push(ColumnUse { index: base, stored: false });
        }
        columns.sort_by_key(|c| c.index);
        Sweep { number, end, last, parameter, columns }
    }

    /// Bytes that cross the memory bus for one step over `len` elements, if every sweep reads its columns anew.
    pub(crate) fn bytes(&self, len: usize, parameter: DType, columns: &[Buffer]) -> u64 {
        self.sweeps
            .iter()
            .map(|sweep| {
                let element = parameter.size() * len;
                let gradient = element;
                let value = if sweep.last { 2 * element } else { usize::from(sweep.parameter) * element };
                let kept: usize = sweep
                    .columns
                    .iter()
                    .map(|c| {
                        // By its declared length: workspace has no memory between steps.
                        let elements = len.div_ceil(self.columns[c.index].every);
                        elements * columns[c.index].dtype().size() * (1 + usize::from(c.stored))
                    })
                    .sum();
                (gradient + value + kept) as u64
            })
            .sum()
    }
}
