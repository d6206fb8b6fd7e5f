//! burn's AdamW, on burn-flex, its backend for CPUs.

use anyhow::{Context, Result};
use burn::module::{Module, Param};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{DType, Device, Distribution, Tensor};

use crate::Precision;
use crate::timing::{Measurement, Timing};

/// Parameters only: nothing is computed with them.
#[derive(Module, Debug)]
struct Parameters {
    vectors: Vec<Param<Tensor<1>>>,
    matrices: Vec<Param<Tensor<2>>>,
}

pub(crate) fn measure(
    shapes: &[Vec<usize>],
    precision: Precision,
    mut timing: Timing,
) -> Result<Measurement> {
    let dtype = match precision {
        Precision::F32 => DType::F32,
        Precision::Bf16 => DType::BF16,
    };
    let device = Device::flex();
    // Parameters in training carry autodiff; gradients do not.
    let training = device.clone().autodiff();
    let (mut parameters, mut vectors, mut matrices) =
        (Parameters { vectors: Vec::new(), matrices: Vec::new() }, Vec::new(), Vec::new());
    let (values, slopes) = (Distribution::Uniform(-0.1, 0.1), Distribution::Uniform(-0.01, 0.01));
    for shape in shapes {
        match shape[..] {
            [n] => {
                let value = Tensor::random([n], values, (&training, dtype));
                parameters.vectors.push(Param::from_tensor(value));
                vectors.push(Tensor::<1>::random([n], slopes, (&device, dtype)));
            }
            [m, n] => {
                let value = Tensor::random([m, n], values, (&training, dtype));
                parameters.matrices.push(Param::from_tensor(value));
                matrices.push(Tensor::<2>::random([m, n], slopes, (&device, dtype)));
            }
            _ => anyhow::bail!("{shape:?} is neither a vector nor a matrix"),
        }
    }
    let before = values_of(&parameters)?;
    let mut optimizer = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.01).init();
    for index in 0..timing.total() {
        // The optimizer takes its gradients, and writes into those that nothing else holds: it gets copies.
        let mut gradients = GradientsParams::new();
        for (parameter, gradient) in parameters.vectors.iter().zip(&vectors) {
            gradients.register(parameter.id, gradient.clone().mul_scalar(1.0));
        }
        for (parameter, gradient) in parameters.matrices.iter().zip(&matrices) {
            gradients.register(parameter.id, gradient.clone().mul_scalar(1.0));
        }
        parameters = timing.time(index, || optimizer.step(1e-3, parameters, gradients));
    }
    let dtype = parameters.matrices.first().context("no matrix")?.val().dtype();
    timing.finish(format!("{dtype:?}").to_lowercase(), &before, &values_of(&parameters)?)
}

fn values_of(parameters: &Parameters) -> Result<Vec<f32>> {
    let mut all = Vec::new();
    for vector in &parameters.vectors {
        all.extend(vector.val().into_data().convert::<f32>().try_to_vec::<f32>()?);
    }
    for matrix in &parameters.matrices {
        all.extend(matrix.val().into_data().convert::<f32>().try_to_vec::<f32>()?);
    }
    Ok(all)
}
