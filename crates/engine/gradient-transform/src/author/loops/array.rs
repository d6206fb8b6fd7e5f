//! Arrays that a loop reads and writes in vectors, without bounds checks.
//!
//! The compiler keeps a bounds check for every array and vector, even if the loop does not use the array: it
//! does not know the lengths of the slices, and a panic is a side effect. `valgrind --tool=callgrind` over
//! `step-bench` counts the instructions.
//!
//! Why it is sound:
//!
//! * Every loop has its own lifetime `'n`, which no other loop has: [`with_len`] calls a function that is
//!   generic over it, and it is invariant, so that nothing can shorten or lengthen it.
//! * Only [`Stretch::for_each`] makes a [`BlockIndex`] of `'n`, and only that makes an [`Index`]: a block
//!   that begins before the loop's end, and a vector that is within this block.
//! * An [`Array`] of `'n` has as many elements as the loop, rounded up to a whole block, because its constructors compare.
//! * A part of a vector begins within it, and has whole fractions of its elements: [`Index::of_part`].
//! * A part of a loop is a [`Stretch`], with its own lifetime `'s` in the same way. A block of `'s` is in it,
//!   and an array [`Within`] it has its elements, or is one block.
//! * [`Lanes`] are one block, and the vector of any index is within a block.
//! * The number of elements of a block is a multiple of that of a vector, and a vector consists only of
//!   elements, because [`Vectors`] cannot be implemented outside of this crate.
//!
//! So an index and an array of one lifetime fit each other. What an array borrows outlives it by its other
//! lifetime. An array to be changed was borrowed mutably, so no other code can access it, and copies of it
//! behave like references to `Cell`s: they cannot be sent to another thread.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;

use crate::memory::number::{LANES, Vectors};

/// A block of elements.
pub(crate) type Block<T> = [T; LANES];

/// A lifetime that belongs to one loop.
type Brand<'n> = PhantomData<fn(&'n ()) -> &'n ()>;

/// The number of elements of a loop.
#[derive(Clone, Copy)]
pub struct Len<'n> {
    elements: usize,
    brand: Brand<'n>,
}

/// A block of a loop, and of its stretch of it.
#[derive(Clone, Copy)]
pub struct BlockIndex<'n, 's> {
    first: usize,
    brand: Brand<'n>,
    stretch: Brand<'s>,
}

/// A vector of a block of a loop.
#[derive(Clone, Copy)]
pub struct Index<'n> {
    /// The first element of the block.
    block: usize,
    /// The first element of the vector within the block.
    within: usize,
    brand: Brand<'n>,
}

/// A part of a loop.
#[derive(Clone, Copy)]
pub struct Stretch<'n, 's> {
    start: usize,
    end: usize,
    brand: Brand<'n>,
    stretch: Brand<'s>,
}

/// Prepares a loop over this number of elements. Arrays extend to the end of the last block.
#[inline(always)]
pub(crate) fn with_len<R>(elements: usize, f: impl for<'n> FnOnce(Len<'n>) -> R) -> R {
    f(Len { elements, brand: PhantomData })
}

impl<'n, 's> Stretch<'n, 's> {
    /// Calls `f` for every block, and `before` at regular intervals.
    #[inline(always)]
    pub(crate) fn for_each(
        self,
        blocks: usize,
        mut before: impl FnMut(),
        mut f: impl FnMut(BlockIndex<'n, 's>),
    ) {
        let mut at = self.start;
        while at < self.end {
            before();
            let end = self.end.min(at + blocks * LANES);
            while at < end {
                f(BlockIndex { first: at, brand: PhantomData, stretch: PhantomData });
                at += LANES;
            }
        }
    }

    fn fits<T>(self, elements: &[T]) {
        let len = (self.end - self.start).next_multiple_of(LANES);
        assert!(elements.len() >= len, "an array is as long as the stretch");
    }

    /// An array that the stretch reads, from its first element on.
    #[inline(always)]
    pub(crate) fn read<'r, T>(self, elements: &'r [T]) -> Within<'r, 's, T, false> {
        self.fits(elements);
        Within::new(elements.as_ptr().cast_mut().wrapping_sub(self.start), usize::MAX)
    }

    /// An array that the stretch changes, from its first element on.
    #[inline(always)]
    pub(crate) fn change<'r, T>(self, elements: &'r mut [T]) -> Within<'r, 's, T, true> {
        self.fits(elements);
        Within::new(elements.as_mut_ptr().wrapping_sub(self.start), usize::MAX)
    }

    /// One block for all blocks of the stretch, to be read.
    #[inline(always)]
    pub(crate) fn same<'r, T>(self, block: &'r Block<T>) -> Within<'r, 's, T, false> {
        Within::new(block.as_ptr().cast_mut(), LANES - 1)
    }

    /// One block for all blocks of the stretch, to be changed.
    #[inline(always)]
    pub(crate) fn lanes<'r, T>(self, block: &'r mut Block<T>) -> Within<'r, 's, T, true> {
        Within::new(block.as_mut_ptr(), LANES - 1)
    }
}

