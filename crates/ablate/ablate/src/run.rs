//! One run: a task, an optimizer, a seed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ablate_tasks::{Evaluation, Split, Task};
use anyhow::{Context, Result, ensure};
use gradient_transform::{Recorder, Restored};
use prodigy_plus::{Finding, diagnose};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::links;
use crate::optimizer::{Groups, OptimizerSpec, Setting, Step, TrainableOptimizer};
use crate::prefix::Prefix;
use crate::record::{Forked, GroupPoint, Outcome, Point, Record};
use crate::registry::Registry;

/// Everything that determines a run's result.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// The task.
    pub(crate) task: &'a dyn Task,
    /// The optimizer.
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
    /// State from which it continues; absent for a run from its start.
    pub(crate) from: Option<&'a Prefix>,
}

/// Steps after which a run's state is kept, and what becomes of it.
pub(crate) struct Keep<'k> {
    pub(crate) steps: &'k [usize],
    pub(crate) save: &'k mut dyn FnMut(usize, Prefix) -> Result<()>,
    pub(crate) checkpoint: Option<Checkpoint<'k>>,
}

/// State of a run, from which another process continues if this one ends early.
pub(crate) struct Checkpoint<'k> {
    /// The checkpoint to continue from.
    pub(crate) found: Option<Box<Prefix>>,
    /// Time between two of them.
    pub(crate) every: Duration,
    pub(crate) save: &'k mut dyn FnMut(&Prefix) -> Result<()>,
}

/// Answer of a caller to a point of the curves: whether the run continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It continues.
    Go,
    /// It is stopped, and has no result.
    Stop,
}

/// The parameters' names, shapes and places by group, and their values in the groups' order.
struct Parameters {
    groups: Groups,
    /// By parameter of the task, its place in the groups' order.
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

