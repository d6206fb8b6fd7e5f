//! A custom transform joins the default chain.
//!
//! Noise with heavy tails on a quadratic: one gradient element in twenty is fifty times too large. `Soften`
//! bounds what enters the second moment. Run it with `cargo run --release -p examples --example custom_transform`.
#![allow(clippy::print_stdout)] // an example prints

use factored_moment::FactoredMoment;
use gradient_transform::{
    Backend, Element, Error, GradientTransform, Optimizer, Parameter, Result, transform,
};
use prodigy_core::Prodigy;
use rand::{Rng, SeedableRng, rngs::StdRng};
use schedule_free::ScheduleFree;
use stableadamw::StableAdamW;

/// `u <- u / sqrt(1 + (u / limit)^2)`: small elements pass, none leaves larger than `limit`.
#[derive(Clone, Debug)]
struct Soften {
    limit: f64,
}

#[transform("soften")]
impl GradientTransform for Soften {
    fn validate(&self) -> Result<()> {
        Error::check("limit", self.limit, self.limit > 0.0, "above 0")
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let share = e.update * (1.0 / self.limit);
        e.update = e.update / (1.0 + share * share).sqrt();
    }
}

const SIZE: usize = 64;

/// The loss `sum of curvature * w^2 / 2`, with curvatures from 1 down to 0.1.
fn curvature(i: usize) -> f32 {
    0.1_f32.powf(i as f32 / (SIZE - 1) as f32)
}

fn train(soften: Option<Soften>, seed: u64) -> Result<f32> {
    // The default chain; `None` is the identity.
    let chain = (soften, FactoredMoment::new(0.99), StableAdamW, Prodigy::default(), ScheduleFree::new(0.9));
    let mut optimizer = Optimizer::new(chain, [("w", [SIZE])])?;
    let mut noise = StdRng::seed_from_u64(seed);
    let mut w = [1.0_f32; SIZE];
    for _ in 0..1000 {
        let mut gradient = [0.0; SIZE];
        for (i, g) in gradient.iter_mut().enumerate() {
            let scale = if noise.random_bool(0.05) { 50.0 } else { 1.0 };
            *g = curvature(i) * w[i] + scale * noise.random_range(-0.5..0.5);
        }
        optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))])?;
    }
    let mut x = [0.0; SIZE];
    optimizer.evaluation_point(0, &w, &mut x)?;
    Ok(x.iter().enumerate().map(|(i, x)| curvature(i) * x * x / 2.0).sum())
}

/// Gives the mean loss after training over five seeds, without and with the transform.
pub(crate) fn run() -> Result<(f32, f32)> {
    let (mut without, mut with) = (0.0, 0.0);
    println!("seed   default chain   with soften");
    for seed in 0..5 {
        let (a, b) = (train(None, seed)?, train(Some(Soften { limit: 1.0 }), seed)?);
        println!("{seed:>4}   {a:>13.4}   {b:>11.4}");
        without += a / 5.0;
        with += b / 5.0;
    }
    println!("mean   {without:>13.4}   {with:>11.4}   (the loss was {:.4})", start());
    Ok((without, with))
}

/// The loss before the first step.
pub(crate) fn start() -> f32 {
    (0..SIZE).map(|i| curvature(i) / 2.0).sum()
}

fn main() -> Result<()> {
    run()?;
    Ok(())
}
