//! Studies as jobs of schedulers: what is printed, and what is sent.

mod program;

use program::program;
use std::fs;
use std::path::Path;
use std::process::Command;

const TUNED: &str = r#"
    tasks = [{ task = "rosenbrock", steps = 5 }]
    seeds = 2
    evaluations = 1
    baselines = ["adamw"]
    [tuning]
    rates = [1e-2]
    seeds = 1
    [[factor]]
    name = "cautious"
    on = { use_cautious = true }
"#;

/// One arm is decided at the first look, and one stays open.
const SEQUENTIAL: &str = r#"
    tasks = [{ task = "digits", steps = 30 }]
    seeds = 40
    sequential = true
    evaluations = 1
    base = { optimizer = "adamw", lr = 3e-3 }
    [[factor]]
    name = "slow"
    on = { lr = 1e-5 }
    [[factor]]
    name = "decay"
    off = { remove = ["weight-decay"] }
"#;

const FORKED: &str = "tasks = [{ task = \"rosenbrock\", steps = 6 }]\nseeds = 2\nevaluations = 1\nfork = { at = [3] }\n\
                      [[factor]]\nname = \"cautious\"\non = { use_cautious = true }\n";

fn place(study: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("it's mine.toml"), study).unwrap();
    folder
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = program();
    command.args(arguments).current_dir(folder);
    command
}

/// Printed text, without the paths of this machine.
fn submit(folder: &Path, arguments: &[&str]) -> String {
    let output = command(folder, &[&["submit"], arguments].concat()).output().unwrap();
    let (text, errors) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{errors}");
    let here = folder.canonicalize().unwrap();
    text.replace(env!("CARGO_BIN_EXE_ablate"), "/bin/ablate").replace(here.to_str().unwrap(), "/home/me")
}

#[test]
fn slurm_has_an_array_for_every_phase_and_a_report_at_the_end() {
    let folder = place(TUNED);
    let options =
        ["--shards", "3", "--threads", "2", "--tensorboard", "--seeds", "4", "--arms", "cautious,adamw"];
    let more = ["--", "--partition=short queue", "--time=10"];
    let script = submit(folder.path(), &[&["slurm", "it's mine.toml"], &options[..], &more].concat());
    insta::assert_snapshot!("slurm", script);
}

#[test]
fn hyperqueue_has_one_job_of_tasks_that_depend_on_each_other() {
    let folder = place(TUNED);
    insta::assert_snapshot!(
        "hyperqueue",
        submit(folder.path(), &["hyperqueue", "it's mine.toml", "--shards", "2"])
    );
}

#[test]
fn kubernetes_has_an_indexed_job_for_every_phase() {
    let folder = place(FORKED);
    let options = [
        "--shards",
        "4",
        "--image",
        "registry.example/ablate:1",
        "--volume",
        "studies",
        "--",
        "--namespace=lab",
    ];
    // A fork's runs are done by the shares that measure.
    insta::assert_snapshot!(
        "kubernetes",
        submit(folder.path(), &[&["kubernetes", "it's mine.toml"], &options[..]].concat())
    );
    let missing = command(folder.path(), &["submit", "kubernetes", "it's mine.toml"]).output().unwrap();
    let errors = String::from_utf8(missing.stderr).unwrap();
    assert!(
        !missing.status.success() && errors.contains("--image") && errors.contains("--volume"),
        "{errors}"
    );
}

#[test]
fn phases_that_are_done_are_left_out_and_a_study_that_is_done_has_nothing_to_submit() {
    let folder = place(SEQUENTIAL);
    let at = folder.path();
    let arrays = |script: &str| script.lines().filter(|line| line.contains("--array=")).count();
    let all = arrays(&submit(at, &["slurm", "it's mine.toml"]));
    assert!(all > 1, "a sequential study has several rounds");
    let done = command(at, &["run", "it's mine.toml", "--shard", "0/2"]).output().unwrap();
    assert!(done.status.success());
    assert_eq!(arrays(&submit(at, &["slurm", "it's mine.toml"])), all);
    // The other share ends the first round, and begins the second.
    assert!(command(at, &["run", "it's mine.toml", "--shard", "1/2"]).output().unwrap().status.success());
    assert_eq!(arrays(&submit(at, &["slurm", "it's mine.toml"])), all - 1);
    assert!(command(at, &["run", "it's mine.toml"]).output().unwrap().status.success());
    let nothing = command(at, &["submit", "slurm", "it's mine.toml", "--go"]).output().unwrap();
    let errors = String::from_utf8(nothing.stderr).unwrap();
    assert!(nothing.status.code() == Some(2) && errors.contains("nothing is missing"), "{errors}");
}

/// A folder of programs that stand for a scheduler's, and write down how they were called.
#[cfg(unix)]
fn programs(folder: &Path, name: &str, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let programs = folder.join("programs");
    fs::create_dir_all(&programs).unwrap();
    let path = programs.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    format!("{}:{}", programs.display(), std::env::var("PATH").unwrap())
}

#[cfg(unix)]
#[test]
fn what_is_sent_to_slurm_can_be_run_as_it_is_and_ends_with_the_report() {
    let folder = place(TUNED);
    let at = folder.path();
    // Does the jobs at once, as an array of two would be done.
    let sbatch = r#"
        for argument in "$@"; do
            case "$argument" in
                --array=0-1) array=1 ;;
                --dependency=*) echo "$argument" >> dependencies ;;
                --wrap=*) wrap="${argument#--wrap=}" ;;
            esac
        done
        export SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_MAX=1 SLURM_ARRAY_TASK_COUNT=2 SLURM_ARRAY_TASK_STEP=1
        for SLURM_ARRAY_TASK_ID in 0 ${array:+1}; do
            export SLURM_ARRAY_TASK_ID
            sh -c "$wrap" > /dev/null 2>> errors || exit 1
        done
        echo x >> jobs
        echo "$((100 + $(wc -l < jobs)));cluster"
    "#;
    let path = programs(at, "sbatch", sbatch);
    let sent = command(at, &["submit", "slurm", "it's mine.toml", "--shards", "2", "--go"])
        .env("PATH", path)
        .output();
    let sent = sent.unwrap();
    let errors = fs::read_to_string(at.join("errors")).unwrap_or_default();
    assert!(sent.status.success(), "{errors} {}", String::from_utf8_lossy(&sent.stderr));
    let sent = String::from_utf8(sent.stdout).unwrap();
    assert_eq!(sent, "tuning: 101;cluster\nmeasuring: 102;cluster\nreport: 103;cluster\n");
    assert_eq!(
        fs::read_to_string(at.join("dependencies")).unwrap(),
        "--dependency=afterok:101\n--dependency=afterok:102\n"
    );
    assert!(at.join("ablation/it's mine/report.html").is_file());
}

#[cfg(unix)]
#[test]
fn a_scheduler_that_refuses_is_an_error() {
    let folder = place(TUNED);
    let path = programs(folder.path(), "hq", "echo no server >&2; exit 1");
    let sent = command(folder.path(), &["submit", "hyperqueue", "it's mine.toml", "--go"])
        .env("PATH", path)
        .output();
    let sent = sent.unwrap();
    let errors = String::from_utf8(sent.stderr).unwrap();
    assert!(
        sent.status.code() == Some(2) && errors.contains("no server") && errors.contains("not sent"),
        "{errors}"
    );
}
