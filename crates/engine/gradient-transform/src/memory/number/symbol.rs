//! Symbols: numbers that record how they are computed.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;

use super::{Backend, Function, Num};
use crate::memory::element::Real;

/// Input of a traced formula.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The update so far.
    Update,
    /// The raw gradient.
    Gradient,
    /// The parameter before the step.
    Parameter,
    /// The writer's base iterate before the step.
    Base,
    /// The update that the writer got.
    Direction,
    /// An array of the transform's state, by position.
    State(usize),
    /// A number of the tensor and the step, by position.
    Scalar(usize),
    /// An array along axes, by position.
    Along(usize),
}

/// Value of a traced formula: an input, a constant, or an operation on others.
///
/// ```
/// use gradient_transform::number::{Graph, Input, Node, Symbol};
///
/// let graph = Graph::with_names(&["m"], &[], &[]);
/// let halved = 0.5 * graph.input(Input::State(0));
/// assert_eq!(graph.equation(halved), "0.5 m");
/// let place: Symbol = graph.symbol(halved);
/// let Node::Mul(half, m) = graph.node(place) else { unreachable!() };
/// assert_eq!((graph.node(half), graph.node(m)), (Node::Constant(0.5), Node::Input(Input::State(0))));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Node {
    /// An input.
    Input(Input),
    /// A hyperparameter or literal.
    Constant(f64),
    /// A hyperparameter or literal among [wide](wide) values, to all its digits.
    WideConstant(f64),
    /// `a`, as float64: see [`wide`].
    Widen(Symbol),
    /// `a + b`.
    Add(Symbol, Symbol),
    /// `a - b`.
    Sub(Symbol, Symbol),
    /// `a b`.
    Mul(Symbol, Symbol),
    /// `a / b`.
    Div(Symbol, Symbol),
    /// `a b + c`, rounded once.
    MulAdd(Symbol, Symbol, Symbol),
    /// `-a`.
    Neg(Symbol),
    /// `f(a)`.
    Apply(Function, Symbol),
    /// `a < b`.
    Less(Symbol, Symbol),
    /// `a == b`.
    Equal(Symbol, Symbol),
    /// `a` and `b`.
    And(Symbol, Symbol),
    /// `a` or `b`.
    Or(Symbol, Symbol),
    /// Not `a`.
    Not(Symbol),
    /// The second where the first holds, the third elsewhere.
    Select(Symbol, Symbol, Symbol),
}

/// Place of a value in a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(usize);

impl Symbol {
    /// Place among the [values](Graph::nodes) of its graph.
    pub fn index(self) -> usize {
        self.0
    }
}

/// Values of a traced formula, each one once and after its operands.
///
/// ```
/// use gradient_transform::number::{Graph, Input};
///
/// let graph = Graph::new();
/// let u = graph.input(Input::Update);
/// let y = u / (1.0 + u * u).sqrt();
/// assert_eq!(graph.equation(y), "u/sqrt(1 + u u)");
/// assert!(graph.reads(y, Input::Update) && !graph.reads(y, Input::Gradient));
/// ```
#[derive(Default)]
pub struct Graph {
    nodes: RefCell<Nodes>,
    state: &'static [&'static str],
    scalars: &'static [&'static str],
    along: &'static [&'static str],
    /// Whether constants are wide.
    in_float64: Cell<bool>,
}

#[derive(Default)]
struct Nodes {
    list: Vec<Node>,
    /// Positions of known values, so that equal values are recorded once.
    known: HashMap<Key, Symbol>,
}

/// Key of a node; constants are compared by their bits.
#[derive(PartialEq, Eq, Hash)]
struct Key(u8, u64, u64, u64);

