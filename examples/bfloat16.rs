//! bfloat16 parameters with 8 bits of precision: rounded to the nearest, small steps are lost; rounded stochastically, they add
//! up.
//!
//! Run it with `cargo run --release -p examples --example bfloat16`.
#![allow(clippy::print_stdout)] // an example prints

use gradient_transform::{Optimizer, Parameter, Result};
use half::bf16;
use prodigy_plus::ProdigyPlus;

const SIZE: usize = 1100;

/// How far the parameters are from where the loss `|w - 1|^2 / 2` is least, as a root mean square, after training from `start`.
fn train(stochastic_rounding: bool, start: f32) -> Result<f32> {
    let options = ProdigyPlus::builder().stochastic_rounding(stochastic_rounding).d0(1e-4).prodigy_steps(1);
    let mut optimizer: Optimizer = options.build([("w", &[SIZE][..])])?;
    let mut w = vec![bf16::from_f32(start); SIZE];
    for _ in 0..2000 {
        let gradient: Vec<bf16> = w.iter().map(|w| bf16::from_f32(w.to_f32() - 1.0)).collect();
        // Half the memory of float32, for the parameters and for the state.
        optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))])?;
    }
    let mut x = w.clone();
    optimizer.evaluation_point(0, &w, &mut x)?;
    Ok((x.iter().map(|x| (x.to_f32() - 1.0).powi(2)).sum::<f32>() / SIZE as f32).sqrt())
}

/// Gives the distance from the solution with rounding to the nearest and with stochastic rounding.
pub(crate) fn run() -> Result<(f32, f32)> {
    // Steps of 1e-4, between numbers that are 2^-8 apart.
    let (nearest, stochastic) = (train(false, 1.1)?, train(true, 1.1)?);
    println!("from a distance of 0.1, 2000 steps of 1e-4 come to");
    println!("  {nearest:.4} rounded to the nearest");
    println!("  {stochastic:.4} rounded stochastically");
    Ok((nearest, stochastic))
}

fn main() -> Result<()> {
    run()?;
    Ok(())
}
