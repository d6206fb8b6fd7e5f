//! Studies whose runs are in an object store: S3, by a stand-in on this machine.
#![cfg(feature = "object-store")]

mod program;
mod s3;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use program::program;
use s3::S3;

const STUDY: &str = r#"
    tasks = [{ task = "rosenbrock", steps = 30 }, { task = "quadratic", steps = 20 }]
    seeds = 4
    evaluations = 2
    baselines = ["adamw"]
    fork = { at = [10] }
    [tuning]
    rates = [1e-3, 1e-2]
    seeds = 1
    [[factor]]
    name = "cautious"
    on = { use_cautious = true }
"#;

/// Runs that take a while, with a checkpoint every eighth of a second.
const LONG: &str = r#"
    tasks = [{ task = "digits", steps = 1500 }]
    seeds = 2
    evaluations = 3
    checkpoint_minutes = 0.002
"#;

const STORE: &str = "--store s3://bucket/studies/my";

/// A folder to work in, with a study.
fn place(study: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("my.toml"), study).unwrap();
    folder
}

fn command(s3: &S3, folder: &Path, arguments: &str) -> Command {
    let mut command = program();
    command.args(arguments.split_whitespace()).current_dir(folder);
    command.envs(s3.environment());
    command
}

fn output(output: Output) -> (Option<i32>, String) {
    let both = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&both).into_owned())
}

fn ablate(s3: &S3, folder: &Path, arguments: &str) -> String {
    let (status, text) = output(command(s3, folder, arguments).output().unwrap());
    assert_eq!(status, Some(0), "{arguments}: {text}");
    text
}

fn fails(s3: &S3, folder: &Path, arguments: &str) -> String {
    let (status, text) = output(command(s3, folder, arguments).output().unwrap());
    assert_eq!(status, Some(2), "{arguments}: {text}");
    text
}

/// The page but for its section on time, and the tables.
fn report(out: &Path) -> (String, String, String) {
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    let page = read("report.html");
    let (before, rest) = page.split_once("<section id=\"time\">").unwrap();
    let after = rest.split_once("</section>").unwrap().1;
    (format!("{before}{after}"), read("effects.csv"), read("runs.csv"))
}

fn file_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn stored(s3: &S3) -> Vec<String> {
    let names = s3.names("").into_iter();
    names.filter_map(|name| name.strip_prefix("studies/my/runs/").map(str::to_owned)).collect()
}

