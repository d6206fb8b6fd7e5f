//! Measures the cost of a step of an optimizer, in nanoseconds and bytes per parameter.
//!
//! A single figure from a noisy machine is not reliable: compare two configurations by alternating their
//! runs.

pub mod bench;
pub mod fused;
pub mod roofline;
pub mod shapes;
pub mod threads;
