//! What a study's runs say: means, differences to the base, and what to keep in mind about them.

use serde::Serialize;

use crate::run::Record;
use crate::statistics::{PairedDifference, Summary, t_quantile};
use crate::study::{ArmResult, Results};
use crate::task::Evaluation;

/// The share of intervals that contain the true difference, over many studies.
pub const CONFIDENCE: f64 = 0.95;

/// An arm in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArmSummary {
    /// The arm's name.
    pub name: String,
    /// The arm's name for people.
    pub title: String,
    /// How many runs diverged; they are in none of the means.
    pub diverged: usize,
    /// Final test accuracy, 0 to 1.
    pub accuracy: Summary,
    /// Final test loss.
    pub loss: Summary,
    /// Final loss over the training split.
    pub train_loss: Summary,
    /// Test accuracy minus the base's, paired by seed; absent for the base itself.
    pub accuracy_difference: Option<PairedDifference>,
    /// Test loss minus the base's, paired by seed; absent for the base itself.
    pub loss_difference: Option<PairedDifference>,
    /// `d` at the end; absent where nothing adapts it.
    pub d: Option<Summary>,
}

/// A study in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Findings {
    /// The arms in the study's order, the base first.
    pub arms: Vec<ArmSummary>,
    /// What limits the numbers, computed from the data.
    pub caveats: Vec<String>,
}

impl Findings {
    /// Computes everything from the runs.
    pub fn of(results: &Results) -> Self {
        let base = results.arms.first();
        let arms: Vec<ArmSummary> = results
            .arms
            .iter()
            .enumerate()
            .map(|(index, arm)| summarise(arm, base.filter(|_| index > 0)))
            .collect();
        let caveats = caveats(results, &arms);
        Self { arms, caveats }
    }

    /// The arms that are compared with the base.
    pub fn compared(&self) -> &[ArmSummary] {
        self.arms.get(1..).unwrap_or_default()
    }
}

fn summarise(arm: &ArmResult, base: Option<&ArmResult>) -> ArmSummary {
    let finished: Vec<&Record> = arm.runs.iter().filter(|run| run.evaluation().is_some()).collect();
    let of_test = |value: fn(Evaluation) -> f64| {
        Summary::of(&finished.iter().filter_map(|run| run.evaluation().map(value)).collect::<Vec<_>>())
    };
    let difference = |value: fn(Evaluation) -> f64| {
        let base = base?;
        let pairs: Vec<(f64, f64)> = finished
            .iter()
            .filter_map(|run| {
                let partner = base.runs.iter().find(|other| other.seed == run.seed)?;
                Some((value(run.evaluation()?), value(partner.evaluation()?)))
            })
            .collect();
        PairedDifference::of(&pairs, CONFIDENCE)
    };
    let d: Vec<f64> = finished.iter().filter_map(|run| run.final_d()).collect();
    ArmSummary {
        name: arm.name.clone(),
        title: arm.title.clone(),
        diverged: arm.runs.len() - finished.len(),
        accuracy: of_test(|evaluation| evaluation.accuracy),
        loss: of_test(|evaluation| evaluation.loss),
        train_loss: Summary::of(
            &finished.iter().filter_map(|run| run.last().map(|point| point.train.loss)).collect::<Vec<_>>(),
        ),
        accuracy_difference: difference(|evaluation| evaluation.accuracy),
        loss_difference: difference(|evaluation| evaluation.loss),
        d: (!d.is_empty()).then(|| Summary::of(&d)),
    }
}

