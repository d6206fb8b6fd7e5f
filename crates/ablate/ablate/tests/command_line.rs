//! The program as it is called: what it says, and that nothing is lost however it ends.

mod program;

use program::program;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Enough runs that a process is surely killed among them.
const STUDY: &str = r#"
    title = "Interrupted"
    tasks = [{ task = "digits", steps = 250 }, { task = "autoencoder", steps = 150 }]
    seeds = 6
    evaluations = 4
    baselines = ["adamw"]
    [tuning]
    rates = [1e-3, 1e-2]
    seeds = 1
    [[factor]]
    name = "cautious"
    on = { use_cautious = true }
"#;

fn command(arguments: &[&str]) -> Command {
    let mut command = program();
    command.args(arguments);
    command
}

fn ablate(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn write_study(folder: &Path) -> String {
    let path = folder.join("study.toml");
    fs::write(&path, STUDY).unwrap();
    path.display().to_string()
}

fn start(study: &str, out: &Path) -> Child {
    let out = out.display().to_string();
    command(&["run", study, "--out", &out]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn run(study: &str, out: &Path) {
    let output = ablate(&["run", study, "--out", &out.display().to_string()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

fn stored(out: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(out.join("runs")).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
}

/// Waits until so many runs are stored. The time is a bound against waiting forever, not a measurement.
fn wait_for_runs(out: &Path, count: usize) {
    let started = Instant::now();
    while stored(out).len() < count {
        assert!(started.elapsed() < Duration::from_secs(300), "only {} runs", stored(out).len());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The page but for its section on time, and the tables.
fn report(out: &Path) -> (String, String, String) {
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    let page = read("report.html");
    let (before, rest) = page.split_once("<section id=\"time\">").unwrap();
    let after = rest.split_once("</section>").unwrap().1;
    (format!("{before}{after}"), read("effects.csv"), read("runs.csv"))
}

#[test]
fn a_study_that_is_killed_again_and_again_ends_with_the_report_of_an_undisturbed_one() {
    let parent = tempfile::tempdir().unwrap();
    let study = write_study(parent.path());
    let (undisturbed, killed) = (parent.path().join("undisturbed"), parent.path().join("killed"));
    run(&study, &undisturbed);
    let all = stored(&undisturbed).len();
    assert_eq!(all, 2 * (4 + 3 * 6));
    for count in [3, 11, 25] {
        let mut child = start(&study, &killed);
        wait_for_runs(&killed, count);
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        let left = stored(&killed).len();
        assert!(left >= count && left < all, "{left} of {all}");
    }
    let before = stored(&killed);
    let unchanged: Vec<_> =
        before.iter().map(|path| fs::metadata(path).unwrap().modified().unwrap()).collect();
    run(&study, &killed);
    let after: Vec<_> = before.iter().map(|path| fs::metadata(path).unwrap().modified().unwrap()).collect();
    assert_eq!(unchanged, after, "a stored run was done again");
    assert_eq!(report(&killed), report(&undisturbed));
    let leftovers = fs::read_dir(killed.join("runs")).unwrap().flatten().map(|entry| entry.path());
    let claims =
        leftovers.filter(|path| path.extension().is_some_and(|extension| extension == "claim")).count();
    assert_eq!(claims, 0);
}

#[test]
fn processes_on_one_study_share_the_work_and_a_damaged_run_is_done_again() {
    let parent = tempfile::tempdir().unwrap();
    let study = write_study(parent.path());
    let (alone, shared) = (parent.path().join("alone"), parent.path().join("shared"));
    run(&study, &alone);
    let mut children = [start(&study, &shared), start(&study, &shared), start(&study, &shared)];
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(report(&shared), report(&alone));

    let victims = stored(&shared);
    fs::write(&victims[0], "{}").unwrap();
    let whole = fs::read(&victims[1]).unwrap();
    fs::write(&victims[1], &whole[..whole.len() / 2]).unwrap();
    fs::remove_file(&victims[2]).unwrap();
    let output = ablate(&["report", &study, "--out", &shared.display().to_string()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("are missing"), "{}", text(&output.stderr));
    let output = ablate(&["run", &study, "--out", &shared.display().to_string()]);
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("damaged"), "{}", text(&output.stderr));
    assert_eq!(report(&shared), report(&alone));
}

#[test]
fn processes_that_start_at_the_same_moment_do_not_turn_each_other_away() {
    let parent = tempfile::tempdir().unwrap();
    let study = parent.path().join("tiny.toml");
    fs::write(&study, TINY).unwrap();
    let study = study.display().to_string();
    for round in 0..10 {
        let out = parent.path().join(round.to_string());
        for child in &mut [start(&study, &out), start(&study, &out), start(&study, &out)] {
            assert!(child.wait().unwrap().success(), "round {round}");
        }
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_with_a_word_and_loses_nothing_that_ended() {
    let parent = tempfile::tempdir().unwrap();
    let study = write_study(parent.path());
    let out = parent.path().join("out");
    let child = command(&["run", &study, "--out", &out.display().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_runs(&out, 2);
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(text(&output.stderr).contains("goes on from here"), "{}", text(&output.stderr));
    assert!(stored(&out).len() >= 2 && !out.join("report.html").exists());
}

#[test]
fn init_check_run_and_diff_lead_from_nothing_to_a_comparison() {
    let parent = tempfile::tempdir().unwrap();
    let study = parent.path().join("mine.toml").display().to_string();
    let written = ablate(&["init", &study]);
    assert!(written.status.success() && text(&written.stdout).contains("ablate check"));
    assert_eq!(ablate(&["init", &study]).status.code(), Some(2));
    let quick =
        ["--seeds", "2", "--length", "0.02", "--tasks", "digits", "--arms", "cautious,no-stableadamw"];
    let checked = ablate(&[&["check", &study][..], &quick].concat());
    assert!(
        text(&checked.stdout).contains("1 task x 3 arms x 2 seeds = 6 runs."),
        "{}",
        text(&checked.stdout)
    );
    let folders = ["a", "b"].map(|name| parent.path().join(name).display().to_string());
    for folder in &folders {
        let output = ablate(&[&["run", &study, "--out", folder][..], &quick].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("report.html"));
    }
    let same = ablate(&["diff", &folders[0], &folders[1]]);
    assert!(same.status.success() && text(&same.stdout).contains("3 of 3"), "{}", text(&same.stdout));
    // An arm that is gone is something that a reviewer wants to know of.
    let fewer = parent.path().join("fewer").display().to_string();
    let quick = ["--seeds", "2", "--length", "0.02", "--tasks", "digits", "--arms", "cautious"];
    assert!(ablate(&[&["run", &study, "--out", &fewer][..], &quick].concat()).status.success());
    let gone = ablate(&["diff", &folders[0], &fewer]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone.stdout).contains("gone"));
}

#[test]
fn mistakes_are_errors_that_say_what_to_do_before_anything_runs() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    let shown = out.display().to_string();
    let cases: [(&[&str], &str); 4] = [
        (&["run", "no-such-study", "--out", &shown], "a study that ships"),
        (&["run", "quick", "--arms", "lion", "--out", &shown], "no-prodigy"),
        (&["run", "quick", "--tasks", "iris", "--out", &shown], "digits"),
        (&["run", "quick", "--seeds", "0", "--out", &shown], "seeds"),
    ];
    for (arguments, expected) in cases {
        let output = ablate(arguments);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(expected), "{message}");
        assert!(!out.exists(), "{message}");
    }
    let thesis = parent.path().join("thesis.tex");
    fs::write(&thesis, "years").unwrap();
    let output = ablate(&["run", "quick", "--out", &parent.path().display().to_string()]);
    assert!(text(&output.stderr).contains("something other"));
    assert_eq!(fs::read_to_string(thesis).unwrap(), "years");
}

#[test]
fn a_pilot_says_how_many_seeds_a_study_needs_and_what_they_cost() {
    let parent = tempfile::tempdir().unwrap();
    let study = parent.path().join("pilot.toml");
    let text = "tasks = [{ task = \"rosenbrock\", steps = 40 }]\nseeds = 20\nevaluations = 1\n[[factor]]\nname = \"cautious\"\non = { use_cautious = true }\n\
        [[factor]]\nname = \"nothing\"\non = { use_cautious = false }\n";
    fs::write(&study, text).unwrap();
    let (study, out) = (study.display().to_string(), parent.path().join("out").display().to_string());
    let missing = ablate(&["power", &study, "--out", &out]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text_of(&missing).contains("there is no pilot") && text_of(&missing).contains("--seeds 4"));
    assert!(ablate(&["run", &study, "--out", &out, "--seeds", "4"]).status.success());
    let plan = |more: &[&str]| {
        let output = ablate(&[&["power", &study, "--out", &out][..], more].concat());
        assert!(output.status.success(), "{}", text_of(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let whole = plan(&[]);
    for expected in [
        "from a pilot of 4",
        "a standard deviation of the base's runs",
        "+ cautious",
        "nothing to plan by",
        "hours",
    ] {
        assert!(whole.contains(expected), "{expected}: {whole}");
    }
    // Whatever is larger than all spread takes six seeds.
    let large = plan(&["--difference", "1000"]);
    assert!(large.contains("6 [6, 6]") && large.contains("as asked for"), "{large}");
    let refused = ablate(&["power", &study, "--out", &out, "--difference", "-1"]);
    assert!(text_of(&refused).contains("--difference -1") || !refused.status.success());
}

fn text_of(output: &Output) -> String {
    text(&output.stderr)
}

const TINY: &str = "tasks = [{ task = \"rosenbrock\", steps = 5 }]\nseeds = 1\nevaluations = 1\n";

#[test]
fn more_threads_than_cores_are_refused_before_anything_runs() {
    let parent = tempfile::tempdir().unwrap();
    let out = parent.path().join("out");
    let output = ablate(&["run", "quick", "--threads", "100000", "--out", &out.display().to_string()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--threads 100000"), "{}", text(&output.stderr));
    assert!(!out.exists());
}

/// Standard error that nobody reads: a pipe whose reader has left.
#[cfg(unix)]
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[cfg(unix)]
#[test]
fn nobody_who_reads_the_progress_is_no_reason_to_lose_the_report() {
    let parent = tempfile::tempdir().unwrap();
    let study = parent.path().join("tiny.toml");
    fs::write(&study, TINY).unwrap();
    let study = study.display().to_string();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").map(Stdio::from);
    let mut places = vec![closed()];
    places.extend(full()); // where the system has it
    for (index, errors) in places.into_iter().enumerate() {
        let out = parent.path().join(index.to_string());
        let mut run = command(&["run", &study, "--out", &out.display().to_string()]);
        let status = run.stdout(Stdio::null()).stderr(errors).status().unwrap();
        assert!(status.success() && out.join("report.html").is_file(), "{status}");
        // A damaged run is spoken of, too.
        fs::write(&stored(&out)[0], "{}").unwrap();
        fs::remove_file(out.join("report.html")).unwrap();
        let mut again = command(&["run", &study, "--out", &out.display().to_string()]);
        let status = again.stdout(closed()).stderr(closed()).status().unwrap();
        assert!(status.success() && out.join("report.html").is_file(), "{status}");
    }
    // An error that nobody reads is one all the same, and no panic.
    let status = command(&["check", "no-such-study"]).stderr(closed()).status().unwrap();
    assert_eq!(status.code(), Some(2));
    if let Ok(full) = full() {
        let output = command(&["list", "tasks"]).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("standard output"), "{}", text(&output.stderr));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn paths_that_are_no_text_are_used_as_they_are() {
    use std::os::unix::ffi::OsStrExt;
    let parent = tempfile::tempdir().unwrap();
    let odd = |name: &[u8]| parent.path().join(std::ffi::OsStr::from_bytes(name));
    let (study, out) = (odd(b"odd\xff.toml"), odd(b"out\xff"));
    fs::write(&study, TINY).unwrap();
    let mut run = command(&["run"]);
    let output = run.arg(&study).arg("--out").arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(out.join("report.html").is_file() && out.join("report.md").is_file());
    let diff = command(&["diff"]).args([&out, &out]).output().unwrap();
    assert!(diff.status.success(), "{}", text(&diff.stderr));
}

#[test]
fn lists_name_what_a_study_can_use() {
    for (what, expected) in [
        ("tasks", &["digits", "characters", "mnist", "hidden = [128,64]"][..]),
        ("transforms", &["schedule-free", "orthograd", "use_cautious", "only-for", "beta1 = 0.9"][..]),
        ("options", &["use_adopt", "compat.wrong_row_mean", "\"none\"|1e-8"][..]),
        ("optimizers", &["sgd", "weight-decay", "0.0025"][..]),
        ("studies", &["switches", "factorial"][..]),
    ] {
        let output = text(&ablate(&["list", what]).stdout);
        for name in expected {
            assert!(name.split('|').any(|name| output.contains(name)), "{name} in {output}");
        }
    }
    assert!(text(&ablate(&["completions", "bash"]).stdout).contains("_ablate"));
}

#[cfg(not(feature = "object-store"))]
#[test]
fn a_program_without_object_stores_says_how_to_get_them_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["run", "quick", "--store", "s3://bucket/study"][..],
        &["report", "quick", "--store", "gs://bucket/study"],
        &["plan", "quick", "--store", "az://container/study"],
        &["merge", "s3://bucket/study", "s3://bucket/other"],
        &["merge", "quick", "s3://bucket/study"],
    ] {
        let output = command(arguments).current_dir(folder.path()).output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("--features object-store"), "{said}");
    }
    let output =
        command(&["run", "quick", "--out", "s3://bucket/study"]).current_dir(folder.path()).output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("--store s3://bucket/study"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
