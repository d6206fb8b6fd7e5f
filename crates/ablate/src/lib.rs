//! Ablation studies of optimizers built from gradient transforms.
//!
//! A study trains a [task](task::Task) with several [arms](arm::Arm): the default optimizer, the default without one of
//! its parts, and a tuned reference from outside. Every arm meets the same initial parameters and the same batches for a
//! seed, so the differences are paired. [`study::run`] does the work, [`summary::Findings`] says what it means, and
//! [`report`] writes it down.

pub mod arm;
pub mod optimizer;
pub mod output;
pub mod progress;
pub mod report;
pub mod run;
pub mod statistics;
pub mod study;
pub mod summary;
pub mod task;
pub mod versions;
