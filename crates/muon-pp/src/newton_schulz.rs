use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::prelude::*;
use faer::traits::RealField;
use faer::{Accum, Par};
use gradient_transform::Real;

/// Coefficients of the quintic iteration.
const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];

/// Number of iterations.
const ITERATIONS: usize = 6;

/// What the iterations round to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// The type computed in.
    #[default]
    Full,
    /// bfloat16 after every operation, as the reference does.
    Bf16,
}

impl Precision {
    #[inline(always)]
    fn round<R: Real>(self, x: R) -> R {
        match self {
            Self::Full => x,
            Self::Bf16 => x.round_bf16(),
        }
    }
}

/// Orthogonalises the row-major `rows` x `cols` matrix in place, times clamp(<G, X>, -1, 1); gives the sum of the
/// squares of the result.
///
/// ```
/// use muon_pp::{Precision, orthogonalise};
/// let mut matrix = [3.0_f64, 1.0, -1.0, 2.0, 0.5, 1.0];
/// orthogonalise(&mut matrix, 2, 3, Precision::Full);
/// let [a, b] = [&matrix[..3], &matrix[3..]];
/// let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
/// assert!(dot(a, b).abs() < 0.3); // the rows are nearer to orthogonal than the 0.7 they began with, and near length 1
/// assert!((0.5..1.5).contains(&dot(a, a)) && (0.5..1.5).contains(&dot(b, b)));
/// ```
pub fn orthogonalise<R: Real + RealField>(
    matrix: &mut [R],
    rows: usize,
    cols: usize,
    precision: Precision,
) -> f64 {
    if rows == 0 || cols == 0 {
        return 0.0;
    }
    let round = |x: R| precision.round(x);
    for g in matrix.iter_mut() {
        *g = round(*g);
    }
    let given = MatRef::from_row_major_slice(matrix, rows, cols);
    // The products below are of the smaller side's size.
    let given = if rows > cols { given.transpose() } else { given };
    let (m, n) = (given.nrows(), given.ncols());

    let norm = R::of(sum_of_squares(given).sqrt());
    let length = round(round(norm) + R::of(1e-7));
    let mut x = Mat::from_fn(m, n, |i, j| round(given[(i, j)] / length));
    match precision {
        Precision::Full => iterate_in_pairs(&mut x),
        Precision::Bf16 => iterate(&mut x, round),
    }

    let mut alignment = 0.0;
    for j in 0..n {
        for i in 0..m {
            alignment += given[(i, j)].f64() * x[(i, j)].f64();
        }
    }
    let alignment = round(R::of(alignment)).f64().clamp(-1.0, 1.0);
    let mut squares = 0.0;
    for (i, g) in matrix.iter_mut().enumerate() {
        let (row, col) = (i / cols, i % cols);
        let value = if rows > cols { x[(col, row)] } else { x[(row, col)] };
        *g = round(value * R::of(alignment));
        squares += g.f64() * g.f64();
    }
    squares
}

/// `X <- p(XX^T) X` with `p(A) = a + b A + c A^2`, as often as [`ITERATIONS`] says, every operation rounded.
fn iterate<R: Real + RealField>(x: &mut Mat<R>, round: impl Fn(R) -> R) {
    let [a, b, c] = COEFFICIENTS.map(R::of);
    let (m, n) = (x.nrows(), x.ncols());
    let round_all = |mut matrix: MatMut<'_, R>| zip!(matrix.as_mut()).for_each(|unzip!(x)| *x = round(*x));
    let mut next = Mat::zeros(m, n);
    let (mut square, mut fourth) = (Mat::zeros(m, m), Mat::zeros(m, m));
    for _ in 0..ITERATIONS {
        symmetric_product(square.as_mut(), x.as_ref(), x.transpose(), R::one());
        round_all(square.as_mut());
        // Rounding c A first leaves a product that is no longer symmetric.
        let scaled = Mat::from_fn(m, m, |i, j| round(square[(i, j)] * c));
        matmul(fourth.as_mut(), Accum::Replace, scaled.as_ref(), square.as_ref(), R::one(), Par::Seq);
        round_all(fourth.as_mut());
        zip!(square.as_mut(), fourth.as_ref())
            .for_each(|unzip!(polynomial, fourth)| *polynomial = round(round(b * *polynomial) + *fourth));
        matmul(next.as_mut(), Accum::Replace, square.as_ref(), x.as_ref(), R::one(), Par::Seq);
        round_all(next.as_mut());
        zip!(x.as_mut(), next.as_ref()).for_each(|unzip!(x, next)| *x = round(round(a * *x) + *next));
    }
}

