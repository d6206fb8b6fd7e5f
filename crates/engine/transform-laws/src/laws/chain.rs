//! The transform's place in a chain.

use anyhow::{Result, bail, ensure};
use gradient_transform::{Error, Optimizer};
use half::bf16;

use super::{running, single};
use crate::number::Number;
use crate::problem::Problem;
use crate::row::{Boxed, Row};
use crate::running::{Running, trajectory};

fn none_changes_nothing_in<E: Number>(row: &Row, problem: &Problem) -> Result<()> {
    let mut off = Running::<f32, E>::new(row.chain(false), row.laws.lr, &problem.init)?;
    let mut without = Running::<f32, E>::new(row.without(), row.laws.lr, &problem.init)?;
    for (t, step) in (1..).zip(problem.steps()) {
        off.step(step)?;
        without.step(step)?;
        ensure!(
            off.everything() == without.everything(),
            "the chain with None differs from the chain without it, after step {t} in {}",
            E::DTYPE
        );
    }
    Ok(())
}

pub(crate) fn none_is_the_identity(row: &Row) -> Result<()> {
    let problem = Problem::usual();
    none_changes_nothing_in::<f32>(row, &problem)?;
    none_changes_nothing_in::<bf16>(row, &problem)?;
    // And the transform of the row changes something.
    let without = trajectory::<f32, f32>(row.without(), row.laws.lr, &problem)?;
    ensure!(single(row, &problem)? != without, "the transform changes nothing here");
    Ok(())
}

fn boxed_is_as_a_tuple_in<E: Number>(row: &Row) -> Result<()> {
    let problem = Problem::usual();
    let run = |chain: Boxed<f32>| {
        let mut running = Running::<f32, E>::new(chain, row.laws.lr, &problem.init)?;
        running.steps(&problem)?;
        anyhow::Ok(running.everything())
    };
    ensure!(
        run(Box::new(row.members()))? == run(row.chain(true))?,
        "the chain of boxes differs in {}",
        E::DTYPE
    );
    Ok(())
}

pub(crate) fn boxed_is_as_a_tuple(row: &Row) -> Result<()> {
    boxed_is_as_a_tuple_in::<f32>(row)?;
    boxed_is_as_a_tuple_in::<bf16>(row)
}

pub(crate) fn parameters_may_come_one_by_one<E: Number>(row: &Row) -> Result<()> {
    let problem = Problem::usual();
    let mut together = running::<f32, E>(row, &problem)?;
    let mut one_by_one = running::<f32, E>(row, &problem)?;
    for (t, step) in (1..).zip(problem.steps()) {
        together.step(step)?;
        let before = one_by_one.everything();
        match one_by_one.step_one_by_one(step) {
            Ok(()) => {}
            // A chain that needs all gradients first returns an error and does nothing.
            Err(Error::NeedsAllGradients { .. }) => {
                ensure!(one_by_one.everything() == before, "a step with an error moves something");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        ensure!(together.everything() == one_by_one.everything(), "they differ after step {t}");
    }
    Ok(())
}

pub(crate) fn occurs_once(row: &Row) -> Result<()> {
    match Optimizer::new((row.twice)(), [("w", &[2, 2][..])]) {
        Err(Error::InvalidChain { .. }) => Ok(()),
        Err(other) => bail!("it is an error for another reason: {other}"),
        Ok(_) => bail!("it is accepted"),
    }
}
