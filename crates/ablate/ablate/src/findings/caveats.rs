//! Limits of the numbers, computed from the data.

use ablate_statistics::error_of_share;
use ablate_tasks::{Measure, Split};

use super::{FEWEST_PAIRS, Reason, TaskFindings, Verdict, causes};
use crate::record::Record;
use crate::results::{ArmRuns, Results, TaskResults};

/// More names than this are not read.
const MANY: usize = 6;

pub(super) fn caveats(results: &Results, findings: &[TaskFindings]) -> Vec<String> {
    let mut caveats = Vec::new();
    seeds(results, &mut caveats);
    choices(results, &mut caveats);
    early(results, findings, &mut caveats);
    for (task, findings) in results.tasks.iter().zip(findings) {
        dead(results, task, findings, &mut caveats);
        diverged(results, task, &mut caveats);
        skipped(results, task, &mut caveats);
        perfect(results, task, &mut caveats);
        unpaired(results, task, &mut caveats);
        read(task, &mut caveats);
        promises(task, findings, &mut caveats);
        forks(results, findings, &mut caveats);
        targets(results, task, findings, &mut caveats);
        resolution(task, findings, &mut caveats);
        curves(results, task, &mut caveats);
        edges(results, task, &mut caveats);
    }
    caveats.extend(causes::of_wrong_d(results));
    tuning(results, &mut caveats);
    if !results.refused.is_empty() {
        let names: Vec<&str> = results.refused.iter().map(|refused| refused.name.as_str()).collect();
        caveats.push(format!(
            "{} of the design's combinations are rejected, and so are missing: {}.",
            names.len(),
            list(&names)
        ));
    }
    // The size of commands and of runs of other programs is unknown.
    let is_small = results.tasks.iter().all(TaskResults::is_trained_here);
    let few = match (results.tasks.len(), is_small) {
        (1, false) => "One task",
        (1, true) => "One small task",
        (_, false) => "A few tasks",
        (_, true) => "A few small tasks",
    };
    caveats.push(format!("{few}: an effect here need not carry over to other data, models or run lengths."));
    caveats
}

fn seeds(results: &Results, caveats: &mut Vec<String>) {
    // Two samples of four can have a verdict.
    if !results.tasks.iter().all(TaskResults::is_paired) {
        return;
    }
    match results.study.seeds {
        1 => caveats.push(
            "With one seed there is no spread and no interval: nothing here separates an effect from luck.".into(),
        ),
        seeds if seeds < FEWEST_PAIRS => caveats.push(format!(
            "{seeds} seeds are too few for any verdict: an exact test over {} sign patterns has no p below {}, before any \
             correction.",
            1_u64 << seeds,
            2.0 / (1_u64 << seeds) as f64
        )),
        _ => {}
    }
}

/// Differences of arms that stopped when they were large.
fn early(results: &Results, findings: &[TaskFindings], caveats: &mut Vec<String>) {
    let is_early = |arm: &super::ArmFindings| {
        arm.stop.is_some_and(|stop| stop.reason == Reason::Found && stop.seeds < results.study.seeds)
    };
    if findings.iter().flat_map(|task| &task.arms).any(is_early) {
        caveats.push(
            "Arms with a verdict before the end stopped at a look at which their difference was large: its mean is too far from zero, and its interval \
             covers less than 95 %. The verdict keeps its 5 %."
                .to_owned(),
        );
    }
}

/// Earlier reports of the same runs, and parts of the study that were left out this time.
fn choices(results: &Results, caveats: &mut Vec<String>) {
    let study = &results.study;
    if !study.earlier_seeds.is_empty() {
        let seeds: Vec<String> = study.earlier_seeds.iter().map(usize::to_string).collect();
        let seeds: Vec<&str> = seeds.iter().map(String::as_str).collect();
        caveats.push(format!(
            "These runs were reported before with {} seeds. A verdict keeps its 5 % where the number of seeds was fixed before; where seeds \
             are added until there is one, false ones are more frequent (10 % of one arm, with a look at each of 6 to 10 seeds).",
            list(&seeds)
        ));
    }
    for (what, left_out, rest) in [
        ("arms", &study.arms_left_out, results.arms.len().saturating_sub(1)),
        ("tasks", &study.tasks_left_out, results.tasks.len()),
    ] {
        if !left_out.is_empty() {
            let names: Vec<&str> = left_out.iter().map(String::as_str).collect();
            let names = if names.len() <= MANY { format!(" ({})", list(&names)) } else { String::new() };
            caveats.push(format!(
                "{} of the study's {what} were left out by --{what}{names}, and what is corrected is corrected over the {rest} that are here. \
                 Verdicts keep their 5 % where these were chosen before any was seen.",
                left_out.len()
            ));
        }
    }
}

