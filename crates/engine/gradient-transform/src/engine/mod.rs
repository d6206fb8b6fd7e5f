//! The engine: how a chain of links is cut into sweeps, and how a sweep runs over a tensor.

pub(crate) mod comparison;
pub(crate) mod elsewhere;
pub(crate) mod formula;
pub(crate) mod plan;
pub(crate) mod sweep;
pub(crate) mod tensor;
