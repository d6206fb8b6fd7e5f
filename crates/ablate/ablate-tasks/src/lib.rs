// The first definition of a link counts: items here, their sources on GitHub.
#![doc = include_str!("links.md")]
#![doc = include_str!("../README.md")]

mod autoencoder;
pub mod candle;
mod characters;
pub mod convolution;
pub mod device;
mod digit_images;
mod digits;
mod gpt;
mod idx;
mod kind;
mod lora;
mod mnist;
mod mnist_images;
mod modular;
mod names;
mod perceptron;
mod quadratic;
pub mod random;
mod residual;
mod rosenbrock;
mod task;
mod text;
mod transformer;
mod words;

pub use kind::{TaskKind, read_options, shipped};
pub use mnist_images::MnistImages;
pub use names::{AtFault, known_options, nearest, unknown};
pub use task::{About, Batch, Evaluation, Gradients, InitialParameter, Measure, Split, Task};
pub use words::plain_words;
