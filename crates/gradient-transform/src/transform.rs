//! The trait that everything in a chain implements.

use std::fmt::Debug;

use crate::context::{Context, Estimate, StepContext, StepSummary, TensorInfo};
use crate::element::Real;
use crate::error::Result;
use crate::state::{StateSpec, Sums, TensorState};
use crate::update::Update;

/// When a transform's work on a tile can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `emit` needs the tile alone.
    Map,
    /// `emit` needs what `seal` computes from all tiles: the chain is cut here, and another sweep begins.
    Reduce,
    /// Changes no update; observes once, in the last sweep, before the parameter moves.
    Observer,
    /// Turns the update into the displacement of the parameter: [`GradientTransform::writer`] returns it.
    Writer,
}

/// Which elementwise inputs a transform looks at besides the update; the engine loads no others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// The raw gradient.
    pub gradient: bool,
    /// The parameter before this step, y.
    pub parameter: bool,
    /// The writer's base iterate: Schedule-Free's z, or the parameter itself.
    pub base: bool,
}

impl Reads {
    /// Nothing but the update.
    pub const UPDATE: Self = Self { gradient: false, parameter: false, base: false };
    /// The parameter too.
    pub const PARAMETER: Self = Self { gradient: false, parameter: true, base: false };
    /// The base iterate too.
    pub const BASE: Self = Self { gradient: false, parameter: false, base: true };
    /// The raw gradient and the parameter too.
    pub const GRADIENT_AND_PARAMETER: Self = Self { gradient: true, parameter: true, base: false };
}

/// A run of consecutive elements of a tensor, in logical (row-major) order.
///
/// All slices have the same length (at most [`crate::TILE`]), except those the transform did not ask for in
/// [`GradientTransform::reads`], which are empty, and columns that have a value for every n-th element only.
#[derive(Debug)]
pub struct Tile<'t, 'c, T> {
    /// The update u: the raw gradient at the head of a chain, changed by one transform after the other.
    /// Behind the writer it is the displacement m by which the parameter will move: `y <- y - m`.
    pub update: Update<'t, T>,
    /// Behind the writer: the update that it was given, weight decay included. Before it: empty.
    pub direction: &'t [T],
    /// The raw gradient.
    pub gradient: &'t [T],
    /// The parameter before this step.
    pub parameter: &'t [T],
    /// The writer's base iterate before this step.
    pub base: &'t [T],
    /// This transform's own columns, in the order they were declared.
    pub columns: &'t mut [&'c mut [T]],
    /// This transform's own small workspace arrays.
    pub scratch: &'t [Vec<T>],
    /// Index of the first element within the tensor, in logical order.
    pub offset: usize,
}

impl<'c, T> Tile<'_, 'c, T> {
    /// The same tile, for a shorter time.
    pub fn reborrow(&mut self) -> Tile<'_, 'c, T> {
        Tile {
            update: self.update.reborrow(),
            direction: self.direction,
            gradient: self.gradient,
            parameter: self.parameter,
            base: self.base,
            columns: self.columns,
            scratch: self.scratch,
            offset: self.offset,
        }
    }
}

/// One link of an optimizer's chain.
///
/// A transform is its hyperparameters; what it keeps of a tensor is declared by [`state`](Self::state) and owned by
/// the engine, which calls, for every tensor with a gradient:
///
/// 1. [`begin`](Self::begin) once;
/// 2. [`observe`](Self::observe) once for every tile, with the update as the transforms before this one left it;
/// 3. [`seal`](Self::seal) once, when all tiles have been observed;
/// 4. [`emit`](Self::emit) for every tile in every later sweep, possibly several times, so it must not change state;
///    in the last sweep [`commit`](Self::commit) instead, exactly once per tile;
/// 5. [`finish`](Self::finish) once.
///
/// All methods but [`name`](Self::name) have a default that does nothing, so an elementwise transform writes `emit`
/// alone, or is a closure ([`crate::map`]). `T` is the type computed in: `f32` or `f64`.
///
/// Its `Debug` form is how checkpoints and people see its hyperparameters.
#[allow(unused_variables)] // the names of the parameters are part of the documentation
pub trait GradientTransform<T: Real>: Debug + Send + Sync {
    /// Its name: the key of its state in checkpoints, and how errors call it. Unique within a chain.
    fn name(&self) -> &str;

