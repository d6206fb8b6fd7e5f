//! One run: an arm, a setting, a seed.

use anyhow::{Context, Result};
use candle_core::Tensor;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::time::Instant;

use crate::arm::{Arm, Setting};
use crate::optimizer::{Step, TrainableOptimizer, Variable};
use crate::task::{Evaluation, Split, Task};

/// Everything that determines a run's result.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    /// What is trained.
    pub task: &'a dyn Task,
    /// With what.
    pub arm: &'a Arm,
    /// The candidate, for a tuned arm.
    pub setting: Option<Setting>,
    /// The seed of the initialisation and the batches.
    pub seed: u64,
    /// How long.
    pub epochs: usize,
    /// The split that is evaluated at the end, beside training and validation: [`Split::Test`] for reported runs only.
    pub final_split: Split,
}

/// A point of the training curves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Epochs completed.
    pub epoch: usize,
    /// Over the whole training split, with the weights to evaluate.
    pub train: Evaluation,
    /// Over the validation split.
    pub validation: Evaluation,
}

/// From this step on (counted from 1), `d` has this value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DChange {
    /// The step after which the value was seen; 0 is the start.
    pub step: usize,
    /// Prodigy's step size.
    pub d: f64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// It took every step.
    Finished {
        /// The final weights on the plan's final split.
        evaluation: Evaluation,
    },
    /// A number stopped being finite.
    Diverged {
        /// The step (counted from 1) that could not be taken, or after which the loss was not finite.
        step: usize,
        /// What was seen.
        reason: String,
    },
}

/// What a run left behind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Record {
    /// The arm's name.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// The setting of a tuned arm.
    pub setting: Option<Setting>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Once before the first step and after every epoch.
    pub curve: Vec<CurvePoint>,
    /// The values that `d` took; empty where nothing adapts it.
    pub d: Vec<DChange>,
    /// Steps taken.
    pub steps: usize,
    /// SHA-256 of the initial parameters: equal across the arms of a seed.
    pub initial_sha256: String,
    /// SHA-256 of the batches in order: equal across the arms of a seed, for runs of the same length.
    pub batches_sha256: String,
    /// SHA-256 of the final weights: equal to the base's for an arm whose switch did nothing.
    pub final_sha256: String,
    /// Wall-clock seconds, while other runs shared the machine.
    pub seconds: f64,
}

impl Record {
    /// The final evaluation, unless the run diverged.
    pub fn evaluation(&self) -> Option<Evaluation> {
        match self.outcome {
            Outcome::Finished { evaluation } => Some(evaluation),
            Outcome::Diverged { .. } => None,
        }
    }

    /// The last value of `d`.
    pub fn final_d(&self) -> Option<f64> {
        self.d.last().map(|change| change.d)
    }

    /// The last point of the curves.
    pub fn last(&self) -> Option<&CurvePoint> {
        self.curve.last()
    }
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fingerprint(weights: &[Tensor]) -> Result<String> {
    let mut digest = Sha256::new();
    for tensor in weights {
        for value in tensor.flatten_all()?.to_vec1::<f32>()? {
            digest.update(value.to_le_bytes());
        }
    }
    Ok(hex(digest))
}

/// Trains once and records what happened; `on_epoch` hears of every point of the curves.
pub fn train(plan: &Plan<'_>, mut on_epoch: impl FnMut(&CurvePoint)) -> Result<Record> {
    let started = Instant::now();
    let Plan { task, arm, setting, seed, epochs, final_split } = *plan;
    let name_run = || format!("task {}, arm {}, seed {seed}", task.name(), arm.name);

    let variables: Vec<Variable> = task
        .initial_parameters(seed)
        .iter()
        .map(Variable::new)
        .collect::<Result<_>>()
        .with_context(name_run)?;
    let weights: Vec<Tensor> = variables.iter().map(|variable| variable.var.as_tensor().clone()).collect();
    let mut optimizer = arm.optimizer(&variables).with_context(name_run)?;

    let initial_sha256 = fingerprint(&weights)?;
    let mut batches_digest = Sha256::new();
    let mut curve = Vec::with_capacity(epochs + 1);
    let mut d_changes: Vec<DChange> = optimizer.d().map(|d| DChange { step: 0, d }).into_iter().collect();
    let mut steps = 0;

    let evaluate = |optimizer: &dyn TrainableOptimizer, epoch: usize| -> Result<CurvePoint> {
        let weights = optimizer.evaluation_weights()?;
        let train = task.evaluate(&weights, Split::Train)?;
        Ok(CurvePoint { epoch, train, validation: task.evaluate(&weights, Split::Validation)? })
    };
    let start = evaluate(optimizer.as_ref(), 0).with_context(name_run)?;
    on_epoch(&start);
    curve.push(start);

    let mut diverged = None;
    'training: for epoch in 0..epochs {
        let batches = task.epoch(seed, epoch);
        let total_steps = epochs * batches.len();
        for batch in &batches {
            for row in &batch.rows {
                batches_digest.update(row.to_le_bytes());
            }
            if let Some(setting) = setting {
                optimizer.set_learning_rate(setting.at(steps, total_steps))?;
            }
            let loss = task.training_loss(&weights, batch)?;
            let value = loss.to_scalar::<f32>()?;
            if !value.is_finite() {
                diverged = Some((steps + 1, format!("the training loss was {value}")));
                break 'training;
            }
            let step = optimizer.step(&loss.backward()?);
            match step.with_context(|| format!("{}, step {}", name_run(), steps + 1))? {
                Step::Taken => steps += 1,
                Step::NonFiniteGradient(name) => {
                    diverged = Some((steps + 1, format!("the gradient of {name} was not finite")));
                    break 'training;
                }
            }
            if let Some(d) = optimizer.d()
                && d_changes.last().is_none_or(|change| change.d != d)
            {
                d_changes.push(DChange { step: steps, d });
            }
        }
        let point = evaluate(optimizer.as_ref(), epoch + 1).with_context(name_run)?;
        if !(point.train.loss.is_finite() && point.validation.loss.is_finite()) {
            diverged = Some((steps, format!("the evaluated loss was {}", point.train.loss)));
            break;
        }
        on_epoch(&point);
        curve.push(point);
    }

    let final_weights = optimizer.evaluation_weights()?;
    let outcome = match diverged {
        Some((step, reason)) => Outcome::Diverged { step, reason },
        None => Outcome::Finished { evaluation: task.evaluate(&final_weights, final_split)? },
    };
    Ok(Record {
        arm: arm.name.to_owned(),
        seed,
        setting,
        outcome,
        curve,
        d: d_changes,
        steps,
        initial_sha256,
        batches_sha256: hex(batches_digest),
        final_sha256: fingerprint(&final_weights)?,
        seconds: started.elapsed().as_secs_f64(),
    })
}
