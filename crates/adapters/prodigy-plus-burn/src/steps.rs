//! Steps and gradient accumulation.

use burn::module::Module;
use burn::optim::{GradientsParams, LearningRate};
use gradient_transform::{Optimizer, Parameter, Published, Real, StepOutcome};

use crate::error::Result;
use crate::optimizer::ModuleOptimizer;
use crate::parameters::{Taken, put, take};

impl<T: Real> ModuleOptimizer<T> {
    /// One step of the module at a learning rate that multiplies every group's own: a factor of the estimated
    /// step size, usually 1. A parameter without a gradient stays as it is. A gradient may have a different
    /// type from its parameter, such as float32 that was accumulated for bfloat16; it is not rounded to the
    /// parameter's type first. A parameter in several places is stepped once, and all places get the result.
    ///
    /// # Errors
    /// A gradient that is not finite (or the step is skipped, if the options say so), a learning rate out of range,
    /// another module. Nothing has moved then.
    pub fn step<M: Module>(
        &mut self,
        lr: LearningRate,
        module: &mut M,
        gradients: GradientsParams,
    ) -> Result<StepOutcome> {
        self.moved(lr, module, gradients, |engine, parameters| engine.step(parameters))
    }

    /// Adds gradients up for the next step, which uses the mean of these and its own: for batches that do not
    /// fit in memory at once. See [`Optimizer::accumulate`].
    ///
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::optim::GradientsParams;
    /// use burn::tensor::{Device, Tensor};
    /// use prodigy_plus_burn::{Options, ProdigyPlus};
    ///
    /// let device = Device::flex().autodiff();
    /// let mut layer: Linear = LinearConfig::new(3, 2).init(&device);
    /// let mut optimizer = ProdigyPlus::new(&layer, &Options::default())?;
    /// let gradients = |layer: &Linear| {
    ///     let loss = layer.forward(Tensor::<2>::ones([1, 3], &device)).sum();
    ///     GradientsParams::from_grads(loss.backward(), layer)
    /// };
    /// optimizer.accumulate(&layer, gradients(&layer))?;
    /// let second = gradients(&layer);
    /// optimizer.step(1.0, &mut layer, second)?;
    /// assert_eq!(optimizer.engine().steps(0)?, 1);
    /// # Ok::<(), prodigy_plus_burn::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`step`](Self::step); nothing is added then.
    pub fn accumulate<M: Module>(&mut self, module: &M, gradients: GradientsParams) -> Result<StepOutcome> {
        let mut taken = take::<T, M>(module, gradients, self.engine.names())?;
        let parameters = taken.iter_mut().map(Taken::parameter).collect::<Result<Vec<_>>>()?;
        Ok(self.engine.accumulate(&parameters)?)
    }

    /// A step, if a rule accepts the norm of all gradients together; otherwise nothing moves, and the step
    /// counts as skipped. See
    /// [`Optimizer::step_if`].
    ///
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::optim::GradientsParams;
    /// use burn::tensor::{Device, Tensor};
    /// use gradient_transform::StepOutcome;
    /// use prodigy_plus_burn::{Options, ProdigyPlus};
    ///
    /// let device = Device::flex().autodiff();
    /// let mut layer: Linear = LinearConfig::new(3, 2).init(&device);
    /// let mut optimizer = ProdigyPlus::new(&layer, &Options::default())?;
    /// let loss = layer.forward(Tensor::<2>::ones([1, 3], &device)).sum() * 1e6;
    /// let gradients = GradientsParams::from_grads(loss.backward(), &layer);
    /// assert_eq!(optimizer.step_if(1.0, |norm| norm < 1e3, &mut layer, gradients)?, StepOutcome::Skipped);
    /// # Ok::<(), prodigy_plus_burn::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_if<M: Module>(
        &mut self,
        lr: LearningRate,
        rule: impl FnOnce(f64) -> bool,
        module: &mut M,
        gradients: GradientsParams,
    ) -> Result<StepOutcome> {
        self.moved(lr, module, gradients, |engine, parameters| engine.step_if(rule, parameters))
    }

    /// A step with a further value, such as the [loss](gradient_transform::Loss). See
    /// [`Optimizer::step_with`].
    ///
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::optim::GradientsParams;
    /// use burn::tensor::{Device, Tensor};
    /// use elementary::Polyak;
    /// use gradient_transform::{Descent, Loss};
    /// use prodigy_plus_burn::{Options, ProdigyPlus};
    ///
    /// let device = Device::flex().autodiff();
    /// let mut layer: Linear = LinearConfig::new(3, 2).init(&device);
    /// let mut optimizer = ProdigyPlus::new(&layer, &Options::default())?;
    /// optimizer.engine_mut().replace_chain(0, (Polyak::default(), Descent::default()))?;
    /// let loss = layer.forward(Tensor::<2>::ones([1, 3], &device)).powf_scalar(2.0).sum();
    /// let value = f64::from(loss.clone().into_scalar::<f32>());
    /// let gradients = GradientsParams::from_grads(loss.backward(), &layer);
    /// optimizer.step_with(1.0, Loss(value), &mut layer, gradients)?;
    /// # Ok::<(), prodigy_plus_burn::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn step_with<M: Module>(
        &mut self,
        lr: LearningRate,
        given: impl Published,
        module: &mut M,
        gradients: GradientsParams,
    ) -> Result<StepOutcome> {
        self.moved(lr, module, gradients, |engine, parameters| engine.step_with(given, parameters))
    }

    fn moved<M: Module>(
        &mut self,
        lr: LearningRate,
        module: &mut M,
        gradients: GradientsParams,
        step: impl FnOnce(&mut Optimizer<T>, &mut [Parameter<'_>]) -> gradient_transform::Result<StepOutcome>,
    ) -> Result<StepOutcome> {
        let mut taken = take::<T, M>(module, gradients, self.engine.names())?;
        let mut parameters = taken.iter_mut().map(Taken::parameter).collect::<Result<Vec<_>>>()?;
        let outcome = self.engine.at_lr_factor(lr, |engine| step(engine, &mut parameters))?;
        drop(parameters);
        if outcome == StepOutcome::Done {
            *module = put(module.clone(), taken);
        }
        Ok(outcome)
    }
}
