//! What moves the parameters: a chain of transforms, or another optimizer to compare with.
//!
//! ```
//! use ablate::optimizer::{Baseline, ChainSpec, Groups, OptimizerSpec, Schedule, Setting, Step, TrainableOptimizer};
//! use ablate::registry::Registry;
//!
//! let registry = Registry::shipped();
//! let chain = ChainSpec { remove: vec!["prodigy".into()], ..ChainSpec::default() };
//! assert!(chain.options()?.use_stableadamw);
//! assert_eq!(chain.transforms(&registry)?.len(), 3);
//! let spec = OptimizerSpec::Chain(chain);
//! assert_eq!(spec.describe(&registry)?, "factored-moment | stableadamw | schedule-free");
//!
//! // One group of one parameter, and a step.
//! let groups: Groups = vec![vec![("w".into(), vec![2])]];
//! let mut optimizer: Box<dyn TrainableOptimizer> = spec.build(&registry, &groups, 0)?;
//! optimizer.set_learning_rate(0.1)?;
//! let mut weights = vec![vec![1.0_f32, 1.0]];
//! assert_eq!(optimizer.step(&mut weights, &[Some(vec![1.0, 1.0])])?, Step::Taken);
//! assert_eq!(optimizer.step_size(0)?, (None, 0.1)); // d is not estimated
//! assert!(optimizer.evaluation_weights(&weights)?[0][0] < 1.0 && optimizer.state_bytes() > 0);
//! let refused = optimizer.step(&mut weights, &[Some(vec![f32::NAN, 1.0])])?;
//! assert_eq!(refused, Step::UnusableGradient("w".into()));
//!
//! let skip = serde_json::Map::from_iter([("non_finite".to_owned(), "skip".into())]);
//! let spec = OptimizerSpec::Chain(ChainSpec { options: skip, ..ChainSpec::default() });
//! let skipped = spec.build(&registry, &groups, 0)?.step(&mut weights, &[Some(vec![f32::NAN, 1.0])])?;
//! assert_eq!(skipped, Step::Skipped);
//!
//! let sgd = Baseline::named("sgd")?;
//! assert_eq!((sgd.name(), sgd.title()), ("sgd", "SGD with momentum"));
//! assert_eq!(OptimizerSpec::Baseline(sgd).describe(&registry)?, sgd.rule());
//! assert_eq!(sgd.schedules(), [Schedule::Constant, Schedule::LinearDecay]);
//! let decayed = Setting { learning_rate: 0.1, schedule: Schedule::LinearDecay };
//! assert_eq!((decayed.at(0, 10), decayed.at(5, 10)), (0.1, 0.05));
//! # Ok::<(), anyhow::Error>(())
//! ```

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
    UnusableGradient(String),
    /// The same of some parameter, where the optimizer skips such steps; nothing moved, and the run goes on.
    Skipped,
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
