//! The laws of what is in this crate, its formula, and tables of its first steps.

use ::cautious::{Cautious, CautiousUpdate};
use factored_moment::FirstMoment;
use gradient_transform::Descent;
use schedule_free::ScheduleFree;
use transform_laws::Zero::{Averages, Moves};
use transform_laws::formula::{Array, Direction};
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
    /// Without a gradient nothing agrees.
    cautious_update {
        before: [FirstMoment::new(0.9)],
        transform: CautiousUpdate,
        after: [Descent::default()],
        laws: Laws { training: Training::at(1.0), ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, agreeing_moment),
    }

    cautious {
        before: [schedule_free()],
        transform: Cautious::default(),
        laws: Laws { zero: Averages, follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::schedule_free(problem, lr, (0.0, true), cautious, formula::gradient),
    }

    cautious_as_in_the_reference {
        before: [schedule_free()],
        transform: Cautious { scales_displacement: true },
        laws: Laws { follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::schedule_free(problem, lr, (0.0, true), cautious_of_the_reference, formula::gradient),
    }

    /// Decay outside of the update is left as it is.
    cautious_with_decay_outside {
        before: [decaying_schedule_free(false)],
        transform: Cautious::default(),
        laws: Laws { zero: Moves, training: Training { left: 0.13, ..Training::at(3.0) }, follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::schedule_free(problem, lr, (0.01, false), cautious, formula::gradient),
    }
}

/// The step is scaled up where the displacement agrees with u, and nothing moves where it does not. Without an update, the
/// averaging continues.
fn cautious(pull: Array, step: Array, u: &Array) -> Array {
    let one_where = |yes| if yes { 1.0 } else { 0.0 };
    let agrees = ((&pull + &step) * u).mapv(|x| one_where(x > 0.0));
    let idle = u.mapv(|u| one_where(u == 0.0));
    let with_update = u.len() as f64 - idle.sum();
    let share = (agrees.sum() / with_update.max(1.0)).max(1e-3);
    (&pull + &(step / share)) * &agrees + &pull * &idle
}

/// All of the displacement where it agrees with u, over the share of elements in which it does.
fn cautious_of_the_reference(pull: Array, step: Array, u: &Array) -> Array {
    let m = pull + step;
    let mask = (&m * u).mapv(|x| if x > 0.0 { 1.0 } else { 0.0 });
    let share = mask.mean().unwrap();
    m * &mask / share.max(1e-3)
}

/// The first moment where it agrees with the gradient, over the share of elements in which it does.
fn agreeing_moment() -> Direction {
    let mut m = Array::zeros(vec![]);
    Box::new(move |_, g, _| {
        m = &m * 0.9 + &(g * 0.1);
        let agrees = |(m, g): (&f64, &f64)| m * g > 0.0;
        let share = m.iter().zip(g).filter(|&(m, g)| agrees((m, g))).count() as f64 / g.len() as f64;
        let mut u = m.clone();
        for (u, g) in u.iter_mut().zip(g) {
            *u = if agrees((u, g)) { *u / share.max(1e-3) } else { 0.0 };
        }
        Some(u)
    })
}

transform_laws::snapshots! {
    cautious_update: lr 0.1, (FirstMoment::new(0.9), CautiousUpdate), Descent::default();
    cautious: lr 0.1, (), ScheduleFree::new(0.9), Cautious::default();
}
