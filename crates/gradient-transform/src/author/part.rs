//! The arrays of one transform in a loop.

use std::ops::Range;

use crate::author::along::{AlongBlock, Expand, Places, Reduce, Side};
use crate::author::array::{Array, Block, Index, Lanes, Len};
use crate::author::work::Work;
use crate::author::{Element, ElementOf, Fields, GradientTransform};
use crate::axes::Axes;
use crate::element::Real;
use crate::kernel;
use crate::number::{LANES, Num, Vectors};
use crate::sums::Gathered;

/// A transform's part of loops, the same for all tiles of a sweep.
pub struct Part<'a, T, G: GradientTransform> {
    pub(super) transform: &'a G,
    /// The numbers of the tensor and the step.
    pub(super) scalars: &'a [T],
    pub(super) variant: u32,
    /// Of a writer: whether it completes the update.
    pub(super) directs: bool,
    /// Of a writer: its base iterate, if that is not the parameter.
    pub(super) base: Option<usize>,
    /// Its columns among those of the tile.
    pub(super) columns: Range<usize>,
    /// Which of the declared columns the tensor has.
    pub(super) present: G::State<bool>,
    /// Where sums are added, among those of the tile.
    pub(super) sums: Range<usize>,
    pub(super) along: Option<Along<'a, T, G>>,
}

/// Arrays along the two axes that a transform sums over.
pub(crate) struct Along<'a, T, G: GradientTransform> {
    pub(super) axes: Axes,
    /// Whether the array lacks the first of the axes, or else the second.
    pub(super) lacks_first: G::Along<bool>,
    pub(super) values: G::Along<&'a [T]>,
    /// Its arrays of sums among those of the tile. None in loops that do not measure.
    pub(super) sums: Range<usize>,
}

/// Arrays of a tile that belong to transforms: each has its [`Part`] of them.
pub struct Own<'t, 'c, T> {
    pub(crate) columns: &'t mut [&'c mut [T]],
    pub(crate) scalar_sums: &'t mut [f64],
    pub(crate) vector_sums: &'t mut [Gathered<T>],
}

/// Lists of which the transforms of a loop take their ranges, one after the other.
pub struct Remaining<'r, 'c, T> {
    columns: Ranges<'r, &'c mut [T]>,
    vector_sums: Ranges<'r, Gathered<T>>,
}

struct Ranges<'r, V> {
    list: &'r mut [V],
    taken: usize,
}

impl<'r, V> Ranges<'r, V> {
    #[inline]
    fn take(&mut self, range: &Range<usize>) -> &'r mut [V] {
        if range.is_empty() {
            return &mut [];
        }
        let (_, list) = std::mem::take(&mut self.list).split_at_mut(range.start - self.taken);
        let (own, list) = list.split_at_mut(range.len());
        (self.list, self.taken) = (list, range.end);
        own
    }
}

impl<'c, T> Own<'_, 'c, T> {
    pub(super) fn remaining(&mut self) -> Remaining<'_, 'c, T> {
        Remaining {
            columns: Ranges { list: self.columns, taken: 0 },
            vector_sums: Ranges { list: self.vector_sums, taken: 0 },
        }
    }
}

/// Working memory of a part: sums of a tile.
pub struct Store<T: Copy, G: GradientTransform> {
    /// In lanes.
    sums: G::Sums<Block<T>>,
    /// Of the elements behind the lanes.
    behind: G::Sums<T>,
    /// Blocks of arrays along axes, and of their sums.
    sides: [G::Along<Block<T>>; 2],
}

/// Copies of a part's columns behind a tile's last full block.
pub struct Rest<T: Copy, G: GradientTransform> {
    state: G::State<Block<T>>,
    store: Store<T, G>,
}

impl<T: Real, G: GradientTransform> Store<T, G> {
    pub(super) fn new() -> Self {
        let zeros = [T::zero(); LANES];
        Self {
            sums: Fields::from_fn(|_| zeros),
            behind: Fields::from_fn(|_| T::zero()),
            sides: [Fields::from_fn(|_| zeros); 2],
        }
    }
}

