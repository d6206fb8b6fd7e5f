//! A [`GradientTransform`] as a link of the engine.

use std::any::Any;
use std::marker::PhantomData;

use crate::author::loops::part::part;
use crate::author::loops::pass::{Pass, Task, WriterTask};
use crate::author::{AlongState, Column, Fields, GradientTransform, Writer as Writes, count, kind::Kind};
use crate::error::{Error, Result};
pub(super) use crate::link::Link;
use crate::link::context::{Context, StepContext, StepSummary, TensorInfo};
use crate::link::equations::Equations;
use crate::link::formula::{ElementWork, FormulaElement, FormulaNumbers};
use crate::link::loops::{Arrays, Own};
use crate::link::state::{ColumnSpec, StateSpec, Storage, Sums, TensorState, VectorSpec};
use crate::link::sums_over::SumsOver;
use crate::link::tile::Tile;
pub(super) use crate::link::writer::WriterLink;
use crate::link::{Reads, Role};
use crate::memory::buffer::Buffer;
use crate::memory::element::{PerType, Real};
use crate::memory::sums::SumShape;

impl<T: Real, G: GradientTransform> Link<T> for G {
    fn concrete(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn name(&self) -> &str {
        GradientTransform::name(self)
    }

    fn validate(&self) -> Result<()> {
        if G::Kind::LAGS && GradientTransform::sums_over(self) != SumsOver::Tensor {
            let reason = "a lagged transform can have sums only over each tensor".into();
            return Err(Error::InvalidChain { chain: GradientTransform::name(self).into(), reason });
        }
        let arrays = <G::State<Column> as Fields<Column>>::NAMES;
        let mut names = kept(self).map(|i| <G::Scalars<f64> as Fields<f64>>::NAMES[i]);
        if let Some(name) = names.find(|name| arrays.contains(name)) {
            let reason = format!(
                "`{name}` is the name of an array of its state and of a number that is kept for a tensor"
            );
            return Err(Error::InvalidChain { chain: GradientTransform::name(self).into(), reason });
        }
        GradientTransform::validate(self)
    }

    fn excludes(&self) -> &[(&'static str, &'static str)] {
        GradientTransform::excludes(self)
    }

    fn applies(&self, tensor: &TensorInfo) -> bool {
        GradientTransform::applies(self, tensor)
    }

    fn changes_displacement(&self) -> bool {
        self.traced().reads_direction
    }

    fn role(&self, tensor: &TensorInfo) -> Role {
        if <G::Kind as Kind<G>>::writer::<T>(self).is_some() {
            Role::Writer
        } else if G::Kind::LAGS || (count::<G::Sums<f64>, f64>() == 0 && self.along(tensor).is_none()) {
            Role::Map
        } else {
            Role::Reduce
        }
    }

    fn sums_over(&self) -> SumsOver {
        GradientTransform::sums_over(self)
    }

    fn reads(&self) -> Reads {
        self.traced().reads
    }

    fn scales(&self) -> Option<usize> {
        self.traced().scales
    }

    fn equations(&self, tensor: &TensorInfo) -> Equations {
        self.traced_equations(tensor)
    }

    fn formula(&self, tensor: &TensorInfo, work: ElementWork, element: &mut FormulaElement<'_>) -> bool {
        self.traced_formula(tensor, work, element)
    }

    fn formula_numbers(&self, _cx: &Context<'_>, scratch: &[Vec<T>]) -> FormulaNumbers<T> {
        let (values, kept) = scratch[0].split_at(count::<G::Scalars<f64>, f64>());
        FormulaNumbers { values: values.into(), variant: kept[0].f64() as u32 }
    }

    fn state(&self, tensor: &TensorInfo) -> StateSpec {
        let columns = GradientTransform::columns(self, tensor);
        let names = <G::State<Column> as Fields<Column>>::NAMES;
        // More numbers for the variant, and for the axis that each array along axes lacks.
        let mut spec = StateSpec::new().sums(count::<G::Sums<f64>, f64>(), 0).scratch(kept_numbers::<G>());
        for (i, name) in names.iter().enumerate() {
            let Column { storage, initial, present } = columns.get(i);
            if present {
                let of_step = initial.is_of_a_step();
                let column =
                    ColumnSpec { name, every: 1, storage, initial, constant: of_step, kept: !of_step };
                spec.columns.push(column);
            }
        }
        for (name, len, storage) in self.vectors(tensor) {
            spec.vectors.push(VectorSpec { name, len, storage });
        }
        for name in kept(self).map(|i| <G::Scalars<f64> as Fields<f64>>::NAMES[i]) {
            spec.vectors.push(VectorSpec { name, len: 1, storage: Storage::Compute });
        }
        if let Some(lacking) = self.along(tensor) {
            for axis in (0..count::<G::Along<usize>, usize>()).map(|i| lacking.get(i)) {
                let others = tensor.shape.iter().enumerate().filter(|(i, _)| *i != axis);
                spec.scratch.push(others.map(|(_, n)| n).product());
                spec.vector_sums.push(SumShape::Over(axis));
            }
        }
        spec
    }

    fn group_scalars(&self) -> &'static [&'static str] {
        GradientTransform::group_scalars(self)
    }

