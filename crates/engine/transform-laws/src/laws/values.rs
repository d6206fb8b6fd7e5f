//! Laws of the numbers: finite, equal to the formula, and the same in both types.

use anyhow::{Result, bail, ensure};
use ndarray::{ArrayD, Axis};

use super::{ensure_finite, ensure_within, fitting, of_row, running, single};
use crate::number::Number;
use crate::problem::{Problem, TILED, deviation};
use crate::row::{Row, Zero};
use crate::running::Running;

/// The base iterates: Schedule-Free's z, or else the parameters themselves.
fn base(at_work: &Running<f32, f32>) -> Vec<Vec<f64>> {
    let snapshot = at_work.optimizer.snapshot();
    let one = |(name, value): (&str, &ArrayD<f32>)| {
        let z = snapshot.tensors.get(name).and_then(|t| t.arrays.get("schedule-free/z"));
        match z {
            Some(z) => (0..z.len()).map(|i| z.get(i)).collect(),
            None => value.iter().map(|&x| f64::from(x)).collect(),
        }
    };
    at_work.optimizer.names().zip(&at_work.values).map(one).collect()
}

/// Whether parameter and base iterate do not move in step t if gradients are zero from step `from` on, both
/// counted from 0.
fn stand_still(zero: Zero, from: usize, t: usize) -> (bool, bool) {
    // At first they are equal.
    let at_first = from == 0;
    match zero {
        Zero::StandsStill => (true, true),
        Zero::Averages => (at_first, true),
        Zero::Moves => (false, false),
        Zero::MovesOn => (at_first, at_first),
        Zero::Rebounds => (at_first || t > from, at_first || t > from),
    }
}

pub(crate) fn survives_zero_gradients(row: &Row) -> Result<()> {
    let mut found = Vec::new();
    for from in [0, 3] {
        let problem = Problem::usual().without_gradients_from(from);
        let mut at_work = running::<f32, f32>(row, &problem)?;
        let mut path = Vec::new();
        for (t, step) in problem.steps().enumerate() {
            let (y, z) = (at_work.wide(), base(&at_work));
            at_work.step(step)?;
            if t >= from {
                found.push((from, t, (at_work.wide() == y, base(&at_work) == z)));
            }
            path.push(at_work.wide());
        }
        ensure_finite(&path)?;
        let estimate = at_work.optimizer.estimate(0)?;
        ensure!(estimate.d.is_finite() && estimate.d >= estimate.d0, "an estimate of {estimate:?}");
        // The distance is not known yet.
        ensure!(from > 0 || estimate.d == estimate.d0, "without any gradient, an estimate of {estimate:?}");
    }
    let said = row.laws.zero;
    if let Some((from, t, stood)) =
        found.iter().find(|(from, t, stood)| *stood != stand_still(said, *from, *t))
    {
        let fits = |zero: &Zero| found.iter().all(|(from, t, stood)| *stood == stand_still(*zero, *from, *t));
        bail!(
            "whether parameter and base iterate keep their values in step {}, with gradients of zero from step {} on, is {stood:?}, but {said:?} requires {:?}; {}",
            t + 1,
            from + 1,
            stand_still(said, *from, *t),
            fitting("zero", Zero::ALL.into_iter().find(fits)),
        );
    }
    // Rows and columns of zeros, whose means are zero, in gradients that aren't.
    let mut problem = Problem::usual();
    for gradient in problem.gradients.iter_mut().flatten().filter(|g| g.ndim() > 1) {
        gradient.index_axis_mut(Axis(0), 1).fill(0.0);
        gradient.index_axis_mut(Axis(1), 2).fill(0.0);
    }
    ensure_finite(&single(row, &problem)?)?;
    // Weights that begin at zero, with gradients from the second step on: a quotient of two norms can be 0/0.
    let mut problem = Problem::usual();
    problem.init.iter_mut().for_each(|weights| weights.fill(0.0));
    problem.gradients[0].iter_mut().for_each(|gradient| gradient.fill(0.0));
    ensure_finite(&single(row, &problem)?)
}

pub(crate) fn is_the_same_in_float32_and_float64(row: &Row) -> Result<()> {
    let problem = Problem::usual();
    let double = of_row::<f64, f64>(row, &problem)?;
    let found = deviation(&single(row, &problem)?, &double, &problem.init, f32::UNIT);
    ensure_within("float32", &found, row.laws.float32)
}

pub(crate) fn is_its_formula(row: &Row) -> Result<()> {
    let problem = Problem::usual();
    let ours = of_row::<f64, f64>(row, &problem)?;
    let formula = (row.formula)(&problem, row.laws.lr);
    ensure_finite(&formula)?;
    let (found, expected) = (ours.len(), formula.len());
    ensure!(found == expected, "the formula has {expected} steps, and the problem {found}");
    for (tensor, start) in problem.init.iter().enumerate().filter(|(_, start)| start.len() > 1) {
        // All steps and not only the last: signs may return to the start.
        let moved = |step: &Vec<ArrayD<f64>>| step[tensor].iter().zip(start).all(|(y, start)| y != start);
        ensure!(
            formula.iter().any(moved),
            "some of tensor {tensor} never moves by the formula, so little is tested"
        );
    }
    // The only difference is the order of sums: units in the last place of float64, and in Muon's iterations
    // up to 3.4^6 // of them.
    ensure_within("chain and formula", &deviation(&ours, &formula, &problem.init, f64::UNIT), 1e-13)?;

    // And where tensors are longer than a tile, with sums of thousands of terms.
    let tiled = Problem::of(&TILED, 3);
    let found = of_row::<f64, f64>(row, &tiled)?;
    let formula = (row.formula)(&tiled, row.laws.lr);
    ensure_within(
        "chain and formula, beyond a tile",
        &deviation(&found, &formula, &tiled.init, f64::UNIT),
        1e-12,
    )
}
