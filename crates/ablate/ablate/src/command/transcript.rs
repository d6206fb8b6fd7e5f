//! Lines that a command writes while it trains, one JSON object each, and the record that they make.

use std::collections::BTreeMap;

use ablate_tasks::{Evaluation, Measure, Split};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::measured::{Further, Measured};
use crate::record::{Outcome, Point, Record};
use crate::scalars::{Numbers, of_evaluation};

/// A curve of training losses alone has about so many points at most.
const MOST_POINTS: usize = 200;

/// The start of a run is the same where so many digits of its first evaluation are: a device may add up in another
/// order.
const DIGITS_OF_START: usize = 5;

/// Features that tell a line from others of its run.
pub(super) struct Mark {
    pub(super) step: Option<usize>,
    /// Its split, or the names of its numbers where it has no loss.
    pub(super) kind: String,
    /// Whether it is the end's value.
    pub(super) is_final: bool,
}

impl Mark {
    /// One that cannot be understood has no step.
    pub(super) fn of(text: &str) -> Self {
        let line = object(text).unwrap_or_default();
        let split = line.get("split").and_then(Value::as_str);
        let kind = if split.is_some() || line.contains_key("loss") {
            split.unwrap_or("train").to_owned()
        } else {
            line.keys().map(String::as_str).collect::<Vec<_>>().join(" ")
        };
        Self { step: line.get("step").and_then(step), is_final: kind == "test", kind }
    }
}

/// Numbers that have been written so far.
pub(crate) struct Transcript {
    measure: Measure,
    final_split: Split,
    /// The latest step of any line.
    step: usize,
    first_train: Option<Evaluation>,
    train_lines: usize,
    /// Training since the latest point.
    train: Vec<Evaluation>,
    /// The curve, where nothing is validated.
    training_curve: Vec<Point>,
    curve: Vec<Point>,
    validation: Option<Evaluation>,
    test: Option<Evaluation>,
    /// Time of the latest line.
    seconds: f64,
    diverged: Option<(usize, String)>,
    further: Further,
    /// Numbers of the latest line, but for the end's.
    latest: Numbers,
    numbers: Sha256,
    start: String,
}

impl Transcript {
    pub(crate) fn new(measure: Measure, final_split: Split) -> Self {
        Self {
            measure,
            final_split,
            step: 0,
            first_train: None,
            train_lines: 0,
            train: Vec::new(),
            training_curve: Vec::new(),
            curve: Vec::new(),
            validation: None,
            test: None,
            seconds: 0.0,
            diverged: None,
            further: BTreeMap::new(),
            latest: Numbers::new(),
            numbers: Sha256::new(),
            start: String::new(),
        }
    }

    /// Whether a loss was not finite: nothing that follows can make the run better.
    pub(crate) fn has_diverged(&self) -> bool {
        self.diverged.is_some()
    }

    /// The latest step of any line.
    pub(crate) fn step(&self) -> usize {
        self.step
    }

    /// Numbers of the latest line by name. Those of the test split are the end's.
    pub(crate) fn latest(&self) -> &[(String, f64)] {
        &self.latest
    }

    /// Takes the next line, and gives the point of the curve that it makes, if any.
    ///
    /// # Errors
    /// It is no object, or lacks what an evaluation needs.
    pub(crate) fn line(&mut self, text: &str, seconds: f64) -> Result<Option<Point>> {
        let line = object(text).with_context(|| format!("not a JSON object: {}", shortened(text)))?;
        self.object(&line, seconds).with_context(|| format!("in the line {}", shortened(text)))
    }

