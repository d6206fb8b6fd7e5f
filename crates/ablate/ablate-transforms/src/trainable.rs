//! Optimizer of a training run.

use anyhow::Result;
use gradient_transform::{Recorder, Restored};

/// The parameters' names and shapes by group.
pub type Groups = Vec<Vec<(String, Vec<usize>)>>;

/// Outcome of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The parameters moved.
    Taken,
    /// The named parameter's gradient has a NaN, an infinity, or an element too large to square; nothing moved.
    UnusableGradient(String),
    /// The same of some parameter, where the optimizer skips such steps; nothing moved, and the run continues.
    Skipped,
}

/// Optimizer as a run needs it. Weights and gradients are in the order of the groups that it was built for.
pub trait TrainableOptimizer {
    /// Moves the weights by one step. `loss` is that of the batch.
    ///
    /// # Errors
    /// Anything but a gradient that is not finite.
    fn step(&mut self, weights: &mut [Vec<f32>], gradients: &[Option<Vec<f32>>], loss: f64) -> Result<Step>;

    /// Starts or ends the recording of steps; returns the previous recorder.
    fn set_recorder(&mut self, recorder: Option<Recorder>) -> Option<Recorder>;

    /// The learning rate of the steps to come.
    ///
    /// # Errors
    /// A learning rate out of range.
    fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()>;

    /// The weights to evaluate: an average where the optimizer keeps one, else the weights themselves.
    ///
    /// # Errors
    /// The weights are not those of the latest step.
    fn evaluation_weights(&self, weights: &[Vec<f32>]) -> Result<Vec<Vec<f32>>>;

    /// A group's d, where it is estimated, and the step size of the latest step.
    ///
    /// # Errors
    /// Fails if there is no such group.
    fn step_size(&self, group: usize) -> Result<(Option<f64>, f64)>;

    /// Bytes that it keeps between steps.
    fn state_bytes(&self) -> usize;

    /// Its state, for another optimizer of the same parameters to continue from.
    ///
    /// # Errors
    /// State that no file can hold.
    fn state(&self) -> Result<Vec<u8>>;

    /// Goes on from a state, of whatever chain: with what both chains keep, by transform and column, the rest as at a
    /// start. The weights move where the two average in different ways, so that the weights to evaluate stay.
    ///
    /// # Errors
    /// State of other parameters, or of other shapes.
    fn go_on(&mut self, state: &[u8], weights: &mut [Vec<f32>]) -> Result<Restored>;
}
