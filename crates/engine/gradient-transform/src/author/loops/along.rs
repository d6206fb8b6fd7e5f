//! Arrays along axes, and the elements of a tile that belong to their elements.

use crate::author::loops::array::{Block, BlockIndex, Lanes, Stretch, Within};
use crate::author::loops::part::{Along, each};
use crate::author::loops::sums::Accumulators;
use crate::author::loops::work::Work;
use crate::author::{Fields, GradientTransform};
use crate::layout::axes::{Axes, Run};
use crate::memory::element::Real;
use crate::memory::kernel;
use crate::memory::number::{LANES, Vectors, WithVectors};
use crate::memory::sums::Gathered;

/// The element of an array along axes that an element of a tile belongs to.
#[derive(Clone, Copy)]
pub(in crate::author) struct Places<'a> {
    pub(in crate::author) axes: &'a Axes,
    /// Whether the array lacks the first of the axes, or else the second.
    pub(in crate::author) lacks_first: bool,
    /// Index of the tile's first element within the tensor.
    pub(in crate::author) offset: usize,
}

/// The elements of an array that belong to a run.
#[derive(Clone, Copy)]
enum Place {
    /// As many elements as the run has, from this one on.
    From(usize),
    /// This element.
    One(usize),
}

impl Places<'_> {
    #[inline(always)]
    fn within(&self, run: &Run) -> Place {
        match (self.lacks_first, self.axes.second_is_last()) {
            (true, _) => Place::From(run.i),
            (false, false) => Place::From(run.j),
            (false, true) => Place::One(run.j),
        }
    }
}

/// Arrays along axes, and the memory of their sums.
pub(in crate::author) type WithSums<'r, 'a, T, G> = (&'r Along<'a, T, G>, &'r mut [Gathered<T>]);

/// Arrays along axes of one transform in a loop.
pub struct Side<'r, T: Copy, G: GradientTransform> {
    arrays: Arrays<'r, T, G>,
    /// Values that are the same for a whole run, in every element of a block.
    values: &'r mut G::Along<Block<T>>,
    /// Blocks in place of sums that are in registers, or lost.
    lanes: &'r mut G::Along<Block<T>>,
}

enum Arrays<'r, T, G: GradientTransform> {
    /// The tensor's arrays, within runs that consist of whole blocks. Loops that do not measure have no sums.
    Runs {
        axes: &'r Axes,
        lacks_first: G::Along<bool>,
        values: G::Along<&'r [T]>,
        sums: &'r mut [Gathered<T>],
    },
    /// No arrays: values are 0, and terms of sums are lost.
    Absent,
    /// As long as the tile: every element's value, and its term.
    Flat { values: &'r mut [T], sums: &'r mut [T], len: usize, from: usize },
}

/// Arrays along axes within a run.
pub struct AlongRun<'x, 's, T, G: GradientTransform> {
    pub(in crate::author) values: G::Along<Within<'x, 's, T, false>>,
    pub(in crate::author) sums: G::Along<Within<'x, 's, T, true>>,
    one_of_run: G::Along<bool>,
}

/// Arrays along axes within a block.
pub struct AlongBlock<'x, T, G: GradientTransform> {
    pub(in crate::author) values: G::Along<Lanes<'x, T, false>>,
    /// The sums of the elements.
    pub(in crate::author) sums: G::Along<Lanes<'x, T, true>>,
    /// Whether a run has one sum of the array, in place of those of `sums`.
    pub(in crate::author) one_of_run: G::Along<bool>,
}

impl<'x, 's, T: Real, G: GradientTransform> AlongRun<'x, 's, T, G> {
    /// The arrays within a block.
    #[inline(always)]
    pub(in crate::author) fn block(&self, block: BlockIndex<'_, 's>) -> AlongBlock<'x, T, G> {
        AlongBlock {
            values: Fields::from_fn(
                #[inline(always)]
                |i| self.values.get(i).block(block),
            ),
            sums: Fields::from_fn(
                #[inline(always)]
                |i| self.sums.get(i).block(block),
            ),
            one_of_run: self.one_of_run,
        }
    }
}

impl<'r, T: Real, G: GradientTransform> Side<'r, T, G> {
    /// `workspace` is that of the tile, if it has one; the loop begins with element `from` of the tile, which
    /// has `len` elements.
    pub(in crate::author) fn new(
        along: Option<WithSums<'r, '_, T, G>>,
        [values, lanes]: &'r mut [G::Along<Block<T>>; 2],
        workspace: &'r mut [T],
        len: usize,
        from: usize,
    ) -> Self {
        let arrays = match along.filter(|_| workspace.is_empty()) {
            Some((Along { axes, lacks_first, values, .. }, sums)) => {
                let values = Fields::from_fn(|i| values.get(i));
                Arrays::Runs { axes, lacks_first: *lacks_first, values, sums }
            }
            None if workspace.is_empty() => Arrays::Absent,
            None => {
                let (values, sums) = workspace.split_at_mut(workspace.len() / 2);
                Arrays::Flat { values, sums, len: len.next_multiple_of(LANES), from }
            }
        };
        Self { arrays, values, lanes }
    }

