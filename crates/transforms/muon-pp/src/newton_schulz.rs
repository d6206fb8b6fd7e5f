use std::marker::PhantomData;

use gradient_transform::{Error, Real, Result};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayRef2, ArrayView2, ArrayViewMut2, Axis, ShapeBuilder, Zip};
use serde::{Deserialize, Serialize};

use crate::Muon;

/// Jordan's coefficients.
const JORDAN: [f64; 3] = [3.4445, -4.7750, 2.0315];

/// Coefficients (a, b, c) of the iterations `X <- a X + b A X + c A A X` with `A = X X'`, which take a singular value s to
/// `a s + b s^3 + c s^5`.
///
/// ```
/// use muon_pp::{Coefficients, Muon};
/// use ndarray::array;
///
/// let mut muon = Muon { iterations: 8, coefficients: Coefficients::PolarExpress, ..Muon::default() };
/// let mut matrix = array![[1.0, 0.0], [0.0, 0.01_f64]];
/// muon.orthogonalise(matrix.view_mut());
/// assert!((matrix[(0, 0)] - 1.0).abs() < 1e-8 && (matrix[(1, 1)] - 1.0).abs() < 1e-8);
///
/// muon.coefficients = Coefficients::Constant([1.5, -0.5, 0.0]); // Newton and Schulz's own, which is slow at first
/// let mut matrix = array![[1.0, 0.0], [0.0, 0.01_f64]];
/// muon.orthogonalise(matrix.view_mut());
/// assert!((matrix[(0, 0)] - 1.0).abs() < 1e-8 && matrix[(1, 1)] < 0.3);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coefficients {
    /// (3.4445, -4.7750, 2.0315) in every iteration (Jordan et al. 2024). Singular values quickly reach 0.68 to 1.21, and stay there.
    #[default]
    Jordan,
    /// Those of the Polar Express (Amsel et al., 2505.16932), others in every iteration: each is optimal for the interval that the
    /// ones before leave of 0.001 to 1. Five take that to within 0.16 of 1, six to within 0.007, eight to rounding
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
    /// The type of the computation.
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
    /// Orthogonalises the matrix in place, by `iterations`, `coefficients`, `eps`, `precision` and `aligned`.
    ///
    /// ```
    /// use muon_pp::Muon;
    /// use ndarray::array;
    ///
    /// let mut matrix = array![[3.0, 1.0, -1.0], [2.0, 0.5, 1.0_f64]];
    /// Muon::default().orthogonalise(matrix.view_mut());
    /// let [a, b] = [matrix.row(0), matrix.row(1)];
    /// assert!(a.dot(&b).abs() < 0.3); // the rows are nearer to orthogonal than the 0.7 they began with, and near length 1
    /// assert!((0.5..1.5).contains(&a.dot(&a)) && (0.5..1.5).contains(&b.dot(&b)));
    /// ```
    pub fn orthogonalise<R: Real>(&self, mut matrix: ArrayViewMut2<'_, R>) {
        if matrix.is_empty() {
            return;
        }
        let round = |x: R| self.precision.round(x);
        if self.precision == Precision::Bf16 {
            matrix.mapv_inplace(round);
        }
        // The products below are of the smaller side's size.
        if matrix.nrows() > matrix.ncols() {
            matrix.swap_axes(0, 1);
        }

        let mut x = matrix.to_owned();
        let length = self.length(sum_of_products(&matrix, &matrix));
        x.mapv_inplace(|x| round(x / length));
        match self.precision {
            Precision::Full => self.iterate_by_squares(&mut OnProcessor(PhantomData), &mut x),
            Precision::Bf16 => self.iterate(&mut x),
        }

        if self.aligned {
            let alignment: R = self.alignment(sum_of_products(&matrix, &x));
            x.mapv_inplace(|x| round(x * alignment));
        }
        matrix.assign(&x);
    }

    /// `X <- p(XX^T) X` with `p(A) = a + b A + c A^2`, every operation rounded.
    fn iterate<R: Real>(&self, x: &mut Array2<R>) {
        let round = |x: R| self.precision.round(x);
        let m = x.nrows();
        let [mut square, mut fourth] = [(); 2].map(|()| Array2::zeros((m, m)));
        let mut next = beside(x);
        for iteration in 0..self.iterations {
            let [a, b, c] = self.coefficients.of(iteration).map(R::of);
            symmetric_product(&mut square, x.view(), x.t(), R::one());
            square.mapv_inplace(round);
            // Rounding c A first leaves a product that is no longer symmetric.
            let scaled = square.mapv(|x| round(x * c));
            general_mat_mul(R::one(), &scaled, &square, R::zero(), &mut fourth);
            square.zip_mut_with(&fourth, |polynomial, &fourth| {
                *polynomial = round(round(b * *polynomial) + round(fourth));
            });
            general_mat_mul(R::one(), &square, x, R::zero(), &mut next);
            x.zip_mut_with(&next, |x, &next| *x = round(round(a * *x) + round(next)));
        }
    }

    /// [`iterate`](Self::iterate) without roundings, in the Gram form, a few at a time. Polynomials of one matrix commute, so that after
    /// `X' = p(A) X` there is `X'X'^T = p(A)^2 A`, and all products but the one with X are symmetric and of the smaller side's size.
    /// They come in pairs, and an odd number begins with three. Not more: what rounding leaves of the smallest eigenvalues of A
    /// grows twelvefold with each.
    pub(crate) fn iterate_by_squares<P: Products>(&self, products: &mut P, x: &mut P::Matrix) {
        let mut next = products.beside(x);
        let [mut square, mut factor, mut whole, mut product] = [(); 4].map(|()| products.square(x));
        let mut done = 0;
        while done < self.iterations {
            let left = self.iterations - done;
            let together = if left.is_multiple_of(2) { 2 } else { left.min(3) };
            products.gram(&mut square, x);
            products.polynomial(&mut whole, &square, self.coefficients.of(done));
            for i in 1..together {
                let latest = if i == 1 { &whole } else { &factor };
                products.commuting(&mut product, latest, &square);
                products.commuting(&mut square, latest, &product);
                products.polynomial(&mut factor, &square, self.coefficients.of(done + i));
                products.commuting(&mut product, &factor, &whole);
                std::mem::swap(&mut whole, &mut product);
            }
            products.product(&mut next, &whole, x);
            std::mem::swap(x, &mut next);
            done += together;
        }
    }

    /// The length that G is divided by, for its sum of squares.
    pub(crate) fn length<R: Real>(&self, sum_of_squares: f64) -> R {
        let round = |x: R| self.precision.round(x);
        let norm = R::of(sum_of_squares.sqrt());
        round(round(norm * R::of(self.coefficients.margin())) + R::of(self.eps))
    }

    /// Factor of X, for `<G, X>`.
    pub(crate) fn alignment<R: Real>(&self, product: f64) -> R {
        R::of(self.precision.round(R::of(product)).f64().clamp(-1.0, 1.0))
    }
}

