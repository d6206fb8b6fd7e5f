//! TensorBoard's event files of runs that are under way: what is in them, however a study is stopped, and what
//! TensorBoard reads.

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use ablate::analyse::{Source, read};
use ablate::execute::Execution;
use ablate::findings::Findings;
use ablate::registry::Registry;
use ablate::store::Store;
use ablate::study::{Overrides, Study};
use ablate_tasks::Measure;
use program::program;
use serde_json::Value;

/// Arms of which one has another rate, one does more, and one diverges.
const STUDY: &str = r#"
    tasks = [{ task = "digits", steps = 120 }]
    seeds = 6
    evaluations = 4
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

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(study: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(place.study(), study).unwrap();
        place
    }

    fn study(&self) -> PathBuf {
        self.folder.path().join("study.toml")
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn command(&self, command: &str, more: &[&str]) -> Command {
        let mut program = program();
        program.arg(command).arg(self.study()).args(more);
        program.arg("--out").arg(self.out());
        program
    }

    fn ablate(&self, command: &str, more: &[&str]) -> String {
        let output = self.command(command, more).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    }

    /// Files of an extension beside the runs.
    fn stored(&self, extension: &str) -> usize {
        let entries = fs::read_dir(self.out().join("runs")).into_iter().flatten().flatten();
        let is_its = |path: PathBuf| path.extension().is_some_and(|found| found == extension);
        entries.filter(|entry| is_its(entry.path())).count()
    }

    fn logdir(&self, task: &str) -> PathBuf {
        self.out().join("tensorboard").join(task)
    }

    /// By tag, arm, seed and step, of the tables.
    fn tables(&self) -> Numbers {
        self.ablate("export", &["--to", "jsonl"]);
        let text = fs::read_to_string(self.out().join("curves.jsonl")).unwrap();
        let mut numbers = Numbers::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            let key = (text("name"), text("arm"), line["seed"].as_u64().unwrap());
            let point = (line["step"].as_u64().unwrap() as usize, line["value"].as_f64().unwrap());
            numbers.entry(key).or_default().push(point);
        }
        numbers
    }
}

/// By name, arm and seed: steps and values.
type Numbers = BTreeMap<(String, String, u64), Vec<(usize, f64)>>;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

fn of_tag(logdir: &Path, tag: &str, measure: Measure) -> Source {
    Source {
        arm: "arm".into(),
        seed: Some("seed".into()),
        value: tag.into(),
        name: Some("{arm}/seed-{seed}".parse().unwrap()),
        base: Some("base".into()),
        measure,
        ..Source::new(vec![logdir.into()])
    }
}

/// The numbers of a tag in event files.
fn events(logdir: &Path, tag: &str) -> Numbers {
    let results = read(&of_tag(logdir, tag, Measure::Loss)).unwrap();
    let mut numbers = Numbers::new();
    for (arm, runs) in results.arms.iter().zip(&results.tasks[0].arms) {
        for run in &runs.runs {
            let points = run.record.curve.iter().map(|point| (point.step, point.validation.loss));
            numbers.insert((tag.to_owned(), arm.name.clone(), run.seed), points.collect());
        }
    }
    numbers
}

fn files(folder: &Path) -> usize {
    let of = |path: PathBuf| if path.is_dir() { files(&path) } else { 1 };
    fs::read_dir(folder).unwrap().map(|entry| of(entry.unwrap().path())).sum()
}

const TAGS: [&str; 7] = [
    "loss/batch",
    "loss/train",
    "loss/validation",
    "accuracy/validation",
    "step_size",
    "update_rms",
    "seconds",
];

/// Event files and tables have the same numbers, and every run has one file.
fn assert_equal_to_tables(place: &Place) {
    let (tables, logdir) = (place.tables(), place.logdir("digits"));
    assert_eq!(files(&logdir), 2 * 6);
    for tag in TAGS {
        let of_tag: Numbers = tables
            .iter()
            .filter(|((name, ..), _)| name == tag)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        assert_eq!(of_tag.len(), 2 * 6, "{tag}");
        assert_eq!(events(&logdir, tag), of_tag, "{tag}");
    }
}

