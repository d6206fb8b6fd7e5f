//! One run: a task, an optimizer, a seed.

use std::time::{Duration, Instant};

use ablate_tasks::{Evaluation, Split, Task};
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::optimizer::{Groups, OptimizerSpec, Setting, Step, TrainableOptimizer};
use crate::record::{GroupPoint, Outcome, Point, Record};
use crate::registry::Registry;

/// Everything that determines a run's result.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// The task.
    pub(crate) task: &'a dyn Task,
    /// With what.
    pub(crate) optimizer: &'a OptimizerSpec,
    /// The candidate, for a tuned arm.
    pub(crate) setting: Option<Setting>,
    /// The seed of initialisation, batches and rounding.
    pub(crate) seed: u64,
    /// Length of the run.
    pub(crate) steps: usize,
    /// Number of evaluations after the first.
    pub(crate) evaluations: usize,
    /// The split of the final evaluation: [`Split::Test`] for reported runs only.
    pub(crate) final_split: Split,
}

/// Answer of a caller to a point of the curves: whether the run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It does.
    Go,
    /// It is given up, and leaves nothing behind.
    Stop,
}

/// The parameters' names, shapes and places by group, and their values in the groups' order.
struct Parameters {
    groups: Groups,
    /// For each of the task's parameters its place in the groups' order.
    places: Vec<usize>,
    /// By group, the range of places.
    ranges: Vec<std::ops::Range<usize>>,
    weights: Vec<Vec<f32>>,
}

impl Parameters {
    fn initial(task: &dyn Task, seed: u64) -> Self {
        let parameters = task.initial_parameters(seed);
        let names = group_names(task);
        let mut order: Vec<usize> = (0..parameters.len()).collect();
        order.sort_by_key(|&index| names.iter().position(|name| *name == parameters[index].group));
        let mut places = vec![0; parameters.len()];
        for (place, &index) in order.iter().enumerate() {
            places[index] = place;
        }
        let mut groups: Groups = vec![Vec::new(); names.len()];
        for &index in &order {
            let group = names.iter().position(|name| *name == parameters[index].group).unwrap_or(0);
            groups[group].push((parameters[index].name.clone(), parameters[index].shape.clone()));
        }
        let mut end = 0;
        let range = |group: &Vec<_>| {
            let start = end;
            end += group.len();
            start..end
        };
        let ranges = groups.iter().map(range).collect();
        let weights = order.iter().map(|&index| parameters[index].values.clone()).collect();
        Self { groups, places, ranges, weights }
    }

    /// In the task's order.
    fn slices<'w>(&self, weights: &'w [Vec<f32>]) -> Vec<&'w [f32]> {
        self.places.iter().map(|&place| weights[place].as_slice()).collect()
    }

    /// From the task's order to that of the groups.
    fn sorted(&self, gradients: Vec<Option<Vec<f32>>>) -> Vec<Option<Vec<f32>>> {
        let mut sorted = vec![None; gradients.len()];
        for (gradient, &place) in gradients.into_iter().zip(&self.places) {
            sorted[place] = gradient;
        }
        sorted
    }
}

/// The names of a task's parameter groups, in the order of their first parameters.
pub(crate) fn group_names(task: &dyn Task) -> Vec<String> {
    let mut names = Vec::new();
    for parameter in task.initial_parameters(0) {
        if !names.contains(&parameter.group) {
            names.push(parameter.group);
        }
    }
    names
}

