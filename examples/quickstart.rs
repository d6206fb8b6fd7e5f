//! The default optimizer on plain slices: no learning rate, no schedule, no ndarray.
//!
//! Fits a line to points. Run it with `cargo run --release -p examples --example quickstart`.

use std::io::Write;

use gradient_transform::Parameter;
use prodigy_plus::ProdigyPlus;

/// The mean square error of the line `slope * t + offset` at the points, and its gradient.
fn loss(slope: f32, offset: f32, points: &[(f32, f32)]) -> (f32, f32, f32) {
    let n = points.len() as f32;
    points.iter().fold((0.0, 0.0, 0.0), |(loss, by_slope, by_offset), &(t, target)| {
        let error = slope * t + offset - target;
        (loss + error * error / n, by_slope + 2.0 * error * t / n, by_offset + 2.0 * error / n)
    })
}

/// Prints as it goes; gives the loss before and after.
pub(crate) fn run(out: &mut dyn Write) -> anyhow::Result<(f32, f32)> {
    let points: Vec<(f32, f32)> =
        (0..50).map(|i| i as f32 / 25.0 - 1.0).map(|t| (t, 3.0 * t - 0.5)).collect();

    // Parameters are registered by name and shape, and given in this order at every step.
    let mut optimizer = ProdigyPlus::builder().build([("slope", &[1][..]), ("offset", &[1][..])])?;
    let (mut slope, mut offset) = ([0.0_f32], [0.0_f32]);
    let (before, ..) = loss(slope[0], offset[0], &points);

    for step in 1..=1000 {
        let (now, by_slope, by_offset) = loss(slope[0], offset[0], &points);
        optimizer.step(&mut [
            Parameter::slice(&mut slope, Some(&[by_slope])),
            Parameter::slice(&mut offset, Some(&[by_offset])),
        ])?;
        if step % 200 == 0 {
            writeln!(out, "step {step}: loss {now:.6} at y, d {:.2e}", optimizer.estimate(0)?.d)?;
        }
    }

    // Gradients are taken at y; the answer is the average x.
    let mut parameters = [Parameter::slice(&mut slope, None), Parameter::slice(&mut offset, None)];
    optimizer.eval(&mut parameters)?;
    let (after, ..) = loss(slope[0], offset[0], &points);
    writeln!(
        out,
        "slope {:.3}, offset {:.3}: loss {after:.6} at x, {before:.3} at the start",
        slope[0], offset[0]
    )?;
    Ok((before, after))
}

fn main() -> anyhow::Result<()> {
    run(&mut std::io::stdout())?;
    Ok(())
}
