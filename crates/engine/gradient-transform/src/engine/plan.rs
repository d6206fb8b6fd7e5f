//! How a chain runs over one tensor: the transforms of each sweep, and the columns that cross the memory bus.

use std::any::TypeId;
use std::ops::Range;

use crate::link::compose::Stages;
use crate::link::context::{StepContext, TensorInfo};
use crate::link::loops::Program;
use crate::link::state::ColumnSpec;
use crate::link::{Reads, Role};
use crate::memory::element::{DType, Real};
use crate::memory::sums::SumLayout;

/// One transform's place in the plan of a tensor. The ranges are into the tensor's lists, all transforms together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stage {
    pub(crate) role: Role,
    pub(crate) reads: Reads,
    /// The sweep in which it observes.
    pub(crate) sweep: usize,
    pub(crate) columns: Range<usize>,
    /// Its columns change in the last sweep, whenever it observes.
    pub(crate) commits: bool,
    /// It only multiplies the update by this entry of its first workspace array.
    pub(crate) scales: Option<usize>,
    /// Its sums show an element of the update that is too large.
    pub(crate) shows_unusable: bool,
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

/// Work of a sweep with a transform on every tile, after the transform has observed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Nothing,
    Emit,
    Commit,
    /// A writer without transforms after it completes the update.
    Direct,
    /// A writer with transforms after it turns the update into a displacement.
    Displace,
}

/// Source of a transform's base iterate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// It does not read it, or the base is its own column.
    Unread,
    Parameter,
    /// Among the sweep's columns.
    Column(usize),
}

/// The work of one transform on every tile of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) stage: usize,
    pub(crate) observes: bool,
    pub(crate) then: Then,
    /// Its columns, among the sweep's.
    pub(crate) columns: Range<usize>,
    pub(crate) base: Base,
}

impl Call {
    /// Whether it may add to its sums.
    pub(crate) fn gathers(&self) -> bool {
        self.observes || self.then == Then::Commit
    }

    /// Whether it may add to its arrays of sums: a reduction's are complete when it commits.
    pub(crate) fn gathers_arrays(&self, stages: &[Stage]) -> bool {
        let stage = &stages[self.stage];
        !stage.vector_sums.is_empty()
            && (self.observes || (self.then == Then::Commit && stage.role != Role::Reduce))
    }
}

/// One pass over a tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sweep {
    pub(crate) number: usize,
    pub(crate) calls: Vec<Call>,
    /// The call of the writer that moves the parameter when all others are done: in the last sweep, if no
    /// transform holds the tensor.
    pub(crate) writer: Option<usize>,
    /// Whether the parameter is read.
    pub(crate) parameter: bool,
    /// The columns touched, in the order of the tensor's list.
    pub(crate) columns: Vec<ColumnUse>,
    /// Its work, if it is one loop.
    pub(crate) program: Option<Program>,
}

/// The plan of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) stages: Vec<Stage>,
    pub(crate) columns: Vec<ColumnSpec>,
    /// The names of the vectors.
    pub(crate) vectors: Vec<&'static str>,
    pub(crate) sweeps: Vec<Sweep>,
    /// The writer's base column, in the tensor's list.
    pub(crate) base: Option<usize>,
    /// The column of the writer's evaluation point, in the tensor's list.
    pub(crate) average: Option<usize>,
    pub(crate) scalar_sums: usize,
    pub(crate) vector_sums: Vec<SumLayout>,
    /// Index of the loops that run the chain, among those of its composition.
    pub(crate) loops: Option<usize>,
}

