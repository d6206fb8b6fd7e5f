//! A sweep of a chain over a tensor as formulas of one element.

use smallvec::SmallVec;

use crate::engine::plan::{Base, Plan, Sweep, Then};
use crate::error::{Error, Result};
use crate::link::Role;
use crate::link::compose::Stages;
use crate::link::context::TensorInfo;
use crate::link::formula::{ElementWork, FormulaElement};
use crate::link::state::{StateSpec, Storage};
use crate::memory::element::{DType, Real};
use crate::memory::number::{Graph, Input, Node, Num, Symbol};
use crate::memory::sums::SumShape;

/// Work of a sweep on one element of a tensor: from the gradient, the parameter, columns, arrays along axes and numbers of the
/// tensor and step to the next parameter, the next columns, and terms of sums.
///
/// Among the [`Input`]s, `Gradient` and `Parameter` are those of the element, `State(i)` is the value of the
/// tensor's column i, `Along(i)` that of its array i along an axis, and `Scalar(i)` is number i of the tensor
/// and step. Other inputs do not occur.
///
/// Terms of sums over every element may be in float64 independently of the type of the computation ([`wide`](crate::number::wide)), and their sums then are:
/// where an executor [has it](crate::device::Executor::has_float64).
///
/// ```
/// use gradient_transform::device::SweepFormula;
/// use gradient_transform::number::Node;
/// use gradient_transform::{Descent, Optimizer};
///
/// let optimizer = Optimizer::new(Descent::with_decay(0.1), [("w", [8, 4])])?;
/// let sweeps: Vec<SweepFormula> = optimizer.formulas(0, &[8, 4])?;
/// let [sweep] = &sweeps[..] else { unreachable!() };
/// let Some(next) = sweep.elements.parameter else { unreachable!() };
/// assert!(matches!(sweep.nodes[next.index()], Node::Sub(..))); // y - step_size (g + 0.1 y)
/// assert!(sweep.elements.columns.is_empty() && sweep.sampled.is_empty() && sweep.along.is_empty());
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SweepFormula {
    /// Values, each one after its operands.
    pub nodes: Vec<Node>,
    /// Work on every element.
    pub elements: ElementFormula,
    /// Work on every n-th element, whose sums have [`SAMPLE_LANES`] lanes.
    pub sampled: Vec<ElementFormula>,
    /// For each column of the tensor, the distance between elements that have a value.
    pub columns: Vec<usize>,
    /// For each array along axes, the axis that it lacks.
    pub along: Vec<usize>,
}

/// The results of a formula that are kept: see [`SweepFormula`].
#[derive(Clone, Debug, PartialEq)]
pub struct ElementFormula {
    /// Distance between the elements that it runs on, in row-major order, from the first on.
    pub every: usize,
    /// Columns that are written.
    pub columns: Vec<KeptColumn>,
    /// The next parameter.
    pub parameter: Option<Symbol>,
    /// Terms of sums: the tensor's sum, and the value that is added to it.
    pub sums: Vec<(usize, Symbol)>,
    /// Terms of arrays of sums.
    pub sums_along: Vec<AlongSum>,
}

/// A column that a sweep writes.
///
/// ```
/// use gradient_transform::device::{ElementFormula, KeptColumn, SweepFormula};
///
/// /// Columns that a sweep writes, of elements and of samples.
/// fn written(sweep: &SweepFormula) -> Vec<usize> {
///     let parts = std::iter::once(&sweep.elements).chain(&sweep.sampled);
///     parts.flat_map(|part: &ElementFormula| part.columns.iter().map(|kept: &KeptColumn| kept.column)).collect()
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeptColumn {
    /// The tensor's column.
    pub column: usize,
    /// Its next value.
    pub value: Symbol,
    /// Whether it is always rounded to the nearest, independently of the group's rounding.
    pub to_nearest: bool,
}

/// A term of an array of sums over an axis.
///
/// ```
/// use gradient_transform::device::{AlongSum, SweepFormula};
///
/// /// Axes of the sums.
/// fn axes(sweep: &SweepFormula) -> Vec<usize> {
///     let sums = sweep.elements.sums_along.iter();
///     sums.map(|sum: &AlongSum| sum.axes[usize::from(!sum.lacks_first)]).collect()
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlongSum {
    /// The tensor's array.
    pub array: usize,
    /// Value that is added.
    pub value: Symbol,
    /// The two axes of the transform's arrays, in order. This array lacks one of them.
    pub axes: [usize; 2],
    /// Whether this array lacks the first.
    pub lacks_first: bool,
}

