//! Replays a case through an optimizer, and judges how well it agrees.

use ndarray::ArrayD;

use crate::case::{Case, Precision};
use crate::oracle::{Compat, Group, Line, Oracle, OracleError, Storage};

/// Why a subject cannot replay a case.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// The subject does not have this option.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl From<OracleError> for SubjectError {
    fn from(error: OracleError) -> Self {
        SubjectError::Failed(error.to_string())
    }
}

/// An optimizer that a case can be replayed through. It was made from the case's options, groups and initial values.
pub trait Subject {
    /// One step; `lr` is the schedule's factor, see [`crate::case::Description::lr`].
    fn step(&mut self, gradients: &[Option<ArrayD<f64>>], lr: Option<f64>) -> Result<(), SubjectError>;
    /// Parameter `i` in training mode.
    fn y(&self, i: usize) -> Result<ArrayD<f64>, SubjectError>;
    /// Parameter `i` in evaluation mode; the subject stays as it is.
    fn x(&self, i: usize) -> Result<ArrayD<f64>, SubjectError>;
    /// Switches to evaluation and back to training.
    fn eval_then_train(&mut self) -> Result<(), SubjectError>;
    /// Every group's d.
    fn d(&self) -> Result<Vec<f64>, SubjectError>;
}

impl Subject for Oracle {
    fn step(&mut self, gradients: &[Option<ArrayD<f64>>], lr: Option<f64>) -> Result<(), SubjectError> {
        Ok(Oracle::step(self, gradients, lr)?)
    }

    fn y(&self, i: usize) -> Result<ArrayD<f64>, SubjectError> {
        Ok(Oracle::y(self, i).clone())
    }

    fn x(&self, i: usize) -> Result<ArrayD<f64>, SubjectError> {
        Ok(Oracle::x(self, i))
    }

    fn eval_then_train(&mut self) -> Result<(), SubjectError> {
        Oracle::eval_then_train(self);
        Ok(())
    }

    fn d(&self) -> Result<Vec<f64>, SubjectError> {
        Ok(Oracle::d(self))
    }
}

/// The naive oracle for a case: as the case's version of the reference, or, `corrected`, as that is documented.
pub fn oracle(case: &Case, corrected: bool) -> Result<Box<dyn Subject>, SubjectError> {
    let description = &case.description;
    let line = match description.reference.as_deref() {
        None | Some("1.9.2") => Line::First,
        Some("2.0.1") => Line::Second,
        Some(other) => return Err(SubjectError::Unsupported(format!("reference {other}"))),
    };
    let compat = if corrected { Compat::default() } else { Compat::of(line) };
    let mut options = description.options.clone();
    options.insert("line".to_owned(), serde_json::to_value(line).map_err(OracleError::from)?);
    let groups: Vec<Group> = description
        .groups
        .iter()
        .map(|group| Group { params: group.params.clone(), overrides: group.overrides.clone() })
        .collect();
    let storage = match description.dtype {
        Precision::Float32 => Storage::F32,
        Precision::Bfloat16 => Storage::Bf16,
    };
    let muon_bf16 = description.muon_dtype == Precision::Bfloat16;
    Ok(Box::new(Oracle::new(&options, &groups, case.init.clone(), storage, compat, muon_bf16)?))
}

/// How well a replay agrees with the recorded trajectory. Errors are the worst over all that was compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Of the parameters in training mode: the distance beyond rounding, relative to the displacement.
    pub y: f64,
    /// The same, in evaluation mode.
    pub x: f64,
    /// Of every group's d after every step, relative.
    pub d: f64,
    /// The largest error that passes.
    pub tol: f64,
    /// Whether no error exceeds `tol`.
    pub passed: bool,
}

/// The largest error that passes: 1e-4 in float32, more where the reference itself is not that certain; 2e-2 in bfloat16.
pub fn tolerance(case: &Case) -> f64 {
    let (displacement, d) = case.description.wobble;
    match case.description.dtype {
        Precision::Float32 => 1e-4_f64.max(20.0 * displacement.max(d)),
        Precision::Bfloat16 => 2e-2,
    }
}

/// Replays `case` through `subject`.
pub fn replay(case: &Case, subject: &mut dyn Subject) -> Result<Verdict, SubjectError> {
    let unit_roundoff = match case.description.dtype {
        Precision::Float32 => 2f64.powi(-24),
        Precision::Bfloat16 => 2f64.powi(-9),
    };
    let error_of = |ours: &ArrayD<f64>, reference: &ArrayD<f64>, i: usize| {
        displacement_error(ours, reference, &case.init[i], unit_roundoff)
    };
    let (mut y, mut x, mut d) = (0.0, 0.0, 0.0);
    for step in &case.steps {
        subject.step(&step.gradients, step.lr)?;
        let ours = subject.d()?;
        if ours.len() != step.d.len() {
            return Err(SubjectError::Failed(format!("{} groups instead of {}", ours.len(), step.d.len())));
        }
        for (ours, reference) in ours.iter().zip(&step.d) {
            d = worse(d, (ours - reference).abs() / reference.abs());
        }
        let Some(saved) = &step.saved else { continue };
        for i in 0..case.init.len() {
            y = worse(y, error_of(&subject.y(i)?, &saved.y[i], i));
            x = worse(x, error_of(&subject.x(i)?, &saved.x[i], i));
        }
        if let Some(back) = &saved.back {
            subject.eval_then_train()?;
            for (i, back) in back.iter().enumerate() {
                y = worse(y, error_of(&subject.y(i)?, back, i));
            }
        }
    }
    let tol = tolerance(case);
    Ok(Verdict { y, x, d, tol, passed: y <= tol && x <= tol && d <= tol })
}

/// The larger of two errors; a NaN, which `f64::max` would drop, is the worst of all.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// How far `ours` is from `reference` beyond four units of rounding, relative to how far the reference has moved. If it
/// has not moved, any distance beyond rounding is infinitely wrong.
fn displacement_error(
    ours: &ArrayD<f64>,
    reference: &ArrayD<f64>,
    init: &ArrayD<f64>,
    unit_roundoff: f64,
) -> f64 {
    if ours.shape() != reference.shape() {
        return f64::NAN;
    }
    let norm = |values: ArrayD<f64>| values.iter().map(|v| v * v).sum::<f64>().sqrt();
    let distance = norm(ours - reference);
    let excess = distance - 4.0 * unit_roundoff * norm(reference.clone());
    if excess <= 0.0 { 0.0 } else { excess / norm(reference - init) }
}
