//! Products of matrices.

use std::collections::HashMap;

use sweep_kernels::product;
use sweep_kernels::wgsl::FIRST_BUFFER;

/// The kernels that were compiled, by the buffers of the result, the factors, and the matrix that is added.
#[derive(Debug, Default)]
pub(crate) struct Multiplying(HashMap<[usize; 4], wgpu::ComputePipeline>);

impl Multiplying {
    /// Adds a launch with so many jobs. The buffers are those of the arrays, each once.
    pub(crate) fn encode(
        &mut self,
        device: &wgpu::Device,
        encoder: &mut wgpu::CommandEncoder,
        places: [usize; 4],
        words: &wgpu::Buffer,
        buffers: &[wgpu::Buffer],
        jobs: usize,
    ) {
        const ROW: usize = 1 << 15;
        let pipeline = self.0.entry(places).or_insert_with(|| {
            let text = product::shader(places);
            let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some("multiply"),
                source: wgpu::ShaderSource::Wgsl(text.into()),
            });
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some("multiply"),
                layout: None,
                module: &module,
                entry_point: Some("multiply"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            })
        });
        let bindings = std::iter::once(0).chain(FIRST_BUFFER..);
        let entries: Vec<wgpu::BindGroupEntry<'_>> = bindings
            .zip(std::iter::once(words).chain(buffers))
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("multiply"),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(jobs.min(ROW) as u32, jobs.div_ceil(ROW) as u32, 1);
    }
}