    fn object(&mut self, line: &Map<String, Value>, seconds: f64) -> Result<Option<Point>> {
        if let Some(value) = line.get("step") {
            self.step = step(value).context("`step` is a whole number")?;
        }
        let split = match line.get("split").map(|split| split.as_str()) {
            None => Split::Train,
            Some(Some("train")) => Split::Train,
            Some(Some("validation" | "val")) => Split::Validation,
            Some(Some("test")) => Split::Test,
            Some(_) => bail!("`split` is \"train\", \"validation\" or \"test\""),
        };
        self.seconds = seconds;
        self.latest.clear();
        for (name, value) in line {
            let value = number(value).filter(|value| value.is_finite());
            if let Some(value) = value.filter(|_| !["step", "loss", "accuracy"].contains(&name.as_str())) {
                self.further.entry(name.clone()).or_default().push((self.step, value));
                self.latest.push((name.clone(), value));
            }
        }
        let Some(loss) = line.get("loss") else {
            ensure!(
                !line.contains_key("split") && !line.contains_key("accuracy"),
                "a line of a split needs its `loss`, a number"
            );
            return Ok(None);
        };
        let loss = number(loss).context("`loss` is a number")?;
        let accuracy = match line.get("accuracy") {
            None => None,
            Some(accuracy) => Some(number(accuracy).context("`accuracy` is a number")?),
        };
        ensure!(
            split == Split::Train || self.measure != Measure::Accuracy || accuracy.is_some(),
            "arms are compared by their accuracy (`measure`), so that a line of this split needs its `accuracy`"
        );
        ensure!(
            accuracy.is_none_or(|accuracy| !accuracy.is_finite() || (0.0..=1.0).contains(&accuracy)),
            "`accuracy` is a share, from 0 to 1"
        );
        let evaluation = Evaluation { loss, accuracy };
        match split {
            Split::Train => self.latest.extend(of_evaluation("train", &evaluation)),
            Split::Validation => self.latest.extend(of_evaluation("validation", &evaluation)),
            Split::Test => {}
        }
        self.digest(split, &evaluation, line.contains_key("step"));
        if !evaluation.is_finite() {
            let what = match split {
                Split::Train => "training",
                Split::Validation => "validation",
                Split::Test => "test",
            };
            let number = if loss.is_finite() {
                format!("accuracy was {accuracy:?}")
            } else {
                format!("loss was {loss}")
            };
            self.diverged.get_or_insert((self.step, format!("the {what} {number}")));
            return Ok(None);
        }
        Ok(match split {
            Split::Train => {
                self.train_lines += 1;
                self.first_train.get_or_insert(evaluation);
                self.train.push(evaluation);
                self.training_curve.push(self.point(Some(evaluation), evaluation, seconds));
                None
            }
            Split::Validation => {
                self.validation = Some(evaluation);
                let train =
                    mean(&std::mem::take(&mut self.train)).or(self.curve.last().map(|point| point.train));
                let point = self.point(train, evaluation, seconds);
                // What is said twice of a step is said better the second time.
                if self.curve.last().is_some_and(|last| last.step == self.step) {
                    self.curve.pop();
                }
                self.curve.push(point.clone());
                Some(point)
            }
            Split::Test => {
                self.test = Some(evaluation);
                None
            }
        })
    }

    /// Before the first training loss there is that one.
    fn point(&self, train: Option<Evaluation>, validation: Evaluation, seconds: f64) -> Point {
        let train = train.or(self.first_train).unwrap_or(Evaluation { loss: f64::NAN, accuracy: None });
        Point { step: self.step, batch_loss: None, train, validation, groups: Vec::new(), seconds }
    }

    /// Losses and accuracies determine whether two runs are the same; further numbers may be times. The start is what
    /// is said to be of step 0: a run may tell of its end alone, without any step.
    fn digest(&mut self, split: Split, evaluation: &Evaluation, has_step: bool) {
        let Evaluation { loss, accuracy } = evaluation;
        let line =
            format!("{} {split:?} {:x} {:x?}\n", self.step, loss.to_bits(), accuracy.map(f64::to_bits));
        self.numbers.update(line);
        if self.step == 0 && has_step && split != Split::Test {
            self.start += &format!("{split:?} {loss:.DIGITS_OF_START$e}\n");
        }
    }

    /// The run, when the command has ended.
    ///
    /// # Errors
    /// It has not said what the run is measured by.
    pub(crate) fn finish(mut self) -> Result<Measured> {
        let is_validated = !self.curve.is_empty();
        // A script without a test split is measured by its validation, which is said in the report.
        let last = match self.final_split {
            Split::Test => self.test.or(self.validation),
            Split::Train | Split::Validation => self.validation,
        };
        let outcome = match (self.diverged.take(), last) {
            (Some((step, reason)), _) => Outcome::Diverged { step, reason },
            (None, Some(evaluation)) => Outcome::Finished { evaluation },
            (None, None) => bail!(
                "it ended without a final value: {}",
                match self.final_split {
                    Split::Test => "no line with \"split\": \"test\" (or \"validation\") and a loss",
                    Split::Train | Split::Validation =>
                        "tuning looks at the validation split, and there is no line with \"split\": \"validation\" and a loss",
                }
            ),
        };
        let mut curve =
            if is_validated { std::mem::take(&mut self.curve) } else { thinned(&self.training_curve) };
        if curve.is_empty() {
            let shown = match outcome {
                Outcome::Finished { evaluation } => evaluation,
                Outcome::Diverged { .. } => Evaluation { loss: 0.0, accuracy: None },
            };
            curve.push(self.point(Some(shown), shown, self.seconds));
        }
        for point in &mut curve {
            if !point.train.is_finite() {
                point.train = self.first_train.unwrap_or(point.validation);
            }
        }
        let mut unmeasured = Vec::new();
        // Of one line there is no course of training.
        if self.train_lines < 2 {
            unmeasured.push(Split::Train);
        }
        if !is_validated {
            unmeasured.push(Split::Validation);
        }
        if self.test.is_none() {
            unmeasured.push(Split::Test);
        }
        let hex =
            |digest: Sha256| digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let record = Record {
            outcome,
            curve,
            steps: self.step,
            skipped: 0,
            state_bytes: None,
            initial_sha256: if self.start.is_empty() {
                String::new()
            } else {
                hex(Sha256::new_with_prefix(&self.start))
            },
            batches_sha256: String::new(),
            trajectory_sha256: hex(self.numbers),
            forked: None,
            findings: Vec::new(),
        };
        Ok(Measured { record, further: self.further, unmeasured })
    }
}

