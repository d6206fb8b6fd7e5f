//! The laws of what is in this crate, its formula, and tables of its first steps.

use ::orthograd::OrthoGrad;
use gradient_transform::Descent;
use schedule_free::ScheduleFree;
use transform_laws::Permutation::Within;
use transform_laws::Zero::Averages;
use transform_laws::formula::{Direction, dot};
use transform_laws::{Laws, Training, formula};

/// With an interpolation that is not a simple fraction: at 0.9 some displacements of this problem would be 0 up to
/// rounding, which then decides what Cautious and Grams do.
fn schedule_free() -> ScheduleFree {
    ScheduleFree::new(formula::BETA1)
}

transform_laws::laws! {
    /// The base iterate that it projects along is z. What would make weights shorter is lost, so not every minimum can be reached.
    orthograd {
        transform: OrthoGrad::default(),
        after: [schedule_free()],
        laws: Laws { permutation: Within(1e-6), zero: Averages, training: Training { left: 0.55, ..Training::at(0.5) }, follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::schedule_free(problem, lr, (0.0, true), formula::unchanged, orthogonal),
    }

    /// Without averaging it is the parameter.
    orthograd_before_descent {
        transform: OrthoGrad::default(),
        after: [Descent::default()],
        laws: Laws { permutation: Within(1e-6), training: Training { left: 0.57, ..Training::at(0.3) }, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, orthogonal),
    }
}

/// What of the gradient is orthogonal to the base iterate, at the gradient's norm.
fn orthogonal() -> Direction {
    Box::new(|_, g, w| {
        let rest = g - &(w * (dot(w, g) / dot(w, w)));
        // One element has nothing that is orthogonal.
        Some(if g.len() == 1 { rest * 0.0 } else { &rest * (dot(g, g) / dot(&rest, &rest)).sqrt() })
    })
}

transform_laws::snapshots! {
    orthograd: lr 0.1, (OrthoGrad::default()), ScheduleFree::new(0.9);
}
