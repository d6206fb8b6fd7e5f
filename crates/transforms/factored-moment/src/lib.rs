#![doc = include_str!("../README.md")]

mod axes;
mod dense;
mod division;
mod factored;
mod first;
mod rectify;
mod rising;

pub use dense::{DenseMoment, Second, Squared, Weights};
pub use division::Division;
pub use factored::{FactoredMoment, Means};
pub use first::{First, FirstMoment, FirstWeights};
pub use rectify::Rectify;
pub use rising::RisingDecay;
