//! Loops over a tile that call a transform's functions of an element.
//!
//! ```text
//! for every run of the tile, within which arrays along two axes are a slice and a number (or two slices):
//!     for every block of 32 elements of the run, and for its rest:
//!         for every vector of the block:
//!             e <- update, gradient, parameter, base, direction, state, scalars, along
//!             e <- the transform's function of e
//!             update, state, parameter or sums <- e, as far as this loop keeps them
//! ```
//!
//! A sum has 32 lanes on every instruction set: element `i` of a run is added to lane `i mod 32`, but for the rest of the run,
//! which is added one by one behind the lanes. So its bits do not depend on the width of the vectors.

use std::array;
use std::marker::PhantomData;

use crate::author::kind::Kind;
use crate::author::{Column, Element, ElementOf, Fields, GradientTransform, Writer};
use crate::axes::{Axes, Run};
use crate::element::Real;
use crate::kernel::{self, Prefetch};
use crate::number::{LANES, Num, Vectors, WithVectors};
use crate::sums::Gathered;

/// Arrays of state, sums, numbers, or arrays along axes that a transform may have of each.
pub const MOST: usize = 8;

pub(super) const fn columns<G: GradientTransform>() -> usize {
    <G::State<Column> as Fields<Column>>::NAMES.len()
}

pub(super) const fn scalars<G: GradientTransform>() -> usize {
    <G::Scalars<f64> as Fields<f64>>::NAMES.len()
}

pub(super) const fn sums<G: GradientTransform>() -> usize {
    <G::Sums<f64> as Fields<f64>>::NAMES.len()
}

pub(super) const fn along<G: GradientTransform>() -> usize {
    <G::Along<usize> as Fields<usize>>::NAMES.len()
}

/// Work of a loop on an element, and its results that are kept.
pub(super) trait Work<G: GradientTransform> {
    const KEEPS_UPDATE: bool = false;
    /// Whether it may keep the state: where the pass says so.
    const KEEPS_STATE: bool = false;
    const KEEPS_PARAMETER: bool = false;
    const KEEPS_SUMS: bool = false;

    fn element<B: Vectors>(transform: &G, e: &mut Element<B, G>, displacement: Num<B>);
}

/// The outgoing update, and the state if the pass keeps it.
pub(super) struct Update;
/// The sums.
pub(super) struct Measure;
/// The outgoing update, the state and the sums.
pub(super) struct UpdateAndMeasure;
/// The state and the sums, of a tensor that does not move.
pub(super) struct Accumulate;
/// The displacement, as an update.
pub(super) struct Displace;
/// The parameter and the writer's state, by the update or the displacement.
pub(super) struct Write<const DISPLACED: bool>;

impl<G: GradientTransform> Work<G> for Update {
    const KEEPS_UPDATE: bool = true;
    const KEEPS_STATE: bool = true;

    #[inline(always)]
    fn element<B: Vectors>(transform: &G, e: &mut Element<B, G>, _: Num<B>) {
        transform.update(e);
    }
}

impl<G: GradientTransform> Work<G> for Measure {
    const KEEPS_SUMS: bool = true;

    #[inline(always)]
    fn element<B: Vectors>(_: &G, _: &mut Element<B, G>, _: Num<B>) {}
}

impl<G: GradientTransform> Work<G> for UpdateAndMeasure {
    const KEEPS_UPDATE: bool = true;
    const KEEPS_STATE: bool = true;
    const KEEPS_SUMS: bool = true;

    #[inline(always)]
    fn element<B: Vectors>(transform: &G, e: &mut Element<B, G>, _: Num<B>) {
        transform.update(e);
    }
}

impl<G: GradientTransform> Work<G> for Accumulate {
    const KEEPS_STATE: bool = true;
    const KEEPS_SUMS: bool = true;

    #[inline(always)]
    fn element<B: Vectors>(transform: &G, e: &mut Element<B, G>, _: Num<B>) {
        transform.update(e);
    }
}

impl<G: Writer> Work<G> for Displace {
    const KEEPS_UPDATE: bool = true;