fn list(titles: &[&str]) -> String {
    match titles {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

fn titles(arms: &[ArmResult], has: impl Fn(&ArmResult) -> bool) -> Vec<&str> {
    arms.iter().filter(|arm| has(arm)).map(|arm| arm.title.as_str()).collect()
}

fn caveats(results: &Results, summaries: &[ArmSummary]) -> Vec<String> {
    let mut caveats = Vec::new();
    let Some((base, others)) = results.arms.split_first() else { return caveats };
    let seeds = results.budget.seeds as usize;

    if seeds < 2 {
        caveats.push(
            "With one seed there is no spread and no interval: nothing here separates an effect from luck."
                .into(),
        );
    } else if seeds < 10 {
        caveats.push(format!(
            "{seeds} seeds are few: an interval is ±{:.2} standard deviations of the paired differences wide, so only large \
             effects can show.",
            t_quantile(seeds, CONFIDENCE) / (seeds as f64).sqrt()
        ));
    }
    if others.len() > 1 {
        caveats.push(format!(
            "{} comparisons at 95 % each, not corrected: if no arm differed at all, at least one interval would still leave \
             zero out in up to {:.0} % of such studies, for each metric.",
            others.len(),
            // Bonferroni's bound, which holds however the comparisons depend on each other through the base.
            100.0 * (others.len() as f64 * (1.0 - CONFIDENCE)).min(1.0)
        ));
    }
    let accuracy = summaries[0].accuracy.mean;
    if accuracy.is_finite() && results.task.test_examples > 0 {
        let examples = results.task.test_examples as f64;
        caveats.push(format!(
            "Every run is measured on the same {examples} test examples, of which one is {:.2} percentage points. The intervals \
             cover initialisation and batch order; drawing other examples would move an accuracy by a standard error of {:.1} \
             percentage points.",
            100.0 / examples,
            100.0 * (accuracy * (1.0 - accuracy) / examples).sqrt()
        ));
    }
    for arm in &results.arms {
        let diverged: Vec<&Record> = arm.runs.iter().filter(|run| run.evaluation().is_none()).collect();
        if !diverged.is_empty() {
            let seeds: Vec<String> = diverged.iter().map(|run| run.seed.to_string()).collect();
            caveats.push(format!(
                "{}: {} of {} runs diverged (seed {}). They are in no mean and no difference, which flatters the arm.",
                arm.title,
                diverged.len(),
                arm.runs.len(),
                seeds.join(", ")
            ));
        }
    }
    for arm in others {
        let unlike = |of: fn(&Record) -> &str| {
            arm.runs.iter().zip(&base.runs).any(|(run, base)| of(run) != of(base) && run.steps == base.steps)
        };
        if unlike(|run| &run.initial_sha256) || unlike(|run| &run.batches_sha256) {
            caveats.push(format!(
                "{}: not every run had the base's initialisation and batches, so its differences are not paired. This is a \
                 defect of the task.",
                arm.title
            ));
        }
    }
    let dead = titles(others, |arm| {
        arm.runs.iter().zip(&base.runs).all(|(run, base)| run.final_sha256 == base.final_sha256)
    });
    if !dead.is_empty() {
        caveats.push(format!(
            "{} ended with the base's weights to the bit on every seed: here the switch does nothing.",
            list(&dead)
        ));
    }
    let at_edge =
        titles(&results.arms, |arm| arm.tuning.as_ref().is_some_and(|tuning| tuning.is_at_the_edge()));
    if !at_edge.is_empty() {
        caveats.push(format!(
            "{}: the chosen learning rate lies at the edge of its grid; a better one may lie outside.",
            list(&at_edge)
        ));
    }
    let not_learning = titles(&results.arms, |arm| {
        arm.runs.iter().any(|run| match (run.curve.first(), run.curve.last()) {
            (Some(first), Some(last)) => run.evaluation().is_some() && last.train.loss >= first.train.loss,
            _ => false,
        })
    });
    if !not_learning.is_empty() {
        caveats.push(format!(
            "{}: on some seed the training loss ended no lower than it began.",
            list(&not_learning)
        ));
    }
    let overfitted = titles(&results.arms, |arm| {
        arm.runs.iter().filter(|run| has_overfitted(run)).count() * 2 > arm.runs.len()
    });
    if !overfitted.is_empty() {
        caveats.push(format!(
            "{}: in most runs the validation loss ended more than 10 % above its lowest value. There the final test loss also \
             measures overconfidence, which grows the faster the training loss falls; accuracy is the steadier reading.",
            list(&overfitted)
        ));
    }
    let growing = titles(&results.arms, |arm| arm.runs.iter().any(still_grows));
    if !growing.is_empty() {
        caveats.push(format!(
            "{}: d grew by more than 5 % in the last quarter of some run; a longer run would have another step size.",
            list(&growing)
        ));
    }
    let tuned: Vec<&ArmResult> = results.arms.iter().filter(|arm| arm.tuning.is_some()).collect();
    if let Some(tuning) = tuned.first().and_then(|arm| arm.tuning.as_ref()) {
        let titles: Vec<&str> = tuned.iter().map(|arm| arm.title.as_str()).collect();
        caveats.push(format!(
            "{} had the best of {} settings on this very task; the other arms ran as they are. An advantage of a tuned arm \
             has the price of {} further runs.",
            list(&titles),
            tuning.candidates.len(),
            tuning.candidates.len() * tuning.seeds.len()
        ));
    }
    caveats.push(
        "One small task: an effect here need not carry over to other data, models or run lengths.".into(),
    );
    caveats
}

fn has_overfitted(run: &Record) -> bool {
    let losses = || run.curve.iter().map(|point| point.validation.loss);
    let lowest = losses().fold(f64::INFINITY, f64::min);
    losses().next_back().is_some_and(|last| last > 1.1 * lowest)
}

fn still_grows(run: &Record) -> bool {
    let quarter = run.steps - run.steps / 4;
    let before = run.d.iter().rfind(|change| change.step <= quarter);
    match (before, run.d.last()) {
        (Some(before), Some(last)) => last.d > 1.05 * before.d,
        _ => false,
    }
}