/// Products of the iterations: done at once by the processor, or described for a device.
pub(crate) trait Products {
    type Matrix;

    /// A square matrix with as many rows as `x`.
    fn square(&mut self, x: &Self::Matrix) -> Self::Matrix;

    /// A matrix of the same shape and order in memory.
    fn beside(&mut self, x: &Self::Matrix) -> Self::Matrix;

    /// `into <- X X^T`.
    fn gram(&mut self, into: &mut Self::Matrix, x: &Self::Matrix);

    /// `into <- a + b A + c A^2` for a symmetric A.
    fn polynomial(&mut self, into: &mut Self::Matrix, matrix: &Self::Matrix, coefficients: [f64; 3]);

    /// `into <- left right` of symmetric matrices that commute.
    fn commuting(&mut self, into: &mut Self::Matrix, left: &Self::Matrix, right: &Self::Matrix);

    /// `into <- left right`.
    fn product(&mut self, into: &mut Self::Matrix, left: &Self::Matrix, right: &Self::Matrix);
}

/// Those of the processor.
struct OnProcessor<R>(PhantomData<R>);

impl<R: Real> Products for OnProcessor<R> {
    type Matrix = Array2<R>;

    fn square(&mut self, x: &Array2<R>) -> Array2<R> {
        Array2::zeros((x.nrows(), x.nrows()))
    }

