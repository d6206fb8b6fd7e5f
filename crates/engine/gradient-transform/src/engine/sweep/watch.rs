//! Watching the links of a sweep: the tile before and after each of them, while it is in the processor's
//! cache.
//!
//! In a long tensor, gradient and parameter are measured in all tiles, and the links in a sample of them: the
//! others run as in a step that is not recorded.

use crate::engine::comparison::{Comparison, keep};
use crate::engine::plan::Plan;
use crate::layout::TILE;
use crate::link::Role;
use crate::memory::element::Real;
use crate::memory::kernel;
use crate::memory::rounding::mix64;

/// Places of a chunk's row: the gradient, every stage's update after it, the gradient where the links are watched, the parameter before the
/// step, and its displacement.
const GRADIENT: usize = 0;
const FIRST_STAGE: usize = 1;
const AFTER_STAGES: usize = 3;

/// Coverage of a recorded step: the tiles in which the links are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coverage {
    All,
    /// All of short tensors, and a sample of others.
    Sample,
}

/// Tiles of one tensor in which the links are watched: one of every `ONE_OF` consecutive tiles, drawn at
/// random. It is the same one in every step, so that differences between records come from the steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    one_of: usize,
    key: u64,
}

impl Sample {
    /// In long tensors, one tile of this number is watched.
    const ONE_OF: usize = 8;
    /// Number of tiles up to which all are watched.
    const SHORT: usize = 64;

    /// The sample of a tensor of `len` elements, with draws from the seed `key`.
    pub(crate) fn new(coverage: Coverage, len: usize, key: u64) -> Self {
        let is_sampled = coverage == Coverage::Sample && len > Self::SHORT * TILE;
        Self { one_of: if is_sampled { Self::ONE_OF } else { 1 }, key }
    }

    /// Whether the links are watched in the tile that begins at element `offset` of the tensor.
    pub(crate) fn has(self, offset: usize) -> bool {
        let tile = offset / TILE;
        let drawn = mix64(self.key ^ (tile / self.one_of) as u64) % self.one_of as u64;
        (tile % self.one_of) as u64 == drawn
    }
}

/// Watches the links at work on one tile.
pub(crate) struct Watch<'t, T> {
    /// The update before the next link.
    before: &'t mut [T],
    /// The sum of its squares.
    squares: f64,
    /// The sum of the gradient's squares.
    pub(super) of_gradient: f64,
    row: &'t mut [Comparison],
    offset: usize,
}

impl<'t, T: Real> Watch<'t, T> {
    /// Number of places of a row.
    pub(crate) fn slots(plan: &Plan) -> usize {
        FIRST_STAGE + plan.stages.len() + AFTER_STAGES
    }

    /// Gradient and parameter of a tile, before the step; the sum of the gradient's squares.
    pub(super) fn begin(row: &mut [Comparison], gradient: &[T], parameter: &[T], offset: usize) -> f64 {
        let seen = Comparison::alone(gradient, offset);
        row[GRADIENT].add(&seen);
        // If it is not finite, the value after the step is reported.
        let before = Comparison { not_finite: None, ..Comparison::alone(parameter, offset) };
        let [.., of_parameter, _] = row else { return seen.squares };
        of_parameter.add(&before);
        seen.squares
    }

    /// Begins with the gradient of a tile, the sum of whose squares is `squares`. `before` has its length.
    pub(super) fn new(
        before: &'t mut [T],
        row: &'t mut [Comparison],
        gradient: &[T],
        squares: f64,
        offset: usize,
    ) -> Self {
        if let [.., watched, _, _] = row {
            watched.add(&Comparison { elements: gradient.len() as u64, squares, ..Comparison::default() });
        }
        before.copy_from_slice(gradient);
        Self { before, squares, of_gradient: squares, row, offset }
    }

    /// The update after a stage, up to a factor.
    pub(super) fn link(&mut self, stage: usize, values: &[T], factor: T) {
        let seen = Comparison::of(self.before, values, factor, self.squares, self.offset);
        self.row[FIRST_STAGE + stage].add(&seen);
        self.squares = seen.squares;
        keep(self.before, values, factor);
    }

    /// The displacement of a parameter from `start`, which is overwritten, to `end`. `squares` is the sum of
    /// the gradient's.
    pub(super) fn displacement(
        row: &mut [Comparison],
        gradient: &[T],
        squares: f64,
        start: &mut [T],
        end: &[T],
        offset: usize,
    ) {
        let [.., of_displacement] = row else { return };
        kernel::map2(start, end, |start, end| start - end);
        let mut seen = Comparison::of_displacement(gradient, start, squares, offset);
        if let Some((element, value)) = &mut seen.not_finite {
            *value = end[*element - offset].f64();
        }
        of_displacement.add(&seen);
    }

    /// The first value of a parameter that is not finite after a step in which its tile was not watched.
    pub(super) fn not_finite(row: &mut [Comparison], found: (usize, f64)) {
        let [.., of_displacement] = row else { return };
        of_displacement.add(&Comparison { not_finite: Some(found), ..Comparison::default() });
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

    /// The gradient where the links are watched.
    pub(crate) fn watched_gradient(&self) -> &'a Comparison {
        &self.slots[self.slots.len() - AFTER_STAGES]
    }

    /// The parameter before the step.
    pub(crate) fn parameter(&self) -> &'a Comparison {
        &self.slots[self.slots.len() - 2]
    }

    /// Its displacement, compared with the gradient. A value that is not finite is the parameter's after the step.
    pub(crate) fn displacement(&self) -> &'a Comparison {
        &self.slots[self.slots.len() - 1]
    }

    /// The stages that had an update, in order, and the comparison of the update after each with the one
    /// before.
    pub(crate) fn links(&self) -> impl Iterator<Item = (usize, &'a Comparison)> + Clone {
        let stages = self.plan.stages.iter().zip(&self.slots[FIRST_STAGE..]).enumerate();
        // After a stage that holds the tensor, no other stage runs.
        let elements = self.watched_gradient().elements;
        stages
            .filter(move |(_, (stage, seen))| {
                !stage.idle && stage.role != Role::Observer && seen.elements == elements
            })
            .map(|(i, (_, seen))| (i, seen))
    }
}
