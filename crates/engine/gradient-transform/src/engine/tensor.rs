//! One parameter's state, and a step over it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use smallvec::SmallVec;

use crate::engine::comparison::Comparison;
use crate::engine::plan::{Plan, Stage, Sweep};
use crate::engine::sweep::watch::{Coverage, Sample, Seen, Watch};
use crate::engine::sweep::{Active, Job, ScratchPool, Work};
use crate::layout::CHUNK;
use crate::link::Role;
use crate::link::compose::Stages;
use crate::link::context::{Context, StepContext, TensorInfo};
use crate::link::state::{ColumnSpec, Initial, TensorState, key};
use crate::link::writer::WriterLink;
use crate::memory::buffer::{Buffer, Slice, SliceMut};
use crate::memory::element::{DType, Real, Scalar};
use crate::memory::noise::normals;
use crate::memory::rounding::{Rounding, Stream, hash_name};
use crate::memory::sums::Gathered;

/// Outcome of a step on one tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) updated: bool,
    /// Its contribution to the estimator's numerator and denominator.
    pub(crate) contribution: [f64; 2],
}

/// The sweeps of a step that have run, and those after which the transforms were sealed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    pub(super) swept: usize,
    pub(super) sealed: usize,
    /// The stage whose work on whole matrices was done elsewhere, in place of its seal.
    pub(super) multiplied: Option<usize>,
    /// Its gradient is invalid, so the step is over for it.
    pub(crate) refused: bool,
}

impl Progress {
    /// That of a tensor with an invalid gradient.
    pub(crate) fn refused() -> Self {
        Self { refused: true, ..Self::default() }
    }

    /// Whether the first sweep has run, in the check of gradients.
    pub(crate) fn has_begun(&self) -> bool {
        self.swept > 0
    }
}

/// Data shared by the tensors of a step, besides the context.
pub(crate) struct Run<'a, T: 'static> {
    pub(crate) stages: &'a Stages<'a, T>,
    pub(crate) step: &'a StepContext,
    /// The stage of an estimator that does not learn from the step.
    pub(crate) still: Option<usize>,
    pub(crate) rounding: Rounding,
    pub(crate) seed: u64,
    pub(crate) pool: &'a ScratchPool<T>,
    pub(crate) parallel: bool,
    /// The coverage of the record, if the step is recorded.
    pub(crate) recorded: Option<Coverage>,
}

impl<T: Real> Run<'_, T> {
    /// The observer that does not observe in the step.
    pub(super) fn still_observer(&self, plan: &Plan) -> Option<usize> {
        self.still.filter(|&stage| plan.stages[stage].role == Role::Observer)
    }
}

/// A registered parameter and its state.
#[derive(Debug)]
pub(crate) struct Tensor<T> {
    pub(crate) info: TensorInfo,
    pub(crate) group: usize,
    /// The latest gradient's type.
    pub(super) gradient: DType,
    /// Created at the first gradient, when the element type is known.
    pub(super) plan: Option<Arc<Plan>>,
    pub(super) columns: Vec<Buffer>,
    vectors: Vec<Buffer>,
    pub(super) scratch: Vec<Vec<T>>,
    pub(super) scalar_sums: Vec<f64>,
    pub(super) vector_sums: Vec<Gathered<T>>,
    /// Work of the links in the latest step that was recorded, by chunk; in the first row, all of it.
    seen: Vec<Comparison>,
    pub(super) column_keys: Vec<u64>,
    /// State by `transform/array`, loaded or kept from another chain, that waits for its transform.
    waiting: BTreeMap<String, Buffer>,
    /// For every transform of the plan: whether it has not had a gradient of this tensor yet.
    pub(super) fresh: Vec<bool>,
    /// The names of the transforms that have not, while there is no plan.
    waiting_fresh: BTreeSet<String>,
    /// The sum of the accumulated gradients; during the step, their mean.
    pub(crate) accumulated: Option<Buffer>,
    /// The caller's array for the next step.
    pub(crate) given: Option<Buffer>,
    /// Progress of the current step.
    pub(crate) progress: Progress,
    pub(crate) outcome: Option<Outcome>,
}

