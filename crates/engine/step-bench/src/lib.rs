//! Measures what a step of an optimizer costs, in nanoseconds and bytes per parameter.
//!
//! A single figure from a noisy machine says little: compare two configurations by alternating their runs.

pub mod bench;
pub mod fused;
pub mod roofline;
pub mod shapes;
pub mod threads;
