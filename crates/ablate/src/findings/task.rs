//! One task: every arm against the base.

use ablate_statistics::{
    Bootstrap, Effect, FactorialEffects, PairedDifference, PairedSteps, StepsToTarget, Summary, ToTarget,
    holm,
};

use super::overall::{probability, scores, steps_to_target};
use super::{ArmFindings, CONFIDENCE, FEWEST_PAIRS, FactorEffect, Factorial, TaskFindings, Verdict};
use crate::record::Record;
use crate::results::{ArmRuns, Results, Role, TaskResults};

pub(super) fn findings(results: &Results, task: &TaskResults, method: &Bootstrap) -> TaskFindings {
    let differences: Vec<Option<PairedDifference>> = task
        .arms
        .iter()
        .enumerate()
        .map(|(index, _)| if index == 0 { None } else { PairedDifference::of(&values(task, index), method) })
        .collect();
    let p: Vec<Option<f64>> = differences
        .iter()
        .map(|difference| difference.as_ref().and_then(|difference| difference.p))
        .collect();
    let adjusted = holm(&p);
    let arms = differences
        .into_iter()
        .zip(adjusted)
        .enumerate()
        .map(|(index, (difference, adjusted_p))| arm_findings(task, index, difference, adjusted_p))
        .collect();
    TaskFindings {
        name: task.name.clone(),
        measure: task.about.measure,
        arms,
        factorial: factorial(results, task, method),
    }
}

/// By seed, the measure of the arm and of the base, in the measure's own direction; a run that diverged has the worst value.
fn values(task: &TaskResults, arm: usize) -> Vec<(f64, f64)> {
    let sign = if task.about.measure.higher_is_better() { 1.0 } else { -1.0 };
    scores(task, arm).into_iter().map(|(arm, base)| (sign * arm, sign * base)).collect()
}

fn arm_findings(
    task: &TaskResults,
    index: usize,
    difference: Option<PairedDifference>,
    adjusted_p: Option<f64>,
) -> ArmFindings {
    let (arm, base) = (&task.arms[index], &task.arms[0]);
    let finished: Vec<&Record> =
        arm.runs.iter().map(|run| &run.record).filter(|record| record.evaluation().is_some()).collect();
    let summary = |of: &dyn Fn(&Record) -> Option<f64>| {
        let values = finished.iter().filter_map(|record| of(record)).filter(|value| value.is_finite());
        Summary::of(&values.collect::<Vec<_>>())
    };
    let diverged = |arm: &ArmRuns| arm.runs.iter().filter(|run| run.record.evaluation().is_none()).count();
    let to_target = |record: &Record| match steps_to_target(task, record) {
        Some(steps) => ToTarget::Reached(steps),
        None => ToTarget::Missed(task.steps as f64),
    };
    let targets = |arm: &ArmRuns| arm.runs.iter().map(|run| to_target(&run.record)).collect::<Vec<_>>();
    let pairs: Vec<(ToTarget, ToTarget)> = targets(arm).into_iter().zip(targets(base)).collect();
    let is_dead = index > 0
        && !arm.runs.is_empty()
        && arm.runs.iter().zip(&base.runs).all(|(run, base)| {
            run.record.trajectory_sha256 == base.record.trajectory_sha256
                && run.record.outcome == base.record.outcome
        });
    let verdict = match (&difference, adjusted_p) {
        _ if index == 0 => Verdict::Base,
        _ if is_dead => Verdict::Dead,
        (Some(difference), Some(p))
            if difference.n >= FEWEST_PAIRS && p <= 1.0 - CONFIDENCE && difference.tested_mean != 0.0 =>
        {
            let better = (difference.tested_mean > 0.0) == task.about.measure.higher_is_better();
            if better { Verdict::Better } else { Verdict::Worse }
        }
        _ => Verdict::Unclear,
    };
    let scores = scores(task, index);
    ArmFindings {
        verdict,
        diverged: diverged(arm),
        value: summary(&|record| record.evaluation().map(|evaluation| task.about.measure.of(&evaluation))),
        train_loss: summary(&|record| record.last().map(|point| point.train.loss)),
        difference,
        adjusted_p,
        probability_of_improvement: (index > 0 && !scores.is_empty()).then(|| probability(&scores)),
        to_target: StepsToTarget::of(&targets(arm)),
        paired_steps: (index > 0).then(|| PairedSteps::of(&pairs)),
        d: final_d(task, &finished),
    }
}

fn final_d(task: &TaskResults, finished: &[&Record]) -> Vec<Option<f64>> {
    let of_group = |group: usize| {
        let values: Option<Vec<f64>> =
            finished.iter().map(|record| record.last()?.groups.get(group)?.d).collect();
        let values = values.filter(|values| !values.is_empty())?;
        Some(values.iter().sum::<f64>() / values.len() as f64)
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