impl<T: Real> Tensor<T> {
    pub(crate) fn new(name: String, shape: Vec<usize>, group: usize) -> Self {
        Self {
            info: TensorInfo { name, shape, dtype: DType::F32, updates: 0 },
            group,
            gradient: DType::F32,
            plan: None,
            columns: Vec::new(),
            vectors: Vec::new(),
            scratch: Vec::new(),
            scalar_sums: Vec::new(),
            vector_sums: Vec::new(),
            seen: Vec::new(),
            column_keys: Vec::new(),
            waiting: BTreeMap::new(),
            fresh: Vec::new(),
            waiting_fresh: BTreeSet::new(),
            accumulated: None,
            given: None,
            progress: Progress::default(),
            outcome: None,
        }
    }

    pub(super) fn context<'a>(&self, run: &Run<'a, T>, info: &'a TensorInfo) -> Context<'a> {
        Context { given: self.given.is_some(), ..Context::new(run.step, info) }
    }

    /// Whether the element type is fixed, by a gradient or by loaded state.
    pub(crate) fn is_typed(&self) -> bool {
        self.plan.is_some() || self.info.updates > 0
    }

    /// Whether the gradient is valid: finite, and at most [`Real::LARGEST_GRADIENT`]. If the first sweep
    /// stores nothing, it runs here, so that the gradient is not read again; no state has changed when this
    /// returns.
    pub(crate) fn examine(&mut self, run: &Run<'_, T>, parameter: SliceMut<'_>, gradient: Slice<'_>) -> bool {
        let unchanged = self.is_planned(run);
        let Some(plan) = self.plan.take_if(|plan| unchanged && plan.first_sweep_stores_nothing()) else {
            return gradient.first_beyond(T::LARGEST_GRADIENT, run.parallel).is_none();
        };
        let info = self.info.take_for_step();
        let cx = self.context(run, &info);
        let finite = if self.held(run, &plan, &cx).is_some() {
            gradient.first_beyond(T::LARGEST_GRADIENT, run.parallel).is_none()
        } else {
            self.begin(run, &plan, &cx, plan.stages.len());
            let first = plan.stages.iter().position(|stage| !stage.idle).unwrap_or_default();
            let shown = plan.stages[first].shows_unusable;
            let seen = AtomicBool::new(true);
            self.sweep(
                run,
                &plan,
                &plan.sweeps[0],
                &cx,
                parameter,
                gradient,
                (!shown).then_some(&seen),
                None,
            );
            self.progress.swept = 1;
            if shown {
                // Many large elements can have the same sum as one that is too large.
                self.sums_are_small(&plan.stages[first])
                    || gradient.first_beyond(T::LARGEST_GRADIENT, run.parallel).is_none()
            } else {
                seen.into_inner()
            }
        };
        self.info.return_from_step(info);
        self.plan = Some(plan);
        finite
    }

    /// Whether no sum of squares has an element in it that is too large.
    pub(super) fn sums_are_small(&self, stage: &Stage) -> bool {
        let limit = T::LARGEST_GRADIENT * T::LARGEST_GRADIENT;
        f64::slice(&self.scalar_sums[stage.scalar_sums.clone()]).is_within(limit)
            && self.vector_sums[stage.vector_sums.clone()]
                .iter()
                .all(|v| T::slice(v.values()).is_within(limit))
    }

    /// One step, until the transform `until` has computed its sums, or to its end. The slices have the
    /// tensor's length, and the gradient is finite.
    pub(crate) fn step(
        &mut self,
        run: &Run<'_, T>,
        mut parameter: SliceMut<'_>,
        gradient: Slice<'_>,
        until: Option<&str>,
    ) {
        if !self.is_typed() {
            self.info.dtype = parameter.dtype();
        }
        self.gradient = gradient.dtype();
        self.prepare(run, parameter.as_slice());
        let Some(plan) = self.plan.take() else { return };
        self.seen.clear();
        if run.recorded.is_some() {
            let chunks = parameter.len().div_ceil(CHUNK).max(1);
            self.seen.resize(chunks * Watch::<T>::slots(&plan), Comparison::default());
        }
        let info = self.info.take_for_step();
        if self.advance(run, &plan, &info, parameter.reborrow(), gradient, until) {
            self.info.updates += 1;
        }
        self.info.return_from_step(info);
        self.plan = Some(plan);
    }

