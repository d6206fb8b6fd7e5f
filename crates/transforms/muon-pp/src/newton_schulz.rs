use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::prelude::*;
use faer::traits::RealField;
use faer::{Accum, Par};
use gradient_transform::{Error, Real, Result};
use serde::{Deserialize, Serialize};

use crate::Muon;

/// Jordan's coefficients.
const JORDAN: [f64; 3] = [3.4445, -4.7750, 2.0315];

/// Coefficients (a, b, c) of the iterations `X <- a X + b A X + c A A X` with `A = X X'`, which take a singular value s to
/// `a s + b s^3 + c s^5`.
///
/// ```
/// use muon_pp::{Coefficients, Muon};
///
/// let mut muon = Muon { iterations: 8, coefficients: Coefficients::PolarExpress, ..Muon::default() };
/// let mut matrix = [1.0_f64, 0.0, 0.0, 0.01];
/// muon.orthogonalise(&mut matrix, 2, 2);
/// assert!((matrix[0] - 1.0).abs() < 1e-8 && (matrix[3] - 1.0).abs() < 1e-8);
///
/// muon.coefficients = Coefficients::Constant([1.5, -0.5, 0.0]); // Newton and Schulz's own, which is slow at first
/// let mut matrix = [1.0_f64, 0.0, 0.0, 0.01];
/// muon.orthogonalise(&mut matrix, 2, 2);
/// assert!((matrix[0] - 1.0).abs() < 1e-8 && matrix[3] < 0.3);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coefficients {
    /// (3.4445, -4.7750, 2.0315) in every iteration (Jordan et al. 2024). Values come fast to between 0.68 and 1.21, and stay there.
    #[default]
    Jordan,
    /// Those of the Polar Express (Amsel et al., 2505.16932), others in every iteration: each is the best for what the ones before
    /// leave of the interval from 0.001 to 1. Five take that to within 0.16 of 1, six to within 0.007, eight to rounding
    /// errors. Those after the eighth are the eighth. As the authors do, X begins 1.01 times smaller.
    PolarExpress,
    /// The same in every iteration.
    Constant([f64; 3]),
}

/// The first eight of the Polar Express, for values that are at least 0.001, with a cushion of 0.0241 (listing 1 of the paper). But
/// for the last, each leaves room for values that are a hundredth too large.
const POLAR_EXPRESS: [[f64; 3]; 8] = [
    with_room([8.28721201814563, -23.595886519098837, 17.300387312530933]),
    with_room([4.107059111542203, -2.9478499167379106, 0.5448431082926601]),
    with_room([3.9486908534822946, -2.908902115962949, 0.5518191394370137]),
    with_room([3.3184196573706015, -2.488488024314874, 0.51004894012372]),
    with_room([2.300652019954817, -1.6689039845747493, 0.4188073119525673]),
    with_room([1.891301407787398, -1.2679958271945868, 0.37680408948524835]),
    with_room([1.8750014808534479, -1.2500016453999487, 0.3750001645474248]),
    [1.875, -1.25, 0.375],
];

/// The polynomial of s / 1.01.
const fn with_room([a, b, c]: [f64; 3]) -> [f64; 3] {
    const ROOM: f64 = 1.01;
    [a / ROOM, b / (ROOM * ROOM * ROOM), c / (ROOM * ROOM * ROOM * ROOM * ROOM)]
}

impl Coefficients {
    /// Those of an iteration, counted from 0.
    fn of(self, iteration: usize) -> [f64; 3] {
        match self {
            Self::Jordan => JORDAN,
            Self::PolarExpress => POLAR_EXPRESS[iteration.min(POLAR_EXPRESS.len() - 1)],
            Self::Constant(coefficients) => coefficients,
        }
    }

    /// By how much the norm that X is divided by is increased.
    fn margin(self) -> f64 {
        match self {
            Self::PolarExpress => 1.01,
            Self::Jordan | Self::Constant(_) => 1.0,
        }
    }

    pub(crate) fn validate(self) -> Result<()> {
        let Self::Constant(coefficients) = self else { return Ok(()) };
        coefficients.iter().try_for_each(|&x| Error::check("coefficients", x, x.is_finite(), "finite"))
    }
}

/// Type that the iterations round to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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