/// Lanes of a sum over every n-th element: sample `i` of a tile is added to lane `i mod 8`.
///
/// ```
/// use gradient_transform::TILE;
/// use gradient_transform::device::{CHUNK, SAMPLE_LANES};
///
/// assert_eq!((SAMPLE_LANES, CHUNK % TILE), (8, 0));
/// ```
pub const SAMPLE_LANES: usize = 8;

impl SweepFormula {
    /// Inputs that a value depends on, each once, in the order of the nodes.
    ///
    /// ```
    /// use gradient_transform::number::Input;
    /// use gradient_transform::{Descent, Optimizer};
    ///
    /// let optimizer = Optimizer::new(Descent::default(), [("w", [8])])?;
    /// let sweep = &optimizer.formulas(0, &[8])?[0];
    /// let next = sweep.elements.parameter.unwrap();
    /// assert_eq!(sweep.inputs(&[next]), [Input::Gradient, Input::Parameter, Input::Scalar(0)]);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn inputs(&self, values: &[Symbol]) -> Vec<Input> {
        let used = self.needed(values);
        let nodes = self.nodes.iter().zip(used);
        nodes
            .filter_map(
                |(node, used)| {
                    if let (Node::Input(input), true) = (node, used) { Some(*input) } else { None }
                },
            )
            .collect()
    }

    /// For every node, whether the values depend on it.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer};
    ///
    /// let optimizer = Optimizer::new(Descent::default(), [("w", [8])])?;
    /// let sweep = &optimizer.formulas(0, &[8])?[0];
    /// let next = sweep.elements.parameter.unwrap();
    /// assert!(sweep.needed(&[next])[next.index()] && sweep.needed(&[]).iter().all(|needed| !needed));
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn needed(&self, values: &[Symbol]) -> Vec<bool> {
        let mut needed = vec![false; self.nodes.len()];
        values.iter().for_each(|symbol| needed[symbol.index()] = true);
        for i in (0..self.nodes.len()).rev().filter(|_| !values.is_empty()) {
            if needed[i] {
                self.nodes[i].parts().into_iter().flatten().for_each(|part| needed[part.index()] = true);
            }
        }
        needed
    }
}

impl ElementFormula {
    /// All values that are kept.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer};
    ///
    /// let optimizer = Optimizer::new(Descent::default(), [("w", [8])])?;
    /// let elements = &optimizer.formulas(0, &[8])?[0].elements;
    /// assert_eq!(elements.values(), [elements.parameter.unwrap()]);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn values(&self) -> Vec<Symbol> {
        let columns = self.columns.iter().map(|kept| kept.value);
        let sums = self.sums.iter().map(|(_, value)| *value);
        columns.chain(self.parameter).chain(sums).chain(self.sums_along.iter().map(|sum| sum.value)).collect()
    }

    fn new(every: usize) -> Self {
        Self { every, columns: Vec::new(), parameter: None, sums: Vec::new(), sums_along: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.parameter.is_none()
            && self.columns.is_empty()
            && self.sums.is_empty()
            && self.sums_along.is_empty()
    }
}

/// For each stage, the index of its first number, and its variant.
pub(crate) type Variants = SmallVec<[(u32, u32); 12]>;