impl Plan {
    pub(crate) fn new<T: Real>(stages: &Stages<'_, T>, step: &StepContext, tensor: &TensorInfo) -> Self {
        let mut plan = Self {
            stages: Vec::new(),
            columns: Vec::new(),
            vectors: Vec::new(),
            sweeps: Vec::new(),
            base: None,
            average: None,
            scalar_sums: 0,
            vector_sums: Vec::new(),
            loops: None,
        };
        let (mut sweep, mut scratch) = (0, 0);
        for transform in stages {
            let idle = transform.is_idle(step, tensor);
            let spec = if idle { Default::default() } else { transform.state(tensor) };
            let role = transform.role(tensor);
            let first = plan.columns.len();
            if let Some(column) = transform.writer().and_then(|w| w.base_column()) {
                plan.base = Some(first + column);
            }
            if let Some(column) = transform.writer().and_then(|w| w.average_column()) {
                plan.average = Some(first + column);
            }
            plan.columns.extend(spec.columns);
            let vectors = plan.vectors.len();
            plan.vectors.extend(spec.vectors.iter().map(|vector| vector.name));
            plan.stages.push(Stage {
                role,
                reads: transform.reads(),
                sweep,
                columns: first..plan.columns.len(),
                commits: transform.commits_columns() || role == Role::Writer,
                scales: transform.scales(),
                shows_unusable: transform.sums_show_unusable(tensor),
                vectors: vectors..plan.vectors.len(),
                scratch: scratch..scratch + spec.scratch.len(),
                scalar_sums: plan.scalar_sums..plan.scalar_sums + spec.scalar_sums,
                vector_sums: plan.vector_sums.len()..plan.vector_sums.len() + spec.vector_sums.len(),
                idle,
            });
            scratch += spec.scratch.len();
            plan.scalar_sums += spec.scalar_sums;
            plan.vector_sums
                .extend(spec.vector_sums.iter().map(|&shape| SumLayout::new(shape, &tensor.shape)));
            if role == Role::Reduce && !idle {
                sweep += 1;
            }
        }
        for stage in &mut plan.stages {
            if stage.role == Role::Observer {
                stage.sweep = sweep;
            }
        }
        plan.sweeps = plan.sweeps_to(sweep, None);
        plan.fuse(stages);
        plan
    }

    /// Finds loops that were made for the active transforms, apart from observers that do not read the
    /// update.
    fn fuse<T: Real>(&mut self, stages: &Stages<'_, T>) {
        let member = |i: &usize| !self.stages[*i].idle && self.stages[*i].role != Role::Observer;
        let members: Vec<usize> = (0..stages.len()).filter(member).collect();
        let types: Option<Vec<TypeId>> =
            members.iter().map(|&i| Some(stages[i].concrete()?.type_id())).collect();
        let observes = |stage: &&Stage| !stage.idle && stage.role == Role::Observer;
        if self.stages.iter().filter(observes).any(|stage| stage.reads.update || stage.reads.base) {
            return;
        }
        let (Some(types), Some(first)) = (types, stages.first()) else { return };
        let Some(loops) = first.loops.iter().position(|loops| loops.types() == types) else { return };
        let programs: Option<Vec<Program>> =
            self.sweeps.iter().map(|sweep| self.program(sweep, &members)).collect();
        if let Some(programs) = programs {
            self.loops = Some(loops);
            self.sweeps.iter_mut().zip(programs).for_each(|(sweep, program)| sweep.program = Some(program));
        }
    }

    /// Work of a sweep as one loop, if the chain consists of `members` and observers.
    fn program(&self, sweep: &Sweep, members: &[usize]) -> Option<Program> {
        let calls = sweep.calls.iter().filter(|call| self.stages[call.stage].role != Role::Observer);
        let (mut count, mut last) = (0, None);
        for call in calls {
            if members.get(count) != Some(&call.stage) {
                return None;
            }
            (count, last) = (count + 1, Some(call));
        }
        match (sweep.writer, last?.then) {
            (Some(_), _) => (count == members.len()).then_some(Program::Commit),
            (None, Then::Nothing) if last?.observes => Some(Program::Measure(count - 1)),
            (None, _) => None,
        }
    }

    /// Whether nothing is lost if a step ends after the first sweep.
    pub(crate) fn first_sweep_stores_nothing(&self) -> bool {
        self.sweeps.len() > 1 && self.sweeps[0].columns.iter().all(|c| !c.stored)
    }

