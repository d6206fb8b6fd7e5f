#![doc = include_str!("../README.md")]

mod error;
mod evaluation;
#[cfg(any(feature = "cuda", test))]
mod in_place;
mod lent;
#[cfg(feature = "cuda")]
mod on_cuda;
mod optimizer;
mod steps;
mod variables;

pub use error::{Error, Result};
pub use evaluation::Evaluating;
#[cfg(feature = "cuda")]
pub use on_cuda::OnCuda;
pub use optimizer::{ProdigyPlus, VarOptimizer};
pub use prodigy_plus::{Finding, NonFinite, Options, Recorder, Restored, StepOutcome};
pub use variables::{named_variables, shapes};
