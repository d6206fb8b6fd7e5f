#![doc = include_str!("../README.md")]

mod builder;
mod chain;
mod compat;
mod engine_compat;
mod line;
mod loops;
mod options;
mod rules;

// A training loop depends on this crate alone.
pub use gradient_transform::{Error, Optimizer, Parameter};

pub use builder::ProdigyPlus;
pub use compat::Compat;
pub use engine_compat::EngineCompat;
pub use line::Line;
pub use options::{Implied, Options};
pub use rules::{EXCLUSIONS, Exclusion, POSITIONS, Position, rules_table};
