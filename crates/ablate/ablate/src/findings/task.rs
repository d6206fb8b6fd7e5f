//! One task: every arm against the base.

use ablate_statistics::{
    Bootstrap, Effect, FactorialEffects, PairedDifference, PairedSteps, StepsToTarget, Summary, ToTarget,
    detectable_difference, repeat_noise, tested_differences, unpaired_difference, unpaired_equivalence_p,
};
use ablate_tasks::Split;

use super::overall::steps_to_target;
use super::{
    ArmFindings, CONFIDENCE, Corrected, Detectable, FEWEST_PAIRS, FactorEffect, Factorial, POWER, Reason,
    Repeats, TaskFindings, Verdict, fork,
};
use crate::record::Record;
use crate::results::{ArmRuns, Matters, Results, Role, Run, TaskResults};

/// The tested differences to the base, by arm and seed, among the first seeds. Empty for the base, and for an arm that
/// does nothing, which needs no test.
pub(super) fn family(task: &TaskResults, seeds: usize) -> Vec<Vec<Option<f64>>> {
    let of_arm = |arm: usize| {
        if arm == 0 || is_dead(task, arm) || !task.is_paired() {
            return Vec::new();
        }
        let mut pairs = pairs(task, arm);
        pairs.truncate(seeds);
        let present: Vec<(f64, f64)> = pairs.iter().copied().flatten().collect();
        let mut tested = tested_differences(&present).into_iter();
        pairs.iter().map(|pair| pair.and_then(|_| tested.next())).collect()
    };
    (0..task.arms.len()).map(of_arm).collect()
}

/// By arm and seed, the difference to the base if both runs have a number or neither has. It is infinite, and outside
/// every margin, if only one of the two diverged.
pub(super) fn finite_family(task: &TaskResults, seeds: usize) -> Vec<Vec<Option<f64>>> {
    let of_arm = |arm: usize| {
        if arm == 0 || is_dead(task, arm) || !task.is_paired() {
            return Vec::new();
        }
        // Two runs that diverged have no difference.
        let difference = |(arm, base): (f64, f64)| (arm != base || arm.is_finite()).then_some(arm - base);
        pairs(task, arm).into_iter().take(seeds).map(|pair| pair.and_then(difference)).collect()
    };
    (0..task.arms.len()).map(of_arm).collect()
}

/// By arm, the smallest difference that matters; 0 if the study does not say.
pub(super) fn margins(task: &TaskResults, seeds: usize) -> Vec<f64> {
    vec![margin(task, seeds).unwrap_or(0.0); task.arms.len()]
}

fn margin(task: &TaskResults, seeds: usize) -> Option<f64> {
    let of =
        |run: &Run| Some(task.about.measure.of(&run.record.evaluation()?)).filter(|value| value.is_finite());
    match task.matters? {
        Matters::Difference(difference) => Some(difference),
        Matters::OfSpread { sd } => {
            let values: Vec<f64> = task.arms[0].runs.iter().take(seeds).filter_map(of).collect();
            Some(sd * Summary::of(&values)?.sd?).filter(|margin| *margin > 0.0)
        }
    }
}

/// The findings, given every arm's corrected p.
pub(super) fn findings(
    results: &Results,
    task: &TaskResults,
    corrected: &[Corrected],
    method: &Bootstrap,
) -> TaskFindings {
    let arms: Vec<ArmFindings> =
        corrected.iter().enumerate().map(|(arm, p)| arm_findings(task, arm, *p, method)).collect();
    TaskFindings {
        name: task.name.clone(),
        measure: task.about.measure,
        matters: margin(task, usize::MAX),
        detectable: detectable(&arms),
        repeats: repeats(task, &arms),
        forks: fork::findings(task, method),
        arms,
        factorial: factorial(results, task, method),
    }
}

/// The base's runs compared with their repetitions.
fn repeats(task: &TaskResults, arms: &[ArmFindings]) -> Option<Repeats> {
    let again = &task.launched.as_ref()?.repeats;
    let first = |run: &Run| task.arms[0].runs.iter().find(|first| first.seed == run.seed);
    let pairs: Vec<(&Run, &Run)> = again.iter().filter_map(|run| Some((first(run)?, run))).collect();
    let is_equal = |(first, run): &&(&Run, &Run)| is_same(&first.record, &run.record);
    let of = |run: &Run| run.record.evaluation().map_or(f64::NAN, |found| task.about.measure.of(&found));
    let values: Vec<(f64, f64)> = pairs.iter().map(|(first, run)| (of(first), of(run))).collect();
    let noise = repeat_noise(&values);
    let spread = middle_spread(arms);
    Some(Repeats {
        pairs: pairs.len(),
        equal: pairs.iter().filter(is_equal).count(),
        noise,
        share: noise.zip(spread).map(|(noise, spread)| (noise / spread).powi(2).min(1.0)),
    })
}

