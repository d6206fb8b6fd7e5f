//! The laws of what is in this crate, its formula, and tables of its first steps.

use factored_moment::{DenseMoment, Division};
use gradient_transform::{Descent, Link, Real, only_for};
use muon_pp::{Coefficients, Muon, Normalisation, Scale};
use ndarray::{Array2, Axis};
use transform_laws::Joins::AsInTheLongRun;
use transform_laws::Permutation::Within;
use transform_laws::Scale::Invariant;
use transform_laws::Zero::MovesOn;
use transform_laws::formula::{BETA2, Direction, by_division, dot};
use transform_laws::{Laws, Training, formula};

/// Too small to act beside gradients of the order of 1, but a number in float32.
const NO_EPSILON: Division = Division::Epsilon(1e-30);

fn dense() -> DenseMoment {
    DenseMoment { division: NO_EPSILON, ..DenseMoment::new(0.9) }
}

/// Muon leaves vectors alone; they go by their moment.
fn dense_for_vectors<T: Real>() -> impl Link<T> {
    only_for(|tensor| !Muon::takes(tensor), dense())
}

transform_laws::laws! {
    /// Six iterations amplify the rounding of small singular values.
    muon {
        transform: Muon::new(0.9),
        after: [dense_for_vectors(), Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-5), float32: 1e-5, training: Training::at(0.03), follows_d: false, joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, || muon(false)),
    }

    muon_over_its_first_update {
        transform: Muon { normalisation: Normalisation::FirstUpdate, ..Muon::new(0.9) },
        after: [dense_for_vectors(), Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-5), float32: 1e-5, training: Training::at(0.1), joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, || muon(true)),
    }

    muon_of_nesterov {
        transform: Muon::default(),
        after: [dense_for_vectors(), Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-5), zero: MovesOn, float32: 1e-5, training: Training::at(0.03), joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, || muon_of_pytorch(true, false)),
    }

    /// With the Polar Express, of heavy-ball momentum, and matched to Adam.
    muon_by_the_polar_express {
        transform: Muon { nesterov: false, coefficients: Coefficients::PolarExpress, scale: Scale::MatchAdam, ..Muon::default() },
        after: [dense_for_vectors(), Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-5), zero: MovesOn, float32: 1e-5, training: Training::at(0.1), joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, muon_by_the_polar_express),
    }

    muon_of_normalised_neurons {
        transform: Muon { normalisation: Normalisation::Neurons, ..Muon::default() },
        after: [dense_for_vectors(), Descent::default()],
        laws: Laws { scale: Invariant, permutation: Within(1e-5), zero: MovesOn, float32: 1e-5, training: Training::at(0.03), joins: AsInTheLongRun, ..Laws::default() },
        formula: |problem, lr| formula::descent(problem, lr, 0.0, || muon_of_pytorch(true, true)),
    }
}

/// `O = clamp(<G, X>, -1, 1) X` with six quintic iterations on G; divided by its root mean square, of the past (and 1e-8)
/// or of the first step. Vectors go by their dense moment.
fn muon(first_update: bool) -> Direction {
    let mut mean_square = 0.0;
    let mut otherwise = formula::dense(by_division);
    Box::new(move |k, g, y| {
        if g.ndim() < 2 {
            return otherwise(k, g, y);
        }
        let rows = g.shape()[0];
        let matrix = g.to_shape((rows, g.len() / rows)).unwrap().into_owned();
        let length = dot(g, g).sqrt() + 1e-7;
        let mut x = &matrix / length;
        for _ in 0..6 {
            let a = x.dot(&x.t());
            x = &x * 3.4445 + (&a * -4.7750 + &a.dot(&a) * 2.0315).dot(&x);
        }
        let o = &x * (&matrix * &x).sum().clamp(-1.0, 1.0);
        let square = ((&o * &o).sum() / o.len() as f64).max(1e-16);
        let divisor = if first_update {
            mean_square = if k == 1 { square } else { mean_square };
            mean_square.sqrt()
        } else {
            mean_square = BETA2 * mean_square + (1.0 - BETA2) * square;
            mean_square.sqrt() + 1e-8
        };
        Some((o / divisor).into_shape_with_order(g.raw_dim()).unwrap())
    })
}