pub(super) fn titles(results: &Results, has: impl Fn(usize) -> bool) -> Vec<&str> {
    let with_index = results.arms.iter().enumerate();
    with_index.filter(|(index, _)| has(*index)).map(|(_, arm)| arm.title.as_str()).collect()
}

/// `a, b and c`.
pub(super) fn list(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// Arms by their titles; where almost all are meant, by those that are not.
pub(super) fn arms(results: &Results, titles: &[&str]) -> String {
    let others: Vec<&str> =
        results.arms.iter().map(|arm| arm.title.as_str()).filter(|title| !titles.contains(title)).collect();
    match others.len() {
        _ if titles.len() <= MANY => list(titles),
        0 => "all arms".to_owned(),
        1..=MANY => format!("all arms but {}", list(&others)),
        _ => format!("{} of the {} arms", titles.len(), results.arms.len()),
    }
}

fn dead(results: &Results, task: &TaskResults, findings: &TaskFindings, caveats: &mut Vec<String>) {
    let dead = titles(results, |arm| findings.arms[arm].verdict == Verdict::Dead);
    if !dead.is_empty() {
        caveats.push(format!(
            "{}: {} had the base's {} on every seed. Here the switch does nothing.",
            task.name,
            arms(results, &dead),
            if !task.is_trained_here() { "numbers to the last digit" } else { "weights to the bit" }
        ));
    }
}

fn diverged(results: &Results, task: &TaskResults, caveats: &mut Vec<String>) {
    for (arm, runs) in results.arms.iter().zip(&task.arms) {
        let diverged = runs.runs.iter().filter(|run| run.record.evaluation().is_none());
        let seeds: Vec<String> = diverged.map(|run| run.seed.to_string()).collect();
        if !seeds.is_empty() {
            caveats.push(format!(
                "{}: {} of {} runs of {} diverged (seed {}). They are in no mean and no interval, which flatters the arm; in the \
                 test and in the probability of improvement they are the worst.",
                task.name,
                seeds.len(),
                runs.runs.len(),
                arm.title,
                seeds.join(", ")
            ));
        }
    }
}

fn skipped(results: &Results, task: &TaskResults, caveats: &mut Vec<String>) {
    for (arm, runs) in results.arms.iter().zip(&task.arms) {
        let with: Vec<usize> =
            runs.runs.iter().map(|run| run.record.skipped).filter(|count| *count > 0).collect();
        if let Some(most) = with.iter().max() {
            caveats.push(format!(
                "{}: {} of {} runs of {} skipped steps whose gradients were not finite, up to {most} of {} steps. They trained \
                 for so many fewer.",
                task.name,
                with.len(),
                runs.runs.len(),
                arm.title,
                task.steps
            ));
        }
    }
}

/// A loss of zero has no logarithm, and is the best there is.
fn perfect(results: &Results, task: &TaskResults, caveats: &mut Vec<String>) {
    let is_perfect = |record: &Record| {
        record.evaluation().is_some_and(|evaluation| task.about.measure.of(&evaluation) == f64::NEG_INFINITY)
    };
    for (arm, runs) in results.arms.iter().zip(&task.arms) {
        let perfect = runs.runs.iter().filter(|run| is_perfect(&run.record)).count();
        if perfect > 0 {
            caveats.push(format!(
                "{}: {perfect} of {} runs of {} ended with a loss of zero, which has no logarithm. They are in no mean and no \
                 interval; in the test and in the probability of improvement they are the best.",
                task.name,
                runs.runs.len(),
                arm.title
            ));
        }
    }
}

/// Unknowns of runs that others did.
fn read(task: &TaskResults, caveats: &mut Vec<String>) {
    let Some(origin) = &task.read else { return };
    for note in &origin.notes {
        // It is of the files, and so of every task.
        if !caveats.contains(note) {
            caveats.push(note.clone());
        }
    }
    caveats.push(if origin.is_paired {
        format!(
            "{}: runs were read from files, and are paired by their seeds. Whether a seed gives arm and base the same start and batches, nobody can see there; where it doesn't, \
             verdicts keep their 5 % and are harder to get. Nor can it be seen whether the number of runs was fixed before they were looked at, or who chose them.",
            task.name
        )
    } else {
        format!(
            "{}: the seeds of arms and base do not match, so that runs are compared as two samples, which takes more of them: Welch's intervals, and a permutation test of his t, \
             corrected after Holm. The number of runs must have been fixed before they were looked at, and none left out.",
            task.name
        )
    });
}

fn unpaired(results: &Results, task: &TaskResults, caveats: &mut Vec<String>) {
    if task.read.is_some() {
        return;
    }
    let unlike = |arm: &ArmRuns, of: fn(&Record) -> &str| {
        let mut pairs = arm.runs.iter().zip(&task.arms[0].runs);
        pairs.any(|(run, base)| of(&run.record) != of(&base.record) && run.record.steps == base.record.steps)
    };
    let unpaired = titles(results, |arm| {
        unlike(&task.arms[arm], |record| &record.initial_sha256)
            || unlike(&task.arms[arm], |record| &record.batches_sha256)
    });
    if !unpaired.is_empty() {
        caveats.push(format!(
            "{}: not every run of {} had the base's initialisation and batches, so its differences are not paired. This is a \
             defect of the task{}.",
            task.name,
            arms(results, &unpaired),
            if task.launched.is_some() { ", unless the arm changes what is trained" } else { "" }
        ));
    }
}

/// Promises of a command, which cannot be seen from outside.
fn promises(task: &TaskResults, findings: &TaskFindings, caveats: &mut Vec<String>) {
    let (Some(launched), Some(repeats)) = (&task.launched, &findings.repeats) else { return };
    if repeats.pairs == 0 {
        caveats.push(format!(
            "{}: no run of the base was done a second time (repeats = 0), so it is unknown whether a seed determines a run.",
            task.name
        ));
    }
    if launched.sources.is_none() {
        caveats.push(format!(
            "{}: no source of the command is named (sources = []), so runs of an older script cannot be told from those of this one.",
            task.name
        ));
    }
    if !task.measures(Split::Test) {
        caveats.push(format!(
            "{}: the command has no test split. Runs are measured by the validation split, on which a tuned arm was chosen, and whoever \
             changed the script has looked.",
            task.name
        ));
    }
}

/// Limits of a switch in the course of a run.
fn forks(results: &Results, findings: &TaskFindings, caveats: &mut Vec<String>) {
    if findings.forks.is_empty() {
        return;
    }
    caveats.push(format!(
        "{}: an arm that takes over later has fewer steps left, so that a smaller effect may be that alone. The steps share the base's runs and their own first part, and one effect less another has no interval here.",
        findings.name
    ));
    for fork in &findings.forks {
        let parts = [("starts fresh with", &fork.anew), ("leaves out", &fork.left_out)];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(_, kinds)| !kinds.is_empty())
            .map(|(what, kinds)| {
                format!("{what} {}", list(&kinds.iter().map(String::as_str).collect::<Vec<_>>()))
            })
            .collect();
        let is_first = !findings.forks.iter().any(|other| {
            other.arm == fork.arm
                && other.step < fork.step
                && (&other.anew, &other.left_out) == (&fork.anew, &fork.left_out)
        });
        if is_first && !parts.is_empty() {
            caveats.push(format!(
                "{}: where {} takes over, it {}. What is seen then is the switch together with that.",
                findings.name,
                results.arms[fork.arm].title,
                parts.join(", and ")
            ));
        }
    }
}

