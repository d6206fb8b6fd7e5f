// The first definition of a link counts: items here, their sources on GitHub.
#![doc = include_str!("links.md")]
#![doc = include_str!("../README.md")]

mod builder;
mod chain;
mod compat;
mod diagnosis;
mod engine_compat;
mod line;
mod loops;
mod options;
mod rules;

// A training loop needs only this crate.
pub use gradient_transform::{Error, NonFinite, Optimizer, Parameter, Recorder, Restored, StepOutcome};

pub use builder::ProdigyPlus;
pub use compat::Compat;
pub use diagnosis::{Diagnose, Finding, GroupName, diagnose};
pub use engine_compat::EngineCompat;
pub use line::Line;
pub use options::{Implied, Options};
pub use rules::{EXCLUSIONS, Exclusion, POSITIONS, Position, rules_table};
