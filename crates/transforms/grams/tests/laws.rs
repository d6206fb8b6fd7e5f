//! The laws of what is in this crate, its formula, and tables of its first steps.

use ::grams::{Grams, GramsUpdate};
use factored_moment::FirstMoment;
use gradient_transform::Descent;
use schedule_free::ScheduleFree;
use transform_laws::Zero::Moves;
use transform_laws::formula::{Array, Direction, sign};
use transform_laws::{Laws, Training, formula};

/// With an interpolation that is not a simple fraction: at 0.9 some displacements of this problem would be 0 up to
/// rounding, which then decides what Cautious and Grams do.
fn schedule_free() -> ScheduleFree {
    ScheduleFree::new(formula::BETA1)
}

fn decaying_schedule_free(weight_decay_by_lr: bool) -> ScheduleFree {
    ScheduleFree { weight_decay: 0.01, weight_decay_by_lr, ..schedule_free() }
}

transform_laws::laws! {
    grams_update {
        before: [FirstMoment::new(0.9)],
        transform: GramsUpdate,
        after: [Descent::default()],
        laws: Laws { training: Training::at(5.0), ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, moment_with_the_sign_of_the_gradient),
    }

    grams {
        before: [schedule_free()],
        transform: Grams,
        laws: Laws { follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::schedule_free(problem, lr, (0.0, true), grams, formula::gradient),
    }

    grams_with_decay_by_lr {
        before: [decaying_schedule_free(true)],
        transform: Grams,
        laws: Laws { zero: Moves, training: Training { left: 0.11, ..Training::default() }, follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::schedule_free(problem, lr, (0.01, true), grams, formula::gradient),
    }
}

/// The size of the displacement and the sign of u.
fn grams(pull: Array, step: Array, u: &Array) -> Array {
    (pull + step).abs() * &u.mapv(sign)
}

/// The first moment's size and the gradient's sign.
fn moment_with_the_sign_of_the_gradient() -> Direction {
    let mut m = Array::zeros(vec![]);
    Box::new(move |_, g, _| {
        m = &m * 0.9 + &(g * 0.1);
        Some(m.mapv(f64::abs) * &g.mapv(sign))
    })
}

transform_laws::snapshots! {
    grams_update: lr 0.1, (FirstMoment::new(0.9), GramsUpdate), Descent::default();
    grams: lr 0.1, (), ScheduleFree::new(0.9), Grams;
}
