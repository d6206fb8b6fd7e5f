#![doc = include_str!("../README.md")]

mod axes;
mod dense;
mod division;
mod factored;
mod rectify;

pub use dense::{DenseMoment, Second, Weights};
pub use division::Division;
pub use factored::{FactoredMoment, Means};
pub use rectify::Rectify;
