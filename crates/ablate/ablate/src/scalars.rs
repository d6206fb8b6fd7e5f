//! Numbers of a run by name, for programs that draw curves and read tables:
//!
//! ```text
//! loss/batch loss/train loss/validation accuracy/train accuracy/validation   at every point of the curves
//! d step_size update_rms moved                                               the same, or d/GROUP where there are groups
//! gain/LINK cosine/LINK changed/LINK                                         the same, from the first step on
//! seconds                                                                    of gradients and steps until there
//! final/loss final/accuracy                                                  once, at the end; NaN for a run that diverged
//! ```
//!
//! Further numbers of a command have the names that it gives them.

use std::collections::BTreeMap;

use ablate_tasks::{Evaluation, Split};

use crate::record::{Outcome, Point, Record};
use crate::results::Run;

/// Numbers of a step.
pub(crate) type Numbers = Vec<(String, f64)>;

/// Numbers of an evaluation, as lines and points have it.
pub(crate) fn of_evaluation(of: &str, evaluation: &Evaluation) -> Numbers {
    let accuracy = evaluation.accuracy.map(|accuracy| (format!("accuracy/{of}"), accuracy));
    [(format!("loss/{of}"), evaluation.loss)].into_iter().chain(accuracy).collect()
}

/// Numbers of a point of the curves, without the splits that were not measured.
pub(crate) fn of_point(point: &Point, groups: &[String], unmeasured: &[Split]) -> Numbers {
    let mut numbers = Numbers::new();
    numbers.extend(point.batch_loss.map(|loss| ("loss/batch".to_owned(), loss)));
    for (split, name, evaluation) in
        [(Split::Train, "train", &point.train), (Split::Validation, "validation", &point.validation)]
    {
        if !unmeasured.contains(&split) {
            numbers.extend(of_evaluation(name, evaluation));
        }
    }
    for (group, name) in point.groups.iter().zip(groups) {
        let named = |number: &str| {
            if groups.len() == 1 { number.to_owned() } else { format!("{number}/{name}") }
        };
        let found = [
            ("d", group.d),
            ("step_size", Some(group.step_size)),
            ("update_rms", group.update_rms),
            ("moved", group.moved),
        ];
        numbers.extend(found.into_iter().filter_map(|(number, value)| Some((named(number), value?))));
        for link in &group.links {
            let found = [("gain", link.gain()), ("cosine", link.cosine), ("changed", Some(link.changed))];
            let named = |number: &str| named(&format!("{number}/{}", link.link));
            numbers.extend(found.into_iter().filter_map(|(number, value)| Some((named(number), value?))));
        }
    }
    numbers.push(("seconds".to_owned(), point.seconds));
    numbers
}

/// Numbers of a run until its end, by step.
pub(crate) fn of_course(run: &Run, groups: &[String]) -> BTreeMap<usize, Numbers> {
    let mut steps: BTreeMap<usize, Numbers> = BTreeMap::new();
    for point in &run.record.curve {
        steps.entry(point.step).or_default().extend(of_point(point, groups, &run.unmeasured));
    }
    for (name, curve) in &run.further {
        for (step, value) in curve {
            steps.entry(*step).or_default().push((name.clone(), *value));
        }
    }
    steps
}

/// The step of a run's end, and what it is compared by.
pub(crate) fn of_end(record: &Record) -> (usize, Numbers) {
    match record.outcome {
        Outcome::Finished { evaluation } => (record.steps, named_final(&evaluation)),
        Outcome::Diverged { step, .. } => {
            let has_accuracy = record.curve.iter().any(|point| point.validation.accuracy.is_some());
            let accuracy = has_accuracy.then_some(f64::NAN);
            (step, named_final(&Evaluation { loss: f64::NAN, accuracy }))
        }
    }
}

fn named_final(evaluation: &Evaluation) -> Numbers {
    let accuracy = evaluation.accuracy.map(|accuracy| ("final/accuracy".to_owned(), accuracy));
    [("final/loss".to_owned(), evaluation.loss)].into_iter().chain(accuracy).collect()
}
