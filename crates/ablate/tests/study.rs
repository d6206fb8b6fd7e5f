//! A small study from end to end: fairness, reproducibility, divergence, and what the report contains.

use std::collections::BTreeSet;
use std::fs;

use ablate::arm::{self, Arm, Schedule, Setting};
use ablate::optimizer::{CandleAdamW, Chain, Step, TrainableOptimizer, Variable};
use ablate::report;
use ablate::run::Outcome;
use ablate::study::{self, Budget, Results};
use ablate::summary::Findings;
use ablate::task::{Digits, Task};
use anyhow::Result;
use candle_core::Tensor;
use candle_core::backprop::GradStore;
use candle_nn::ParamsAdamW;

fn tiny(seeds: u64, threads: usize) -> Budget {
    Budget { seeds, epochs: 2, tuning_seeds: 1, threads }
}

/// The arms of the default study, with two candidates where there are ten.
fn arms() -> Vec<Arm> {
    let shorten = |arm: Arm| {
        let candidates = arm.candidates.iter().skip(2).take(2).copied().collect();
        arm.tuned(candidates)
    };
    arm::select(&[]).unwrap().into_iter().map(shorten).collect()
}

fn study(arms: &[Arm], budget: Budget) -> Results {
    study::run(&Digits::load().unwrap(), arms, budget, &()).unwrap()
}

/// Steps like AdamW until its third step, whose gradient it refuses.
struct Fragile {
    inner: CandleAdamW,
    steps: usize,
}

impl TrainableOptimizer for Fragile {
    fn step(&mut self, gradients: &GradStore) -> Result<Step> {
        self.steps += 1;
        if self.steps == 3 {
            Ok(Step::NonFiniteGradient("layer1.weight".into()))
        } else {
            self.inner.step(gradients)
        }
    }
    fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        self.inner.set_learning_rate(learning_rate)
    }
    fn evaluation_weights(&self) -> Result<Vec<Tensor>> {
        self.inner.evaluation_weights()
    }
    fn d(&self) -> Option<f64> {
        None
    }
}

fn fragile() -> Arm {
    Arm::new("fragile", "fragile", "Diverges.", Vec::new(), |variables| {
        let inner = CandleAdamW::new(variables, ParamsAdamW::default())?;
        Ok(Box::new(Fragile { inner, steps: 0 }))
    })
}

fn base() -> Arm {
    arm::select(&[]).unwrap().remove(0)
}

#[test]
fn every_arm_learns_and_meets_the_same_start_and_batches() {
    let results = study(&arms(), tiny(2, 2));
    assert_eq!(results.arms.len(), 6);
    for seed in 0..2 {
        let of_seed = || results.arms.iter().map(|arm| &arm.runs[seed]);
        assert!(of_seed().all(|run| run.seed == seed as u64 && run.evaluation().is_some()));
        assert_eq!(of_seed().map(|run| &run.initial_sha256).collect::<BTreeSet<_>>().len(), 1);
        assert_eq!(of_seed().map(|run| &run.batches_sha256).collect::<BTreeSet<_>>().len(), 1);
        assert_eq!(
            of_seed().map(|run| &run.final_sha256).collect::<BTreeSet<_>>().len(),
            6,
            "arms that do the same"
        );
        for run in of_seed() {
            assert!(run.curve[2].train.loss < run.curve[0].train.loss, "{} does not learn", run.arm);
        }
    }
    let [first, second] = results.arms[0].runs.as_slice() else { panic!("two seeds") };
    assert_ne!(first.initial_sha256, second.initial_sha256);
    assert_ne!(first.batches_sha256, second.batches_sha256);
}