    fn begin_step(&self, scalars: &[f64], step: &mut StepContext) {
        GradientTransform::begin_step(self, scalars, step);
    }

    fn check_step(&self, step: &StepContext) -> Result<()> {
        GradientTransform::check_step(self, step)
    }

    fn end_step(&self, step: &StepContext, summary: &StepSummary, scalars: &mut [f64]) {
        GradientTransform::end_step(self, step, summary, scalars);
    }

    fn holds(&self, cx: &Context<'_>) -> bool {
        GradientTransform::holds(self, cx)
    }

    fn begin(&self, cx: &Context<'_>, mut state: TensorState<'_, T>) {
        let mut scalars = scalars_before(self, state.vectors);
        GradientTransform::begin(self, cx, &mut scalars);
        if self.along(cx.tensor).is_some() {
            self.begin_along(cx, along_state(self, &mut state), &mut scalars);
        }
        keep(self, cx, scalars, state);
    }

    fn observe(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        let task = match G::Kind::LAGS {
            false if self.measures(cx.tensor) => Task::Measure,
            true if GradientTransform::holds(self, cx) => Task::Accumulate,
            _ => return,
        };
        let (source, factor) = tile.update.scaled();
        let mut pass = pass(self, cx, tile.gradient, tile.columns, tile.scratch, sums, tile.offset);
        (pass.arrays.source, pass.arrays.factor) = (Some(source), factor);
        (pass.arrays.parameter, pass.arrays.base) = (tile.parameter, tile.base);
        (pass.arrays.direction, pass.task) = (tile.direction, task);
        run(pass);
    }

    fn sums_show_unusable(&self, tensor: &TensorInfo) -> bool {
        // A number that is not finite makes every sum with its square not finite. A lagged transform measures
        // in the last loop.
        !G::Kind::LAGS && self.measures(tensor) && self.traced().sums_a_square_of_the_update
    }

    fn seal(&self, cx: &Context<'_>, state: TensorState<'_, T>) {
        if !G::Kind::LAGS && self.measures(cx.tensor) {
            finalize(self, cx, state);
        }
    }

    fn emit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        update(self, cx, tile, Sums::none(), Task::Update { keeps_state: false });
    }

    fn commit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        if G::Kind::LAGS && self.measures(cx.tensor) {
            update(self, cx, tile, sums, Task::UpdateAndMeasure);
        } else {
            update(self, cx, tile, Sums::none(), Task::Update { keeps_state: true });
        }
    }

    fn commits_columns(&self) -> bool {
        true
    }

    fn finish(&self, cx: &Context<'_>, mut state: TensorState<'_, T>) {
        if G::Kind::LAGS && self.measures(cx.tensor) {
            finalize(self, cx, state.reborrow());
        }
        let (_, numbers) = split_kept(self, state.vectors);
        numbers.iter_mut().zip(kept(self)).for_each(|(number, i)| number.set(0, state.scratch[0][i]));
    }

    fn writer(&self) -> Option<&dyn WriterLink<T>> {
        <G::Kind as Kind<G>>::writer(self)
    }
}

