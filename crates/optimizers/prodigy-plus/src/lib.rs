#![doc = include_str!("../README.md")]

mod builder;
mod chain;
mod compat;
mod loops;
mod options;
mod rules;

pub use builder::ProdigyPlus;
pub use compat::Compat;
pub use options::Options;
pub use rules::{EXCLUSIONS, Exclusion, POSITIONS, Position, rules_table};
