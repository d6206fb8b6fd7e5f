//! Every n-th word of an array, copied on the device.

/// The kernel, and the one for arrays that are in one buffer with their copies: no kernel is given a buffer both to read and to write.
#[derive(Debug)]
pub(crate) struct Sampling {
    apart: wgpu::ComputePipeline,
    together: wgpu::ComputePipeline,
}

/// Words of a buffer, from the first on.
pub(crate) struct Words<'a> {
    pub(crate) buffer: &'a wgpu::Buffer,
    pub(crate) first: u64,
}

const TEXT: &str = include_str!("sample.wgsl");

impl Sampling {
    pub(crate) fn new(device: &wgpu::Device) -> Self {
        let pipeline = |text: &str| {
            let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some("sample"),
                source: wgpu::ShaderSource::Wgsl(text.into()),
            });
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some("sample"),
                layout: None,
                module: &module,
                entry_point: Some("take"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            })
        };
        Self { apart: pipeline(TEXT), together: pipeline(&TEXT.replace("source[", "written[")) }
    }

    /// Copies `len` words, every `every`-th of those that begin at `from`.
    pub(crate) fn encode(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        encoder: &mut wgpu::CommandEncoder,
        [from, to]: [Words<'_>; 2],
        every: usize,
        len: usize,
    ) {
        const LARGEST_GRID: u32 = 65535;
        let sample = [to.first, from.first, every as u64, len as u64].map(|number| number as u32);
        let numbers = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("sample"),
            size: size_of_val(&sample) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        queue.write_buffer(&numbers, 0, bytemuck::cast_slice(&sample));
        let apart = from.buffer != to.buffer;
        let pipeline = if apart { &self.apart } else { &self.together };
        let buffers = [to.buffer, &numbers, from.buffer];
        let entries: Vec<wgpu::BindGroupEntry<'_>> = (0..)
            .zip(&buffers[..if apart { 3 } else { 2 }])
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("sample"),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(len.div_ceil(256).min(LARGEST_GRID as usize) as u32, 1, 1);
    }
}
