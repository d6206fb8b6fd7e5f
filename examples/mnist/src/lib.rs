#![doc = include_str!("../README.md")]

pub mod network;
mod record;

pub use record::{Epoch, Record};
