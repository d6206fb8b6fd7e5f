//! Computes the data of the book's interactive figure: where y, z and x go on two weights, for every set of transforms.
//!
//! Run it with `cargo run --release -p examples --example trajectories`; it writes `book/src/tutorial/trajectories.js`.
#![allow(clippy::print_stdout)] // an example prints

use std::path::Path;

use anyhow::Result;
use cautious::Cautious;
use factored_moment::DenseMoment;
use gradient_transform::{Descent, Link, Optimizer, Parameter};
use orthograd::OrthoGrad;
use rand::{Rng, SeedableRng, rngs::StdRng};
use schedule_free::ScheduleFree;
use serde_json::{Value, json};
use stableadamw::StableAdamW;

/// The switches, in the order of the bits of a number.
const SWITCHES: [&str; 5] = ["OrthoGrad", "second moment", "StableAdamW", "Schedule-Free", "Cautious"];
const STEPS: usize = 60;
/// The loss is half of the sum of these times the squares of the weights.
const CURVATURE: [f32; 2] = [1.0, 12.0];
const START: [f32; 2] = [1.6, 0.8];

fn chain(on: impl Fn(&str) -> bool) -> Vec<Box<dyn Link<f32>>> {
    let mut chain: Vec<Box<dyn Link<f32>>> = Vec::new();
    if on("OrthoGrad") {
        chain.push(Box::<OrthoGrad>::default());
    }
    if on("second moment") {
        chain.push(Box::new(DenseMoment::new(0.95)));
    }
    if on("StableAdamW") {
        chain.push(Box::new(StableAdamW));
    }
    if on("Schedule-Free") {
        chain.push(Box::new(ScheduleFree::new(0.9)));
    } else {
        chain.push(Box::<Descent>::default());
    }
    if on("Cautious") {
        chain.push(Box::new(Cautious::default()));
    }
    chain
}

/// y, z and x after every step, with the start before them.
fn trajectory(on: impl Fn(&str) -> bool) -> Result<[Vec<[f64; 2]>; 3]> {
    let mut optimizer = Optimizer::new(chain(on), [("w", &[2][..])])?;
    optimizer.set_lr(0, 0.12)?;
    let mut generator = StdRng::seed_from_u64(3);
    let mut y = START;
    let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
    let point = |w: [f32; 2]| w.map(|w| rounded(f64::from(w)));
    let mut paths = [START; 3].map(|start| vec![point(start)]);
    for _ in 0..STEPS {
        let mut gradient = [0.0; 2];
        for i in 0..2 {
            gradient[i] = CURVATURE[i] * (y[i] + 0.25 * generator.random_range(-1.0..1.0_f32));
        }
        optimizer.step(&mut [Parameter::slice(&mut y, Some(&gradient))])?;
        let mut x = [0.0; 2];
        optimizer.evaluation_point(0, &y, &mut x)?;
        let snapshot = optimizer.snapshot();
        let z = match snapshot.tensors["w"].arrays.get("schedule-free/z") {
            Some(z) => [z.get(0), z.get(1)].map(rounded),
            None => point(y),
        };
        for (path, next) in paths.iter_mut().zip([point(y), z, point(x)]) {
            path.push(next);
        }
    }
    Ok(paths)
}

/// Writes the data as a script.
pub(crate) fn run(path: &Path) -> Result<()> {
    let all = (0..1 << SWITCHES.len()).map(|set: usize| {
        let on = |name: &str| {
            SWITCHES.iter().position(|switch| *switch == name).is_some_and(|bit| set >> bit & 1 == 1)
        };
        let [y, z, x] = trajectory(on)?;
        // Without averaging all three are one.
        Ok(if on("Schedule-Free") { json!({"y": y, "z": z, "x": x}) } else { json!({"y": y}) })
    });
    let all: Vec<Value> = all.collect::<Result<_>>()?;
    let data = json!({"switches": SWITCHES, "curvature": CURVATURE, "trajectories": all});
    std::fs::write(path, format!("const TRAJECTORIES = {data};\n"))?;
    println!("{}", path.display());
    Ok(())
}

fn main() -> Result<()> {
    run(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../book/src/tutorial/trajectories.js"))
}
