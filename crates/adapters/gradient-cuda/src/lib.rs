#![doc = include_str!("../README.md")]

mod array;
mod cuda;
mod error;
mod launch;

pub use array::CudaArray;
pub use cuda::Cuda;
pub use error::CudaError;
