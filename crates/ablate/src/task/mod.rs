//! What is trained: parameters, batches and losses, knowing nothing of optimizers.

mod digits;

pub use digits::Digits;

use anyhow::Result;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};

/// A parameter's name, shape and initial values.
#[derive(Debug, Clone, PartialEq)]
pub struct InitialParameter {
    /// The name, unique within the task.
    pub name: String,
    /// The shape.
    pub shape: Vec<usize>,
    /// The values in row-major order.
    pub values: Vec<f32>,
}

/// The examples of one training step, by their position in the training split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Positions in the training split.
    pub rows: Vec<u32>,
}

/// Which part of the data a number was measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// What the optimizer sees.
    Train,
    /// What tuning may look at.
    Validation,
    /// What is measured once, at the end of a reported run.
    Test,
}

/// Loss and accuracy over a whole split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The mean loss.
    pub loss: f64,
    /// The share of examples that were classified correctly, 0 to 1.
    pub accuracy: f64,
}

/// Something to train.
///
/// Everything random depends on the seed alone, never on the optimizer: that is what makes the differences between
/// arms *paired*.
pub trait Task: Sync {
    /// A short name for tables and files.
    fn name(&self) -> &str;

    /// One paragraph: data, split, model, loss.
    fn description(&self) -> String;

    /// How many examples a split has.
    fn examples(&self, split: Split) -> usize;

    /// The parameters before the first step.
    fn initial_parameters(&self, seed: u64) -> Vec<InitialParameter>;

    /// The training steps of one epoch (counted from 0), in order.
    fn epoch(&self, seed: u64, epoch: usize) -> Vec<Batch>;

    /// The loss to differentiate, as a scalar tensor; `weights` are in the order of
    /// [`initial_parameters`](Self::initial_parameters).
    fn training_loss(&self, weights: &[Tensor], batch: &Batch) -> Result<Tensor>;

    /// Loss and accuracy over a whole split.
    fn evaluate(&self, weights: &[Tensor], split: Split) -> Result<Evaluation>;
}
