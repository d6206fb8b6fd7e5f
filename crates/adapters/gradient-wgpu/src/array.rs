//! Arrays in the device's memory.

use gradient_transform::DType;

use crate::error::WgpuError;
use crate::memory::Place;

/// An array in the device's memory: one of its own, or a part of a buffer of the caller's.
#[derive(Debug)]
pub struct WgpuArray {
    buffer: wgpu::Buffer,
    /// Its first word of 32 bits within the buffer.
    first: u32,
    pub(crate) len: usize,
    pub(crate) dtype: DType,
    /// Whether its bfloat16 numbers are in memory as float32.
    pub(crate) wide: bool,
    /// Of one of its own.
    _place: Option<Place>,
}

impl WgpuArray {
    pub(crate) fn new(place: Place, dtype: DType, len: usize, wide: bool) -> Self {
        Self { buffer: place.buffer().clone(), first: place.first(), len, dtype, wide, _place: Some(place) }
    }

    /// The `len` elements from byte `offset` of a buffer on. Steps read and write them there. The buffer is one of the device of the [`Wgpu`](crate::Wgpu) that steps, and
    /// can be a kernel's (`STORAGE`). `offset` is a multiple of 4, so that bfloat16 arrays begin at a word; of one with an odd number of elements, the
    /// last word belongs to it as a whole.
    ///
    /// ```
    /// use gradient_transform::DType;
    /// use gradient_wgpu::{WgpuArray, WgpuError};
    ///
    /// /// Two layers whose weights follow one another.
    /// fn layers(weights: &wgpu::Buffer) -> Result<[WgpuArray; 2], WgpuError> {
    ///     let first = WgpuArray::in_buffer(weights, 0, DType::F32, 1000)?;
    ///     Ok([first, WgpuArray::in_buffer(weights, 4000, DType::F32, 10)?])
    /// }
    /// ```
    ///
    /// # Errors
    /// [`WgpuError::Buffer`]; [`WgpuError::Float64`].
    pub fn in_buffer(
        buffer: &wgpu::Buffer,
        offset: u64,
        dtype: DType,
        len: usize,
    ) -> Result<Self, WgpuError> {
        let refused = |reason| Err(WgpuError::Buffer { len, offset, reason });
        if dtype == DType::F64 {
            return Err(WgpuError::Float64);
        }
        if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
            return refused("the buffer's usage lacks STORAGE");
        }
        if !offset.is_multiple_of(4) {
            return refused("it has to begin at a multiple of 4");
        }
        let rest = buffer.size().checked_sub(offset);
        if rest.is_none_or(|rest| 4 * words(dtype, len, false) as u64 > rest) {
            return refused("it does not end within the buffer");
        }
        let Ok(first) = u32::try_from(offset / 4) else {
            return refused("kernels find no more than 2^32 words");
        };
        Ok(Self { buffer: buffer.clone(), first, len, dtype, wide: false, _place: None })
    }

    /// The buffer that it is in, with others.
    pub fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    /// The byte of the buffer at which it begins.
    pub fn offset(&self) -> u64 {
        4 * u64::from(self.first)
    }

    /// Its place in a kernel's words.
    pub(crate) fn word(&self) -> u64 {
        u64::from(self.first)
    }

    /// Its size in words.
    pub(crate) fn words(&self) -> usize {
        words(self.dtype, self.len, self.wide)
    }
}

/// Words of 32 bits of an array.
pub(crate) fn words(dtype: DType, len: usize, wide: bool) -> usize {
    match dtype {
        DType::Bf16 if !wide => len.div_ceil(2),
        _ => len,
    }
}
