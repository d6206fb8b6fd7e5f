//! A link's work on whole matrices between two sweeps, as steps that a device runs.

use crate::link::formula::FormulaElement;
use crate::memory::number::{Graph, Input, Node, Symbol};

/// A matrix of a [`MatrixWork`]: one of its arrays, in row-major order, as it is or transposed.
///
/// ```
/// use gradient_transform::device::MatrixWork;
///
/// let mut work = MatrixWork::default();
/// let x = work.workspace(2, 3);
/// assert_eq!(([x.rows(), x.cols()], x.strides()), ([2, 3], [3, 1]));
/// assert_eq!(([x.t().rows(), x.t().cols()], x.t().strides()), ([3, 2], [1, 3]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    pub(crate) array: Array,
    /// Those of the array.
    rows: usize,
    cols: usize,
    transposed: bool,
}

/// An array of a [`MatrixWork`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Array {
    /// The link's column at this place among its columns.
    Column(usize),
    /// Workspace at this place.
    Workspace(usize),
}

impl Matrix {
    /// Number of rows.
    pub fn rows(self) -> usize {
        if self.transposed { self.cols } else { self.rows }
    }

    /// Number of columns.
    pub fn cols(self) -> usize {
        if self.transposed { self.rows } else { self.cols }
    }

    /// The transposed matrix, in the same memory.
    pub fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// Distances in the array from a row to the next, and from a column to the next.
    pub fn strides(self) -> [usize; 2] {
        if self.transposed { [1, self.cols] } else { [self.cols, 1] }
    }

    /// The rows and columns of its array.
    pub(crate) fn shape(self) -> [usize; 2] {
        [self.rows, self.cols]
    }
}

/// `into <- alpha left right + beta plus + diagonal I`, without the terms that are `None` or 0.
///
/// ```
/// use gradient_transform::device::{MatrixWork, Product};
///
/// let mut work = MatrixWork::default();
/// let (x, a) = (work.workspace(2, 3), work.workspace(2, 2));
/// // A <- X X', of which the lower triangle is enough.
/// work.product(Product { symmetric: true, ..Product::new(a, x, x.t()) });
/// // P <- 0.5 A A + 2 A + 3 I
/// let p = work.workspace(2, 2);
/// work.product(Product { alpha: 0.5, plus: Some((2.0, a)), diagonal: 3.0, ..Product::new(p, a, a) });
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// The result. Its array is none of the others.
    pub into: Matrix,
    /// Factor of the product.
    pub alpha: f64,
    /// The left factor.
    pub left: Matrix,
    /// The right factor.
    pub right: Matrix,
    /// A matrix that is added, with its factor beta.
    pub plus: Option<(f64, Matrix)>,
    /// Number that is added to the elements of the diagonal.
    pub diagonal: f64,
    /// Whether the result is known to be symmetric: the elements above the diagonal are those below it.
    pub symmetric: bool,
}

impl Product {
    /// `into <- left right`.
    pub fn new(into: Matrix, left: Matrix, right: Matrix) -> Self {
        Self { into, alpha: 1.0, left, right, plus: None, diagonal: 0.0, symmetric: false }
    }
}

/// Work on a whole matrix between two sweeps: [`Link::matrix_work`](crate::Link::matrix_work).
///
/// Its matrices are columns of the link, and workspace. Its steps are functions of the elements of two matrices ([`each`](Self::each)),
/// products ([`product`](Self::product)), and calls of [`Link::matrix_numbers`](crate::Link::matrix_numbers)
/// ([`numbers`](Self::numbers)). A device runs each step for all tensors with the same work at once.
///
/// ```
/// use gradient_transform::device::{Matrix, MatrixWork, Product};
///
/// // X <- G/|G|, G <- X X' X, where the host gives |G| for the sum of squares.
/// let mut work = MatrixWork::default();
/// let g: Matrix = work.column(0, 4, 6);
/// let (x, a) = (work.workspace(4, 6), work.workspace(4, 4));
/// work.each(x, g, |e| e.sums.push(e.gradient.squared()));
/// work.numbers();
/// work.each(x, g, |e| e.parameter = e.gradient / e.number(0));
/// work.product(Product::new(a, x, x.t()));
/// work.product(Product::new(g, a, x));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MatrixWork {
    /// Rows and columns of the workspace.
    pub(crate) workspace: Vec<[usize; 2]>,
    pub(crate) steps: Vec<MatrixStep>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum MatrixStep {
    Each(Each),
    Product(Product),
    Numbers,
}

/// A function of the elements of two matrices.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Each {
    pub(crate) into: Matrix,
    pub(crate) by: Matrix,
    pub(crate) nodes: Vec<Node>,
    /// The next element of `into`, if it changes.
    pub(crate) next: Option<Symbol>,
    /// Terms of sums over the matrix.
    pub(crate) sums: Vec<Symbol>,
    /// The term of the sum over each row, if there is one.
    pub(crate) row_sum: Option<Symbol>,
    /// Whether it has a number of each row.
    pub(crate) by_row: bool,
}

