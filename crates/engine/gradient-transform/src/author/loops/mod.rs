//! Loops over tiles that call authors' functions of an element. The loop itself is in [`pass`].

pub(in crate::author) mod along;
mod array;
pub(in crate::author) mod fused;
pub(in crate::author) mod part;
pub(crate) mod pass;
mod sums;
pub(in crate::author) mod work;
mod works;