impl Node {
    fn key(&self) -> Key {
        let (two, one) = (
            |t, a: &Symbol, b: &Symbol| Key(t, a.0 as u64, b.0 as u64, 0),
            |t, a: &Symbol| Key(t, a.0 as u64, 0, 0),
        );
        match self {
            Self::Input(Input::Update) => Key(0, 0, 0, 0),
            Self::Input(Input::Gradient) => Key(0, 1, 0, 0),
            Self::Input(Input::Parameter) => Key(0, 2, 0, 0),
            Self::Input(Input::Base) => Key(0, 3, 0, 0),
            Self::Input(Input::Direction) => Key(0, 4, 0, 0),
            Self::Input(Input::State(i)) => Key(0, 5, *i as u64, 0),
            Self::Input(Input::Scalar(i)) => Key(0, 6, *i as u64, 0),
            Self::Input(Input::Along(i)) => Key(0, 7, *i as u64, 0),
            Self::Constant(x) => Key(1, x.to_bits(), 0, 0),
            Self::Add(a, b) => two(2, a, b),
            Self::Sub(a, b) => two(3, a, b),
            Self::Mul(a, b) => two(4, a, b),
            Self::Div(a, b) => two(5, a, b),
            Self::Less(a, b) => two(6, a, b),
            Self::Equal(a, b) => two(7, a, b),
            Self::And(a, b) => two(8, a, b),
            Self::Or(a, b) => two(9, a, b),
            Self::Not(a) => one(10, a),
            Self::Neg(a) => one(11, a),
            Self::Apply(f, a) => Key(12, *f as u64, a.0 as u64, 0),
            Self::Select(a, b, c) => Key(13, a.0 as u64, b.0 as u64, c.0 as u64),
            Self::MulAdd(a, b, c) => Key(14, a.0 as u64, b.0 as u64, c.0 as u64),
            Self::WideConstant(x) => Key(15, x.to_bits(), 0, 0),
            Self::Widen(a) => one(16, a),
        }
    }

    /// Its operands.
    ///
    /// ```
    /// use gradient_transform::number::{Graph, Input};
    ///
    /// let graph = Graph::new();
    /// let double = graph.input(Input::Update) + graph.input(Input::Update);
    /// let [Some(a), Some(b), None] = graph.node(graph.symbol(double)).parts() else { unreachable!() };
    /// assert_eq!((a, a.index()), (b, 0));
    /// ```
    pub fn parts(&self) -> [Option<Symbol>; 3] {
        match *self {
            Self::Input(_) | Self::Constant(_) | Self::WideConstant(_) => [None; 3],
            Self::Neg(a) | Self::Apply(_, a) | Self::Not(a) | Self::Widen(a) => [Some(a), None, None],
            Self::Add(a, b)
            | Self::Sub(a, b)
            | Self::Mul(a, b)
            | Self::Div(a, b)
            | Self::Less(a, b)
            | Self::Equal(a, b)
            | Self::And(a, b)
            | Self::Or(a, b) => [Some(a), Some(b), None],
            Self::Select(a, b, c) | Self::MulAdd(a, b, c) => [Some(a), Some(b), Some(c)],
        }
    }
}

impl Graph {
    /// A graph without values.
    pub fn new() -> Self {
        Self::default()
    }

