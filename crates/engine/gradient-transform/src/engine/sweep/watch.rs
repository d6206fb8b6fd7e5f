//! Watching the links of a sweep at work: the tile before and after each of them, while it is in the processor's cache.

use crate::engine::comparison::{Comparison, keep};
use crate::engine::plan::Plan;
use crate::link::Role;
use crate::memory::element::Real;
use crate::memory::kernel;

/// Places of a chunk's row: the gradient, every stage's update after it, the parameter before the step, and its displacement.
const GRADIENT: usize = 0;
const FIRST_STAGE: usize = 1;

/// Watches the links at work on one tile.
pub(crate) struct Watch<'t, T> {
    /// The update before the next link.
    before: &'t mut [T],
    /// The sum of its squares.
    squares: f64,
    /// That of the gradient's.
    pub(super) of_gradient: f64,
    row: &'t mut [Comparison],
    offset: usize,
}

impl<'t, T: Real> Watch<'t, T> {
    /// Places of a row.
    pub(crate) fn slots(plan: &Plan) -> usize {
        FIRST_STAGE + plan.stages.len() + 2
    }

    /// Begins with the gradient of a tile. `before` has its length.
    pub(super) fn new(before: &'t mut [T], row: &'t mut [Comparison], gradient: &[T], offset: usize) -> Self {
        let seen = Comparison::alone(gradient, offset);
        row[GRADIENT].add(&seen);
        before.copy_from_slice(gradient);
        Self { before, squares: seen.squares, of_gradient: seen.squares, row, offset }
    }

    /// The update that a stage has left, but for a factor.
    pub(super) fn link(&mut self, stage: usize, values: &[T], factor: T) {
        let seen = Comparison::of(self.before, values, factor, self.squares, self.offset);
        self.row[FIRST_STAGE + stage].add(&seen);
        self.squares = seen.squares;
        keep(self.before, values, factor);
    }

    /// How a parameter has moved: from `start`, of which nothing is left, to `end`. `squares` is the sum of the gradient's.
    pub(super) fn displacement(
        row: &mut [Comparison],
        gradient: &[T],
        squares: f64,
        start: &mut [T],
        end: &[T],
        offset: usize,
    ) {
        let [.., of_parameter, of_displacement] = row else { return };
        let parameter = Comparison::alone(start, offset);
        of_parameter.add(&Comparison { not_finite: None, ..parameter });
        kernel::map2(start, end, |start, end| start - end);
        let mut seen = Comparison::of_displacement(gradient, start, squares, offset);
        if let Some((element, value)) = &mut seen.not_finite {
            *value = end[*element - offset].f64();
        }
        of_displacement.add(&seen);
    }
}

/// Work of a recorded step on a tensor.
pub(crate) struct Seen<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) slots: &'a [Comparison],
}

impl<'a> Seen<'a> {
    /// The gradient.
    pub(crate) fn gradient(&self) -> &'a Comparison {
        &self.slots[GRADIENT]
    }

    /// The parameter before the step.
    pub(crate) fn parameter(&self) -> &'a Comparison {
        &self.slots[self.slots.len() - 2]
    }

    /// Its displacement, compared with the gradient. A value that is not finite is the parameter's after the step.
    pub(crate) fn displacement(&self) -> &'a Comparison {
        &self.slots[self.slots.len() - 1]
    }

    /// The stages that had an update to change, in order, and the update after each compared with the one before.
    pub(crate) fn links(&self) -> impl Iterator<Item = (usize, &'a Comparison)> + Clone {
        let stages = self.plan.stages.iter().zip(&self.slots[FIRST_STAGE..]).enumerate();
        // After a stage that holds the tensor nothing runs.
        let elements = self.gradient().elements;
        stages
            .filter(move |(_, (stage, seen))| {
                !stage.idle && stage.role != Role::Observer && seen.elements == elements
            })
            .map(|(i, (_, seen))| (i, seen))
    }
}
