//! What the example's two programs share: the network, and the record of a training.

pub mod network;
mod record;

pub use record::{Epoch, Record};
