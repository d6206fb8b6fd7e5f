//! Causes of a d that does not grow, or never stops growing: rules over the records of a run, one per file.

mod clipping;
mod finding;
mod group_mean;
mod history;
mod learning_rate;
mod negative_sums;
mod not_finite;
mod retirement;
mod rounding;
mod samples;
mod too_large;
mod vanishing;
mod warm_up;

use gradient_transform::{Optimizer, Real, Record, Recorder};

pub use finding::{Finding, GroupName};

use crate::diagnosis::history::History;

/// A rule, which returns its findings.
type Rule = fn(&History<'_>) -> Vec<Finding>;

const RULES: [Rule; 11] = [
    not_finite::find,
    learning_rate::find,
    warm_up::find,
    clipping::find,
    vanishing::find,
    rounding::find,
    negative_sums::find,
    group_mean::find,
    samples::find,
    retirement::find,
    too_large::find,
];

/// Causes of a wrong d in the records of a run, by the rules of the book's page "d does not grow". A run with
/// a good d has none.
///
/// ```
/// use gradient_transform::{Parameter, Record, Recorder};
/// use prodigy_plus::{Finding, GroupName, ProdigyPlus, diagnose};
///
/// let mut optimizer = ProdigyPlus::builder().lr(1e-3).build([("w", [400])])?; // as for AdamW
/// optimizer.set_recorder(Some(Recorder::every(1)?));
/// let mut w = vec![1.0_f32; 400];
/// for _ in 0..20 {
///     let gradient = w.clone();
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))])?;
/// }
/// let records: Vec<Record> = optimizer.recorder_mut().unwrap().take(); // or from a file
/// let findings = diagnose(&records);
/// let group = GroupName { index: 0, first: "w".into(), others: 0 };
/// assert_eq!(findings, [Finding::LearningRate { group, lr: 1e-3 }]);
/// assert!(findings[0].to_string().starts_with("The learning rate of group 0 (`w`) is 0.001; with Prodigy it should be 1."));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn diagnose<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<Finding> {
    let history = History::new(records.into_iter().collect());
    if history.records.len() < history::FEWEST {
        let mut findings = not_finite::find(&history);
        findings.push(Finding::TooFewRecords { records: history.records.len(), needed: history::FEWEST });
        return findings;
    }
    RULES.iter().flat_map(|rule| rule(&history)).collect()
}

/// Diagnosis of d from an optimizer's own records.
///
/// ```
/// use gradient_transform::{Parameter, Recorder};
/// use prodigy_plus::{Diagnose, ProdigyPlus};
///
/// let mut optimizer = ProdigyPlus::builder().build([("w", [400])])?;
/// optimizer.set_recorder(Some(Recorder::every(1)?));
/// let mut w = vec![1.0_f32; 400];
/// for _ in 0..100 {
///     let gradient = w.clone();
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&gradient))])?;
/// }
/// assert_eq!(optimizer.diagnose(), []); // d is good
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub trait Diagnose {
    /// The findings of [`diagnose`], over the records that the optimizer's [`Recorder`] keeps.
    fn diagnose(&self) -> Vec<Finding>;
}

impl<T: Real> Diagnose for Optimizer<T> {
    fn diagnose(&self) -> Vec<Finding> {
        let records = self.recorder().map(Recorder::records);
        diagnose(records.into_iter().flatten())
    }
}