    /// Continues a step; returns whether it is complete.
    fn advance(
        &mut self,
        run: &Run<'_, T>,
        plan: &Plan,
        info: &TensorInfo,
        mut parameter: SliceMut<'_>,
        gradient: Slice<'_>,
        until: Option<&str>,
    ) -> bool {
        let cx = self.context(run, info);
        let live = |i: usize| !plan.stages[i].idle;
        let held = self.held(run, plan, &cx);
        let end = held.map_or(plan.stages.len(), |h| h + 1);
        let until = until.map(|name| run.stages[..end].iter().position(|stage| stage.name() == name));
        let last = match until {
            Some(Some(stage)) if live(stage) => Some(plan.stages[stage].sweep),
            Some(_) => return false,
            None => None,
        };
        if self.progress.swept == 0 {
            self.begin(run, plan, &cx, end);
        }
        let of_held = held.map(|h| plan.sweeps_of_held(h));
        let sweeps: &[Sweep] = of_held.as_deref().unwrap_or(&plan.sweeps);
        for sweep in sweeps.iter().skip(self.progress.sealed) {
            if sweep.number >= self.progress.swept {
                let recorded = run.recorded.filter(|_| sweep.number + 1 == sweeps.len());
                self.sweep(run, plan, sweep, &cx, parameter.reborrow(), gradient, None, recorded);
                self.progress.swept += 1;
            }
            if last == Some(sweep.number) {
                return false;
            }
            self.seal(run, plan, sweep.number, &cx, held, end);
        }
        self.conclude(run, plan, &cx, held, end);
        true
    }

    /// Lets the stages finalize the sums that a sweep has completed.
    pub(super) fn seal(
        &mut self,
        run: &Run<'_, T>,
        plan: &Plan,
        sweep: usize,
        cx: &Context<'_>,
        held: Option<usize>,
        end: usize,
    ) {
        self.progress.sealed += 1;
        for (i, stage) in plan.stages[..end].iter().enumerate() {
            let done = [held, self.progress.multiplied].contains(&Some(i));
            if stage.sweep == sweep && !stage.idle && !done {
                run.stages[i].seal(&cx.of(self.fresh[i]), self.state(plan, i));
            }
        }
    }

    /// Ends a step after all its sweeps.
    pub(super) fn conclude(
        &mut self,
        run: &Run<'_, T>,
        plan: &Plan,
        cx: &Context<'_>,
        held: Option<usize>,
        end: usize,
    ) {
        let live = |i: usize| !plan.stages[i].idle;
        let still = run.still_observer(plan);
        for i in (0..end).filter(|&i| live(i) && still != Some(i)) {
            run.stages[i].finish(&cx.of(self.fresh[i]), self.state(plan, i));
        }
        let contribution = (0..end).filter(|&i| live(i) && run.still != Some(i)).find_map(|i| {
            let sums = &self.scalar_sums[plan.stages[i].scalar_sums.clone()];
            run.stages[i].estimator().map(|e| e.contribution(&cx.of(self.fresh[i]), sums))
        });
        for (buffer, _) in self.columns.iter_mut().zip(&plan.columns).filter(|(_, spec)| !spec.kept) {
            *buffer = Buffer::zeros(T::DTYPE, 0);
        }
        self.outcome =
            Some(Outcome { updated: held.is_none(), contribution: contribution.unwrap_or_default() });
        (0..end).filter(|&i| live(i)).for_each(|i| self.fresh[i] = false);
        self.progress = Progress::default();
    }

    /// A transform's sums over the tensor, if they have been computed in the current step.
    pub(crate) fn sums_of(&mut self, stage: usize) -> Option<&mut [f64]> {
        let stage = &self.plan.as_ref()?.stages[stage];
        let taken = !stage.idle && !self.progress.refused && self.progress.swept > stage.sweep;
        taken.then(|| &mut self.scalar_sums[stage.scalar_sums.clone()])
    }

