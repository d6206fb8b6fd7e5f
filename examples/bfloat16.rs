//! bfloat16 parameters with 8 bits of precision: rounded to the nearest, small steps are lost; rounded stochastically, they add
//! up. While steps are far below the last digit they are also a random walk, which Prodigy takes for a distance where it has few
//! elements to average over.
//!
//! Run it with `cargo run --release -p examples --example bfloat16`.

use std::io::Write;

use gradient_transform::{Parameter, Result, Scalar};
use half::bf16;
use prodigy_plus::ProdigyPlus;
use rand::{Rng, SeedableRng, rngs::StdRng};

const SIZE: usize = 1100;

/// How far the parameters are from where the loss `|w - 1|^2 / 2` is least, as a root mean square, after training from `start`.
fn train(stochastic_rounding: bool, start: f32) -> Result<f32> {
    let options = ProdigyPlus::builder().stochastic_rounding(stochastic_rounding).d0(1e-4).prodigy_steps(1);
    let mut optimizer = options.build([("w", &[SIZE][..])])?;
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
fn d_of_noise<E: Scalar>(size: usize, of: fn(f32) -> E) -> Result<f64> {
    let mut random = StdRng::seed_from_u64(1);
    let mut draw =
        |most: f32| -> Vec<E> { (0..size).map(|_| of(random.random_range(-most..most))).collect() };
    let mut optimizer = ProdigyPlus::builder().build([("w", &[size][..])])?;
    let mut w = draw(0.5);
    for _ in 0..500 {
        optimizer.step(&mut [Parameter::slice(&mut w, Some(&draw(1.0)))])?;
    }
    Ok(optimizer.estimate(0)?.d)
}

/// Gives the distances from the solution with rounding to the nearest and with stochastic rounding, and what d becomes along noise, in float32
/// and in bfloat16, with few elements and with many.
pub(crate) fn run(out: &mut dyn Write) -> anyhow::Result<([f32; 2], [[f64; 2]; 2])> {
    // Steps of 1e-4, between numbers that are 2^-8 apart.
    let (nearest, stochastic) = (train(false, 1.1)?, train(true, 1.1)?);
    writeln!(out, "from a distance of 0.1, 2000 steps of 1e-4 come to")?;
    writeln!(out, "  {nearest:.4} rounded to the nearest")?;
    writeln!(out, "  {stochastic:.4} rounded stochastically")?;
    writeln!(out, "500 steps along noise take d from 1e-6 to")?;
    writeln!(out, "  elements   float32   bfloat16")?;
    let of_both =
        |size| -> Result<[f64; 2]> { Ok([d_of_noise(size, |x| x)?, d_of_noise(size, bf16::from_f32)?]) };
    let noise = [of_both(1_320)?, of_both(132_000)?];
    for (size, [wide, narrow]) in [1_320, 132_000].iter().zip(noise) {
        writeln!(out, "  {size:>8}   {wide:.1e}    {narrow:.1e}")?;
    }
    Ok(([nearest, stochastic], noise))
}

fn main() -> anyhow::Result<()> {
    run(&mut std::io::stdout())?;
    Ok(())
}
