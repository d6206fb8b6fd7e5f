//! Prefetching the next tile from within the loops over the current one.
//!
//! The processor's own prefetchers stop at page boundaries, and a tile of float32 is a page of each column:
//! without this, every tile begins with a wait for each column. Requests have to be spread evenly over a
//! tile's work: the first-level cache can wait for only about two dozen lines, and further requests block the
//! loads of the running loop. So the loops themselves request a few lines for every block of elements. The
//! number depends on the number of blocks of the previous tile.
#![allow(unsafe_code)] // one intrinsic; see `line`

use std::cell::{Cell, RefCell};
use std::ops::Range;

use crate::memory::buffer::Slice;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Number of lines that are requested at a time.
const GROUP: usize = 4;

/// Largest number of columns of a tile that are prefetched.
const COLUMNS: usize = 12;

/// Groups of cache lines that follow one another.
#[derive(Clone, Copy)]
struct Groups {
    next: *const u8,
    left: usize,
}

impl Groups {
    const NONE: Self = Self { next: std::ptr::null(), left: 0 };
}

/// The next tile's part of every column, in the order of the requests.
pub(crate) struct Columns {
    groups: [Groups; COLUMNS],
    begun: usize,
    len: usize,
    total: u32,
}

thread_local! {
    static COLUMNS_AHEAD: RefCell<Columns> =
        const { RefCell::new(Columns { groups: [Groups::NONE; COLUMNS], begun: 0, len: 0, total: 0 }) };
    static SUSPENDED: Cell<Prefetch> =
        const { Cell::new(Prefetch { groups: Groups::NONE, total: 0, expected: 1, due: 0, blocks: 0 }) };
}

impl Columns {
    /// Adds the elements of a column after a tile's range.
    #[inline(always)]
    pub(crate) fn add(&mut self, column: Slice<'_>, tile: &Range<usize>) {
        let (start, size): (*const u8, usize) = match column {
            Slice::F32(v) => (v.as_ptr().cast(), 4),
            Slice::Bf16(v) => (v.as_ptr().cast(), 2),
            Slice::F64(v) => (v.as_ptr().cast(), 8),
        };
        let elements = tile.len().min(column.len().saturating_sub(tile.end));
        let left = (elements * size).div_ceil(LINE * GROUP);
        if left > 0 && self.len < COLUMNS {
            self.groups[self.len] = Groups { next: start.wrapping_add(tile.end * size), left };
            self.len += 1;
            self.total += left as u32;
        }
    }
}

/// Lets the loops of a tile request the next one, whose columns `add` adds, evenly over the number of blocks
/// of the previous tile.
#[inline(always)]
pub(crate) fn next_tile(add: impl FnOnce(&mut Columns)) {
    let (groups, total) = COLUMNS_AHEAD.with_borrow_mut(|columns| {
        (columns.begun, columns.len, columns.total) = (1, 0, 0);
        add(columns);
        (columns.groups[..columns.len].first().copied().unwrap_or(Groups::NONE), columns.total)
    });
    // For the first tile it is not known.
    let expected = Some(SUSPENDED.get().blocks).filter(|blocks| *blocks > 0).unwrap_or(total.max(1));
    SUSPENDED.set(Prefetch { groups, total, expected, due: 0, blocks: 0 });
}

/// Prefetching by a loop over a tile. For custom loops; those of [`crate::kernel`] do it themselves.
#[derive(Clone, Copy)]
pub struct Prefetch {
    groups: Groups,
    /// Groups to be requested during the tile, and the expected number of its blocks.
    total: u32,
    expected: u32,
    /// Groups that are due by now and not requested yet, times the expected blocks.
    due: u32,
    /// Blocks of this tile so far.
    blocks: u32,
}

impl Prefetch {
    /// Continues where the previous loop stopped.
    #[inline(always)]
    pub fn resume() -> Self {
        SUSPENDED.get()
    }