fn mean(evaluations: &[Evaluation]) -> Option<Evaluation> {
    let of = |values: Vec<f64>| ablate_statistics::Summary::of(&values).map(|summary| summary.mean);
    let loss = of(evaluations.iter().map(|evaluation| evaluation.loss).collect())?;
    let accuracies: Option<Vec<f64>> = evaluations.iter().map(|evaluation| evaluation.accuracy).collect();
    Some(Evaluation { loss, accuracy: accuracies.and_then(of) })
}

/// Evenly spaced ones, with the first and the last.
fn thinned(points: &[Point]) -> Vec<Point> {
    let every = points.len().div_ceil(MOST_POINTS).max(1);
    let is_last = |index: usize| index + 1 == points.len();
    let kept = points.iter().enumerate().filter(|(index, _)| index % every == 0 || is_last(*index));
    kept.map(|(_, point)| point.clone()).collect()
}

fn step(value: &Value) -> Option<usize> {
    let step = number(value).filter(|step| step.fract() == 0.0 && (0.0..1e15).contains(step))?;
    Some(step as usize)
}

/// A number; those that JSON hasn't got are texts here.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Null => Some(f64::NAN),
        Value::String(text) => text.parse().ok().filter(|number: &f64| !number.is_finite()),
        _ => None,
    }
}

/// An object, where numbers may be NaN and Infinity as Python writes them.
fn object(text: &str) -> Result<Map<String, Value>> {
    let read = |text: &str| serde_json::from_str::<Map<String, Value>>(text);
    Ok(read(text).or_else(|error| read(&quoted(text)).map_err(|_| error))?)
}

/// NaN, Infinity and -Infinity between quotes, where they are not within a text.
fn quoted(text: &str) -> String {
    let mut found = String::new();
    for (index, part) in text.split('"').enumerate() {
        if index > 0 {
            found.push('"');
        }
        // A text with a quote in it is left as it is, and then is no JSON.
        if index % 2 == 0 {
            found += &part
                .replace("NaN", "\"NaN\"")
                .replace("-Infinity", "\"-inf\"")
                .replace("Infinity", "\"inf\"");
        } else {
            found += part;
        }
    }
    found
}

