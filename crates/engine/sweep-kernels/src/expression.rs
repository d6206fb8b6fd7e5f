//! Values of an element as statements, in any language of kernels.

use gradient_transform::device::{ElementFormula, SweepFormula};
use gradient_transform::number::{Function, Input, Node, Symbol, wide};

/// Differences between languages of kernels.
pub(crate) trait Language {
    /// A name for a value.
    fn declare(&self, kind: Kind, name: &str, value: &str) -> String;
    /// A number to the last bit.
    fn literal(&self, x: f32) -> String;
    /// A float64 to the last bit.
    fn wide_literal(&self, x: f64) -> String;
    /// The value of an input that is not a number of the tensor and step.
    fn load(&self, input: Input) -> String;
    fn function(&self, function: Function, kind: Kind) -> &'static str;
    /// Name of the fused product and sum.
    fn fused(&self, kind: Kind) -> &'static str;
    fn select(&self, condition: &str, yes: &str, no: &str) -> String;
}

/// Kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A truth value.
    Truth,
    /// A number in float32.
    Narrow,
    /// A number in float64.
    Wide,
}

/// The statements that give values of an element. Numbers of the tensor and step have their names before.
pub(crate) fn statements(formula: &SweepFormula, values: &[Symbol], language: &impl Language) -> Vec<String> {
    let (needed, wide) = (formula.needed(values), wide(&formula.nodes));
    let nodes = formula.nodes.iter().enumerate().filter(|(i, _)| needed[*i]);
    let number = |i: usize| if wide[i] { Kind::Wide } else { Kind::Narrow };
    nodes.filter_map(|(i, node)| statement(formula, i, node, number(i), language)).collect()
}

/// The statement of a node, which is of the kind `number` if it is no truth value.
fn statement(
    formula: &SweepFormula,
    i: usize,
    node: &Node,
    number: Kind,
    language: &impl Language,
) -> Option<String> {
    let of = |symbol: &Symbol| name(formula, *symbol, language);
    let (kind, value) = match node {
        Node::Constant(_) | Node::WideConstant(_) | Node::Input(Input::Scalar(_)) => return None,
        Node::Input(input) => (number, language.load(*input)),
        Node::Widen(a) => (number, of(a)),
        Node::Add(a, b) => (number, format!("{} + {}", of(a), of(b))),
        Node::Sub(a, b) => (number, format!("{} - {}", of(a), of(b))),
        Node::Mul(a, b) => (number, format!("{} * {}", of(a), of(b))),
        Node::Div(a, b) => (number, format!("{} / {}", of(a), of(b))),
        Node::MulAdd(a, b, c) => {
            (number, format!("{}({}, {}, {})", language.fused(number), of(a), of(b), of(c)))
        }
        Node::Neg(a) => (number, format!("-{}", of(a))),
        Node::Apply(f, a) => (number, format!("{}({})", language.function(*f, number), of(a))),
        Node::Less(a, b) => (Kind::Truth, format!("{} < {}", of(a), of(b))),
        Node::Equal(a, b) => (Kind::Truth, format!("{} == {}", of(a), of(b))),
        Node::And(a, b) => (Kind::Truth, format!("{} & {}", of(a), of(b))),
        Node::Or(a, b) => (Kind::Truth, format!("{} | {}", of(a), of(b))),
        Node::Not(a) => (Kind::Truth, format!("!{}", of(a))),
        Node::Select(c, yes, no) => (number, language.select(&of(c), &of(yes), &of(no))),
    };
    Some(language.declare(kind, &name_of(formula, i, language), &value))
}

/// The name of a value, or the literal that it is.
pub(crate) fn name(formula: &SweepFormula, symbol: Symbol, language: &impl Language) -> String {
    name_of(formula, symbol.index(), language)
}

fn name_of(formula: &SweepFormula, i: usize, language: &impl Language) -> String {
    match formula.nodes[i] {
        Node::Constant(x) => language.literal(x as f32),
        Node::WideConstant(x) => language.wide_literal(x),
        Node::Input(Input::Gradient) => "g".to_owned(),
        Node::Input(Input::Parameter) => "y".to_owned(),
        Node::Input(Input::State(column)) => format!("c{column}"),
        Node::Input(Input::Scalar(number)) => format!("s{number}"),
        Node::Input(Input::Along(array)) => format!("a{array}"),
        _ => format!("v{i}"),
    }
}

/// The numbers of the tensor and step that values depend on, by place.
pub(crate) fn numbers(formula: &SweepFormula, values: &[Symbol]) -> Vec<usize> {
    let inputs = formula.inputs(values).into_iter();
    inputs
        .filter_map(|input| match input {
            Input::Scalar(i) => Some(i),
            _ => None,
        })
        .collect()
}

/// Results of a part: assignments, or terms of sums of the whole tensor.
pub(crate) fn stored(part: &ElementFormula) -> Vec<Symbol> {
    let columns = part.columns.iter().map(|kept| kept.value);
    columns.chain(part.parameter).chain(part.sums.iter().map(|(_, value)| *value)).collect()
}

pub(crate) fn indented(lines: &[String], indent: usize) -> String {
    lines.iter().map(|line| format!("{}{line}\n", "    ".repeat(indent))).collect()
}
