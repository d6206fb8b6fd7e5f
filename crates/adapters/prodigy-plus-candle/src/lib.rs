#![doc = include_str!("../README.md")]

mod error;
mod evaluation;
mod lent;
mod optimizer;
mod steps;
mod variables;

pub use error::{Error, Result};
pub use evaluation::Evaluating;
pub use optimizer::{ProdigyPlus, VarOptimizer};
pub use prodigy_plus::{Finding, Options, Recorder};
pub use variables::{named_variables, shapes};
