//! A transform that joins its chain late.

use anyhow::{Result, ensure};
use gradient_transform::Descent;
use ndarray::ArrayD;

use super::{fitting, of_row};
use crate::problem::{Deviation, Problem, Trajectory, deviation};
use crate::row::{Joins, Row};
use crate::running::Running;

/// Number of steps after which the influence of the first is below the tolerance.
const MANY: usize = 200;

/// The trajectory of a row's chain in a group that has had eight steps with gradients of zero, which moved
/// nothing. So it is a new run, except for the counters of the group and its tensors.
fn late(row: &Row, problem: &Problem) -> Result<Trajectory> {
    let mut late = Running::<f64, f64>::new(Box::new(Descent::default()), row.laws.lr, &problem.init)?;
    late.steps(&Problem::usual().without_gradients_from(0))?;
    late.optimizer.replace_chain(0, row.chain(true))?;
    let steps = problem.steps().map(|step| {
        late.step(step)?;
        Ok(late.wide())
    });
    steps.collect()
}

type Tensors = Vec<ArrayD<f64>>;

/// The last update of many steps with the same gradient, and the first update of a transform that
/// joins late.
fn in_the_long_run_and_late(row: &Row) -> Result<(Tensors, Tensors)> {
    let mut problem = Problem::usual();
    problem.gradients = vec![problem.gradients[0].clone(); MANY];
    problem.losses = vec![problem.losses[0]; MANY];
    let moved =
        |to: &[ArrayD<f64>], from: &[ArrayD<f64>]| to.iter().zip(from).map(|(to, from)| to - from).collect();
    let path = of_row::<f64, f64>(row, &problem)?;
    let long = moved(&path[MANY - 1], &path[MANY - 2]);
    problem.gradients.truncate(1);
    Ok((long, moved(&late(row, &problem)?[0], &problem.init)))
}

/// The value that fits the transform.
fn found(row: &Row) -> Result<Joins> {
    let problem = Problem::usual();
    if late(row, &problem)? == of_row::<f64, f64>(row, &problem)? {
        return Ok(Joins::AsNew);
    }
    let (long, first) = in_the_long_run_and_late(row)?;
    let nowhere: Vec<_> = long.iter().map(|u| ArrayD::zeros(u.raw_dim())).collect();
    let Deviation { relative, .. } = deviation(&vec![first], &vec![long], &nowhere, 0.0);
    Ok(if relative < 1e-3 { Joins::AsInTheLongRun } else { Joins::Otherwise })
}

pub(crate) fn joins_as_its_row_says(row: &Row) -> Result<()> {
    let (said, found) = (row.laws.joins, found(row)?);
    ensure!(said == found, "the row has `joins: {said:?}`, and {}", fitting("joins", Some(found)));
    Ok(())
}
