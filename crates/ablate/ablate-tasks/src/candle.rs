//! Conversion between slices and candle's tensors, for tasks whose loss is written in tensors.
//!
//! ```
//! use ablate_tasks::InitialParameter;
//! use ablate_tasks::candle::{Shapes, correct, values};
//! use candle_core::{Device, Tensor};
//!
//! let parameters = [InitialParameter::new("w", &[2, 2], vec![1.0, 2.0, 3.0, 4.0])];
//! let shapes = Shapes::of(&parameters).on(&Device::Cpu);
//! assert!(shapes.device().is_cpu());
//! let weights = [&parameters[0].values[..]];
//! assert_eq!(shapes.tensors(&weights)?[0].dims(), [2, 2]);
//! let gradients = shapes.gradients(&weights, |w| Ok(w[0].sqr()?.sum_all()?))?;
//! assert_eq!((gradients.loss, &gradients.of[0]), (30.0, &Some(vec![2.0, 4.0, 6.0, 8.0])));
//!
//! let logits = Tensor::new(&[[0.1_f32, 0.9], [0.8, 0.2]], &Device::Cpu)?;
//! assert_eq!(values(&logits)?.len(), 4);
//! assert_eq!(correct(&logits, &Tensor::new(&[1_u32, 1], &Device::Cpu)?)?, 1.0);
//! # Ok::<(), anyhow::Error>(())
//! ```

use anyhow::{Context, Result, ensure};
use candle_core::{D, DType, Device, Tensor, Var};

use crate::task::{Gradients, InitialParameter};

/// The names and shapes of a task's parameters, in order: what slices lack to be tensors.
#[derive(Debug, Clone)]
pub struct Shapes {
    of: Vec<(String, Vec<usize>)>,
    device: Device,
}

impl Shapes {
    /// Those of a task's initial parameters, for tensors on the processor.
    pub fn of(parameters: &[InitialParameter]) -> Self {
        let of = parameters.iter().map(|parameter| (parameter.name.clone(), parameter.shape.clone()));
        Self { of: of.collect(), device: Device::Cpu }
    }

    /// The same for tensors on another device. Whatever they are multiplied with must be there, too.
    #[must_use]
    pub fn on(self, device: &Device) -> Self {
        Self { device: device.clone(), ..self }
    }

    /// The device of the tensors.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The weights as tensors that gradients are not taken of.
    ///
    /// # Errors
    /// Another number of parameters or elements.
    pub fn tensors(&self, weights: &[&[f32]]) -> Result<Vec<Tensor>> {
        ensure!(weights.len() == self.of.len(), "{} parameters instead of {}", weights.len(), self.of.len());
        let tensor = |(values, (name, shape)): (&&[f32], &(String, Vec<usize>))| {
            Tensor::from_slice(values, shape.as_slice(), &self.device)
                .with_context(|| format!("parameter {name}: its values don't fill its shape {shape:?}"))
        };
        weights.iter().zip(&self.of).map(tensor).collect()
    }

    /// The loss, a scalar, and its gradients by automatic differentiation.
    ///
    /// # Errors
    /// As [`tensors`](Self::tensors), and what `loss` returns.
    pub fn gradients(
        &self,
        weights: &[&[f32]],
        loss: impl FnOnce(&[Tensor]) -> Result<Tensor>,
    ) -> Result<Gradients> {
        let vars =
            self.tensors(weights)?.iter().map(Var::from_tensor).collect::<candle_core::Result<Vec<_>>>()?;
        let inputs: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let loss = loss(&inputs)?;
        let gradients = loss.backward()?;
        let of = inputs
            .iter()
            .map(|input| gradients.get(input).map(values).transpose())
            .collect::<Result<Vec<_>>>()?;
        Ok(Gradients { loss: f64::from(loss.to_scalar::<f32>()?), of })
    }
}

/// A tensor's elements in row-major order.
///
/// # Errors
/// It is not of float32.
pub fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?)
}

/// Number of rows of `logits` with their largest value at the label.
///
/// # Errors
/// The shapes don't fit.
pub fn correct(logits: &Tensor, labels: &Tensor) -> Result<f64> {
    let hits = logits.argmax(D::Minus1)?.eq(labels)?.to_dtype(DType::F32)?;
    Ok(f64::from(hits.sum_all()?.to_scalar::<f32>()?))
}