    /// The sweeps of a step in which stage `held` holds the tensor: it observes, and later stages do not run.
    pub(crate) fn sweeps_of_held(&self, held: usize) -> Vec<Sweep> {
        self.sweeps_to(self.stages[held].sweep, Some(held))
    }

    fn sweeps_to(&self, last: usize, held: Option<usize>) -> Vec<Sweep> {
        (0..=last).map(|number| self.sweep(number, number == last, held)).collect()
    }

    fn sweep(&self, number: usize, last: bool, held: Option<usize>) -> Sweep {
        let reduces = |s: &Stage| s.role == Role::Reduce && s.sweep == number && !last;
        let ends = |i: &usize| held == Some(*i) || (reduces(&self.stages[*i]) && !self.stages[*i].idle);
        let end = (0..self.stages.len()).find(ends).map_or(self.stages.len(), |i| i + 1);
        let running: Vec<(usize, &Stage)> = self.stages[..end]
            .iter()
            .enumerate()
            .filter(|(_, s)| !s.idle && (s.role != Role::Observer || last))
            .collect();
        // A writer's sweep is the first in which it runs, but its columns change only in the last.
        let observes = |i: usize, s: &Stage| held == Some(i) || (s.sweep == number && s.role != Role::Writer);

        let parameter = last
            || running.iter().any(|(_, s)| {
                s.reads.parameter || s.role == Role::Writer || (s.reads.base && self.base.is_none())
            });
        let mut columns: Vec<ColumnUse> = Vec::new();
        for &(i, stage) in &running {
            let stored = if stage.commits { last || held == Some(i) } else { observes(i, stage) };
            let used = |index| ColumnUse { index, stored: stored && !self.columns[index].constant };
            columns.extend(stage.columns.clone().map(used));
        }
        let base_read = running.iter().any(|(_, s)| s.reads.base);
        if let Some(base) = self.base.filter(|base| base_read && columns.iter().all(|c| c.index != *base)) {
            columns.push(ColumnUse { index: base, stored: false });
        }
        columns.sort_by_key(|c| c.index);

        let among = |column: usize| columns.partition_point(|c| c.index < column);
        let calls: Vec<Call> = running
            .iter()
            .map(|&(i, stage)| Call {
                stage: i,
                observes: observes(i, stage),
                then: match stage.role {
                    _ if held == Some(i) => Then::Nothing,
                    Role::Writer if i + 1 < end => Then::Displace,
                    Role::Writer => Then::Direct,
                    Role::Observer => Then::Nothing,
                    _ if last => Then::Commit,
                    _ if reduces(stage) => Then::Nothing,
                    _ => Then::Emit,
                },
                columns: among(stage.columns.start)..among(stage.columns.end),
                base: match self.base {
                    _ if !stage.reads.base => Base::Unread,
                    None => Base::Parameter,
                    Some(base) if stage.columns.contains(&base) => Base::Unread,
                    Some(base) => Base::Column(among(base)),
                },
            })
            .collect();
        let writer = calls.iter().position(|c| matches!(c.then, Then::Direct | Then::Displace));
        Sweep {
            number,
            calls,
            writer: writer.filter(|_| last && held.is_none()),
            parameter,
            columns,
            program: None,
        }
    }

    /// Bytes that cross the memory bus for one step over `len` elements, if every sweep reads its columns
    /// from memory.
    pub(crate) fn bytes(
        &self,
        len: usize,
        gradient: DType,
        parameter: DType,
        column: impl Fn(usize) -> DType,
    ) -> u64 {
        self.sweeps
            .iter()
            .map(|sweep| {
                let element = parameter.size() * len;
                let gradient = gradient.size() * len;
                let value =
                    if sweep.writer.is_some() { 2 * element } else { usize::from(sweep.parameter) * element };
                let kept: usize = sweep
                    .columns
                    .iter()
                    .map(|c| {
                        // By its declared length: workspace has no memory between steps.
                        let elements = len.div_ceil(self.columns[c.index].every);
                        elements * column(c.index).size() * (1 + usize::from(c.stored))
                    })
                    .sum();
                (gradient + value + kept) as u64
            })
            .sum()
    }
}
