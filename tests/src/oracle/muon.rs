//! Muon: the gradient's matrix made orthogonal by Newton-Schulz iterations, and brought to a mean square of one.

use ndarray::{Array2, ArrayD};

use super::step::Step;
use super::storage::{Storage, dot, norm, rms};

/// Coefficients of the quintic iteration `aX + (bA + cA^2)X`, `A = XX'`.
const NEWTON_SCHULZ: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);

/// How often the iteration runs.
const ITERATIONS: usize = 6;

/// What Muon keeps of the mean square of its directions.
#[derive(Debug, Clone)]
pub(super) enum MuonScale {
    /// An EMA of the mean square.
    MeanSquare(f64),
    /// With SPEED: the reciprocal RMS of the first direction, forever.
    First(Option<f64>),
}

/// The orthogonalised gradient of a tensor seen as the matrix `(dim0, rest)`, times `clamp(<G, O>, -1, 1)`.
pub(super) fn newton_schulz(g: &ArrayD<f64>, bf16_iterations: bool) -> ArrayD<f64> {
    let kept = if bf16_iterations { Storage::Bf16 } else { Storage::F64 };
    let (a, b, c) = NEWTON_SCHULZ;
    let rows = g.shape()[0];
    let matrix: Array2<f64> = Array2::from_shape_fn((rows, g.len() / rows.max(1)), {
        let mut elements = g.iter().copied();
        move |_| elements.next().unwrap_or(0.0)
    });
    let matrix = kept.store(matrix);
    let tall = matrix.nrows() > matrix.ncols();

    let mut x = if tall { matrix.t().to_owned() } else { matrix.clone() };
    let length = kept.round(kept.round(norm(&x)) + 1e-7);
    x = kept.store(x / length);
    for _ in 0..ITERATIONS {
        let xx = kept.store(x.dot(&x.t()));
        let b_term = kept.store(&xx * b);
        let c_term = kept.store(kept.store(&xx * c).dot(&xx));
        let polynomial = kept.store(b_term + c_term);
        x = kept.store(kept.store(&x * a) + kept.store(polynomial.dot(&x)));
    }
    if tall {
        x = x.t().to_owned();
    }

    let alignment = kept.round(dot(&matrix, &x)).clamp(-1.0, 1.0);
    let x = kept.store(x * alignment);
    let mut elements = x.iter().copied();
    ArrayD::from_shape_simple_fn(g.raw_dim(), || elements.next().unwrap_or(0.0))
}

/// Muon's direction: the orthogonalised gradient over the root of the EMA of its mean square.
pub(super) fn direction(g: &ArrayD<f64>, scale: &mut MuonScale, beta2: f64, step: &Step) -> ArrayD<f64> {
    let orthogonalised = newton_schulz(g, step.muon_bf16);
    let rms_now = rms(&orthogonalised).max(1e-8);
    match scale {
        MuonScale::First(first) => orthogonalised * *first.get_or_insert(1.0 / rms_now),
        MuonScale::MeanSquare(mean) => {
            let kept = if step.compat.muon_rms_bf16 { Storage::Bf16 } else { Storage::F64 };
            let r = step.d_prev / step.d;
            *mean = kept.round(kept.round(beta2 * r * r * *mean) + (1.0 - beta2) * rms_now * rms_now);
            let root = kept.round(kept.round(mean.sqrt()) + 1e-8);
            orthogonalised * kept.round(1.0 / root)
        }
    }
}
