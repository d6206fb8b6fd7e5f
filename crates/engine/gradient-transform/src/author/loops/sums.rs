//! Sums of one transform over the elements of a tile.

use crate::author::element::converted;
use crate::author::loops::along::AlongBlock;
use crate::author::loops::array::{Block, Index, Lanes};
use crate::author::loops::part::{each, with_each};
use crate::author::{Element, Fields, GradientTransform};
use crate::memory::element::Real;
use crate::memory::kernel;
use crate::memory::number::{Backend, LANES, Num, Vectors};

/// Sums in the type `N`: in lanes, and of the elements after the last full block.
pub(super) struct TileSums<N: Copy, G: GradientTransform> {
    lanes: G::Sums<Block<N>>,
    behind: G::Sums<N>,
}

impl<N: Real, G: GradientTransform> TileSums<N, G> {
    pub(super) fn zeros() -> Self {
        Self { lanes: Fields::from_fn(|_| [N::zero(); LANES]), behind: Fields::from_fn(|_| N::zero()) }
    }

    pub(super) fn clear(&mut self) {
        self.lanes.iter_mut().for_each(|lanes| lanes.fill(N::zero()));
        self.behind.iter_mut().for_each(|sum| *sum = N::zero());
    }

    pub(super) fn open(&mut self) -> G::Sums<Lanes<'_, N, true>> {
        with_each(&mut self.lanes, |_, lanes| Lanes::of(lanes))
    }

    /// Adds the terms of the elements after the last full block, which are lanes of a block that is filled up with zeros.
    pub(super) fn add_rest(&mut self, rest: &Self, elements: usize) {
        for (behind, terms) in self.behind.iter_mut().zip(rest.lanes.iter()) {
            *behind = terms[..elements].iter().fold(*behind, |sum, &x| sum + x);
        }
    }

    pub(super) fn total(&self, sum: usize) -> f64 {
        (kernel::total(self.lanes.get(sum)) + self.behind.get(sum)).f64()
    }
}

/// The lanes of sums in a loop. In registers: through memory, each addition would wait for the one before to be stored and read.
pub struct Accumulators<B: Vectors, G: GradientTransform> {
    lanes: G::Sums<BlockOf<B>>,
    /// Of a transform that has its sums in float64, in place of `lanes`.
    wide: G::Sums<BlockOf<B::Wide>>,
    /// Of arrays along axes: those of which a run has one sum.
    along: G::Along<BlockOf<B>>,
    zero: B::Value,
}

/// The vectors of a block; there are fewer than lanes.
type BlockOf<B> = [<B as Backend>::Value; LANES];

impl<B: Vectors, G: GradientTransform> Accumulators<B, G> {
    #[inline(always)]
    pub(super) fn zeros(numbers: B) -> Self {
        let zero = numbers.constant(0.0);
        let (zeros, wide) = ([zero; LANES], [numbers.wide().constant(0.0); LANES]);
        Self {
            lanes: Fields::from_fn(|_| zeros),
            wide: Fields::from_fn(|_| wide),
            along: Fields::from_fn(|_| zeros),
            zero,
        }
    }

    /// Adds the terms of a vector of elements.
    #[inline(always)]
    pub(super) fn add(&mut self, transform: &G, e: &Element<B, G>, i: Index<'_>) {
        if G::SUMS_IN_FLOAT64 {
            for part in 0..B::WIDTH / <B::Wide as Vectors>::WIDTH {
                let e = &converted::<B, B::Wide, G>(
                    e,
                    #[inline(always)]
                    |x| Num::new(x.backend.wide(), x.backend.widen(x.value, part)),
                );
                add_terms::<B::Wide, G>(transform, e, &mut self.wide, i.of_part::<B>(part));
            }
        } else {
            add_terms::<B, G>(transform, e, &mut self.lanes, i);
        }
    }

    /// Adds the terms of sums over an axis: those of the run, or of a vector of elements.
    #[inline(always)]
    pub(super) fn add_along(
        &mut self,
        transform: &G,
        e: &Element<B, G>,
        along: &AlongBlock<'_, B::Element, G>,
        i: Index<'_>,
    ) {
        let (numbers, terms) = (e.update.backend, transform.measure_along(e));
        for (k, lanes) in self.along.iter_mut().enumerate() {
            let (lane, term) = (&mut lanes[i.vector::<B>()], terms.get(k).value);
            if along.one_of_run.get(k) {
                *lane = numbers.add(*lane, term);
            } else {
                let sums = along.sums.get(k);
                sums.set::<B>(i, numbers.add(sums.get::<B>(i), term));
            }
        }
    }

    /// The run's sum of an array along axes.
    #[inline(always)]
    pub(super) fn of_run(&self, array: usize) -> B::Element {
        let mut lanes = [B::Element::of(0.0); LANES];
        Lanes::of(&mut lanes).put::<B>(&self.along.get(array));
        kernel::total(lanes)
    }

    /// Sums of nothing again, for the next run.
    #[inline(always)]
    pub(super) fn begin_run(&mut self) {
        self.along = Fields::from_fn(|_| [self.zero; LANES]);
    }

    /// Puts the lanes into memory.
    #[inline(always)]
    pub(super) fn keep(
        &self,
        lanes: &G::Sums<Lanes<'_, B::Element, true>>,
        wide: &G::Sums<Lanes<'_, f64, true>>,
    ) {
        if G::SUMS_IN_FLOAT64 {
            each::<G::Sums<()>>(
                #[inline(always)]
                |k| wide.get(k).put::<B::Wide>(&self.wide.get(k)),
            );
        } else {
            each::<G::Sums<()>>(
                #[inline(always)]
                |k| lanes.get(k).put::<B>(&self.lanes.get(k)),
            );
        }
    }
}

#[inline(always)]
fn add_terms<B: Vectors, G: GradientTransform>(
    transform: &G,
    e: &Element<B, G>,
    lanes: &mut G::Sums<BlockOf<B>>,
    i: Index<'_>,
) {
    let terms = transform.measure(e);
    for (lanes, term) in lanes.iter_mut().zip(terms.iter()) {
        let lane = &mut lanes[i.vector::<B>()];
        *lane = term.backend.add(*lane, term.value);
    }
}
