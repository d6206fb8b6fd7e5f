//! Verdicts where runs diverged: they lose their pair, whichever side they are on, and nothing is said without the
//! test.

use std::sync::OnceLock;

use ablate::diff::{self, Change};
use ablate::execute::Execution;
use ablate::findings::{Findings, Verdict};
use ablate::record::Outcome;
use ablate::registry::Registry;
use ablate::report;
use ablate::results::Results;
use ablate::store::Store;
use ablate::study::{Overrides, Study};
use ablate_tasks::{About, Batch, Evaluation, Gradients, InitialParameter, Split, Task, TaskKind};
use serde_json::{Map, Value};

const STUDY: &str = r#"
    tasks = [{ task = "quadratic", steps = 1 }, { task = "rosenbrock", steps = 1 }]
    seeds = 10
    evaluations = 1
    [[factor]]
    name = "arm"
    on = { d_coef = 2.0 }
"#;

/// A study of an arm and a base with these final losses by seed on both tasks; nothing is a run that diverged.
fn study(base: &[Option<f64>], arm: &[Option<f64>]) -> Results {
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
    results.study.seeds = base.len();
    for task in &mut results.tasks {
        for (index, (runs, losses)) in task.arms.iter_mut().zip([base, arm]).enumerate() {
            runs.runs.truncate(losses.len());
            for (run, loss) in runs.runs.iter_mut().zip(losses) {
                run.record.trajectory_sha256 = format!("{index} {loss:?}");
                run.record.outcome = match *loss {
                    Some(loss) => Outcome::Finished { evaluation: Evaluation { loss, accuracy: None } },
                    None => Outcome::Diverged { step: 1, reason: "the loss overflowed".into() },
                };
            }
        }
    }
    results
}

/// Of a seed, around 1.
fn loss(seed: usize) -> Option<f64> {
    Some(1.0 + 0.01 * (seed * 7 % 10) as f64)
}

fn losses(seeds: usize, diverged: usize) -> Vec<Option<f64>> {
    (0..seeds).map(|seed| if seed < diverged { None } else { loss(seed) }).collect()
}

fn verdict(base: &[Option<f64>], arm: &[Option<f64>]) -> (Verdict, Option<f64>) {
    let found = Findings::of(&study(base, arm)).tasks.remove(0).arms.remove(1);
    (found.verdict, found.probability_of_improvement.map(|better| better.value))
}

#[test]
fn a_base_of_which_every_run_diverged_is_worse_than_an_arm_of_which_none_did() {
    let (base, arm) = (losses(10, 10), losses(10, 0));
    assert_eq!(verdict(&base, &arm), (Verdict::Better, Some(1.0)));
    assert_eq!(verdict(&arm, &base), (Verdict::Worse, Some(0.0)));
    let compared = diff::compare(&study(&base, &base), &study(&arm, &arm)).unwrap();
    assert!(compared.iter().all(|difference| difference.change == Change::Better), "{compared:?}");
    assert_eq!(compared[0].diverged, (10, 0));
    let compared = diff::compare(&study(&arm, &arm), &study(&base, &base)).unwrap();
    assert!(diff::is_regression(&compared), "{compared:?}");
    assert!(diff::table(&compared).contains("0 → 10"));
}

#[test]
fn one_run_more_that_diverged_is_no_evidence() {
    let (base, arm) = (losses(10, 0), losses(10, 1));
    assert_eq!(verdict(&base, &arm).0, Verdict::Unclear);
    assert_eq!(verdict(&arm, &base).0, Verdict::Unclear);
    let compared = diff::compare(&study(&base, &base), &study(&arm, &arm)).unwrap();
    assert!(!diff::is_regression(&compared), "{compared:?}");
    assert!(compared.iter().all(|difference| difference.adjusted_p == Some(1.0)), "{compared:?}");
}