impl<T: Real, G: Writes> WriterLink<T> for G {
    fn base_column(&self) -> Option<usize> {
        Writes::base(self)
    }

    fn average_column(&self) -> Option<usize> {
        Writes::average(self)
    }

    fn direct(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        if Writes::directs(self) {
            update(self, cx, tile, Sums::none(), Task::Update { keeps_state: false });
        }
    }

    fn displace(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, displacement: &mut [T]) {
        let (source, factor) = tile.update.scaled();
        let mut pass = pass(self, cx, tile.gradient, tile.columns, tile.scratch, Sums::none(), tile.offset);
        (pass.arrays.source, pass.arrays.factor, pass.arrays.update) = (Some(source), factor, displacement);
        (pass.arrays.parameter, pass.writer_task) = (tile.parameter, WriterTask::Displace);
        run_writer(pass);
    }

    fn apply(
        &self,
        cx: &Context<'_>,
        tile: &mut Tile<'_, '_, T>,
        displacement: Option<&[T]>,
        parameter: &mut [T],
    ) {
        let (source, factor) = tile.update.scaled();
        let mut pass = pass(self, cx, tile.gradient, tile.columns, tile.scratch, Sums::none(), tile.offset);
        (pass.arrays.source, pass.arrays.factor, pass.arrays.written) = (Some(source), factor, parameter);
        if let Some(displacement) = displacement {
            (pass.arrays.displacement, pass.writer_task) = (displacement, WriterTask::WriteDisplaced);
        }
        run_writer(pass);
    }

    fn evaluation_weight(&self) -> f64 {
        Writes::evaluation_weight(self)
    }
}

/// Whether a transform has sums for a tensor.
trait Measures {
    fn measures(&self, tensor: &TensorInfo) -> bool;
}

impl<G: GradientTransform> Measures for G {
    fn measures(&self, tensor: &TensorInfo) -> bool {
        count::<G::Sums<f64>, f64>() > 0 || self.along(tensor).is_some()
    }
}

/// Positions of the numbers that are kept for a tensor.
fn kept<G: GradientTransform>(transform: &G) -> impl Iterator<Item = usize> {
    let kept = transform.kept();
    (0..count::<G::Scalars<bool>, bool>()).filter(move |&i| kept.get(i))
}

/// The arrays along axes that a tensor has, and after them the numbers that are kept for it.
fn split_kept<'a, G: GradientTransform>(
    transform: &G,
    vectors: &'a mut [Buffer],
) -> (&'a mut [Buffer], &'a mut [Buffer]) {
    vectors.split_at_mut(vectors.len() - kept(transform).count())
}

/// The numbers of a tensor before its step.
fn scalars_before<G: GradientTransform>(transform: &G, vectors: &mut [Buffer]) -> G::Scalars<f64> {
    let (is_kept, (_, numbers)) = (transform.kept(), split_kept(transform, vectors));
    let mut numbers = numbers.iter();
    G::Scalars::from_fn(|i| match is_kept.get(i) {
        true => numbers.next().map_or(0.0, |number| number.get(0)),
        false => 0.0,
    })
}

fn along_state<'a, T, G: GradientTransform>(
    transform: &G,
    state: &'a mut TensorState<'_, T>,
) -> AlongState<'a, T> {
    let (kept, _) = split_kept(transform, state.vectors);
    AlongState { kept, sums: state.vector_sums, values: &mut state.scratch[1..] }
}

