#![doc = include_str!("../README.md")]

mod advice;
pub mod formula;
mod law;
mod laws;
mod macros;
mod number;
mod problem;
mod row;
mod running;
pub mod table;

pub use law::{Broken, Law, check};
pub use laws::identity::identities_change_nothing;
pub use laws::training::{Training, shares_left};
pub use number::Number;
pub use problem::{Problem, Trajectory};
pub use row::{Boxed, Chains, Joins, Laws, Permutation, Row, Scale, Zero};

/// Names that the macros refer to.
#[doc(hidden)]
pub mod __private {
    pub use crate::advice::Advice;
    pub use gradient_transform::{Link, Real};
    pub use insta;
}
