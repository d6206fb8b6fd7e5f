//! The numbers for other programs.

use ablate_tasks::Split;
use anyhow::{Context, Result};
use serde::Serialize;

use super::column::{self, Row};
use super::fork;
use super::view::View;
use crate::record::Outcome;
use crate::results::Reported;

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

/// A reported run.
#[derive(Serialize)]
pub(crate) struct RunLine<'a> {
    pub(crate) task: &'a str,
    pub(crate) arm: &'a str,
    pub(crate) seed: u64,
    /// Steps of the base that it continued from.
    pub(crate) forked_at: Option<usize>,
    pub(crate) setting: String,
    pub(crate) outcome: &'static str,
    pub(crate) steps: Option<usize>,
    pub(crate) skipped: usize,
    pub(crate) test_accuracy: Option<f64>,
    pub(crate) test_loss: Option<f64>,
    pub(crate) validation_accuracy: Option<f64>,
    pub(crate) validation_loss: Option<f64>,
    pub(crate) train_loss: Option<f64>,
    pub(crate) state_bytes: Option<usize>,
    pub(crate) trajectory_sha256: &'a str,
}

pub(super) fn runs(view: View<'_>) -> Result<Vec<u8>> {
    csv(view.results.reported().map(RunLine::of))
}

impl<'a> RunLine<'a> {
    pub(crate) fn of(Reported { task, arm, tuning, run, .. }: Reported<'a>) -> Self {
        let (record, test) = (&run.record, run.record.evaluation());
        let last = record.last();
        let validated = last.filter(|_| !run.unmeasured.contains(&Split::Validation));
        Self {
            task: &task.name,
            arm: &arm.name,
            seed: run.seed,
            forked_at: record.forked.as_ref().map(|forked| forked.step),
            setting: tuning.map_or(String::new(), |tuning| tuning.chosen.to_string()),
            outcome: match record.outcome {
                Outcome::Finished { .. } => "finished",
                Outcome::Diverged { .. } => "diverged",
            },
            steps: task.steps_of(record),
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
    }
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

pub(super) fn effects(view: View<'_>) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(column::data().map(|(name, _)| *name))?;
    for (task, _) in view.tasks() {
        for arm in 0..view.arms().len() {
            let row = Row { view, task, arm };
            writer.serialize(column::data().map(|(_, of)| of(row)).collect::<Vec<_>>())?;
        }
    }
    writer.into_inner().context("a table cannot be written")
}

pub(super) fn forks(view: View<'_>) -> Result<Vec<u8>> {
    let data = || fork::COLUMNS.iter().flat_map(|column| column.data);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(data().map(|(name, _)| *name))?;
    for row in view.tasks().flat_map(|(task, _)| fork::rows(view, task)) {
        writer.serialize(data().map(|(_, of)| of(row)).collect::<Vec<_>>())?;
    }
    writer.into_inner().context("a table cannot be written")
}
