//! Asking for the next tile's memory while the present one is worked on.
//!
//! The processor's own prefetchers stop at page boundaries, and a tile of float32 is a page: without this, every tile
//! begins with a wait for each of its columns.
#![allow(unsafe_code)] // one intrinsic; see `line`

use smallvec::SmallVec;

/// Bytes of a cache line.
const LINE: usize = 64;

/// The memory that the next tile will touch, asked for in portions.
#[derive(Default)]
pub(crate) struct Prefetch {
    /// Address and number of lines of each stretch.
    stretches: SmallVec<[(*const u8, usize); 10]>,
    portions: usize,
}

impl Prefetch {
    /// For `portions` calls of [`portion`](Self::portion).
    pub(crate) fn new(portions: usize) -> Self {
        Self { stretches: SmallVec::new(), portions: portions.max(1) }
    }

    /// Adds what follows `slice` in memory, as long as it is. There need not be anything.
    pub(crate) fn after<E>(&mut self, slice: &[E]) {
        let lines = std::mem::size_of_val(slice).div_ceil(LINE);
        self.stretches.push((slice.as_ptr_range().end.cast(), lines));
    }

    /// Asks for the `index`-th portion of every stretch.
    #[inline(always)]
    pub(crate) fn portion(&self, index: usize) {
        for &(start, lines) in &self.stretches {
            let (from, to) = (lines * index / self.portions, lines * (index + 1) / self.portions);
            for i in from..to.min(lines) {
                line(start.wrapping_add(i * LINE));
            }
        }
    }
}

/// Asks for the cache line at `address`, which may be any address.
#[inline(always)]
fn line(address: *const u8) {
    // SAFETY: the instruction is a hint. It reads nothing that the program can see, and does not fault on addresses that
    // are not mapped (Intel 64 and IA-32 manual, volume 2, PREFETCHh; AMD64 manual, volume 3, PREFETCHlevel). SSE, which it
    // is part of, belongs to the x86-64 baseline.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