impl Muon {
    /// Orthogonalises the row-major `rows` x `cols` matrix in place, by `iterations`, `coefficients`, `eps`, `precision` and
    /// `aligned`.
    ///
    /// ```
    /// use muon_pp::Muon;
    /// let mut matrix = [3.0_f64, 1.0, -1.0, 2.0, 0.5, 1.0];
    /// Muon::default().orthogonalise(&mut matrix, 2, 3);
    /// let [a, b] = [&matrix[..3], &matrix[3..]];
    /// let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    /// assert!(dot(a, b).abs() < 0.3); // the rows are nearer to orthogonal than the 0.7 they began with, and near length 1
    /// assert!((0.5..1.5).contains(&dot(a, a)) && (0.5..1.5).contains(&dot(b, b)));
    /// ```
    pub fn orthogonalise<R: Real + RealField>(&self, matrix: &mut [R], rows: usize, cols: usize) {
        if rows == 0 || cols == 0 {
            return;
        }
        let round = |x: R| self.precision.round(x);
        if self.precision == Precision::Bf16 {
            matrix.iter_mut().for_each(|g| *g = round(*g));
        }
        let given = MatRef::from_row_major_slice(matrix, rows, cols);
        // The products below are of the smaller side's size.
        let given = if rows > cols { given.transpose() } else { given };
        let (m, n) = (given.nrows(), given.ncols());

        let mut x = Mat::zeros(m, n);
        copy(given, x.as_mut());
        let norm = R::of(sum_of_products(x.as_ref(), x.as_ref()).sqrt());
        let length = round(round(norm * R::of(self.coefficients.margin())) + R::of(self.eps));
        zip!(x.as_mut()).for_each(|unzip!(x)| *x = round(*x / length));
        match self.precision {
            Precision::Full => self.iterate_by_squares(&mut x),
            Precision::Bf16 => self.iterate(&mut x),
        }

        if self.aligned {
            let mut original = Mat::zeros(m, n);
            copy(given, original.as_mut());
            let alignment = sum_of_products(original.as_ref(), x.as_ref());
            let alignment = R::of(round(R::of(alignment)).f64().clamp(-1.0, 1.0));
            zip!(x.as_mut()).for_each(|unzip!(x)| *x = round(*x * alignment));
        }
        let result = MatMut::from_row_major_slice_mut(matrix, rows, cols);
        copy(x.as_ref(), if rows > cols { result.transpose_mut() } else { result });
    }

    /// `X <- p(XX^T) X` with `p(A) = a + b A + c A^2`, every operation rounded.
    fn iterate<R: Real + RealField>(&self, x: &mut Mat<R>) {
        let round = |x: R| self.precision.round(x);
        let (m, n) = (x.nrows(), x.ncols());
        let round_all =
            |mut matrix: MatMut<'_, R>| zip!(matrix.as_mut()).for_each(|unzip!(x)| *x = round(*x));
        let mut next = Mat::zeros(m, n);
        let (mut square, mut fourth) = (Mat::zeros(m, m), Mat::zeros(m, m));
        for iteration in 0..self.iterations {
            let [a, b, c] = self.coefficients.of(iteration).map(R::of);
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

    /// [`iterate`](Self::iterate) without roundings, in the Gram form, a few at a time. Polynomials of one matrix commute, so that after
    /// `X' = p(A) X` there is `X'X'^T = p(A)^2 A`, and all products but the one with X are symmetric and of the smaller side's size.
    /// They come in pairs, and an odd number begins with three. Not more: what rounding leaves of the smallest eigenvalues of A
    /// grows twelvefold with each.
    fn iterate_by_squares<R: Real + RealField>(&self, x: &mut Mat<R>) {
        let m = x.nrows();
        let mut next = Mat::zeros(m, x.ncols());
        let [mut square, mut factor, mut whole, mut product] = [(); 4].map(|()| Mat::zeros(m, m));
        let mut done = 0;
        while done < self.iterations {
            let left = self.iterations - done;
            let together = if left.is_multiple_of(2) { 2 } else { left.min(3) };
            symmetric_product(square.as_mut(), x.as_ref(), x.transpose(), R::one());
            polynomial(whole.as_mut(), square.as_ref(), self.coefficients.of(done));
            for i in 1..together {
                let latest = if i == 1 { &whole } else { &factor };
                symmetric_product(product.as_mut(), latest.as_ref(), square.as_ref(), R::one());
                symmetric_product(square.as_mut(), latest.as_ref(), product.as_ref(), R::one());
                polynomial(factor.as_mut(), square.as_ref(), self.coefficients.of(done + i));
                symmetric_product(product.as_mut(), factor.as_ref(), whole.as_ref(), R::one());
                std::mem::swap(&mut whole, &mut product);
            }
            matmul(next.as_mut(), Accum::Replace, whole.as_ref(), x.as_ref(), R::one(), Par::Seq);
            std::mem::swap(x, &mut next);
            done += together;
        }
    }
}

/// `into <- a + b A + c A^2` for a symmetric A.
fn polynomial<R: Real + RealField>(mut into: MatMut<'_, R>, matrix: MatRef<'_, R>, coefficients: [f64; 3]) {
    let [a, b, c] = coefficients.map(R::of);
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

/// Side of the blocks in which matrices are copied whose orders in memory differ, as one of the two is read or written against it.
const BLOCK: usize = 32;

/// `to <- from`.
fn copy<R: Copy>(from: MatRef<'_, R>, mut to: MatMut<'_, R>) {
    let (m, n) = (from.nrows(), from.ncols());
    for block_j in (0..n).step_by(BLOCK) {
        for block_i in (0..m).step_by(BLOCK) {
            for j in block_j..(block_j + BLOCK).min(n) {
                for i in block_i..(block_i + BLOCK).min(m) {
                    to[(i, j)] = from[(i, j)];
                }
            }
        }
    }
}

/// The sum of the products of the elements, column by column.
fn sum_of_products<R: Real>(left: MatRef<'_, R>, right: MatRef<'_, R>) -> f64 {
    let mut sum = 0.0;
    for (left, right) in left.col_iter().zip(right.col_iter()) {
        for (left, right) in left.iter().zip(right.iter()) {
            sum += left.f64() * right.f64();
        }
    }
    sum
}