impl<T: Real, G: GradientTransform> Rest<T, G> {
    pub(super) fn new() -> Self {
        Self { state: Fields::from_fn(|_| [T::zero(); LANES]), store: Store::new() }
    }
}

/// A part's arrays in a loop.
pub struct Opened<'r, 'n, T: Copy, G: GradientTransform> {
    state: G::State<State<'r, 'n, T>>,
    sums: G::Sums<Lanes<'r, T, true>>,
}

/// A column in a loop. One that the tensor does not have is zero, whatever is assigned to it.
struct State<'r, 'n, T> {
    reads: Array<'r, 'n, T, false>,
    keeps: Option<Array<'r, 'n, T, true>>,
}

impl<T> Copy for State<'_, '_, T> {}

impl<T> Clone for State<'_, '_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<'r, 'n, T: Real> State<'r, 'n, T> {
    fn new(len: Len<'n>, column: Option<&'r mut [T]>) -> Self {
        match column {
            None => Self { reads: len.read(T::zeros()), keeps: None },
            Some(column) => {
                let keeps = len.change(column);
                Self { reads: keeps.reads(), keeps: Some(keeps) }
            }
        }
    }
}

impl<T: Copy, G: GradientTransform> Copy for Opened<'_, '_, T, G> {}

impl<T: Copy, G: GradientTransform> Clone for Opened<'_, '_, T, G> {
    fn clone(&self) -> Self {
        *self
    }
}

/// Numbers that are the same for all elements, as vectors.
pub struct Fixed<B: Vectors, G: GradientTransform> {
    /// A copy: its hyperparameters stay in registers, as nothing that is written can change them.
    transform: G,
    scalars: G::Scalars<Num<B>>,
    variant: u32,
    directs: bool,
    base: Option<usize>,
}

/// Values of an element that all transforms of a loop see.
pub struct Shared<B: Vectors> {
    pub(super) numbers: B,
    pub(super) update: Num<B>,
    pub(super) gradient: Num<B>,
    pub(super) parameter: Num<B>,
    pub(super) base: Num<B>,
    pub(super) direction: Num<B>,
    pub(super) displacement: Num<B>,
}

