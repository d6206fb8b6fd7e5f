//! Conformance to the Python reference, prodigy-plus-schedule-free 1.9.2 and 2.0.1.
//!
//! A *case* is a recorded trajectory of the reference ([`case`]). It is replayed through a [`replay::Subject`] - the
//! product's engine ([`product`]) or the naive float64 oracle ([`oracle`]) - and judged by one agreement rule
//! ([`replay`]). The oracle is the text to read beside the formulas: one plain pass per formula, no fusion, no tiles.

pub mod case;
pub mod counting;
pub mod device;
pub mod device_loop;
pub mod oracle;
pub mod pair;
pub mod product;
pub mod products;
mod random_chain;
pub mod replay;
pub mod table;
