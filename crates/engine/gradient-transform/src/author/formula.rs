//! A transform's work on an element as a formula.

use crate::author::element::converted;
use crate::author::{Column, Element, ElementOf, Fields, GradientTransform, Writer, count, kind::Kind};
use crate::link::context::TensorInfo;
use crate::link::formula::{ElementWork, FormulaElement};
use crate::memory::number::{Graph, Num};

/// Work of a transform of updates.
pub(super) fn formula<G: GradientTransform>(
    transform: &G,
    tensor: &TensorInfo,
    work: ElementWork,
    element: &mut FormulaElement<'_>,
) -> bool {
    let columns = Columns::of(transform, tensor);
    let mut e = columns.element::<G>(element);
    match work {
        // A lagged transform does not measure before the last sweep.
        ElementWork::Observe if G::Kind::LAGS => {}
        ElementWork::Observe => measure(transform, tensor, &e, element),
        ElementWork::Accumulate => {
            measure(transform, tensor, &e, element);
            transform.update(&mut e);
            columns.keep::<G>(&e, element);
        }
        ElementWork::Emit | ElementWork::Commit => {
            let keeps = work == ElementWork::Commit;
            if keeps && G::Kind::LAGS {
                measure(transform, tensor, &e, element);
            }
            transform.update(&mut e);
            element.update = e.update;
            if keeps {
                columns.keep::<G>(&e, element);
            }
        }
        ElementWork::Direct | ElementWork::Displace | ElementWork::Write | ElementWork::WriteDisplaced => {
            return false;
        }
    }
    true
}

/// Work of a writer.
pub(super) fn of_writer<G: Writer>(
    transform: &G,
    tensor: &TensorInfo,
    work: ElementWork,
    element: &mut FormulaElement<'_>,
) -> bool {
    let columns = Columns::of(transform, tensor);
    let mut e = columns.element::<G>(element);
    match work {
        ElementWork::Direct if transform.directs() => {
            transform.update(&mut e);
            element.update = e.update;
        }
        ElementWork::Direct => {}
        ElementWork::Displace => element.update = transform.displace(&e),
        ElementWork::Write | ElementWork::WriteDisplaced => {
            let displaced = work == ElementWork::WriteDisplaced;
            let displacement = displaced.then_some(element.update);
            if displaced {
                e.update = element.direction;
            }
            transform.write(&mut e, displacement);
            element.parameter = e.parameter;
            columns.keep::<G>(&e, element);
        }
        ElementWork::Observe | ElementWork::Accumulate | ElementWork::Emit | ElementWork::Commit => {
            return false;
        }
    }
    true
}

/// For each array of a transform's state, its position among the tensor's columns.
struct Columns {
    places: Vec<Option<usize>>,
    /// Whether the tensor has arrays along axes.
    along: bool,
}

impl Columns {
    fn of<G: GradientTransform>(transform: &G, tensor: &TensorInfo) -> Self {
        let declared = GradientTransform::columns(transform, tensor);
        let mut next = 0..;
        let all = 0..count::<G::State<Column>, Column>();
        let places = all.map(|i| declared.get(i).present.then(|| next.next()).flatten()).collect();
        Self { places, along: transform.along(tensor).is_some() }
    }

    fn element<'g, G: GradientTransform>(&self, element: &FormulaElement<'g>) -> Element<&'g Graph, G> {
        let zero = || element.update.constant(0.0);
        ElementOf {
            update: element.update,
            gradient: element.gradient,
            parameter: element.parameter,
            base: element.base,
            direction: element.direction,
            state: Fields::from_fn(|i| self.places[i].map_or_else(zero, |place| element.column(place))),
            scalars: Fields::from_fn(|i| element.number(i)),
            along: Fields::from_fn(|i| if self.along { element.along(i) } else { zero() }),
            variant: element.variant,
        }
    }

    /// Assignments to an array that the tensor does not have are lost.
    fn keep<'g, G: GradientTransform>(&self, e: &Element<&'g Graph, G>, element: &mut FormulaElement<'g>) {
        let present = self.places.iter().enumerate().filter_map(|(i, place)| Some((i, (*place)?)));
        element.state.extend(present.map(|(i, place)| (place, e.state.get(i))));
    }
}

fn measure<'g, G: GradientTransform>(
    transform: &G,
    tensor: &TensorInfo,
    e: &Element<&'g Graph, G>,
    element: &mut FormulaElement<'g>,
) {
    let sums = if G::SUMS_IN_FLOAT64 {
        element.graph.in_float64(|| transform.measure(&converted::<_, _, G>(e, |x| x.backend.widen(x))))
    } else {
        transform.measure(e)
    };
    element.sums.extend((0..count::<G::Sums<()>, ()>()).map(|i| sums.get(i)));
    if transform.along(tensor).is_some() {
        let sums: G::Along<Num<&'g Graph>> = transform.measure_along(e);
        element.sums_along.extend((0..count::<G::Along<()>, ()>()).map(|i| sums.get(i)));
    }
}
