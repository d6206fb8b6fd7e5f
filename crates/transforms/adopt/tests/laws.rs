//! The laws of what is in this crate, its formula, and tables of its first steps.

use adopt::{Adopt, AdoptClip};
use factored_moment::{DenseMoment, Division, FactoredMoment};
use gradient_transform::Descent;
use transform_laws::Joins::Otherwise;
use transform_laws::Permutation::Within;
use transform_laws::Scale::Invariant;
use transform_laws::formula::{Array, BETA2, Direction, axes, mean, pairwise};
use transform_laws::{Laws, Training, formula};

/// Negligible relative to gradients of the order of 1, but a number in float32.
const NO_EPSILON: Division = Division::Epsilon(1e-30);

fn dense() -> DenseMoment {
    DenseMoment { division: NO_EPSILON, ..DenseMoment::new(0.9) }
}

fn factored() -> FactoredMoment {
    FactoredMoment { division: NO_EPSILON, ..FactoredMoment::new(0.9) }
}

fn factored_by_atan2() -> FactoredMoment {
    FactoredMoment { division: Division::Atan2, ..factored() }
}

// None follows d: the moment that divides is of the steps before, and is brought to a new d after it has divided, as in the reference. So a d
// that doubles does not double the update.
transform_laws::laws! {
    adopt_of_a_dense_moment {
        transform: Adopt::new(dense()),
        instead: [dense()],
        after: [Descent::default()],
        laws: Laws { scale: Invariant, training: Training::at(0.03), follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, || adopt_of_dense(formula::by_division)),
    }

    adopt_of_a_factored_moment {
        transform: Adopt::new(factored()),
        instead: [factored()],
        after: [Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-6), training: Training::at(0.01), follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, || adopt_of_factored(formula::by_division)),
    }

    adopt_by_atan2 {
        transform: Adopt::new(factored_by_atan2()),
        instead: [factored_by_atan2()],
        after: [Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-6), training: Training::at(0.03), follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, || adopt_of_factored(f64::atan2)),
    }

    adopt_clip {
        before: [Adopt::new(dense())],
        transform: AdoptClip,
        after: [Descent::default()],
        laws: Laws { scale: Invariant, training: Training::at(0.03), joins: Otherwise, follows_d: false, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, || clipped(adopt_of_dense(formula::by_division))),
    }
}

/// No element is larger than the fourth root of the step's number.
fn clipped(mut of: Direction) -> Direction {
    Box::new(move |k, g, y| {
        let limit = f64::from(k).powf(0.25);
        Some(of(k, g, y)?.mapv(|u| u.clamp(-limit, limit)))
    })
}

/// The moment before this step's gradient enters it; the first gradient squared is the first moment.
fn adopt_of_dense(divide: fn(f64, f64) -> f64) -> Direction {
    let mut v = Array::zeros(vec![]);
    Box::new(move |k, g, _| {
        let update = (k > 1).then(|| pairwise(g, &v.sqrt(), divide));
        v = if k > 1 { &v * BETA2 + &(g * g * (1.0 - BETA2)) } else { g * g };
        update
    })
}

/// The same of row and column means.
fn adopt_of_factored(divide: fn(f64, f64) -> f64) -> Direction {
    let (mut row, mut col) = (Array::zeros(vec![]), Array::zeros(vec![]));
    let mut otherwise = adopt_of_dense(divide);
    Box::new(move |k, g, y| {
        let Some((largest, second)) = axes(g.shape()) else { return otherwise(k, g, y) };
        let (r, c) = (mean(&(g * g), largest), mean(&(g * g), second));
        if k == 1 {
            (row, col) = (r, c);
            return None;
        }
        let root = (&row / &mean(&row, second)).sqrt() * &col.sqrt();
        row = &row * BETA2 + &(r * (1.0 - BETA2));
        col = &col * BETA2 + &(c * (1.0 - BETA2));
        Some(pairwise(g, &root, divide))
    })
}

transform_laws::snapshots! {
    adopt: lr 0.1, (Adopt::new(FactoredMoment::new(0.9))), Descent::default();
    adopt_clip: lr 0.1, (Adopt::new(DenseMoment::new(0.9)), AdoptClip), Descent::default();
}
