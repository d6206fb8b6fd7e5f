//! The program on several machines: shares, merges, plans, and processes that are killed.

mod program;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use program::program;
use serde_json::Value;

const STUDY: &str = r#"
    tasks = [{ task = "rosenbrock", steps = 30 }, { task = "quadratic", steps = 20 }]
    seeds = 4
    evaluations = 2
    baselines = ["adamw"]
    [tuning]
    rates = [1e-3, 1e-2]
    seeds = 1
    [[factor]]
    name = "cautious"
    on = { use_cautious = true }
"#;

/// A folder to work in, with a study.
fn place(study: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("my.toml"), study).unwrap();
    folder
}

fn command(folder: &Path, arguments: &str) -> Command {
    let mut command = program();
    command.args(arguments.split_whitespace()).current_dir(folder);
    command
}

fn output(output: Output) -> (Option<i32>, String) {
    let both = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&both).into_owned())
}

fn ablate(folder: &Path, arguments: &str) -> String {
    let (status, text) = output(command(folder, arguments).output().unwrap());
    assert_eq!(status, Some(0), "{arguments}: {text}");
    text
}

fn fails(folder: &Path, arguments: &str) -> String {
    let (status, text) = output(command(folder, arguments).output().unwrap());
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

fn plan(folder: &Path, more: &str) -> Value {
    serde_json::from_str(&ablate(folder, &format!("plan my.toml --json {more}"))).unwrap()
}

#[test]
fn two_machines_share_a_study_and_a_third_merges_what_they_did() {
    let folder = place(STUDY);
    let at = folder.path();
    ablate(at, "run my.toml --out alone");
    for _pass in 0..2 {
        let first = ablate(at, "run my.toml --shard 0/2 --out a");
        assert!(first.contains("Share 0/2 is done") && !at.join("a/report.html").exists(), "{first}");
        let mut second = command(at, "run my.toml --shard auto --out b");
        second.envs([
            ("SLURM_ARRAY_TASK_ID", "2"),
            ("SLURM_ARRAY_TASK_COUNT", "2"),
            ("SLURM_ARRAY_TASK_MIN", "1"),
        ]);
        let (status, second) = output(second.output().unwrap());
        assert!(status == Some(0) && second.contains("Share 1/2 is done"), "{second}");
        let merged = ablate(at, "merge my.toml a b");
        assert!(merged.contains("`ablate run my.toml`"), "{merged}");
        // For the next pass, in which the tuned arms are measured.
        ablate(at, "merge a ablation/my");
        ablate(at, "merge b ablation/my");
    }
    assert_eq!(plan(at, "")["is_complete"], true);
    let survey = ablate(at, "run my.toml --shard 0/2");
    assert!(survey.contains("Every run of the study is stored"), "{survey}");
    assert!(!at.join("ablation/my/report.html").exists());
    ablate(at, "report my.toml"); // runs nothing
    assert_eq!(report(&at.join("ablation/my")), report(&at.join("alone")));
    // Into a folder without a study, whose file is taken over, too.
    ablate(at, "merge all a b");
    ablate(at, "report my.toml --out all");
    assert_eq!(report(&at.join("all")), report(&at.join("alone")));
}

#[test]
fn two_results_of_a_run_are_named_with_task_arm_and_seed_and_nothing_is_overwritten() {
    let folder = place(STUDY);
    let at = folder.path();
    ablate(at, "run my.toml --arms cautious");
    ablate(at, "run my.toml --arms cautious --out other");
    let runs = |folder: &str| {
        let entries = fs::read_dir(at.join(folder).join("runs")).unwrap().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    // As another machine would have written it: whole, with a loss of its own.
    let victim = &runs("other")[3];
    let store = ablate::store::Store::open(&at.join("other")).unwrap();
    let address = victim.file_stem().unwrap().to_str().unwrap().to_owned();
    let ablate::store::Found::Whole(mut run) = store.load(&address).unwrap() else { panic!("{address}") };
    run.record.curve[1].train.loss *= 1.5;
    store.save(&address, &run).unwrap();
    let before: Vec<_> = runs("ablation/my").iter().map(|path| fs::read(path).unwrap()).collect();
    let text = fails(at, "merge my.toml other");
    for expected in [
        "two results under one address",
        "task ",
        "arm ",
        "seed ",
        "the curves part at step",
        "15 were there",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let after: Vec<_> = runs("ablation/my").iter().map(|path| fs::read(path).unwrap()).collect();
    assert_eq!(before, after);
    // A folder knows its study, too.
    let text = fails(at, "merge ablation/my other");
    assert!(text.contains("task ") && text.contains(", seed "), "{text}");
}

#[test]
fn mistakes_in_shares_and_merges_are_errors_before_anything_is_written() {
    let folder = place(STUDY);
    let at = folder.path();
    for (arguments, expected) in [
        ("run my.toml --shard 2/2", "the last one of 2 is 1/2"),
        ("run my.toml --shard 0/0", "at least one share"),
        ("run my.toml --shard half", "write 2/8"),
        ("run my.toml --shard auto", "no job array"),
        ("merge my.toml nowhere", "nowhere is no study's folder"),
        ("merge all nowhere", "nowhere is no study's folder"),
    ] {
        let text = fails(at, arguments);
        assert!(text.contains(expected), "{arguments}: {text}");
    }
    let mut inside = command(at, "run my.toml --shard auto");
    let (status, text) = output(inside.env("HQ_TASK_ID", "0").output().unwrap());
    assert!(status == Some(2) && text.contains("write auto/8"), "{text}");
    assert_eq!(fs::read_dir(at).unwrap().count(), 1);
}

#[test]
fn a_plan_says_what_is_missing_and_what_waits_before_and_after_every_phase() {
    let folder = place(STUDY);
    let at = folder.path();
    let fresh = plan(at, "");
    assert_eq!(fs::read_dir(at).unwrap().count(), 1, "a plan writes nothing");
    let numbers = |value: &Value| ["stored", "missing", "waiting"].map(|name| value[name].as_u64().unwrap());
    assert_eq!((fresh["schema"].as_u64(), &fresh["study"]), (Some(1), &Value::from("my")));
    assert_eq!(numbers(&fresh), [0, 8 + 16, 8]);
    assert!(fresh["seconds"].is_null() && fresh["is_complete"] == false);
    let [tuning, measuring] = fresh["phases"].as_array().unwrap().as_slice() else { panic!("{fresh}") };
    assert_eq!((numbers(tuning), numbers(measuring)), ([0, 8, 0], [0, 16, 8]));
    assert_eq!(tuning["runs"][0]["arm"], "adamw");
    assert_eq!(numbers(&measuring["runs"][2]), [0, 0, 4]);
    let table = ablate(at, "plan my.toml");
    assert!(table.contains("unknown") && table.contains("rosenbrock"), "{table}");

    ablate(at, "run my.toml --shard 0/2");
    let half = plan(at, "");
    assert_eq!(numbers(&half["phases"][0]), [4, 4, 0]);
    let [stored, missing, waiting] = numbers(&half["phases"][1]);
    // By chance more or fewer of its twelve are runs of tuned arms, which wait.
    assert!(stored > 0 && stored + missing == 16 && waiting == 8, "{half}");
    assert!(half["seconds"].as_f64().unwrap() > 0.0);

    ablate(at, "run my.toml");
    let whole = plan(at, "");
    assert_eq!((numbers(&whole), whole["seconds"].as_f64()), ([32, 0, 0], Some(0.0)));
    assert!(ablate(at, "plan my.toml").contains("Every run of my is stored"));
    // Four more seeds: a tuned arm's setting is known.
    let grown = plan(at, "--seeds 8");
    assert_eq!(numbers(&grown["phases"][1]), [24, 24, 0]);
}

#[test]
fn a_plan_of_a_sequential_study_has_its_rounds_as_the_most_that_there_may_be() {
    let sequential = "tasks = [{ task = \"rosenbrock\", steps = 3 }]\nseeds = 14\nsequential = true\nevaluations = 1\n\
                      [[factor]]\nname = \"cautious\"\non = { use_cautious = true }\n";
    let folder = place(sequential);
    let plan = plan(folder.path(), "");
    let phases = plan["phases"].as_array().unwrap();
    assert!(phases.len() > 1, "{plan}");
    assert_eq!((&phases[0]["round"], &phases[0]["at_most"]), (&Value::from(1), &Value::from(false)));
    assert!(phases[1..].iter().all(|phase| phase["at_most"] == true && phase["missing"] == 0));
    let runs = |name: &str| phases.iter().map(|phase| phase[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!(runs("missing") + runs("waiting"), 2 * 14);
}

/// Long enough that processes are killed in the middle of runs.
const LONG: &str = r#"
    tasks = [{ task = "digits", steps = 150 }]
    seeds = 8
    evaluations = 3
    baselines = ["adamw"]
    fork = { at = [50] }
    [tuning]
    rates = [1e-3, 1e-2]
    seeds = 1
    [[factor]]
    name = "cautious"
    on = { use_cautious = true }
"#;

#[test]
fn processes_on_one_folder_that_are_killed_and_started_again_end_with_the_report_of_one() {
    let folder = place(LONG);
    let at = folder.path();
    ablate(at, "run my.toml --out alone");
    let names = |folder: &str, extension: &str| {
        let entries = fs::read_dir(at.join(folder).join("runs")).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.retain(|name| name.ends_with(extension));
        names.sort();
        names
    };
    let stored = || names("together", ".json").len();
    let all = names("alone", ".json").len();
    assert_eq!(all, 4 + 3 * 8 + 8);
    let start = || -> Child {
        let mut process = command(at, "run my.toml --threads 1 --out together");
        process.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut processes: Vec<Child> = (0..4).map(|_| start()).collect();
    let mut kills = 0;
    for (index, count) in [2, 5, 8, 11, 14, 17, 20, 23, 26, 29].into_iter().enumerate() {
        // A bound against waiting for ever, not a measurement.
        let started = Instant::now();
        while stored() < count {
            assert!(started.elapsed() < Duration::from_secs(300), "only {} runs", stored());
            std::thread::sleep(Duration::from_millis(2));
        }
        let victim = &mut processes[index % 3]; // and one that is never killed
        victim.kill().unwrap(); // SIGKILL
        kills += usize::from(!victim.wait().unwrap().success());
        *victim = start();
    }
    assert!(kills >= 5, "{kills} of 10 were still at it");
    for process in &mut processes {
        assert!(process.wait().unwrap().success());
    }
    assert_eq!(report(&at.join("together")), report(&at.join("alone")));
    assert_eq!(names("together", ".json"), names("alone", ".json"));
    ablate(at, "run my.toml --out together"); // tidies
    assert_eq!(names("together", ".claim"), Vec::<String>::new());
    assert_eq!(names("together", ".away"), Vec::<String>::new());
}

/// Runs that take a while. A checkpoint after every step, so that one is there whenever a process is killed.
const CHECKPOINTS: &str = r#"
    tasks = [{ task = "digits", steps = 1500 }]
    seeds = 2
    evaluations = 3
    checkpoint_minutes = 0
"#;

#[cfg(unix)]
#[test]
fn a_run_that_is_stopped_by_a_scheduler_or_killed_goes_on_to_the_same_report() {
    let folder = place(CHECKPOINTS);
    let at = folder.path();
    ablate(at, "run my.toml --out alone");
    for (signal, status) in [("TERM", Some(75)), ("USR1", Some(75)), ("KILL", None), ("INT", Some(130))] {
        let mut process = command(at, "run my.toml --threads 1");
        let process = process.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let checkpoints = || {
            let entries = fs::read_dir(at.join("ablation/my/runs")).into_iter().flatten().flatten();
            let is_one = |path: &std::path::PathBuf| {
                path.extension().is_some_and(|extension| extension == "checkpoint")
            };
            entries.map(|entry| entry.path()).filter(is_one).collect::<Vec<_>>()
        };
        let before: Vec<_> = checkpoints().iter().map(|path| fs::read(path).unwrap()).collect();
        let started = Instant::now();
        // The run has gone on since it was started again.
        while checkpoints().iter().all(|path| fs::read(path).is_ok_and(|content| before.contains(&content))) {
            assert!(started.elapsed() < Duration::from_secs(300), "no checkpoint before SIG{signal}");
            std::thread::sleep(Duration::from_millis(1));
        }
        let id = process.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        let output = process.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), status, "SIG{signal}: {errors}");
        assert!(status.is_none() || errors.contains("goes on from here"), "{errors}");
        assert_eq!(errors.contains("queued again"), status == Some(75), "{errors}");
        assert!(!checkpoints().is_empty() && !at.join("ablation/my/report.html").exists(), "SIG{signal}");
        // And a plan says from where.
        let resuming = plan(at, "")["resuming"].as_array().unwrap().clone();
        // One that was killed between the end of its run and the next one may leave its checkpoint behind.
        assert!(!resuming.is_empty() && resuming.len() <= checkpoints().len(), "SIG{signal}");
        for run in resuming {
            assert!(run["step"].as_u64().is_some_and(|step| step > 0), "{run}");
            assert!(at.join(run["from"].as_str().unwrap()).exists(), "{run}");
        }
        assert!(ablate(at, "plan my.toml").contains("resume from a checkpoint"), "SIG{signal}");
    }
    ablate(at, "run my.toml");
    assert_eq!(plan(at, "")["resuming"], serde_json::json!([]));
    assert_eq!(report(&at.join("ablation/my")), report(&at.join("alone")));
    let left = fs::read_dir(at.join("ablation/my/runs")).unwrap().flatten().map(|entry| entry.path());
    assert!(left.into_iter().all(|path| path.extension().is_some_and(|extension| extension == "json")));
}