/// Trains once and records what happened. `on_point` hears of every point of the curves, `go_on` is asked before every
/// step. A run that is given up leaves no record.
///
/// # Errors
/// The optimizer cannot be built, or the task failed.
pub(crate) fn train(
    plan: &Plan<'_>,
    registry: &Registry,
    mut on_point: impl FnMut(&Point),
    go_on: impl Fn() -> Next,
) -> Result<Option<Record>> {
    let Plan { task, seed, steps, .. } = *plan;
    let mut parameters = Parameters::initial(task, seed);
    let mut optimizer = plan.optimizer.build(registry, &parameters.groups, seed, steps)?;
    let mut weights = std::mem::take(&mut parameters.weights);
    let mut run = Observed::new(&weights);
    let start = run.point(plan, &parameters, optimizer.as_ref(), &weights, None)?;
    on_point(&start);
    run.curve.push(start);

    let mut diverged = None;
    let mut next_evaluation = 1;
    for step in 0..steps {
        if go_on() == Next::Stop {
            return Ok(None);
        }
        let in_step = || format!("step {} of seed {seed}", step + 1);
        let started = Instant::now();
        if let Some(setting) = plan.setting {
            optimizer.set_learning_rate(setting.at(step, steps))?;
        }
        let batch = task.batch(seed, step);
        run.saw(&batch.examples, step);
        let gradients = task.gradients(&parameters.slices(&weights), &batch).with_context(in_step)?;
        // The last step before an evaluation is looked at more closely.
        let is_evaluated = step + 1 == evaluation_step(next_evaluation, plan.evaluations, steps);
        let before = is_evaluated.then(|| weights.clone());
        match optimizer.step(&mut weights, &parameters.sorted(gradients.of)).with_context(in_step)? {
            Step::Skipped => run.skipped(started.elapsed()),
            _ if !gradients.loss.is_finite() => {
                diverged = Some((step + 1, format!("the training loss was {}", gradients.loss)));
                break;
            }
            Step::Taken => run.stepped(gradients.loss, started.elapsed()),
            Step::UnusableGradient(name) => {
                diverged = Some((step + 1, format!("the gradient of {name} was not finite, or too large")));
                break;
            }
        }
        if is_evaluated {
            let point = run.point(plan, &parameters, optimizer.as_ref(), &weights, before)?;
            if !(point.train.is_finite() && point.validation.is_finite()) {
                diverged = Some((step + 1, format!("the evaluated loss was {}", point.train.loss)));
                break;
            }
            on_point(&point);
            run.curve.push(point);
            while evaluation_step(next_evaluation, plan.evaluations, steps) <= step + 1
                && next_evaluation < plan.evaluations
            {
                next_evaluation += 1;
            }
        }
    }

    let outcome = match diverged {
        Some((step, reason)) => Outcome::Diverged { step, reason },
        None => {
            let final_weights = optimizer.evaluation_weights(&weights)?;
            let evaluation = task.evaluate(&parameters.slices(&final_weights), plan.final_split)?;
            if evaluation.is_finite() {
                Outcome::Finished { evaluation }
            } else {
                Outcome::Diverged { step: steps, reason: format!("the final loss was {}", evaluation.loss) }
            }
        }
    };
    Ok(Some(run.record(outcome, optimizer.state_bytes())))
}

/// The step after which the evaluation of this number (from 1) takes place: evenly spaced, the last one at the end.
fn evaluation_step(number: usize, evaluations: usize, steps: usize) -> usize {
    (number * steps).div_ceil(evaluations.min(steps)).min(steps)
}

/// Observations of a run while it goes on.
struct Observed {
    curve: Vec<Point>,
    steps: usize,
    skipped: usize,
    losses: Vec<f64>,
    spent: Duration,
    initial: String,
    batches: Sha256,
    trajectory: Sha256,
}

impl Observed {
    fn new(weights: &[Vec<f32>]) -> Self {
        let mut initial = Sha256::new();
        absorb(&mut initial, weights);
        Self {
            curve: Vec::new(),
            steps: 0,
            skipped: 0,
            losses: Vec::new(),
            spent: Duration::ZERO,
            initial: hex(initial),
            batches: Sha256::new(),
            trajectory: Sha256::new(),
        }
    }

    fn saw(&mut self, examples: &[u32], step: usize) {
        self.batches.update((step as u64).to_le_bytes());
        for example in examples {
            self.batches.update(example.to_le_bytes());
        }
    }

