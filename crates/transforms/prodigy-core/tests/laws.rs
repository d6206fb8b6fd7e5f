//! The laws of what is in this crate, its formula, and tables of its first steps.

use factored_moment::{DenseMoment, Division};
use gradient_transform::Descent;
use prodigy_core::{Negative, Point, Prodigy, Ratio, Samples, Weighting};
use transform_laws::Joins::Otherwise;
use transform_laws::Permutation::{Changes, Within};
use transform_laws::Scale::Invariant;
use transform_laws::formula::{Array, BETA2, by_division, pairwise};
use transform_laws::{Laws, Problem, Trajectory};

/// Negligible relative to gradients of the order of 1, but a number in float32.
const NO_EPSILON: Division = Division::Epsilon(1e-30);

fn dense() -> DenseMoment {
    DenseMoment { division: NO_EPSILON, ..DenseMoment::new(0.9) }
}

/// At this d0, d grows in the second step already.
fn prodigy(every: usize) -> Prodigy {
    let beta3 = 0.9_f64.sqrt();
    Prodigy { samples: Samples { every, ..Samples::new(beta3) }, d0: 1e-3, ..Prodigy::new(beta3) }
}

/// 2^(1/4).
const LIMIT: f64 = 1.189_207_115_002_721;

fn second_line(every: usize) -> Prodigy {
    let Prodigy { samples, .. } = prodigy(every);
    Prodigy {
        samples: Samples { at: Point::Base, ..samples },
        weighting: Weighting::Squared,
        ratio: Ratio::Quotient,
        negative: Negative::Adds,
        growth: Some(LIMIT),
        ..prodigy(every)
    }
}

transform_laws::laws! {
    /// It samples every 11th element, and these are other elements when rows are permuted.
    prodigy_of_every_eleventh_element {
        before: [dense()],
        transform: prodigy(11),
        after: [Descent::default()],
        laws: Laws { lr: 1.0, scale: Invariant, permutation: Changes, joins: Otherwise, ..Laws::default() },
        formula: |problem, _| estimated(problem, 11, false),
    }

    prodigy_of_every_element {
        before: [dense()],
        transform: prodigy(1),
        after: [Descent::default()],
        laws: Laws { lr: 1.0, scale: Invariant, permutation: Within(1e-5), joins: Otherwise, ..Laws::default() },
        formula: |problem, _| estimated(problem, 1, false),
    }

    prodigy_of_the_second_line {
        before: [dense()],
        transform: second_line(1),
        after: [Descent::default()],
        laws: Laws { lr: 1.0, scale: Invariant, permutation: Within(1e-5), joins: Otherwise, ..Laws::default() },
        formula: |problem, _| estimated(problem, 1, true),
    }
}

/// The smallest stride from `every` on that shares no factor with an axis but the first.
fn stride(every: usize, shape: &[usize]) -> usize {
    let shares = |n: usize, axis: usize| (2..=n).any(|f| n.is_multiple_of(f) && axis.is_multiple_of(f));
    (every..).find(|&n| !shape.iter().skip(1).any(|&axis| shares(n, axis))).unwrap()
}

/// d of about every n-th element, with a dense moment and plain descent: as in 1.9.2, or as in 2.0.1.
fn estimated(problem: &Problem, every: usize, second: bool) -> Trajectory {
    let (d0, beta3) = (1e-3_f64, BETA2.sqrt());
    let (mut d, mut d_prev, mut numerator) = (d0, d0, 0.0_f64);
    let sampled = |a: &Array| a.iter().copied().step_by(stride(every, a.shape())).collect::<Vec<f64>>();
    let mut v: Vec<Array> = problem.init.iter().map(|_| Array::zeros(vec![])).collect();
    let mut s: Vec<Vec<f64>> = problem.init.iter().map(|p| vec![0.0; sampled(p).len()]).collect();
    let mut y = problem.init.clone();
    let mut trajectory = Vec::new();
    for gradients in &problem.gradients {
        let weight = if second { d * d / d0.sqrt() } else { d.sqrt() };
        let (mut sum, mut size) = (0.0, 0.0);
        for (i, g) in gradients.iter().enumerate() {
            let way = sampled(&(&problem.init[i] - &y[i]));
            let product: f64 = sampled(g).iter().zip(way).map(|(g, way)| g * way).sum();
            sum += weight * product;
            for (s, g) in s[i].iter_mut().zip(sampled(g)) {
                *s = beta3 * *s + weight * g;
                size += s.abs();
            }
            v[i] = &v[i] * (BETA2 * (d_prev / d).powi(2)) + &(g * g * (1.0 - BETA2));
            y[i] = &y[i] - &(pairwise(g, &v[i].sqrt(), by_division) * d);
        }
        numerator *= beta3;
        if sum >= 0.0 {
            numerator += sum;
        } else if d > d0 {
            numerator = if second { numerator + sum } else { numerator.min(sum) };
        }
        d_prev = d;
        d = d.max(if second { (numerator / size).min(LIMIT * d) } else { numerator.atan2(size) });
        trajectory.push(y.clone());
    }
    trajectory
}

/// Of every second element, from a d0 at which d moves within the table.
fn of_the_table() -> Prodigy {
    Prodigy { samples: Samples { every: 2, ..Samples::new(0.9) }, d0: 1e-3, ..Prodigy::new(0.9) }
}

transform_laws::snapshots! {
    /// d is found from plain descent's way, so its first steps are small.
    prodigy_alone: lr 1.0, (of_the_table()), Descent::default();
    /// d moves before the fourth step, and its memory is freed in it.
    prodigy_stopped: lr 1.0,
        (DenseMoment::new(0.9), Prodigy { prodigy_steps: 4, ..of_the_table() }), Descent::default();
    prodigy_of_the_second_line: lr 1.0, (DenseMoment::new(0.9), second_line(2)), Descent::default();
}