fn targets(results: &Results, task: &TaskResults, findings: &TaskFindings, caveats: &mut Vec<String>) {
    let Some(target) = task.validated_target() else { return };
    let missed = titles(results, |arm| {
        findings.arms[arm].to_target.as_ref().is_some_and(|steps| steps.reached < task.arms[arm].runs.len())
    });
    if missed.len() == results.arms.len() && findings.arms.iter().all(no_run_reached) {
        caveats
            .push(format!("{}: no run reached the target {target}; it says nothing about speed.", task.name));
    } else if !missed.is_empty() {
        caveats.push(format!(
            "{}: some runs of {} missed the target {target}. Their steps are censored at {}, and medians count them as longer.",
            task.name,
            arms(results, &missed),
            task.steps
        ));
    }
}

fn no_run_reached(arm: &super::ArmFindings) -> bool {
    arm.to_target.as_ref().is_none_or(|steps| steps.reached == 0)
}

fn resolution(task: &TaskResults, findings: &TaskFindings, caveats: &mut Vec<String>) {
    let (Measure::Accuracy, Some(examples), Some(base)) = (
        task.about.measure,
        task.about.test_examples,
        findings.arms.first().and_then(|base| base.value.as_ref()),
    ) else {
        return;
    };
    caveats.push(format!(
        "{}: every run is measured on the same {examples} test examples, of which one is {:.2} percentage points. The intervals \
         cover initialisation and batches; drawing other examples would move an accuracy by a standard error of {:.1} points.",
        task.name,
        100.0 / examples as f64,
        100.0 * error_of_share(base.mean, examples)
    ));
}

