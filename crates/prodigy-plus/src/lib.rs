#![doc = include_str!("../README.md")]

mod builder;
mod chain;
mod compat;
mod options;

pub use builder::ProdigyPlus;
pub use compat::Compat;
pub use options::Options;
