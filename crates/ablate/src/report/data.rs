//! The raw results, for other programs.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::run::Outcome;
use crate::study::Results;
use crate::summary::Findings;
use crate::versions::{Version, platform, versions};

/// Goes up when a reader of the older form would misread the newer one.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    versions: Vec<Version>,
    platform: String,
    findings: &'a Findings,
    results: &'a Results,
}

pub(super) fn json(results: &Results, findings: &Findings) -> Result<Vec<u8>> {
    let document = Document { schema: SCHEMA, versions: versions(), platform: platform(), findings, results };
    let mut bytes = serde_json::to_vec(&document).context("the results cannot be written as JSON")?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[derive(Serialize)]
struct RunLine<'a> {
    arm: &'a str,
    seed: u64,
    setting: String,
    outcome: &'static str,
    steps: usize,
    test_accuracy: Option<f64>,
    test_loss: Option<f64>,
    validation_accuracy: Option<f64>,
    validation_loss: Option<f64>,
    train_loss: Option<f64>,
    d: Option<f64>,
    seconds: f64,
}

pub(super) fn runs_csv(results: &Results) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for run in results.arms.iter().flat_map(|arm| &arm.runs) {
        let test = run.evaluation();
        let last = run.last();
        writer.serialize(RunLine {
            arm: &run.arm,
            seed: run.seed,
            setting: run.setting.map(|setting| setting.to_string()).unwrap_or_default(),
            outcome: match run.outcome {
                Outcome::Finished { .. } => "finished",
                Outcome::Diverged { .. } => "diverged",
            },
            steps: run.steps,
            test_accuracy: test.map(|test| test.accuracy),
            test_loss: test.map(|test| test.loss),
            validation_accuracy: last.map(|point| point.validation.accuracy),
            validation_loss: last.map(|point| point.validation.loss),
            train_loss: last.map(|point| point.train.loss),
            d: run.final_d(),
            seconds: run.seconds,
        })?;
    }
    writer.into_inner().context("the table of runs cannot be written")
}

#[derive(Serialize)]
struct CurveLine<'a> {
    arm: &'a str,
    seed: u64,
    epoch: usize,
    train_loss: f64,
    train_accuracy: f64,
    validation_loss: f64,
    validation_accuracy: f64,
}

pub(super) fn curves_csv(results: &Results) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for run in results.arms.iter().flat_map(|arm| &arm.runs) {
        for point in &run.curve {
            writer.serialize(CurveLine {
                arm: &run.arm,
                seed: run.seed,
                epoch: point.epoch,
                train_loss: point.train.loss,
                train_accuracy: point.train.accuracy,
                validation_loss: point.validation.loss,
                validation_accuracy: point.validation.accuracy,
            })?;
        }
    }
    writer.into_inner().context("the table of curves cannot be written")
}
