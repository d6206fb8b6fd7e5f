//! An author's transform as a link of the engine.

use std::array;

use crate::author::pass::{self, Along, MOST, Pass, Task, WriterTask};
use crate::author::trace::Trace;
use crate::author::{AlongState, Column, Fields, GradientTransform, Writer as Writes, kind::Kind};
use crate::axes::Axes;
use crate::context::{Context, StepContext, StepSummary, TensorInfo};
use crate::element::Real;
use crate::error::Result;
use crate::number::Input;
use crate::state::{ColumnSpec, StateSpec, Sums, TensorState, VectorSpec};
use crate::sums::SumShape;
use crate::tile::Tile;
pub(super) use crate::transform::Link;
use crate::transform::{Reads, Role};
pub(super) use crate::writer::WriterLink;

impl<T: Real, G: GradientTransform> Link<T> for G {
    fn name(&self) -> &str {
        GradientTransform::name(self)
    }

    fn validate(&self) -> Result<()> {
        GradientTransform::validate(self)
    }

    fn excludes(&self) -> &[(&'static str, &'static str)] {
        GradientTransform::excludes(self)
    }

    fn applies(&self, tensor: &TensorInfo) -> bool {
        GradientTransform::applies(self, tensor)
    }

    fn tempers_displacement(&self) -> bool {
        Trace::with(self, |trace| trace.reads(Input::Direction))
    }

    fn role(&self, tensor: &TensorInfo) -> Role {
        if <G::Kind as Kind<G>>::writer::<T>(self).is_some() {
            Role::Writer
        } else if G::Kind::LAGS || (pass::sums::<G>() == 0 && self.along(tensor).is_none()) {
            Role::Map
        } else {
            Role::Reduce
        }
    }

    fn reads(&self) -> Reads {
        Trace::with(self, |trace| Reads {
            gradient: trace.reads(Input::Gradient),
            parameter: trace.reads(Input::Parameter),
            base: trace.reads(Input::Base),
        })
    }

    fn scales(&self) -> Option<usize> {
        Trace::with(self, |trace| trace.scales())
    }

    fn state(&self, tensor: &TensorInfo) -> StateSpec {
        let columns = GradientTransform::columns(self, tensor);
        let names = <G::State<Column> as Fields<Column>>::NAMES;
        // One number more for the variant.
        let mut spec = StateSpec::new().sums(pass::sums::<G>(), 0).scratch(pass::scalars::<G>() + 1);
        for (i, name) in names.iter().enumerate() {
            let Column { storage, initial, present } = columns.get(i);
            if present {
                let column = ColumnSpec { name, every: 1, storage, initial, constant: false, kept: true };
                spec.columns.push(column);
            }
        }
        for (name, len, storage) in self.vectors(tensor) {
            spec.vectors.push(VectorSpec { name, len, storage });
        }
        if let Some(lacking) = self.along(tensor) {
            for axis in (0..pass::along::<G>()).map(|i| lacking.get(i)) {
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

    fn end_step(&self, step: &StepContext, summary: &StepSummary, scalars: &mut [f64]) {
        GradientTransform::end_step(self, step, summary, scalars);
    }

    fn holds(&self, cx: &Context<'_>) -> bool {
        GradientTransform::holds(self, cx)
    }

    fn begin(&self, cx: &Context<'_>, mut state: TensorState<'_, T>) {
        let mut scalars = G::Scalars::from_fn(|_| 0.0);
        GradientTransform::begin(self, cx, &mut scalars);
        if self.along(cx.tensor).is_some() {
            self.begin_along(cx, along_state(&mut state), &mut scalars);
        }
        keep(self, cx, scalars, state);
    }

    fn observe(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        if !G::Kind::LAGS {
            return measure(self, cx, tile, sums);
        }
        if GradientTransform::holds(self, cx) {
            let (source, factor) = tile.update.scaled();
            let mut pass = arrays(self, tile.gradient, tile.parameter, tile.scratch, tile.offset);
            (pass.source, pass.factor) = (Some(source), factor);
            pass.columns = columns(self, cx, tile.columns);
            pass.along = along(self, cx, tile.scratch, sums.vectors);
            pass.task = Task::Accumulate;
            add(sums.scalars, T::run(pass));
        }
    }

    fn sums_show_unusable(&self, tensor: &TensorInfo) -> bool {
        // A number that is not finite shows in the end of every sum that has its square in it.
        self.measures(tensor) && Trace::with(self, |trace| trace.sums_a_square_of_the_update())
    }

    fn seal(&self, cx: &Context<'_>, state: TensorState<'_, T>) {
        if !G::Kind::LAGS && self.measures(cx.tensor) {
            finalize(self, cx, state);
        }
    }

    fn emit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        update(self, cx, tile, &mut [], Task::Update { keeps_state: false });
    }

    fn commit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        if G::Kind::LAGS && self.measures(cx.tensor) {
            let totals = update(self, cx, tile, sums.vectors, Task::UpdateAndMeasure);
            add(sums.scalars, totals);
        } else {
            update(self, cx, tile, &mut [], Task::Update { keeps_state: true });
        }
    }

    fn commits_columns(&self) -> bool {
        true
    }

    fn finish(&self, cx: &Context<'_>, state: TensorState<'_, T>) {
        if G::Kind::LAGS && self.measures(cx.tensor) {
            finalize(self, cx, state);
        }
    }

    fn writer(&self) -> Option<&dyn WriterLink<T>> {
        <G::Kind as Kind<G>>::writer(self)
    }
}

impl<T: Real, G: Writes> WriterLink<T> for G {
    fn base_column(&self) -> Option<usize> {
        Writes::base(self)
    }