/// By seed of the base, the measure of the arm and of the base, in the measure's own direction; a run that diverged, or
/// has no number, has the worst value.
fn pairs(task: &TaskResults, arm: usize) -> Vec<Option<(f64, f64)>> {
    let value = |record: &Record| value(task, record);
    let of_seed = |seed: u64| task.arms[arm].runs.iter().find(|run| run.seed == seed);
    let base = task.arms[0].runs.iter();
    base.map(|run| Some((value(&of_seed(run.seed)?.record), value(&run.record)))).collect()
}

/// The measure of a run; the worst value if it diverged, or has no number.
fn value(task: &TaskResults, record: &Record) -> f64 {
    let measure = task.about.measure;
    let worst = if measure.higher_is_better() { f64::NEG_INFINITY } else { f64::INFINITY };
    let value = record.evaluation().map(|evaluation| measure.of(&evaluation));
    value.filter(|value| !value.is_nan()).unwrap_or(worst)
}

/// Whether an arm has the base's runs, and one of them finished. Runs that all diverged may have ended before the arm
/// could differ.
pub(super) fn is_dead(task: &TaskResults, arm: usize) -> bool {
    let (arm, base) = (&task.arms[arm], &task.arms[0]);
    arm.runs.iter().any(|run| run.record.evaluation().is_some()) && task.is_paired() && are_same(arm, base)
}

/// Whether two arms have the same runs, to the bit.
pub(crate) fn are_same(one: &ArmRuns, other: &ArmRuns) -> bool {
    let mut pairs = one.runs.iter().zip(&other.runs);
    !one.runs.is_empty() && pairs.all(|(one, other)| is_same(&one.record, &other.record))
}

fn is_same(one: &Record, other: &Record) -> bool {
    one.trajectory_sha256 == other.trajectory_sha256 && one.outcome == other.outcome
}

/// Number of an arm's runs that diverged.
pub(crate) fn diverged(arm: &ArmRuns) -> usize {
    arm.runs.iter().filter(|run| run.record.evaluation().is_none()).count()
}

/// Median spread of the tested arms' differences.
fn middle_spread(arms: &[ArmFindings]) -> Option<f64> {
    let tested = arms.iter().filter(|arm| arm.adjusted_p.is_some()).filter_map(|arm| arm.difference?.sd);
    let spreads: Vec<f64> = tested.collect();
    Summary::of(&spreads).map(|spreads| spreads.median).filter(|spread| *spread > 0.0)
}

/// Smallest difference that would probably be found, for the median spread of the tested arms.
fn detectable(arms: &[ArmFindings]) -> Option<Detectable> {
    let tested = || arms.iter().filter(|arm| arm.adjusted_p.is_some()).filter_map(|arm| arm.difference);
    let pairs = tested().map(|difference| difference.n).min()?;
    let deviations = detectable_difference(pairs, tested().count(), 1.0 - CONFIDENCE, POWER)?;
    Some(Detectable { deviations, difference: middle_spread(arms).map(|spread| deviations * spread) })
}

pub(super) fn arm_findings(
    task: &TaskResults,
    index: usize,
    Corrected { different: (adjusted_p, study_p), alike: (equivalence_p, study_equivalence_p), stop }: Corrected,
    method: &Bootstrap,
) -> ArmFindings {
    let (arm, base) = (&task.arms[index], &task.arms[0]);
    let difference = if index == 0 { None } else { difference(task, index, method) };
    let finished: Vec<&Record> =
        arm.runs.iter().map(|run| &run.record).filter(|record| record.evaluation().is_some()).collect();
    let summary = |of: &dyn Fn(&Record) -> Option<f64>| {
        let values = finished.iter().filter_map(|record| of(record)).filter(|value| value.is_finite());
        Summary::of(&values.collect::<Vec<_>>())
    };
    let to_target = |run: &Run| match steps_to_target(task, run) {
        Some(steps) => ToTarget::Reached(steps),
        None => ToTarget::Missed(task.steps as f64),
    };
    let targets = |arm: &ArmRuns| arm.runs.iter().map(to_target).collect::<Vec<_>>();
    let to_targets: Vec<(ToTarget, ToTarget)> = targets(arm).into_iter().zip(targets(base)).collect();
    let is_decided = |p: Option<f64>, pairs: usize, reason: Reason| match stop {
        // In a sequential study the look that decided.
        Some(stop) => stop.reason == reason,
        None => (pairs >= FEWEST_PAIRS || !task.is_paired()) && p.is_some_and(|p| p <= 1.0 - CONFIDENCE),
    };
    let verdict = match &difference {
        _ if index == 0 => Verdict::Base,
        _ if is_dead(task, index) => Verdict::Dead,
        Some(difference) if is_decided(equivalence_p, difference.finite, Reason::Equivalent) => {
            Verdict::Equivalent
        }
        Some(difference)
            if is_decided(adjusted_p, difference.n, Reason::Found) && difference.tested != 0.0 =>
        {
            if (difference.tested > 0.0) == task.about.measure.higher_is_better() {
                Verdict::Better
            } else {
                Verdict::Worse
            }
        }
        _ => Verdict::Unclear,
    };
    let is_higher_better = task.about.measure.higher_is_better();
    let better = |difference: &PairedDifference| {
        let higher = difference.probability_of_higher;
        if is_higher_better { higher } else { higher.of_lower() }
    };
    ArmFindings {
        verdict,
        stop,
        diverged: diverged(arm),
        value: summary(&|record| record.evaluation().map(|evaluation| task.about.measure.of(&evaluation))),
        train_loss: summary(&|record| {
            record.last().filter(|_| task.measures(Split::Train)).map(|point| point.train.loss)
        }),
        probability_of_improvement: difference.as_ref().map(better),
        difference,
        adjusted_p,
        study_p,
        equivalence_p,
        study_equivalence_p,
        to_target: task.validated_target().and_then(|_| StepsToTarget::of(&targets(arm))),
        paired_steps: (index > 0 && task.validated_target().is_some()).then(|| PairedSteps::of(&to_targets)),
        d: final_d(task, &finished),
    }
}

