//! candle-nn's AdamW.

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};

use crate::Precision;
use crate::timing::{Measurement, Timing};

pub(crate) fn measure(
    shapes: &[Vec<usize>],
    precision: Precision,
    mut timing: Timing,
) -> Result<Measurement> {
    let dtype = match precision {
        Precision::F32 => DType::F32,
        Precision::Bf16 => DType::BF16,
    };
    let random = |scale: f32, shape: &[usize]| {
        Tensor::rand(-scale, scale, shape, &Device::Cpu).and_then(|tensor| tensor.to_dtype(dtype))
    };
    let mut vars = Vec::new();
    for shape in shapes {
        vars.push(Var::from_tensor(&random(0.1, shape)?)?);
    }
    // Only a backward pass makes a store of gradients; what it finds is replaced.
    let mut gradients = vars[0].as_tensor().sum_all()?.backward()?;
    for (var, shape) in vars.iter().zip(shapes) {
        gradients.insert(var, random(0.01, shape)?);
    }
    let before = values(&vars)?;
    let mut optimizer = AdamW::new(vars.clone(), ParamsAdamW::default())?;
    for index in 0..timing.total() {
        timing.time(index, || optimizer.step(&gradients))?;
    }
    let dtype = vars.first().context("no shapes")?.dtype().as_str().to_owned();
    timing.finish(dtype, &before, &values(&vars)?)
}

fn values(vars: &[Var]) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for var in vars {
        all.extend(var.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(all)
}
