//! Sums of one transform over the elements of a tile.

use crate::author::loops::array::{Block, Index, Lanes};
use crate::author::loops::part::{each, with_each};
use crate::author::{Element, ElementOf, Fields, GradientTransform};
use crate::memory::element::Real;
use crate::memory::kernel;
use crate::memory::number::{LANES, Num, Vectors};

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

/// Adds the terms of a vector of elements.
#[inline(always)]
pub(super) fn add<B: Vectors, G: GradientTransform>(
    transform: &G,
    e: &Element<B, G>,
    sums: &G::Sums<Lanes<'_, B::Element, true>>,
    i: Index<'_>,
) {
    let (numbers, terms) = (e.update.backend, transform.measure(e));
    each::<G::Sums<()>>(
        #[inline(always)]
        |k| {
            let lanes = sums.get(k);
            lanes.set::<B>(i, numbers.add(lanes.get::<B>(i), terms.get(k).value));
        },
    );
}

/// The same with terms that are calculated in float64.
#[inline(always)]
pub(super) fn add_wide<B: Vectors, G: GradientTransform>(
    transform: &G,
    e: &Element<B, G>,
    sums: &G::Sums<Lanes<'_, f64, true>>,
    i: Index<'_>,
) {
    for part in 0..B::WIDTH / <B::Wide as Vectors>::WIDTH {
        add::<B::Wide, G>(transform, &widened::<B, G>(e, part), sums, i.of_part::<B>(part));
    }
}

/// Part of a vector of elements, in float64.
#[inline(always)]
fn widened<B: Vectors, G: GradientTransform>(e: &Element<B, G>, part: usize) -> Element<B::Wide, G> {
    let wide = |x: Num<B>| Num::new(x.backend.wide(), x.backend.widen(x.value, part));
    ElementOf {
        update: wide(e.update),
        gradient: wide(e.gradient),
        parameter: wide(e.parameter),
        base: wide(e.base),
        direction: wide(e.direction),
        state: Fields::from_fn(
            #[inline(always)]
            |k| wide(e.state.get(k)),
        ),
        scalars: Fields::from_fn(
            #[inline(always)]
            |k| wide(e.scalars.get(k)),
        ),
        along: Fields::from_fn(
            #[inline(always)]
            |k| wide(e.along.get(k)),
        ),
        variant: e.variant,
    }
}
