//! Asking for the memory of a later tile while the present one is worked on.
//!
//! The processor's own prefetchers stop at page boundaries, and a tile of float32 is a page: without this, every tile
//! begins with a wait for each of its columns. The lines are asked for into the second-level cache: the first level can
//! wait for a couple of dozen lines only, and would stop taking requests of the loop that is running.
#![allow(unsafe_code)] // one intrinsic; see `line`

use smallvec::SmallVec;

use crate::buffer::Slice;

/// Bytes of a cache line.
const LINE: usize = 64;

/// How many tiles ahead of their use lines are asked for.
const AHEAD: usize = 2;

/// The memory that a later tile will touch, asked for in portions.
pub(crate) struct Prefetch {
    portions: usize,
    stretches: SmallVec<[Stretch; 10]>,
}

/// Cache lines still to be asked for, and how many of them at a time.
struct Stretch {
    next: *const u8,
    lines: usize,
    portion: usize,
}

impl Prefetch {
    /// For `portions` calls of [`portion`](Self::portion).
    pub(crate) fn new(portions: usize) -> Self {
        Self { portions: portions.max(1), stretches: SmallVec::new() }
    }

    /// Adds the tile that is [`AHEAD`], given what follows the present one, which has `n` elements. There need not be one.
    #[inline]
    pub(crate) fn tile(&mut self, following: Slice<'_>, n: usize) {
        let (start, size): (*const u8, usize) = match following {
            Slice::F32(v) => (v.as_ptr().cast(), 4),
            Slice::Bf16(v) => (v.as_ptr().cast(), 2),
            Slice::F64(v) => (v.as_ptr().cast(), 8),
        };
        let skipped = (AHEAD - 1) * n;
        let lines = (following.len().saturating_sub(skipped).min(n) * size).div_ceil(LINE);
        let next = start.wrapping_add(skipped * size);
        self.stretches.push(Stretch { next, lines, portion: lines.div_ceil(self.portions) });
    }

    /// Asks for the next portion of every stretch.
    #[inline(always)]
    pub(crate) fn portion(&mut self) {
        for stretch in &mut self.stretches {
            let lines = stretch.portion.min(stretch.lines);
            for i in 0..lines {
                line(stretch.next.wrapping_add(i * LINE));
            }
            stretch.next = stretch.next.wrapping_add(lines * LINE);
            stretch.lines -= lines;
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
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