/// Computes numbers from complete sums.
fn finalize<T: Real, G: GradientTransform>(transform: &G, cx: &Context<'_>, mut state: TensorState<'_, T>) {
    let mut scalars = scalars_before(transform, state.vectors);
    transform.begin(cx, &mut scalars);
    transform.finalize(cx, G::Sums::from_fn(|i| state.scalar_sums[i]), &mut scalars);
    if transform.along(cx.tensor).is_some() {
        transform.finalize_along(cx, along_state(transform, &mut state), &mut scalars);
    }
    keep(transform, cx, scalars, state);
}

/// Numbers that are kept for the loops of a step: those of the tensor, the variant, and for each array along axes the axis that
/// it lacks.
const fn kept_numbers<G: GradientTransform>() -> usize {
    count::<G::Scalars<f64>, f64>() + 1 + count::<G::Along<usize>, usize>()
}

/// Stores the numbers of a tensor and a step for the loops.
fn keep<T: Real, G: GradientTransform>(
    transform: &G,
    cx: &Context<'_>,
    values: G::Scalars<f64>,
    state: TensorState<'_, T>,
) {
    let kept = &mut state.scratch[0];
    let count = count::<G::Scalars<f64>, f64>();
    for (i, kept) in kept[..count].iter_mut().enumerate() {
        *kept = T::of(values.get(i));
    }
    kept[count] = T::of(f64::from(transform.variant(cx, &values)));
    if let Some(lacking) = transform.along(cx.tensor) {
        for (i, kept) in kept[count + 1..].iter_mut().enumerate() {
            *kept = T::of(lacking.get(i) as f64);
        }
    }
}

/// A loop over a tile of a gradient.
fn pass<'a, 'c, T: Real, G: GradientTransform>(
    transform: &'a G,
    cx: &Context<'_>,
    gradient: &'a [T],
    columns: &'a mut [&'c mut [T]],
    scratch: &'a [Vec<T>],
    sums: Sums<'a, T>,
    offset: usize,
) -> Pass<'a, 'c, T, G> {
    let Sums { scalars: scalar_sums, vectors: vector_sums } = sums;
    let (all, every_sum, every_array) = (0..columns.len(), 0..scalar_sums.len(), 0..vector_sums.len());
    let part = part(transform, cx.tensor, all, scratch, every_sum, every_array);
    let (arrays, own) = (Arrays::of(gradient, offset), Own { columns, scalar_sums, vector_sums });
    Pass { arrays, own, part, task: Task::Measure, writer_task: WriterTask::Write }
}

fn update<T: Real, G: GradientTransform>(
    transform: &G,
    cx: &Context<'_>,
    tile: &mut Tile<'_, '_, T>,
    sums: Sums<'_, T>,
    task: Task,
) {
    let (source, factor, update) = tile.update.take();
    let mut pass = pass(transform, cx, tile.gradient, tile.columns, tile.scratch, sums, tile.offset);
    (pass.arrays.source, pass.arrays.factor, pass.arrays.update) = (source, factor, update);
    (pass.arrays.parameter, pass.arrays.base) = (tile.parameter, tile.base);
    (pass.arrays.direction, pass.task) = (tile.direction, task);
    run(pass);
}

/// Passes of a transform: those over float32 and those over float64 are compiled in its own crate.
struct Passes<'a, 'c, G>(PhantomData<(&'a &'c (), G)>);

impl<'a, 'c, G: GradientTransform> PerType for Passes<'a, 'c, G> {
    type Of<T: Real> = Pass<'a, 'c, T, G>;
}

fn run<T: Real, G: GradientTransform>(pass: Pass<'_, '_, T, G>) {
    T::choose::<Passes<'_, '_, G>>(pass, G::on_f32, G::on_f64);
}

fn run_writer<T: Real, G: Writes>(pass: Pass<'_, '_, T, G>) {
    T::choose::<Passes<'_, '_, G>>(pass, G::write_f32, G::write_f64);
}

#[cfg(test)]
mod tests;