#[test]
fn processes_that_share_a_store_and_are_killed_end_with_the_runs_and_the_report_of_one_in_a_folder() {
    let (folder, s3) = (place(STUDY), S3::start());
    let at = folder.path();
    ablate(&s3, at, "run my.toml --out alone");
    let start = |index: usize| -> Child {
        let mut process = command(&s3, at, &format!("run my.toml --threads 1 {STORE} --out machine-{index}"));
        process.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut processes: Vec<Child> = (0..3).map(start).collect();
    let mut kills = 0;
    for (index, count) in [3, 12, 25].into_iter().enumerate() {
        // A bound against waiting for ever, not a measurement.
        let started = Instant::now();
        while s3.names(".json").len() < count {
            assert!(started.elapsed() < Duration::from_secs(300), "only {} runs", s3.names(".json").len());
            std::thread::sleep(Duration::from_millis(1));
        }
        let victim = &mut processes[index % 2]; // and one that is never killed
        victim.kill().unwrap();
        kills += usize::from(!victim.wait().unwrap().success());
        *victim = start(index % 2);
    }
    assert!(kills >= 2, "{kills} of 3 were still at it");
    for (index, process) in processes.iter_mut().enumerate() {
        assert!(process.wait().unwrap().success());
        assert_eq!(report(&at.join(format!("machine-{index}"))), report(&at.join("alone")));
    }
    ablate(&s3, at, &format!("run my.toml {STORE} --out machine-0")); // tidies
    assert_eq!(stored(&s3), file_names(&at.join("alone/runs")));
}

#[test]
fn a_machine_that_has_trained_nothing_plans_exports_and_writes_the_report_from_the_store() {
    let (folder, s3) = (place(STUDY), S3::start());
    let at = folder.path();
    ablate(&s3, at, "run my.toml --out alone");
    let plan = ablate(&s3, at, &format!("plan my.toml {STORE}"));
    assert!(plan.contains("missing") && s3.names("").is_empty(), "a plan writes nothing: {plan}");
    let share = ablate(&s3, at, &format!("run my.toml --shard 0/2 {STORE}"));
    assert!(share.contains("s3://bucket/studies/my"), "{share}");
    ablate(&s3, at, &format!("run my.toml {STORE}"));
    assert!(!at.join("ablation/my/runs").exists(), "runs are in the store alone");
    let plan = ablate(&s3, at, &format!("plan my.toml {STORE}"));
    assert!(plan.contains("Every run of my is stored in s3://bucket/studies/my"), "{plan}");
    ablate(&s3, at, &format!("report my.toml {STORE} --out elsewhere"));
    assert_eq!(report(&at.join("elsewhere")), report(&at.join("alone")));
    ablate(&s3, at, &format!("export my.toml {STORE} --out elsewhere --to jsonl"));
    assert!(at.join("elsewhere/curves.jsonl").is_file());
    ablate(&s3, at, &format!("power my.toml {STORE} --out nowhere"));
    // Reports before this one are remembered with the runs, and not on the machine that wrote them.
    assert_eq!(s3.names("looks.json"), ["studies/my/looks.json"]);
    assert!(!at.join("elsewhere/looks.json").exists());
    let script = ablate(&s3, at, &format!("submit slurm my.toml {STORE} --seeds 5"));
    assert!(script.contains(STORE), "{script}");
}

#[test]
fn runs_move_between_folders_and_stores_by_merging_and_two_results_of_one_are_named() {
    let (folder, s3) = (place(STUDY), S3::start());
    let at = folder.path();
    ablate(&s3, at, "run my.toml --arms cautious");
    let merged = ablate(&s3, at, "merge s3://bucket/studies/my ablation/my");
    assert!(merged.contains("ablate run STUDY --store s3://bucket/studies/my"), "{merged}");
    assert_eq!(stored(&s3), file_names(&at.join("ablation/my/runs")));
    ablate(&s3, at, &format!("report my.toml --arms cautious {STORE} --out there")); // runs nothing
    assert_eq!(report(&at.join("there")), report(&at.join("ablation/my")));
    ablate(&s3, at, "merge back s3://bucket/studies/my");
    assert_eq!(file_names(&at.join("back/runs")), stored(&s3));
    // As another machine would have written it: whole, with a loss of its own.
    let store = ablate::store::Store::open(&at.join("back")).unwrap();
    let is_run = |name: &String| name.strip_suffix(".json").map(str::to_owned);
    let address = stored(&s3).iter().find_map(is_run).unwrap();
    let ablate::store::Found::Whole(mut run) = store.load(&address).unwrap() else { panic!("{address}") };
    run.record.curve[1].train.loss *= 1.5;
    store.save(&address, &run).unwrap();
    let before = s3.get(&format!("studies/my/runs/{address}.json"));
    let text = fails(&s3, at, "merge s3://bucket/studies/my back");
    for expected in ["two results under one address", "task ", "arm ", "seed ", "the curves part at step"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert_eq!(s3.get(&format!("studies/my/runs/{address}.json")), before);
    let text = fails(&s3, at, "merge s3://bucket/studies/none back/none");
    assert!(text.contains("back/none is no study's folder") && stored(&s3).len() > 1, "{text}");
    let text = fails(&s3, at, "merge back s3://bucket/studies/none");
    assert!(text.contains("s3://bucket/studies/none holds no study"), "{text}");
}

#[cfg(unix)]
#[test]
fn a_run_that_is_stopped_goes_on_from_its_state_in_the_store_on_another_machine() {
    let (folder, s3) = (place(LONG), S3::start());
    let at = folder.path();
    ablate(&s3, at, "run my.toml --out alone");
    let mut process = command(&s3, at, &format!("run my.toml --threads 1 {STORE} --out first"));
    let process = process.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while s3.names(".checkpoint").is_empty() {
        assert!(started.elapsed() < Duration::from_secs(300), "no checkpoint");
        std::thread::sleep(Duration::from_millis(1));
    }
    let id = process.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
    let (status, text) = output(process.wait_with_output().unwrap());
    assert!(status == Some(75) && text.contains("queued again"), "{text}");
    assert!(!s3.names(".checkpoint").is_empty() && s3.names(".claim").is_empty(), "{:?}", s3.names(""));
    ablate(&s3, at, &format!("run my.toml {STORE} --out second"));
    assert_eq!(report(&at.join("second")), report(&at.join("alone")));
    assert_eq!(stored(&s3), file_names(&at.join("alone/runs")));
}

#[test]
fn a_run_that_does_not_reach_the_store_is_kept_and_brought_there_by_a_merge() {
    let (folder, s3) = (place(STUDY), S3::start());
    let at = folder.path();
    ablate(&s3, at, "run my.toml --out alone");
    s3.deny_runs(true);
    let text = fails(&s3, at, &format!("run my.toml --threads 1 {STORE} --out here"));
    for expected in
        ["cannot write s3://bucket/studies/my/runs/", "is kept in here/runs/", "AWS_ACCESS_KEY_ID"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let kept = file_names(&at.join("here/runs"));
    assert!(kept.len() == 1 && s3.names(".json").is_empty() && s3.names(".claim").is_empty(), "{kept:?}");
    s3.deny_runs(false);
    let merged = ablate(&s3, at, "merge s3://bucket/studies/my here");
    assert!(merged.contains("1 copied"), "{merged}");
    ablate(&s3, at, &format!("run my.toml {STORE} --out here"));
    assert_eq!(report(&at.join("here")), report(&at.join("alone")));
}

#[test]
fn a_store_that_cannot_be_used_is_an_error_that_says_what_to_do_before_anything_is_written() {
    let (folder, s3) = (place(STUDY), S3::start());
    let at = folder.path();
    for (arguments, expected) in [
        ("run my.toml --out s3://bucket/my", "--store s3://bucket/my keeps the runs there"),
        ("run my.toml --store runs", "--out runs keeps the runs in a folder"),
        ("run my.toml --store https://example.com/my", "s3://BUCKET/PREFIX"),
        ("plan my.toml --store memory:///my", "s3://BUCKET/PREFIX"),
        ("run my.toml --store s3://other/my", "Is the bucket there"),
    ] {
        let text = fails(&s3, at, arguments);
        assert!(text.contains(expected), "{arguments}: {text}");
    }
    let mut unreachable = command(&s3, at, &format!("run my.toml {STORE}"));
    unreachable.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let (status, text) = output(unreachable.output().unwrap());
    assert!(status == Some(2) && text.contains("AWS_ENDPOINT_URL"), "{text}");
    assert!(text.contains("cannot read s3://bucket/studies/my/study.toml"), "{text}");
    s3.put("studies/my/thesis.tex", b"years");
    let text = fails(&s3, at, &format!("run my.toml {STORE}"));
    assert!(text.contains("holds something other than a study"), "{text}");
    s3.ignore_conditions();
    let text = fails(&s3, at, "run my.toml --store s3://bucket/studies/other");
    assert!(text.contains("conditional writes"), "{text}");
    assert_eq!(s3.names(".json").len() + s3.names(".claim").len(), 0);
}
