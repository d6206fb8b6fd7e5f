//! Steps and gradient accumulation.

use candle_core::backprop::GradStore;
use gradient_transform::{Published, Real, StepOutcome};

use crate::error::Result;
use crate::optimizer::VarOptimizer;

impl<T: Real> VarOptimizer<T> {
    /// One step. A variable without a gradient stays as it is. A gradient may have a different type from its
    /// variable, such as float32 that was accumulated for BF16; it is not rounded to the variable's type
    /// first.
    ///
    /// # Errors
    /// A gradient that is not finite (or the step is skipped, if the options say so), evaluation mode, a learning rate
    /// out of range. Nothing has moved then.
    pub fn step(&mut self, gradients: &GradStore) -> Result<StepOutcome> {
        let factor = self.learning_rate;
        self.with_gradients(gradients, |engine, parameters| {
            engine.at_lr_factor(factor, |engine| engine.step(parameters))
        })
    }

    /// Adds gradients up for the next step, which uses the mean of these and its own: for batches that do not
    /// fit in memory at once. No variable moves. See
    /// [`Optimizer::accumulate`](gradient_transform::Optimizer::accumulate).
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::{Init, VarMap};
    /// use gradient_transform::Descent;
    /// use prodigy_plus_candle::VarOptimizer;
    ///
    /// let map = VarMap::new();
    /// let w = map.get(1, "w", Init::Const(0.0), DType::F32, &Device::Cpu)?;
    /// let mut optimizer: VarOptimizer = VarOptimizer::from_chain(&map, Descent::default())?;
    /// for (micro_batch, slope) in [1.0, 2.0, 6.0].into_iter().enumerate() {
    ///     let gradients = (&w * slope)?.sum_all()?.backward()?;
    ///     if micro_batch < 2 {
    ///         optimizer.accumulate(&gradients)?;
    ///     } else {
    ///         optimizer.step(&gradients)?;
    ///     }
    /// }
    /// assert_eq!(w.to_vec1::<f32>()?, [-3.0]);
    /// # Ok::<(), prodigy_plus_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`step`](Self::step); nothing is added then.
    pub fn accumulate(&mut self, gradients: &GradStore) -> Result<StepOutcome> {
        self.with_gradients(gradients, |engine, parameters| engine.accumulate(parameters))
    }

    /// A step, if a rule accepts the norm of all gradients together; otherwise nothing moves, and the step
    /// counts as skipped. See
    /// [`Optimizer::step_if`](gradient_transform::Optimizer::step_if).
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::{Init, VarMap};
    /// use gradient_transform::{Descent, StepOutcome};
    /// use prodigy_plus_candle::VarOptimizer;
    ///
    /// let map = VarMap::new();
    /// let w = map.get(1, "w", Init::Const(0.0), DType::F32, &Device::Cpu)?;
    /// let mut optimizer: VarOptimizer = VarOptimizer::from_chain(&map, Descent::default())?;
    /// let gradients = (&w * 100.0)?.sum_all()?.backward()?;
    /// assert_eq!(optimizer.step_if(|norm| norm < 10.0, &gradients)?, StepOutcome::Skipped);
    /// assert_eq!((w.to_vec1::<f32>()?, optimizer.engine().skipped_steps()), (vec![0.0], 1));
    /// # Ok::<(), prodigy_plus_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_if(&mut self, rule: impl FnOnce(f64) -> bool, gradients: &GradStore) -> Result<StepOutcome> {
        let factor = self.learning_rate;
        self.with_gradients(gradients, |engine, parameters| {
            engine.at_lr_factor(factor, |engine| engine.step_if(rule, parameters))
        })
    }

    /// A step with a further value, such as the loss. See
    /// [`Optimizer::step_with`](gradient_transform::Optimizer::step_with).
    ///
    /// ```
    /// use candle_core::{DType, Device};
    /// use candle_nn::{Init, VarMap};
    /// use elementary::Polyak;
    /// use gradient_transform::{Descent, Loss};
    /// use prodigy_plus_candle::VarOptimizer;
    ///
    /// let map = VarMap::new();
    /// let w = map.get(1, "w", Init::Const(4.0), DType::F32, &Device::Cpu)?;
    /// let chain = (Polyak::default(), Descent::default());
    /// let mut optimizer: VarOptimizer = VarOptimizer::from_chain(&map, chain)?;
    /// let loss = w.sqr()?.sum_all()?;
    /// let value = f64::from(loss.to_scalar::<f32>()?);
    /// optimizer.step_with(Loss(value), &loss.backward()?)?;
    /// assert!((w.to_vec1::<f32>()?[0] - 2.0).abs() < 1e-5); // 16 / 8^2 times the gradient 8
    /// assert!(optimizer.step(&w.sqr()?.sum_all()?.backward()?).is_err()); // which loss?
    /// # Ok::<(), prodigy_plus_candle::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_with(&mut self, given: impl Published, gradients: &GradStore) -> Result<StepOutcome> {
        let factor = self.learning_rate;
        self.with_gradients(gradients, |engine, parameters| {
            engine.at_lr_factor(factor, |engine| engine.step_with(given, parameters))
        })
    }
}
