//! Errors of the device.

use cudarc::driver::DriverError;
use cudarc::nvrtc::CompileError;

/// Error of the device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The driver or the toolkit's compiler is not there.
    #[error(
        "CUDA cannot be used: NVIDIA's driver (libcuda.so.1) and NVRTC of the CUDA toolkit (libnvrtc.so) must be where the system looks for libraries"
    )]
    Missing,
    /// The driver's: out of memory, a device that is lost, a kernel that failed.
    #[error("CUDA's driver: {0}")]
    Driver(#[from] DriverError),
    /// A kernel did not compile.
    #[error("NVRTC: {0}")]
    Compiler(#[from] CompileError),
    /// An element type that no kernel computes with.
    #[error("float64 is not computed with on CUDA; keep such parameters on the processor")]
    Float64,
}
