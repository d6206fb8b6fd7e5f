//! Optimizers: chains of transforms, and the edits that factors make of them.
//!
//! ```
//! use ablate::optimizer::{
//!     ChainSpec, Change, Groups, Named, OptimizerSpec, Schedule, Setting, Step, TrainableOptimizer,
//! };
//! use ablate::registry::Registry;
//! use serde_json::{Map, json};
//!
//! let registry = Registry::shipped();
//! let chain = ChainSpec { remove: vec!["prodigy".into()], ..ChainSpec::default() };
//! assert!(chain.options()?.implied().use_stableadamw);
//! assert_eq!((chain.lr()?, chain.transforms(&registry, 100)?.len()), (Some(1.0), 3));
//! let spec = OptimizerSpec::Chain(chain);
//! assert_eq!(spec.describe(&registry)?, "factored-moment | stableadamw | schedule-free");
//!
//! // One group of one parameter, and a step of a run of 100.
//! let groups: Groups = vec![vec![("w".into(), vec![2])]];
//! let mut optimizer: Box<dyn TrainableOptimizer> = spec.build(&registry, &groups, 0, 100)?;
//! optimizer.set_learning_rate(0.1)?;
//! let mut weights = vec![vec![1.0_f32, 1.0]];
//! assert_eq!(optimizer.step(&mut weights, &[Some(vec![1.0, 1.0])], 2.0)?, Step::Taken);
//! assert_eq!(optimizer.step_size(0)?, (None, 0.1)); // d is not estimated
//! assert!(optimizer.evaluation_weights(&weights)?[0][0] < 1.0 && optimizer.state_bytes() > 0);
//! // Another chain continues from there, with what both keep.
//! let mut other = OptimizerSpec::Chain(ChainSpec::default()).build(&registry, &groups, 0, 100)?;
//! let restored = other.go_on(&optimizer.state()?, &mut weights)?;
//! assert!(restored.surplus.is_empty() && restored.missing.contains(&"w/prodigy/s".to_owned()));
//! let refused = optimizer.step(&mut weights, &[Some(vec![f32::NAN, 1.0])], 2.0)?;
//! assert_eq!(refused, Step::UnusableGradient("w".into()));
//!
//! // An optimizer by name, and the same chain as a study lists it.
//! let options = |table: serde_json::Value| {
//!     ChainSpec { options: serde_json::from_value(table).unwrap(), ..ChainSpec::default() }
//! };
//! let adamw = options(json!({ "optimizer": "adamw", "adam.beta2": 0.95, "non_finite": "skip" }));
//! assert_eq!(adamw.describe(&registry)?, "adam (beta2 = 0.95) | weight-decay | descent");
//! assert_eq!(adamw.lr()?, Some(1e-3));
//! let listed = options(json!({ "chain": ["clip-by-norm", "lion", "descent"], "lr": 1e-4 }));
//! assert_eq!(listed.describe(&registry)?, "clip-by-norm | lion | descent");
//! let mut skipping = OptimizerSpec::Chain(adamw).build(&registry, &groups, 0, 100)?;
//! assert_eq!(skipping.step(&mut weights, &[Some(vec![f32::NAN, 1.0])], 2.0)?, Step::Skipped);
//! // A factor with a chain of its own starts fresh.
//! let factor = Change { options: Map::from_iter([("optimizer".into(), json!("lion"))]), ..Default::default() };
//! let lion = listed.clone().anew_for(&factor, &listed.options).with(&factor, &listed.options)?;
//! assert_eq!(lion.describe(&registry)?, "lion | weight-decay (rate = 0.001) | descent");
//!
//! let sgd = Named::of("sgd")?;
//! assert_eq!((sgd.name(), sgd.title(), sgd.lr()), ("sgd", "SGD with momentum", None));
//! assert_eq!(sgd.chain(), ["momentum", "descent"]);
//! assert_eq!(OptimizerSpec::Baseline(sgd).describe(&registry)?, "momentum | descent");
//! assert_eq!(sgd.schedules(), [Schedule::Constant, Schedule::LinearDecay]);
//! assert!(Named::all().any(|named| named.name() == "adamw"));
//! let decayed = Setting { learning_rate: 0.1, schedule: Schedule::LinearDecay };
//! assert_eq!((decayed.at(0, 10), decayed.at(5, 10)), (0.1, 0.05));
//! # Ok::<(), anyhow::Error>(())
//! ```

mod change;
mod member;
mod named;
mod setting;
mod spec;

use std::borrow::Cow;

use anyhow::Result;
use serde::{Deserialize, Serialize};

pub use ablate_transforms::{Chain, Groups, Step, TrainableOptimizer};
pub use change::{Change, Insertion};
pub use named::Named;
pub use setting::{Schedule, Setting};
pub use spec::ChainSpec;

use crate::registry::Registry;

/// Everything that determines an optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerSpec {
    /// A chain of transforms.
    Chain(ChainSpec),
    /// A named one, to compare with from outside.
    Baseline(Named),
}

impl OptimizerSpec {
    fn chain(&self) -> Cow<'_, ChainSpec> {
        match self {
            Self::Chain(spec) => Cow::Borrowed(spec),
            Self::Baseline(named) => Cow::Owned(named.spec()),
        }
    }

    /// A fresh optimizer for one run of so many steps; `seed` is that of its random rounding.
    ///
    /// # Errors
    /// A chain that cannot be.
    pub fn build(
        &self,
        registry: &Registry,
        groups: &Groups,
        seed: u64,
        steps: usize,
    ) -> Result<Box<dyn TrainableOptimizer>> {
        Ok(Box::new(Chain::new(self.chain().optimizer(registry, groups, seed, steps)?, groups)))
    }

    /// The transforms in order.
    ///
    /// # Errors
    /// A chain that cannot be.
    pub fn describe(&self, registry: &Registry) -> Result<String> {
        self.chain().describe(registry)
    }
}
