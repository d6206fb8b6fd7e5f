#![doc = include_str!("../README.md")]

mod prodigy;
mod samples;

pub use prodigy::Prodigy;
pub use samples::Samples;
