//! On a machine with an NVIDIA GPU: trains a small network with its variables stepped on the device, and for
//! comparison the same with its variables on the processor, which gets the same gradients. Says whether all
//! bits agree, and how many bytes went between host and device.
//!
//!     cargo run --release -p prodigy-plus-candle --features cuda --example on_cuda

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Module, Tensor, Var};
use candle_nn::{Sequential, VarBuilder, VarMap, linear, loss::mse, seq};
use prodigy_plus_candle::{OnCuda, Options, ProdigyPlus, Result, named_variables, shapes};

const STEPS: usize = 100;

#[allow(clippy::print_stdout)] // a program for the terminal
fn main() -> Result<()> {
    let device = Device::new_cuda(0)?;
    let mut differing = 0;
    for dtype in [DType::F32, DType::BF16] {
        let map = VarMap::new();
        let model = network(VarBuilder::from_varmap(&map, dtype, &device))?;
        let there = named_variables(&map);
        let here = copies(&there)?;
        let options = Options::default().d0(1e-3);
        let optimizer = ProdigyPlus::from_engine(options.build(shapes(&there))?, there.clone())?;
        let mut on_device = OnCuda::new(optimizer, &device)?;
        let mut on_host = ProdigyPlus::from_engine(options.build(shapes(&here))?, here.clone())?;

        let inputs = Tensor::randn(0_f32, 1.0, (64, 128), &device)?;
        let labels = inputs.narrow(1, 0, 8)?.sin()?.to_dtype(dtype)?;
        let inputs = inputs.to_dtype(dtype)?;
        let loss = |model: &Sequential| mse(&model.forward(&inputs)?, &labels);
        let first = loss(&model)?.to_dtype(DType::F32)?.to_scalar::<f32>()?;
        let mut bytes = Vec::new();
        for step in 0..STEPS {
            let gradients = loss(&model)?.backward()?;
            let of_host = on_processor(&gradients, &there, &here)?;
            let before = on_device.engine_mut().executor().transferred_bytes();
            on_device.step(&gradients)?;
            bytes.push(on_device.engine_mut().executor().transferred_bytes() - before);
            on_host.step(&of_host)?;
            for ((name, there), (_, here)) in there.iter().zip(&here) {
                if bits(there)? != bits(here)? {
                    println!("DIFFERS {dtype:?}, step {step}: {name}");
                    differing += 1;
                }
            }
        }
        let last = loss(&model)?.to_dtype(DType::F32)?.to_scalar::<f32>()?;
        let size: usize = there.iter().map(|(_, var)| var.elem_count() * dtype.size_in_bytes()).sum();
        println!(
            "{dtype:?}: loss {first} to {last}, d = {}; {} launches. Bytes between host and device: {} in the first step, {} in the last; variables have {size}",
            on_device.engine().estimate(0)?.d,
            on_device.engine_mut().executor().launches(),
            bytes[0],
            bytes[STEPS - 1],
        );
    }
    if differing > 0 {
        return Err(candle_core::Error::msg(format!("{differing} variables differed")).into());
    }
    println!("all bits agree, in {STEPS} steps each");
    Ok(())
}

fn network(vb: VarBuilder<'_>) -> Result<Sequential> {
    let hidden = linear(128, 256, vb.pp("hidden"))?;
    Ok(seq().add(hidden).add_fn(|x| x.tanh()).add(linear(256, 8, vb.pp("output"))?))
}

fn copies(variables: &[(String, Var)]) -> Result<Vec<(String, Var)>> {
    let copy = |(name, var): &(String, Var)| {
        Ok((name.clone(), Var::from_tensor(&var.as_detached_tensor().to_device(&Device::Cpu)?)?))
    };
    variables.iter().map(copy).collect()
}

/// The same gradients for the variables' copies.
fn on_processor(gradients: &GradStore, there: &[(String, Var)], here: &[(String, Var)]) -> Result<GradStore> {
    let mut copies = Tensor::zeros((), DType::F32, &Device::Cpu)?.backward()?;
    for ((_, there), (_, here)) in there.iter().zip(here) {
        if let Some(gradient) = gradients.get(there) {
            copies.insert(here, gradient.to_device(&Device::Cpu)?);
        }
    }
    Ok(copies)
}

/// Every bfloat16 is a float32.
fn bits(var: &Var) -> Result<Vec<u32>> {
    let values = var.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.into_iter().map(f32::to_bits).collect())
}