/// The formula of a sweep over a tensor.
///
/// # Errors
/// [`Error::NoFormula`] for a link that works on tiles; [`Error::NoFloat64`] for one whose sums are in float64, unless that is there.
pub(crate) fn formula<T: Real>(
    stages: &Stages<'_, T>,
    plan: &Plan,
    sweep: &Sweep,
    [held, still]: [Option<usize>; 2],
    tensor: &TensorInfo,
    variants: &Variants,
    has_float64: bool,
) -> Result<SweepFormula> {
    let graph = Graph::new();
    let graph = &graph;
    let mut builder = Builder {
        graph,
        plan,
        update: graph.input(Input::Gradient),
        direction: None,
        made: vec![ElementFormula::new(1)],
    };
    let base = match plan.base {
        Some(column) => graph.input(Input::State(column)),
        None => graph.input(Input::Parameter),
    };
    for call in sweep.calls.iter().filter(|call| still != Some(call.stage)) {
        let stage = &plan.stages[call.stage];
        let transform = &*stages[call.stage];
        debug_assert!(call.base != Base::Parameter || plan.base.is_none());
        let work = match (call.observes, call.then) {
            (true, _) if held == Some(call.stage) => vec![ElementWork::Accumulate],
            (_, Then::Direct) => vec![ElementWork::Direct],
            (_, Then::Displace) => vec![ElementWork::Direct, ElementWork::Displace],
            (observes, then) => {
                // The sums of a reduction are complete when it emits, so it does not measure in the last
                // sweep.
                let emit = match then {
                    Then::Emit => Some(ElementWork::Emit),
                    Then::Commit => Some(ElementWork::Commit),
                    _ => None,
                };
                observes.then_some(ElementWork::Observe).into_iter().chain(emit).collect()
            }
        };
        for work in work {
            let mut element = builder.element(call.stage, base, variants);
            if work == ElementWork::Displace {
                builder.direction = Some(builder.update);
            }
            if !transform.formula(tensor, work, &mut element) {
                return Err(no_formula(transform.name()));
            }
            let in_float64 = T::DTYPE == DType::F64 || has_float64;
            if !in_float64 && element.sums.iter().any(|&term| graph.is_wide(term)) {
                return Err(Error::NoFloat64 { transform: transform.name().into() });
            }
            builder.take(call.stage, &element, &transform.state(tensor), stage.role == Role::Observer);
        }
    }
    if let Some(call) = sweep.writer.map(|call| &sweep.calls[call]) {
        let transform = &*stages[call.stage];
        let displaced = call.then == Then::Displace;
        let work = if displaced { ElementWork::WriteDisplaced } else { ElementWork::Write };
        let mut element = builder.element(call.stage, base, variants);
        if !transform.formula(tensor, work, &mut element) {
            return Err(no_formula(transform.name()));
        }
        builder.made[0].parameter = Some(graph.symbol(element.parameter));
        builder.take(call.stage, &element, &transform.state(tensor), false);
    }
    let mut made = builder.made.into_iter();
    let elements = made.next().unwrap_or_else(|| ElementFormula::new(1));
    let sampled = made.filter(|formula| !formula.is_empty()).collect();
    let live = stages.iter().zip(&plan.stages).filter(|(_, stage)| !stage.idle);
    let along = live.flat_map(|(transform, _)| transform.state(tensor).vector_sums).map(|shape| axis(&shape));
    let columns = plan.columns.iter().map(|column| column.every).collect();
    Ok(SweepFormula { nodes: graph.nodes(), elements, sampled, columns, along: along.collect() })
}

fn no_formula(transform: &str) -> Error {
    Error::NoFormula { transform: transform.into() }
}

/// The axis that an array of sums lacks. Links with other arrays have no formula.
fn axis(shape: &SumShape) -> usize {
    match shape {
        SumShape::Over(axis) => *axis,
        SumShape::Flat(_) => 0,
    }
}

struct Builder<'g, 'p> {
    graph: &'g Graph,
    plan: &'p Plan,
    update: Num<&'g Graph>,
    direction: Option<Num<&'g Graph>>,
    /// The formula of every element, and those of samples.
    made: Vec<ElementFormula>,
}

impl<'g> Builder<'g, '_> {
    /// The element as the input of a link.
    fn element(&self, stage: usize, base: Num<&'g Graph>, variants: &Variants) -> FormulaElement<'g> {
        let planned = &self.plan.stages[stage];
        FormulaElement {
            update: self.update,
            base,
            direction: self.direction.unwrap_or(self.update),
            variant: variants[stage].1,
            columns: planned.columns.start,
            numbers: variants[stage].0 as usize,
            along: planned.vector_sums.start,
            ..FormulaElement::new(self.graph)
        }
    }

    /// Takes over the results of a link.
    fn take(&mut self, stage: usize, element: &FormulaElement<'g>, spec: &StateSpec, observer: bool) {
        let (planned, graph) = (&self.plan.stages[stage], self.graph);
        let at = match element.every {
            None => 0,
            Some(every) => {
                self.made.push(ElementFormula::new(every));
                self.made.len() - 1
            }
        };
        let made = &mut self.made[at];
        for &(place, value) in &element.state {
            let column = planned.columns.start + place;
            let spec = &self.plan.columns[column];
            if !spec.constant {
                let (value, to_nearest) = (graph.symbol(value), spec.storage == Storage::Bf16);
                made.columns.push(KeptColumn { column, value, to_nearest });
            }
        }
        let sums = element.sums.iter().enumerate();
        made.sums.extend(sums.map(|(i, &value)| (planned.scalar_sums.start + i, graph.symbol(value))));
        let lacking: Vec<usize> = spec.vector_sums.iter().map(axis).collect();
        let first = lacking.iter().copied().min().unwrap_or_default();
        let last = lacking.iter().copied().max().unwrap_or_default();
        for (i, (&value, &axis)) in element.sums_along.iter().zip(&lacking).enumerate() {
            made.sums_along.push(AlongSum {
                array: planned.vector_sums.start + i,
                value: graph.symbol(value),
                axes: [first, last],
                lacks_first: axis == first,
            });
        }
        if !observer {
            self.update = element.update;
        }
    }
}
