//! Steps of a tensor whose sweeps run elsewhere: the host's work before, between and after them.

use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::engine::formula::Variants;
use crate::engine::plan::{Plan, Sweep};
use crate::engine::tensor::{NewColumn, Progress, Run, Tensor};
use crate::link::Role;
use crate::link::context::Context;
use crate::link::formula::FormulaNumbers;
use crate::link::matrices::MatrixNumbers;
use crate::memory::buffer::Buffer;
use crate::memory::element::{DType, Real};
use crate::memory::rounding::{Stream, hash_name};

/// A sweep of a tensor that is to run elsewhere: the parts of the tensor's state that are on the host.
pub(crate) struct HostPart<'a, T> {
    /// Arrays along axes; empty if a stage does not have the array.
    pub(crate) along: SmallVec<[&'a [T]; 4]>,
    pub(crate) sums: &'a mut [f64],
    pub(crate) sums_along: SmallVec<[&'a mut [T]; 4]>,
    pub(crate) parameter_stream: u64,
    pub(crate) column_streams: SmallVec<[u64; 8]>,
    pub(crate) shape: &'a [usize],
}

/// A sweep that is to run elsewhere.
pub(crate) struct NextSweep<T> {
    pub(crate) number: usize,
    /// The stage that holds the tensor.
    pub(crate) held: Option<usize>,
    /// The observer that does not observe.
    pub(crate) still: Option<usize>,
    pub(crate) variants: Variants,
    pub(crate) numbers: Numbers<T>,
}

/// The sweep in which the transform `until` computes its sums, if the tensor has it; or the last
/// one.
fn last_sweep<T: Real>(
    run: &Run<'_, T>,
    plan: &Plan,
    held: Option<usize>,
    until: Option<&str>,
) -> Option<usize> {
    let end = held.map_or(plan.stages.len(), |held| held + 1);
    let Some(name) = until else {
        return Some(held.map_or(plan.sweeps.len() - 1, |held| plan.stages[held].sweep));
    };
    let stage = run.stages[..end].iter().position(|stage| stage.name() == name)?;
    (!plan.stages[stage].idle).then_some(plan.stages[stage].sweep)
}

/// Numbers of a tensor and step, those of all stages in a row.
pub(crate) type Numbers<T> = SmallVec<[T; 16]>;

impl<T: Real> Tensor<T> {
    /// Whether [`begin_elsewhere`](Self::begin_elsewhere) would replace the existing plan, and so needs the
    /// columns on the host.
    pub(crate) fn is_replanned(&self, run: &Run<'_, T>) -> bool {
        self.plan.is_some() && !self.is_planned(run)
    }

    /// Whether the first sweep of the step stores nothing, and its sums show an element of the gradient that is too large or not finite. It
    /// has to be planned already, without values that are new in every step.
    pub(crate) fn first_sweep_shows_unusable(&mut self, run: &Run<'_, T>) -> bool {
        let is_planned = self.is_planned(run);
        let shows = self.with_plan(run, |_, plan, _, held| {
            let first = plan.stages.iter().find(|stage| !stage.idle);
            first.is_some_and(|stage| stage.shows_unusable)
                && plan.first_sweep_stores_nothing()
                && held.is_none()
                && !plan.columns.iter().any(|column| column.initial.is_of_a_step())
        });
        is_planned && shows == Some(true)
    }

    /// Whether the sums of such a sweep have no invalid element in them.
    pub(crate) fn sums_of_first_sweep_are_small(&self) -> bool {
        let first = self.plan.as_ref().and_then(|plan| plan.stages.iter().find(|stage| !stage.idle));
        first.is_some_and(|stage| self.sums_are_small(stage))
    }

    /// Begins a step. `make` allocates new columns.
    pub(crate) fn begin_elsewhere(
        &mut self,
        run: &Run<'_, T>,
        [parameter, gradient]: [DType; 2],
        make: &mut dyn FnMut(NewColumn<'_>) -> Buffer,
    ) {
        if !self.is_typed() {
            self.info.dtype = parameter;
        }
        self.gradient = gradient;
        if !self.is_planned(run) {
            self.plan_anew(run, self.info.len(), make);
        }
        self.with_plan(run, |tensor, plan, cx, held| {
            let end = held.map_or(plan.stages.len(), |held| held + 1);
            tensor.begin(run, plan, cx, end);
        });
    }

    /// Takes out the values that are new in the step, by column.
    pub(crate) fn take_values_of_step(&mut self) -> Vec<(usize, Buffer)> {
        let Self { plan: Some(plan), columns, .. } = self else { return Vec::new() };
        let of_step = plan.columns.iter().zip(columns).enumerate();
        let of_step = of_step.filter(|(_, (spec, _))| spec.initial.is_of_a_step());
        of_step.map(|(i, (_, buffer))| (i, std::mem::replace(buffer, Buffer::zeros(T::DTYPE, 0)))).collect()
    }

    /// The next sweep of the step, unless all are done, or the transform `until` has computed its
    /// sums.
    pub(crate) fn next_sweep(&mut self, run: &Run<'_, T>, until: Option<&str>) -> Option<NextSweep<T>> {
        self.with_plan(run, |tensor, plan, cx, held| {
            let number = tensor.progress.swept;
            if number > last_sweep(run, plan, held, until)? {
                return None;
            }
            let (still, variants) = (run.still_observer(plan), Variants::new());
            let mut next = NextSweep { number, held, still, variants, numbers: Numbers::new() };
            for i in 0..plan.stages.len() {
                let given = tensor.numbers(run, plan, i, cx);
                next.variants.push((next.numbers.len() as u32, given.variant));
                next.numbers.extend(given.values);
            }
            Some(next)
        })?
    }

    /// The plan, and a sweep of it.
    pub(crate) fn planned(&self, next: &NextSweep<T>) -> Option<(&Arc<Plan>, Sweep)> {
        let plan = self.plan.as_ref()?;
        let sweep = match next.held {
            Some(held) => plan.sweeps_of_held(held).into_iter().nth(next.number)?,
            None => plan.sweeps.get(next.number)?.clone(),
        };
        Some((plan, sweep))
    }

    /// The address of the plan.
    pub(crate) fn plan_address(&self) -> usize {
        self.plan.as_ref().map_or(0, |plan| Arc::as_ptr(plan).addr())
    }

    /// The columns with the writer's base iterate and with its average, once there is a plan.
    pub(crate) fn columns_of_writer(&self) -> Option<[Option<usize>; 2]> {
        self.plan.as_ref().map(|plan| [plan.base, plan.average])
    }

    /// The host's part of a sweep.
    pub(crate) fn host_part(&mut self, run: &Run<'_, T>) -> Option<HostPart<'_, T>> {
        let plan = self.plan.clone()?;
        let Self { scratch, scalar_sums, vector_sums, info, column_keys, .. } = self;
        let mut along: SmallVec<[&[T]; 4]> = SmallVec::from_elem(&[][..], plan.vector_sums.len());
        for stage in &plan.stages {
            let arrays = scratch[stage.scratch.clone()].iter().skip(1);
            stage.vector_sums.clone().zip(arrays).for_each(|(i, values)| along[i] = values);
        }
        let key = hash_name(&info.name);
        let stream = |column| Stream::new(run.seed, key, column, info.updates).key();
        Some(HostPart {
            along,
            sums: &mut scalar_sums[..plan.scalar_sums],
            sums_along: vector_sums
                .iter_mut()
                .zip(&plan.vector_sums)
                .map(|(sums, layout)| sums.at(0, layout.len))
                .collect(),
            parameter_stream: stream(0),
            column_streams: column_keys.iter().map(|&column| stream(column)).collect(),
            shape: &info.shape,
        })
    }

    /// Notes that a sweep has run.
    pub(crate) fn note_swept(&mut self) {
        self.progress.swept += 1;
    }

    /// Finalizes the sums of the latest sweep, unless the transform `until` has computed its sums in it,
    /// which are not complete then.
    pub(crate) fn seal_elsewhere(&mut self, run: &Run<'_, T>, until: Option<&str>) {
        self.with_plan(run, |tensor, plan, cx, held| {
            let end = held.map_or(plan.stages.len(), |held| held + 1);
            if tensor.is_to_be_sealed(run, plan, held, until) {
                tensor.seal(run, plan, tensor.progress.sealed, cx, held, end);
            }
        });
    }

    fn is_to_be_sealed(
        &self,
        run: &Run<'_, T>,
        plan: &Plan,
        held: Option<usize>,
        until: Option<&str>,
    ) -> bool {
        let Progress { swept, sealed, .. } = self.progress;
        let waits = match last_sweep(run, plan, held, until) {
            Some(last) => until.is_some() && swept == last + 1,
            None => true,
        };
        sealed < swept && !waits
    }

    /// The stage that the chain was cut after in the latest sweep, if it is to be sealed: one with work on whole matrices does it now.
    pub(crate) fn reduction_to_seal(&mut self, run: &Run<'_, T>, until: Option<&str>) -> Option<usize> {
        self.with_plan(run, |tensor, plan, _, held| {
            let sealed = tensor.progress.sealed;
            let reduces = |i: &usize| {
                let stage = &plan.stages[*i];
                stage.role == Role::Reduce && stage.sweep == sealed && !stage.idle && held != Some(*i)
            };
            let end = held.unwrap_or(plan.stages.len());
            (0..end).find(reduces).filter(|_| tensor.is_to_be_sealed(run, plan, held, until))
        })?
    }

    /// The place of a stage's columns among the tensor's.
    pub(crate) fn columns_of(&self, stage: usize) -> Range<usize> {
        self.plan.as_ref().map_or(0..0, |plan| plan.stages[stage].columns.clone())
    }

    /// Has a stage give the numbers of later steps of its work on whole matrices.
    pub(crate) fn matrix_numbers(
        &mut self,
        run: &Run<'_, T>,
        stage: usize,
        call: usize,
        numbers: &mut MatrixNumbers<T>,
    ) {
        self.with_plan(run, |tensor, plan, cx, _| {
            let cx = cx.of(tensor.fresh[stage]);
            run.stages[stage].matrix_numbers(&cx, call, numbers, tensor.state(plan, stage));
        });
    }

    /// A stage's work on whole matrices is done.
    pub(crate) fn note_multiplied(&mut self, stage: usize) {
        self.progress.multiplied = Some(stage);
    }

    /// Ends the step.
    pub(crate) fn conclude_elsewhere(&mut self, run: &Run<'_, T>) {
        self.with_plan(run, |tensor, plan, cx, held| {
            let end = held.map_or(plan.stages.len(), |held| held + 1);
            tensor.conclude(run, plan, cx, held, end);
        });
        self.info.updates += 1;
    }

    /// Stores copies of the columns on the host.
    pub(crate) fn bring_columns(&mut self, columns: Vec<Buffer>) {
        if self.plan.is_some() {
            self.columns = columns;
        }
    }

    /// Frees the memory of such copies.
    pub(crate) fn forget_columns(&mut self) {
        for column in &mut self.columns {
            *column = Buffer::zeros(column.dtype(), 0);
        }
    }

    fn with_plan<R>(
        &mut self,
        run: &Run<'_, T>,
        f: impl FnOnce(&mut Self, &Plan, &Context<'_>, Option<usize>) -> R,
    ) -> Option<R> {
        let plan = self.plan.take()?;
        let info = self.info.take_for_step();
        let cx = self.context(run, &info);
        let held = self.held(run, &plan, &cx);
        let result = f(self, &plan, &cx, held);
        self.info.return_from_step(info);
        self.plan = Some(plan);
        Some(result)
    }

    /// The numbers of a stage, and its variant.
    fn numbers(&self, run: &Run<'_, T>, plan: &Plan, stage: usize, cx: &Context<'_>) -> FormulaNumbers<T> {
        if plan.stages[stage].idle {
            return FormulaNumbers::default();
        }
        let scratch = &self.scratch[plan.stages[stage].scratch.clone()];
        run.stages[stage].formula_numbers(&cx.of(self.fresh[stage]), scratch)
    }
}