#[test]
fn a_base_that_lost_four_pairs_does_not_win_by_the_six_others() {
    // Slightly worse wherever the base finished, and there it would be called worse if the four were left out.
    let (base, mut arm) = (losses(10, 4), losses(10, 0));
    arm.iter_mut().flatten().for_each(|loss| *loss += 0.001);
    assert_eq!(verdict(&base, &arm).0, Verdict::Unclear);
    let results = study(&base, &arm);
    let difference = Findings::of(&results).tasks[0].arms[1].difference.unwrap();
    assert_eq!((difference.n, difference.finite), (10, 6));
    let summary = report::terminal::summary(&results, &Findings::of(&results));
    assert!(summary.contains("6 of 10") && summary.contains("test and in the probability"), "{summary}");
}

#[test]
fn too_few_seeds_have_no_verdict_anywhere() {
    for seeds in 1..=5 {
        for (base, arm) in [(0, seeds), (seeds, 0), (0, seeds - seeds / 3)] {
            let results = study(&losses(seeds, base), &losses(seeds, arm));
            let findings = Findings::of(&results);
            assert!(findings.tasks.iter().all(|task| task.arms[1].verdict == Verdict::Unclear));
            let folder = tempfile::tempdir().unwrap();
            report::write(folder.path(), &results, &findings, &report::Environment::default()).unwrap();
            let markdown = std::fs::read_to_string(folder.path().join(report::MARKDOWN_FILE)).unwrap();
            let said = [report::terminal::summary(&results, &findings), markdown];
            for text in said {
                assert!(!text.contains("worse on") && !text.contains("better on"), "{text}");
                assert!(!text.contains('▼') && !text.contains('▲') && text.contains("No verdict"), "{text}");
            }
            let compared = diff::compare(&study(&losses(seeds, base), &[]), &study(&losses(seeds, arm), &[]));
            let compared = compared.unwrap();
            assert!(!diff::is_regression(&compared), "{compared:?}");
            assert!(diff::table(&compared).contains("nothing can be called better or worse"));
        }
    }
    assert_eq!(verdict(&losses(6, 6), &losses(6, 0)).0, Verdict::Better);
}

#[test]
fn a_loss_of_zero_is_the_best_logarithm_and_not_left_out() {
    let (base, arm) = (losses(10, 0), vec![Some(0.0); 10]);
    let results = study(&base, &arm);
    assert_eq!(verdict(&base, &arm), (Verdict::Better, Some(1.0)));
    let findings = Findings::of(&results);
    assert!(
        findings.caveats.iter().any(|caveat| caveat.contains("a loss of zero")),
        "{:?}",
        findings.caveats
    );
}

#[test]
fn a_report_of_runs_that_diverged_has_no_number_that_is_none() {
    for (base, arm) in [(10, 0), (0, 10), (10, 10), (4, 7), (9, 8)] {
        let results = study(&losses(10, base), &losses(10, arm));
        let findings = Findings::of(&results);
        let folder = tempfile::tempdir().unwrap();
        report::write(folder.path(), &results, &findings, &report::Environment::default()).unwrap();
        for file in [report::HTML_FILE, report::MARKDOWN_FILE, report::EFFECTS_FILE, report::RUNS_FILE] {
            let text = std::fs::read_to_string(folder.path().join(file)).unwrap();
            for wrong in ["NaN", ">inf", " inf", ",inf", "-inf", "−inf", "e308", "e300"] {
                assert!(!text.contains(wrong), "{file} of {base} and {arm}: {wrong}");
            }
        }
    }
}

