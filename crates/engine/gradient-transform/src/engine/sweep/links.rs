//! A tile of a chain whose links run one after the other.

use std::ops::Range;

use crate::engine::plan::{Base, Then};
use crate::engine::sweep::Job;
use crate::engine::sweep::tiles::Loaded;
use crate::link::Role;
use crate::link::state::Sums;
use crate::link::tile::Tile;
use crate::link::update::{Deferred, Update};
use crate::memory::element::Real;

impl<T: Real> Job<'_, T> {
    /// The links of the sweep.
    pub(super) fn links(&self, tile: &mut Loaded<'_, '_, T>, [update, displacement]: [&mut [T]; 2]) {
        let Loaded { gradient, parameter, own: arrays, offset, watch } = tile;
        let (gradient, offset) = (*gradient, *offset);
        let (mut values, mut displacement) = (update, displacement);
        // Until a transform writes, the update is the gradient.
        let mut deferred = Deferred::unwritten();
        let mut displaced = false;
        for call in &self.sweep.calls {
            let stage = &self.plan.stages[call.stage];
            let transform = &*self.stages[call.stage];
            let cx = self.cx.of(self.fresh[call.stage]);
            let (own, base) = split_base(arrays.columns, call.columns.clone(), call.base, parameter);
            let mut tile = Tile {
                update: Update::deferred(values, gradient, &mut deferred),
                direction: &[],
                gradient,
                parameter,
                base,
                columns: own,
                scratch: &self.scratch[stage.scratch.clone()],
                offset,
            };
            if let (Then::Direct | Then::Displace, Some(writer)) = (call.then, self.writer) {
                writer.direct(&cx, &mut tile);
                let displaces = call.then == Then::Displace;
                if displaces || watch.is_some() {
                    writer.displace(&cx, &mut tile, displacement);
                }
                if let Some(watch) = watch {
                    watch.link(call.stage, displacement, T::one());
                }
                if displaces {
                    // From here on the update is the displacement, and the other buffer holds the direction.
                    tile.update.values_mut();
                    std::mem::swap(&mut values, &mut displacement);
                    displaced = true;
                }
                continue;
            }
            if displaced {
                tile.direction = displacement;
            }
            let scalars = &mut arrays.scalar_sums[stage.scalar_sums.clone()];
            let vectors = if call.gathers_arrays(&self.plan.stages) {
                &mut arrays.vector_sums[stage.vector_sums.clone()]
            } else {
                &mut []
            };
            if call.observes && self.still != Some(call.stage) {
                let sums = Sums { scalars: &mut *scalars, vectors: &mut *vectors };
                transform.observe(&cx, &mut tile, sums);
            }
            match (call.then, stage.scales) {
                (Then::Emit | Then::Commit, Some(i)) => tile.update.scale(tile.scratch[0][i]),
                (Then::Nothing | Then::Direct | Then::Displace, _) => {}
                (Then::Emit, None) => transform.emit(&cx, &mut tile),
                (Then::Commit, None) => transform.commit(&cx, &mut tile, Sums { scalars, vectors }),
            }
            if let (Then::Emit | Then::Commit, Some(watch)) = (call.then, &mut *watch) {
                let (values, factor) = tile.update.scaled();
                watch.link(call.stage, values, factor);
            }
        }

        if let (Some(call), Some(writer)) = (self.sweep.writer, self.writer) {
            let call = &self.sweep.calls[call];
            let cx = self.cx.of(self.fresh[call.stage]);
            if displaced {
                Update::deferred(values, gradient, &mut deferred).values_mut();
                std::mem::swap(&mut values, &mut displacement);
            }
            let mut tile = Tile {
                update: Update::deferred(values, gradient, &mut deferred),
                direction: &[],
                gradient,
                parameter: &[],
                base: &[],
                columns: &mut arrays.columns[call.columns.clone()],
                scratch: &self.scratch[self.plan.stages[call.stage].scratch.clone()],
                offset,
            };
            writer.apply(&cx, &mut tile, displaced.then_some(&*displacement), parameter);
        }
    }

    /// Runs all observers on a tile.
    pub(super) fn observe_all(&self, tile: &mut Loaded<'_, '_, T>) {
        let Loaded { gradient, parameter, own, offset, .. } = tile;
        let asked =
            |stage: usize| self.plan.stages[stage].role == Role::Observer && self.still != Some(stage);
        for call in self.sweep.calls.iter().filter(|call| asked(call.stage)) {
            let stage = &self.plan.stages[call.stage];
            let mut tile = Tile {
                update: Update::new(&mut []),
                direction: &[],
                gradient,
                parameter,
                base: &[],
                columns: &mut own.columns[call.columns.clone()],
                scratch: &self.scratch[stage.scratch.clone()],
                offset: *offset,
            };
            let vectors = match call.gathers_arrays(&self.plan.stages) {
                true => &mut own.vector_sums[stage.vector_sums.clone()],
                false => &mut [],
            };
            let scalars = &mut own.scalar_sums[stage.scalar_sums.clone()];
            let cx = self.cx.of(self.fresh[call.stage]);
            self.stages[call.stage].observe(&cx, &mut tile, Sums { scalars, vectors });
        }
    }
}

/// A stage's own columns, and the base iterate.
fn split_base<'s, 'c, T>(
    columns: &'s mut [&'c mut [T]],
    own: Range<usize>,
    base: Base,
    parameter: &'s [T],
) -> (&'s mut [&'c mut [T]], &'s [T]) {
    match base {
        Base::Unread => (&mut columns[own], &[]),
        Base::Parameter => (&mut columns[own], parameter),
        Base::Column(base) if base < own.start => {
            let (left, right) = columns.split_at_mut(own.start);
            (&mut right[..own.len()], &*left[base])
        }
        Base::Column(base) => {
            let (left, right) = columns.split_at_mut(own.end);
            (&mut left[own.start..], &*right[base - own.end])
        }
    }
}
