//! The numbers for other programs.

use ablate_tasks::Split;
use anyhow::{Context, Result};
use serde::Serialize;

use super::view::{View, word};
use crate::record::Outcome;

/// Goes up when a reader of the older form would misread the newer one.
const SCHEMA: u32 = 4;

pub(super) fn json(view: View<'_>) -> Result<Vec<u8>> {
    let document =
        serde_json::json!({ "schema": SCHEMA, "results": view.results, "findings": view.findings });
    let mut bytes = serde_json::to_vec(&document).context("the results cannot be written as JSON")?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn csv<L: Serialize>(lines: impl Iterator<Item = L>) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for line in lines {
        writer.serialize(line)?;
    }
    writer.into_inner().context("a table cannot be written")
}

#[derive(Serialize)]
struct RunLine<'a> {
    task: &'a str,
    arm: &'a str,
    seed: u64,
    setting: String,
    outcome: &'static str,
    steps: usize,
    skipped: usize,
    test_accuracy: Option<f64>,
    test_loss: Option<f64>,
    validation_accuracy: Option<f64>,
    validation_loss: Option<f64>,
    train_loss: Option<f64>,
    state_bytes: Option<usize>,
    trajectory_sha256: &'a str,
}

pub(super) fn runs(view: View<'_>) -> Result<Vec<u8>> {
    csv(view.results.tasks.iter().flat_map(|task| {
        task.arms.iter().zip(view.arms()).flat_map(move |(runs, arm)| {
            runs.runs.iter().map(move |run| {
                let (record, test) = (&run.record, run.record.evaluation());
                let last = record.last();
                let validated = last.filter(|_| !run.unmeasured.contains(&Split::Validation));
                RunLine {
                    task: &task.name,
                    arm: &arm.name,
                    seed: run.seed,
                    setting: runs.tuning.as_ref().map_or(String::new(), |tuning| tuning.chosen.to_string()),
                    outcome: match record.outcome {
                        Outcome::Finished { .. } => "finished",
                        Outcome::Diverged { .. } => "diverged",
                    },
                    steps: record.steps,
                    skipped: record.skipped,
                    test_accuracy: test.and_then(|test| test.accuracy),
                    test_loss: test.map(|test| test.loss),
                    validation_accuracy: validated.and_then(|point| point.validation.accuracy),
                    validation_loss: validated.map(|point| point.validation.loss),
                    train_loss: last
                        .filter(|_| !run.unmeasured.contains(&Split::Train))
                        .map(|point| point.train.loss),
                    state_bytes: record.state_bytes,
                    trajectory_sha256: &record.trajectory_sha256,
                }
            })
        })
    }))
}

#[derive(Serialize)]
struct CurveLine<'a> {
    task: &'a str,
    arm: &'a str,
    seed: u64,
    step: usize,
    batch_loss: Option<f64>,
    train_loss: Option<f64>,
    validation_loss: Option<f64>,
    validation_accuracy: Option<f64>,
    group: &'a str,
    d: Option<f64>,
    step_size: Option<f64>,
    update_rms: Option<f64>,
    moved: Option<f64>,
}

pub(super) fn curves(view: View<'_>) -> Result<Vec<u8>> {
    csv(view.results.tasks.iter().flat_map(|task| {
        task.arms.iter().zip(view.arms()).flat_map(move |(runs, arm)| {
            runs.runs.iter().flat_map(move |run| {
                run.record.curve.iter().flat_map(move |point| {
                    let groups = || {
                        point
                            .groups
                            .iter()
                            .zip(&task.groups)
                            .map(|(group, name)| (Some(group), name.as_str()))
                    };
                    // A command has no groups that anybody knows of.
                    let without = point.groups.is_empty().then_some((None, ""));
                    groups().chain(without).map(move |(group, name)| CurveLine {
                        task: &task.name,
                        arm: &arm.name,
                        seed: run.seed,
                        step: point.step,
                        batch_loss: point.batch_loss,
                        train_loss: Some(point.train.loss)
                            .filter(|_| !run.unmeasured.contains(&Split::Train)),
                        validation_loss: Some(point.validation.loss)
                            .filter(|_| !run.unmeasured.contains(&Split::Validation)),
                        validation_accuracy: point.validation.accuracy,
                        group: name,
                        d: group.and_then(|group| group.d),
                        step_size: group.map(|group| group.step_size),
                        update_rms: group.and_then(|group| group.update_rms),
                        moved: group.and_then(|group| group.moved),
                    })
                })
            })
        })
    }))
}

#[derive(Serialize)]
struct EffectLine<'a> {
    task: &'a str,
    arm: &'a str,
    measure: &'a str,
    n: Option<usize>,
    diverged: usize,
    pairs: Option<usize>,
    mean: Option<f64>,
    sd: Option<f64>,
    iqm: Option<f64>,
    difference: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    p: Option<f64>,
    p_task: Option<f64>,
    p_study: Option<f64>,
    matters: Option<f64>,
    p_equivalence_task: Option<f64>,
    p_equivalence_study: Option<f64>,
    verdict: &'a str,
    probability_of_improvement: Option<f64>,
    probability_low: Option<f64>,
    probability_high: Option<f64>,
    steps_to_target: Option<f64>,
    reached: Option<usize>,
}

pub(super) fn effects(view: View<'_>) -> Result<Vec<u8>> {
    csv(view.findings.tasks.iter().flat_map(|task| {
        task.arms.iter().zip(view.arms()).map(move |(found, arm)| {
            let difference = found.difference.as_ref();
            let interval = difference.and_then(|difference| difference.interval);
            let better = found.probability_of_improvement;
            EffectLine {
                task: &task.name,
                arm: &arm.name,
                measure: task.measure.name(),
                n: found.value.map(|value| value.n),
                diverged: found.diverged,
                pairs: difference.map(|difference| difference.finite),
                mean: found.value.map(|value| value.mean),
                sd: found.value.and_then(|value| value.sd),
                iqm: found.value.map(|value| value.iqm),
                difference: difference.and_then(|difference| difference.mean),
                low: interval.map(|interval| interval.low),
                high: interval.map(|interval| interval.high),
                p: difference.and_then(|difference| difference.p),
                p_task: found.adjusted_p,
                p_study: found.study_p,
                matters: task.matters,
                p_equivalence_task: found.equivalence_p,
                p_equivalence_study: found.study_equivalence_p,
                verdict: word(found.verdict),
                probability_of_improvement: better.map(|better| better.value),
                probability_low: better.and_then(|better| better.interval).map(|interval| interval.low),
                probability_high: better.and_then(|better| better.interval).map(|interval| interval.high),
                steps_to_target: found.to_target.and_then(|steps| steps.median),
                reached: found.to_target.map(|steps| steps.reached),
            }
        })
    }))
}
