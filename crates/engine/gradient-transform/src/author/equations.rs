//! A transform's functions of an element as equations.

use crate::author::trace::symbolic;
use crate::author::{Column, Element, Fields, GradientTransform, Writer};
use crate::link::context::{Context, StepContext, TensorInfo};
use crate::link::equations::Equations;
use crate::memory::number::{Graph, Input, Num};

/// The equations of the formula that a tensor's elements use in ordinary steps.
pub(super) fn equations<G: GradientTransform>(transform: &G, tensor: &TensorInfo) -> Equations {
    let graph = graph::<G>();
    let e = &mut element(transform, tensor, &graph);
    let mut equations = Equations::default();
    let add = |(name, value): (&&str, Num<&Graph>)| format!("{name} = sum of {}", graph.equation(value));
    let sums = transform.measure(e);
    let names = <G::Sums<()> as Fields<()>>::NAMES.iter().enumerate();
    equations.measure.extend(names.map(|(i, name)| add((name, sums.get(i)))));
    if transform.along(tensor).is_some() {
        let sums = transform.measure_along(e);
        let names = <G::Along<()> as Fields<()>>::NAMES.iter().enumerate();
        equations.measure.extend(names.map(|(i, name)| add((name, sums.get(i)))));
    }
    transform.update(e);
    equations.update.extend(changed("u", graph.equation(e.update)));
    equations.state = state(transform, tensor, &graph, e);
    equations
}

/// The equations of a writer.
pub(super) fn of_writer<G: Writer>(transform: &G, tensor: &TensorInfo) -> Equations {
    let graph = graph::<G>();
    let e = &mut element(transform, tensor, &graph);
    let mut equations = Equations::default();
    if transform.directs() {
        transform.update(e);
        equations.update.extend(changed("u", graph.equation(e.update)));
        e.update = graph.input(Input::Update);
    }
    equations.displace = vec![format!("u <- {}", graph.equation(transform.displace(e)))];
    let mut displaced = *e;
    transform.write(e, None);
    equations.write.extend(changed("y", graph.equation(e.parameter)));
    equations.write.extend(state(transform, tensor, &graph, e));
    displaced.update = graph.input(Input::Direction);
    transform.write(&mut displaced, Some(graph.input(Input::Update)));
    equations.write_displaced.extend(changed("y", graph.equation(displaced.parameter)));
    equations.write_displaced.extend(state(transform, tensor, &graph, &displaced));
    equations
}

fn graph<G: GradientTransform>() -> Graph {
    let state = <G::State<Column> as Fields<Column>>::NAMES;
    Graph::with_names(
        state,
        <G::Scalars<f64> as Fields<f64>>::NAMES,
        <G::Along<usize> as Fields<usize>>::NAMES,
    )
}

fn element<'g, G: GradientTransform>(
    transform: &G,
    tensor: &TensorInfo,
    graph: &'g Graph,
) -> Element<&'g Graph, G> {
    let step = StepContext::new(1, 1.0);
    let cx = Context::new(&step, tensor);
    let mut scalars = G::Scalars::from_fn(|_| 0.0);
    GradientTransform::begin(transform, &cx, &mut scalars);
    symbolic::<G>(graph, transform.variant(&cx, &scalars))
}

/// The next values of the arrays that the tensor has.
fn state<G: GradientTransform>(
    transform: &G,
    tensor: &TensorInfo,
    graph: &Graph,
    e: &Element<&Graph, G>,
) -> Vec<String> {
    let columns = GradientTransform::columns(transform, tensor);
    let names = <G::State<Column> as Fields<Column>>::NAMES.iter().enumerate();
    let present = names.filter(|(i, _)| columns.get(*i).present);
    present.filter_map(|(i, name)| changed(name, graph.equation(e.state.get(i)))).collect()
}

fn changed(name: &str, value: String) -> Option<String> {
    (value != name).then(|| format!("{name} <- {value}"))
}