#[test]
fn d_grows_where_it_is_adapted_and_is_absent_elsewhere() {
    let results = study(&arms(), tiny(1, 1));
    for arm in &results.arms {
        let d: Vec<f64> = arm.runs[0].d.iter().map(|change| change.d).collect();
        if ["no-prodigy", "adamw"].contains(&arm.name.as_str()) {
            assert!(d.is_empty(), "{}", arm.name);
        } else {
            assert_eq!(d[0], 1e-6, "{}", arm.name);
            assert!(d.is_sorted() && d.len() > 3, "{}: {d:?}", arm.name);
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let fingerprints = |threads| {
        let results = study(&arms(), tiny(2, threads));
        let runs = results.arms.iter().flat_map(|arm| &arm.runs);
        runs.map(|run| run.final_sha256.clone()).collect::<Vec<_>>()
    };
    assert_eq!(fingerprints(1), fingerprints(3));
}

#[test]
fn divergence_is_a_result() {
    let results = study(&[base(), fragile()], tiny(2, 1));
    let run = &results.arms[1].runs[0];
    assert!(
        matches!(&run.outcome, Outcome::Diverged { step: 3, reason } if reason.contains("layer1.weight"))
    );
    assert_eq!(run.steps, 2);
    let findings = Findings::of(&results);
    assert_eq!((findings.arms[1].diverged, findings.arms[1].accuracy_difference), (2, None));
    assert!(
        findings.caveats.iter().any(|caveat| caveat.starts_with("fragile: 2 of 2 runs diverged (seed 0, 1)"))
    );
    let folder = tempfile::tempdir().unwrap();
    report::write(folder.path(), &results, &findings).unwrap();
    let page = fs::read_to_string(folder.path().join(report::HTML_FILE)).unwrap();
    assert!(page.contains("every run diverged") && page.contains("diverged at step 3"));
    assert!(report::table::findings(&findings).contains("2 of 2 diverged"));
}

#[test]
fn a_learning_rate_that_explodes_is_a_divergence_too() {
    let mut adamw = arm::select(&[]).unwrap().pop().unwrap();
    adamw.candidates = vec![Setting { learning_rate: 1e30, schedule: Schedule::Constant }];
    let results = study(&[base(), adamw], tiny(1, 1));
    assert!(matches!(results.arms[1].runs[0].outcome, Outcome::Diverged { .. }));
    assert_eq!(results.arms[1].tuning.as_ref().unwrap().candidates[0].mean, None);
}

#[test]
fn a_switch_that_does_nothing_is_reported() {
    let same = Arm::new("same", "same", "The default again.", Vec::new(), |variables: &[Variable]| {
        base().optimizer(variables)
    });
    let results = study(&[base(), same], tiny(2, 1));
    let findings = Findings::of(&results);
    assert!(
        findings.caveats.iter().any(|caveat| caveat.starts_with("same ended with the base")),
        "{:?}",
        findings.caveats
    );
}

#[test]
fn the_report_is_complete_and_needs_no_network() {
    let results = study(&arms(), tiny(2, 0));
    let findings = Findings::of(&results);
    let folder = tempfile::tempdir().unwrap();
    report::write(folder.path(), &results, &findings).unwrap();
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();

    let page = read(report::HTML_FILE);
    for arm in &results.arms {
        assert!(page.contains(&arm.title) && page.contains(&arm.description), "{} is missing", arm.name);
    }
    for caveat in &findings.caveats {
        assert!(page.contains(caveat.as_str()), "{caveat}");
    }
    for outside in ["http://", "https://", "<script", "<link", "@import", "url("] {
        assert!(!page.contains(outside), "the page refers to something outside: {outside}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf"));
    // Two forest plots; five arms with two losses each; d for the three other arms that adapt it.
    assert_eq!(page.matches("<svg").count(), 2 + 2 * 5 + 3);
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("@media print"));

    let document: serde_json::Value = serde_json::from_str(&read("results.json")).unwrap();
    assert_eq!(document["results"]["arms"].as_array().unwrap().len(), 6);
    assert_eq!(document["findings"]["arms"][1]["accuracy_difference"]["n"], 2);
    assert_eq!(read(report::RUNS_FILE).lines().count(), 1 + 6 * 2);
    assert_eq!(read(report::CURVES_FILE).lines().count(), 1 + 6 * 2 * 3);
}

#[test]
fn an_empty_study_is_refused_with_what_to_do() {
    let task = Digits::load().unwrap();
    let error = study::run(&task, &[base()], Budget { seeds: 0, ..tiny(1, 1) }, &()).unwrap_err().to_string();
    assert!(error.contains("--seeds"), "{error}");
    let error =
        study::run(&task, &[base()], Budget { epochs: 0, ..tiny(1, 1) }, &()).unwrap_err().to_string();
    assert!(error.contains("--epochs"), "{error}");
}

#[test]
fn evaluating_leaves_training_as_it_was() {
    let task = Digits::load().unwrap();
    let weights_after = |evaluate: bool| {
        let variables: Vec<Variable> =
            task.initial_parameters(0).iter().map(|initial| Variable::new(initial).unwrap()).collect();
        let weights: Vec<Tensor> =
            variables.iter().map(|variable| variable.var.as_tensor().clone()).collect();
        let shapes = ablate::optimizer::shapes(&variables);
        let optimizer = prodigy_plus::ProdigyPlus::builder().build(shapes).unwrap();
        let mut optimizer = Chain::new(optimizer, &variables, true);
        for batch in task.epoch(0, 0).iter().take(5) {
            let loss = task.training_loss(&weights, batch).unwrap();
            assert_eq!(optimizer.step(&loss.backward().unwrap()).unwrap(), Step::Taken);
            if evaluate {
                optimizer.evaluation_weights().unwrap();
            }
        }
        weights[0].flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(weights_after(true), weights_after(false));
}
