//! Evaluation mode for the lifetime of a guard.

use std::fmt;

use crate::error::{Error, Result};
use crate::memory::buffer::Slice;
use crate::memory::element::Real;
use crate::optimizer::Optimizer;
use crate::optimizer::parameter::Parameter;

/// Parameters at their evaluation points, until this is dropped: see [`Optimizer::evaluate`].
#[must_use = "the parameters return to their training points when this is dropped"]
pub struct Evaluating<'e, 'p, T: Real = f32> {
    optimizer: &'e mut Optimizer<T>,
    parameters: &'e mut [Parameter<'p>],
}

impl<T: Real> Optimizer<T> {
    /// Moves every parameter to its evaluation point x, as [`eval`](Self::eval) does, until the returned
    /// guard is dropped, even by an error or a panic.
    ///
    /// ```
    /// use gradient_transform::{Descent, Evaluating, Optimizer, Parameter, Slice};
    ///
    /// let mut optimizer = Optimizer::new(Descent::default(), [("w", [2])])?;
    /// let mut w = [1.0_f32, 2.0];
    /// let mut parameters = [Parameter::slice(&mut w, None)];
    /// let at_x: Evaluating<'_, '_> = optimizer.evaluate(&mut parameters)?;
    /// let Slice::F32(x) = at_x.value(0)? else { unreachable!("w is float32") };
    /// assert_eq!(x, [1.0, 2.0]); // plain descent averages nothing
    /// assert!(at_x.optimizer().is_evaluating());
    /// drop(at_x);
    /// assert!(!optimizer.is_evaluating());
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`eval`](Self::eval).
    pub fn evaluate<'e, 'p>(
        &'e mut self,
        parameters: &'e mut [Parameter<'p>],
    ) -> Result<Evaluating<'e, 'p, T>> {
        self.eval(parameters)?;
        Ok(Evaluating { optimizer: self, parameters })
    }
}

impl<T: Real> Evaluating<'_, '_, T> {
    /// The elements of parameter `index` in row-major order.
    ///
    /// # Errors
    /// [`Error::NoSuch`].
    pub fn value(&self, index: usize) -> Result<Slice<'_>> {
        let count = self.parameters.len();
        let parameter =
            self.parameters.get(index).ok_or(Error::NoSuch { what: "parameter", index, count })?;
        Ok(parameter.value.as_slice())
    }

    /// The optimizer, in evaluation mode: for a snapshot, or the estimate of the step size.
    pub fn optimizer(&self) -> &Optimizer<T> {
        self.optimizer
    }
}

impl<T: Real> Drop for Evaluating<'_, '_, T> {
    fn drop(&mut self) {
        // It is in evaluation mode, with the same parameters.
        let _ = self.optimizer.train(self.parameters);
    }
}

impl<T: Real> fmt::Debug for Evaluating<'_, '_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evaluating").field("optimizer", &self.optimizer).finish_non_exhaustive()
    }
}
