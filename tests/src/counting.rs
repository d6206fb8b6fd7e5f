//! The interpreter of formulas, with its work counted.

use std::convert::Infallible;

use gradient_transform::device::{Executor, Interpreter, SweepBatch};
use gradient_transform::{Buffer, DType};

/// Evaluates formulas, and counts what it is given.
#[derive(Debug, Default)]
pub struct Counting {
    /// Batches of all sweeps: launches of a device.
    pub sweeps: usize,
    /// Tensors of all sweeps.
    pub tensors: usize,
    /// Elements of gradients that were looked at.
    pub examined: usize,
}

impl Executor for Counting {
    type Array = Buffer;
    type Error = Infallible;

    fn len(array: &Buffer) -> usize {
        array.len()
    }

    fn dtype(array: &Buffer) -> DType {
        array.dtype()
    }

    fn propagates_non_finite(&self) -> bool {
        true
    }

    fn upload(&mut self, values: Buffer) -> Result<Buffer, Infallible> {
        Ok(values)
    }

    fn zeros(&mut self, dtype: DType, len: usize) -> Result<Buffer, Infallible> {
        Ok(Buffer::zeros(dtype, len))
    }

    fn download(&mut self, array: &Buffer) -> Result<Buffer, Infallible> {
        Ok(array.clone())
    }

    fn usable(&mut self, gradients: &[&Buffer], limit: f64) -> Result<Vec<bool>, Infallible> {
        self.examined += gradients.iter().map(|gradient| gradient.len()).sum::<usize>();
        Executor::<f32>::usable(&mut Interpreter, gradients, limit)
    }

    fn sweep(&mut self, batches: &mut [SweepBatch<'_, f32, Buffer>]) -> Result<(), Infallible> {
        self.sweeps += batches.len();
        self.tensors += batches.iter().map(|batch| batch.tensors.len()).sum::<usize>();
        Interpreter.sweep(batches)
    }
}