    #[inline(always)]
    fn element<B: Vectors>(transform: &G, e: &mut Element<B, G>, _: Num<B>) {
        e.update = transform.displace(e);
    }
}

impl<G: Writer, const DISPLACED: bool> Work<G> for Write<DISPLACED> {
    const KEEPS_STATE: bool = true;
    const KEEPS_PARAMETER: bool = true;

    #[inline(always)]
    fn element<B: Vectors>(transform: &G, e: &mut Element<B, G>, displacement: Num<B>) {
        transform.write(e, if DISPLACED { Some(displacement) } else { None });
    }
}

/// Task of a pass.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task {
    /// The outgoing update; the state too, if it is to be kept.
    Update {
        keeps_state: bool,
    },
    Measure,
    UpdateAndMeasure,
    Accumulate,
}

/// Task of a writer's pass.
#[derive(Clone, Copy, Debug)]
pub(super) enum WriterTask {
    Displace,
    Write,
    WriteDisplaced,
}

/// A loop over a tile. Arrays that are not looked at are empty.
#[derive(Debug)]
pub struct Pass<'a, T, G> {
    pub(super) transform: &'a G,
    /// Where the update is, if that is not where it goes.
    pub(super) source: Option<&'a [T]>,
    /// By what it is still to be multiplied.
    pub(super) factor: T,
    pub(super) update: &'a mut [T],
    pub(super) gradient: &'a [T],
    /// The parameter, where it is only read.
    pub(super) parameter: &'a [T],
    /// The parameter, where it is written.
    pub(super) written: &'a mut [T],
    pub(super) base: &'a [T],
    pub(super) direction: &'a [T],
    pub(super) displacement: &'a [T],
    pub(super) columns: [&'a mut [T]; MOST],
    /// The transform's numbers, and its variant.
    pub(super) scalars: &'a [T],
    pub(super) along: Option<Along<'a, T>>,
    pub(super) task: Task,
    pub(super) writer_task: WriterTask,
    /// Index of the first element within the tensor.
    pub(super) offset: usize,
}

/// Arrays along the two axes that a transform sums over.
#[derive(Debug)]
pub(super) struct Along<'a, T> {
    pub(super) axes: Axes,
    /// For each array: whether it lacks the first of the axes, or else the second.
    pub(super) lacks_first: [bool; MOST],
    pub(super) values: &'a [Vec<T>],
    pub(super) sums: &'a mut [Gathered<T>],
}

/// An array along axes, within a run.
#[derive(Clone, Copy)]
enum Values<'a, T> {
    Slice(&'a [T]),
    Number(T),
}

impl<'a, T: Real, G: GradientTransform> Pass<'a, T, G> {
    /// A loop that looks at nothing but the update.
    pub(super) fn new(transform: &'a G, scalars: &'a [T]) -> Self {
        const {
            let fits = columns::<G>() <= MOST && self::scalars::<G>() <= MOST;
            assert!(
                fits && sums::<G>() <= MOST && along::<G>() <= MOST,
                "a transform of one element has at most 8 of each"
            );
        }
        Self {
            transform,
            source: None,
            factor: T::one(),
            update: &mut [],
            gradient: &[],
            parameter: &[],
            written: &mut [],
            base: &[],
            direction: &[],
            displacement: &[],
            columns: array::from_fn(|_| &mut [][..]),
            scalars,
            along: None,
            task: Task::Update { keeps_state: false },
            writer_task: WriterTask::Write,
            offset: 0,
        }
    }

    /// Runs it, whatever it is to do; gives the sums. To be compiled where the transform is written: see [`run`].
    #[inline(always)]
    fn perform(self) -> [f64; MOST] {
        match self.task {
            Task::Update { .. } => self.over_tile(Update),
            Task::Measure => self.over_tile(Measure),
            Task::UpdateAndMeasure if G::Kind::LAGS => self.over_tile(UpdateAndMeasure),
            Task::Accumulate if G::Kind::LAGS => self.over_tile(Accumulate),
            Task::UpdateAndMeasure | Task::Accumulate => unreachable!("of transforms that lag alone"),
        }
    }

