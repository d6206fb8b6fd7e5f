//! Record of a run.
//!
//! With a study of one factor, one baseline and two seeds (in `execution`):
//!
//! ```
//! use ablate::record::{Forked, GroupPoint, LinkPoint, Outcome, Point, Record};
//!
//! # use ablate::{execute::Execution, registry::Registry, store::Store, study::{Overrides, Study}};
//! # let text = r#"
//! #     tasks = ["digits"]
//! #     seeds = 2
//! #     length = 0.01
//! #     baselines = ["sgd"]
//! #     tuning = { rates = [0.1], seeds = 1 }
//! #     [[factor]]
//! #     name = "cautious"
//! #     on = { use_cautious = true }
//! # "#;
//! # let registry = Registry::shipped();
//! # let study = Study::parse("mine", text, &registry, &Overrides::default())?;
//! # let folder = tempfile::tempdir()?;
//! # let store = Store::open(folder.path())?;
//! # let execution = Execution::new(&study, &registry, &store);
//! let results = execution.results(&())?;
//! let record: &Record = &results.tasks[0].arms[0].runs[0].record;
//! let Outcome::Finished { evaluation } = record.outcome else { panic!("it diverged") };
//! assert_eq!(record.evaluation(), Some(evaluation));
//! let last: &Point = record.last().unwrap();
//! assert_eq!(last.step, record.steps);
//! let GroupPoint { d, step_size, ref links, .. } = last.groups[0];
//! assert!(d.unwrap() >= 1e-6 && step_size > 0.0);
//! let first: &LinkPoint = &links[0];
//! assert!(first.link == "factored-moment" && first.gain().unwrap() > 0.0);
//! assert!(record.findings.is_empty()); // d is as it should be, or there are too few points to tell
//! let forked: Option<&Forked> = record.forked.as_ref();
//! assert!(forked.is_none()); // it began at its start
//! # Ok::<(), anyhow::Error>(())
//! ```

use ablate_tasks::Evaluation;
use prodigy_plus::Finding;
use serde::{Deserialize, Serialize};

/// Work of a link of the chain on a group's update, in the latest step before a point of the curves: over all tensors
/// that it applies to, and of long ones from a sample ([`Recorder`](gradient_transform::Recorder)).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkPoint {
    /// Its name.
    pub link: String,
    /// Norm of the update before it; absent where that is not finite.
    pub before: Option<f64>,
    /// Norm of the update after it, which is the displacement where it is a writer; absent where that is not finite.
    pub after: Option<f64>,
    /// Cosine of the angle between the two; absent where one of them is 0 or not finite.
    pub cosine: Option<f64>,
    /// Share of the elements that it changed.
    pub changed: f64,
}

impl LinkPoint {
    /// Norm after it over the norm before it; absent where the latter is 0, or one of them not finite.
    pub fn gain(&self) -> Option<f64> {
        Some(self.after? / self.before?).filter(|gain| gain.is_finite())
    }
}

/// A parameter group, as it was at a point of the curves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupPoint {
    /// Prodigy's estimate; absent where nothing estimates it.
    pub d: Option<f64>,
    /// The effective learning rate, lr * d where d is estimated.
    pub step_size: f64,
    /// Root mean square of the change that the latest step made to the weights; absent before the first step.
    pub update_rms: Option<f64>,
    /// The share of weights that the latest step changed: 1 unless something masks them, as Cautious does.
    pub moved: Option<f64>,
    /// The links of its chain, in order; none before the first step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkPoint>,
}

/// A point of the training curves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps taken, and skipped.
    pub step: usize,
    /// The mean loss of the batches since the point before, at the training point; absent at the start, and where every
    /// step was skipped.
    pub batch_loss: Option<f64>,
    /// Over the training split, with the weights to evaluate.
    pub train: Evaluation,
    /// Over the validation split.
    pub validation: Evaluation,
    /// By parameter group, in the task's order.
    pub groups: Vec<GroupPoint>,
    /// Seconds of gradients and steps until here, without evaluations, while other runs shared the machine.
    pub seconds: f64,
}

/// End of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// It took every step.
    Finished {
        /// The final weights on the run's final split.
        evaluation: Evaluation,
    },
    /// A number stopped being finite: a result like another, and the worst one.
    Diverged {
        /// The step (counted from 1) that could not be taken, or after which the loss was not finite.
        step: usize,
        /// The value.
        reason: String,
    },
}

/// Beginning of a run that continues from the state of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forked {
    /// Steps that the other run had taken.
    pub step: usize,
    /// State that the other run's chain did not have, as `transform/column`, or `estimate` for d. It starts fresh.
    pub anew: Vec<String>,
    /// State of the other run's chain that this one does not have.
    pub left_out: Vec<String>,
}

/// Record of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Before the first step, and then evenly spaced until the last.
    pub curve: Vec<Point>,
    /// Steps taken, and skipped.
    pub steps: usize,
    /// Steps that the optimizer skipped because a gradient was not finite, according to its option `non_finite`.
    #[serde(default)]
    pub skipped: usize,
    /// Bytes that the optimizer keeps between steps; absent where it doesn't say.
    pub state_bytes: Option<usize>,
    /// SHA-256 of the initial parameters: equal across the arms of a seed.
    pub initial_sha256: String,
    /// SHA-256 of the batches in order: equal across the arms of a seed, for runs of the same length.
    pub batches_sha256: String,
    /// SHA-256 of the training and evaluation weights at every point of the curve: equal to the base's for an arm that
    /// does nothing.
    pub trajectory_sha256: String,
    /// Beginning of a run that was forked from another one; absent if it began at its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked: Option<Forked>,
    /// Causes of a wrong d that the steps before the points of the curves show.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

impl Record {
    /// The final evaluation, unless the run diverged.
    pub fn evaluation(&self) -> Option<Evaluation> {
        match self.outcome {
            Outcome::Finished { evaluation } => Some(evaluation),
            Outcome::Diverged { .. } => None,
        }
    }

    /// The last point of the curves.
    pub fn last(&self) -> Option<&Point> {
        self.curve.last()
    }
}
