//! Copies from the device to the host.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::mpsc;

use crate::error::WgpuError;

/// A part of a buffer, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    pub(crate) buffer: &'a wgpu::Buffer,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl<'a> Part<'a> {
    pub(crate) fn of(buffer: &'a wgpu::Buffer, range: &Range<u64>) -> Self {
        Self { buffer, offset: range.start, bytes: range.end - range.start }
    }

    pub(crate) fn whole(buffer: &'a wgpu::Buffer) -> Self {
        Self { buffer, offset: 0, bytes: buffer.size() }
    }

    pub(crate) fn binding(self) -> wgpu::BindingResource<'a> {
        let (buffer, offset, size) = (self.buffer, self.offset, NonZeroU64::new(self.bytes));
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size })
    }
}

/// Parts of a buffer, one after the other, each at a place where a binding may begin.
pub(crate) struct Parts {
    alignment: u64,
    end: u64,
}

impl Parts {
    pub(crate) fn new(alignment: u32) -> Self {
        Self { alignment: u64::from(alignment), end: 0 }
    }

    /// The place of so many bytes. A binding cannot be empty.
    pub(crate) fn add(&mut self, bytes: usize) -> Range<u64> {
        let first = self.end;
        let last = first + (bytes as u64).max(8);
        self.end = last.next_multiple_of(self.alignment);
        first..last
    }

    pub(crate) fn len(&self) -> u64 {
        self.end
    }
}

/// Submits the work, and gives the parts of buffers as they are behind it.
pub(crate) fn submit_and_read(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    mut encoder: wgpu::CommandEncoder,
    parts: &[Part<'_>],
) -> Result<Vec<Vec<u32>>, WgpuError> {
    let bytes: u64 = parts.iter().map(|part| part.bytes).sum();
    if bytes == 0 {
        queue.submit([encoder.finish()]);
        return Ok(parts.iter().map(|_| Vec::new()).collect());
    }
    let staging = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("to the host"),
        size: bytes,
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut to = 0;
    for part in parts.iter().filter(|part| part.bytes > 0) {
        encoder.copy_buffer_to_buffer(part.buffer, part.offset, &staging, to, part.bytes);
        to += part.bytes;
    }
    queue.submit([encoder.finish()]);
    let (sender, receiver) = mpsc::channel();
    staging.map_async(wgpu::MapMode::Read, .., move |result| {
        // Nobody waits any more where this function has returned.
        let _ = sender.send(result);
    });
    let lost = |error: &dyn std::fmt::Display| WgpuError::Lost { reason: error.to_string() };
    device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| lost(&error))?;
    receiver.recv().map_err(|error| lost(&error))?.map_err(|error| lost(&error))?;
    let values = staging.get_mapped_range(..).map_err(|error| lost(&error))?;
    let mut rest: Vec<u32> = bytemuck::pod_collect_to_vec(&values);
    drop(values);
    let split = parts.iter().map(|part| rest.drain(..(part.bytes / 4) as usize).collect());
    let split = split.collect();
    staging.unmap();
    Ok(split)
}