    /// A graph with these names for arrays of state, numbers of the tensor and step, and arrays along axes, by position.
    pub fn with_names(
        state: &'static [&'static str],
        scalars: &'static [&'static str],
        along: &'static [&'static str],
    ) -> Self {
        Self { state, scalars, along, ..Self::default() }
    }

    /// An input.
    pub fn input(&self, input: Input) -> Num<&Self> {
        Num::new(self, self.add_node(Node::Input(input)))
    }

    /// The value at a place.
    pub fn node(&self, symbol: Symbol) -> Node {
        self.nodes.borrow().list[symbol.0]
    }

    /// All values.
    ///
    /// ```
    /// use gradient_transform::number::{Graph, Input, Node};
    ///
    /// let graph = Graph::new();
    /// let _ = -graph.input(Input::Update);
    /// assert!(matches!(graph.nodes()[..], [Node::Input(Input::Update), Node::Neg(_)]));
    /// ```
    pub fn nodes(&self) -> Vec<Node> {
        self.nodes.borrow().list.clone()
    }

    /// The place of a number of this graph.
    pub fn symbol(&self, number: Num<&Self>) -> Symbol {
        number.value
    }

    /// Whether a number depends on an input.
    pub fn reads(&self, number: Num<&Self>, input: Input) -> bool {
        let nodes = self.nodes.borrow();
        let mut open = vec![number.value];
        let mut seen = vec![false; nodes.list.len()];
        while let Some(symbol) = open.pop() {
            if std::mem::replace(&mut seen[symbol.0], true) {
                continue;
            }
            let node = nodes.list[symbol.0];
            if node == Node::Input(input) {
                return true;
            }
            open.extend(node.parts().into_iter().flatten());
        }
        false
    }

    /// The formula of a number as readable text.
    pub fn equation(&self, number: Num<&Self>) -> String {
        Formula { graph: self, symbol: number.value, outside: 0 }.to_string()
    }

    /// A number's value for the given inputs, with every operation rounded to `T`: the result of the engine's
    /// loops, for one element.
    ///
    /// ```
    /// use gradient_transform::number::{Graph, Input};
    ///
    /// let graph = Graph::new();
    /// let u = graph.input(Input::Update);
    /// let clipped = u.gt(1.0).select(1.0, u);
    /// assert_eq!(graph.value(clipped, |_| 3.0_f32), 1.0);
    /// assert_eq!(graph.value(clipped, |_| 0.5_f32), 0.5);
    /// ```
    pub fn value<T: Real>(&self, number: Num<&Self>, inputs: impl Fn(Input) -> T) -> T {
        let nodes = &self.nodes.borrow().list[..=number.value.0];
        let values = evaluate(nodes, inputs);
        if wide(nodes)[number.value.0] {
            T::of(evaluate_wide(nodes, &values)[number.value.0])
        } else {
            values[number.value.0]
        }
    }

    /// A number as float64.
    pub(crate) fn widen<'g>(&'g self, number: Num<&'g Self>) -> Num<&'g Self> {
        Num::new(self, self.add_node(Node::Widen(number.value)))
    }

    /// Does work whose constants are in float64.
    pub(crate) fn in_float64<R>(&self, work: impl FnOnce() -> R) -> R {
        self.in_float64.set(true);
        let result = work();
        self.in_float64.set(false);
        result
    }

    /// Whether a number is in float64, whatever type is computed in.
    pub(crate) fn is_wide(&self, number: Num<&Self>) -> bool {
        wide(&self.nodes.borrow().list)[number.value.0]
    }

    fn add_node(&self, node: Node) -> Symbol {
        let nodes = &mut *self.nodes.borrow_mut();
        *nodes.known.entry(node.key()).or_insert_with(|| {
            nodes.list.push(node);
            Symbol(nodes.list.len() - 1)
        })
    }
}

/// The values of all nodes for the given inputs, with every operation rounded to `T`. Truth values are 1 and 0. For
/// [wide](wide) nodes, use [`evaluate_wide`].
///
/// ```
/// use gradient_transform::number::{Graph, Input, evaluate};
///
/// let graph = Graph::new();
/// let _ = 1.0 + graph.input(Input::Update);
/// assert_eq!(evaluate(&graph.nodes(), |_| 0.5_f32), [0.5, 1.0, 1.5]);
/// ```
pub fn evaluate<T: Real>(nodes: &[Node], inputs: impl Fn(Input) -> T) -> Vec<T> {
    let mut values: Vec<T> = Vec::with_capacity(nodes.len());
    for node in nodes {
        values.push(match *node {
            Node::Input(input) => inputs(input),
            _ => result(node, &values),
        });
    }
    values
}

/// The values of all nodes in float64, from those in `T` that [`evaluate`] gives: operations of [wide](wide) nodes are rounded to float64,
/// and other values are as they are.
///
/// ```
/// use gradient_transform::number::{Graph, Input, evaluate, evaluate_wide};
///
/// let graph = Graph::new();
/// let _ = 0.1 * graph.input(Input::Update);
/// let narrow = evaluate(&graph.nodes(), |_| 0.5_f32);
/// assert_eq!(evaluate_wide(&graph.nodes(), &narrow), [0.5, f64::from(0.1_f32), f64::from(0.05_f32)]);
/// ```
pub fn evaluate_wide<T: Real>(nodes: &[Node], narrow: &[T]) -> Vec<f64> {
    let mut values: Vec<f64> = Vec::with_capacity(nodes.len());
    for ((node, wide), narrow) in nodes.iter().zip(wide(nodes)).zip(narrow) {
        values.push(if wide { result(node, &values) } else { narrow.f64() });
    }
    values
}

