#![doc = include_str!("../README.md")]

mod autoencoder;
pub mod candle;
mod characters;
pub mod convolution;
mod digit_images;
mod digits;
mod idx;
mod kind;
mod lora;
mod mnist;
mod mnist_images;
mod modular;
mod perceptron;
mod quadratic;
pub mod random;
mod rosenbrock;
mod task;

pub use autoencoder::Autoencoder;
pub use characters::Characters;
pub use digits::Digits;
pub use kind::{TaskKind, shipped};
pub use lora::Lora;
pub use mnist::Mnist;
pub use mnist_images::MnistImages;
pub use modular::Modular;
pub use quadratic::Quadratic;
pub use rosenbrock::Rosenbrock;
pub use task::{About, Batch, Evaluation, Gradients, InitialParameter, Measure, Split, Task};
