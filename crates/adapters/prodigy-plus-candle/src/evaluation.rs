use std::collections::HashMap;
use std::ops::Deref;

use candle_core::{DType, Tensor, Var, WithDType};
use gradient_transform::{Optimizer, Real, Scalar};

use crate::error::{Error, Result};
use crate::optimizer::VarOptimizer;

/// A guard of [`VarOptimizer::evaluate`]: the variables are at the evaluation point x while it lives.
///
/// Dropping it restores the training point y, even if an error or a panic leaves the scope. The guard gives
/// access to the optimizer.
///
/// ```
/// use candle_core::{DType, Device};
/// use candle_nn::{Init, VarMap};
/// use prodigy_plus_candle::{Evaluating, ProdigyPlus};
///
/// let map = VarMap::new();
/// let w = map.get(2, "w", Init::Const(1.0), DType::F32, &Device::Cpu)?;
/// let mut optimizer = ProdigyPlus::from_varmap(&map, &Default::default())?;
/// for _ in 0..3 {
///     optimizer.step(&w.sqr()?.sum_all()?.backward()?)?;
/// }
/// let y = w.to_vec1::<f32>()?;
/// let at_x: Evaluating<'_> = optimizer.evaluate()?;
/// assert!(at_x.engine().is_evaluating());
/// at_x.finish()?; // as dropping does, but returns an error if it fails
/// assert_eq!(w.to_vec1::<f32>()?, y);
/// # Ok::<(), prodigy_plus_candle::Error>(())
/// ```
#[must_use = "the variables return to the training point when this is dropped"]
pub struct Evaluating<'a, T: Real = f32>(&'a mut VarOptimizer<T>);

impl<T: Real> Evaluating<'_, T> {
    /// Restores the training point, as dropping does, and returns an error if that fails.
    ///
    /// # Errors
    /// A variable was given another shape or type meanwhile.
    pub fn finish(self) -> Result<()> {
        self.0.train()
        // The drop that follows does nothing.
    }
}

impl<T: Real> Deref for Evaluating<'_, T> {
    type Target = VarOptimizer<T>;

    fn deref(&self) -> &VarOptimizer<T> {
        self.0
    }
}

impl<T: Real> Drop for Evaluating<'_, T> {
    fn drop(&mut self) {
        let _ = self.0.train();
    }
}

impl<T: Real> VarOptimizer<T> {
    /// Moves the variables to the evaluation point x, for as long as the guard lives.
    ///
    /// Models with batch normalisation should see some training batches in this state before their statistics are used, as
    /// those were gathered at y (Schedule-Free's README, "Caveats").
    ///
    /// # Errors
    /// A variable was given another shape or type since the last step.
    pub fn evaluate(&mut self) -> Result<Evaluating<'_, T>> {
        self.at_variables(|engine, parameters| engine.eval(parameters))?;
        Ok(Evaluating(self))
    }

    /// The evaluation point x of every variable, by name, on its device. Save it for inference
    /// (`candle_core::safetensors::save`). Integer variables are included as they are. The variables do not
    /// change.
    ///
    /// # Errors
    /// A variable was given another shape or type since the last step.
    pub fn evaluation_tensors(&self) -> Result<HashMap<String, Tensor>> {
        evaluation_tensors(self.engine(), self.variables(), self.left_out())
    }
}

/// The evaluation points of variables, and the integer variables as they are.
pub(crate) fn evaluation_tensors<T: Real>(
    engine: &Optimizer<T>,
    variables: &[(String, Var)],
    integers: &[(String, Var)],
) -> Result<HashMap<String, Tensor>> {
    let tensor = |(index, (name, var)): (usize, &(String, Var))| {
        if engine.is_evaluating() {
            return Ok((name.clone(), var.copy()?));
        }
        let tensor = match var.dtype() {
            DType::F32 => point::<T, f32>(engine, index, var)?,
            DType::BF16 => point::<T, half::bf16>(engine, index, var)?,
            DType::F64 => point::<T, f64>(engine, index, var)?,
            dtype => return Err(Error::ElementType { name: name.clone(), dtype }),
        };
        Ok((name.clone(), tensor))
    };
    let integers = integers.iter().map(|(name, var)| Ok((name.clone(), var.copy()?)));
    variables.iter().enumerate().map(tensor).chain(integers).collect()
}

fn point<T: Real, E: Scalar + WithDType>(
    engine: &Optimizer<T>,
    index: usize,
    var: &Tensor,
) -> Result<Tensor> {
    let y = var.flatten_all()?.to_vec1::<E>()?;
    let mut x = y.clone();
    engine.evaluation_point(index, &y, &mut x)?;
    Ok(Tensor::from_vec(x, var.dims(), var.device())?)
}