/// For every node, whether it is calculated in float64, whatever type is computed in. Such are the terms of sums under
/// [`SUMS_IN_FLOAT64`](crate::GradientTransform::SUMS_IN_FLOAT64): [`Node::Widen`], [`Node::WideConstant`], and what is made of these.
///
/// ```
/// use gradient_transform::number::{Graph, Input, wide};
///
/// let graph = Graph::new();
/// let _ = 0.1 * graph.input(Input::Update);
/// assert_eq!(wide(&graph.nodes()), [false; 3]);
/// ```
pub fn wide(nodes: &[Node]) -> Vec<bool> {
    let mut wide: Vec<bool> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let begins = matches!(node, Node::Widen(_) | Node::WideConstant(_));
        wide.push(begins || node.parts().into_iter().flatten().any(|part| wide[part.0]));
    }
    wide
}

/// The value of a node that is no input, from those before it.
fn result<T: Real>(node: &Node, values: &[T]) -> T {
    let truth = |holds: bool| if holds { T::one() } else { T::zero() };
    let of = |symbol: Symbol| values[symbol.0];
    match *node {
        Node::Input(_) => unreachable!("an input comes from outside"),
        Node::Constant(x) | Node::WideConstant(x) => T::of(x),
        Node::Widen(a) => of(a),
        Node::Add(a, b) => of(a) + of(b),
        Node::Sub(a, b) => of(a) - of(b),
        Node::Mul(a, b) => of(a) * of(b),
        Node::Div(a, b) => of(a) / of(b),
        Node::MulAdd(a, b, c) => of(a).mul_add(of(b), of(c)),
        Node::Neg(a) => -of(a),
        Node::Apply(f, a) => f.at(of(a)),
        Node::Less(a, b) => truth(of(a) < of(b)),
        Node::Equal(a, b) => truth(of(a) == of(b)),
        Node::And(a, b) => of(a) * of(b),
        Node::Or(a, b) => of(a).max(of(b)),
        Node::Not(a) => T::one() - of(a),
        Node::Select(condition, yes, no) => of(if of(condition) == T::one() { yes } else { no }),
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.nodes.borrow().list).finish()
    }
}

impl Backend for &Graph {
    type Value = Symbol;
    type Bool = Symbol;

    fn constant(self, x: f64) -> Symbol {
        self.add_node(if self.in_float64.get() { Node::WideConstant(x) } else { Node::Constant(x) })
    }
    fn add(self, a: Symbol, b: Symbol) -> Symbol {
        self.add_node(Node::Add(a, b))
    }
    fn sub(self, a: Symbol, b: Symbol) -> Symbol {
        self.add_node(Node::Sub(a, b))
    }
    fn mul(self, a: Symbol, b: Symbol) -> Symbol {
        self.add_node(Node::Mul(a, b))
    }
    fn div(self, a: Symbol, b: Symbol) -> Symbol {
        self.add_node(Node::Div(a, b))
    }
    fn mul_add(self, a: Symbol, b: Symbol, c: Symbol) -> Symbol {
        self.add_node(Node::MulAdd(a, b, c))
    }
    fn neg(self, a: Symbol) -> Symbol {
        self.add_node(Node::Neg(a))
    }
    fn apply(self, f: Function, a: Symbol) -> Symbol {
        self.add_node(Node::Apply(f, a))
    }
    fn less(self, a: Symbol, b: Symbol) -> Symbol {
        self.add_node(Node::Less(a, b))
    }
    fn equal(self, a: Symbol, b: Symbol) -> Symbol {
        self.add_node(Node::Equal(a, b))
    }
    fn and(self, a: Symbol, b: Symbol) -> Symbol {
        self.add_node(Node::And(a, b))
    }
    fn or(self, a: Symbol, b: Symbol) -> Symbol {
        self.add_node(Node::Or(a, b))
    }
    fn not(self, a: Symbol) -> Symbol {
        self.add_node(Node::Not(a))
    }
    fn select(self, condition: Symbol, yes: Symbol, no: Symbol) -> Symbol {
        self.add_node(Node::Select(condition, yes, no))
    }
}

/// Precedence of an operator; 0 for a value without an operator.
const SUM: u8 = 1;
const PRODUCT: u8 = 2;
const FACTOR: u8 = 3;

struct Formula<'a> {
    graph: &'a Graph,
    symbol: Symbol,
    /// Precedence of the surrounding operator.
    outside: u8,
}

