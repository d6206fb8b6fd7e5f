//! Places of a tensor's words in the table that kernels read.

use gradient_transform::device::SweepFormula;
use gradient_transform::number::{Input, Node};

/// Words of 64 bits that a kernel is given of each tensor.
///
/// ```text
/// 0        number of elements
/// 1, 2     places of gradient and parameter
/// 3 ..     places of the columns
///   ..     numbers of the tensor and step, as the bits of float32
///   ..     for each array along an axis: its place among the values, and the two strides by which an element's place is found
///   ..     keys of the random bits of the parameter and of the columns
/// ```
///
/// ```
/// use gradient_transform::{Descent, Optimizer};
/// use sweep_kernels::Layout;
///
/// let optimizer = Optimizer::new(Descent::default(), [("w", [8])])?;
/// let layout = Layout::of(&optimizer.formulas(0, &[8])?[0], 0);
/// assert_eq!((layout.number(0), layout.words()), (3, 7)); // three numbers from word 3 on, and a key after them
/// let layout = Layout { columns: 2, numbers: 1, along: 1 };
/// assert_eq!((layout.column(1), layout.number(0), layout.along(0)), (4, 5, 6));
/// assert_eq!((layout.parameter_stream(), layout.column_stream(0)), (9, 10));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    /// Columns of a tensor.
    pub columns: usize,
    /// Numbers of a tensor and step.
    pub numbers: usize,
    /// Arrays along axes.
    pub along: usize,
}

impl Layout {
    /// That of a formula, for tensors with so many columns.
    pub fn of(formula: &SweepFormula, columns: usize) -> Self {
        let number = |node: &Node| match node {
            Node::Input(Input::Scalar(i)) => Some(i + 1),
            _ => None,
        };
        let numbers = formula.nodes.iter().filter_map(number).max().unwrap_or_default();
        Self { columns, numbers, along: formula.along.len() }
    }

    /// Word of a column's place.
    pub fn column(&self, i: usize) -> usize {
        3 + i
    }

    /// Word of a number.
    pub fn number(&self, i: usize) -> usize {
        self.column(self.columns) + i
    }

    /// First word of an array along an axis.
    pub fn along(&self, i: usize) -> usize {
        self.number(self.numbers) + 3 * i
    }

    /// Word of the parameter's key.
    pub fn parameter_stream(&self) -> usize {
        self.along(self.along)
    }

    /// Word of a column's key.
    pub fn column_stream(&self, i: usize) -> usize {
        self.parameter_stream() + 1 + i
    }

    /// Number of words.
    pub fn words(&self) -> usize {
        self.column_stream(self.columns)
    }
}
