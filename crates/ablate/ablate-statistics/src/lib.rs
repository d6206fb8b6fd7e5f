#![doc = include_str!("../README.md")]

mod bootstrap;
mod difference;
mod equivalence;
mod factorial;
mod holm;
mod joint;
mod plan;
mod power;
mod probability;
mod profile;
mod repeat;
mod sequential;
mod sign_flip;
mod summary;
mod target;
mod unpaired;

pub use bootstrap::{Bootstrap, Interval};
pub use difference::{PairedDifference, tested_differences};
pub use equivalence::joint_equivalence_p;
pub use factorial::{Effect, FactorialEffects};
pub use holm::holm;
pub use joint::joint_sign_flip_p;
pub use plan::{SeedPlan, spread_interval};
pub use power::detectable_difference;
pub use probability::{Probability, error_of_share};
pub use profile::{Profile, performance_profiles};
pub use repeat::repeat_noise;
pub use sequential::{Course, Looks, sequential_equivalence, sequential_sign_flip};
pub use sign_flip::{fewest_pairs, sign_flip_p};
pub use summary::{Summary, iqm};
pub use target::{PairedSteps, StepsToTarget, ToTarget};
pub use unpaired::{unpaired_difference, unpaired_equivalence_p};
