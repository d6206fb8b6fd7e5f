//! The arrays of one transform in a loop.

use std::ops::Range;

use crate::author::loops::along::{AlongBlock, Expand, Places, Reduce, Side};
use crate::author::loops::array::{Array, Block, Index, Lanes, Len};
use crate::author::loops::sums::{Accumulators, TileSums};
use crate::author::loops::work::Work;
use crate::author::{Column, Element, ElementOf, Fields, GradientTransform, count};
use crate::layout::axes::Axes;
use crate::link::context::TensorInfo;
use crate::link::loops::Own;
use crate::memory::element::Real;
use crate::memory::number::{LANES, Num, Vectors};
use crate::memory::sums::Gathered;

/// A transform's part of loops, the same for all tiles of a sweep.
pub struct Part<'a, T, G: GradientTransform> {
    pub(in crate::author) transform: &'a G,
    /// The numbers of the tensor and the step.
    pub(in crate::author) scalars: &'a [T],
    pub(in crate::author) variant: u32,
    /// Of a writer: whether it completes the update.
    pub(in crate::author) directs: bool,
    /// Of a writer: its base iterate, if that is not the parameter.
    pub(in crate::author) base: Option<usize>,
    /// Positions of its columns among those of the tile.
    pub(in crate::author) columns: Range<usize>,
    /// Whether the tensor has each of the declared columns.
    pub(in crate::author) present: G::State<bool>,
    /// Positions of its sums among those of the tile.
    pub(in crate::author) sums: Range<usize>,
    pub(in crate::author) along: Option<Along<'a, T, G>>,
}

/// Arrays along the two axes that a transform sums over.
pub(crate) struct Along<'a, T, G: GradientTransform> {
    pub(in crate::author) axes: Axes,
    /// Whether the array lacks the first of the axes, or else the second.
    pub(in crate::author) lacks_first: G::Along<bool>,
    pub(in crate::author) values: G::Along<&'a [T]>,
    /// Its arrays of sums among those of the tile. None in loops that do not measure.
    pub(in crate::author) sums: Range<usize>,
}

/// Lists from which the transforms of a loop take their ranges, one after the other.
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
    pub(in crate::author) fn remaining(&mut self) -> Remaining<'_, 'c, T> {
        Remaining {
            columns: Ranges { list: self.columns, taken: 0 },
            vector_sums: Ranges { list: self.vector_sums, taken: 0 },
        }
    }
}

/// Working memory of a part: sums of a tile.
pub struct Store<T: Copy, G: GradientTransform> {
    sums: TileSums<T, G>,
    /// Of a transform that has its sums in float64, in place of `sums`.
    wide_sums: TileSums<f64, G>,
    /// Blocks of arrays along axes, and of their sums.
    sides: [G::Along<Block<T>>; 2],
}

/// Copies of a part's columns after a tile's last full block.
pub struct Rest<T: Copy, G: GradientTransform> {
    state: G::State<Block<T>>,
    store: Store<T, G>,
}

impl<T: Real, G: GradientTransform> Store<T, G> {
    pub(in crate::author) fn new() -> Self {
        let sides = [Fields::from_fn(|_| [T::zero(); LANES]); 2];
        Self { sums: TileSums::zeros(), wide_sums: TileSums::zeros(), sides }
    }
}

impl<T: Real, G: GradientTransform> Rest<T, G> {
    pub(in crate::author) fn new() -> Self {
        Self { state: Fields::from_fn(|_| [T::zero(); LANES]), store: Store::new() }
    }
}

/// A part's arrays in a loop.
pub struct Opened<'r, 'n, T: Copy, G: GradientTransform> {
    state: G::State<State<'r, 'n, T>>,
    sums: G::Sums<Lanes<'r, T, true>>,
    wide_sums: G::Sums<Lanes<'r, f64, true>>,
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
    /// A copy, so that its hyperparameters stay in registers: no write can change them.
    transform: G,
    scalars: G::Scalars<Num<B>>,
    variant: u32,
    directs: bool,
    base: Option<usize>,
}

/// Values of an element that all transforms of a loop share.
pub struct Shared<B: Vectors> {
    pub(in crate::author) numbers: B,
    pub(in crate::author) update: Num<B>,
    pub(in crate::author) gradient: Num<B>,
    pub(in crate::author) parameter: Num<B>,
    pub(in crate::author) base: Num<B>,
    pub(in crate::author) direction: Num<B>,
    pub(in crate::author) displacement: Num<B>,
}

/// A transform's part of loops, with its ranges of what a tile has.
pub(in crate::author) fn part<'a, T: Real, G: GradientTransform>(
    transform: &'a G,
    tensor: &TensorInfo,
    columns: Range<usize>,
    scratch: &'a [Vec<T>],
    sums: Range<usize>,
    vector_sums: Range<usize>,
) -> Part<'a, T, G> {
    let all = columns.len() == count::<G::State<Column>, Column>();
    let present = match all {
        true => Fields::from_fn(|_| true),
        false => {
            let declared = GradientTransform::columns(transform, tensor);
            Fields::from_fn(|i| declared.get(i).present)
        }
    };
    let (scalars, kept) = scratch[0].split_at(count::<G::Scalars<f64>, f64>());
    let (variant, lacking) = (kept[0].f64() as u32, &kept[1..]);
    // A tensor without such arrays has no memory for them.
    let along = (!lacking.is_empty() && scratch.len() > 1).then(|| {
        let lacking = |i: usize| lacking[i].f64() as usize;
        let axes = || (0..count::<G::Along<usize>, usize>()).map(lacking);
        let (first, last) = (axes().min().unwrap_or_default(), axes().max().unwrap_or_default());
        Along {
            axes: Axes::of(&tensor.shape, first, last),
            lacks_first: Fields::from_fn(|i| lacking(i) == first),
            values: Fields::from_fn(|i| &scratch[1 + i][..]),
            sums: vector_sums,
        }
    });
    Part { transform, scalars, variant, directs: false, base: None, columns, present, sums, along }
}