/// [`iterate`] without roundings, two at a time. Polynomials of one matrix commute, so that after `X' = p(A) X` there is
/// `X'X'^T = p(A)^2 A`, and all products but the one with X are symmetric and of the smaller side's size. Not more than two:
/// what rounding leaves of the smallest eigenvalues of A grows twelvefold with each.
fn iterate_in_pairs<R: Real + RealField>(x: &mut Mat<R>) {
    const { assert!(ITERATIONS.is_multiple_of(2)) }
    let m = x.nrows();
    let mut next = Mat::zeros(m, x.ncols());
    let [mut square, mut first, mut second, mut product] = [(); 4].map(|()| Mat::zeros(m, m));
    for _ in 0..ITERATIONS / 2 {
        symmetric_product(square.as_mut(), x.as_ref(), x.transpose(), R::one());
        polynomial(first.as_mut(), square.as_ref());
        symmetric_product(product.as_mut(), first.as_ref(), square.as_ref(), R::one());
        symmetric_product(square.as_mut(), first.as_ref(), product.as_ref(), R::one());
        polynomial(second.as_mut(), square.as_ref());
        symmetric_product(product.as_mut(), second.as_ref(), first.as_ref(), R::one());
        matmul(next.as_mut(), Accum::Replace, product.as_ref(), x.as_ref(), R::one(), Par::Seq);
        std::mem::swap(x, &mut next);
    }
}

/// `into <- a + b A + c A^2` for a symmetric A.
fn polynomial<R: Real + RealField>(mut into: MatMut<'_, R>, matrix: MatRef<'_, R>) {
    let [a, b, c] = COEFFICIENTS.map(R::of);
    symmetric_product(into.as_mut(), matrix, matrix, c);
    zip!(into.as_mut(), matrix).for_each(|unzip!(into, matrix)| *into += b * *matrix);
    for i in 0..into.nrows() {
        into[(i, i)] += a;
    }
}

/// `into <- factor * left * right`, which is known to be symmetric: one half is computed and mirrored.
fn symmetric_product<R: RealField + Copy>(
    mut into: MatMut<'_, R>,
    left: MatRef<'_, R>,
    right: MatRef<'_, R>,
    factor: R,
) {
    triangular::matmul(
        into.as_mut(),
        BlockStructure::TriangularLower,
        Accum::Replace,
        left,
        BlockStructure::Rectangular,
        right,
        BlockStructure::Rectangular,
        factor,
        Par::Seq,
    );
    // In blocks, as one of the two sides is read against the order of memory.
    const BLOCK: usize = 32;
    let n = into.ncols();
    for block_j in (0..n).step_by(BLOCK) {
        for block_i in (0..=block_j).step_by(BLOCK) {
            for j in block_j..(block_j + BLOCK).min(n) {
                for i in block_i..(block_i + BLOCK).min(j) {
                    into[(i, j)] = into[(j, i)];
                }
            }
        }
    }
}

fn sum_of_squares<R: Real>(matrix: MatRef<'_, R>) -> f64 {
    let mut sum = 0.0;
    for j in 0..matrix.ncols() {
        for i in 0..matrix.nrows() {
            sum += matrix[(i, j)].f64() * matrix[(i, j)].f64();
        }
    }
    sum
}