    /// The stage that holds the tensor in this step.
    pub(super) fn held(&self, run: &Run<'_, T>, plan: &Plan, cx: &Context<'_>) -> Option<usize> {
        (0..plan.stages.len()).find(|&i| !plan.stages[i].idle && run.stages[i].holds(&cx.of(self.fresh[i])))
    }

    /// Clears sums and workspace, and prepares the stages before `end`.
    pub(super) fn begin(&mut self, run: &Run<'_, T>, plan: &Plan, cx: &Context<'_>, end: usize) {
        self.scalar_sums.fill(0.0);
        self.vector_sums.iter_mut().for_each(Gathered::clear);
        let columns = self.columns.iter_mut().zip(&plan.columns).zip(&self.column_keys);
        for ((buffer, spec), &key) in columns.filter(|((_, spec), _)| !spec.kept) {
            let len = cx.tensor.len().div_ceil(spec.every);
            *buffer = match (spec.initial, &self.given) {
                (Initial::Normal, _) => {
                    let stream = Stream::new(run.seed, hash_name(&cx.tensor.name), key, cx.tensor.updates);
                    T::buffer(normals::<T>(stream, len, run.parallel))
                }
                (Initial::Given, Some(given)) => given.clone(),
                _ => Buffer::zeros(T::DTYPE, len),
            };
        }
        for i in (0..end).filter(|&i| !plan.stages[i].idle) {
            run.stages[i].begin(&cx.of(self.fresh[i]), self.state(plan, i));
        }
    }

    #[allow(clippy::too_many_arguments)] // all of one step; a struct would be destructured at once
    fn sweep(
        &mut self,
        run: &Run<'_, T>,
        plan: &Plan,
        sweep: &Sweep,
        cx: &Context<'_>,
        parameter: SliceMut<'_>,
        gradient: Slice<'_>,
        finite: Option<&AtomicBool>,
        recorded: Option<Coverage>,
    ) {
        let parameter_key = hash_name(&cx.tensor.name);
        let streams: SmallVec<[Stream; 8]> = self
            .column_keys
            .iter()
            .map(|&key| Stream::new(run.seed, parameter_key, key, cx.tensor.updates))
            .collect();
        let job = Job {
            stages: run.stages,
            plan,
            sweep,
            loops: plan.loops.and_then(|loops| run.stages.first()?.loops.get(loops).copied()),
            writer: run.stages.iter().find_map(|t| t.writer()),
            still: run.still_observer(plan),
            cx: *cx,
            fresh: &self.fresh,
            scratch: &self.scratch,
            rounding: run.rounding,
            parameter_stream: Stream::new(run.seed, parameter_key, 0, cx.tensor.updates),
            column_streams: &streams,
            finite,
            sample: Sample::new(recorded.unwrap_or(Coverage::All), cx.tensor.len(), parameter_key),
            pool: run.pool,
            parallel: run.parallel,
        };
        let mut uses = sweep.columns.iter().peekable();
        let columns = self
            .columns
            .iter_mut()
            .enumerate()
            .filter_map(|(index, buffer)| {
                let used = uses.next_if(|u| u.index == index)?;
                let every = plan.columns[index].every;
                Some(Active { index, every, stored: used.stored, data: buffer.as_mut_slice(), tile: 0..0 })
            })
            .collect();
        let parameter = if sweep.parameter { parameter } else { SliceMut::F32(&mut []) };
        let scalar_sums = &mut self.scalar_sums;
        let seen = if recorded.is_some() { &mut self.seen[..] } else { &mut [] };
        let work = Work { start: 0, gradient, parameter, columns, scalar_sums, vector_sums: &mut [], seen };
        job.run_all(work, &mut self.vector_sums);
        for call in sweep.calls.iter().filter(|c| c.gathers()) {
            let stage = &plan.stages[call.stage];
            fold(&mut self.scalar_sums, plan.scalar_sums, stage.scalar_sums.clone());
        }
        if recorded.is_some() {
            let (all, chunks) = self.seen.split_at_mut(Watch::<T>::slots(plan));
            for chunk in chunks.chunks_exact(all.len()) {
                all.iter_mut().zip(chunk).for_each(|(all, chunk)| all.add(chunk));
            }
        }
    }

