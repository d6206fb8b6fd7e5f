//! The program as it is called.

use std::path::Path;
use std::process::{Command, Output};

fn ablate(arguments: &[&str], out: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ablate")).args(arguments).arg("--out").arg(out).output().unwrap()
}

#[test]
fn a_second_run_keeps_the_first_result_and_says_what_to_do() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("ablation");
    let quick = ["--arms", "default", "--seeds", "1", "--epochs", "1"];
    let first = ablate(&quick, &out);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert!(String::from_utf8_lossy(&first.stdout).contains("report.html"));
    let written = std::fs::read(out.join("results.json")).unwrap();

    let second = ablate(&quick, &out);
    let message = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && message.contains("--force"), "{message}");
    assert_eq!(std::fs::read(out.join("results.json")).unwrap(), written);

    let replaced = ablate(&[&quick[..], &["--force"]].concat(), &out);
    assert!(replaced.status.success());
}

#[test]
fn the_list_names_every_arm_and_runs_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("ablation");
    let listed = ablate(&["--list"], &out);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    for name in ["default", "no-stableadamw", "no-factoring", "no-schedule-free", "no-prodigy", "adamw"] {
        assert!(text.contains(name), "{text}");
    }
    assert!(!out.exists());
}

#[test]
fn an_unknown_arm_is_an_error_before_anything_runs() {
    let parent = tempfile::tempdir().unwrap();
    let refused = ablate(&["--arms", "lion"], &parent.path().join("ablation"));
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("choose from"));
}
