//! Learning rate 0.

use std::ops::Range;

use anyhow::{Result, ensure};
use gradient_transform::Estimate;

use super::running;
use crate::problem::Problem;
use crate::row::{Row, Zero};
use crate::running::Running;

/// Steps, counted from 0, at the row's learning rate.
const MOVING: Range<usize> = 3..5;

/// Steps at learning rate 0 before anything has moved, and again after a few steps.
pub(crate) fn stands_still_at_learning_rate_0(row: &Row) -> Result<()> {
    let problem = Problem::usual();
    let mut frozen: Running<f32, f32> = running(row, &problem)?;
    let start = frozen.wide();
    for (step, given) in problem.steps().enumerate() {
        let lr = if MOVING.contains(&step) { row.laws.lr } else { 0.0 };
        frozen.optimizer.set_lr(0, lr)?;
        let before = frozen.optimizer.estimate(0)?;
        frozen.step(given)?;
        if lr > 0.0 {
            continue;
        }
        let after = frozen.optimizer.estimate(0)?;
        let of = |e: Estimate| [e.d, e.numerator, e.denominator];
        ensure!(
            of(before) == of(after),
            "at learning rate 0 the estimate (d, numerator, denominator) goes from {:?} to {:?}",
            of(before),
            of(after)
        );
        // Decay that is not multiplied by the learning rate continues.
        let may_move = step >= MOVING.start || row.laws.zero == Zero::Moves;
        ensure!(
            may_move || frozen.wide() == start,
            "at learning rate 0 parameters move, in step {}",
            step + 1
        );
    }
    Ok(())
}
