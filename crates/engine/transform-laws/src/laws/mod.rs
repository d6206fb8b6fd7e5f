//! The laws, by subject. Each is a function of a row, compiled once.

pub(crate) mod chain;
pub(crate) mod estimate;
pub(crate) mod frozen;
pub(crate) mod identity;
pub(crate) mod late;
pub(crate) mod state;
pub(crate) mod symmetry;
pub(crate) mod training;
pub(crate) mod values;

use std::fmt::Debug;

use anyhow::{Result, ensure};
use ndarray::ArrayD;

use crate::number::Number;
use crate::problem::{Deviation, Problem, Trajectory};
use crate::row::{OfRow, Row};
use crate::running::{Running, trajectory};

fn running<T: OfRow, E: Number>(row: &Row, problem: &Problem) -> Result<Running<T, E>> {
    Running::new(row.chain(true), row.laws.lr, &problem.init)
}

/// The trajectory of a row's chain.
fn of_row<T: OfRow, E: Number>(row: &Row, problem: &Problem) -> Result<Trajectory> {
    trajectory::<T, E>(row.chain(true), row.laws.lr, problem)
}

/// The trajectory of a row's chain in float32.
fn single(row: &Row, problem: &Problem) -> Result<Trajectory> {
    of_row::<f32, f32>(row, problem)
}

fn mapped(trajectory: &Trajectory, f: impl Fn(&ArrayD<f64>) -> ArrayD<f64>) -> Trajectory {
    trajectory.iter().map(|step| step.iter().map(&f).collect()).collect()
}

fn ensure_finite(trajectory: &Trajectory) -> Result<()> {
    for (t, step) in trajectory.iter().enumerate() {
        for (i, tensor) in step.iter().enumerate() {
            ensure!(
                tensor.iter().all(|x| x.is_finite()),
                "not finite after step {} in tensor {i}: {tensor}",
                t + 1
            );
        }
    }
    Ok(())
}

/// The end of a message about a row's wrong value: the right one.
fn fitting(option: &str, value: Option<impl Debug>) -> String {
    match value {
        Some(value) => format!("`{option}: {value:?}` fits"),
        None => format!("no value of `{option}` fits"),
    }
}

fn ensure_same(what: &str, ours: &Trajectory, expected: &Trajectory) -> Result<()> {
    ensure!(ours.len() == expected.len(), "{what}: {} steps, not {}", ours.len(), expected.len());
    for (t, (ours, expected)) in ours.iter().zip(expected).enumerate() {
        for (i, (ours, expected)) in ours.iter().zip(expected).enumerate() {
            let differ = ours.iter().zip(expected).filter(|(a, b)| a != b).count();
            ensure!(differ == 0, "{what}: {differ} elements of tensor {i} differ after step {}", t + 1);
        }
    }
    Ok(())
}

fn ensure_within(what: &str, found: &Deviation, tolerance: f64) -> Result<()> {
    let Deviation { step, tensor, relative } = found;
    ensure!(*relative <= tolerance, "{what}: off by {relative:e} in tensor {tensor} after step {step}");
    Ok(())
}
