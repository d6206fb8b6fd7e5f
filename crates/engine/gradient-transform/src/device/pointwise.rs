//! Sweeps outside of steps: the next elements of an array, from its own, another array's and a number.

use std::sync::Arc;

use smallvec::smallvec;

use crate::device::optimizer::device;
use crate::device::overlap::check_apart;
use crate::device::{ElementFormula, Executor, KeptColumn, SweepBatch, SweepFormula, TensorSweep};
use crate::error::Result;
use crate::link::context::TensorInfo;
use crate::memory::element::Real;
use crate::memory::number::{Graph, Input};
use crate::memory::rounding::Rounding;

/// The next element of an array `y`, where another has `g`, with a number `s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// `g`.
    Other,
    /// `y + s (g - y)`.
    Towards,
    /// `(y + g) s`.
    Mean,
}

/// A change of an array.
pub(super) struct Change<'a, T, A> {
    pub(super) next: Next,
    pub(super) tensor: &'a TensorInfo,
    pub(super) array: &'a mut A,
    pub(super) other: &'a A,
    pub(super) number: T,
    /// An array that gets the elements as they were, or none.
    pub(super) before: &'a mut [A],
}

/// Work on an element outside of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A change, and whether the elements before it are kept.
    Change { next: Next, keeps: bool },
    /// The sum of `(s g)^2`.
    Square,
    /// The sum of `(s (y + g))^2`.
    SquareOfSum,
}

/// Formulas of such work, each made once.
#[derive(Default)]
pub(super) struct Pointwise(Vec<(Kind, Arc<SweepFormula>)>);

impl Pointwise {
    /// Changes arrays, with one sweep for all changes of a kind. Results are rounded to the nearest.
    ///
    /// # Errors
    /// [`Error::Overlap`](crate::Error::Overlap), without a change; [`Error::Device`](crate::Error::Device).
    pub(super) fn run<'a, T: Real, E: Executor<T>>(
        &mut self,
        executor: &mut E,
        changes: impl Iterator<Item = Change<'a, T, E::Array>>,
    ) -> Result<()>
    where
        E::Array: 'a,
    {
        let changes: Vec<Change<'_, T, E::Array>> =
            changes.filter(|change| E::len(change.array) > 0).collect();
        check_apart::<T, E>(changes.iter().flat_map(|change| {
            let name = &*change.tensor.name;
            [(name, &*change.array, true), (name, change.other, false)]
        }))?;
        let (mut kinds, mut batches) = (Vec::new(), Vec::new());
        for Change { next, tensor, array, other, number, before } in changes {
            let keeps = !before.is_empty();
            let kind = Kind::Change { next, keeps };
            let sweep = TensorSweep {
                shape: &tensor.shape,
                numbers: smallvec![number],
                along: smallvec![],
                parameter: array,
                gradient: other,
                columns: before,
                rounding: Rounding::Nearest,
                parameter_stream: 0,
                column_streams: smallvec![0; usize::from(keeps)],
                sums: &mut [],
                sums_along: smallvec![],
            };
            let place = kinds.iter().position(|known| *known == kind).unwrap_or_else(|| {
                kinds.push(kind);
                batches.push(SweepBatch { formula: self.formula(kind), tensors: Vec::new() });
                batches.len() - 1
            });
            batches[place].tensors.push(sweep);
        }
        if batches.is_empty() { Ok(()) } else { executor.sweep(&mut batches).map_err(device) }
    }

    pub(super) fn formula(&mut self, kind: Kind) -> Arc<SweepFormula> {
        if let Some((_, known)) = self.0.iter().find(|(known, _)| *known == kind) {
            return Arc::clone(known);
        }
        let made = Arc::new(formula(kind));
        self.0.push((kind, Arc::clone(&made)));
        made
    }
}

fn formula(kind: Kind) -> SweepFormula {
    let graph = Graph::new();
    let (y, g, s) =
        (graph.input(Input::Parameter), graph.input(Input::Gradient), graph.input(Input::Scalar(0)));
    let mut elements = ElementFormula {
        every: 1,
        columns: Vec::new(),
        parameter: None,
        sums: Vec::new(),
        sums_along: Vec::new(),
    };
    match kind {
        Kind::Change { next, keeps } => {
            let changed = match next {
                Next::Other => g,
                Next::Towards => y + s * (g - y),
                Next::Mean => (y + g) * s,
            };
            elements.parameter = Some(graph.symbol(changed));
            let before = KeptColumn { column: 0, value: graph.symbol(y), to_nearest: true };
            elements.columns.extend(keeps.then_some(before));
        }
        Kind::Square => elements.sums.push((0, graph.symbol((s * g).squared()))),
        Kind::SquareOfSum => elements.sums.push((0, graph.symbol((s * (y + g)).squared()))),
    }
    let columns = vec![1; elements.columns.len()];
    SweepFormula { nodes: graph.nodes(), elements, sampled: Vec::new(), columns, along: Vec::new() }
}
