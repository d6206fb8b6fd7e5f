//! Arrays in the device's memory.

use cudarc::driver::{CudaSlice, DevicePtr};
use gradient_transform::DType;
use half::bf16;

/// An array in the device's memory: one of its own, or one of others.
#[derive(Debug)]
pub struct CudaArray {
    pub(crate) memory: Memory,
    pub(crate) len: usize,
}

#[derive(Debug)]
pub(crate) enum Memory {
    F32(CudaSlice<f32>),
    Bf16(CudaSlice<bf16>),
    Borrowed { address: u64, dtype: DType },
}

impl CudaArray {
    /// An array of others, of `len` elements that follow one another.
    ///
    /// ```
    /// use gradient_cuda::CudaArray;
    /// use gradient_transform::DType;
    ///
    /// /// A tensor of another library.
    /// fn weights(address: u64, len: usize) -> CudaArray {
    ///     // SAFETY: the tensor lives as long as the array, and nobody else uses it in a step.
    ///     unsafe { CudaArray::borrowed(address, DType::Bf16, len) }
    /// }
    /// ```
    ///
    /// # Safety
    /// `address` is that of `len` elements of type `dtype` in the memory of the [`Cuda`](crate::Cuda)'s device, aligned to an element. They stay there as long
    /// as the array is used, and no work on another stream touches them during a step.
    #[allow(unsafe_code)] // what the caller promises cannot be checked
    pub unsafe fn borrowed(address: u64, dtype: DType, len: usize) -> Self {
        Self { memory: Memory::Borrowed { address, dtype }, len }
    }

    /// Its address in the device's memory.
    pub(crate) fn address(&self) -> u64 {
        match &self.memory {
            _ if self.len == 0 => 0,
            Memory::F32(slice) => slice.device_ptr(slice.stream()).0,
            Memory::Bf16(slice) => slice.device_ptr(slice.stream()).0,
            Memory::Borrowed { address, .. } => *address,
        }
    }

    pub(crate) fn dtype(&self) -> DType {
        match &self.memory {
            Memory::F32(_) => DType::F32,
            Memory::Bf16(_) => DType::Bf16,
            Memory::Borrowed { dtype, .. } => *dtype,
        }
    }
}
