//! Two groups with options of their own, under the three ways in which their estimates of the step size can act.
//!
//! Run it with `cargo run --release -p examples --example several_groups`.

use std::io::Write;

use gradient_transform::{Optimizer, Parameter, Result};
use prodigy_plus::{Options, ProdigyPlus};

/// Results of a run: every group's d, and the step size it took in the last step.
pub(crate) type Found = [(f64, f64); 2];

/// A model with an encoder whose gradients are large and a head whose gradients are small.
fn train(base: &Options, out: &mut dyn Write) -> anyhow::Result<Found> {
    let mut optimizer: Optimizer = base.build_groups([
        (base.clone(), vec![("encoder.w", &[8, 40][..]), ("encoder.b", &[40][..])]),
        (base.clone().weight_decay(0.01).d0(1e-5), vec![("head.w", &[40][..])]),
    ])?;
    writeln!(out, "  {}", optimizer.describe_chain(0, &[8, 40])?)?;

    let (mut w, mut b, mut head) = (vec![0.5_f32; 320], [0.0_f32; 40], [2.0_f32; 40]);
    for _ in 0..300 {
        // The losses 10 |w - 1|^2, 10 |b - 1|^2 and |head|^2 / 20.
        let by_w: Vec<f32> = w.iter().map(|w| 20.0 * (w - 1.0)).collect();
        let by_b = b.map(|b| 20.0 * (b - 1.0));
        let by_head = head.map(|h| 0.1 * h);
        optimizer.step(&mut [
            Parameter::slice(&mut w, Some(&by_w)),
            Parameter::slice(&mut b, Some(&by_b)),
            Parameter::slice(&mut head, Some(&by_head)),
        ])?;
    }
    let found = |group: usize| -> Result<(f64, f64)> {
        Ok((optimizer.estimate(group)?.d, optimizer.latest_step(group)?.step_size))
    };
    Ok([found(0)?, found(1)?])
}

/// Prints as it goes; gives d and the step sizes with the harmonic mean, each for itself, and jointly.
pub(crate) fn run(out: &mut dyn Write) -> anyhow::Result<[Found; 3]> {
    let base = ProdigyPlus::builder();
    let policies = [
        ("a d of its own each, steps by their harmonic mean (the default)", base.clone()),
        ("a d of its own each, steps by its own", base.clone().split_groups_mean(false)),
        ("one d for all", base.split_groups(false)),
    ];
    let mut all = [[(0.0, 0.0); 2]; 3];
    for (found, (policy, options)) in all.iter_mut().zip(policies) {
        writeln!(out, "{policy}")?;
        *found = train(&options, out)?;
        for (name, (d, step_size)) in ["encoder", "head"].iter().zip(found) {
            writeln!(out, "  {name:<8} d {d:.3e}   step size {step_size:.3e}")?;
        }
    }
    Ok(all)
}

fn main() -> anyhow::Result<()> {
    run(&mut std::io::stdout())?;
    Ok(())
}