    fn direct(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        if !Writes::directs(self) {
            return;
        }
        update(self, cx, tile, &mut [], Task::Update { keeps_state: false });
    }

    fn displace(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, displacement: &mut [T]) {
        let (source, factor) = tile.update.scaled();
        let mut pass = arrays(self, tile.gradient, tile.parameter, tile.scratch, tile.offset);
        (pass.source, pass.factor, pass.update) = (Some(source), factor, displacement);
        pass.columns = columns(self, cx, tile.columns);
        pass.writer_task = WriterTask::Displace;
        T::run_writer(pass);
    }

    fn apply(
        &self,
        cx: &Context<'_>,
        tile: &mut Tile<'_, '_, T>,
        displacement: Option<&[T]>,
        parameter: &mut [T],
    ) {
        let (source, factor) = tile.update.scaled();
        let mut pass = arrays(self, tile.gradient, &[], tile.scratch, tile.offset);
        (pass.source, pass.factor, pass.written) = (Some(source), factor, parameter);
        pass.columns = columns(self, cx, tile.columns);
        if let Some(displacement) = displacement {
            (pass.displacement, pass.writer_task) = (displacement, WriterTask::WriteDisplaced);
        }
        T::run_writer(pass);
    }

    fn evaluation_weight(&self) -> f64 {
        Writes::evaluation_weight(self)
    }
}

/// Whether a transform measures anything of a tensor.
trait Measures {
    fn measures(&self, tensor: &TensorInfo) -> bool;
}

impl<G: GradientTransform> Measures for G {
    fn measures(&self, tensor: &TensorInfo) -> bool {
        pass::sums::<G>() > 0 || self.along(tensor).is_some()
    }
}

fn along_state<'a, T>(state: &'a mut TensorState<'_, T>) -> AlongState<'a, T> {
    AlongState { kept: state.vectors, sums: state.vector_sums, values: &mut state.scratch[1..] }
}

/// Numbers that follow from complete sums.
fn finalize<T: Real, G: GradientTransform>(transform: &G, cx: &Context<'_>, mut state: TensorState<'_, T>) {
    let mut scalars = G::Scalars::from_fn(|_| 0.0);
    transform.begin(cx, &mut scalars);
    transform.finalize(cx, G::Sums::from_fn(|i| state.scalar_sums[i]), &mut scalars);
    if transform.along(cx.tensor).is_some() {
        transform.finalize_along(cx, along_state(&mut state), &mut scalars);
    }
    keep(transform, cx, scalars, state);
}

/// Keeps the numbers of a tensor and a step where the loops find them.
fn keep<T: Real, G: GradientTransform>(
    transform: &G,
    cx: &Context<'_>,
    values: G::Scalars<f64>,
    state: TensorState<'_, T>,
) {
    let kept = &mut state.scratch[0];
    let count = pass::scalars::<G>();
    for (i, kept) in kept[..count].iter_mut().enumerate() {
        *kept = T::of(values.get(i));
    }
    kept[count] = T::of(f64::from(transform.variant(cx, &values)));
}

/// A loop over the tile of these arrays.
fn arrays<'a, T: Real, G: GradientTransform>(
    transform: &'a G,
    gradient: &'a [T],
    parameter: &'a [T],
    scratch: &'a [Vec<T>],
    offset: usize,
) -> Pass<'a, T, G> {
    let mut pass = Pass::new(transform, &scratch[0]);
    (pass.gradient, pass.parameter, pass.offset) = (gradient, parameter, offset);
    pass
}

