//! bfloat16 parameters with 8 bits of precision: rounded to the nearest, small steps are lost; rounded stochastically, they add
//! up. While steps are far below the last digit they are also a random walk, which Prodigy takes for a distance where it has few
//! elements to average over.
//!
//! Run it with `cargo run --release -p examples --example bfloat16`.
#![allow(clippy::print_stdout)] // an example prints

use gradient_transform::{Element, Optimizer, Parameter, Result};
use half::bf16;
use prodigy_plus::ProdigyPlus;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

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

/// d after 500 steps along gradients that are noise alone, for `size` weights within 0.5 of 0.
fn d_of_noise<E: Element>(size: usize, of: fn(f32) -> E) -> Result<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut draw =
        |most: f32| -> Vec<E> { (0..size).map(|_| of(random.random_range(-most..most))).collect() };
    let mut optimizer: Optimizer = ProdigyPlus::builder().build([("w", &[size][..])])?;
    let mut w = draw(0.5);
    for _ in 0..500 {
        optimizer.step(&mut [Parameter::slice(&mut w, Some(&draw(1.0)))])?;
    }
    Ok(optimizer.estimate(0)?.d)
}

/// What the example shows.
pub(crate) struct Shown {
    /// Distances from the solution with rounding to the nearest and with stochastic rounding.
    pub(crate) nearest: f32,
    pub(crate) stochastic: f32,
    /// (elements, d in float32, d in bfloat16) from noise.
    pub(crate) noise: Vec<(usize, f64, f64)>,
}

pub(crate) fn run() -> Result<Shown> {
    // Steps of 1e-4, between numbers that are 2^-8 apart.
    let (nearest, stochastic) = (train(false, 1.1)?, train(true, 1.1)?);
    println!("from a distance of 0.1, 2000 steps of 1e-4 come to");
    println!("  {nearest:.4} rounded to the nearest");
    println!("  {stochastic:.4} rounded stochastically");
    println!("500 steps along noise take d from 1e-6 to");
    println!("  elements   float32   bfloat16");
    let mut noise = Vec::new();
    for size in [1_320, 132_000] {
        let (wide, narrow) = (d_of_noise(size, |x| x)?, d_of_noise(size, bf16::from_f32)?);
        println!("  {size:>8}   {wide:.1e}    {narrow:.1e}");
        noise.push((size, wide, narrow));
    }
    Ok(Shown { nearest, stochastic, noise })
}

fn main() -> Result<()> {
    run()?;
    Ok(())
}