    /// Work of the links in the step before, if it was recorded.
    pub(crate) fn seen(&self) -> Option<Seen<'_>> {
        let plan = self.plan.as_ref().filter(|_| self.outcome.is_some() && !self.seen.is_empty())?;
        Some(Seen { plan, slots: &self.seen[..Watch::<T>::slots(plan)] })
    }

    pub(super) fn state(&mut self, plan: &Plan, i: usize) -> TensorState<'_, T> {
        let stage = &plan.stages[i];
        TensorState {
            columns: &mut self.columns[stage.columns.clone()],
            vectors: &mut self.vectors[stage.vectors.clone()],
            scratch: &mut self.scratch[stage.scratch.clone()],
            scalar_sums: &mut self.scalar_sums[stage.scalar_sums.clone()],
            vector_sums: &self.vector_sums[stage.vector_sums.clone()],
        }
    }

    /// Whether there is a plan, and the same transforms are active as when it was made.
    pub(super) fn is_planned(&self, run: &Run<'_, T>) -> bool {
        let Some(plan) = &self.plan else { return false };
        let mut stages = plan.stages.iter().zip(run.stages);
        stages.all(|(stage, transform)| stage.idle == transform.is_idle(run.step, &self.info))
    }

    /// Creates the plan and the state, unless they exist; creates them again when a transform has
    /// retired.
    fn prepare(&mut self, run: &Run<'_, T>, parameter: Slice<'_>) {
        if self.is_planned(run) {
            return;
        }
        self.plan_anew(run, parameter.len(), &mut |column| first_values(column, parameter));
    }

    /// Creates plan and state. `make` allocates the columns.
    pub(super) fn plan_anew(
        &mut self,
        run: &Run<'_, T>,
        len: usize,
        make: &mut dyn FnMut(NewColumn<'_>) -> Buffer,
    ) {
        if self.plan.is_some() {
            self.unplan(run.stages);
        }
        let plan = Plan::new(run.stages, run.step, &self.info);
        let chunks = len.div_ceil(CHUNK).max(1);
        self.scalar_sums = vec![0.0; chunks * plan.scalar_sums];
        self.vector_sums = plan.vector_sums.iter().map(|layout| Gathered::zeros(layout.len)).collect();
        for (transform, stage) in run.stages.iter().zip(&plan.stages) {
            if stage.idle {
                self.fresh.push(false);
                continue;
            }
            let spec = transform.state(&self.info);
            let (mut made, mut arrays) = (0, 0);
            for column in &spec.columns {
                let key = key(transform.name(), column.name);
                let dtype = column.storage.dtype::<T>(self.info.dtype);
                let elements = if column.kept { len.div_ceil(column.every) } else { 0 };
                let fits = |b: &Buffer| b.len() == elements || (b.is_empty() && column.is_constant_copy());
                let kept = self.waiting.remove(&key).filter(fits);
                made += usize::from(column.kept && kept.is_none());
                arrays += usize::from(column.kept);
                let kept = kept.map(|kept| converted(kept, dtype));
                self.columns.push(make(NewColumn { spec: column, dtype, len: elements, kept }));
                self.column_keys.push(hash_name(&key));
            }
            for vector in &spec.vectors {
                let key = key(transform.name(), vector.name);
                let dtype = vector.storage.dtype::<T>(self.info.dtype);
                let kept = self.waiting.remove(&key).filter(|b| b.len() == vector.len);
                made += usize::from(kept.is_none());
                arrays += 1;
                let kept = kept.map(|kept| converted(kept, dtype));
                self.vectors.push(kept.unwrap_or_else(|| Buffer::zeros(dtype, vector.len)));
            }
            // A transform without state has had all gradients of the tensor.
            let anew = if arrays == 0 { self.info.updates == 0 } else { made > 0 };
            self.fresh.push(anew || self.waiting_fresh.contains(transform.name()));
            self.scratch.extend(spec.scratch.iter().map(|&len| vec![T::zero(); len]));
        }
        // The rest belongs to transforms that are not in the chain.
        self.waiting.clear();
        self.waiting_fresh.clear();
        self.plan = Some(run.pool.shared(plan));
    }

    /// Removes the plan and keeps the state by name, for another chain or for fewer transforms.
    pub(crate) fn unplan(&mut self, stages: &Stages<'_, T>) {
        self.waiting_fresh = self.fresh(stages);
        self.waiting = self.arrays(stages).into_iter().map(|(key, buffer)| (key, buffer.clone())).collect();
        self.plan = None;
        self.fresh.clear();
        self.columns.clear();
        self.vectors.clear();
        self.scratch.clear();
        self.column_keys.clear();
    }

    /// Drops waiting samples of other elements than the chain samples.
    pub(crate) fn drop_waiting(&mut self, samples: &[(String, usize)]) {
        samples.iter().for_each(|(key, _)| drop(self.waiting.remove(key)));
    }

    /// The state that is kept, by `transform/array`.
    pub(crate) fn arrays(&self, stages: &Stages<'_, T>) -> BTreeMap<String, &Buffer> {
        let mut arrays: BTreeMap<String, &Buffer> =
            self.waiting.iter().map(|(k, b)| (k.clone(), b)).collect();
        let Some(plan) = &self.plan else { return arrays };
        for (transform, stage) in stages.iter().zip(&plan.stages) {
            for index in stage.columns.clone() {
                let column = &plan.columns[index];
                if column.kept {
                    arrays.insert(key(transform.name(), column.name), &self.columns[index]);
                }
            }
            for index in stage.vectors.clone() {
                arrays.insert(key(transform.name(), plan.vectors[index]), &self.vectors[index]);
            }
        }
        arrays
    }

    /// The transforms that have not had a gradient of this tensor yet.
    pub(crate) fn fresh(&self, stages: &Stages<'_, T>) -> BTreeSet<String> {
        let mut names = self.waiting_fresh.clone();
        let of_plan = stages.iter().zip(&self.fresh).filter(|(_, fresh)| **fresh);
        names.extend(of_plan.map(|(transform, _)| transform.name().to_owned()));
        names
    }

    /// Replaces the state by loaded state, which is used from the next gradient on.
    pub(crate) fn restore(
        &mut self,
        dtype: DType,
        updates: u64,
        arrays: BTreeMap<String, Buffer>,
        fresh: BTreeSet<String>,
    ) {
        let TensorInfo { name, shape, .. } = self.info.take_for_step();
        *self = Self::new(name, shape, self.group);
        self.info.dtype = dtype;
        self.info.updates = updates;
        self.waiting = arrays;
        self.waiting_fresh = fresh;
    }

    /// The base column's elements, once there is state and the writer has such a column.
    pub(crate) fn base(&self, stages: &Stages<'_, T>) -> Option<Slice<'_>> {
        self.of_writer(stages, |plan| plan.base, |writer| writer.base_column())
    }

    /// The elements of the evaluation point, once there is state and the writer keeps it.
    pub(crate) fn average(&self, stages: &Stages<'_, T>) -> Option<Slice<'_>> {
        self.of_writer(stages, |plan| plan.average, |writer| writer.average_column())
    }

    fn of_writer(
        &self,
        stages: &Stages<'_, T>,
        planned: impl Fn(&Plan) -> Option<usize>,
        declared: impl Fn(&dyn WriterLink<T>) -> Option<usize>,
    ) -> Option<Slice<'_>> {
        if let Some(plan) = &self.plan {
            return planned(plan).map(|index| self.columns[index].as_slice());
        }
        // State that was loaded and is not in use yet.
        stages.iter().find_map(|transform| {
            let column = declared(transform.writer()?)?;
            let spec = transform.state(&self.info);
            self.waiting.get(&key(transform.name(), spec.columns.get(column)?.name)).map(Buffer::as_slice)
        })
    }

    /// Bytes of state kept between steps.
    pub(crate) fn bytes(&self) -> usize {
        let kept = |b: &Buffer| b.len() * b.dtype().size();
        self.columns.iter().chain(&self.vectors).chain(self.waiting.values()).map(kept).sum()
    }

    /// Bytes of sums and small workspace.
    pub(crate) fn workspace(&self) -> usize {
        let seen = self.seen.capacity() * size_of::<Comparison>();
        let scratch: usize = self.scratch.iter().map(|array| array.capacity() * size_of::<T>()).sum();
        let arrays: usize = self.vector_sums.iter().map(Gathered::bytes).sum();
        scratch + arrays + seen + self.scalar_sums.capacity() * size_of::<f64>()
    }

    /// Whether its sweeps are loops of the whole chain.
    #[cfg(test)]
    pub(crate) fn is_fused(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.loops.is_some())
    }

    /// Bytes that one step moves, and its number of sweeps, once there is a plan.
    pub(crate) fn traffic(&self) -> Option<(u64, usize)> {
        let plan = self.plan.as_ref()?;
        Some((
            plan.bytes(self.info.len(), self.gradient, self.info.dtype, |i| self.columns[i].dtype()),
            plan.sweeps.len(),
        ))
    }
}