/// The columns by their number, with empty ones for those that the tensor does not have.
fn columns<'a, T, G: GradientTransform>(
    transform: &G,
    cx: &Context<'_>,
    columns: &'a mut [&mut [T]],
) -> [&'a mut [T]; MOST] {
    let all = columns.len() == pass::columns::<G>();
    let declared = (!all).then(|| GradientTransform::columns(transform, cx.tensor));
    let mut columns = columns.iter_mut();
    array::from_fn(|i| {
        let present = i < pass::columns::<G>() && declared.is_none_or(|declared| declared.get(i).present);
        if present { columns.next().map(|column| &mut **column).unwrap_or_default() } else { &mut [][..] }
    })
}

/// The arrays along axes, if the tensor has them.
fn along<'a, T: Real, G: GradientTransform>(
    transform: &G,
    cx: &Context<'_>,
    scratch: &'a [Vec<T>],
    sums: &'a mut [crate::sums::Gathered<T>],
) -> Option<Along<'a, T>> {
    let lacking = transform.along(cx.tensor)?;
    let axes = (0..pass::along::<G>()).map(|i| lacking.get(i));
    let (first, last) = (axes.clone().min()?, axes.max()?);
    Some(Along {
        axes: Axes::of(cx.tensor, first, last),
        lacks_first: array::from_fn(|i| i < pass::along::<G>() && lacking.get(i) == first),
        values: &scratch[1..],
        sums,
    })
}

fn measure<T: Real, G: GradientTransform>(
    transform: &G,
    cx: &Context<'_>,
    tile: &mut Tile<'_, '_, T>,
    into: Sums<'_, T>,
) {
    if !transform.measures(cx.tensor) {
        return;
    }
    let (source, factor) = tile.update.scaled();
    let mut pass = arrays(transform, tile.gradient, tile.parameter, tile.scratch, tile.offset);
    (pass.source, pass.factor) = (Some(source), factor);
    (pass.base, pass.direction) = (tile.base, tile.direction);
    pass.columns = columns(transform, cx, tile.columns);
    pass.along = along(transform, cx, tile.scratch, into.vectors);
    pass.task = Task::Measure;
    add(into.scalars, T::run(pass));
}

fn add(sums: &mut [f64], totals: [f64; MOST]) {
    for (sum, total) in sums.iter_mut().zip(totals) {
        *sum += total;
    }
}

fn update<T: Real, G: GradientTransform>(
    transform: &G,
    cx: &Context<'_>,
    tile: &mut Tile<'_, '_, T>,
    sums: &mut [crate::sums::Gathered<T>],
    task: Task,
) -> [f64; MOST] {
    let (source, factor, update) = tile.update.take();
    let mut pass = arrays(transform, tile.gradient, tile.parameter, tile.scratch, tile.offset);
    (pass.source, pass.factor, pass.update) = (source, factor, update);
    (pass.base, pass.direction) = (tile.base, tile.direction);
    pass.columns = columns(transform, cx, tile.columns);
    pass.along = along(transform, cx, tile.scratch, sums);
    pass.task = task;
    T::run(pass)
}

#[cfg(test)]
mod tests;
