//! Kernels, compiled, and what they are given.

use std::collections::HashMap;
use std::sync::Arc;

use gradient_transform::device::SweepFormula;
use sweep_kernels::wgsl::{self, Bindings, FIRST_BUFFER};
use sweep_kernels::{Tables, Types};

use crate::transfer::Part;

/// Kernels of a formula, for arrays of certain types in certain buffers.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) formula: Arc<SweepFormula>,
    pub(crate) types: Types,
    pub(crate) bindings: Bindings,
    pub(crate) kernels: Kernels,
    /// For the shapes of tensors that it was given: where their elements are.
    pub(crate) tables: Vec<(Vec<Vec<usize>>, Arc<Prepared>)>,
}

/// The kernels of a text.
#[derive(Debug)]
pub(crate) struct Kernels {
    module: wgpu::ShaderModule,
    arguments: wgpu::BindGroupLayout,
    layout: wgpu::PipelineLayout,
    pipelines: HashMap<String, wgpu::ComputePipeline>,
}

/// Tables on the device.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) tables: Tables,
    /// The jobs of each launch.
    pub(crate) jobs: Vec<wgpu::Buffer>,
}

/// Arguments of all kernels of a sweep.
pub(crate) struct Arguments<'a> {
    pub(crate) words: Part<'a>,
    pub(crate) along: Part<'a>,
    pub(crate) tiles: Part<'a>,
    pub(crate) floats: Part<'a>,
    pub(crate) arrays: &'a [wgpu::Buffer],
}

impl Prepared {
    /// Without float64, sums of tiles become those of chunks on the host.
    pub(crate) fn new(device: &wgpu::Device, queue: &wgpu::Queue, mut tables: Tables) -> Self {
        tables.launches.retain(|launch| launch.kernel != "fold_sums");
        let jobs = tables.launches.iter().map(|launch| {
            let jobs = &tables.jobs[launch.first..launch.first + launch.words * launch.count];
            // As long as the jobs: that is how kernels know their number.
            let buffer = device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("jobs"),
                size: size_of_val(jobs) as u64,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            queue.write_buffer(&buffer, 0, bytemuck::cast_slice(jobs));
            buffer
        });
        let jobs = jobs.collect();
        Self { tables, jobs }
    }

    /// Their size.
    pub(crate) fn bytes(&self) -> u64 {
        self.jobs.iter().map(wgpu::Buffer::size).sum()
    }
}

impl Kernels {
    /// `written` says of each buffer whether kernels write to it.
    pub(crate) fn new(device: &wgpu::Device, text: &str, written: &[bool]) -> Self {
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("sweep"),
            source: wgpu::ShaderSource::Wgsl(text.into()),
        });
        let tables = [true, true, true, false, false].into_iter();
        let entries: Vec<wgpu::BindGroupLayoutEntry> = (0..)
            .zip(tables.chain(written.iter().map(|written| !written)))
            .map(|(binding, read_only)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let arguments = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("sweep"),
            entries: &entries,
        });
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("sweep"),
            bind_group_layouts: &[Some(&arguments)],
            ..Default::default()
        });
        Self { module, arguments, layout, pipelines: HashMap::new() }
    }

    /// Launches of a sweep, in their order.
    pub(crate) fn launch(
        &mut self,
        device: &wgpu::Device,
        encoder: &mut wgpu::CommandEncoder,
        prepared: &Prepared,
        arguments: &Arguments<'_>,
    ) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for (launch, jobs) in prepared.tables.launches.iter().zip(&prepared.jobs) {
            let Arguments { words, along, tiles, floats, arrays } = arguments;
            let tables = [*words, *along, Part::whole(jobs), *tiles, *floats];
            let parts = tables.into_iter().chain(arrays.iter().map(Part::whole));
            let entries: Vec<wgpu::BindGroupEntry<'_>> = (0..)
                .zip(parts)
                .map(|(binding, part)| wgpu::BindGroupEntry { binding, resource: part.binding() })
                .collect();
            debug_assert_eq!(entries.len(), FIRST_BUFFER as usize + arrays.len());
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("sweep"),
                layout: &self.arguments,
                entries: &entries,
            });
            let Self { module, layout, pipelines, .. } = self;
            let pipeline = pipelines.entry(launch.kernel.clone()).or_insert_with(|| {
                device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                    label: Some(&launch.kernel),
                    layout: Some(layout),
                    module,
                    entry_point: Some(&launch.kernel),
                    compilation_options: wgpu::PipelineCompilationOptions::default(),
                    cache: None,
                })
            });
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &group, &[]);
            let [x, y] = wgsl::workgroups(launch);
            pass.dispatch_workgroups(x, y, 1);
        }
    }
}