    /// The arrays within a run. Values that the work does not read are 0; sums that it does not keep are
    /// lost.
    #[inline(always)]
    pub(in crate::author) fn open<'x, 's, W: Work<G>>(
        &'x mut self,
        run: &Run,
        stretch: Stretch<'_, 's>,
    ) -> AlongRun<'x, 's, T, G> {
        let Self { arrays, values: blocks, lanes } = self;
        match arrays {
            Arrays::Runs { axes, lacks_first, values, sums } => {
                let place =
                    |i: usize| Places { axes, lacks_first: lacks_first.get(i), offset: 0 }.within(run);
                let (mut blocks, mut lanes, mut sums) =
                    (blocks.iter_mut(), lanes.iter_mut(), sums.iter_mut());
                AlongRun {
                    values: Fields::from_fn(
                        #[inline(always)]
                        |i| match (place(i), blocks.next()) {
                            (_, Some(block)) if !W::READS_ALONG => stretch.same(block),
                            (Place::From(from), _) => stretch.read(&values.get(i)[from..]),
                            (Place::One(at), Some(block)) => {
                                block.fill(values.get(i)[at]);
                                stretch.same(block)
                            }
                            (Place::One(_), None) => unreachable!("there is a block for every array"),
                        },
                    ),
                    sums: Fields::from_fn(
                        #[inline(always)]
                        |i| match (place(i), sums.next(), lanes.next()) {
                            (_, _, Some(lanes)) if !W::KEEPS_SUMS => stretch.lanes(lanes),
                            (Place::From(from), Some(sums), _) => {
                                stretch.change(sums.at(from, run.to - run.at))
                            }
                            (_, _, Some(lanes)) => stretch.lanes(lanes),
                            (_, _, None) => unreachable!("there is a block for every array"),
                        },
                    ),
                    one_of_run: Fields::from_fn(
                        #[inline(always)]
                        |i| matches!(place(i), Place::One(_)),
                    ),
                }
            }
            Arrays::Absent => {
                let (mut blocks, mut lanes) = (blocks.iter_mut(), lanes.iter_mut());
                AlongRun {
                    values: Fields::from_fn(
                        #[inline(always)]
                        |_| match blocks.next() {
                            Some(block) => stretch.same(block),
                            None => unreachable!("there is a block for every array"),
                        },
                    ),
                    sums: Fields::from_fn(
                        #[inline(always)]
                        |_| match lanes.next() {
                            Some(lanes) => stretch.lanes(lanes),
                            None => unreachable!("there is a block for every array"),
                        },
                    ),
                    one_of_run: Fields::from_fn(|_| false),
                }
            }
            Arrays::Flat { values, sums, len, from } => {
                let from = *from;
                let (mut values, mut sums) = (values.chunks_exact(*len), sums.chunks_exact_mut(*len));
                AlongRun {
                    values: Fields::from_fn(
                        #[inline(always)]
                        |_| match values.next() {
                            Some(values) => stretch.read(&values[from..]),
                            None => unreachable!("there is memory for every array"),
                        },
                    ),
                    sums: Fields::from_fn(
                        #[inline(always)]
                        |_| match sums.next() {
                            Some(sums) => stretch.change(&mut sums[from..]),
                            None => unreachable!("there is memory for every array"),
                        },
                    ),
                    one_of_run: Fields::from_fn(|_| false),
                }
            }
        }
    }

    /// Adds the sums that have one term per run to the tensor's arrays.
    #[inline(always)]
    pub(in crate::author) fn close<B: Vectors<Element = T>>(
        &mut self,
        run: &Run,
        of_run: &mut Accumulators<B, G>,
    ) {
        let Arrays::Runs { axes, lacks_first, sums, .. } = &mut self.arrays else { return };
        each::<G::Along<()>>(
            #[inline(always)]
            |i| {
                let places = Places { axes, lacks_first: lacks_first.get(i), offset: 0 };
                if let (Place::One(at), Some(sums)) = (places.within(run), sums.get_mut(i)) {
                    sums.at(at, 1)[0] += of_run.of_run(i);
                }
            },
        );
        of_run.begin_run();
    }
}

/// Every element's value of an array.
pub(in crate::author) struct Expand<'a, T> {
    pub(in crate::author) values: &'a [T],
    pub(in crate::author) expanded: &'a mut [T],
    pub(in crate::author) places: Places<'a>,
}

impl<T: Real> WithVectors<T> for Expand<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<B: Vectors<Element = T>>(self, _: B) {
        let Self { values, expanded, places } = self;
        for run in places.axes.runs(places.offset, expanded.len()) {
            let expanded = &mut expanded[run.at..run.to];
            match places.within(&run) {
                Place::From(from) => {
                    let values = &values[from..from + expanded.len()];
                    expanded.iter_mut().zip(values).for_each(|(to, &value)| *to = value);
                }
                Place::One(at) => {
                    let value = values[at];
                    expanded.iter_mut().for_each(|to| *to = value);
                }
            }
        }
    }
}

/// Addition of every element's term to its sum. A sum of elements that follow one another has 32 lanes on every instruction set, and
/// those after the last full block are added one by one.
pub(in crate::author) struct Reduce<'a, T> {
    pub(in crate::author) terms: &'a [T],
    pub(in crate::author) sums: &'a mut Gathered<T>,
    pub(in crate::author) places: Places<'a>,
}

impl<T: Real> WithVectors<T> for Reduce<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<B: Vectors<Element = T>>(self, _: B) {
        let Self { terms, sums, places } = self;
        for run in places.axes.runs(places.offset, terms.len()) {
            let terms = &terms[run.at..run.to];
            match places.within(&run) {
                Place::From(from) => {
                    let sums = sums.at(from, terms.len());
                    sums.iter_mut().zip(terms).for_each(|(sum, &term)| *sum += term);
                }
                Place::One(at) => {
                    let (blocks, rest) = terms.as_chunks::<LANES>();
                    let behind = rest.iter().fold(T::zero(), |sum, &term| sum + term);
                    let mut lanes = [T::zero(); LANES];
                    for block in blocks {
                        (0..LANES).for_each(|i| lanes[i] += block[i]);
                    }
                    let total = if blocks.is_empty() { behind } else { kernel::total(lanes) + behind };
                    sums.at(at, 1)[0] += total;
                }
            }
        }
    }
}