impl fmt::Display for Formula<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |symbol, outside| Formula { graph: self.graph, symbol, outside };
        let node = self.graph.node(self.symbol);
        let binds = match node {
            Node::Add(..)
            | Node::MulAdd(..)
            | Node::Sub(..)
            | Node::Less(..)
            | Node::Equal(..)
            | Node::And(..)
            | Node::Or(..) => SUM,
            Node::Mul(..) | Node::Div(..) | Node::Neg(_) => PRODUCT,
            _ => FACTOR,
        };
        if binds < self.outside {
            return write!(f, "({})", part(self.symbol, 0));
        }
        match node {
            Node::Input(input) => f.write_str(&self.graph.name(input)),
            Node::Constant(x) | Node::WideConstant(x) => write!(f, "{x}"),
            Node::Widen(a) => write!(f, "{}", part(a, self.outside)),
            Node::Add(a, b) => write!(f, "{} + {}", part(a, SUM), part(b, SUM)),
            Node::Sub(a, b) => write!(f, "{} - {}", part(a, SUM), part(b, PRODUCT)),
            Node::Mul(a, b) => write!(f, "{} {}", part(a, PRODUCT), part(b, PRODUCT)),
            Node::MulAdd(a, b, c) => {
                write!(f, "{} {} + {}", part(a, PRODUCT), part(b, PRODUCT), part(c, SUM))
            }
            Node::Div(a, b) => write!(f, "{}/{}", part(a, PRODUCT), part(b, FACTOR)),
            Node::Neg(a) => write!(f, "-{}", part(a, FACTOR)),
            Node::Apply(Function::Abs, a) => write!(f, "|{}|", part(a, 0)),
            Node::Apply(function, a) => write!(f, "{}({})", function.name(), part(a, 0)),
            Node::Less(a, b) => write!(f, "{} < {}", part(a, PRODUCT), part(b, PRODUCT)),
            Node::Equal(a, b) => write!(f, "{} = {}", part(a, PRODUCT), part(b, PRODUCT)),
            Node::And(a, b) => write!(f, "{} and {}", part(a, SUM), part(b, SUM)),
            Node::Or(a, b) => write!(f, "{} or {}", part(a, SUM), part(b, SUM)),
            Node::Not(a) => write!(f, "not({})", part(a, 0)),
            Node::Select(c, yes, no) => {
                write!(f, "[{} if {} else {}]", part(yes, 0), part(c, 0), part(no, 0))
            }
        }
    }
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Self::Exp => "exp",
            Self::Ln => "ln",
            Self::Tanh => "tanh",
            Self::Sqrt => "sqrt",
            Self::Abs => "abs",
            Self::Arctangent => "atan",
            Self::RoundBf16 => "bf16",
        }
    }
}

impl Graph {
    fn name(&self, input: Input) -> String {
        let named = |names: &[&str], i: usize, or: &str| {
            names.get(i).map_or_else(|| format!("{or}{i}"), |&name| name.into())
        };
        match input {
            Input::Update => "u".into(),
            Input::Gradient => "g".into(),
            Input::Parameter => "y".into(),
            Input::Base => "base".into(),
            Input::Direction => "direction".into(),
            Input::State(i) => named(self.state, i, "state"),
            Input::Scalar(i) => named(self.scalars, i, "scalar"),
            Input::Along(i) => named(self.along, i, "along"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_values_are_rounded_to_float64_alone_and_print_as_the_plain_ones() {
        let graph = Graph::new();
        let u = graph.input(Input::Update);
        let narrow = 0.1 * u;
        let wide = graph.in_float64(|| {
            let (u, product) = (graph.widen(u), graph.widen(narrow));
            // Of constants alone, and with a truth value between.
            let tenth = u.constant(1.0) / 10.0;
            (u * u - tenth * product).sqrt() + u.lt(0.3).select(0.1, 2.0)
        });
        let x = 0.7_f32;
        let (exact, product) = (f64::from(x), f64::from(0.1 * x));
        let expected = (exact * exact - 1.0 / 10.0 * product).sqrt() + 2.0;
        let values = evaluate(&graph.nodes(), |_| x);
        let all = evaluate_wide(&graph.nodes(), &values);
        assert_eq!(all[graph.symbol(wide).index()], expected);
        assert_eq!(all[graph.symbol(narrow).index()], product);
        assert_eq!(graph.value(wide, |_| x), expected as f32);
        assert!(graph.is_wide(wide) && !graph.is_wide(narrow) && !graph.is_wide(0.1 * narrow));
        assert_eq!(graph.equation(wide), "sqrt(u u - 1/10 0.1 u) + [0.1 if u < 0.3 else 2]");
    }
}
