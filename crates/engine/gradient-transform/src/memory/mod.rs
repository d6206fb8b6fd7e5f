//! Numbers and memory: types of elements, buffers, vectors of every instruction set, rounding, sums.

pub(crate) mod buffer;
pub(crate) mod element;
pub mod kernel;
pub(crate) mod noise;
pub mod number;
pub(crate) mod prefetch;
pub(crate) mod rounding;
pub(crate) mod strided;
pub(crate) mod sums;
