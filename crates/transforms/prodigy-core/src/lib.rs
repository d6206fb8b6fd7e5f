#![doc = include_str!("../README.md")]

mod estimate;
mod prodigy;
mod samples;

pub use estimate::{Negative, Ratio, Weighting};
pub use prodigy::Prodigy;
pub use samples::{Point, Samples};
