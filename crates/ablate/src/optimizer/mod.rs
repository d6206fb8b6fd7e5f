//! What moves the parameters: a chain of transforms, or another optimizer to compare with.

mod baseline;
mod chain;
mod setting;
mod spec;

use anyhow::Result;
use serde::{Deserialize, Serialize};

pub use baseline::Baseline;
pub use chain::Chain;
pub use setting::{Schedule, Setting};
pub use spec::ChainSpec;

use crate::registry::Registry;

/// Everything that determines an optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerSpec {
    /// A chain of transforms.
    Chain(ChainSpec),
    /// Another optimizer.
    Baseline(Baseline),
}

/// The parameters' names and shapes by group.
pub type Groups = Vec<Vec<(String, Vec<usize>)>>;

impl OptimizerSpec {
    /// A fresh optimizer for one run; `seed` is that of its random rounding.
    ///
    /// # Errors
    /// A chain that cannot be.
    pub fn build(
        &self,
        registry: &Registry,
        groups: &Groups,
        seed: u64,
    ) -> Result<Box<dyn TrainableOptimizer>> {
        Ok(match self {
            Self::Chain(spec) => Box::new(Chain::new(spec.optimizer(registry, groups, seed)?, groups)),
            Self::Baseline(baseline) => baseline.build(groups)?,
        })
    }

    /// The transforms in order, or the update rule in words.
    ///
    /// # Errors
    /// A chain that cannot be.
    pub fn describe(&self, registry: &Registry) -> Result<String> {
        match self {
            Self::Chain(spec) => {
                let group = vec![("w".to_owned(), vec![64, 64])];
                Ok(spec.optimizer(registry, &[group], 0)?.describe_chain(0, &[64, 64])?.replace(" ‖", ""))
            }
            Self::Baseline(baseline) => Ok(baseline.rule().to_owned()),
        }
    }
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The parameters moved.
    Taken,
    /// The named parameter's gradient has a NaN, an infinity, or an element too large to square; nothing moved.
    NonFiniteGradient(String),
}

/// What a run needs from an optimizer. Weights and gradients are in the order of the groups that it was built for.
pub trait TrainableOptimizer {
    /// Moves the weights by one step.
    ///
    /// # Errors
    /// Anything but a gradient that is not finite.
    fn step(&mut self, weights: &mut [Vec<f32>], gradients: &[Option<Vec<f32>>]) -> Result<Step>;

    /// The learning rate of the steps to come.
    ///
    /// # Errors
    /// It is out of range.
    fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()>;

    /// The weights to evaluate: an average where the optimizer keeps one, else the weights themselves.
    ///
    /// # Errors
    /// The weights are not those of the latest step.
    fn evaluation_weights(&self, weights: &[Vec<f32>]) -> Result<Vec<Vec<f32>>>;

    /// A group's d, where it is estimated, and the step size of the latest step.
    ///
    /// # Errors
    /// There is no such group.
    fn step_size(&self, group: usize) -> Result<(Option<f64>, f64)>;

    /// Bytes that it keeps between steps.
    fn state_bytes(&self) -> usize;
}
