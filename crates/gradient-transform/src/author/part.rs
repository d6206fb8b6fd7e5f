//! The arrays of one transform in a loop.

use crate::author::along::{Expand, Places, Reduce};
use crate::author::array::{Array, Block, Index, Lanes, Len};
use crate::author::work::Work;
use crate::author::{Element, ElementOf, Fields, GradientTransform, count};
use crate::axes::Axes;
use crate::element::Real;
use crate::kernel;
use crate::number::{LANES, Num, Vectors};
use crate::sums::Gathered;

/// What one transform brings to a loop over a tile.
pub struct Part<'a, 'c, T, G: GradientTransform> {
    pub(super) transform: &'a G,
    /// The columns that the tensor has.
    pub(super) columns: &'a mut [&'c mut [T]],
    pub(super) present: G::State<bool>,
    /// The numbers of the tensor and the step, and behind them the variant.
    pub(super) scalars: &'a [T],
    pub(super) along: Option<Along<'a, T, G>>,
    /// Where sums are added. Empty in loops that do not measure.
    pub(super) sums: &'a mut [f64],
    /// Of a writer: whether it completes the update.
    pub(super) directs: bool,
}

/// Arrays along the two axes that a transform sums over.
pub(crate) struct Along<'a, T, G: GradientTransform> {
    pub(super) axes: Axes,
    /// Whether the array lacks the first of the axes, or else the second.
    pub(super) lacks_first: G::Along<bool>,
    pub(super) values: G::Along<&'a [T]>,
    /// Empty in loops that do not measure.
    pub(super) sums: &'a mut [Gathered<T>],
}

/// Working memory of a part for a tile.
pub struct Store<T: Copy, G: GradientTransform> {
    /// The columns behind the last full block.
    state: G::State<Block<T>>,
    /// The sums in lanes.
    sums: G::Sums<Block<T>>,
    /// The sums of the elements behind the lanes.
    behind: G::Sums<T>,
}

impl<T: Real, G: GradientTransform> Store<T, G> {
    pub(super) fn new() -> Self {
        let zeros = [T::zero(); LANES];
        Self {
            state: Fields::from_fn(|_| zeros),
            sums: Fields::from_fn(|_| zeros),
            behind: Fields::from_fn(|_| T::zero()),
        }
    }
}

/// A part in a loop.
pub struct Opened<'r, 'n, T: Copy, G: GradientTransform> {
    transform: &'r G,
    scalars: &'r [T],
    variant: u32,
    directs: bool,
    state: G::State<State<'r, 'n, T>>,
    /// Every element's value of the arrays along axes; where they are measured, what it adds to their sums.
    along: G::Along<Array<'r, 'n, T, true>>,
    sums: G::Sums<Lanes<'r, 'n, T>>,
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
    scalars: G::Scalars<Num<B>>,
    variant: u32,
    directs: bool,
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

impl<T: Real, G: GradientTransform> Part<'_, '_, T, G> {
    fn variant(&self) -> u32 {
        self.scalars[count::<G::Scalars<f64>, f64>()].f64() as u32
    }

    /// Whether it has variant 0 and nothing to direct.
    pub(super) fn is_usual(&self) -> bool {
        self.variant() == 0 && !self.directs
    }

    /// Gives every element its value of the arrays along axes, in working memory. An array that the tensor does not have is zero.
    pub(super) fn expand(&self, workspace: &mut [T], offset: usize, len: usize) {
        let arrays = workspace.chunks_exact_mut(len.next_multiple_of(LANES));
        for (i, expanded) in arrays.enumerate() {
            let Some(along) = &self.along else {
                expanded.fill(T::zero());
                continue;
            };
            let places = Places { axes: &along.axes, lacks_first: along.lacks_first.get(i), offset };
            T::with_vectors(Expand { values: along.values.get(i), expanded: &mut expanded[..len], places });
        }
    }

    /// The arrays of a tile's full blocks.
    pub(super) fn open<'r, 'n>(
        &'r mut self,
        store: &'r mut Store<T, G>,
        workspace: &'r mut [T],
        tile: usize,
        len: Len<'n>,
    ) -> Opened<'r, 'n, T, G> {
        let variant = self.variant();
        let mut columns = self.columns.iter_mut();
        Opened {
            transform: self.transform,
            scalars: self.scalars,
            variant,
            directs: self.directs,
            state: Fields::from_fn(|i| {
                let column = if self.present.get(i) { columns.next() } else { None };
                State::new(len, column.map(|column| &mut **column))
            }),
            along: expanded(workspace, tile, 0, len),
            sums: with_each(&mut store.sums, |_, lanes| len.lanes(lanes)),
        }
    }

