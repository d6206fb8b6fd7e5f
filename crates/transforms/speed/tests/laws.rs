//! The laws of what is in this crate, its formula, and tables of its first steps.

use factored_moment::{DenseMoment, Division};
use gradient_transform::Descent;
use prodigy_core::{Prodigy, Samples};
use speed::{DisplacementSpeed, Speed};
use transform_laws::Joins::Otherwise;
use transform_laws::Permutation::{Changes, Within};
use transform_laws::Scale::Invariant;
use transform_laws::formula::{Array, BETA2, by_division, pairwise, sign};
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

/// With a factor that keeps d below the cap in all steps but the second, the first in which it moves.
fn speed(every: usize, d_coef: f64) -> Speed {
    Speed { prodigy: Prodigy { d_coef, ..prodigy(every) }, shrinks_above_one: false }
}

fn by_displacement(every: usize) -> DisplacementSpeed {
    let beta3 = 0.9_f64.sqrt();
    let samples = Samples { every, ..Samples::new(beta3) };
    DisplacementSpeed { samples, d0: 1e-3, ..DisplacementSpeed::new(beta3) }
}

transform_laws::laws! {
    /// It samples every 11th element, and these are other elements when rows are permuted.
    speed_of_every_eleventh_element {
        before: [dense()],
        transform: speed(11, 0.0205),
        after: [Descent::default()],
        laws: Laws { lr: 1.0, scale: Invariant, permutation: Changes, joins: Otherwise, ..Laws::default() },
        formula: |problem, _| estimated(problem, 0.0205, 11),
    }

    speed_of_every_element {
        before: [dense()],
        transform: speed(1, 0.228),
        after: [Descent::default()],
        laws: Laws { lr: 1.0, scale: Invariant, permutation: Within(1e-5), joins: Otherwise, ..Laws::default() },
        formula: |problem, _| estimated(problem, 0.228, 1),
    }

    displacement_speed {
        before: [dense()],
        transform: by_displacement(1),
        after: [Descent::default()],
        laws: Laws { lr: 1.0, scale: Invariant, permutation: Within(1e-5), joins: Otherwise, ..Laws::default() },
        formula: |problem, _| estimated_by_displacement(problem),
    }
}

/// The smallest stride from `every` on that shares no factor with an axis but the first.
fn stride(every: usize, shape: &[usize]) -> usize {
    let shares = |n: usize, axis: usize| (2..=n).any(|f| n.is_multiple_of(f) && axis.is_multiple_of(f));
    (every..).find(|&n| !shape.iter().skip(1).any(|&axis| shares(n, axis))).unwrap()
}

/// d from signs, of about every n-th element, with a dense moment and plain descent.
fn estimated(problem: &Problem, d_coef: f64, every: usize) -> Trajectory {
    let (d0, beta3) = (1e-3_f64, BETA2.sqrt());
    let (mut d, mut d_prev, mut numerator) = (d0, d0, 0.0_f64);
    let sampled = |a: &Array| a.iter().copied().step_by(stride(every, a.shape())).collect::<Vec<f64>>();
    let mut v: Vec<Array> = problem.init.iter().map(|_| Array::zeros(vec![])).collect();
    let mut s: Vec<Vec<f64>> = problem.init.iter().map(|p| vec![0.0; sampled(p).len()]).collect();
    let mut y = problem.init.clone();
    let mut trajectory = Vec::new();
    for gradients in &problem.gradients {
        let weight = d0 * d.sqrt();
        let (mut sum, mut size) = (0.0, 0.0);
        for (i, g) in gradients.iter().enumerate() {
            let way = sampled(&(&problem.init[i] - &y[i]));
            let product: f64 = sampled(g).iter().zip(way).map(|(g, way)| g * way).sum();
            sum += weight * sign(product);
            for (s, g) in s[i].iter_mut().zip(sampled(g)) {
                *s = beta3 * *s + weight * sign(g);
                size += s.abs();
            }
            v[i] = &v[i] * (BETA2 * (d_prev / d).powi(2)) + &(g * g * (1.0 - BETA2));
            y[i] = &y[i] - &(pairwise(g, &v[i].sqrt(), by_division) * d);
        }
        numerator *= beta3;
        if sum >= 0.0 {
            numerator += sum;
        } else if d > d0 {
            numerator = numerator.min(sum);
        }
        d_prev = d;
        d = d.max((d_coef * numerator).atan2(size)).min(d_prev.powf(0.975));
        trajectory.push(y.clone());
    }
    trajectory
}

/// d from progress along the way from the start, of every element, with a dense moment and plain descent.
fn estimated_by_displacement(problem: &Problem) -> Trajectory {
    let (d0, beta3) = (1e-3_f64, BETA2.sqrt());
    let (mut d, mut d_prev, mut numerator, mut largest) = (d0, d0, 0.0_f64, 0.0_f64);
    let mut v: Vec<Array> = problem.init.iter().map(|_| Array::zeros(vec![])).collect();
    let mut kept: Vec<Option<[f64; 3]>> = vec![None; problem.init.len()];
    let mut y = problem.init.clone();
    let mut trajectory = Vec::new();
    for (k, gradients) in (1..).zip(&problem.gradients) {
        let beta = 1.0 - f64::from(k).powf(-0.75);
        let mut sum = 0.0;
        for (i, g) in gradients.iter().enumerate() {
            let way = &problem.init[i] - &y[i];
            let product: f64 = g.iter().zip(&way).map(|(g, way)| g * way).sum();
            let [progress, l1, l2] = kept[i].unwrap_or([product, 1e-8, 1e-8]);
            let progress = beta * progress + (1.0 - beta) * product;
            let l1 = way.iter().map(|w| w.abs()).sum::<f64>().max(l1);
            let l2 = way.iter().map(|w| w * w).sum::<f64>().sqrt().max(l2);
            kept[i] = Some([progress, l1, l2]);
            sum += d * d / d0.sqrt() / (l2 + 1.0).powi(2) * progress / l1;
            v[i] = &v[i] * (BETA2 * (d_prev / d).powi(2)) + &(g * g * (1.0 - BETA2));
            y[i] = &y[i] - &(pairwise(g, &v[i].sqrt(), by_division) * d);
        }
        let before = numerator;
        numerator *= beta3;
        if sum > 0.0 || d > d0 {
            numerator += sum;
        }
        d_prev = d;
        if numerator >= largest && numerator > 0.0 && before > 0.0 {
            d *= (numerator / before).sqrt().clamp(1.0, 2.0_f64.powf(0.25));
        }
        largest = largest.max(numerator);
        trajectory.push(y.clone());
    }
    trajectory
}

/// Of every second element, from a d0 at which d moves within the table.
fn of_the_table() -> Prodigy {
    Prodigy { samples: Samples { every: 2, ..Samples::new(0.9) }, d0: 1e-3, ..Prodigy::new(0.9) }
}

transform_laws::snapshots! {
    speed: lr 1.0,
        (DenseMoment::new(0.9), Speed { prodigy: of_the_table(), ..Speed::new(0.9) }), Descent::default();
    displacement_speed: lr 1.0, (DenseMoment::new(0.9), by_displacement(2)), Descent::default();
}
