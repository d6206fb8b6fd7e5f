//! Prints the kernels of Adam's sweep, as the book shows them.
//!
//!     cargo run -p sweep-kernels --example kernel > crates/engine/sweep-kernels/examples/adam.c

use elementary::Adam;
use gradient_transform::{DType, Descent, Error, Optimizer, Rounding};
use sweep_kernels::{Types, kernels};

#[allow(clippy::print_stdout)] // a program for the terminal
fn main() -> Result<(), Error> {
    let optimizer = Optimizer::new((Adam::default(), Descent::default()), [("w", [64, 64])])?;
    let types = Types {
        gradient: DType::F32,
        parameter: DType::F32,
        columns: vec![Some(DType::F32); 2],
        rounding: Rounding::Stochastic,
    };
    for sweep in optimizer.formulas(0, &[64, 64])? {
        print!("{}", kernels(&sweep, &types));
    }
    Ok(())
}
