#![doc = include_str!("../README.md")]

mod bootstrap;
mod difference;
mod factorial;
mod holm;
mod profile;
mod sign_flip;
mod summary;
mod target;

pub use bootstrap::{Bootstrap, Interval};
pub use difference::PairedDifference;
pub use factorial::{Effect, FactorialEffects};
pub use holm::holm;
pub use profile::{Profile, performance_profiles};
pub use sign_flip::sign_flip_p;
pub use summary::{Summary, iqm};
pub use target::{PairedSteps, StepsToTarget, ToTarget};