fn curves(results: &Results, task: &TaskResults, caveats: &mut Vec<String>) {
    let most = |arm: usize, has: fn(&Record) -> bool| {
        let runs = &task.arms[arm].runs;
        runs.iter().filter(|run| has(&run.record)).count() * 2 > runs.len()
    };
    let not_learning = titles(results, |arm| task.measures(Split::Train) && most(arm, has_not_learned));
    if !not_learning.is_empty() {
        caveats.push(format!(
            "{}: in most runs of {} the training loss ended no lower than it began.",
            task.name,
            arms(results, &not_learning)
        ));
    }
    let overfitted = titles(results, |arm| task.measures(Split::Validation) && most(arm, has_overfitted));
    if !overfitted.is_empty() {
        caveats.push(format!(
            "{}: in most runs of {} the validation loss ended more than 10 % above its lowest value; a shorter run, or \
             stopping early, would compare differently.",
            task.name,
            arms(results, &overfitted)
        ));
    }
    let growing = titles(results, |arm| most(arm, still_grows));
    if !growing.is_empty() {
        caveats.push(format!(
            "{}: in most runs of {} d grew by more than 5 % in the last quarter; a longer run would have another step size.",
            task.name,
            arms(results, &growing)
        ));
    }
}

fn has_not_learned(record: &Record) -> bool {
    match (record.curve.first(), record.curve.last()) {
        (Some(first), Some(last)) => {
            record.evaluation().is_some() && last.step > first.step && last.train.loss >= first.train.loss
        }
        _ => false,
    }
}

fn has_overfitted(record: &Record) -> bool {
    let losses = || record.curve.iter().map(|point| point.validation.loss);
    let lowest = losses().fold(f64::INFINITY, f64::min);
    losses().next_back().is_some_and(|last| last > 1.1 * lowest)
}

fn still_grows(record: &Record) -> bool {
    let from = record.steps - record.steps / 4;
    let d = |point: &crate::record::Point| point.groups.first().and_then(|group| group.d);
    let before = record.curve.iter().rfind(|point| point.step <= from).and_then(d);
    match (before, record.last().and_then(d)) {
        (Some(before), Some(last)) => last > 1.05 * before,
        _ => false,
    }
}

fn edges(results: &Results, task: &TaskResults, caveats: &mut Vec<String>) {
    let at_edge =
        titles(results, |arm| task.arms[arm].tuning.as_ref().is_some_and(|tuning| tuning.is_at_the_edge()));
    if !at_edge.is_empty() {
        caveats.push(format!(
            "{}: the learning rate chosen for {} lies at the edge of its grid; a better one may lie outside.",
            task.name,
            arms(results, &at_edge)
        ));
    }
}

fn tuning(results: &Results, caveats: &mut Vec<String>) {
    let Some(first) = results.tasks.first() else { return };
    let tuned = titles(results, |arm| first.arms[arm].tuning.is_some());
    if let Some(tuning) = first.arms.iter().find_map(|arm| arm.tuning.as_ref()) {
        caveats.push(format!(
            "{} had the best of {} settings on each task; the other arms ran as they are. An advantage of a tuned arm has the \
             price of {} further runs a task.",
            arms(results, &tuned),
            tuning.candidates.len(),
            tuning.candidates.len() * tuning.seeds.len()
        ));
    }
}