impl<T: Real, G: GradientTransform> Part<'_, T, G> {
    /// Whether it has variant 0 and nothing to direct.
    pub(super) fn is_usual(&self) -> bool {
        self.variant == 0 && !self.directs
    }

    /// The axes of the arrays along axes, if the tensor has any.
    pub(super) fn axes(&self) -> Option<&Axes> {
        self.along.as_ref().map(|along| &along.axes)
    }

    /// Gives every element its value of the arrays along axes, in working memory, with sums of zero. An array that the tensor does
    /// not have is zero.
    pub(super) fn expand<W: Work<G>>(&self, workspace: &mut [T], offset: usize, len: usize) {
        let (values, sums) = workspace.split_at_mut(workspace.len() / 2);
        if W::KEEPS_SUMS {
            sums.fill(T::zero());
        }
        let Some(along) = self.along.as_ref().filter(|_| W::READS_ALONG) else {
            return values.fill(T::zero());
        };
        for (i, expanded) in values.chunks_exact_mut(len.next_multiple_of(LANES)).enumerate() {
            let places = Places { axes: &along.axes, lacks_first: along.lacks_first.get(i), offset };
            T::with_vectors(Expand { values: along.values.get(i), expanded: &mut expanded[..len], places });
        }
    }

    /// The arrays of a tile's full blocks.
    #[inline]
    pub(super) fn open<'r, 'n, W: Work<G>>(
        &'r self,
        store: &'r mut Store<T, G>,
        own: &mut Remaining<'r, '_, T>,
        workspace: &'r mut [T],
        tile: usize,
        len: Len<'n>,
    ) -> (Opened<'r, 'n, T, G>, Side<'r, T, G>) {
        let mut columns = own.columns.take(&self.columns).iter_mut();
        if W::KEEPS_SUMS {
            store.sums.iter_mut().for_each(|lanes| lanes.fill(T::zero()));
            store.behind = Fields::from_fn(|_| T::zero());
        }
        let opened = Opened {
            state: Fields::from_fn(|i| {
                let column = if self.present.get(i) { columns.next() } else { None };
                State::new(len, column.map(|column| &mut **column))
            }),
            sums: with_each(&mut store.sums, |_, lanes| Lanes::of(lanes)),
        };
        (opened, self.side(&mut store.sides, own, workspace, tile, 0))
    }

    #[inline]
    fn side<'r>(
        &'r self,
        sides: &'r mut [G::Along<Block<T>>; 2],
        own: &mut Remaining<'r, '_, T>,
        workspace: &'r mut [T],
        tile: usize,
        from: usize,
    ) -> Side<'r, T, G> {
        let along = self.along.as_ref().map(|along| (along, own.vector_sums.take(&along.sums)));
        Side::new(along, sides, workspace, tile, from)
    }

    /// Copies of the arrays behind a tile's last full block, as one block, filled up with zeros.
    pub(super) fn open_rest<'r, 'n>(
        &'r self,
        rest: &'r mut Rest<T, G>,
        own: &mut Remaining<'r, '_, T>,
        workspace: &'r mut [T],
        tile: usize,
        len: Len<'n>,
    ) -> (Opened<'r, 'n, T, G>, Side<'r, T, G>) {
        let full = tile / LANES * LANES;
        let mut columns = own.columns.take(&self.columns).iter();
        let Rest { state, store } = rest;
        let opened = Opened {
            state: with_each(state, |i, copy| {
                let column = if self.present.get(i) { columns.next() } else { None };
                let copy = column.map(|column| {
                    copy[..tile - full].copy_from_slice(&column[full..tile]);
                    &mut copy[..]
                });
                State::new(len, copy)
            }),
            sums: with_each(&mut store.sums, |_, lanes| Lanes::of(lanes)),
        };
        (opened, self.side(&mut store.sides, own, workspace, tile, full))
    }

    /// Puts the results behind the last full block where they belong.
    pub(super) fn close_rest<W: Work<G>>(
        &self,
        store: &mut Store<T, G>,
        rest: &Rest<T, G>,
        columns: &mut [&mut [T]],
        tile: usize,
    ) {
        let full = tile / LANES * LANES;
        if W::KEEPS_STATE {
            let mut columns = columns[self.columns.clone()].iter_mut();
            for (i, copy) in rest.state.iter().enumerate() {
                if let Some(column) = if self.present.get(i) { columns.next() } else { None } {
                    column[full..tile].copy_from_slice(&copy[..tile - full]);
                }
            }
        }
        if W::KEEPS_SUMS {
            for (behind, lanes) in store.behind.iter_mut().zip(rest.store.sums.iter()) {
                *behind = lanes[..tile - full].iter().fold(*behind, |sum, &x| sum + x);
            }
        }
    }

    /// Adds the sums of the tile where they belong.
    #[inline]
    pub(super) fn finish<W: Work<G>>(
        &self,
        store: &Store<T, G>,
        own: &mut Own<'_, '_, T>,
        workspace: &[T],
        offset: usize,
        len: usize,
    ) {
        if !W::KEEPS_SUMS {
            return;
        }
        for (i, sum) in own.scalar_sums[self.sums.clone()].iter_mut().enumerate() {
            *sum += (kernel::total(store.sums.get(i)) + store.behind.get(i)).f64();
        }
        // What was added to the sums of runs is there already.
        let Some(along) = self.along.as_ref().filter(|_| !workspace.is_empty()) else { return };
        let terms = workspace[workspace.len() / 2..].chunks_exact(len.next_multiple_of(LANES));
        for (i, (terms, sums)) in terms.zip(&mut own.vector_sums[along.sums.clone()]).enumerate() {
            let places = Places { axes: &along.axes, lacks_first: along.lacks_first.get(i), offset };
            T::with_vectors(Reduce { terms: &terms[..len], sums, places });
        }
    }

    /// Its numbers as vectors.
    #[inline(always)]
    pub(super) fn fixed<B: Vectors<Element = T>, const USUAL: bool>(&self, numbers: B) -> Fixed<B, G> {
        Fixed {
            transform: self.transform.clone(),
            scalars: Fields::from_fn(
                #[inline(always)]
                |i| Num::new(numbers, numbers.splat(self.scalars[i])),
            ),
            variant: if USUAL { 0 } else { self.variant },
            directs: !USUAL && self.directs,
            base: self.base,
        }
    }
}

