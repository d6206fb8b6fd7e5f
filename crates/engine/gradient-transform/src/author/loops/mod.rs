//! Loops over tiles that call authors' functions of an element: [`pass`] has the loop.

pub(in crate::author) mod along;
mod array;
pub(in crate::author) mod fused;
pub(in crate::author) mod part;
pub(crate) mod pass;
mod sums;
pub(in crate::author) mod work;
mod works;