    /// Requests some lines if they are due. Call it before each block of about 64 elements.
    #[inline(always)]
    pub fn block(&mut self) {
        // Loops outside a sweep keep counting for as long as their thread lives.
        self.blocks = self.blocks.wrapping_add(1);
        self.due += self.total;
        while self.due >= self.expected {
            self.due -= self.expected;
            self.request();
        }
    }

    #[inline(always)]
    fn request(&mut self) {
        if self.groups.left == 0 {
            return;
        }
        for i in 0..GROUP {
            line(self.groups.next.wrapping_add(i * LINE));
        }
        self.groups.next = self.groups.next.wrapping_add(GROUP * LINE);
        self.groups.left -= 1;
        if self.groups.left == 0 {
            self.next_column();
        }
    }

    #[cold]
    fn next_column(&mut self) {
        self.groups = COLUMNS_AHEAD.with_borrow_mut(|columns| {
            let groups = columns.groups[..columns.len].get(columns.begun).copied().unwrap_or(Groups::NONE);
            columns.begun += 1;
            groups
        });
        if self.groups.left == 0 {
            (self.total, self.due) = (0, 0);
        }
    }

    /// Leaves the rest to later loops.
    #[inline(always)]
    pub fn suspend(self) {
        SUSPENDED.set(self);
    }
}

/// Requests the cache line at `address`, which may be any address.
#[inline(always)]
fn line(address: *const u8) {
    // SAFETY: the instruction is a hint. It reads nothing that the program can see, and does not fault on addresses that
    // are not mapped (Intel 64 and IA-32 manual, volume 2, PREFETCHh; AMD64 manual, volume 3, PREFETCHlevel). SSE, which it
    // is part of, belongs to the x86-64 baseline.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
    #[cfg(test)]
    tests::ASKED_FOR.with_borrow_mut(|lines| lines.push(address.addr()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::element::Scalar;

    thread_local! {
        pub(super) static ASKED_FOR: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    }

    const TILE: usize = 1024;
    const BLOCKS: usize = 64;

    /// The lines that are requested during a tile of this number of blocks, after one with the same
    /// number.
    fn asked_for(columns: &[Slice<'_>], tile: &Range<usize>) -> Vec<usize> {
        let run = |tile: &Range<usize>| {
            next_tile(|ahead| columns.iter().for_each(|column| ahead.add(*column, tile)));
            // Two loops over a tile, the second of which continues where the first stopped.
            for blocks in [BLOCKS / 4, BLOCKS - BLOCKS / 4] {
                let mut prefetch = Prefetch::resume();
                (0..blocks).for_each(|_| prefetch.block());
                prefetch.suspend();
            }
        };
        run(tile);
        ASKED_FOR.with_borrow_mut(Vec::clear);
        run(tile);
        ASKED_FOR.take()
    }

    #[test]
    fn every_line_of_the_next_tile_is_asked_for_once() {
        let (single, half) = (vec![0.0_f32; 4 * TILE], vec![half::bf16::ZERO; 4 * TILE]);
        let columns = [f32::slice(&single), half::bf16::slice(&half)];
        let first = |start: usize, size: usize| start + TILE * size;
        let expected = [(first(single.as_ptr().addr(), 4), 4), (first(half.as_ptr().addr(), 2), 2)]
            .into_iter()
            .flat_map(|(start, size)| (0..TILE * size / LINE).map(move |i| start + i * LINE));
        assert_eq!(asked_for(&columns, &(0..TILE)), expected.collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_asked_for_beyond_the_last_tile() {
        let column = vec![0.0_f32; TILE];
        assert!(asked_for(&[f32::slice(&column)], &(0..TILE)).is_empty());
    }

    #[test]
    fn loops_outside_a_sweep_count_on_without_end() {
        let mut prefetch = Prefetch { groups: Groups::NONE, total: 1, expected: 1, due: 0, blocks: u32::MAX };
        ASKED_FOR.with_borrow_mut(Vec::clear);
        (0..3).for_each(|_| prefetch.block());
        assert!(ASKED_FOR.take().is_empty());
    }
}
