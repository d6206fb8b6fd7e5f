//! Reports of runs that others did.

mod program;

use std::fs;
use std::path::{Path, PathBuf};

use ablate::analyse::{Source, read};
use ablate::findings::{Findings, Verdict};
use ablate_tasks::Measure;
use program::program;

fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// A number between 0 and 1 that looks drawn.
fn noise(seed: usize) -> f64 {
    (seed as f64 * 12.9898).sin().abs()
}

fn by_seed(path: PathBuf) -> Source {
    Source { arm: "arm".into(), seed: Some("seed".into()), value: "loss".into(), ..Source::new(vec![path]) }
}

#[test]
fn runs_with_the_same_seed_are_pairs() {
    let folder = tempfile::tempdir().unwrap();
    // The seeds spread a hundred times as far as the arms differ, and in another order.
    let mut lines: Vec<String> = (0..8)
        .flat_map(|seed| {
            [format!("adam,{seed},{}", noise(seed)), format!("lion,{seed},{}", noise(seed) - 0.01)]
        })
        .collect();
    lines.sort_by_key(|line| line.len());
    let path = file(folder.path(), "runs.csv", &format!("arm,seed,loss\n{}\n", lines.join("\n")));
    let results = read(&Source { base: Some("adam".into()), ..by_seed(path) }).unwrap();
    let found = &Findings::of(&results).tasks[0].arms[1];
    assert_eq!((found.verdict, found.difference.unwrap().finite), (Verdict::Better, 8));
    assert!((found.difference.unwrap().mean.unwrap() + 0.01).abs() < 1e-9);
}

#[test]
fn runs_whose_seeds_do_not_match_are_two_samples() {
    let folder = tempfile::tempdir().unwrap();
    let of_arm = |arm: &'static str, seeds: std::ops::Range<usize>, shift: f64| {
        seeds.map(move |seed| {
            format!("{{\"arm\": \"{arm}\", \"seed\": {seed}, \"loss\": {}}}\n", noise(seed) + shift)
        })
    };
    let text: String = of_arm("adam", 0..5, 0.0).chain(of_arm("lion", 10..16, 5.0)).collect();
    let path = file(folder.path(), "runs.jsonl", &text);
    let results = read(&by_seed(path)).unwrap();
    assert!(!results.tasks[0].is_paired());
    let findings = Findings::of(&results);
    let found = &findings.tasks[0].arms[1];
    // The only one of 462 divisions of eleven runs, and its p is that of two sides.
    assert_eq!((found.verdict, found.difference.unwrap().n), (Verdict::Worse, 5));
    assert!((found.adjusted_p.unwrap() - 1.0 / 462.0).abs() < 1e-12);
    assert!(findings.caveats.iter().any(|caveat| caveat.contains("two samples")), "{:?}", findings.caveats);
}

#[test]
fn two_samples_can_be_equivalent_too() {
    let folder = tempfile::tempdir().unwrap();
    let of_arm = |arm: &'static str, seeds: std::ops::Range<usize>| {
        seeds
            .map(move |seed| format!("{{\"arm\": \"{arm}\", \"seed\": {seed}, \"loss\": {}}}\n", noise(seed)))
    };
    let text: String = of_arm("adam", 0..8).chain(of_arm("lion", 10..18)).collect();
    let path = file(folder.path(), "runs.jsonl", &text);
    let verdict = |matters| {
        let findings = Findings::of(&read(&Source { matters, ..by_seed(path.clone()) }).unwrap());
        let found = &findings.tasks[0].arms[1];
        (found.verdict, found.equivalence_p)
    };
    let (wide, narrow) = (verdict(Some(5.0)), verdict(Some(1e-3)));
    assert!(wide.0 == Verdict::Equivalent && wide.1.unwrap() < 0.05, "{wide:?}");
    assert!(narrow.0 == Verdict::Unclear && narrow.1.unwrap() > 0.05, "{narrow:?}");
    assert_eq!(verdict(None), (Verdict::Unclear, None));
}

#[test]
fn of_a_run_with_steps_the_last_one_counts_and_what_is_not_finite_diverged() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = "config.name,seed,step,val.acc\n".to_owned();
    for seed in 0..7 {
        text += &format!("base,{seed},200,0.{}\nbase,{seed},100,0.1\nbase,{seed},150,\n", 80 + seed);
        text += &format!("other,{seed},100,0.1\nother,{seed},200,{}\n", if seed < 6 { "nan" } else { "0.9" });
    }
    let source = Source {
        arm: "config.name".into(),
        value: "val.acc".into(),
        step: Some("step".into()),
        measure: Measure::Accuracy,
        ..by_seed(file(folder.path(), "runs.csv", &text))
    };
    let results = read(&source).unwrap();
    let record = &results.tasks[0].arms[0].runs[3].record;
    assert_eq!((record.steps, record.curve.len()), (200, 2));
    assert_eq!(record.evaluation().unwrap().accuracy, Some(0.83));
    assert_eq!(Findings::of(&results).tasks[0].arms[1].diverged, 6);
}