    fn stepped(&mut self, loss: f64, took: Duration) {
        self.steps += 1;
        self.losses.push(loss);
        self.spent += took;
    }

    /// Nothing moved, and time went on. Its loss is no number that a mean could have.
    fn skipped(&mut self, took: Duration) {
        self.steps += 1;
        self.skipped += 1;
        self.spent += took;
    }

    fn point(
        &mut self,
        plan: &Plan<'_>,
        parameters: &Parameters,
        optimizer: &dyn TrainableOptimizer,
        weights: &[Vec<f32>],
        before: Option<Vec<Vec<f32>>>,
    ) -> Result<Point> {
        let evaluated = optimizer.evaluation_weights(weights)?;
        absorb(&mut self.trajectory, weights);
        absorb(&mut self.trajectory, &evaluated);
        let evaluate = |split| -> Result<Evaluation> {
            let in_evaluation = || format!("evaluation after step {} of seed {}", self.steps, plan.seed);
            plan.task.evaluate(&parameters.slices(&evaluated), split).with_context(in_evaluation)
        };
        let groups = parameters
            .ranges
            .iter()
            .enumerate()
            .map(|(group, range)| {
                let (d, step_size) = optimizer.step_size(group)?;
                let change =
                    before.as_ref().map(|before| change(&before[range.clone()], &weights[range.clone()]));
                Ok(GroupPoint {
                    d,
                    step_size,
                    update_rms: change.map(|(rms, _)| rms),
                    moved: change.map(|(_, moved)| moved),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let (train, validation) = (evaluate(Split::Train)?, evaluate(Split::Validation)?);
        let batch_loss =
            (!self.losses.is_empty()).then(|| self.losses.iter().sum::<f64>() / self.losses.len() as f64);
        self.losses.clear();
        Ok(Point {
            step: self.steps,
            batch_loss,
            train,
            validation,
            groups,
            seconds: self.spent.as_secs_f64(),
        })
    }

    fn record(self, outcome: Outcome, state_bytes: usize) -> Record {
        Record {
            outcome,
            curve: self.curve,
            steps: self.steps,
            skipped: self.skipped,
            state_bytes: Some(state_bytes),
            initial_sha256: self.initial,
            batches_sha256: hex(self.batches),
            trajectory_sha256: hex(self.trajectory),
        }
    }
}

/// Root mean square of a step's change, and the share of weights that it changed.
fn change(before: &[Vec<f32>], after: &[Vec<f32>]) -> (f64, f64) {
    let (mut squares, mut moved, mut count) = (0.0, 0_usize, 0_usize);
    for (before, after) in before.iter().flatten().zip(after.iter().flatten()) {
        let change = f64::from(after - before);
        squares += change * change;
        moved += usize::from(before != after);
        count += 1;
    }
    let count = count.max(1) as f64;
    ((squares / count).sqrt(), moved as f64 / count)
}

fn absorb(digest: &mut Sha256, weights: &[Vec<f32>]) {
    for value in weights.iter().flatten() {
        digest.update(value.to_le_bytes());
    }
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_are_evenly_spaced_and_the_last_one_is_at_the_end() {
        let steps = |evaluations: usize, steps: usize| -> Vec<usize> {
            (1..=evaluations.min(steps)).map(|number| evaluation_step(number, evaluations, steps)).collect()
        };
        assert_eq!(steps(4, 100), [25, 50, 75, 100]);
        assert_eq!(steps(3, 10), [4, 7, 10]);
        assert_eq!(steps(20, 3), [1, 2, 3]);
        assert_eq!(steps(1, 7), [7]);
    }

    #[test]
    fn a_change_is_measured_over_all_weights() {
        let (rms, moved) = change(&[vec![0.0, 1.0], vec![2.0, 2.0]], &[vec![3.0, 1.0], vec![2.0, -2.0]]);
        assert_eq!((rms, moved), (2.5, 0.5));
    }
}
