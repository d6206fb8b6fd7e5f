//! A transform's functions of an element, run once with symbols: their inputs and properties.

use crate::author::{Column, Element, ElementOf, Fields, GradientTransform, count};
use crate::link::Reads;
use crate::memory::number::{Graph, Input, Node, Num};

/// Properties of a transform's functions of an element that the engine uses.
#[derive(Debug)]
pub struct Traced {
    pub(super) reads: Reads,
    pub(super) reads_direction: bool,
    /// The number by which the update is multiplied, if nothing else happens to it.
    pub(super) scales: Option<usize>,
    pub(super) sums_a_square_of_the_update: bool,
}

/// Traces a transform. `#[transform]` calls it from a function without type parameters, like
/// [`run`](super::loops::pass::run).
pub fn trace<G: GradientTransform>(transform: &G) -> Traced {
    let graph = Graph::new();
    let mut trace = Trace { graph: &graph, updates: vec![], state: vec![], sums: vec![], along: vec![] };
    for variant in 0..transform.variants() {
        let mut e = symbolic::<G>(&graph, variant);
        let (measured, measured_along) = (transform.measure(&e), transform.measure_along(&e));
        trace.sums.extend((0..count::<G::Sums<f64>, f64>()).map(|i| measured.get(i)));
        trace.along.extend((0..count::<G::Along<usize>, usize>()).map(|i| measured_along.get(i)));
        transform.update(&mut e);
        trace.updates.push(e.update);
        trace.state.extend((0..count::<G::State<Column>, Column>()).map(|i| e.state.get(i)));
    }
    trace.result()
}

/// All values that a transform computes from an element.
struct Trace<'g> {
    graph: &'g Graph,
    /// The outgoing update of every variant.
    updates: Vec<Num<&'g Graph>>,
    /// The next state, of every variant.
    state: Vec<Num<&'g Graph>>,
    sums: Vec<Num<&'g Graph>>,
    along: Vec<Num<&'g Graph>>,
}

impl Trace<'_> {
    fn result(&self) -> Traced {
        Traced {
            reads: Reads {
                update: true,
                gradient: self.reads(Input::Gradient),
                parameter: self.reads(Input::Parameter),
                base: self.reads(Input::Base),
            },
            reads_direction: self.reads(Input::Direction),
            scales: self.scales(),
            sums_a_square_of_the_update: self.sums_a_square_of_the_update(),
        }
    }

    fn reads(&self, input: Input) -> bool {
        let values = [&self.updates, &self.state, &self.sums, &self.along];
        values.into_iter().flatten().any(|&value| self.graph.reads(value, input))
    }

    fn scales(&self) -> Option<usize> {
        let ([update], []) = (&self.updates[..], &self.state[..]) else { return None };
        let Node::Mul(a, b) = self.graph.node(self.graph.symbol(*update)) else { return None };
        match (self.graph.node(a), self.graph.node(b)) {
            (Node::Input(Input::Scalar(i)), Node::Input(Input::Update))
            | (Node::Input(Input::Update), Node::Input(Input::Scalar(i))) => Some(i),
            _ => None,
        }
    }

    fn sums_a_square_of_the_update(&self) -> bool {
        let update = self.graph.input(Input::Update);
        let square = self.graph.symbol(update * update);
        self.sums.iter().chain(&self.along).any(|&sum| self.graph.symbol(sum) == square)
    }
}

/// The element of a trace, in a variant.
pub(super) fn symbolic<G: GradientTransform>(graph: &Graph, variant: u32) -> Element<&Graph, G> {
    ElementOf {
        update: graph.input(Input::Update),
        gradient: graph.input(Input::Gradient),
        parameter: graph.input(Input::Parameter),
        base: graph.input(Input::Base),
        direction: graph.input(Input::Direction),
        state: Fields::from_fn(|i| graph.input(Input::State(i))),
        scalars: Fields::from_fn(|i| graph.input(Input::Scalar(i))),
        along: Fields::from_fn(|i| graph.input(Input::Along(i))),
        variant,
    }
}
