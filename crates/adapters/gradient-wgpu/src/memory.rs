//! Memory of the device, in which arrays are packed.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use range_alloc::RangeAllocator;

use crate::error::WgpuError;

/// Words of the first block: 64 MiB. Each one behind it is twice as long as the one before.
const FIRST_BLOCK: u32 = 1 << 24;

/// Blocks of memory, each a buffer with many arrays, as a kernel can be given a few buffers only.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    blocks: Vec<Arc<Block>>,
}

#[derive(Debug)]
struct Block {
    buffer: wgpu::Buffer,
    /// In words of 32 bits.
    free: Mutex<RangeAllocator<u32>>,
}

/// A part of a block, which is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    block: Arc<Block>,
    range: Range<u32>,
}

impl Memory {
    /// A place for so many words.
    pub(crate) fn allocate(&mut self, device: &wgpu::Device, words: usize) -> Result<Place, WgpuError> {
        // An array without elements has a place too, so that there is a buffer to name.
        let needed = check_words(device, words.max(1))?;
        if let Some(place) = self.blocks.iter().find_map(|block| Block::allocate(block, needed)) {
            return Ok(place);
        }
        let last = self.blocks.last().map_or(FIRST_BLOCK / 2, |block| (block.buffer.size() / 4) as u32);
        let wanted = last.saturating_mul(2).min((largest(device) / 4) as u32).max(needed);
        let made = match Block::new(device, wanted) {
            Err(WgpuError::OutOfMemory) if wanted > needed => Block::new(device, needed),
            made => made,
        };
        self.blocks.push(Arc::new(made?));
        let place = self.blocks.last().and_then(|block| Block::allocate(block, needed));
        place.ok_or(WgpuError::OutOfMemory)
    }

    /// Has a block with room for so many words.
    pub(crate) fn reserve(&mut self, device: &wgpu::Device, words: usize) -> Result<(), WgpuError> {
        let needed = check_words(device, words)?;
        if !self.blocks.iter().any(|block| Block::allocate(block, needed).is_some()) {
            self.blocks.push(Arc::new(Block::new(device, needed)?));
        }
        Ok(())
    }
}

impl Block {
    fn new(device: &wgpu::Device, words: u32) -> Result<Self, WgpuError> {
        let scope = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("arrays"),
            size: 4 * u64::from(words),
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        match pollster::block_on(scope.pop()) {
            Some(error) => Err(error.into()),
            None => Ok(Self { buffer, free: Mutex::new(RangeAllocator::new(0..words)) }),
        }
    }

    fn allocate(block: &Arc<Self>, words: u32) -> Option<Place> {
        let range = block.free.lock().unwrap_or_else(PoisonError::into_inner).allocate_range(words).ok()?;
        Some(Place { block: Arc::clone(block), range })
    }
}

impl Place {
    pub(crate) fn buffer(&self) -> &wgpu::Buffer {
        &self.block.buffer
    }

    /// The first word.
    pub(crate) fn first(&self) -> u32 {
        self.range.start
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut free = self.block.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.free_range(self.range.clone());
    }
}

/// Bytes of the largest buffer that a kernel can be given.
pub(crate) fn largest(device: &wgpu::Device) -> u64 {
    // Kernels find words by numbers of 32 bits, and go a tile or a row beyond the last.
    const KERNELS: u64 = 1 << 33;
    let limits = device.limits();
    limits.max_storage_buffer_binding_size.min(limits.max_buffer_size).min(KERNELS) / 4 * 4
}

fn check_words(device: &wgpu::Device, words: usize) -> Result<u32, WgpuError> {
    let (bytes, limit) = (4 * words as u64, largest(device));
    if bytes > limit { Err(WgpuError::TooLarge { bytes, limit }) } else { Ok(words as u32) }
}