#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "runs.csv", "arm,seed,loss\na,0,1\nb,0,1\nb,0,2\n");
    let error = |source: Source| format!("{:#}", read(&source).unwrap_err());
    assert!(error(by_seed(path.clone())).contains("two rows of arm b with seed 0"));
    assert!(error(Source { value: "los".into(), ..by_seed(path.clone()) }).contains("perhaps \"loss\""));
    assert!(error(Source { base: Some("c".into()), ..by_seed(path.clone()) }).contains("no arm \"c\""));
    let path = file(folder.path(), "text.csv", "arm,seed,loss\na,0,much\nb,0,1\n");
    assert!(error(by_seed(path)).contains("\"much\" is no number"));
    let path = file(folder.path(), "one.csv", "arm,seed,loss\na,0,1\n");
    assert!(error(by_seed(path)).contains("one arm"));
    assert!(error(by_seed(folder.path().join("none.csv"))).contains("cannot read"));
}

/// Two results of the optimization track of KellerJordan/modded-nanogpt (MIT License, commit f411b3d): validation
/// losses of `records/track_3_optimization/results/20260501_skylight001` and `20260501_contra_muon`.
#[test]
fn a_public_record_is_read_as_what_it_is() {
    let log = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../examples/contra_muon.csv");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let output = program()
        .args(["analyse", log, "--arm", "record", "--run", "run", "--step", "step", "--value", "val_loss"])
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let source = Source {
        arm: "record".into(),
        value: "val_loss".into(),
        step: Some("step".into()),
        run: Some("run".into()),
        ..Source::new(vec![log.into()])
    };
    let results = read(&source).unwrap();
    let runs: Vec<usize> = results.tasks[0].arms.iter().map(|arm| arm.runs.len()).collect();
    assert_eq!(runs, [8, 16]);
    let found = Findings::of(&results).tasks[0].arms[1].difference.unwrap();
    assert!((found.mean.unwrap() - 0.001_464).abs() < 1e-6, "{found:?}");
    assert!(found.p.unwrap() < 0.01 && found.interval.unwrap().low > 0.0);
}

fn public(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../examples").join(name)
}

/// Results 36 and 37 of the same track and commit: the last validation losses of `20260610_tuned_baseline_3250` and
/// `20260611_muonh_tuned_aux_3250`.
#[test]
fn two_public_records_with_the_same_tuning_do_not_differ() {
    let source = Source {
        arm: "record".into(),
        value: "val_loss".into(),
        run: Some("run".into()),
        ..Source::new(vec![public("tuned_muonh.csv")])
    };
    let found = &Findings::of(&read(&source).unwrap()).tasks[0].arms[1];
    let difference = found.difference.unwrap();
    assert_eq!((found.verdict, difference.n), (Verdict::Unclear, 10));
    assert!((difference.mean.unwrap() + 0.000_024).abs() < 1e-6, "{difference:?}");
    let interval = difference.interval.unwrap();
    assert!(interval.low < -0.001 && interval.high > 0.001, "{interval:?}");
}

/// Result 46 of the same track and commit: both validation losses of `20260619_cwd_rowfloor_tailema`, whose eighth run
/// was not logged to the end.
#[test]
fn what_helps_in_the_middle_of_a_public_run_harms_at_its_end() {
    let source = Source {
        arm: "readout".into(),
        task: Some("at".into()),
        seed: Some("seed".into()),
        value: "val_loss".into(),
        base: Some("raw".into()),
        ..Source::new(vec![public("tail_ema.csv")])
    };
    let found: Vec<(String, Verdict, usize, f64)> = Findings::of(&read(&source).unwrap())
        .tasks
        .into_iter()
        .map(|task| {
            let difference = task.arms[1].difference.unwrap();
            (task.name, task.arms[1].verdict, difference.n, (difference.mean.unwrap() * 1e5).round())
        })
        .collect();
    let expected = [
        ("step 2500", Verdict::Better, 8, -996.0),
        ("step 2600", Verdict::Better, 8, -748.0),
        ("step 2690", Verdict::Better, 8, -410.0),
        ("step 2800", Verdict::Better, 7, -32.0),
        ("step 2900", Verdict::Worse, 7, 42.0),
    ];
    assert_eq!(found, expected.map(|(at, verdict, n, mean)| (at.to_owned(), verdict, n, mean)));
}