impl MatrixWork {
    /// The link's column at a place among its columns, as a matrix. The column has an element for each of the tensor's, in the type
    /// of the computation.
    pub fn column(&mut self, place: usize, rows: usize, cols: usize) -> Matrix {
        Matrix { array: Array::Column(place), rows, cols, transposed: false }
    }

    /// A matrix of workspace. What is in it before it is written is not determined.
    pub fn workspace(&mut self, rows: usize, cols: usize) -> Matrix {
        self.workspace.push([rows, cols]);
        Matrix { array: Array::Workspace(self.workspace.len() - 1), rows, cols, transposed: false }
    }

    /// Workspace of the shape of another matrix, and in the same order in memory.
    ///
    /// ```
    /// use gradient_transform::device::MatrixWork;
    ///
    /// let mut work = MatrixWork::default();
    /// let x = work.workspace(2, 3).t();
    /// let y = work.like(x);
    /// assert_eq!(([y.rows(), y.cols()], y.strides()), ([3, 2], x.strides()));
    /// ```
    pub fn like(&mut self, matrix: Matrix) -> Matrix {
        Matrix { transposed: matrix.transposed, ..self.workspace(matrix.rows, matrix.cols) }
    }

    /// Calls `function` with an element of two matrices: `parameter` is that of `into`, where its next value is left, and `gradient` that of
    /// `by`. A call that leaves nothing is no step. [`number`](FormulaElement::number) is one of [`MatrixNumbers::numbers`], and `along(0)` that of the row among
    /// [`MatrixNumbers::row_numbers`]. Terms of sums over the matrix are left in `sums`, and one of sums over each row in `sums_along`.
    ///
    /// # Panics
    /// If the two are one array, or are not of one shape.
    pub fn each(&mut self, into: Matrix, by: Matrix, function: impl FnOnce(&mut FormulaElement<'_>)) {
        assert!(into.array != by.array, "the two matrices are one array");
        let form = |matrix: Matrix| (matrix.shape(), matrix.transposed);
        assert_eq!(form(into), form(by), "the two matrices are not of one shape");
        let graph = Graph::new();
        let mut element = FormulaElement::new(&graph);
        let before = graph.symbol(element.parameter);
        function(&mut element);
        let FormulaElement { parameter, sums, sums_along, .. } = element;
        let next = graph.symbol(parameter);
        let sums: Vec<Symbol> = sums.into_iter().map(|sum| graph.symbol(sum)).collect();
        let row_sum = sums_along.first().map(|&sum| graph.symbol(sum));
        let nodes = graph.nodes();
        let by_row = nodes.contains(&Node::Input(Input::Along(0)));
        let next = (next != before).then_some(next);
        if next.is_none() && sums.is_empty() && row_sum.is_none() {
            return;
        }
        self.steps.push(MatrixStep::Each(Each { into, by, nodes, next, sums, row_sum, by_row }));
    }

    /// Multiplies matrices.
    ///
    /// # Panics
    /// If the result is in the array of another matrix, or shapes do not fit.
    pub fn product(&mut self, product: Product) {
        let Product { into, left, right, plus, symmetric, .. } = product;
        let plus = plus.map(|(_, plus)| plus);
        assert!(
            [Some(left), Some(right), plus].iter().flatten().all(|other| other.array != into.array),
            "the result is in the array of another matrix"
        );
        let fits = left.cols() == right.rows()
            && std::iter::once(into)
                .chain(plus)
                .all(|matrix| [matrix.rows(), matrix.cols()] == [left.rows(), right.cols()])
            && (!symmetric || into.rows() == into.cols());
        assert!(fits, "shapes do not fit: {product:?}");
        self.steps.push(MatrixStep::Product(product));
    }

    /// Asks the link for the numbers of later steps, by the sums of the steps so far.
    pub fn numbers(&mut self) {
        self.steps.push(MatrixStep::Numbers);
    }
}

/// Sums that a [`MatrixWork`] has taken of a tensor, and the numbers of its later steps.
///
/// ```
/// use gradient_transform::device::MatrixNumbers;
///
/// /// What a link makes of the sum of squares.
/// fn length(numbers: &mut MatrixNumbers<f32>) {
///     numbers.numbers = vec![numbers.sums[0].sqrt() as f32];
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MatrixNumbers<T> {
    /// Sums of the steps after the call before, in order.
    pub sums: Vec<f64>,
    /// Sums over the rows of the latest such step that has them.
    pub row_sums: Vec<T>,
    /// Numbers of the tensor.
    pub numbers: Vec<T>,
    /// A number of each row.
    pub row_numbers: Vec<T>,
}
