//! The laws of what is in this crate, its formula, and tables of its first steps.

use ::stableadamw::{SoftStableAdamW, StableAdamW};
use factored_moment::{Division, FactoredMoment};
use gradient_transform::{Descent, map};
use transform_laws::Joins::AsInTheLongRun;
use transform_laws::Permutation::Within;
use transform_laws::Scale::Invariant;
use transform_laws::formula::{Direction, dot};
use transform_laws::{Laws, Training, formula};

/// Negligible relative to gradients of the order of 1, but a number in float32.
const NO_EPSILON: Division = Division::Epsilon(1e-30);

fn factored() -> FactoredMoment {
    FactoredMoment { division: NO_EPSILON, ..FactoredMoment::new(0.9) }
}

transform_laws::laws! {
    stableadamw {
        transform: StableAdamW,
        after: [Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-6), training: Training::at(3.0), ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, || clipped(formula::gradient())),
    }

    stableadamw_behind_a_moment {
        before: [factored()],
        transform: StableAdamW,
        after: [Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-6), training: Training::at(0.03), joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| { formula::descent(problem, lr, 0.0, || clipped(formula::factored(formula::by_division))) },
    }

    soft_stableadamw_behind_a_moment {
        before: [factored()],
        transform: SoftStableAdamW,
        after: [Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-6), training: Training::at(0.03), joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, || softened(formula::factored(formula::by_division))),
    }
}

/// `u / max(1, RMS(u))`.
fn clipped(of: Direction) -> Direction {
    divided(of, |rms| rms.max(1.0))
}

/// `u / sqrt(max(1, RMS(u)))`.
fn softened(of: Direction) -> Direction {
    divided(of, |rms| rms.max(1.0).sqrt())
}

fn divided(mut of: Direction, by: fn(f64) -> f64) -> Direction {
    Box::new(move |k, g, y| {
        let u = of(k, g, y)?;
        let rms = (dot(&u, &u) / u.len() as f64).sqrt();
        Some(u / by(rms))
    })
}

transform_laws::snapshots! {
    stableadamw: lr 0.1, (map!("times-10", |u| 10.0 * u), StableAdamW), Descent::default();
    soft_stableadamw: lr 0.1, (map!("times-10", |u| 10.0 * u), SoftStableAdamW), Descent::default();
}
