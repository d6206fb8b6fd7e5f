//! Chain of transforms as a run needs it.

use anyhow::Result;
use gradient_transform::{
    Error, Estimate, Loss, Optimizer, Parameter, Recorder, RestoreOptions, Restored, StepOutcome,
};

use crate::trainable::{Groups, Step, TrainableOptimizer};

/// A chain of gradient transforms.
///
/// The engine is compiled here for its type, with optimisation; `ablate` itself is compiled without.
///
/// ```
/// use ablate_transforms::{Chain, Groups, Step, TrainableOptimizer};
/// use gradient_transform::{Descent, Optimizer, Recorder};
///
/// let groups: Groups = vec![vec![("w".into(), vec![2])]];
/// let mut chain = Chain::new(Optimizer::new(Descent::default(), [("w", [2])])?, &groups);
/// let mut weights = vec![vec![1.0, 1.0]];
/// assert_eq!(chain.step(&mut weights, &[Some(vec![0.5, -0.5])], 0.25)?, Step::Taken);
/// assert_eq!(weights, [[0.5, 1.5]]);
/// assert_eq!((chain.step_size(0)?, chain.state_bytes()), ((None, 1.0), 0));
///
/// // Another continues from there, with another learning rate and a recorder.
/// let mut other = Chain::new(Optimizer::new(Descent::default(), [("w", [2])])?, &groups);
/// other.go_on(&chain.state()?, &mut weights)?;
/// other.set_learning_rate(0.5)?;
/// other.set_recorder(Some(Recorder::every(1)?));
/// other.step(&mut weights, &[Some(vec![1.0, 1.0])], 0.25)?;
/// assert_eq!(other.evaluation_weights(&weights)?, [[0.0, 1.0]]);
/// assert_eq!(other.set_recorder(None).unwrap().records().len(), 1);
/// # Ok::<(), anyhow::Error>(())
/// ```
pub struct Chain {
    optimizer: Optimizer<f32>,
    sizes: Vec<usize>,
}

impl Chain {
    /// Drives the parameters of an optimizer that was built for `groups`.
    pub fn new(optimizer: Optimizer<f32>, groups: &Groups) -> Self {
        let sizes = groups.iter().flatten().map(|(_, shape)| shape.iter().product()).collect();
        Self { optimizer, sizes }
    }
}

impl TrainableOptimizer for Chain {
    fn step(&mut self, weights: &mut [Vec<f32>], gradients: &[Option<Vec<f32>>], loss: f64) -> Result<Step> {
        let mut parameters: Vec<Parameter<'_>> = weights
            .iter_mut()
            .zip(gradients)
            .map(|(weights, gradient)| Parameter::slice(weights.as_mut_slice(), gradient.as_deref()))
            .collect();
        match self.optimizer.step_with(Loss(loss), &mut parameters) {
            Ok(StepOutcome::Done) => Ok(Step::Taken),
            Ok(StepOutcome::Skipped) => Ok(Step::Skipped),
            Err(Error::NonFiniteGradient { name, .. } | Error::GradientTooLarge { name, .. }) => {
                Ok(Step::UnusableGradient(name))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn set_recorder(&mut self, recorder: Option<Recorder>) -> Option<Recorder> {
        self.optimizer.set_recorder(recorder)
    }

    fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        Ok(self.optimizer.set_lr_everywhere(learning_rate)?)
    }

    fn evaluation_weights(&self, weights: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let point = |(index, weights): (usize, &Vec<f32>)| {
            let mut averaged = vec![0.0; self.sizes[index]];
            self.optimizer.evaluation_point(index, weights.as_slice(), averaged.as_mut_slice())?;
            Ok(averaged)
        };
        weights.iter().enumerate().map(point).collect()
    }

    fn step_size(&self, group: usize) -> Result<(Option<f64>, f64)> {
        let estimate = self.optimizer.estimate(group)?;
        let estimated = estimate != Estimate::FIXED;
        Ok((estimated.then_some(estimate.d), self.optimizer.latest_step(group)?.step_size))
    }

    fn state_bytes(&self) -> usize {
        self.optimizer.state_bytes()
    }

    fn state(&self) -> Result<Vec<u8>> {
        Ok(checkpoint::to_bytes(&self.optimizer)?)
    }

    fn go_on(&mut self, state: &[u8], weights: &mut [Vec<f32>]) -> Result<Restored> {
        let mut parameters: Vec<Parameter<'_>> =
            weights.iter_mut().map(|weights| Parameter::slice(weights.as_mut_slice(), None)).collect();
        let options = RestoreOptions { parameters: Some(&mut parameters), ..RestoreOptions::default() };
        Ok(checkpoint::from_bytes_with(state, &mut self.optimizer, options)?)
    }
}
