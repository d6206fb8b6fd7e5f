//! Unsafe code: launches of kernels, and memory of others, each with the reason why it is right.

use std::sync::Arc;

use cudarc::driver::{
    CudaFunction, CudaSlice, CudaStream, CudaView, CudaViewMut, DeviceRepr, DriverError, LaunchConfig,
    PushKernelArg,
};
use gradient_transform::{Buffer, DType};
use half::bf16;

/// Threads of a block.
const THREADS: u32 = 256;
/// Blocks of a launch at most: jobs beyond are done by the same threads, one after the other.
const BLOCKS: u64 = 1 << 16;

/// Arguments of all kernels of a sweep.
pub(crate) struct Arguments<'a> {
    pub(crate) words: CudaView<'a, u64>,
    pub(crate) along: CudaView<'a, f32>,
    pub(crate) jobs: &'a CudaSlice<u32>,
    pub(crate) doubles: CudaViewMut<'a, f64>,
    pub(crate) floats: CudaViewMut<'a, f32>,
}

impl<'a> Arguments<'a> {
    /// Whole arrays.
    pub(crate) fn of(
        words: &'a CudaSlice<u64>,
        along: &'a CudaSlice<f32>,
        jobs: &'a CudaSlice<u32>,
        doubles: &'a mut CudaSlice<f64>,
        floats: &'a mut CudaSlice<f32>,
    ) -> Self {
        let (doubles, floats) = (doubles.as_view_mut(), floats.as_view_mut());
        Self { words: words.as_view(), along: along.as_view(), jobs, doubles, floats }
    }
}

/// Launches a kernel for `count` jobs, the first of which is at `first` in the table of jobs, and each is done by so many threads.
#[allow(unsafe_code)] // see below; there is no safe launch
pub(crate) fn launch(
    stream: &Arc<CudaStream>,
    kernel: &CudaFunction,
    [first, count]: [usize; 2],
    threads: u64,
    arguments: &mut Arguments<'_>,
) -> Result<(), DriverError> {
    let Arguments { words, along, jobs, doubles, floats } = arguments;
    let jobs = jobs.slice(first..);
    let (base, count) = (0_u64, count as u64);
    let blocks = (count * threads).div_ceil(u64::from(THREADS)).clamp(1, BLOCKS) as u32;
    let config = LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
    let mut builder = stream.launch_builder(kernel);
    builder.arg(&base).arg(&*words).arg(&*along).arg(&jobs).arg(&count).arg(doubles).arg(floats);
    // SAFETY: the kernels are `sample`, which writes `count` elements to an array with as many, and those of
    // `sweep-kernels`; all have these seven arguments. `Tables` and `words` of that crate give jobs within the tensors'
    // lengths, and within `doubles` and `floats`: these begin with a part of the workspace that is as long as the tables
    // say. `product::words` gives the rows and columns of matrices, which fill their arrays. Nothing checks that at run
    // time; its tests run the same tables and kernels on the host and compare every result. The words hold addresses of
    // arrays that the caller of `sweep` has borrowed, mutably where they are written. They are freed, and read by others,
    // in the order of this stream alone.
    unsafe { builder.launch(config) }.map(drop)
}

/// Whether NVIDIA's driver and NVRTC can be loaded; what is called without them panics.
#[cfg(feature = "dynamic-loading")]
#[allow(unsafe_code)] // loading a library runs its initialisers
pub(crate) fn libraries_are_present() -> bool {
    // SAFETY: these are the libraries that all later calls load, under the names that NVIDIA gives them.
    unsafe { cudarc::driver::sys::is_culib_present() && cudarc::nvrtc::sys::is_culib_present() }
}

/// They are linked: the program would not have begun without them.
#[cfg(not(feature = "dynamic-loading"))]
pub(crate) fn libraries_are_present() -> bool {
    true
}

/// The values of an array of others.
pub(crate) fn download_borrowed(
    stream: &Arc<CudaStream>,
    address: u64,
    dtype: DType,
    len: usize,
) -> Result<Buffer, DriverError> {
    Ok(match dtype {
        _ if len == 0 => Buffer::zeros(dtype, 0),
        DType::F32 => Buffer::F32(copied::<f32>(stream, address, len)?),
        DType::Bf16 => Buffer::Bf16(copied::<bf16>(stream, address, len)?),
        DType::F64 => Buffer::F64(copied::<f64>(stream, address, len)?),
    })
}

#[allow(unsafe_code)] // memory that cudarc did not allocate
fn copied<V: DeviceRepr>(stream: &Arc<CudaStream>, address: u64, len: usize) -> Result<Vec<V>, DriverError> {
    // SAFETY: `CudaArray::borrowed` is unsafe, and its caller has promised that there are as many elements of this type.
    let slice = unsafe { stream.upgrade_device_ptr::<V>(address, len) };
    let values = stream.clone_dtoh(&slice);
    // It is not ours to be freed.
    slice.leak();
    values
}
