use anyhow::Result;
use serde::{Deserialize, Serialize};

/// A parameter's name, group, shape and initial values.
///
/// ```
/// use ablate_tasks::InitialParameter;
///
/// let bias = InitialParameter::new("bias", &[2], vec![0.0, 0.0]).in_group("biases");
/// assert_eq!((bias.group.as_str(), bias.shape, bias.values), ("biases", vec![2], vec![0.0, 0.0]));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct InitialParameter {
    /// The name, unique within the task.
    pub name: String,
    /// The parameter group that it belongs to; the groups' order is that of their first parameters. Most tasks have
    /// one, called `all`.
    pub group: String,
    /// The shape.
    pub shape: Vec<usize>,
    /// The values in row-major order.
    pub values: Vec<f32>,
}

impl InitialParameter {
    /// A parameter of the group `all`.
    pub fn new(name: impl Into<String>, shape: &[usize], values: Vec<f32>) -> Self {
        Self { name: name.into(), group: "all".into(), shape: shape.to_vec(), values }
    }

    /// The same in another group.
    #[must_use]
    pub fn in_group(self, group: impl Into<String>) -> Self {
        Self { group: group.into(), ..self }
    }
}

/// Data of one training step: a function of the seed and the step only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Batch {
    /// The run's seed.
    pub seed: u64,
    /// The step, from 0.
    pub step: usize,
    /// Positions in the training split; empty where there are no examples.
    pub examples: Vec<u32>,
}

/// The loss of a batch and its gradients.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// The mean loss of the batch.
    pub loss: f64,
    /// By parameter, in the order of [`Task::initial_parameters`]; `None` for one that the loss doesn't depend on.
    pub of: Vec<Option<Vec<f32>>>,
}

/// Part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// For the optimizer.
    Train,
    /// For tuning, and for steps to a target.
    Validation,
    /// Measured once, at the end of a reported run.
    Test,
}

/// Loss and accuracy over a whole split.
///
/// ```
/// use ablate_tasks::Evaluation;
///
/// assert!(Evaluation { loss: 0.5, accuracy: None }.is_finite());
/// assert!(!Evaluation { loss: f64::INFINITY, accuracy: Some(0.1) }.is_finite());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The mean loss.
    pub loss: f64,
    /// The share of examples that were predicted correctly, 0 to 1, where something is predicted.
    pub accuracy: Option<f64>,
}

impl Evaluation {
    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.accuracy.is_none_or(f64::is_finite)
    }
}

/// Description of a task, for study files, reports and people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// One paragraph: data, splits, model, initialisation, loss, batches.
    pub description: String,
    /// Why it is there: what it shows about optimizers that others don't.
    pub reason: String,
    /// Measure that arms are compared by.
    pub measure: Measure,
    /// The value of the measure, on the validation split, that counts as reached.
    pub target: f64,
    /// Examples in the test split, where there are any: what limits how finely it can tell.
    pub test_examples: Option<usize>,
    /// The length of a run in steps, if nothing else is asked for.
    pub steps: usize,
}

/// Measure that arms are compared by.
///
/// ```
/// use ablate_tasks::{Evaluation, Measure};
///
/// let found = Evaluation { loss: 0.01, accuracy: Some(0.9) };
/// assert_eq!([Measure::Accuracy, Measure::Loss, Measure::LogLoss].map(|m| m.of(&found)), [0.9, 0.01, -2.0]);
/// assert!(Measure::Accuracy.higher_is_better() && Measure::Accuracy.reaches(&found, 0.9));
/// assert!(Measure::LogLoss.reaches(&found, 0.02)); // a loss, not its logarithm
/// assert_eq!(Measure::LogLoss.name(), "log10 loss");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// The share of correct predictions: higher is better.
    Accuracy,
    /// The loss: lower is better.
    Loss,
    /// The decimal logarithm of the loss, for losses that fall towards zero by decades: lower is better.
    LogLoss,
}

impl Measure {
    /// The value that is compared. It may be infinite for a loss of zero.
    pub fn of(self, evaluation: &Evaluation) -> f64 {
        match self {
            Self::Accuracy => evaluation.accuracy.unwrap_or(f64::NAN),
            Self::Loss => evaluation.loss,
            Self::LogLoss => evaluation.loss.log10(),
        }
    }

    /// Whether a higher value is better.
    pub fn higher_is_better(self) -> bool {
        self == Self::Accuracy
    }

    /// Whether an evaluation reaches `target`, an accuracy or a loss (not its logarithm).
    pub fn reaches(self, evaluation: &Evaluation, target: f64) -> bool {
        match self {
            Self::Accuracy => evaluation.accuracy.is_some_and(|accuracy| accuracy >= target),
            Self::Loss | Self::LogLoss => evaluation.loss <= target,
        }
    }

    /// As a person writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Loss => "loss",
            Self::LogLoss => "log10 loss",
        }
    }
}

/// Something to train.
///
/// Everything random depends on the seed and the step only, never on the weights or on earlier calls: that is what
/// makes the differences between arms *paired*. Methods are called from several threads at once, for different runs.
pub trait Task: Send + Sync {
    /// Its description.
    fn about(&self) -> About;

    /// The parameters before the first step.
    fn initial_parameters(&self, seed: u64) -> Vec<InitialParameter>;

    /// Data of a step of a run, counted from 0.
    fn batch(&self, seed: u64, step: usize) -> Batch;

    /// Loss and gradients at `weights`, which are in the order of [`initial_parameters`](Self::initial_parameters).
    /// A loss or gradient that is not finite is a result, not an error.
    ///
    /// # Errors
    /// The library that computes the task failed.
    fn gradients(&self, weights: &[&[f32]], batch: &Batch) -> Result<Gradients>;

    /// Loss and accuracy over a whole split.
    ///
    /// # Errors
    /// The library that computes the task failed.
    fn evaluate(&self, weights: &[&[f32]], split: Split) -> Result<Evaluation>;
}
