//! On a machine with an NVIDIA GPU: whether chains have the processor's bits, and what a step costs.
//!
//!     cargo run --release -p gradient-cuda --example device -- check
//!     cargo run --release -p gradient-cuda --example device -- time large f32 "{}"
//!
//! `benches/device.sh` runs both, and the optimizers of PyTorch beside.

use std::error::Error;
use std::time::Instant;

use conformance::device::{Types, compare, rows, rows_in_float64};
use gradient_cuda::{Cuda, CudaArray};
use gradient_transform::Buffer;
use gradient_transform::device::{DeviceParameter, Executor, OnDevice};
use half::bf16;
use prodigy_plus::Options;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[allow(clippy::print_stdout)] // a program for the terminal
fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["check"] => check(),
        ["time", list, dtype, options] => time(list, dtype, options),
        _ => {
            println!(
                "device check\ndevice time LIST DTYPE OPTIONS\n\nLists: large, gpt, tiny, billion, lora. Types: f32, bf16. Options: JSON."
            );
            Ok(())
        }
    }
}

/// Compares every chain with the engine, to the bit.
#[allow(clippy::print_stdout)]
fn check() -> Result<()> {
    const SHAPES: [&[usize]; 6] = [&[40, 33], &[33], &[3], &[64, 64], &[3, 5, 64], &[2, 1100]];
    const LONG: [&[usize]; 4] = [&[800, 700], &[3, 200_000], &[600_000], &[5, 7, 30_000]];
    let mut cuda = Cuda::new(0)?;
    let (mut well, mut badly) = (0, 0);
    for (types, shapes, steps) in [
        (Types::F32, &SHAPES[..], 10),
        (Types::Bf16, &SHAPES[..], 10),
        (Types::Bf16Nearest, &SHAPES[..], 4),
        (Types::F32, &LONG[..], 3),
        (Types::Bf16, &LONG[..], 3),
    ] {
        let before = (well, badly);
        for row in rows().into_iter().chain(rows_in_float64()) {
            match compare(&row, types, shapes, steps, cuda) {
                Ok(back) => {
                    cuda = back;
                    well += 1;
                }
                Err(difference) => {
                    println!("DIFFERS {types:?} {difference}");
                    badly += 1;
                    cuda = Cuda::new(0)?;
                }
            }
        }
        println!(
            "{types:?}, {steps} steps of {} tensors: {} chains agree, {} differ",
            shapes.len(),
            well - before.0,
            badly - before.1
        );
    }
    if badly == 0 { Ok(()) } else { Err(format!("{badly} of {} differ", well + badly).into()) }
}

/// Shapes of a list, as in `benches/worker.py`.
fn shapes(list: &str) -> Result<Vec<Vec<usize>>> {
    let repeated = |parts: &[(usize, &[usize])]| {
        parts.iter().flat_map(|(n, shape)| std::iter::repeat_n(shape.to_vec(), *n)).collect()
    };
    Ok(match list {
        "large" => repeated(&[(1, &[4096, 4096])]),
        "gpt" => repeated(&[(24, &[768, 768]), (6, &[3072, 768]), (6, &[768, 3072]), (50, &[768])]),
        "tiny" => {
            repeated(&[(4, &[128, 64]), (4, &[64]), (4, &[64, 64]), (4, &[64]), (4, &[10, 64]), (4, &[10])])
        }
        "billion" => repeated(&[(60, &[4096, 4096])]),
        "lora" => repeated(&[(250, &[16, 1024]), (250, &[1024, 16])]),
        _ => return Err(format!("there is no list `{list}`: large, gpt, tiny, billion, lora").into()),
    })
}

/// Times steps with parameters and gradients on the device, and prints a line of JSON.
#[allow(clippy::print_stdout)]
fn time(list: &str, dtype: &str, options: &str) -> Result<()> {
    let shapes = shapes(list)?;
    let text: serde_json::Value = serde_json::from_str(options)?;
    let options: Options = serde_json::from_value(text.clone())?;
    let named = shapes.iter().enumerate().map(|(i, shape)| (format!("w{i}"), shape.clone()));
    let mut optimizer = OnDevice::new(options.build(named)?, Cuda::new(0)?)?;
    let longest = shapes.iter().map(|shape| shape.iter().product::<usize>()).max().unwrap_or_default();
    let mut state = 1_u64;
    let numbers: Vec<f32> = (0..longest)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) * 0.1
        })
        .collect();
    let array = |optimizer: &mut OnDevice<Cuda>, n: usize| -> Result<CudaArray> {
        let values = match dtype {
            "f32" => Buffer::F32(numbers[..n].to_vec()),
            "bf16" => Buffer::Bf16(numbers[..n].iter().map(|x| bf16::from_f32(*x)).collect()),
            _ => return Err(format!("there is no type `{dtype}`: f32, bf16").into()),
        };
        Ok(optimizer.executor().upload(values)?)
    };
    let mut arrays = Vec::new();
    for shape in &shapes {
        let n = shape.iter().product();
        arrays.push((array(&mut optimizer, n)?, array(&mut optimizer, n)?));
    }
    let mut steps = |optimizer: &mut OnDevice<Cuda>, n: usize| -> Result<f64> {
        optimizer.executor().synchronize()?;
        let begin = Instant::now();
        for _ in 0..n {
            let mut parameters: Vec<DeviceParameter<'_, CudaArray>> = arrays
                .iter_mut()
                .map(|(value, gradient)| DeviceParameter { value, gradient: Some(gradient) })
                .collect();
            optimizer.step(&mut parameters)?;
        }
        optimizer.executor().synchronize()?;
        Ok(begin.elapsed().as_secs_f64() / n as f64)
    };
    steps(&mut optimizer, 3)?;
    let before = optimizer.executor().launches();
    let (rounds, each) = (15, if list == "billion" { 2 } else { 10 });
    let mut times: Vec<f64> = (0..rounds).map(|_| steps(&mut optimizer, each)).collect::<Result<_>>()?;
    let launches = (optimizer.executor().launches() - before) as f64 / (rounds * each) as f64;
    times.sort_by(f64::total_cmp);
    let elements: usize = shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
    println!(
        "{}",
        serde_json::json!({
            "list": list, "dtype": dtype, "options": text,
            "ms": times[rounds / 2] * 1e3, "least": times[0] * 1e3, "most": times[rounds - 1] * 1e3,
            "launches": launches, "elements": elements,
        })
    );
    Ok(())
}