    fn over_tile<W: Work<G>>(self, _: W) -> [f64; MOST] {
        T::with_vectors(Loop { pass: self, work: PhantomData::<W> })
    }
}

/// Runs a pass. `#[transform]` calls it from a function that is not generic, so that a transform's loops are compiled in its own
/// crate, once, and not in every program that uses it.
#[doc(hidden)]
#[inline(always)]
pub fn run<T: Real, G: GradientTransform>(pass: Pass<'_, T, G>) -> [f64; MOST] {
    pass.perform()
}

/// Runs a writer's pass. See [`run`].
#[doc(hidden)]
#[inline(always)]
pub fn run_writer<T: Real, G: Writer>(pass: Pass<'_, T, G>) {
    match pass.writer_task {
        WriterTask::Displace => pass.over_tile(Displace),
        WriterTask::Write => pass.over_tile(Write::<false>),
        WriterTask::WriteDisplaced => pass.over_tile(Write::<true>),
    };
}

/// See [`Pass::run`].
struct Loop<'a, T, G, W> {
    pass: Pass<'a, T, G>,
    work: PhantomData<W>,
}

impl<T: Real, G: GradientTransform, W: Work<G>> WithVectors<T> for Loop<'_, T, G, W> {
    type Output = [f64; MOST];

    #[inline(always)]
    fn run<B: Vectors<Element = T>>(self, numbers: B) -> [f64; MOST] {
        let mut pass = self.pass;
        let keeps_state = !matches!(pass.task, Task::Update { keeps_state: false }) || W::KEEPS_PARAMETER;
        let number = |value: T| Num::new(numbers, numbers.splat(value));
        let fixed = Fixed {
            factor: number(pass.factor),
            scalars: <G::Scalars<Num<B>>>::from_fn(
                #[inline(always)]
                |i| number(pass.scalars[i]),
            ),
            variant: pass.scalars[self::scalars::<G>()].f64() as u32,
            keeps_state,
        };
        let len = pass.source.map_or(pass.update.len(), <[T]>::len);
        let mut totals = [0.0; MOST];
        let Some(mut along) = pass.along.take() else {
            let run = Run { at: 0, to: len, i: 0, j: 0 };
            pass.over::<B, W>(&fixed, &run, None, &mut totals);
            return totals;
        };
        let axes = along.axes.clone();
        for run in axes.runs(pass.offset, len) {
            pass.over::<B, W>(&fixed, &run, Some(&mut along), &mut totals);
        }
        totals
    }
}

/// Values shared by all elements of a tile.
struct Fixed<B: Vectors, K> {
    factor: Num<B>,
    scalars: K,
    variant: u32,
    keeps_state: bool,
}

/// Lanes of a sum over a run.
struct Lanes<T> {
    lanes: [T; LANES],
    /// The sum of the rest, one by one.
    rest: T,
}

impl<T: Real> Lanes<T> {
    #[inline(always)]
    fn new() -> Self {
        Self { lanes: [T::zero(); LANES], rest: T::zero() }
    }

    #[inline(always)]
    fn total(&self) -> T {
        kernel::total(self.lanes) + self.rest
    }
}

/// A vector's place in arrays.
trait Place<B: Vectors>: Copy {
    fn load(self, numbers: B, array: &[B::Element]) -> B::Value;
    fn store(self, numbers: B, array: &mut [B::Element], value: B::Value);
    /// Adds to its lanes.
    fn add(self, numbers: B, lanes: &mut Lanes<B::Element>, value: B::Value);
}

/// Vector `vector` of the block of [`LANES`] elements that begins at `block`.
#[derive(Clone, Copy)]
struct InBlock {
    block: usize,
    vector: usize,
}

/// A vector of at most `count` elements, vector `vector` of the rest that begins at `rest`.
#[derive(Clone, Copy)]
struct InRest {
    rest: usize,
    vector: usize,
    count: usize,
}

impl<B: Vectors> Place<B> for InBlock {
    #[inline(always)]
    fn load(self, _: B, array: &[B::Element]) -> B::Value {
        B::vectors(&array[self.block..self.block + LANES])[self.vector]
    }

