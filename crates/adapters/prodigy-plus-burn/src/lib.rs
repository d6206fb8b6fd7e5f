#![doc = include_str!("../README.md")]

mod error;
#[cfg(feature = "wgpu")]
mod on_wgpu;
mod optimizer;
mod parameters;
#[cfg(feature = "wgpu")]
mod resident;
mod steps;

pub use error::{Error, Result};
#[cfg(feature = "wgpu")]
pub use on_wgpu::OnWgpu;
pub use optimizer::{ModuleOptimizer, ProdigyPlus};
pub use parameters::parameters;
pub use prodigy_plus::{Finding, NonFinite, Options, Recorder, Restored, StepOutcome};