    /// Copies of the arrays behind a tile's last full block, as one block, filled up with zeros.
    pub(super) fn open_rest<'r, 'n>(
        &'r mut self,
        rest: &'r mut Store<T, G>,
        workspace: &'r mut [T],
        tile: usize,
        len: Len<'n>,
    ) -> Opened<'r, 'n, T, G> {
        let full = tile / LANES * LANES;
        let mut columns = self.columns.iter();
        Opened {
            transform: self.transform,
            scalars: self.scalars,
            variant: self.variant(),
            directs: self.directs,
            state: with_each(&mut rest.state, |i, copy| {
                let column = if self.present.get(i) { columns.next() } else { None };
                let copy = column.map(|column| {
                    copy[..tile - full].copy_from_slice(&column[full..tile]);
                    &mut copy[..]
                });
                State::new(len, copy)
            }),
            along: expanded(workspace, tile, full, len),
            sums: with_each(&mut rest.sums, |_, lanes| len.lanes(lanes)),
        }
    }

    /// Puts the results behind the last full block where they belong.
    pub(super) fn close_rest<W: Work<G>>(&mut self, main: &mut Store<T, G>, rest: &Store<T, G>, tile: usize) {
        let full = tile / LANES * LANES;
        if W::KEEPS_STATE {
            let mut columns = self.columns.iter_mut();
            for (i, copy) in rest.state.iter().enumerate() {
                if let Some(column) = if self.present.get(i) { columns.next() } else { None } {
                    column[full..tile].copy_from_slice(&copy[..tile - full]);
                }
            }
        }
        if W::KEEPS_SUMS {
            for (behind, lanes) in main.behind.iter_mut().zip(rest.sums.iter()) {
                *behind = lanes[..tile - full].iter().fold(*behind, |sum, &x| sum + x);
            }
        }
    }

    /// Adds the sums of the tile where they belong.
    pub(super) fn finish<W: Work<G>>(
        &mut self,
        store: &Store<T, G>,
        workspace: &[T],
        offset: usize,
        len: usize,
    ) {
        if !W::KEEPS_SUMS {
            return;
        }
        for (i, sum) in self.sums.iter_mut().enumerate() {
            *sum += (kernel::total(store.sums.get(i)) + store.behind.get(i)).f64();
        }
        let Some(along) = &mut self.along else { return };
        let terms = workspace.chunks_exact(len.next_multiple_of(LANES));
        for (i, (terms, sums)) in terms.zip(&mut *along.sums).enumerate() {
            let places = Places { axes: &along.axes, lacks_first: along.lacks_first.get(i), offset };
            T::with_vectors(Reduce { terms: &terms[..len], sums, places });
        }
    }
}

/// The arrays of working memory for a tile, from an element on.
fn expanded<'r, 'n, T: Real, A: Fields<Array<'r, 'n, T, true>>>(
    workspace: &'r mut [T],
    tile: usize,
    from: usize,
    len: Len<'n>,
) -> A {
    let mut arrays = workspace.chunks_exact_mut(tile.next_multiple_of(LANES));
    Fields::from_fn(|_| match arrays.next() {
        Some(array) => len.change(&mut array[from..]),
        None => unreachable!("there is memory for every array"),
    })
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
    #[inline(always)]
    pub(super) fn fixed<B: Vectors<Element = T>, const USUAL: bool>(&self, numbers: B) -> Fixed<B, G> {
        Fixed {
            scalars: Fields::from_fn(
                #[inline(always)]
                |i| Num::new(numbers, numbers.splat(self.scalars[i])),
            ),
            variant: if USUAL { 0 } else { self.variant },
            directs: !USUAL && self.directs,
        }
    }

    /// The work on a vector, and within it that of the transforms behind.
    #[inline(always)]
    pub(super) fn element<W: Work<G>, B: Vectors<Element = T>>(
        &self,
        fixed: &Fixed<B, G>,
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
                |k| Num::new(numbers, self.along.get(k).get::<B>(i)),
            ),
            variant: fixed.variant,
        };
        if W::KEEPS_SUMS {
            let measured = self.transform.measure(&e);
            each::<G::Sums<()>>(
                #[inline(always)]
                |k| {
                    let lanes = self.sums.get(k);
                    lanes.set::<B>(i, numbers.add(lanes.get::<B>(i), measured.get(k).value));
                },
            );
            let measured = self.transform.measure_along(&e);
            each::<G::Along<()>>(
                #[inline(always)]
                |k| self.along.get(k).set::<B>(i, measured.get(k).value),
            );
        }
        W::before(self.transform, &mut e, fixed.directs);
        (shared.update, shared.direction) = (e.update, e.direction);
        if W::KEEPS_STATE && !W::WRITES {
            self.keep(i, &e);
        }
        behind(shared);
        if W::WRITES {
            W::after(self.transform, &mut e, if W::DISPLACES { shared.update } else { shared.displacement });
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
fn each<F: Fields<()>>(mut f: impl FnMut(usize)) {
    F::from_fn(
        #[inline(always)]
        |i| f(i),
    );
}
