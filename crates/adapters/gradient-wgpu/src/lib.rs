#![doc = include_str!("../README.md")]

mod array;
mod device;
mod error;
mod memory;
mod multiply;
mod program;
mod sample;
mod transfer;

pub use array::WgpuArray;
pub use device::Wgpu;
pub use error::WgpuError;
