//! Laws of an estimated step size.

use anyhow::{Result, ensure};
use gradient_transform::{Context, Estimate, Estimator, Link, Real, Role, StepContext, TensorInfo, Tile};

use super::{fitting, single};
use crate::problem::{Problem, Trajectory};
use crate::row::{Boxed, Row};
use crate::running::Running;

/// The estimates of the steps: powers of two, so that nothing is rounded.
fn d(step: usize) -> f64 {
    [1.0, 2.0, 2.0, 16.0, 8.0, 32.0, 4.0, 64.0][step % 8]
}

/// An estimator with given estimates.
#[derive(Debug)]
struct Foretold;

impl<T: Real> Link<T> for Foretold {
    fn name(&self) -> &str {
        "foretold"
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Map
    }

    fn emit(&self, _cx: &Context<'_>, _tile: &mut Tile<'_, '_, T>) {}

    fn estimator(&self) -> Option<&dyn Estimator> {
        Some(self)
    }
}

impl Estimator for Foretold {
    fn initial(&self) -> Estimate {
        Estimate::new(d(0))
    }

    fn contribution(&self, _cx: &Context<'_>, _scalar_sums: &[f64]) -> [f64; 2] {
        [0.0, 0.0]
    }

    fn conclude(&self, step: &StepContext, _total: [f64; 2], estimate: &mut Estimate) {
        (estimate.d_prev, estimate.d) = (estimate.d, d(step.k as usize));
    }
}

/// The row's chain under that estimator, on gradients of `g/d`.
fn estimated(row: &Row, problem: &Problem, lr: fn(f64, f64) -> f64) -> Result<Trajectory> {
    let chain: Boxed<f32> = Box::new((Foretold, row.chain(true)));
    let mut estimated = Running::<f32, f32>::new(chain, row.laws.lr, &problem.init)?;
    let steps = problem.steps().enumerate().map(|(step, (gradients, loss))| {
        estimated.optimizer.set_lr(0, lr(row.laws.lr, d(step)))?;
        let gradients: Vec<_> = gradients.iter().map(|g| g / d(step)).collect();
        estimated.step((&gradients, loss))?;
        Ok(estimated.wide())
    });
    steps.collect()
}

/// Tests updates that are linear in gradients, and updates whose size does not depend on them, with gradients
/// so large that epsilons vanish.
fn follows_d(row: &Row) -> Result<bool> {
    let rates: [fn(f64, f64) -> f64; 2] = [|lr, _| lr, |lr, d| lr / d];
    for problem in [Problem::usual(), Problem::usual().scaled(1.0, 65536.0)] {
        let plain = single(row, &problem)?;
        for lr in rates {
            if estimated(row, &problem, lr)? == plain {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

pub(crate) fn follows_d_as_its_row_says(row: &Row) -> Result<()> {
    let estimates = |members: &[Boxed<f32>]| members.iter().any(|member| (**member).estimator().is_some());
    if estimates(&row.members()) {
        // A chain has one estimator at most, and the formula is written with its ratio.
        return Ok(());
    }
    let (said, found) = (row.laws.follows_d, follows_d(row)?);
    ensure!(said == found, "the row has `follows_d: {said}`, and {}", fitting("follows_d", Some(found)));
    Ok(())
}