impl Index<'_> {
    /// Number of the vector within its block.
    #[inline(always)]
    pub(crate) fn vector<B: Vectors>(self) -> usize {
        self.within / B::WIDTH
    }

    /// A part of the vector, as wide as vectors of float64 are.
    #[inline(always)]
    pub(crate) fn of_part<B: Vectors>(self, part: usize) -> Self {
        assert!(part < B::WIDTH / B::Wide::WIDTH, "a part is within its vector");
        Self { within: self.within + part * B::Wide::WIDTH, ..self }
    }
}

impl<'n> BlockIndex<'n, '_> {
    /// Calls `f` for the vectors.
    #[inline(always)]
    pub(crate) fn for_each<B: Vectors>(self, mut f: impl FnMut(Index<'n>)) {
        let mut within = 0;
        while within < LANES {
            f(Index { block: self.first, within, brand: PhantomData });
            within += B::WIDTH;
        }
    }
}

/// Elements of a stretch, to be read, and if `CHANGES`, to be written: an array, or one block for all.
pub(crate) struct Within<'r, 's, T, const CHANGES: bool> {
    /// Address of element 0 of the loop, if the array had it.
    first: *mut T,
    /// Mask that turns an index into the beginning of its block.
    mask: usize,
    borrowed: PhantomData<&'r [T]>,
    stretch: Brand<'s>,
}

impl<T, const CHANGES: bool> Copy for Within<'_, '_, T, CHANGES> {}

impl<T, const CHANGES: bool> Clone for Within<'_, '_, T, CHANGES> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<'r, 's, T, const CHANGES: bool> Within<'r, 's, T, CHANGES> {
    #[inline(always)]
    fn new(first: *mut T, mask: usize) -> Self {
        Self { first, mask, borrowed: PhantomData, stretch: PhantomData }
    }

    /// Its elements of a block.
    #[inline(always)]
    pub(crate) fn block(self, block: BlockIndex<'_, 's>) -> Lanes<'r, T, CHANGES> {
        Lanes { first: self.first.wrapping_add(block.first & self.mask), borrowed: PhantomData }
    }
}

impl<'n> Len<'n> {
    /// A part of the loop, from one block to another or to the end.
    #[inline(always)]
    pub(crate) fn stretch<R>(self, range: Range<usize>, f: impl for<'s> FnOnce(Stretch<'n, 's>) -> R) -> R {
        let within = range.start <= range.end && range.end <= self.elements;
        let ends = range.end.is_multiple_of(LANES) || range.end == self.elements;
        let whole = range.start.is_multiple_of(LANES) && ends;
        assert!(within && whole, "a stretch is made of blocks of its loop");
        f(Stretch { start: range.start, end: range.end, brand: PhantomData, stretch: PhantomData })
    }

    pub(crate) fn elements(self) -> usize {
        self.elements
    }

    fn fits<T>(self, elements: &[T]) {
        assert!(elements.len() >= self.elements.next_multiple_of(LANES), "an array is as long as the loop");
    }

    /// An array that the loop reads, from its first element on.
    #[inline]
    pub(crate) fn read<T>(self, elements: &[T]) -> Array<'_, 'n, T, false> {
        self.fits(elements);
        Array::new(NonNull::from(elements).cast())
    }

    /// An array that the loop changes, from its first element on.
    #[inline]
    pub(crate) fn change<T>(self, elements: &mut [T]) -> Array<'_, 'n, T, true> {
        self.fits(elements);
        Array::new(NonNull::from(elements).cast())
    }
}

/// Elements of a loop, to be read, and if `CHANGES`, to be written.
pub(crate) struct Array<'r, 'n, T, const CHANGES: bool> {
    first: NonNull<T>,
    borrowed: PhantomData<&'r [T]>,
    brand: Brand<'n>,
}

/// A block, to be read, and if `CHANGES`, to be written.
pub(crate) struct Lanes<'r, T, const CHANGES: bool> {
    first: *mut T,
    borrowed: PhantomData<&'r [T]>,
}

impl<T, const CHANGES: bool> Copy for Array<'_, '_, T, CHANGES> {}

impl<T, const CHANGES: bool> Clone for Array<'_, '_, T, CHANGES> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, const CHANGES: bool> Copy for Lanes<'_, T, CHANGES> {}

impl<T, const CHANGES: bool> Clone for Lanes<'_, T, CHANGES> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<'r, 'n, T, const CHANGES: bool> Array<'r, 'n, T, CHANGES> {
    #[inline(always)]
    fn new(first: NonNull<T>) -> Self {
        Self { first, borrowed: PhantomData, brand: PhantomData }
    }

    /// The same array, to be read only.
    #[inline(always)]
    pub(crate) fn reads(self) -> Array<'r, 'n, T, false> {
        Array::new(self.first)
    }

    #[inline(always)]
    pub(crate) fn get<B: Vectors<Element = T>>(self, index: Index<'n>) -> B::Value {
        // SAFETY: see the module. The elements are initialised, and no reference to them is alive but those that were borrowed from.
        unsafe { self.first.add(index.block + index.within).cast::<B::Value>().read_unaligned() }
    }
}

