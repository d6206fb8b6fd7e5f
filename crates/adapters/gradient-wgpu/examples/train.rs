//! A model of two layers whose data, weights and gradients stay on the device from the first step to the last.
//!
//!     cargo run --release -p gradient-wgpu --example train
//!
//! The forward and backward passes are a kernel of the program's own. The optimizer steps on the buffers that it reads and writes.

use std::error::Error;

use gradient_transform::device::{DeviceParameter, Executor, OnDevice};
use gradient_transform::{Buffer, DType};
use gradient_wgpu::{Wgpu, WgpuArray, WgpuError};
use prodigy_plus::ProdigyPlus;
use wgpu::util::DeviceExt;

const EXAMPLES: usize = 256;
const HIDDEN: usize = 16;

/// `y = b + sum_h v_h tanh(w_h x + c_h)` and the gradient of its mean squared error, at 256 points.
const MODEL: &str = "
@group(0) @binding(0) var<storage, read> data: array<vec2<f32>>;    // x and y
@group(0) @binding(1) var<storage, read> weights: array<f32>;       // w, c, v of 16 units, and b
@group(0) @binding(2) var<storage, read_write> gradients: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;
const HIDDEN = 16u;

fn output(x: f32) -> f32 {
    var y = weights[3u * HIDDEN];
    for (var h = 0u; h < HIDDEN; h++) { y += weights[2u * HIDDEN + h] * tanh(weights[h] * x + weights[HIDDEN + h]); }
    return y;
}

@compute @workgroup_size(64)
fn model(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = arrayLength(&data);
    if (id.x > 3u * HIDDEN) { return; }
    let h = id.x % HIDDEN;
    var gradient = 0.0;
    var squares = 0.0;
    for (var i = 0u; i < n; i++) {
        let error = output(data[i].x) - data[i].y;
        let unit = tanh(weights[h] * data[i].x + weights[HIDDEN + h]);
        let inner = weights[2u * HIDDEN + h] * (1.0 - unit * unit);
        var slope = 1.0;
        if (id.x < HIDDEN) { slope = inner * data[i].x; }
        else if (id.x < 2u * HIDDEN) { slope = inner; }
        else if (id.x < 3u * HIDDEN) { slope = unit; }
        gradient += 2.0 / f32(n) * error * slope;
        squares += error * error / f32(n);
    }
    gradients[id.x] = gradient;
    loss[0] = squares;
}
";

#[allow(clippy::print_stdout)] // a program for the terminal
fn main() -> Result<(), Box<dyn Error>> {
    let wgpu = match Wgpu::new() {
        Ok(wgpu) => wgpu,
        Err(WgpuError::NoAdapter(error)) => {
            println!("skipped: {error}");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    println!("on {}", wgpu.device().adapter_info().name);
    let (device, queue) = (wgpu.device().clone(), wgpu.queue().clone());
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let buffer = |values: &[f32]| {
        let contents: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
            label: None,
            contents: &contents,
            usage,
        })
    };
    let point = |i: usize| 6.0 * i as f32 / EXAMPLES as f32 - 3.0;
    let data: Vec<f32> = (0..EXAMPLES).flat_map(|i| [point(i), (2.0 * point(i)).sin()]).collect();
    let start: Vec<f32> = (0..=3 * HIDDEN).map(|i| 0.6 * ((i * 37 % 49) as f32 / 24.0 - 1.0)).collect();
    let (weights, gradients) = (buffer(&start), buffer(&vec![0.0; start.len()]));
    let (data, loss) = (buffer(&data), buffer(&[0.0]));

    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(MODEL.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: Some("model"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let arguments = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[(0, &data), (1, &weights), (2, &gradients), (3, &loss)]
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() }),
    });

    // The parts of the buffers that are tensors.
    let layers = [("w", 0, HIDDEN), ("c", HIDDEN, HIDDEN), ("v", 2 * HIDDEN, HIDDEN), ("b", 3 * HIDDEN, 1)];
    let array = |buffer, (_, first, len): &(&str, usize, usize)| {
        WgpuArray::in_buffer(buffer, 4 * *first as u64, DType::F32, *len)
    };
    let mut values: Vec<WgpuArray> =
        layers.iter().map(|layer| array(&weights, layer)).collect::<Result<_, _>>()?;
    let slopes: Vec<WgpuArray> =
        layers.iter().map(|layer| array(&gradients, layer)).collect::<Result<_, _>>()?;
    let loss = WgpuArray::in_buffer(&loss, 0, DType::F32, 1)?;

    let named = layers.iter().map(|(name, _, len)| (*name, [*len]));
    let mut optimizer = OnDevice::new(ProdigyPlus::builder().build(named)?, wgpu)?;
    for step in 0..=1000 {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &arguments, &[]);
            pass.dispatch_workgroups(1, 1, 1);
        }
        queue.submit([encoder.finish()]);
        let mut parameters: Vec<DeviceParameter<'_, WgpuArray>> = values
            .iter_mut()
            .zip(&slopes)
            .map(|(value, gradient)| DeviceParameter { value, gradient: Some(gradient) })
            .collect();
        optimizer.step(&mut parameters)?;
        if step % 200 == 0
            && let Buffer::F32(loss) = optimizer.executor().download(&loss)?
        {
            println!("step {step:4}  loss {:.4}  d {:.2e}", loss[0], optimizer.estimate(0)?.d);
        }
    }
    Ok(())
}