impl<T: Real, G: GradientTransform> Part<'_, T, G> {
    /// Whether it has variant 0 and nothing to direct.
    pub(in crate::author) fn is_usual(&self) -> bool {
        self.variant == 0 && !self.directs
    }

    /// The axes of the arrays along axes, if the tensor has any.
    pub(in crate::author) fn axes(&self) -> Option<&Axes> {
        self.along.as_ref().map(|along| &along.axes)
    }

    /// Gives every element its value of the arrays along axes, in working memory, with sums of zero. An array that the tensor does
    /// not have is zero.
    pub(in crate::author) fn expand<W: Work<G>>(&self, workspace: &mut [T], offset: usize, len: usize) {
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
    pub(in crate::author) fn open<'r, 'n, W: Work<G>>(
        &'r self,
        store: &'r mut Store<T, G>,
        own: &mut Remaining<'r, '_, T>,
        workspace: &'r mut [T],
        tile: usize,
        len: Len<'n>,
    ) -> (Opened<'r, 'n, T, G>, Side<'r, T, G>) {
        let mut columns = own.columns.take(&self.columns).iter_mut();
        if W::KEEPS_SUMS {
            if G::SUMS_IN_FLOAT64 {
                store.wide_sums.clear();
            } else {
                store.sums.clear();
            }
        }
        let opened = Opened {
            state: Fields::from_fn(|i| {
                let column = if self.present.get(i) { columns.next() } else { None };
                State::new(len, column.map(|column| &mut **column))
            }),
            sums: store.sums.open(),
            wide_sums: store.wide_sums.open(),
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

    /// Copies of the arrays after a tile's last full block, as one block, filled up with zeros.
    pub(in crate::author) fn open_rest<'r, 'n>(
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
            sums: store.sums.open(),
            wide_sums: store.wide_sums.open(),
        };
        (opened, self.side(&mut store.sides, own, workspace, tile, full))
    }

    /// Writes the results after the last full block to the arrays.
    pub(in crate::author) fn close_rest<W: Work<G>>(
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
            if G::SUMS_IN_FLOAT64 {
                store.wide_sums.add_rest(&rest.store.wide_sums, tile - full);
            } else {
                store.sums.add_rest(&rest.store.sums, tile - full);
            }
        }
    }

    /// Adds the sums of the tile to those of the chunk.
    #[inline]
    pub(in crate::author) fn finish<W: Work<G>>(
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
            *sum += if G::SUMS_IN_FLOAT64 { store.wide_sums.total(i) } else { store.sums.total(i) };
        }
        // The sums of runs have been added already.
        let Some(along) = self.along.as_ref().filter(|_| !workspace.is_empty()) else { return };
        let terms = workspace[workspace.len() / 2..].chunks_exact(len.next_multiple_of(LANES));
        for (i, (terms, sums)) in terms.zip(&mut own.vector_sums[along.sums.clone()]).enumerate() {
            let places = Places { axes: &along.axes, lacks_first: along.lacks_first.get(i), offset };
            T::with_vectors(Reduce { terms: &terms[..len], sums, places });
        }
    }

    /// Its numbers as vectors.
    #[inline(always)]
    pub(in crate::author) fn fixed<B: Vectors<Element = T>, const USUAL: bool>(
        &self,
        numbers: B,
    ) -> Fixed<B, G> {
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
pub(super) fn with_each<'r, V: Copy + 'static, U: Copy, F: Fields<V>, O: Fields<U>>(
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
    #[inline(always)]
    pub(in crate::author) fn keep_sums<B: Vectors<Element = T>>(&self, sums: &Accumulators<B, G>) {
        sums.keep(&self.sums, &self.wide_sums);
    }

    /// Of a writer that keeps one: the base iterate.
    #[inline(always)]
    pub(in crate::author) fn base<B: Vectors<Element = T>>(
        &self,
        fixed: &Fixed<B, G>,
        i: Index<'n>,
    ) -> Option<B::Value> {
        Some(self.state.get(fixed.base?).reads.get::<B>(i))
    }

    /// The work on a vector, and within it that of the transforms after.
    #[inline(always)]
    pub(in crate::author) fn element<W: Work<G>, B: Vectors<Element = T>>(
        &self,
        fixed: &Fixed<B, G>,
        along: &AlongBlock<'_, T, G>,
        i: Index<'n>,
        sums: &mut Accumulators<B, G>,
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
            sums.add(&fixed.transform, &e, i);
            sums.add_along(&fixed.transform, &e, along, i);
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
pub(super) fn each<F: Fields<()>>(f: impl FnMut(usize)) {
    F::from_fn(f);
}
