//! Computes the data of the book's interactive figure of d: how it grows by Prodigy's estimate and by SPEED's, and what becomes
//! of the loss.
//!
//! Run it with `cargo run --release -p examples --example step_sizes`; it writes `book/src/tutorial/step-sizes.js`.
#![allow(clippy::print_stdout)] // an example prints

use std::path::Path;

use anyhow::Result;
use gradient_transform::Parameter;
use prodigy_plus::Options;
use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, StandardNormal};
use serde_json::{Value, json};

const WEIGHTS: usize = 220;
const STEPS: usize = 300;
/// Steps from one point of a curve to the next.
const STRIDE: usize = 5;

/// How far every weight starts from the minimum.
const DISTANCES: [f64; 3] = [0.1, 1.0, 10.0];
/// The standard deviation of a gradient's elements.
const NOISES: [f64; 3] = [0.0, 1.0, 10.0];
const D0S: [f64; 3] = [1e-8, 1e-6, 1e-2];
const D_COEFS: [f64; 3] = [0.5, 1.0, 2.0];

/// One setting of the figure's controls.
struct Setting {
    distance: f64,
    noise: f64,
    d0: f64,
    d_coef: f64,
}

/// `log10` of d and of the loss at the evaluation point, over the weights, by step.
fn curves(setting: &Setting, use_speed: bool) -> Result<(Vec<f64>, Vec<f64>)> {
    let options = Options::default().d0(setting.d0).d_coef(setting.d_coef).use_speed(use_speed);
    let mut optimizer = options.build([("w", &[WEIGHTS][..])])?;
    let mut generator = StdRng::seed_from_u64(1);
    let mut w = vec![setting.distance as f32; WEIGHTS];
    let rounded = |value: f64| (value.max(1e-12).log10() * 100.0).round() / 100.0;
    let (mut d, mut losses) = (Vec::new(), Vec::new());
    for step in 0..=STEPS {
        if step % STRIDE == 0 {
            let mut x = w.clone();
            optimizer.evaluation_point(0, &w, &mut x)?;
            let loss = x.iter().map(|x| f64::from(x * x)).sum::<f64>() / 2.0 / WEIGHTS as f64;
            d.push(rounded(optimizer.estimate(0)?.d));
            losses.push(rounded(loss));
        }
        let gradient: Vec<f32> = w
            .iter()
            .map(|w| {
                let noise: f64 = StandardNormal.sample(&mut generator);
                (f64::from(*w) + setting.noise * noise) as f32
            })
            .collect();
        optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))])?;
    }
    Ok((d, losses))
}

/// Writes the data as a script.
pub(crate) fn run(path: &Path) -> Result<()> {
    let mut all: Vec<Value> = Vec::new();
    // The last control varies fastest.
    for distance in DISTANCES {
        for noise in NOISES {
            for d0 in D0S {
                for d_coef in D_COEFS {
                    let setting = Setting { distance, noise, d0, d_coef };
                    let (classic, speed) = (curves(&setting, false)?, curves(&setting, true)?);
                    all.push(json!({
                        "Prodigy": {"d": classic.0, "loss": classic.1},
                        "SPEED": {"d": speed.0, "loss": speed.1},
                    }));
                }
            }
        }
    }
    let data = json!({
        "stride": STRIDE,
        // Name, choices, and the one to begin with.
        "controls": [
            ["distance to the minimum", DISTANCES, 1],
            ["noise of the gradient", NOISES, 1],
            ["d0", D0S, 1],
            ["d_coef", D_COEFS, 1],
        ],
        "curves": all,
    });
    std::fs::write(path, format!("const STEP_SIZES = {data};\n"))?;
    println!("{}", path.display());
    Ok(())
}

fn main() -> Result<()> {
    run(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../book/src/tutorial/step-sizes.js"))
}
