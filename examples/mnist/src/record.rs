use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// A training, as it is written for the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The optimizer and what differs from its defaults.
    pub optimizer: String,
    /// The seed of weights, order and dropout.
    pub seed: u64,
    /// By epoch, from the first.
    pub epochs: Vec<Epoch>,
}

/// Measurements after an epoch, at the evaluation point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// The mean cross-entropy of the test images.
    pub loss: f64,
    /// How many of them are read correctly.
    pub correct: usize,
    /// How many there are.
    pub images: usize,
    /// The mean cross-entropy of the epoch's batches, with dropout, while they were trained on.
    pub training_loss: f64,
    /// Prodigy's estimate, where there is one.
    pub d: Option<f64>,
    /// How long the epoch took, without the test.
    pub seconds: f64,
}

impl Epoch {
    /// The share of correct ones, in percent.
    pub fn accuracy(&self) -> f64 {
        100.0 * self.correct as f64 / self.images as f64
    }
}

impl Record {
    /// Writes the record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, serde_json::to_string_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads a record.
    ///
    /// # Errors
    /// It cannot be read, or is something else.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        serde_json::from_str(&text).with_context(|| format!("{shown} is no record of a training"))
    }
}