/// Muon with PyTorch's defaults, with or without NorMuon's normalised rows.
fn muon_of_pytorch(nesterov: bool, neurons: bool) -> Direction {
    muon_of(nesterov, neurons, 1.0, &[(3.4445, -4.7750, 2.0315); 5], |r, c| (r / c).max(1.0).sqrt())
}

/// Five iterations of listing 1 of 2505.16932, with heavy-ball momentum and the root mean square of 2502.16982.
fn muon_by_the_polar_express() -> Direction {
    let listed: [(f64, f64, f64); 5] = [
        (8.28721201814563, -23.595886519098837, 17.300387312530933),
        (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
        (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
        (3.3184196573706015, -2.488488024314874, 0.51004894012372),
        (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    ];
    let safe = listed.map(|(a, b, c)| (a / 1.01, b / 1.01_f64.powi(3), c / 1.01_f64.powi(5)));
    muon_of(false, false, 1.01, &safe, |r, c| 0.2 * r.max(c).sqrt())
}

fn muon_of(
    nesterov: bool,
    neurons: bool,
    margin: f64,
    coefficients: &[(f64, f64, f64)],
    scale: fn(f64, f64) -> f64,
) -> Direction {
    let coefficients = coefficients.to_vec();
    let (mut momentum, mut squares) = (None, Array2::<f64>::zeros((1, 1)));
    let mut otherwise = formula::dense(by_division);
    Box::new(move |k, g, y| {
        if g.ndim() < 2 {
            return otherwise(k, g, y);
        }
        let before = momentum.take().unwrap_or_else(|| g * 0.0);
        let m = &before * 0.95 + &(g * 0.05);
        let u = if nesterov { g * 0.05 + &(&m * 0.95) } else { m.clone() };
        momentum = Some(m);
        let rows = g.shape()[0];
        let matrix = u.to_shape((rows, g.len() / rows)).unwrap().into_owned();
        let mut o = &matrix / (dot(&u, &u).sqrt() * margin + 1e-7);
        for &(a, b, c) in &coefficients {
            let square = o.dot(&o.t());
            o = &o * a + (&square * b + &square.dot(&square) * c).dot(&o);
        }
        if neurons {
            let means = o.mapv(|o| o * o).mean_axis(Axis(1)).unwrap().insert_axis(Axis(1));
            squares = &squares * 0.95 + &(means * 0.05);
            let normalised = &o / &(squares.mapv(f64::sqrt) + 1e-10);
            let norm = |a: &Array2<f64>| a.iter().map(|a| a * a).sum::<f64>().sqrt();
            o = &normalised * (norm(&o) / (norm(&normalised) + 1e-10));
        }
        let o = o * scale(rows as f64, (g.len() / rows) as f64);
        Some(o.into_shape_with_order(g.raw_dim()).unwrap())
    })
}

transform_laws::snapshots! {
    muon: lr 0.1, (Muon::new(0.9)), Descent::default();
    muon_first_update: lr 0.1,
        (Muon { normalisation: Normalisation::FirstUpdate, ..Muon::new(0.9) }), Descent::default();
    muon_of_nesterov: lr 0.1, (Muon::default()), Descent::default();
    muon_by_the_polar_express: lr 0.1,
        (Muon {
            nesterov: false,
            coefficients: Coefficients::PolarExpress,
            scale: Scale::MatchAdam,
            ..Muon::default()
        }),
        Descent::default();
    muon_of_normalised_neurons: lr 0.1,
        (Muon { normalisation: Normalisation::Neurons, ..Muon::default() }), Descent::default();
}
