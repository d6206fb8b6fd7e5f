//! Runs and curves as tables for other programs.

mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use program::program;
use serde_json::Value;

const STUDY: &str = r#"
    tasks = [{ task = "rosenbrock", steps = 20 }]
    seeds = 2
    evaluations = 2
    baselines = ["sgd"]
    tuning = { rates = [1e-4], seeds = 1 }
    fork = { at = [0, 5] }
    [base]
    optimizer = "adamw"
    lr = 1e-2
    [[factor]]
    name = "slow"
    on = { lr = 1e-4 }
    [[factor]]
    name = "wild"
    on = { lr = 4e9 }
"#;

fn ablate(arguments: &[&str], study: &Path, out: &Path) -> Output {
    let mut command = program();
    command.args(&arguments[..1]).arg(study).args(&arguments[1..]);
    command.arg("--out").arg(out).output().unwrap()
}

fn study(run: bool) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (study, out) = (folder.path().join("study.toml"), folder.path().join("out"));
    fs::write(&study, STUDY).unwrap();
    if run {
        let output = ablate(&["run"], &study, &out);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    (folder, study, out)
}

fn lines(out: &Path, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(out.join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn json_lines_have_every_run_and_every_number_of_the_reports_tables() {
    let (_folder, study, out) = study(true);
    let output = ablate(&["export", "--to", "jsonl"], &study, &out);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("runs.jsonl") && said.contains("curves.jsonl"),
        "{said}"
    );
    let (runs, curves) = (lines(&out, "runs.jsonl"), lines(&out, "curves.jsonl"));
    // The columns that the report has, too.
    let mut table = csv::Reader::from_path(out.join("runs.csv")).unwrap();
    let heads = table.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), runs.len());
    for (row, run) in rows.iter().zip(&runs) {
        for (head, cell) in heads.iter().zip(row) {
            let same = match &run[head] {
                Value::Null => cell.is_empty(),
                Value::String(text) => cell == text,
                number => cell.parse::<f64>().ok() == number.as_f64(),
            };
            assert!(same, "{head}: {cell} {}", run[head]);
        }
    }
    let of = |arm: &str, forked: Option<u64>| -> Vec<&Value> {
        let is_its = |run: &&Value| run["arm"] == arm && run["forked_at"].as_u64() == forked;
        runs.iter().filter(is_its).collect()
    };
    assert_eq!((of("slow", None).len(), of("slow", Some(5)).len(), of("sgd", None).len()), (2, 2, 2));
    assert_eq!(of("slow", None)[0]["options"], serde_json::json!({ "lr": 1e-4 }));
    assert!(of("sgd", None)[0]["setting"].as_str().unwrap().contains("0.0001"), "{}", of("sgd", None)[0]);
    let wild = of("wild", None)[0];
    assert!(
        wild["outcome"] == "diverged" && !wild["reason"].is_null() && wild["test_loss"].is_null(),
        "{wild}"
    );
    // Of a run with d, groups and steps: three points of the curves.
    let of_run = |name: &str| {
        let is_its = |row: &&Value| {
            row["arm"] == "base" && row["seed"] == 1 && row["forked_at"].is_null() && row["name"] == name
        };
        curves.iter().filter(is_its).map(|row| row["step"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(of_run("loss/validation"), [0, 10, 20]);
    assert_eq!(of_run("step_size"), [0, 10, 20]);
    assert_eq!(of_run("loss/batch"), [10, 20]);
    assert_eq!(of_run("final/loss"), [0; 0]);
}

#[test]
fn what_is_not_stored_cannot_be_exported() {
    let (_folder, study, out) = study(false);
    let output = ablate(&["export", "--to", "jsonl"], &study, &out);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("`ablate run` does them"), "{said}");
}

#[test]
fn tables_that_cannot_be_written_are_an_error_that_says_how_to_have_them_and_nothing_is_lost() {
    let (folder, study, out) = study(true);
    let runs = || fs::read_dir(out.join("runs")).unwrap().count();
    let before = runs();
    for (form, taken) in [("jsonl", "curves.jsonl"), ("tensorboard", "tensorboard")] {
        let taken = out.join(taken);
        if form == "tensorboard" {
            fs::write(&taken, "mine").unwrap()
        } else {
            fs::create_dir(&taken).unwrap()
        }
        let output = ablate(&["export", "--to", form], &study, &out);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains("nothing of the study is lost"), "{said}");
        assert!(said.contains("ablate merge COPY") && said.contains(taken.to_str().unwrap()), "{said}");
        assert!(taken.exists() && runs() == before);
    }
    // As it says.
    let copy = folder.path().join("copy");
    let mut merge = program();
    assert!(merge.arg("merge").arg(&copy).arg(&out).output().unwrap().status.success());
    for form in ["jsonl", "tensorboard"] {
        assert!(ablate(&["export", "--to", form], &study, &copy).status.success());
    }
    assert!(lines(&copy, "curves.jsonl").len() > 10 && copy.join("tensorboard").is_dir());
}

/// A user who may do everything is not kept from writing to the folder.
#[cfg(unix)]
#[test]
fn a_study_in_a_folder_that_may_only_be_read_is_planned_and_its_tables_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, study, out) = study(true);
    let allow = |mode| {
        for path in [out.join("runs"), out.clone()] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    allow(0o555);
    let may_do_everything = fs::write(out.join("probe"), "").is_ok();
    let plan = ablate(&["plan"], &study, &out);
    let export = ablate(&["export", "--to", "jsonl"], &study, &out);
    allow(0o755);
    let said = String::from_utf8_lossy(&export.stderr).into_owned();
    assert!(plan.status.success() && export.status.success() == may_do_everything, "{said}");
    assert!(
        may_do_everything || said.contains("cannot write") && said.contains("ablate merge COPY"),
        "{said}"
    );
}

#[cfg(not(feature = "parquet"))]
#[test]
fn a_program_without_parquet_says_how_to_get_it() {
    let (_folder, study, out) = study(false);
    let output = ablate(&["export", "--to", "parquet"], &study, &out);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("--features parquet"), "{said}");
    assert!(said.contains("--to jsonl") && !out.exists(), "{said}");
}

/// A line that no test harness holds back.
#[cfg(feature = "parquet")]
fn say(line: &str) {
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
}

#[cfg(feature = "parquet")]
#[test]
fn pandas_and_polars_read_the_same_tables_from_parquet() {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let has = std::process::Command::new(&python)
        .args(["-c", "import pandas, polars, pyarrow"])
        .stderr(std::process::Stdio::null())
        .status();
    if !has.is_ok_and(|status| status.success()) {
        say(
            "skipped: python3 with pandas, pyarrow and polars is not here (pip install pandas pyarrow polars; PYTHON names another Python)\n",
        );
        return;
    }
    let (_folder, study, out) = study(true);
    for form in ["jsonl", "parquet"] {
        let output = ablate(&["export", "--to", form], &study, &out);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/read_tables.py");
    let output = std::process::Command::new(python).arg(script).arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    say(&format!("ran: {}\n", String::from_utf8_lossy(&output.stdout).replace('\n', " rows; ")));
}
