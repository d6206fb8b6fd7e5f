//! A link's work on an element as a formula: what an engine other than the processor's loops is made of.

use smallvec::SmallVec;

use crate::memory::number::{Graph, Input, Num};

/// Work that is asked of a link in a sweep.
///
/// ```
/// use gradient_transform::device::ElementWork;
///
/// // In a step in which it holds a tensor, ADOPT's moment takes the gradient, and nothing else happens.
/// assert_ne!(ElementWork::Accumulate, ElementWork::Commit);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementWork {
    /// The sums of a reduction; those of an estimator, and the state that they are of.
    Observe,
    /// Sums and state of a transform that holds the tensor.
    Accumulate,
    /// The outgoing update.
    Emit,
    /// The outgoing update, the state, and the sums of one that lags.
    Commit,
    /// Of a writer: what completes the update.
    Direct,
    /// Of a writer: the displacement, as an update.
    Displace,
    /// Of a writer: the parameter and the state, by the update.
    Write,
    /// Of a writer: the same by the displacement, as the transforms after it left it.
    WriteDisplaced,
}

/// An element with symbols in place of numbers, as a link finds and leaves it.
///
/// ```
/// use gradient_transform::device::FormulaElement;
/// use gradient_transform::number::Graph;
///
/// let graph = Graph::new();
/// let mut e = FormulaElement::new(&graph);
/// e.update = 0.5 * e.update; // what a transform does
/// assert_eq!(graph.equation(e.update), "0.5 g");
/// assert_eq!(graph.equation(e.number(2)), "scalar2"); // of the numbers that the link gives for a tensor and step
/// assert_eq!(graph.equation(e.column(0) + e.along(1)), "state0 + along1");
/// ```
#[derive(Clone, Debug)]
pub struct FormulaElement<'g> {
    pub(crate) graph: &'g Graph,
    /// The update so far; of a writer with transforms after it, the displacement as they left it.
    pub update: Num<&'g Graph>,
    /// The raw gradient.
    pub gradient: Num<&'g Graph>,
    /// The parameter before the step; after a writer's work, the next one.
    pub parameter: Num<&'g Graph>,
    /// The writer's base iterate before the step.
    pub base: Num<&'g Graph>,
    /// After the writer: the update that it was given.
    pub direction: Num<&'g Graph>,
    /// Number of the formula to use, among those of the link.
    pub variant: u32,
    /// Of an observer that looks at samples: every how many elements there is one. Its columns have as many elements.
    pub every: Option<usize>,
    /// Next values of the link's columns, by their place among them.
    pub state: Vec<(usize, Num<&'g Graph>)>,
    /// Terms of the link's sums, in order.
    pub sums: Vec<Num<&'g Graph>>,
    /// Terms of the link's arrays of sums, in order.
    pub sums_along: Vec<Num<&'g Graph>>,
    pub(crate) columns: usize,
    pub(crate) numbers: usize,
    pub(crate) along: usize,
}

impl<'g> FormulaElement<'g> {
    /// An element at the beginning of a chain: the update is the gradient.
    pub fn new(graph: &'g Graph) -> Self {
        let (gradient, parameter) = (graph.input(Input::Gradient), graph.input(Input::Parameter));
        Self {
            graph,
            update: gradient,
            gradient,
            parameter,
            base: parameter,
            direction: gradient,
            variant: 0,
            every: None,
            state: Vec::new(),
            sums: Vec::new(),
            sums_along: Vec::new(),
            columns: 0,
            numbers: 0,
            along: 0,
        }
    }

    /// Value of the link's column at a place among them, before the step.
    pub fn column(&self, index: usize) -> Num<&'g Graph> {
        self.graph.input(Input::State(self.columns + index))
    }

    /// Number of the tensor and step, at a place among those that the link gives.
    pub fn number(&self, index: usize) -> Num<&'g Graph> {
        self.graph.input(Input::Scalar(self.numbers + index))
    }

    /// Value of an array along axes, at a place among the link's.
    pub fn along(&self, index: usize) -> Num<&'g Graph> {
        self.graph.input(Input::Along(self.along + index))
    }
}

/// Numbers of a tensor and step that a link's formula refers to, and which of its formulas is used.
///
/// ```
/// use gradient_transform::device::FormulaNumbers;
///
/// let numbers = FormulaNumbers { values: vec![0.5_f32].into(), variant: 0 };
/// assert_eq!(numbers, FormulaNumbers { values: [0.5].iter().copied().collect(), ..FormulaNumbers::default() });
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct FormulaNumbers<T> {
    /// Always as many of a link and tensor.
    pub values: SmallVec<[T; 8]>,
    /// See [`GradientTransform::variant`](crate::GradientTransform::variant).
    pub variant: u32,
}

impl<T> Default for FormulaNumbers<T> {
    fn default() -> Self {
        Self { values: SmallVec::new(), variant: 0 }
    }
}