fn shortened(text: &str) -> String {
    const LETTERS: usize = 120;
    if text.chars().count() <= LETTERS {
        text.to_owned()
    } else {
        text.chars().take(LETTERS).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str], final_split: Split) -> Result<Measured> {
        let mut transcript = Transcript::new(Measure::Loss, final_split);
        for line in lines {
            transcript.line(line, 1.0)?;
        }
        transcript.finish()
    }

    #[test]
    fn lines_make_a_record() {
        let lines = [
            r#"{"step": 0, "split": "validation", "loss": 3, "accuracy": 0.1}"#,
            r#"{"step": 1, "loss": 2.5, "lr": 0.1}"#,
            r#"{"step": 2, "loss": 1.5, "lr": 0.05, "note": "half"}"#,
            r#"{"step": 2, "split": "val", "loss": 2.25}"#,
            r#"{"step": 3, "loss": 1.0}"#,
            r#"{"step": 4, "tokens per second": 1e3}"#,
            r#"{"step": 4, "split": "validation", "loss": 2.125}"#,
            r#"{"split": "test", "loss": 2.0}"#,
        ];
        let Measured { record, further, unmeasured } = read(&lines, Split::Test).unwrap();
        assert_eq!(record.evaluation(), Some(Evaluation { loss: 2.0, accuracy: None }));
        let curve: Vec<_> = record.curve.iter().map(|p| (p.step, p.train.loss, p.validation.loss)).collect();
        assert_eq!(curve, [(0, 2.5, 3.0), (2, 2.0, 2.25), (4, 1.0, 2.125)]);
        assert_eq!(further["lr"], [(1, 0.1), (2, 0.05)]);
        assert_eq!(further["tokens per second"], [(4, 1e3)]);
        assert!(unmeasured.is_empty() && record.steps == 4);
        let tuned = read(&lines, Split::Validation).unwrap().record;
        assert_eq!(tuned.evaluation().unwrap().loss, 2.125);
    }

    #[test]
    fn what_is_not_measured_is_known_not_to_be() {
        let only = |lines: &[&str]| read(lines, Split::Test).unwrap();
        let last = only(&[r#"{"split": "test", "loss": 2.0}"#]);
        assert_eq!(last.unmeasured, [Split::Train, Split::Validation]);
        assert_eq!(last.record.curve.len(), 1);
        let lines: Vec<String> =
            (1..=1000).map(|step| format!("{{\"step\": {step}, \"loss\": {step}}}")).collect();
        let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        lines.push(r#"{"split": "test", "loss": 2.0}"#);
        let trained = only(&lines);
        assert_eq!(trained.unmeasured, [Split::Validation]);
        assert_eq!((trained.record.curve.len(), trained.record.curve[200].step), (201, 1000));
        let validated = only(&[r#"{"step": 3, "split": "validation", "loss": 2.0}"#]);
        assert_eq!(validated.unmeasured, [Split::Train, Split::Test]);
        let error = read(&[r#"{"step": 1, "loss": 2.0}"#], Split::Test).unwrap_err().to_string();
        assert!(error.contains("without a final value") && error.contains("\"test\""), "{error}");
        let error = read(&[r#"{"split": "test", "loss": 2.0}"#], Split::Validation).unwrap_err().to_string();
        assert!(error.contains("tuning looks at the validation split"), "{error}");
    }

    #[test]
    fn a_loss_that_is_no_number_is_divergence_however_it_is_written() {
        for loss in ["NaN", "Infinity", "-Infinity", "null", "\"nan\"", "1e999"] {
            let line = format!("{{\"step\": 7, \"note\": \"NaN\", \"loss\": {loss}}}");
            let Ok(Measured { record, .. }) =
                read(&[&line, "{\"split\": \"test\", \"loss\": 1}"], Split::Test)
            else {
                assert_eq!(loss, "1e999"); // which serde_json refuses
                continue;
            };
            let Outcome::Diverged { step, reason } = record.outcome else { panic!("{loss}") };
            assert!(step == 7 && reason.contains("training loss was"), "{reason}");
        }
    }

    #[test]
    fn two_runs_are_the_same_where_their_losses_are() {
        let digest = |loss: &str, time: &str| {
            let line =
                format!("{{\"step\": 0, \"split\": \"validation\", \"loss\": {loss}, \"seconds\": {time}}}");
            let record = read(&[&line], Split::Test).unwrap().record;
            (record.trajectory_sha256, record.initial_sha256)
        };
        assert_eq!(digest("0.1", "3"), digest("0.1", "4"));
        let (first, second) = (digest("0.1", "3"), digest("0.10000000000000002", "3"));
        assert!(first.0 != second.0 && first.1 == second.1); // the same start, but for rounding
        assert_ne!(first.1, digest("0.2", "3").1);
    }

    #[test]
    fn mistakes_in_a_line_are_named() {
        for (line, expected) in [
            ("epoch 3", "not a JSON object: epoch 3"),
            ("[1]", "not a JSON object"),
            (r#"{"step": 1.5, "loss": 1}"#, "`step` is a whole number"),
            (r#"{"step": -1, "loss": 1}"#, "`step`"),
            (r#"{"split": "dev", "loss": 1}"#, "`split` is"),
            (r#"{"split": "test"}"#, "needs its `loss`"),
            (r#"{"split": "test", "loss": "low"}"#, "`loss` is a number"),
            (r#"{"split": "test", "loss": 1, "accuracy": 93.5}"#, "a share"),
        ] {
            let error = format!("{:#}", read(&[line], Split::Test).unwrap_err());
            assert!(error.contains(expected), "{line}: {error}");
        }
        let mut transcript = Transcript::new(Measure::Accuracy, Split::Test);
        let error = transcript.line(r#"{"split": "test", "loss": 1}"#, 0.0).unwrap_err();
        assert!(format!("{error:#}").contains("needs its `accuracy`"), "{error:#}");
    }
}
