#![doc = include_str!("../README.md")]

pub mod cli;
pub mod diff;
pub mod execute;
pub mod findings;
pub mod folder;
pub mod optimizer;
pub mod progress;
pub mod record;
pub mod registry;
mod replace;
pub mod report;
pub mod results;
pub mod run;
pub mod store;
pub mod study;
mod transforms;
pub mod versions;
