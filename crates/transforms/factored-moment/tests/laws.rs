//! The laws of what is in this crate, its formula, and tables of its first steps.

use ::factored_moment::{DenseMoment, Division, FactoredMoment, FirstMoment, Rectify, RisingDecay, Squared};
use gradient_transform::{Descent, MomentScale};
use transform_laws::Joins::{AsInTheLongRun, Otherwise};
use transform_laws::Permutation::Within;
use transform_laws::Scale::Invariant;
use transform_laws::formula::{Array, BETA2, Direction, by_division, pairwise};
use transform_laws::{Laws, Problem, Training, Trajectory, Zero, formula};

/// Negligible relative to gradients of the order of 1, but a number in float32.
const NO_EPSILON: Division = Division::Epsilon(1e-30);

fn dense() -> DenseMoment {
    DenseMoment { division: NO_EPSILON, ..DenseMoment::new(0.9) }
}

fn dense_by_atan2() -> DenseMoment {
    DenseMoment { division: Division::Atan2, ..dense() }
}

fn factored() -> FactoredMoment {
    FactoredMoment { division: NO_EPSILON, ..FactoredMoment::new(0.9) }
}

fn factored_by_atan2() -> FactoredMoment {
    FactoredMoment { division: Division::Atan2, ..factored() }
}

transform_laws::laws! {
    dense_moment {
        transform: dense(),
        after: [Descent::default()],
        laws: Laws { scale: Invariant, training: Training::at(0.03), joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, || formula::dense(formula::by_division)),
    }

    dense_moment_by_atan2 {
        transform: dense_by_atan2(),
        after: [Descent::default()],
        laws: Laws { scale: Invariant, training: Training::at(0.03), joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, || formula::dense(f64::atan2)),
    }

    factored_moment {
        transform: factored(),
        after: [Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-6), training: Training::at(0.03), joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, || formula::factored(formula::by_division)),
    }

    factored_moment_by_atan2 {
        transform: factored_by_atan2(),
        after: [Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-6), training: Training::at(0.03), joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, || formula::factored(f64::atan2)),
    }

    first_moment {
        transform: FirstMoment::new(0.9),
        after: [Descent::default()],
        laws: Laws { zero: Zero::MovesOn, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, || averaged(formula::gradient)),
    }

    /// Adam's order without bias correction: what is squared is the gradient, what is divided the average.
    first_moment_before_a_second_of_the_gradient {
        before: [FirstMoment::new(0.9)],
        transform: DenseMoment { of: Squared::Gradient, ..dense() },
        after: [Descent::default()],
        laws: Laws { scale: Invariant, zero: Zero::MovesOn, training: Training::at(0.03), joins: Otherwise, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, adam_without_bias_correction),
    }

    rising_decay {
        transform: RisingDecay::default(),
        after: [factored(), Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-6), training: Training::at(0.03), joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, rising),
    }

    rectify {
        transform: Rectify::new(0.9),
        after: [dense(), Descent::default()],
        laws: Laws { scale: Invariant, training: Training::at(0.03), joins: Otherwise, ..Laws::default() },
        formula: rectified,
    }
}

/// `m <- 0.9 m + 0.1 u`.
fn averaged(of: fn() -> Direction) -> Direction {
    let (mut of, mut m) = (of(), Array::zeros(vec![]));
    Box::new(move |k, g, y| {
        m = &m * 0.9 + &(of(k, g, y)? * 0.1);
        Some(m.clone())
    })
}

/// Adafactor's second moment.
fn rising() -> Direction {
    let (mut row, mut col, mut v) = (Array::zeros(vec![]), Array::zeros(vec![]), Array::zeros(vec![]));
    Box::new(move |k, g, _| {
        let (square, new) = (g * g, f64::from(k).powf(-0.8));
        let Some((largest, second)) = formula::axes(g.shape()) else {
            v = &v * (1.0 - new) + &(&square * new);
            return Some(pairwise(g, &v.sqrt(), by_division));
        };
        row = &row * (1.0 - new) + &(formula::mean(&square, largest) * new);
        col = &col * (1.0 - new) + &(formula::mean(&square, second) * new);
        let root = (&row / &formula::mean(&row, second)).sqrt() * &col.sqrt();
        Some(pairwise(g, &root, by_division))
    })
}

/// `m / sqrt(v)`.
fn adam_without_bias_correction() -> Direction {
    let (mut first, mut v) = (averaged(formula::gradient), Array::zeros(vec![]));
    Box::new(move |k, g, y| {
        v = &v * BETA2 + &(g * g * (1.0 - BETA2));
        Some(pairwise(&first(k, g, y)?, &v.sqrt(), by_division))
    })
}

/// Dense moment, debiased, with a step size of `lr` times RAdam's rectifier; nothing moves before there is one.
fn rectified(problem: &Problem, lr: f64) -> Trajectory {
    let mut v: Vec<Array> = problem.init.iter().map(|_| Array::zeros(vec![])).collect();
    let mut y = problem.init.clone();
    let mut trajectory = Vec::new();
    for (k, gradients) in (1..).zip(&problem.gradients) {
        let debias = 1.0 - BETA2.powi(k);
        let rho_inf = 2.0 / (1.0 - BETA2) - 1.0;
        let rho = rho_inf - 2.0 * f64::from(k) * BETA2.powi(k) / debias;
        for (i, g) in gradients.iter().enumerate() {
            v[i] = &v[i] * BETA2 + &(g * g * (1.0 - BETA2));
            if rho > 4.0 {
                let top = (rho - 4.0) * (rho - 2.0) * rho_inf;
                let factor = (top / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho)).sqrt();
                y[i] = &y[i] - &(pairwise(g, &(&v[i] / debias).sqrt(), by_division) * (lr * factor));
            }
        }
        trajectory.push(y.clone());
    }
    trajectory
}

transform_laws::snapshots! {
    atan2_dense: lr 0.1,
        (DenseMoment { division: Division::Atan2, ..DenseMoment::new(0.9) }), Descent::default();
    atan2_factored: lr 0.1,
        (FactoredMoment { division: Division::Atan2, ..FactoredMoment::new(0.9) }), Descent::default();
    dense_moment: lr 0.1, (DenseMoment::new(0.9)), Descent::default();
    first_moment: lr 0.1,
        (FirstMoment::new(0.9), DenseMoment { of: Squared::Gradient, ..DenseMoment::new(0.9) }), Descent::default();
    weighted_moments: lr 0.1,
        (
            FirstMoment { scale: MomentScale::Weighted, ..FirstMoment::new(0.9) },
            FactoredMoment { scale: MomentScale::Weighted, of: Squared::Gradient, ..FactoredMoment::new(0.9) }
        ), Descent::default();
    factored_moment: lr 0.1, (FactoredMoment::new(0.9)), Descent::default();
    rising_decay: lr 0.1, (RisingDecay::default(), FactoredMoment::new(0.9)), Descent::default();
    rectify: lr 0.1, (Rectify::new(0.9), DenseMoment::new(0.9)), Descent::default();
}
