//! Steps that depend on the gradients' norm, which is taken on the device.

use smallvec::smallvec;

use crate::device::optimizer::device;
use crate::device::pointwise::Kind;
use crate::device::{DeviceParameter, Executor, OnDevice, SweepBatch, TensorSweep};
use crate::error::Result;
use crate::memory::element::Real;
use crate::memory::rounding::Rounding;
use crate::optimizer::step::StepOutcome;

impl<T: Real, E: Executor<T>> OnDevice<E, T> {
    /// A step, if `rule` accepts the norm of all its gradients together; otherwise nothing moves, and the step counts as skipped. See
    /// [`Optimizer::step_if`](crate::Optimizer::step_if). The norm is a sum in the type of the computation, as those of transforms are, and that of the
    /// processor to about 6 digits. One that is not finite is left to the step.
    ///
    /// ```
    /// use gradient_transform::device::{DeviceParameter, Interpreter, OnDevice};
    /// use gradient_transform::{Buffer, Descent, Optimizer, StepOutcome};
    ///
    /// let optimizer = Optimizer::new(Descent::default(), [("w", [2])])?;
    /// let mut optimizer = OnDevice::new(optimizer, Interpreter)?;
    /// let mut w = Buffer::F32(vec![0.0, 0.0]);
    /// for (gradient, expected) in [([3.0, 4.0], StepOutcome::Done), ([30.0, 40.0], StepOutcome::Skipped)] {
    ///     let gradient = Some(&Buffer::F32(gradient.to_vec()));
    ///     let outcome = optimizer.step_if(|norm| norm < 10.0, &mut [DeviceParameter { value: &mut w, gradient }])?;
    ///     assert_eq!(outcome, expected);
    /// }
    /// assert_eq!(w, Buffer::F32(vec![-3.0, -4.0]));
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_if(
        &mut self,
        rule: impl FnOnce(f64) -> bool,
        parameters: &mut [DeviceParameter<'_, E::Array>],
    ) -> Result<StepOutcome> {
        self.usable_still()?;
        self.check_all(parameters)?;
        self.check_apart(parameters)?;
        let norm = self.norm(parameters)?;
        if !norm.is_finite() || rule(norm) {
            return self.step(parameters);
        }
        Ok(self.skip())
    }

    /// The norm of the gradients of a step, or of their means with those that were accumulated, all together.
    fn norm(&mut self, parameters: &mut [DeviceParameter<'_, E::Array>]) -> Result<f64> {
        let Self { optimizer, executor, pointwise, accumulated, .. } = self;
        let part = T::of(1.0 / (optimizer.accumulated + 1) as f64);
        let mut squares = vec![0.0; parameters.len()];
        let (mut of_one, mut of_two) = (Vec::new(), Vec::new());
        let tensors = optimizer.tensors.iter().zip(accumulated).zip(parameters).zip(&mut squares);
        for (((tensor, sum), parameter), square) in tensors {
            // Nothing is written.
            let (sweeps, array, other) = match (sum, parameter.gradient) {
                (Some(sum), Some(gradient)) => (&mut of_two, sum, gradient),
                (Some(sum), None) => (&mut of_one, &mut *parameter.value, &*sum),
                (None, Some(gradient)) => (&mut of_one, &mut *parameter.value, gradient),
                (None, None) => continue,
            };
            sweeps.push(TensorSweep {
                shape: &tensor.info.shape,
                numbers: smallvec![part],
                along: smallvec![],
                parameter: array,
                gradient: other,
                columns: &mut [],
                rounding: Rounding::Nearest,
                parameter_stream: 0,
                column_streams: smallvec![],
                sums: std::slice::from_mut(square),
                sums_along: smallvec![],
            });
        }
        let kinds = [(Kind::Square, of_one), (Kind::SquareOfSum, of_two)];
        let given = kinds.into_iter().filter(|(_, tensors)| !tensors.is_empty());
        let mut batches: Vec<SweepBatch<'_, T, E::Array>> =
            given.map(|(kind, tensors)| SweepBatch { formula: pointwise.formula(kind), tensors }).collect();
        if !batches.is_empty() {
            executor.sweep(&mut batches).map_err(device)?;
        }
        drop(batches);
        Ok(squares.iter().sum::<f64>().sqrt())
    }
}