    #[inline(always)]
    fn store(self, _: B, array: &mut [B::Element], value: B::Value) {
        B::vectors_mut(&mut array[self.block..self.block + LANES])[self.vector] = value;
    }

    #[inline(always)]
    fn add(self, numbers: B, lanes: &mut Lanes<B::Element>, value: B::Value) {
        let lanes = &mut B::vectors_mut(&mut lanes.lanes)[self.vector];
        *lanes = numbers.add(*lanes, value);
    }
}

impl InRest {
    #[inline(always)]
    fn range<B: Vectors>(self) -> std::ops::Range<usize> {
        let first = self.rest + self.vector * B::WIDTH;
        first..first + self.count
    }
}

impl<B: Vectors> Place<B> for InRest {
    #[inline(always)]
    fn load(self, numbers: B, array: &[B::Element]) -> B::Value {
        numbers.load_some(&array[self.range::<B>()])
    }

    #[inline(always)]
    fn store(self, numbers: B, array: &mut [B::Element], value: B::Value) {
        numbers.store_some(&mut array[self.range::<B>()], value);
    }

    #[inline(always)]
    fn add(self, numbers: B, lanes: &mut Lanes<B::Element>, value: B::Value) {
        let mut elements = [<B::Element as num_traits::Zero>::zero(); LANES];
        numbers.store_some(&mut elements[..self.count], value);
        for &element in &elements[..self.count] {
            lanes.rest += element;
        }
    }
}

impl<T: Real, G: GradientTransform> Pass<'_, T, G> {
    /// The loop over a run.
    #[inline(always)]
    fn over<B: Vectors<Element = T>, W: Work<G>>(
        &mut self,
        fixed: &Fixed<B, G::Scalars<Num<B>>>,
        run: &Run,
        along: Option<&mut Along<'_, T>>,
        totals: &mut [f64; MOST],
    ) {
        let (start, end) = (run.at, run.to);
        let blocks = (end - start) / LANES;
        let rest = (end - start) % LANES;
        let mut lanes: [Lanes<T>; MOST] = array::from_fn(|_| Lanes::new());
        let mut row_lanes: [Lanes<T>; MOST] = array::from_fn(|_| Lanes::new());
        let (values, mut sums) = match along {
            None => ([Values::Number(T::zero()); MOST], array::from_fn(|_| &mut [][..])),
            Some(along) => along.within(run),
        };
        let mut prefetch = Prefetch::resume();
        for block in 0..blocks {
            if block % 2 == 0 {
                prefetch.block();
            }
            for vector in 0..LANES / B::WIDTH {
                let place = InBlock { block: start + block * LANES, vector };
                let within = InBlock { block: block * LANES, vector };
                self.element::<B, W, _>(fixed, place, within, &values, &mut sums, &mut lanes, &mut row_lanes);
            }
        }
        if rest > 0 {
            prefetch.block();
            for vector in 0..rest.div_ceil(B::WIDTH) {
                let count = (rest - vector * B::WIDTH).min(B::WIDTH);
                let place = InRest { rest: start + blocks * LANES, vector, count };
                let within = InRest { rest: blocks * LANES, vector, count };
                self.element::<B, W, _>(fixed, place, within, &values, &mut sums, &mut lanes, &mut row_lanes);
            }
        }
        prefetch.suspend();
        if W::KEEPS_SUMS {
            for (total, lanes) in totals.iter_mut().zip(&lanes).take(self::sums::<G>()) {
                *total += lanes.total().f64();
            }
            for i in 0..self::along::<G>() {
                if let (Values::Number(_), [sum]) = (values[i], &mut *sums[i]) {
                    *sum += row_lanes[i].total();
                }
            }
        }
    }

    /// The work on one vector: at `place` of the tile's arrays, and at `within` of arrays along axes.
    #[allow(clippy::too_many_arguments)] // the state of one loop, which must be in registers
    #[inline(always)]
    fn element<B: Vectors<Element = T>, W: Work<G>, P: Place<B>>(
        &mut self,
        fixed: &Fixed<B, G::Scalars<Num<B>>>,
        place: P,
        within: P,
        values: &[Values<'_, T>; MOST],
        sums: &mut [&mut [T]; MOST],
        lanes: &mut [Lanes<T>; MOST],
        row_lanes: &mut [Lanes<T>; MOST],
    ) {
        let numbers = fixed.factor.backend;
        let number = |value| Num::new(numbers, value);
        let get = Get { numbers, place };
        let update = match self.source {
            Some(source) => place.load(numbers, source),
            None => place.load(numbers, self.update),
        };
        let update = fixed.factor * number(update);
        let mut e = ElementOf {
            update,
            gradient: get.of(self.gradient),
            parameter: get.of(if W::KEEPS_PARAMETER { self.written } else { self.parameter }),
            base: get.of(self.base),
            direction: if self.direction.is_empty() { update } else { get.of(self.direction) },
            state: <G::State<Num<B>>>::from_fn(
                #[inline(always)]
                |i| get.of(self.columns[i]),
            ),
            scalars: fixed.scalars,
            along: <G::Along<Num<B>>>::from_fn(
                #[inline(always)]
                |i| match values[i] {
                    Values::Number(value) => number(numbers.splat(value)),
                    Values::Slice(values) => number(within.load(numbers, values)),
                },
            ),
            variant: fixed.variant,
        };
        if W::KEEPS_SUMS {
            let measured = self.transform.measure(&e);
            for (i, lanes) in lanes.iter_mut().enumerate().take(self::sums::<G>()) {
                place.add(numbers, lanes, measured.get(i).value);
            }
            let measured = self.transform.measure_along(&e);
            for i in 0..self::along::<G>() {
                match values[i] {
                    Values::Number(_) => place.add(numbers, &mut row_lanes[i], measured.get(i).value),
                    Values::Slice(_) => {
                        let sum = within.load(numbers, sums[i]);
                        within.store(numbers, sums[i], numbers.add(sum, measured.get(i).value));
                    }
                }
            }
        }
        W::element(self.transform, &mut e, get.of(self.displacement));
        if W::KEEPS_UPDATE {
            place.store(numbers, self.update, e.update.value);
        }
        if W::KEEPS_PARAMETER {
            place.store(numbers, self.written, e.parameter.value);
        }
        if W::KEEPS_STATE && fixed.keeps_state {
            for i in 0..self::columns::<G>() {
                if !self.columns[i].is_empty() {
                    place.store(numbers, self.columns[i], e.state.get(i).value);
                }
            }
        }
    }
}

