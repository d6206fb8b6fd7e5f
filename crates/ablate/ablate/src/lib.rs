#![doc = include_str!("../README.md")]
// It panics where nobody reads; `console::say` doesn't.
#![warn(clippy::print_stderr)]

pub mod analyse;
pub mod cli;
mod columns;
pub mod command;
mod console;
pub mod diff;
mod events;
pub mod execute;
mod export;
pub mod findings;
mod folder;
mod links;
pub mod measured;
pub mod optimizer;
mod prefix;
mod progress;
pub mod record;
pub mod registry;
mod replace;
pub mod report;
pub mod results;
mod run;
mod scalars;
pub mod store;
pub mod study;
mod tensorboard;
mod versions;
