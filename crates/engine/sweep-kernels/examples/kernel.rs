//! Prints the kernels of Adam's sweep in CUDA C or WGSL, as the book shows them.
//!
//!     cargo run -p sweep-kernels --example kernel > crates/engine/sweep-kernels/examples/adam.c
//!     cargo run -p sweep-kernels --example kernel -- wgsl > crates/engine/sweep-kernels/examples/adam.wgsl

use elementary::Adam;
use gradient_transform::{DType, Descent, Error, Optimizer, Rounding};
use sweep_kernels::wgsl::{self, Bindings};
use sweep_kernels::{Types, kernels};

#[allow(clippy::print_stdout)] // a program for the terminal
fn main() -> Result<(), Error> {
    sigpipe::reset(); // A reader such as `head` may end first.
    let optimizer = Optimizer::new((Adam::default(), Descent::default()), [("w", [64, 64])])?;
    let types = Types {
        gradient: DType::F32,
        parameter: DType::F32,
        columns: vec![Some(DType::F32); 2],
        rounding: Rounding::Stochastic,
    };
    // Gradients, parameters and state in a buffer each.
    let bindings = Bindings { gradient: 0, parameter: 1, columns: vec![2, 2] };
    let in_wgsl = std::env::args().nth(1).is_some_and(|language| language == "wgsl");
    for sweep in optimizer.formulas(0, &[64, 64])? {
        let text = if in_wgsl { wgsl::kernels(&sweep, &types, &bindings) } else { kernels(&sweep, &types) };
        print!("{text}");
    }
    Ok(())
}
