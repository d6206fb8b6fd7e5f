#![doc = include_str!("../README.md")]

mod error;
mod optimizer;
mod parameters;
mod steps;

pub use error::{Error, Result};
pub use optimizer::{ModuleOptimizer, ProdigyPlus};
pub use parameters::parameters;
pub use prodigy_plus::{Finding, Options, Recorder};
