#![doc = include_str!("../README.md")]

mod axes;
mod dense;
mod division;
mod factored;
mod rectify;

pub use dense::DenseMoment;
pub use division::Division;
pub use factored::FactoredMoment;
pub use rectify::Rectify;
