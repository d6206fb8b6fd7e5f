//! Where candle's variables meet an optimizer.

use anyhow::{Context, Result, bail};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW};
use gradient_transform::{Error, Optimizer, Parameter, StepOutcome};

use crate::task::InitialParameter;

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The parameters moved.
    Taken,
    /// The named parameter's gradient has a NaN or an infinity; nothing moved.
    NonFiniteGradient(String),
}

/// A parameter that is being trained.
#[derive(Debug, Clone)]
pub struct Variable {
    /// The parameter's name.
    pub name: String,
    /// The values that gradients are taken with respect to.
    pub var: Var,
}

impl Variable {
    /// Puts a parameter's initial values where autograd can see them.
    pub fn new(initial: &InitialParameter) -> Result<Self> {
        let var = Var::from_slice(&initial.values, initial.shape.as_slice(), &Device::Cpu)
            .with_context(|| format!("parameter {}: its values don't fill its shape", initial.name))?;
        Ok(Self { name: initial.name.clone(), var })
    }
}

/// What a run needs from an optimizer.
pub trait TrainableOptimizer {
    /// Moves the variables by one step.
    fn step(&mut self, gradients: &GradStore) -> Result<Step>;

    /// The learning rate of the steps to come.
    fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()>;

    /// The weights to evaluate: an average where the optimizer keeps one, else the variables' own values.
    fn evaluation_weights(&self) -> Result<Vec<Tensor>>;

    /// Prodigy's step size, where it is adapted.
    fn d(&self) -> Option<f64>;
}

/// A chain of gradient transforms, fed with copies of candle's tensors.
pub struct Chain {
    optimizer: Optimizer<f32>,
    variables: Vec<Variable>,
    adapts: bool,
}

impl Chain {
    /// Drives `variables` with an optimizer that was built with their names and shapes in the same order;
    /// `adapts` says whether its `d` means anything.
    pub fn new(optimizer: Optimizer<f32>, variables: &[Variable], adapts: bool) -> Self {
        Self { optimizer, variables: variables.to_vec(), adapts }
    }
}

/// The names and shapes that an [`Optimizer`] registers.
pub fn shapes(variables: &[Variable]) -> impl Iterator<Item = (&str, &[usize])> {
    variables.iter().map(|variable| (variable.name.as_str(), variable.var.dims()))
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?)
}

impl TrainableOptimizer for Chain {
    fn step(&mut self, gradients: &GradStore) -> Result<Step> {
        let gradient_of =
            |variable: &Variable| gradients.get(variable.var.as_tensor()).map(values).transpose();
        let gradients = self.variables.iter().map(gradient_of).collect::<Result<Vec<_>>>()?;
        let mut weights = self
            .variables
            .iter()
            .map(|variable| values(variable.var.as_tensor()))
            .collect::<Result<Vec<_>>>()?;
        let mut parameters: Vec<Parameter<'_>> = weights
            .iter_mut()
            .zip(&gradients)
            .map(|(weights, gradient)| Parameter::slice(weights.as_mut_slice(), gradient.as_deref()))
            .collect();
        match self.optimizer.step(&mut parameters) {
            Ok(StepOutcome::Done) => {}
            Ok(StepOutcome::Skipped) => {
                bail!("the optimizer skipped a step; leave its policy on non-finite gradients at error")
            }
            Err(Error::NonFiniteGradient { name, .. }) => return Ok(Step::NonFiniteGradient(name)),
            Err(error) => return Err(error.into()),
        }
        for (variable, weights) in self.variables.iter().zip(weights) {
            variable.var.set(&Tensor::from_vec(weights, variable.var.dims(), &Device::Cpu)?)?;
        }
        Ok(Step::Taken)
    }

    fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        Ok(self.optimizer.set_lr(0, learning_rate)?)
    }

    fn evaluation_weights(&self) -> Result<Vec<Tensor>> {
        let point = |(index, variable): (usize, &Variable)| -> Result<Tensor> {
            let weights = values(variable.var.as_tensor())?;
            let mut averaged = vec![0.0; weights.len()];
            self.optimizer.evaluation_point(index, &weights, &mut averaged)?;
            Ok(Tensor::from_vec(averaged, variable.var.dims(), &Device::Cpu)?)
        };
        self.variables.iter().enumerate().map(point).collect()
    }

    fn d(&self) -> Option<f64> {
        let estimate = self.optimizer.estimate(0).ok()?;
        self.adapts.then_some(estimate.d)
    }
}

/// AdamW as candle ships it.
pub struct CandleAdamW {
    optimizer: AdamW,
    variables: Vec<Variable>,
}

impl CandleAdamW {
    /// Drives `variables` with `parameters`.
    pub fn new(variables: &[Variable], parameters: ParamsAdamW) -> Result<Self> {
        let vars = variables.iter().map(|variable| variable.var.clone()).collect();
        Ok(Self { optimizer: AdamW::new(vars, parameters)?, variables: variables.to_vec() })
    }
}

impl TrainableOptimizer for CandleAdamW {
    fn step(&mut self, gradients: &GradStore) -> Result<Step> {
        // candle would write the NaN into its moments; the run should end with the step that caused it.
        for variable in &self.variables {
            let gradient = gradients.get(variable.var.as_tensor()).map(values).transpose()?;
            if gradient.iter().flatten().any(|value| !value.is_finite()) {
                return Ok(Step::NonFiniteGradient(variable.name.clone()));
            }
        }
        self.optimizer.step(gradients)?;
        Ok(Step::Taken)
    }

    fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        self.optimizer.set_learning_rate(learning_rate);
        Ok(())
    }

    fn evaluation_weights(&self) -> Result<Vec<Tensor>> {
        Ok(self.variables.iter().map(|variable| variable.var.as_detached_tensor()).collect())
    }

    fn d(&self) -> Option<f64> {
        None
    }
}