    fn beside(&mut self, x: &Array2<R>) -> Array2<R> {
        beside(x)
    }

    fn gram(&mut self, into: &mut Array2<R>, x: &Array2<R>) {
        symmetric_product(into, x.view(), x.t(), R::one());
    }

    fn polynomial(&mut self, into: &mut Array2<R>, matrix: &Array2<R>, coefficients: [f64; 3]) {
        let [a, b, c] = coefficients.map(R::of);
        symmetric_product(into, matrix.view(), matrix.view(), c);
        into.zip_mut_with(matrix, |into, &matrix| *into += b * matrix);
        into.diag_mut().mapv_inplace(|x| x + a);
    }

    fn commuting(&mut self, into: &mut Array2<R>, left: &Array2<R>, right: &Array2<R>) {
        symmetric_product(into, left.view(), right.view(), R::one());
    }

    fn product(&mut self, into: &mut Array2<R>, left: &Array2<R>, right: &Array2<R>) {
        general_mat_mul(R::one(), left, right, R::zero(), into);
    }
}

/// `into <- factor * left * right`, which is known to be symmetric: the blocks on and below the diagonal are computed and mirrored.
fn symmetric_product<R: Real>(
    into: &mut Array2<R>,
    left: ArrayView2<'_, R>,
    right: ArrayView2<'_, R>,
    factor: R,
) {
    lower_blocks(into.view_mut(), left, right, factor);
    let n = into.ncols();
    for block_i in (0..n).step_by(BLOCK) {
        for block_j in (block_i..n).step_by(BLOCK) {
            for i in block_i..(block_i + BLOCK).min(n) {
                for j in block_j.max(i + 1)..(block_j + BLOCK).min(n) {
                    into[(i, j)] = into[(j, i)];
                }
            }
        }
    }
}

/// The lower triangle of `factor * left * right`, in halves:
///
/// ```text
/// [ L1 ]             [ L1 R1    .   ]
/// [ L2 ] [R1 R2]  =  [ L2 R1  L2 R2 ]     L1 R1 and L2 R2 again so, L2 R1 as it is
/// ```
fn lower_blocks<R: Real>(
    mut into: ArrayViewMut2<'_, R>,
    left: ArrayView2<'_, R>,
    right: ArrayView2<'_, R>,
    factor: R,
) {
    /// Below this side, packing the factors again costs more than the upper triangle.
    const WHOLE: usize = 96;
    if into.nrows() <= WHOLE {
        return general_mat_mul(factor, &left, &right, R::zero(), &mut into);
    }
    // Whole blocks of the product's kernels.
    let half = (into.nrows() / 2).next_multiple_of(BLOCK);
    let (upper, lower) = into.split_at(Axis(0), half);
    let (upper, _) = upper.split_at(Axis(1), half);
    let (mut beside, lower) = lower.split_at(Axis(1), half);
    let (l1, l2) = left.split_at(Axis(0), half);
    let (r1, r2) = right.split_at(Axis(1), half);
    lower_blocks(upper, l1, r1, factor);
    general_mat_mul(factor, &l2, &r1, R::zero(), &mut beside);
    lower_blocks(lower, l2, r2, factor);
}

/// Side of the squares in which one half of a matrix is mirrored to the other, as one of the two is read or written against its
/// order in memory; and of the blocks of the products' kernels.
const BLOCK: usize = 32;

/// A matrix of the same shape and order in memory.
fn beside<R: Real>(x: &Array2<R>) -> Array2<R> {
    Array2::zeros(x.raw_dim().set_f(!x.is_standard_layout()))
}

/// The sum of the products of the elements.
fn sum_of_products<R: Real>(left: &ArrayRef2<R>, right: &ArrayRef2<R>) -> f64 {
    Zip::from(left).and(right).fold(0.0, |sum, left, right| sum + left.f64() * right.f64())
}