#[cfg(unix)]
#[test]
fn a_study_that_is_stopped_and_killed_has_every_point_once() {
    // Long enough that runs are under way, and no arm diverges before it has numbers of a step.
    let text = STUDY.replace("steps = 120", "steps = 300");
    let place = Place::new(text.split_once("[[factor]]\n    name = \"wild\"").unwrap().0);
    let mut checkpoints = 0;
    for (count, signal) in [(1, "-TERM"), (4, "-KILL"), (7, "-TERM"), (9, "-TERM")] {
        let mut child = place
            .command("run", &["--tensorboard"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while place.stored("json") < count {
            assert!(child.try_wait().unwrap().is_none() && started.elapsed() < Duration::from_secs(300));
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        child.wait().unwrap();
        checkpoints += place.stored("checkpoint");
    }
    assert!(checkpoints > 0, "no run was under way");
    place.ablate("run", &["--tensorboard"]);
    assert_equal_to_tables(&place);
    // And again, from the store.
    let written = place.ablate("export", &["--to", "tensorboard"]);
    assert!(written.contains("of 12 runs") && written.contains("tensorboard --logdir"), "{written}");
    assert_equal_to_tables(&place);
}

#[test]
fn the_analysis_of_the_event_files_is_the_report_of_the_study() {
    let place = Place::new(STUDY);
    place.ablate("run", &["--tensorboard"]);
    let registry = Registry::shipped();
    let study = Study::open(place.study(), &registry, &Overrides::default()).unwrap();
    let store = Store::open(&place.out()).unwrap();
    let execution = Execution::new(&study, &registry, &store).only_stored();
    let results = execution.results(&()).unwrap();
    let analysed = read(&of_tag(&place.logdir("digits"), "final/accuracy", Measure::Accuracy)).unwrap();
    let (expected, found) = (Findings::of(&results), Findings::of(&analysed));
    assert_eq!(expected.tasks[0].arms[2].diverged, 6);
    for (arm, of_study) in results.arms.iter().zip(&expected.tasks[0].arms) {
        let index = analysed.arms.iter().position(|found| found.name == arm.name).unwrap();
        let of_files = &found.tasks[0].arms[index];
        assert_eq!(of_files.verdict, of_study.verdict, "{}", arm.name);
        assert_eq!(of_files.difference, of_study.difference, "{}", arm.name);
        assert_eq!(of_files.value, of_study.value, "{}", arm.name);
        assert_eq!((of_files.adjusted_p, of_files.diverged), (of_study.adjusted_p, of_study.diverged));
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_loses_no_run_and_is_spoken_of() {
    let place = Place::new(&STUDY.replace("steps = 120", "steps = 4"));
    fs::create_dir(place.out()).unwrap();
    fs::copy(place.study(), place.out().join("study.toml")).unwrap();
    fs::write(place.out().join("tensorboard"), "a file").unwrap();
    let said = place.ablate("run", &["--tensorboard"]);
    assert!(said.contains("18 runs have no whole event file"), "{said}");
    assert!(said.contains("cannot make the folder") && said.contains("ablate export"), "{said}");
    assert!(place.stored("json") == 18 && place.out().join("report.html").is_file());
    let failed = place.command("export", &["--to", "tensorboard"]).output().unwrap();
    assert!(failed.status.code() == Some(2) && self::said(&failed).contains("cannot make the folder"));
}

/// Of a script, every number that it says; of one that is tried again, those of the last time.
#[cfg(unix)]
#[test]
fn tasks_and_arms_have_a_folder_each_whatever_they_are_called() {
    let place = Place::new(
        r#"
        tasks = [
            { task = "rosenbrock", name = "a/b", steps = 4 },
            { task = "rosenbrock", name = "a:b", steps = 5 },
        ]
        seeds = 2
        evaluations = 1
        base = { optimizer = "sgd", lr = 1e-4 }
        [[factor]]
        name = ".."
        on = { lr = 1e-5 }
        "#,
    );
    let folders = [["a%2Fb", "base"], ["a%2Fb", ".%2E"], ["a%3Ab", "base"], ["a%3Ab", ".%2E"]];
    for (command, more) in [("run", &["--tensorboard"][..]), ("export", &["--to", "tensorboard"])] {
        place.ablate(command, more);
        assert_eq!(files(&place.out().join("tensorboard")), 2 * 2 * 2);
        for [task, arm] in folders {
            assert_eq!(files(&place.logdir(task).join(arm)), 2, "{task}, {arm}");
        }
    }
}

#[test]
fn a_command_has_the_numbers_of_its_lines_once() {
    let script = r#"
echo '{"step": 1, "loss": 9}'
if mkdir "$1" 2>/dev/null; then exit 1; fi
for step in 1 2 3; do echo "{\"step\": $step, \"loss\": $((8 - step)), \"lr\": 0.1}"; done
echo "{\"step\": 3, \"split\": \"validation\", \"loss\": 4.5}"
echo "{\"step\": 3, \"split\": \"test\", \"loss\": 4.25}"
"#;
    let study = r#"
        seeds = 2
        [[tasks]]
        name = "a script"
        command = ["sh", "train.sh", "tried-{rate}-{seed}"]
        sources = ["train.sh"]
        steps = 3
        retries = 1
        repeats = 0
        [base]
        rate = 1
        [[factor]]
        name = "other"
        on = { rate = 2 }
    "#;
    let place = Place::new(study);
    fs::write(place.folder.path().join("train.sh"), script).unwrap();
    place.ablate("run", &["--tensorboard"]);
    let logdir = place.logdir("a script");
    assert_eq!(files(&logdir), 4);
    for (tag, expected) in [
        ("loss/train", vec![(1, 7.0), (2, 6.0), (3, 5.0)]),
        ("lr", vec![(1, 0.1), (2, 0.1), (3, 0.1)]),
        ("loss/validation", vec![(3, 4.5)]),
        ("final/loss", vec![(3, 4.25)]),
    ] {
        for (run, points) in events(&logdir, tag) {
            assert_eq!(points, expected, "{run:?}");
        }
    }
}

/// A line that no test harness holds back.
fn say(line: &str) {
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Python, unless PYTHON names another one.
fn python() -> PathBuf {
    std::env::var_os("PYTHON").map_or_else(|| "python3".into(), PathBuf::from)
}

#[test]
fn tensorboard_itself_reads_what_was_written() {
    let has = Command::new(python()).args(["-c", "import tensorboard"]).stderr(Stdio::null()).status();
    if !has.is_ok_and(|status| status.success()) {
        say(
            "skipped: python3 with the package tensorboard is not here (pip install tensorboard; PYTHON names another Python)\n",
        );
        return;
    }
    let place = Place::new(STUDY);
    place.ablate("run", &["--tensorboard"]);
    // The file of a run that was killed while it wrote a record.
    let whole = fs::read_dir(place.logdir("digits").join("base/seed-0")).unwrap().next().unwrap().unwrap();
    let bytes = fs::read(whole.path()).unwrap();
    let cut = place.logdir("digits").join("base/seed-99");
    fs::create_dir(&cut).unwrap();
    fs::write(cut.join(whole.file_name()), &bytes[..bytes.len() - 5]).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/read_events.py");
    let output = Command::new(python()).arg(script).arg(place.logdir("digits")).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let mut found = Numbers::new();
    for line in String::from_utf8(output.stdout).unwrap().lines().filter(|line| !line.contains("final/")) {
        let (run, tag, step, value): (String, String, usize, f64) = serde_json::from_str(line).unwrap();
        let (arm, seed) = run.split_once("/seed-").unwrap();
        found.entry((tag, arm.to_owned(), seed.parse().unwrap())).or_default().push((step, value));
    }
    // It has them as float32.
    let mut tables = place.tables();
    tables.values_mut().flatten().for_each(|(_, value)| *value = f64::from(*value as f32));
    let of_cut = |key: &(String, String, u64)| key.2 == 99;
    let cut = found.keys().filter(|key| of_cut(key)).count();
    found.retain(|key, _| !of_cut(key));
    assert_eq!(found, tables);
    assert!(cut > 5, "{cut}");
    say(&format!("ran: TensorBoard's reader on {} curves\n", found.len()));
}