impl TensorInfo {
    /// Moves the description out of the tensor while its state is borrowed; no allocation, no copy.
    pub(super) fn take_for_step(&mut self) -> Self {
        Self {
            name: std::mem::take(&mut self.name),
            shape: std::mem::take(&mut self.shape),
            dtype: self.dtype,
            updates: self.updates,
        }
    }

    pub(super) fn return_from_step(&mut self, info: Self) {
        self.name = info.name;
        self.shape = info.shape;
    }
}

/// Moves all rows of `sums` into the first, in order, within the columns of `range`.
fn fold(sums: &mut [f64], width: usize, range: std::ops::Range<usize>) {
    if range.is_empty() {
        return;
    }
    let (first, rest) = sums.split_at_mut(width);
    for row in rest.chunks_exact_mut(width) {
        for i in range.clone() {
            first[i] += std::mem::take(&mut row[i]);
        }
    }
}

/// A column to be created.
pub(crate) struct NewColumn<'a> {
    pub(crate) spec: &'a ColumnSpec,
    pub(crate) dtype: DType,
    pub(crate) len: usize,
    /// State of earlier steps.
    pub(crate) kept: Option<Buffer>,
}

/// A column's values before its first step.
pub(crate) fn first_values(column: NewColumn<'_>, parameter: Slice<'_>) -> Buffer {
    let NewColumn { spec, dtype, len, kept } = column;
    match (kept, spec.initial) {
        (Some(kept), _) => kept,
        // Values of a step are computed when it begins.
        (None, Initial::Zero | Initial::Normal | Initial::Given) => Buffer::zeros(dtype, len),
        (None, Initial::Parameter) => {
            let copy = sample(parameter, spec.every, dtype);
            // For weights that start at 0, no copy is needed.
            if spec.is_constant_copy() && copy.is_zero() { Buffer::zeros(dtype, 0) } else { copy }
        }
    }
}

/// State of another type, converted to `dtype` and rounded to the nearest.
fn converted(kept: Buffer, dtype: DType) -> Buffer {
    if kept.dtype() == dtype { kept } else { sample(kept.as_slice(), 1, dtype) }
}

/// Every `every`-th element, converted to `dtype`.
pub(crate) fn sample(values: Slice<'_>, every: usize, dtype: DType) -> Buffer {
    let len = values.len().div_ceil(every);
    let mut buffer = Buffer::zeros(dtype, len);
    if every == 1 && values.dtype() == dtype {
        match (values, &mut buffer) {
            (Slice::F32(from), Buffer::F32(to)) => to.copy_from_slice(from),
            (Slice::Bf16(from), Buffer::Bf16(to)) => to.copy_from_slice(from),
            (Slice::F64(from), Buffer::F64(to)) => to.copy_from_slice(from),
            _ => unreachable!("the types were compared"),
        }
        return buffer;
    }
    for i in 0..len {
        buffer.set::<f64>(i, values.get::<f64>(i * every));
    }
    buffer
}
