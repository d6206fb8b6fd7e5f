//! The laws of what is in this crate, its formula, and tables of its first steps.

use factored_moment::{DenseMoment, Division};
use gradient_transform::Descent;
use schedule_free::ScheduleFree;
use transform_laws::Joins::Otherwise;
use transform_laws::Scale::Invariant;
use transform_laws::Zero::{Averages, Moves};
use transform_laws::{Laws, Training, formula};

/// Negligible relative to gradients of the order of 1, but a number in float32.
const NO_EPSILON: Division = Division::Epsilon(1e-30);

fn dense() -> DenseMoment {
    DenseMoment { division: NO_EPSILON, ..DenseMoment::new(0.9) }
}

/// With an interpolation that is not a simple fraction: at 0.9 some displacements of this problem would be 0 up to
/// rounding, which then decides what Cautious and Grams do.
fn schedule_free() -> ScheduleFree {
    ScheduleFree::new(formula::BETA1)
}

fn decaying_schedule_free(weight_decay_by_lr: bool) -> ScheduleFree {
    ScheduleFree { weight_decay: 0.01, weight_decay_by_lr, ..schedule_free() }
}

transform_laws::laws! {
    schedule_free_alone {
        transform: schedule_free(),
        instead: [Descent::default()],
        laws: Laws { zero: Averages, follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::schedule_free(problem, lr, (0.0, true), formula::unchanged, formula::gradient),
    }

    schedule_free_behind_a_moment {
        before: [dense()],
        transform: schedule_free(),
        instead: [Descent::default()],
        laws: Laws { scale: Invariant, zero: Averages, training: Training::at(0.1), joins: Otherwise, ..Laws::default() },
        formula: |problem, lr| { formula::schedule_free(problem, lr, (0.0, true), formula::unchanged, || formula::dense(formula::by_division)) },
    }

    schedule_free_with_decay_by_lr {
        transform: decaying_schedule_free(true),
        instead: [Descent::default()],
        laws: Laws { zero: Moves, training: Training { left: 0.11, ..Training::default() }, follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::schedule_free(problem, lr, (0.01, true), formula::unchanged, formula::gradient),
    }

    /// Nothing stands after the writer, and what it writes is rounded after every operation where types are narrow.
    schedule_free_that_rounds_every_operation {
        transform: ScheduleFree { round_every_operation: true, ..decaying_schedule_free(true) },
        instead: [Descent::default()],
        laws: Laws { zero: Moves, training: Training { left: 0.11, ..Training::default() }, follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::schedule_free(problem, lr, (0.01, true), formula::unchanged, formula::gradient),
    }

    schedule_free_that_rounds_every_operation_with_decay_outside {
        transform: ScheduleFree { round_every_operation: true, ..decaying_schedule_free(false) },
        instead: [Descent::default()],
        laws: Laws { zero: Moves, training: Training { left: 0.13, ..Training::at(3.0) }, follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::schedule_free(problem, lr, (0.01, false), formula::unchanged, formula::gradient),
    }

    schedule_free_with_decay_outside {
        transform: decaying_schedule_free(false),
        instead: [Descent::default()],
        laws: Laws { zero: Moves, training: Training { left: 0.13, ..Training::at(3.0) }, follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::schedule_free(problem, lr, (0.01, false), formula::unchanged, formula::gradient),
    }
}

transform_laws::snapshots! {
    schedule_free: lr 0.1, (), ScheduleFree::new(0.9);
    schedule_free_decay_by_lr: lr 0.1, (), ScheduleFree { weight_decay: 0.1, ..ScheduleFree::new(0.9) };
    schedule_free_decay_outside: lr 0.1, (),
        ScheduleFree { weight_decay: 0.1, weight_decay_by_lr: false, ..ScheduleFree::new(0.9) };
}