/// Fields made of those of a store, which have the same names.
#[inline(always)]
fn with_each<'r, V: Copy + 'static, U: Copy, F: Fields<V>, O: Fields<U>>(
    fields: &'r mut F,
    mut make: impl FnMut(usize, &'r mut V) -> U,
) -> O {
    let mut fields = fields.iter_mut();
    O::from_fn(
        #[inline(always)]
        |i| match fields.next() {
            Some(field) => make(i, field),
            None => unreachable!("both have the same names"),
        },
    )
}

impl<'n, T: Real, G: GradientTransform> Opened<'_, 'n, T, G> {
    /// The work on a vector, and within it that of the transforms behind.
    #[inline(always)]
    pub(super) fn element<W: Work<G>, B: Vectors<Element = T>>(
        &self,
        fixed: &Fixed<B, G>,
        along: &AlongBlock<'_, T, G>,
        i: Index<'n>,
        shared: &mut Shared<B>,
        behind: impl FnOnce(&mut Shared<B>),
    ) {
        let numbers = shared.numbers;
        let mut e: Element<B, G> = ElementOf {
            update: shared.update,
            gradient: shared.gradient,
            parameter: shared.parameter,
            base: shared.base,
            direction: shared.direction,
            state: Fields::from_fn(
                #[inline(always)]
                |k| Num::new(numbers, self.state.get(k).reads.get::<B>(i)),
            ),
            scalars: fixed.scalars,
            along: Fields::from_fn(
                #[inline(always)]
                |k| Num::new(numbers, along.values.get(k).get::<B>(i)),
            ),
            variant: fixed.variant,
        };
        if W::KEEPS_SUMS {
            let measured = fixed.transform.measure(&e);
            each::<G::Sums<()>>(
                #[inline(always)]
                |k| {
                    let lanes = self.sums.get(k);
                    lanes.set::<B>(i, numbers.add(lanes.get::<B>(i), measured.get(k).value));
                },
            );
            let measured = fixed.transform.measure_along(&e);
            each::<G::Along<()>>(
                #[inline(always)]
                |k| {
                    let sums = along.sums.get(k);
                    sums.set::<B>(i, numbers.add(sums.get::<B>(i), measured.get(k).value));
                },
            );
        }
        if W::DISPLACES {
            shared.base = fixed.base.map_or(e.parameter, |base| e.state.get(base));
        }
        W::before(&fixed.transform, &mut e, fixed.directs);
        (shared.update, shared.direction) = (e.update, e.direction);
        if W::KEEPS_STATE && !W::WRITES {
            self.keep(i, &e);
        }
        behind(shared);
        if W::WRITES {
            W::after(
                &fixed.transform,
                &mut e,
                if W::DISPLACES { shared.update } else { shared.displacement },
            );
            shared.parameter = e.parameter;
            self.keep(i, &e);
        }
    }

    #[inline(always)]
    fn keep<B: Vectors<Element = T>>(&self, i: Index<'n>, e: &Element<B, G>) {
        each::<G::State<()>>(
            #[inline(always)]
            |k| {
                if let Some(column) = self.state.get(k).keeps {
                    column.set::<B>(i, e.state.get(k).value);
                }
            },
        );
    }
}

/// Calls `f` for every field, written out one after the other.
#[inline(always)]
fn each<F: Fields<()>>(f: impl FnMut(usize)) {
    F::from_fn(f);
}
