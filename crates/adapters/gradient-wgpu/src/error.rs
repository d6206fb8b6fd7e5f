//! Errors of the device.

/// Error of the device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WgpuError {
    /// No driver for Vulkan, Metal or DirectX 12 is there.
    #[error("no adapter: {0}")]
    NoAdapter(#[from] wgpu::RequestAdapterError),
    /// The adapter gave no device.
    #[error("no device: {0}")]
    NoDevice(#[from] wgpu::RequestDeviceError),
    /// The device is gone: unplugged, reset by the driver, or destroyed.
    #[error("the device is lost: {reason}")]
    Lost {
        /// Reason given by the driver.
        reason: String,
    },
    /// The device has no memory left.
    #[error("out of memory on the device")]
    OutOfMemory,
    /// An array or a buffer that no kernel can be given.
    #[error("a buffer of {bytes} bytes: the device allows {limit}")]
    TooLarge {
        /// Size.
        bytes: u64,
        /// The device's limit.
        limit: u64,
    },
    /// A tensor's arrays are in more buffers than a kernel can be given.
    #[error(
        "a tensor's arrays lie in {needed} buffers, and the device allows {limit}: put several arrays into one buffer"
    )]
    TooManyBuffers {
        /// Number of buffers.
        needed: usize,
        /// The device's limit, less the tables'.
        limit: usize,
    },
    /// A buffer of the caller's in which there is no such array.
    #[error("no array of {len} elements at byte {offset} of the buffer: {reason}")]
    Buffer {
        /// Number of elements.
        len: usize,
        /// Where it was to begin.
        offset: u64,
        /// Its fault.
        reason: &'static str,
    },
    /// An element type that no kernel computes with.
    #[error("WGSL has no float64; keep such parameters on the processor")]
    Float64,
    /// A call that wgpu refused.
    #[error("wgpu: {0}")]
    Refused(wgpu::Error),
}

impl From<wgpu::Error> for WgpuError {
    fn from(error: wgpu::Error) -> Self {
        match error {
            wgpu::Error::OutOfMemory { .. } => Self::OutOfMemory,
            error => Self::Refused(error),
        }
    }
}