    /// Calls `visit` with the transforms that this one is composed of, in order, and returns true.
    /// A transform that is one thing, as almost all are, returns false.
    fn members<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn GradientTransform<T>)) -> bool {
        false
    }

    /// Whether it does anything to this tensor. For others it is the identity and keeps nothing.
    fn applies(&self, tensor: &TensorInfo) -> bool {
        true
    }

    /// Whether a composition's [`applies`](Self::applies) holds for its members too.
    fn guards_members(&self) -> bool {
        false
    }

    /// Checks its own hyperparameters.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Names of transforms that cannot be in the same chain, each with the reason and what to do.
    fn excludes(&self) -> &[(&'static str, &'static str)] {
        &[]
    }

    /// Whether it works on the displacement that the writer made, and so belongs behind it.
    fn tempers_displacement(&self) -> bool {
        false
    }

    /// When its work on a tile of `tensor` can be done.
    fn role(&self, tensor: &TensorInfo) -> Role {
        Role::Map
    }

    /// What it looks at besides the update.
    fn reads(&self) -> Reads {
        Reads::UPDATE
    }

    /// What it keeps of a tensor.
    fn state(&self, tensor: &TensorInfo) -> StateSpec {
        StateSpec::new()
    }

    /// Whether, from this step on, it no longer takes part and its state can be freed.
    fn retired(&self, step: &StepContext) -> bool {
        false
    }

    /// Names of the numbers that it keeps per group, 0 at first.
    fn group_scalars(&self) -> &'static [&'static str] {
        &[]
    }

    /// Publishes what follows from the group's state, before any tensor is touched.
    fn begin_step(&self, scalars: &[f64], step: &mut StepContext) {}

    /// Moves the group's state on, when every tensor is done.
    fn end_step(&self, step: &StepContext, summary: &StepSummary, scalars: &mut [f64]) {}

    /// Whether this tensor must not move in this step, because state has to be filled first. The transforms behind
    /// this one are not run for the tensor then, and of this one `observe` and `finish` only.
    fn holds(&self, cx: &Context<'_>) -> bool {
        false
    }

    /// Prepares for a tensor. Leaves columns and vectors as they are: the step can still be refused, for a gradient
    /// that is not finite.
    fn begin(&self, cx: &Context<'_>, state: TensorState<'_, T>) {}

    /// Sees a tile once: may change its columns, and adds to the sums.
    fn observe(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {}

    /// Whether the sums are, or have among them, sums of squares of the observed update, so that an element that is not finite or
    /// too large shows in them. At the head of a chain, it spares the engine a look of its own at the gradient.
    fn sums_show_non_finite(&self, tensor: &TensorInfo) -> bool {
        false
    }

    /// Turns complete sums into small state.
    fn seal(&self, cx: &Context<'_>, state: TensorState<'_, T>) {}

    /// Changes the update in place. Must not change columns.
    fn emit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {}

    /// `emit` for the last time, after which columns may change: for state that must not yet contain this step.
    fn commit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        self.emit(cx, tile);
    }

    /// Whether it is [`commit`](Self::commit) that changes columns, and not `observe` (unless it holds the tensor): they are
    /// stored in the last sweep alone.
    fn commits_columns(&self) -> bool {
        false
    }

    /// Moves small state on, after the last sweep.
    fn finish(&self, cx: &Context<'_>, state: TensorState<'_, T>) {}

    /// This transform as a writer, if it is one.
    fn writer(&self) -> Option<&dyn Writer<T>> {
        None
    }

    /// This transform as an estimator of the step size, if it is one.
    fn estimator(&self) -> Option<&dyn Estimator> {
        None
    }
}

/// What ends a chain: it moves the parameter along the update.
///
/// For every tile of the last sweep the engine calls [`direct`](Self::direct) and [`apply`](Self::apply). With a
/// transform behind the writer that tempers its displacement, [`displace`](Self::displace) comes in between, and
/// `direct` and `displace` run in that transform's sweep too, so they must not change columns.
pub trait Writer<T: Real>: Send + Sync {
    /// Index of the column that holds the base iterate, if that is not the parameter itself.
    fn base_column(&self) -> Option<usize> {
        None
    }

    /// Completes the update: weight decay that is multiplied by the step size.
    fn direct(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>);

    /// Writes into `displacement` by how much the parameter would move (`y <- y - m`).
    fn displace(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, displacement: &mut [T]);

    /// Moves `parameter` (by the tempered `displacement`, if there is one) and its own columns, by the update.
    /// `tile.parameter` is empty. Runs exactly once per tile.
    fn apply(
        &self,
        cx: &Context<'_>,
        tile: &mut Tile<'_, '_, T>,
        displacement: Option<&[T]>,
        parameter: &mut [T],
    );

    /// The evaluation point x from the parameter (in place) and the base iterate.
    fn evaluate(&self, parameter: &mut [T], base: &[T]);

    /// The inverse of [`evaluate`](Self::evaluate), up to rounding.
    fn resume(&self, parameter: &mut [T], base: &[T]);
}

/// What moves the estimate of the step size.
pub trait Estimator: Send + Sync {
    /// The estimate before the first step.
    fn initial(&self) -> Estimate;

    /// What one tensor adds to the step's numerator and denominator, from the scalar sums it gathered.
    fn contribution(&self, cx: &Context<'_>, scalar_sums: &[f64]) -> [f64; 2];

    /// Moves the estimate on by a step's total contribution.
    fn conclude(&self, step: &StepContext, total: [f64; 2], estimate: &mut Estimate);
}

/// A moment that preconditions the update, taken apart so that a wrapper can reorder its events (ADOPT reads the
/// denominator before this step's gradient enters it).
///
/// As a [`GradientTransform`] of its own it does what `accumulate`, `advance`, `prepare` and `divide` do, in this order.
pub trait Moment<T: Real>: GradientTransform<T> {
    /// Takes a tile of gradients in: moves the moment's columns on, or adds to the sums.
    fn accumulate(
        &self,
        cx: &Context<'_>,
        gradient: &[T],
        parameter: &[T],
        columns: &mut [&mut [T]],
        offset: usize,
        sums: Sums<'_, T>,
    );

    /// Moves small state on by the sums that `accumulate` gathered.
    fn advance(&self, cx: &Context<'_>, state: TensorState<'_, T>);

    /// Makes ready what `divide` needs from small state.
    fn prepare(&self, cx: &Context<'_>, state: TensorState<'_, T>);

    /// Turns the update into a direction, by the moment as it stands.
    fn divide(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>);
}