impl<T: Real> Along<'_, T> {
    /// Values and sums of the arrays within a run.
    #[inline(always)]
    fn within(&mut self, run: &Run) -> ([Values<'_, T>; MOST], [&mut [T]; MOST]) {
        let len = run.to - run.at;
        let one = self.axes.second_is_last();
        let lacks_first = self.lacks_first;
        let mut values = self.values.iter();
        let mut sums = self.sums.iter_mut();
        let values = array::from_fn(|k| {
            // Sums are gathered before there are values.
            let array = values.next().map(Vec::as_slice).unwrap_or_default();
            match (lacks_first[k], one) {
                (true, _) => Values::Slice(array.get(run.i..run.i + len).unwrap_or_default()),
                (false, false) => Values::Slice(array.get(run.j..run.j + len).unwrap_or_default()),
                (false, true) => Values::Number(array.get(run.j).copied().unwrap_or_else(T::zero)),
            }
        });
        let sums = array::from_fn(|k| match sums.next() {
            None => &mut [][..],
            Some(sums) => match (lacks_first[k], one) {
                (true, _) => sums.at(run.i, len),
                (false, false) => sums.at(run.j, len),
                (false, true) => sums.at(run.j, 1),
            },
        });
        (values, sums)
    }
}

/// Reads a vector of an array, or zero where the array is not looked at.
#[derive(Clone, Copy)]
struct Get<B, P> {
    numbers: B,
    place: P,
}

impl<B: Vectors, P: Place<B>> Get<B, P> {
    #[inline(always)]
    fn of(self, array: &[B::Element]) -> Num<B> {
        let value =
            if array.is_empty() { self.numbers.constant(0.0) } else { self.place.load(self.numbers, array) };
        Num::new(self.numbers, value)
    }
}