#[test]
fn a_difference_after_an_arrow_has_a_sign_only_if_its_mean_points_the_other_way() {
    let base = losses(10, 0);
    let times = |factors: [Option<f64>; 10]| -> Vec<Option<f64>> {
        base.iter().zip(factors).map(|(loss, factor)| Some((*loss)? * factor?)).collect()
    };
    let mixed = std::array::from_fn(|seed| Some(if seed < 6 { 10.0 } else { 0.1 }));
    let one_left = std::array::from_fn(|seed| (seed == 9).then_some(0.1));
    let cases = [
        (times([Some(0.1); 10]), ["▲", "1.00"]),
        (times([Some(10.0); 10]), ["▼", "1.00"]),
        (times(mixed), ["·", "+0.20"]),
        (times(one_left), ["▼", "−1.00 (1 of 10 pairs)"]),
    ];
    for (arm, [sign, difference]) in cases {
        let results = study(&base, &arm);
        let folder = tempfile::tempdir().unwrap();
        let environment = report::Environment::default();
        report::write(folder.path(), &results, &Findings::of(&results), &environment).unwrap();
        let text = |file| std::fs::read_to_string(folder.path().join(file)).unwrap();
        let (markdown, page) = (text(report::MARKDOWN_FILE), text(report::HTML_FILE));
        assert!(markdown.contains(&format!("| {sign} {difference}")), "{sign} {difference} in {markdown}");
        assert!(page.contains(&format!(">{sign}</span> {difference}")), "{sign} {difference}");
        assert_eq!(markdown.contains("a difference after ▲ or ▼ has no sign"), sign != "·");
    }
}

/// A task whose third batch has a gradient that is not a number.
struct Broken(Box<dyn Task>);

impl Task for Broken {
    fn about(&self) -> About {
        self.0.about()
    }

    fn initial_parameters(&self, seed: u64) -> Vec<InitialParameter> {
        self.0.initial_parameters(seed)
    }

    fn batch(&self, seed: u64, step: usize) -> Batch {
        self.0.batch(seed, step)
    }

    fn gradients(&self, weights: &[&[f32]], batch: &Batch) -> anyhow::Result<Gradients> {
        let mut gradients = self.0.gradients(weights, batch)?;
        if batch.step == 2 {
            gradients.loss = f64::NAN;
            gradients.of.iter_mut().flatten().for_each(|gradient| gradient[0] = f32::NAN);
        }
        Ok(gradients)
    }

    fn evaluate(&self, weights: &[&[f32]], split: Split) -> anyhow::Result<Evaluation> {
        self.0.evaluate(weights, split)
    }
}

#[test]
fn a_step_that_the_optimizer_skips_is_counted_and_reported_and_the_run_goes_on() {
    let broken = TaskKind::new("broken", "a batch that is not a number", |options: Map<String, Value>| {
        let kind = ablate_tasks::shipped().into_iter().find(|kind| kind.name == "quadratic").unwrap();
        kind.build(&Value::Object(options)).map(Broken)
    });
    let registry = Registry::shipped().with_task(broken);
    let results = |base: &str| {
        let text = format!(
            "tasks = [{{ task = \"broken\", steps = 6 }}]\nseeds = 2\nevaluations = 2\n[base]\n{base}"
        );
        let study = Study::parse("test", &text, &registry, &Overrides::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let execution = Execution::new(&study, &registry, &store);
        execution.results(&()).unwrap()
    };
    let skipping = results("non_finite = \"skip\"");
    let record = &skipping.tasks[0].arms[0].runs[0].record;
    assert_eq!((record.steps, record.skipped, record.curve.len()), (6, 1, 3));
    assert!(
        record.evaluation().is_some() && record.curve.iter().skip(1).all(|point| point.batch_loss.is_some())
    );
    let caveats = Findings::of(&skipping).caveats;
    assert!(caveats.iter().any(|caveat| caveat.contains("2 of 2 runs of base skipped")), "{caveats:?}");
    let refusing = results("");
    let Outcome::Diverged { step, reason } = &refusing.tasks[0].arms[0].runs[0].record.outcome else {
        panic!("it went on")
    };
    assert!(*step == 3 && reason.contains("training loss was NaN"), "{reason}");
}

#[test]
fn results_of_before_skipped_steps_were_counted_are_still_read() {
    let results = study(&losses(6, 1), &losses(6, 2));
    let mut value = serde_json::to_value(&results).unwrap();
    for arm in value["tasks"][0]["arms"].as_array_mut().unwrap() {
        for run in arm["runs"].as_array_mut().unwrap() {
            run.as_object_mut().unwrap().remove("skipped").unwrap();
        }
    }
    let read: Results = serde_json::from_value(value).unwrap();
    assert_eq!(read, results);
}
