#![doc = include_str!("../README.md")]

mod adam;
mod estimating;
mod layerwise;
mod matrices;
mod plain;
mod scaling;
mod with_loss;

pub use adam::{
    adabelief, adam, adamax, adamw, adan, ademamix, amsgrad, c_adamw, grams, mars, nadam, radam, stableadamw,
    yogi,
};
pub use estimating::{dog, l_dog, prodigy, schedule_free_adamw, schedule_free_sgd};
pub use layerwise::{lamb, lars, novograd};
pub use matrices::muon;
pub use plain::{lion, noisy_sgd, optimistic_gradient_descent, rprop, sgd, sign_sgd, signum};
pub use scaling::{adadelta, adafactor, adagrad, adopt, rmsprop};
pub use with_loss::polyak_sgd;
