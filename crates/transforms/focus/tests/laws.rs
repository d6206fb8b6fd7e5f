//! The laws of what is in this crate, its formula, and tables of its first steps.

use ::focus::Focus;
use gradient_transform::Descent;
use transform_laws::Joins::Otherwise;
use transform_laws::Scale::Invariant;
use transform_laws::Zero::Moves;
use transform_laws::formula::{Array, BETA2, Direction, sign};
use transform_laws::{Laws, Training, formula};

transform_laws::laws! {
    /// The attraction of the weights to their average needs no gradient.
    focus {
        transform: Focus::new(0.9),
        after: [Descent::default()],
        laws: Laws { scale: Invariant, zero: Moves, training: Training::at(0.03), follows_d: false, joins: Otherwise, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, focus),
    }
}

/// `sign(g) + 0.1 sign(y - m)` with the average m of the weights.
fn focus() -> Direction {
    let mut m = Array::zeros(vec![]);
    Box::new(move |_, g, y| {
        m = &m * BETA2 + &(y * (1.0 - BETA2));
        Some(g.mapv(sign) + (y - &m).mapv(sign) * 0.1)
    })
}

transform_laws::snapshots! {
    focus: lr 0.1, (Focus::new(0.9)), Descent::default();
}
