//! The evaluation point x, and the way back to the training point y.

use crate::buffer::{Buffer, Slice, SliceMut};
use crate::check::check_shape;
use crate::compose::stages;
use crate::element::{Element, Real};
use crate::error::{Error, Result};
use crate::optimizer::Optimizer;
use crate::parameter::Parameter;
use crate::rounding::{Rounding, Stream};
use crate::tensor::Tensor;
use crate::writer::Writer;

impl<T: Real> Optimizer<T> {
    /// Puts every parameter to its evaluation point x. The training point y is kept, and [`train`](Self::train)
    /// puts it back exactly. Neither does anything to parameters whose x is y: those that have not had a gradient, such as frozen
    /// ones and statistics of a normalisation, and all in a chain that does not average.
    ///
    /// The gradients in `parameters` are not looked at.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, Parameter};
    ///
    /// let mut optimizer: Optimizer = Optimizer::new(Descent::default(), [("w", &[1][..])])?;
    /// let mut w = [1.0_f32];
    /// optimizer.eval(&mut [Parameter::slice(&mut w, None)])?;
    /// assert!(optimizer.is_evaluating());
    /// assert!(optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0]))]).is_err()); // a gradient at x would be wrong
    /// optimizer.train(&mut [Parameter::slice(&mut w, None)])?;
    /// let mut x = [0.0_f32];
    /// optimizer.evaluation_point(0, &w, &mut x)?;
    /// assert_eq!(x, w); // plain descent averages nothing
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::EvaluationMode`] when called twice, and the shape errors of [`step`](Self::step).
    pub fn eval(&mut self, parameters: &mut [Parameter<'_>]) -> Result<()> {
        if self.evaluating.is_some() {
            return Err(Error::EvaluationMode);
        }
        self.check_values(parameters)?;
        let mut training = Vec::with_capacity(parameters.len());
        for (tensor, parameter) in self.tensors.iter().zip(parameters) {
            let mut value = parameter.value.as_mut_slice();
            // What does not move needs no copy, which would be as large as the frozen part of a network.
            let moves = tensor.base(&stages(&*self.groups[tensor.group].chain)).is_some();
            let is_kept = moves && !self.settings.compat.evaluation_moves_parameters;
            let mut copy = Buffer::zeros(value.dtype(), if is_kept { value.len() } else { 0 });
            if is_kept {
                copy_between(value.as_slice(), copy.as_mut_slice());
            }
            training.push(copy);
            self.at_base(tensor, &mut value, |writer, y, z| writer.evaluate(y, z));
            parameter.value.write_back();
        }
        self.evaluating = Some(training);
        Ok(())
    }

    /// Puts every parameter that `eval` moved back to its training point y.
    ///
    /// # Errors
    /// [`Error::TrainingMode`] without `eval` before, and the shape errors of [`step`](Self::step).
    pub fn train(&mut self, parameters: &mut [Parameter<'_>]) -> Result<()> {
        if self.evaluating.is_none() {
            return Err(Error::TrainingMode);
        }
        self.check_values(parameters)?;
        let training = self.evaluating.take().unwrap_or_default();
        for ((tensor, parameter), kept) in self.tensors.iter().zip(parameters).zip(training) {
            let mut value = parameter.value.as_mut_slice();
            if self.settings.compat.evaluation_moves_parameters {
                self.at_base(tensor, &mut value, |writer, x, z| writer.resume(x, z));
            } else if !kept.is_empty() {
                copy_between(kept.as_slice(), value);
            }
            parameter.value.write_back();
        }
        Ok(())
    }

    /// Whether the parameters are at the evaluation point.
    pub fn is_evaluating(&self) -> bool {
        self.evaluating.is_some()
    }

    /// Writes the evaluation point x of parameter `index` into `out`; `value` is the parameter at its training
    /// point y and is not touched.
    ///
    /// # Errors
    /// [`Error::NoSuch`]; [`Error::ShapeMismatch`] when a slice does not have the parameter's number of elements.
    pub fn evaluation_point<E: Element>(&self, index: usize, value: &[E], out: &mut [E]) -> Result<()> {
        let count = self.tensors.len();
        let tensor = self.tensors.get(index).ok_or(Error::NoSuch { what: "parameter", index, count })?;
        check_shape(tensor, "value", None, value.len())?;
        check_shape(tensor, "output", None, out.len())?;
        out.copy_from_slice(value);
        self.at_base(tensor, &mut E::slice_mut(out), |writer, y, z| writer.evaluate(y, z));
        Ok(())
    }

    /// Applies `f` to the parameter and its base iterate, tile by tile.
    fn at_base(
        &self,
        tensor: &Tensor<T>,
        value: &mut SliceMut<'_>,
        f: impl Fn(&dyn Writer<T>, &mut [T], &[T]),
    ) {
        let stages = stages(&*self.groups[tensor.group].chain);
        let Some(base) = tensor.base(&stages) else { return };
        let Some(writer) = stages.iter().find_map(|t| t.writer()) else { return };
        const PART: usize = 256;
        let (mut y, mut z) = ([T::zero(); PART], [T::zero(); PART]);
        let (mut value, mut base) = (value.reborrow(), base);
        let mut offset = 0;
        while !base.is_empty() {
            let n = base.len().min(PART);
            let (y, z) = (&mut y[..n], &mut z[..n]);
            let mut part = value.split_off_first(n);
            part.as_slice().load(y);
            base.split_off_first(n).load(z);
            f(writer, y, z);
            part.store(y, offset, Rounding::Nearest, Stream::new(0, 0, 0, 0));
            offset += n;
        }
    }
}

/// Copies between slices of one type and length.
fn copy_between(from: Slice<'_>, to: SliceMut<'_>) {
    match (from, to) {
        (Slice::F32(from), SliceMut::F32(to)) => to.copy_from_slice(from),
        (Slice::Bf16(from), SliceMut::Bf16(to)) => to.copy_from_slice(from),
        (Slice::F64(from), SliceMut::F64(to)) => to.copy_from_slice(from),
        _ => unreachable!("the element types were checked"),
    }
}