/// An arm's difference to the base, of pairs or of two samples.
pub(super) fn difference(task: &TaskResults, arm: usize, method: &Bootstrap) -> Option<PairedDifference> {
    if task.is_paired() {
        let pairs: Vec<(f64, f64)> = pairs(task, arm).into_iter().flatten().collect();
        return PairedDifference::of(&pairs, method);
    }
    unpaired_difference(&values(task, arm), &values(task, 0), method)
}

/// p of a difference between the two samples that matters.
pub(super) fn unpaired_equivalence(task: &TaskResults, arm: usize, margin: f64) -> Option<f64> {
    unpaired_equivalence_p(&values(task, arm), &values(task, 0), margin)
}

fn values(task: &TaskResults, arm: usize) -> Vec<f64> {
    task.arms[arm].runs.iter().map(|run| value(task, &run.record)).collect()
}

fn final_d(task: &TaskResults, finished: &[&Record]) -> Vec<Option<f64>> {
    let of_group = |group: usize| {
        let values: Option<Vec<f64>> =
            finished.iter().map(|record| record.last()?.groups.get(group)?.d).collect();
        Some(Summary::of(&values?)?.mean)
    };
    (0..task.groups.len()).map(of_group).collect()
}

/// Only a complete table of finite numbers has effects that add up.
fn factorial(results: &Results, task: &TaskResults, method: &Bootstrap) -> Option<Factorial> {
    let names: Vec<&String> = results.study.factors.iter().map(|(name, _)| name).collect();
    if results.study.design != "factorial" || names.len() < 2 {
        return None;
    }
    let mask = |factors: &[String]| {
        let bit = |factor: &String| {
            names.iter().position(|name| *name == factor).map(|position| 1_usize << position)
        };
        factors.iter().map(bit).sum::<Option<usize>>()
    };
    let mut arm_of_mask = vec![None; 1 << names.len()];
    for (index, arm) in results.arms.iter().enumerate().filter(|(_, arm)| arm.role != Role::Baseline) {
        arm_of_mask[mask(&arm.factors)?] = Some(index);
    }
    let arms: Vec<usize> = arm_of_mask.into_iter().collect::<Option<_>>()?;
    let response = |seed: usize, arm: usize| {
        let evaluation = task.arms[arm].runs.get(seed)?.record.evaluation()?;
        Some(task.about.measure.of(&evaluation)).filter(|value| value.is_finite())
    };
    let responses: Vec<Vec<f64>> = (0..task.arms[0].runs.len())
        .map(|seed| arms.iter().map(|&arm| response(seed, arm)).collect::<Option<Vec<_>>>())
        .collect::<Option<_>>()?;
    let effects = FactorialEffects::of(&responses, names.len(), method)?;
    let effect = |factors: Vec<String>, effect: &Effect| FactorEffect {
        factors,
        mean: effect.mean,
        interval: effect.interval,
        p: effect.p,
        adjusted_p: effect.adjusted_p,
    };
    let single = |effects: &[Effect]| {
        effects.iter().zip(&names).map(|(e, name)| effect(vec![(*name).clone()], e)).collect::<Vec<_>>()
    };
    Some(Factorial {
        main: single(&effects.main),
        interactions: effects
            .interactions
            .iter()
            .map(|(first, second, e)| effect(vec![names[*first].clone(), names[*second].clone()], e))
            .collect(),
        shapley: single(&effects.shapley),
    })
}