    /// A beginning after so many steps, without the names of parameters and groups.
    fn forked(&self, step: usize, restored: &Restored) -> Forked {
        let names: Vec<&String> = self.groups.iter().flatten().map(|(name, _)| name).collect();
        let of_group = |entry: &str| {
            let (group, rest) = entry.strip_prefix("group ")?.split_once('/')?;
            group.parse::<usize>().is_ok().then(|| rest.to_owned())
        };
        let of_parameter = |entry: &str| {
            let rest =
                |name: &&String| entry.strip_prefix(name.as_str())?.strip_prefix('/').map(str::to_owned);
            names.iter().find_map(rest)
        };
        let kinds = |entries: &[String]| {
            let kind = |entry: &String| of_parameter(entry).or_else(|| of_group(entry));
            let kinds: BTreeSet<String> = entries.iter().filter_map(kind).collect();
            kinds.into_iter().collect()
        };
        Forked { step, anew: kinds(&restored.missing), left_out: kinds(&restored.surplus) }
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

/// State that an arm's chain would lack of the base's, and have no use for, on a task: that of a run of one step.
///
/// # Errors
/// An optimizer cannot be built, or the arm's cannot continue from the base's state.
pub(crate) fn fork_of(
    task: &dyn Task,
    (base, arm): (&OptimizerSpec, &OptimizerSpec),
    registry: &Registry,
    steps: usize,
) -> Result<Forked> {
    let parameters = Parameters::initial(task, 0);
    let mut weights = parameters.weights.clone();
    let gradient = |weights: &Vec<f32>| Some(vec![1e-3; weights.len()]);
    let gradients: Vec<_> = weights.iter().map(gradient).collect();
    let mut first = base.build(registry, &parameters.groups, 0, steps)?;
    first.step(&mut weights, &gradients, 1.0)?;
    let mut second = arm.build(registry, &parameters.groups, 0, steps)?;
    let restored = second.go_on(&first.state()?, &mut weights)?;
    Ok(parameters.forked(1, &restored))
}

/// Trains once and records what happened. `on_point` hears of every point of the curves, `go_on` is asked before every
/// step. A run that is given up leaves no record.
///
/// # Errors
/// The optimizer cannot be built, or cannot continue from the state that it is given; the task failed, or a state
/// cannot be kept.
pub(crate) fn train(
    plan: &Plan<'_>,
    registry: &Registry,
    mut keep: Option<Keep<'_>>,
    mut on_point: impl FnMut(&Point),
    go_on: impl Fn() -> Next,
) -> Result<Option<Record>> {
    let Plan { task, seed, steps, .. } = *plan;
    let mut parameters = Parameters::initial(task, seed);
    let mut optimizer = plan.optimizer.build(registry, &parameters.groups, seed, steps)?;
    let mut weights = std::mem::take(&mut parameters.weights);
    let mut forked = None;
    let found = keep.as_mut().and_then(|keep| keep.checkpoint.as_mut()).and_then(|kept| kept.found.take());
    let mut run = match (found, plan.from) {
        (Some(kept), _) => {
            weights.clone_from(&kept.weights);
            let at = kept.seen.steps;
            let restored = optimizer.go_on(&kept.optimizer, &mut weights);
            let restored = restored.with_context(|| format!("going on with the checkpoint of step {at}"))?;
            let fits = restored.missing.is_empty() && restored.surplus.is_empty();
            ensure!(fits, "the checkpoint of step {at} is another optimizer's");
            forked = kept.forked;
            kept.seen
        }
        (None, None) => {
            let mut run = Observed::new(&weights);
            let start = run.point(plan, &parameters, optimizer.as_ref(), &weights, None, None)?;
            on_point(&start);
            run.curve.push(start);
            run
        }
        (None, Some(prefix)) => {
            weights.clone_from(&prefix.weights);
            let at = prefix.seen.steps;
            let restored = optimizer
                .go_on(&prefix.optimizer, &mut weights)
                .with_context(|| format!("going on after step {at}"))?;
            forked = Some(parameters.forked(at, &restored));
            prefix.seen.clone()
        }
    };

    let mut diverged = None;
    let mut next_evaluation = evaluation_after(run.steps, plan.evaluations, steps);
    let mut saved = (run.steps, Instant::now());
    for step in run.steps..steps {
        let has_stopped = go_on() == Next::Stop;
        if let Some(kept) = keep.as_mut().and_then(|keep| keep.checkpoint.as_mut())
            && run.steps > saved.0
            && (has_stopped || saved.1.elapsed() >= kept.every)
        {
            let (seen, weights, optimizer) = (run.clone(), weights.clone(), optimizer.state()?);
            (kept.save)(&Prefix { seen, weights, optimizer, forked: forked.clone() })?;
            saved = (run.steps, Instant::now());
        }
        if has_stopped {
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
        if is_evaluated {
            optimizer.set_recorder(Some(Recorder::every(1)?));
        }
        match optimizer.step(&mut weights, &parameters.sorted(gradients.of), gradients.loss) {
            Ok(Step::Skipped) => run.skipped(started.elapsed()),
            // A step may need a loss that is a number.
            _ if !gradients.loss.is_finite() => {
                diverged = Some((step + 1, format!("the training loss was {}", gradients.loss)));
                break;
            }
            Ok(Step::Taken) => run.stepped(gradients.loss, started.elapsed()),
            Ok(Step::UnusableGradient(name)) => {
                diverged = Some((step + 1, format!("the gradient of {name} was not finite, or too large")));
                break;
            }
            Err(error) => return Err(error).with_context(in_step),
        }
        if is_evaluated {
            // None of a step that was skipped.
            let record = optimizer.set_recorder(None).and_then(|mut recorder| recorder.take().pop());
            run.records.extend(record.clone());
            let point =
                run.point(plan, &parameters, optimizer.as_ref(), &weights, before, record.as_ref())?;
            if !(point.train.is_finite() && point.validation.is_finite()) {
                diverged = Some((step + 1, format!("the evaluated loss was {}", point.train.loss)));
                break;
            }
            on_point(&point);
            run.curve.push(point);
            next_evaluation = evaluation_after(step + 1, plan.evaluations, steps);
        }
        if let Some(keep) = keep.as_mut().filter(|keep| keep.steps.contains(&(step + 1))) {
            let (seen, weights, optimizer) = (run.clone(), weights.clone(), optimizer.state()?);
            let prefix = Prefix { seen, weights, optimizer, forked: None };
            (keep.save)(step + 1, prefix)?;
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
    Ok(Some(run.record(outcome, optimizer.state_bytes(), forked)))
}

/// The step after which the evaluation of this number (from 1) takes place: evenly spaced, the last one at the end.
fn evaluation_step(number: usize, evaluations: usize, steps: usize) -> usize {
    (number * steps).div_ceil(evaluations.min(steps)).min(steps)
}

/// The number of the first evaluation after a step; of the last one where there is none.
fn evaluation_after(step: usize, evaluations: usize, steps: usize) -> usize {
    (1..evaluations).find(|number| evaluation_step(*number, evaluations, steps) > step).unwrap_or(evaluations)
}

/// A digest that can be kept and gone on with: every part is hashed after the digest of those before it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Chained(String);

impl Chained {
    fn extend(&mut self, part: impl FnOnce(&mut Sha256)) {
        let mut digest = Sha256::new_with_prefix(&self.0);
        part(&mut digest);
        self.0 = hex(digest);
    }
}

/// Observations of a run under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Observed {
    curve: Vec<Point>,
    steps: usize,
    skipped: usize,
    losses: Vec<f64>,
    spent: Duration,
    initial: String,
    batches: Chained,
    trajectory: Chained,
    /// Of the steps before the points of the curves.
    records: Vec<gradient_transform::Record>,
}

impl Observed {
    pub(crate) fn new(weights: &[Vec<f32>]) -> Self {
        let mut initial = Sha256::new();
        absorb(&mut initial, weights);
        Self {
            curve: Vec::new(),
            steps: 0,
            skipped: 0,
            losses: Vec::new(),
            spent: Duration::ZERO,
            initial: hex(initial),
            batches: Chained::default(),
            trajectory: Chained::default(),
            records: Vec::new(),
        }
    }

    /// The points of the curves.
    pub(crate) fn points(&self) -> &[Point] {
        &self.curve
    }

    /// Steps taken, and skipped.
    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    /// All but the time that it took.
    pub(crate) fn timeless(&self) -> Self {
        let mut curve = self.curve.clone();
        curve.iter_mut().for_each(|point| point.seconds = 0.0);
        Self { curve, spent: Duration::ZERO, ..self.clone() }
    }

    fn saw(&mut self, examples: &[u32], step: usize) {
        self.batches.extend(|digest| {
            digest.update((step as u64).to_le_bytes());
            let examples: Vec<[u8; 4]> = examples.iter().map(|example| example.to_le_bytes()).collect();
            digest.update(examples.as_flattened());
        });
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
        record: Option<&gradient_transform::Record>,
    ) -> Result<Point> {
        let evaluated = optimizer.evaluation_weights(weights)?;
        self.trajectory.extend(|digest| {
            absorb(digest, weights);
            absorb(digest, &evaluated);
        });
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
                    links: record.map_or_else(Vec::new, |record| links::of_group(record, group)),
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

    fn record(self, outcome: Outcome, state_bytes: usize, forked: Option<Forked>) -> Record {
        Record {
            outcome,
            curve: self.curve,
            steps: self.steps,
            skipped: self.skipped,
            state_bytes: Some(state_bytes),
            initial_sha256: self.initial,
            batches_sha256: self.batches.0,
            trajectory_sha256: self.trajectory.0,
            forked,
            findings: findings(&self.records),
        }
    }
}

/// Causes of a wrong d, if there are enough records to tell.
fn findings(records: &[gradient_transform::Record]) -> Vec<Finding> {
    let mut findings = diagnose(records);
    findings.retain(|finding| !matches!(finding, Finding::TooFewRecords { .. }));
    findings
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
    for values in weights {
        let bytes: Vec<[u8; 4]> = values.iter().map(|value| value.to_le_bytes()).collect();
        digest.update(bytes.as_flattened());
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
        let after = |step: usize| evaluation_after(step, 4, 100);
        assert_eq!([0, 24, 25, 26, 99, 100].map(after), [1, 1, 2, 2, 4, 4]);
        assert_eq!(evaluation_after(2, 20, 3), 3);
    }

    #[test]
    fn a_change_is_measured_over_all_weights() {
        let (rms, moved) = change(&[vec![0.0, 1.0], vec![2.0, 2.0]], &[vec![3.0, 1.0], vec![2.0, -2.0]]);
        assert_eq!((rms, moved), (2.5, 0.5));
    }
}
