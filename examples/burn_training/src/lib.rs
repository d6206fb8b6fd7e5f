//! The example is `main.rs`: `cargo run --release -p burn_training`.
//!
//! This library is empty. Its doctests are the code blocks of the project's README, some of which need burn.

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}
