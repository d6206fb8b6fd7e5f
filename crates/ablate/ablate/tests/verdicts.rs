//! What is said of many arms and tasks: verdicts that are possible, arms that do nothing, corrections and their traces.

use std::sync::OnceLock;

use ablate::execute::Execution;
use ablate::findings::{Findings, Verdict};
use ablate::record::Outcome;
use ablate::registry::Registry;
use ablate::report;
use ablate::results::{Matters, Results};
use ablate::store::Store;
use ablate::study::{Overrides, Study};
use ablate_tasks::{Evaluation, Measure};

const STUDY: &str = r#"
    tasks = [{ task = "quadratic", steps = 1 }, { task = "rosenbrock", steps = 1 }]
    seeds = 10
    evaluations = 1
    [[factor]]
    name = "arm"
    on = { d_coef = 2.0 }
"#;

/// A study of accuracies: `value(task, arm, seed)`, where arm 0 is the base. An arm with all of the base's values does
/// nothing.
fn study(tasks: usize, arms: usize, seeds: usize, value: impl Fn(usize, usize, usize) -> f64) -> Results {
    static RESULTS: OnceLock<Results> = OnceLock::new();
    let results = RESULTS.get_or_init(|| {
        let registry = Registry::shipped();
        let study = Study::parse("test", STUDY, &registry, &Overrides::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let execution = Execution::new(&study, &registry, &store);
        execution.results(&()).unwrap()
    });
    let mut results = results.clone();
    results.study.seeds = seeds;
    let changed = results.arms[1].clone();
    results.arms.truncate(1);
    for arm in 1..=arms {
        let mut changed = changed.clone();
        changed.name = format!("arm-{arm}");
        changed.title = format!("+ arm {arm}");
        results.arms.push(changed);
    }
    let first = results.tasks[0].clone();
    results.tasks.clear();
    for index in 0..tasks {
        let mut task = first.clone();
        task.name = format!("task-{index}");
        task.about.measure = Measure::Accuracy;
        let runs = task.arms[0].clone();
        task.arms = (0..=arms).map(|_| runs.clone()).collect();
        for (arm, runs) in task.arms.iter_mut().enumerate() {
            runs.runs.truncate(seeds);
            for (seed, run) in runs.runs.iter_mut().enumerate() {
                let accuracy = value(index, arm, seed);
                run.record.trajectory_sha256 = format!("{seed} {accuracy}");
                let evaluation = Evaluation { loss: 1.0, accuracy: Some(accuracy) };
                run.record.outcome = Outcome::Finished { evaluation };
            }
        }
        results.tasks.push(task);
    }
    results
}

/// Somewhere between 0 and 1, without an order.
fn noise(task: usize, arm: usize, seed: usize) -> f64 {
    let mixed = (task * 7919 + arm * 104_729 + seed * 1_299_709 + 12_345) * 2_654_435_761 % 4_294_967_296;
    mixed as f64 / 4_294_967_296.0
}

fn markdown(results: &Results) -> String {
    let folder = tempfile::tempdir().unwrap();
    report::write(folder.path(), results, &Findings::of(results), &report::Environment::default()).unwrap();
    std::fs::read_to_string(folder.path().join(report::MARKDOWN_FILE)).unwrap()
}

#[test]
fn ten_seeds_are_enough_for_thirty_one_arms_that_are_each_forty_points_better() {
    let results =
        study(1, 31, 10, |_, arm, seed| 0.4 + 0.01 * noise(0, arm, seed) + if arm > 0 { 0.4 } else { 0.0 });
    let found = &Findings::of(&results).tasks[0];
    assert!(found.arms[1..].iter().all(|arm| arm.verdict == Verdict::Better));
    assert!(found.detectable.is_some_and(|found| found.deviations < 2.5 && found.difference.is_some()));
    let text = markdown(&results);
    assert!(text.contains("Four of five studies like this find a difference of 1."), "{text}");
    assert!(text.contains("For the arm in the middle these are: task-0 0."), "{text}");
}

#[test]
fn arms_that_do_nothing_take_no_part_in_the_correction() {
    let value = |_: usize, arm: usize, seed: usize| match arm {
        0 | 11.. => 0.9 + 0.01 * noise(0, 0, seed),
        1 => 0.92 + 0.01 * noise(0, 0, seed) + 0.001 * noise(0, 1, seed),
        _ => 0.9 + 0.01 * noise(0, arm, seed),
    };
    let (live, with_dead) = (study(1, 10, 10, value), study(1, 30, 10, value));
    let (live, with_dead) = (Findings::of(&live), Findings::of(&with_dead));
    let p = |findings: &Findings| {
        findings.tasks[0].arms[1..11].iter().map(|arm| arm.adjusted_p).collect::<Vec<_>>()
    };
    assert_eq!(p(&live), p(&with_dead));
    assert_eq!(with_dead.tasks[0].arms[1].verdict, Verdict::Better);
    assert!(
        with_dead.tasks[0].arms[11..]
            .iter()
            .all(|arm| arm.verdict == Verdict::Dead && arm.adjusted_p.is_none())
    );
    assert_eq!(live.tasks[0].detectable, with_dead.tasks[0].detectable);
}

#[test]
fn an_arm_that_does_nothing_has_a_difference_of_zero_and_no_interval() {
    let text = markdown(&study(1, 1, 10, |_, _, seed| 0.9 + 0.01 * noise(0, 0, seed)));
    assert!(text.contains("| + arm 1 |") && text.contains("= no effect"), "{text}");
    assert!(!text.contains("[no interval]") && !text.contains("[0.00, 0.00]"), "{text}");
}

#[test]
fn the_answer_says_which_verdicts_stand_a_correction_over_all_tasks() {
    // On the first task an arm is better on every seed and by much; on the others it is on the edge: nine of ten seeds.
    let value = |task: usize, arm: usize, seed: usize| {
        let base = 0.5 + 0.1 * noise(task, 0, seed);
        match (arm, task) {
            (0, _) => base,
            (1, 0) => base + 0.2 + 0.001 * noise(task, 1, seed),
            (1, 1) => base + if seed == 0 { -0.04 } else { 0.02 + 0.01 * noise(task, 1, seed) },
            _ => base + 0.1 * (noise(task, arm, seed) - 0.5),
        }
    };
    let results = study(6, 4, 10, value);
    let findings = Findings::of(&results);
    let arm = |task: usize| &findings.tasks[task].arms[1];
    assert_eq!((arm(0).verdict, arm(1).verdict), (Verdict::Better, Verdict::Better));
    assert!(arm(0).study_p.is_some_and(|p| p <= 0.05), "{:?}", arm(0).study_p);
    assert!(arm(1).study_p.is_some_and(|p| p > 0.05), "{:?}", arm(1).study_p);
    for task in &findings.tasks {
        assert!(task.arms.iter().all(|arm| arm.study_p >= arm.adjusted_p));
    }
    let text = markdown(&results);
    assert!(text.contains("**Over all tasks.**") && text.contains("p, all tasks"), "{text}");
    assert!(text.contains("1 of 2 verdicts (+\u{a0}arm 1 on task-0)"), "{text}");
    // With one task there is nothing else to correct over.
    assert!(!markdown(&study(1, 4, 10, value)).contains("all tasks"));
}

#[test]
fn arms_and_tasks_that_were_left_out_and_earlier_looks_leave_a_trace() {
    let chosen =
        Overrides { arms: vec!["cautious".into()], tasks: vec!["digits".into()], ..Overrides::default() };
    let info = Study::open("cautious", &Registry::shipped(), &chosen).unwrap().info();
    assert_eq!((info.arms_left_out.len(), info.tasks_left_out.len()), (1, 5));
    let mut results = study(1, 1, 10, noise);
    results.study.arms_left_out = info.arms_left_out;
    results.study.tasks_left_out = info.tasks_left_out;
    results.study.earlier_seeds = vec![6, 8];
    let caveats = Findings::of(&results).caveats.join("\n");
    for expected in ["left out by --arms (reference)", "left out by --tasks", "before with 6 and 8 seeds"] {
        assert!(caveats.contains(expected), "{caveats}");
    }
    let whole = Study::open("cautious", &Registry::shipped(), &Overrides::default()).unwrap().info();
    assert!(whole.arms_left_out.is_empty() && whole.tasks_left_out.is_empty());
}

#[test]
fn no_interval_of_accuracies_is_of_rounding_errors() {
    let counts = [(350, 355), (349, 354), (356, 354), (353, 349)];
    let results = study(1, 1, 4, |_, arm, seed| {
        let (changed, base) = counts[seed];
        f64::from(if arm == 0 { base } else { changed }) / 360.0
    });
    let text = markdown(&results);
    assert!(text.contains("[no interval]") && !text.contains("0000000"), "{text}");
}

#[test]
fn an_arm_that_makes_no_difference_that_matters_is_named_first_and_one_that_is_only_unclear_is_not() {
    let value = |_task: usize, arm: usize, seed: usize| {
        let base = 0.8 + 0.01 * noise(0, 0, seed);
        match arm {
            0 => base,
            // Close on every seed; surely different, and by less than matters; clearly worse; anywhere.
            1 => base + 0.001 * (noise(0, 1, seed) - 0.5),
            2 => base + 0.002 + 0.0001 * noise(0, 2, seed),
            3 => base - 0.05 - 0.001 * noise(0, 3, seed),
            _ => base + 0.1 * (noise(0, 4, seed) - 0.5),
        }
    };
    let mut results = study(2, 4, 10, value);
    let verdicts = |results: &Results| {
        let findings = Findings::of(results);
        findings.tasks[0].arms.iter().map(|arm| arm.verdict).collect::<Vec<_>>()
    };
    let without = verdicts(&results);
    assert_eq!(without[2..], [Verdict::Better, Verdict::Worse, Verdict::Unclear]);
    for task in &mut results.tasks {
        task.matters = Some(Matters::Difference(0.005));
    }
    let with = verdicts(&results);
    assert_eq!(with[1..], [Verdict::Equivalent, Verdict::Equivalent, Verdict::Worse, Verdict::Unclear]);
    let findings = Findings::of(&results);
    assert_eq!((findings.overall[1].equivalent, findings.tasks[0].matters), (2, Some(0.005)));
    let summary = report::terminal::summary(&results, &findings);
    let answer = summary.lines().find(|line| line.starts_with("Makes no difference")).unwrap();
    assert!(answer.contains("arm 1 on all 2 tasks") && answer.contains("0.5 points on task-0"), "{answer}");
    let first = |what: &str| summary.find(what).unwrap();
    assert!(first("Makes no difference that matters") < first("Added"), "{summary}");
    assert!(summary.contains("≈ no difference"), "{summary}");
    // One run that diverged is no small difference, and two of a seed say nothing of it.
    let diverge = |results: &mut Results, arm: usize| {
        let reason = "it did".to_owned();
        results.tasks[0].arms[arm].runs[3].record.outcome = Outcome::Diverged { step: 1, reason };
    };
    diverge(&mut results, 1);
    assert_eq!(verdicts(&results)[1], Verdict::Unclear);
    diverge(&mut results, 0);
    assert_eq!(verdicts(&results)[1], Verdict::Equivalent);
    // As a multiple of the base's spread, which here is about 0.003.
    for task in &mut results.tasks {
        task.matters = Some(Matters::OfSpread { sd: 0.01 });
    }
    assert_eq!(verdicts(&results)[1], Verdict::Unclear);
    // Too few seeds are no evidence of anything.
    let mut few = study(1, 1, 5, value);
    few.tasks[0].matters = Some(Matters::Difference(0.005));
    assert_eq!(verdicts(&few)[1], Verdict::Unclear);
}