impl<'n, T> Array<'_, 'n, T, true> {
    #[inline(always)]
    pub(crate) fn set<B: Vectors<Element = T>>(self, index: Index<'n>, value: B::Value) {
        // SAFETY: see the module. The array was borrowed mutably.
        unsafe { self.first.add(index.block + index.within).cast::<B::Value>().write_unaligned(value) }
    }
}

impl<T, const CHANGES: bool> Lanes<'_, T, CHANGES> {
    #[inline(always)]
    pub(crate) fn get<B: Vectors<Element = T>>(self, index: Index<'_>) -> B::Value {
        // SAFETY: as for `Array`: the elements of a block are initialised, and a vector of a block ends within it.
        unsafe { self.first.wrapping_add(index.within).cast::<B::Value>().read_unaligned() }
    }
}

impl<'r, T> Lanes<'r, T, true> {
    /// Writes all lanes: the first of `vectors`, as many as a block has.
    #[inline(always)]
    pub(crate) fn put<B: Vectors<Element = T>>(self, vectors: &[B::Value; LANES]) {
        let mut within = 0;
        while within < LANES {
            self.set::<B>(Index { block: 0, within, brand: PhantomData }, vectors[within / B::WIDTH]);
            within += B::WIDTH;
        }
    }

    /// The lanes of a block.
    #[inline(always)]
    pub(crate) fn of(block: &'r mut Block<T>) -> Self {
        Self { first: block.as_mut_ptr(), borrowed: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn set<B: Vectors<Element = T>>(self, index: Index<'_>, value: B::Value) {
        // SAFETY: as for `get`, and the block was borrowed mutably.
        unsafe { self.first.wrapping_add(index.within).cast::<B::Value>().write_unaligned(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::element::Real;
    use crate::memory::number::WithVectors;

    struct Adds<'r, 'n, T>(
        Len<'n>,
        Array<'r, 'n, T, false>,
        Array<'r, 'n, T, true>,
        Lanes<'r, T, true>,
        &'r mut [T],
    );

    impl<T: Real> WithVectors<T> for Adds<'_, '_, T> {
        type Output = usize;

        #[inline(always)]
        fn run<B: Vectors<Element = T>>(self, numbers: B) -> usize {
            let Self(len, given, changed, lanes, within) = self;
            let mut groups = 0;
            len.stretch(32..96, |stretch| {
                let (within, same) = (stretch.change(within), [T::one(); LANES]);
                let same = stretch.same(&same);
                stretch.for_each(
                    1,
                    || groups += 1,
                    |block| {
                        let (within, same) = (within.block(block), same.block(block));
                        block.for_each::<B>(|i| {
                            changed.set::<B>(i, numbers.add(given.get::<B>(i), changed.get::<B>(i)));
                            lanes.set::<B>(i, numbers.add(lanes.get::<B>(i), given.get::<B>(i)));
                            within.set::<B>(i, numbers.add(within.get::<B>(i), same.get::<B>(i)));
                        });
                    },
                );
            });
            groups
        }
    }

    #[test]
    fn arrays_are_read_and_written_at_their_indices() {
        let given: Vec<f32> = (0..96).map(|i| i as f32).collect();
        let (mut changed, mut lanes) = ([-1.0; 97], [0.0; LANES]);
        let mut within: Vec<f32> = (0..64).map(|i| i as f32).collect();
        let groups = with_len(96, |len| {
            let (given, changed, lanes) = (len.read(&given), len.change(&mut changed), Lanes::of(&mut lanes));
            f32::with_vectors(Adds(len, given, changed, lanes, &mut within))
        });
        assert_eq!(groups, 2);
        assert!((32..96).all(|i| changed[i] == i as f32 - 1.0) && changed[31] == -1.0 && changed[96] == -1.0);
        assert!((0..LANES).all(|i| lanes[i] == (2 * i + 96) as f32));
        assert!((0..64).all(|i| within[i] == i as f32 + 1.0));
    }

    #[test]
    #[should_panic(expected = "as long as the loop")]
    fn an_array_must_have_the_last_block_to_its_end() {
        with_len(33, |len| {
            len.read(&[0.0; 63]);
        });
    }

    #[test]
    #[should_panic(expected = "as long as the stretch")]
    fn an_array_of_a_stretch_must_have_its_last_block() {
        with_len(70, |len| {
            len.stretch(32..70, |stretch| {
                stretch.read(&[0.0; 63]);
            });
        });
    }

    #[test]
    #[should_panic(expected = "made of blocks")]
    fn a_stretch_begins_with_a_block() {
        with_len(70, |len| len.stretch(3..35, |_| ()));
    }
}
