//! The laws of plain descent, which is the engine's.

use gradient_transform::Descent;
use schedule_free::ScheduleFree;
use transform_laws::Zero::Moves;
use transform_laws::{Laws, Training, formula};

/// With an interpolation that is not a simple fraction: at 0.9 some displacements of this problem would be 0 up to
/// rounding, which then decides what Cautious and Grams do.
fn schedule_free() -> ScheduleFree {
    ScheduleFree::new(formula::BETA1)
}

transform_laws::laws! {
    descent {
        transform: Descent::default(),
        instead: [schedule_free()],
        laws: Laws::default(),
        formula: |problem, lr| formula::descent(problem, lr, 0.0, formula::gradient),
    }

    /// Decay moves a weight without a gradient too, and is after weights of 0 when it trains.
    descent_with_weight_decay {
        transform: Descent::with_decay(0.1),
        instead: [schedule_free()],
        laws: Laws { zero: Moves, training: Training { left: 0.44, ..Training::at(0.3) }, follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.1, formula::gradient),
    }
}
