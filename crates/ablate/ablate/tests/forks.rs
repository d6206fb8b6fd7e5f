//! Arms that go on from the base's state: with the bits that they should have, whatever the store has lost, and as a
//! report tells it.

mod breaking;
mod program;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use ablate::execute::{Execution, Job, Observer, run_counts};
use ablate::findings::{Findings, Verdict};
use ablate::optimizer::{ChainSpec, Groups, OptimizerSpec};
use ablate::record::Record;
use ablate::registry::Registry;
use ablate::report::{self, Environment};
use ablate::results::{Fork, Results};
use ablate::store::Store;
use ablate::study::{Overrides, Study};

use crate::breaking::registry;
use program::program;

/// Events of a study's execution.
#[derive(Default)]
struct Diary(Mutex<Vec<String>>);

impl Diary {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Observer for Diary {
    fn stage(&self, name: &str, jobs: &[Job], _stored: usize) {
        self.0.lock().unwrap().push(format!("{name}: {}", jobs.len()));
    }

    fn damaged(&self, what: &str) {
        self.0.lock().unwrap().push(what.into());
    }
}

fn study(text: &str) -> Study {
    Study::parse("test", text, &registry(), &Overrides::default()).unwrap()
}

fn run_in(folder: &Path, text: &str, observer: &dyn Observer) -> Results {
    let (study, registry) = (study(text), registry());
    let store = Store::open(folder).unwrap();
    let execution = Execution::new(&study, &registry, &store);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    pool.install(|| execution.results(observer)).unwrap()
}

fn run(text: &str) -> Results {
    run_in(tempfile::tempdir().unwrap().path(), text, &())
}

/// A record without what differs from one execution to the next, and without its beginning.
fn whole(record: &Record) -> Record {
    let mut record = record.clone();
    record.forked = None;
    record.curve.iter_mut().for_each(|point| point.seconds = 0.0);
    record
}

fn records(runs: &[ablate::results::Run]) -> Vec<Record> {
    runs.iter().map(|run| whole(&run.record)).collect()
}

/// Two groups of parameters; evaluations that do not fall on the steps of the fork, and one that does.
const STUDY: &str = r#"
    title = "When to switch"
    tasks = [{ task = "autoencoder", steps = 24 }, { task = "quadratic", steps = 40 }]
    seeds = 2
    evaluations = 4
    [fork]
    at = [0, 1, 6, 11]
    arms = ["base", "cautious", "dense", "schedule-free"]
    [[factor]]
    name = "cautious"
    title = "Cautious"
    on = { use_cautious = true }
    [[factor]]
    name = "dense"
    title = "dense moments"
    on = { factored = false }
    [[factor]]
    name = "schedule-free"
    title = "Schedule-Free"
    off = { replace = { schedule-free = "descent" } }
"#;

/// The study's results, run once for all tests.
fn shared() -> &'static Results {
    static RESULTS: OnceLock<Results> = OnceLock::new();
    RESULTS.get_or_init(|| run(STUDY))
}

fn fork<'r>(results: &'r Results, task: usize, arm: &str, step: usize) -> &'r Fork {
    let arm = results.arms.iter().position(|other| other.name == arm).unwrap();
    results.tasks[task].forks.iter().find(|fork| (fork.arm, fork.step) == (arm, step)).unwrap()
}

#[test]
fn a_fork_at_step_0_is_the_arms_own_run() {
    let results = shared();
    for (task, found) in results.tasks.iter().enumerate() {
        for (arm, runs) in results.arms.iter().zip(&found.arms) {
            assert_eq!(fork(results, task, &arm.name, 0).runs, runs.runs, "{}", arm.name);
        }
    }
    // And is done and stored once: 4 arms, 2 tasks, 2 seeds, and as many again after each of the three other steps.
    let folder = tempfile::tempdir().unwrap();
    let diary = Diary::default();
    run_in(folder.path(), STUDY, &diary);
    assert_eq!(diary.lines(), ["measuring: 16", "forking: 48"]);
    let counts = run_counts(&study(STUDY));
    assert_eq!((counts.reported, counts.forked), (16, 48));
    assert_eq!((files(folder.path(), "json").len(), files(folder.path(), "state").len()), (64, 12));
}

#[test]
fn a_fork_into_the_base_is_the_base_to_the_bit_after_every_step() {
    const EVERY: &str = r#"
        tasks = [{ task = "autoencoder", steps = 8 }]
        seeds = 1
        evaluations = 3
        BASE
        [fork]
        at = [1, 2, 3, 4, 5, 6, 7]
        arms = ["base"]
    "#;
    let listed = r#"base = { chain = ["clip-by-norm", "adam", "weight-decay", "descent"], lr = 0.01 }"#;
    let options = [
        "",
        "base = { use_focus = true, factored = false }",
        "base = { use_adopt = true, use_muon_pp = true }",
        "base = { use_speed = true }",
        "base = { stochastic_rounding = true, use_orthograd = true }",
        r#"base = { optimizer = "adafactor" }"#,
        r#"base = { optimizer = "lion" }"#,
        listed,
    ];
    for base in options {
        let results = run(&EVERY.replace("BASE", base));
        let task = &results.tasks[0];
        for fork in &task.forks {
            assert_eq!(records(&fork.runs), records(&task.arms[0].runs), "{base}, step {}", fork.step);
            let forked = fork.runs[0].record.forked.as_ref().unwrap();
            assert!(forked.step == fork.step && forked.anew.is_empty() && forked.left_out.is_empty());
        }
        assert_eq!(task.forks.len(), 7);
        assert!(Findings::of(&results).tasks[0].forks.iter().all(|fork| fork.found.verdict == Verdict::Dead));
    }
}

#[test]
fn an_arm_has_the_bases_curve_before_its_step_and_its_own_behind_it() {
    let results = shared();
    for (task, found) in results.tasks.iter().enumerate() {
        for fork in found.forks.iter().filter(|fork| fork.step > 0 && fork.arm > 0) {
            for (run, base) in fork.runs.iter().zip(&found.arms[0].runs) {
                let (run, base) = (whole(&run.record), whole(&base.record));
                let shared = base.curve.iter().filter(|point| point.step <= fork.step).count();
                assert_eq!(run.curve[..shared], base.curve[..shared]);
                assert_ne!(run.curve.last().unwrap().train, base.curve.last().unwrap().train);
                assert_eq!((run.steps, &run.batches_sha256), (base.steps, &base.batches_sha256));
                assert_eq!(run.initial_sha256, base.initial_sha256);
            }
        }
        // A later switch is another run.
        let of = |arm, step| records(&fork(results, task, arm, step).runs);
        assert!(of("cautious", 1) != of("cautious", 6) && of("cautious", 6) != of("cautious", 11));
        assert!(task == 1 || of("dense", 0) != of("dense", 1));
    }
}

#[test]
fn state_that_the_base_lacks_starts_fresh_and_is_named() {
    let results = shared();
    let forked = |arm: &str| fork(results, 0, arm, 6).runs[0].record.forked.clone().unwrap();
    assert!(forked("cautious").anew.is_empty() && forked("cautious").left_out.is_empty());
    assert_eq!(forked("dense").anew, ["dense-moment/v"]);
    assert_eq!(forked("dense").left_out, ["factored-moment/col", "factored-moment/row", "factored-moment/v"]);
    assert!(forked("no-schedule-free").left_out.contains(&"schedule-free/z".to_owned()));
    let findings = Findings::of(results);
    let caveat = |arm: &str| findings.caveats.iter().filter(|text| text.contains(arm)).count();
    assert_eq!(
        (
            caveat(
                "where + dense moments takes over, it starts fresh with dense-moment/v, and leaves out factored-moment/"
            ),
            caveat("where + Cautious takes over")
        ),
        (2, 0)
    );
}

#[test]
fn where_arms_average_in_another_way_the_weights_to_evaluate_stay() {
    let registry = Registry::shipped();
    let groups: Groups = vec![vec![("w".into(), vec![3])]];
    let build = |spec: ChainSpec| OptimizerSpec::Chain(spec).build(&registry, &groups, 0, 100).unwrap();
    let mut averaging = build(ChainSpec::default());
    let mut weights = vec![vec![1.0_f32, -2.0, 3.0]];
    for step in 0..40 {
        let gradient = vec![0.5 + 0.1 * step as f32, -1.0, 0.25];
        averaging.step(&mut weights, &[Some(gradient)], 1.0).unwrap();
    }
    let (before, y) = (averaging.evaluation_weights(&weights).unwrap(), weights.clone());
    let replace = serde_json::from_value(serde_json::json!({ "schedule-free": "descent" })).unwrap();
    let mut plain = build(ChainSpec { replace, ..ChainSpec::default() });
    plain.go_on(&averaging.state().unwrap(), &mut weights).unwrap();
    let after = plain.evaluation_weights(&weights).unwrap();
    assert_ne!(weights, y);
    assert_eq!(after, weights);
    for (before, after) in before[0].iter().zip(&after[0]) {
        assert!((before - after).abs() <= 1e-6 * before.abs(), "{before} {after}");
    }
}

fn files(folder: &Path, extension: &str) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(folder.join("runs")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

/// Everything but the time.
fn without_time(results: &Results) -> Vec<Vec<Record>> {
    let of_task = |task: &ablate::results::TaskResults| {
        let arms = task.arms.iter().flat_map(|arm| records(&arm.runs));
        arms.chain(task.forks.iter().flat_map(|fork| records(&fork.runs))).collect()
    };
    results.tasks.iter().map(of_task).collect()
}

#[test]
fn a_store_that_lost_runs_and_states_has_them_again_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let first = run_in(folder.path(), STUDY, &());
    assert_eq!(without_time(&first), without_time(shared()));
    let reported = {
        let other = tempfile::tempdir().unwrap();
        run_in(other.path(), &STUDY.replace("at = [0, 1, 6, 11]", "at = [0]"), &());
        files(other.path(), "json")
            .iter()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect::<BTreeSet<_>>()
    };
    let states: Vec<PathBuf> = files(folder.path(), "state").into_iter().collect();
    let lose_forks = || {
        for path in files(folder.path(), "json") {
            if !reported.contains(path.file_name().unwrap()) {
                fs::remove_file(path).unwrap();
            }
        }
    };
    // All states; every second one; and none, with one that is damaged.
    for keep in [|_| false, |index: usize| index % 2 == 1, |_| true] {
        lose_forks();
        for (index, path) in states.iter().enumerate() {
            if !keep(index) {
                fs::remove_file(path).unwrap();
            }
        }
        if keep(0) {
            let bytes = fs::read(&states[0]).unwrap();
            fs::write(&states[0], &bytes[..bytes.len() - 1]).unwrap();
        }
        let diary = Diary::default();
        assert_eq!(without_time(&run_in(folder.path(), STUDY, &diary)), without_time(&first));
        assert_eq!(diary.lines()[0], "forking: 48");
        let damaged = diary.lines().iter().filter(|line| line.contains("checksum")).count();
        assert_eq!(damaged, usize::from(keep(0)), "{:?}", diary.lines());
        assert_eq!(files(folder.path(), "state").into_iter().collect::<Vec<_>>(), states);
    }
    // A report needs the runs alone.
    states.iter().for_each(|path| fs::remove_file(path).unwrap());
    assert_eq!(run_in(folder.path(), STUDY, &()), run_in(folder.path(), STUDY, &()));
    assert!(files(folder.path(), "state").is_empty());
}

#[test]
fn several_executions_of_a_study_in_one_store_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    // The base's runs are there, and none of its states.
    run_in(folder.path(), &STUDY.replace("at = [0, 1, 6, 11]", "at = [0]"), &());
    let results: Vec<Results> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| run_in(folder.path(), STUDY, &()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for found in &results {
        assert_eq!(without_time(found), without_time(shared()));
    }
    assert_eq!((files(folder.path(), "json").len(), files(folder.path(), "state").len()), (64, 12));
    assert!(files(folder.path(), "lock").is_empty());
}

#[test]
fn a_base_that_diverges_takes_later_forks_with_it_and_earlier_ones_may_be_saved() {
    let results = run(r#"
        tasks = [{ task = "quadratic", steps = 40 }]
        seeds = 2
        evaluations = 4
        [base]
        chain = ["adam", { transform = "break", step = 20 }, "descent"]
        lr = 0.01
        [fork]
        at = [5, 30]
        [[factor]]
        name = "break"
        off = { remove = ["break"] }
    "#);
    let early = fork(&results, 0, "no-break", 5);
    let late = fork(&results, 0, "no-break", 30);
    assert!(early.runs.iter().all(|run| run.record.evaluation().is_some()));
    assert_eq!(records(&late.runs), records(&results.tasks[0].arms[0].runs));
    assert!(late.runs.iter().all(|run| run.record.evaluation().is_none()));
    let findings = Findings::of(&results);
    assert_eq!(findings.tasks[0].forks[1].found.diverged, 2);
}

#[test]
fn short_steps_harm_the_less_the_later_they_begin() {
    let results = run(r#"
        tasks = [{ task = "quadratic", steps = 60 }]
        seeds = 6
        evaluations = 3
        [base]
        chain = ["adam", "descent"]
        lr = 0.03
        [fork]
        at = [0, 20, 59]
        [[factor]]
        name = "short"
        title = "short steps"
        on = { lr = 0.0001 }
    "#);
    let findings = Findings::of(&results);
    assert_eq!(findings.tasks[0].forks[0].found.verdict, Verdict::Worse);
    let difference = |index: usize| findings.tasks[0].forks[index].found.difference.unwrap().mean.unwrap();
    assert!(
        difference(0) > difference(1) && difference(1) > difference(2).abs(),
        "{} {} {}",
        difference(0),
        difference(1),
        difference(2)
    );
    let folder = tempfile::tempdir().unwrap();
    report::write(folder.path(), &results, &findings, &Environment::default()).unwrap();
    let page = fs::read_to_string(folder.path().join(report::HTML_FILE)).unwrap();
    assert!(page.contains("When it matters") && page.contains("+ short steps: ▼ worse from step"), "{page}");
}

#[test]
fn the_report_has_every_fork_in_all_its_forms() {
    let results = shared();
    let findings = Findings::of(results);
    let folder = tempfile::tempdir().unwrap();
    report::write(folder.path(), results, &findings, &Environment::default()).unwrap();
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let (page, markdown, table) =
        (read(report::HTML_FILE), read(report::MARKDOWN_FILE), read(report::FORKS_FILE));
    // 2 tasks, 4 arms, 4 steps.
    assert_eq!(table.lines().count(), 1 + 32);
    assert!(table.starts_with("task,arm,measure,step,n,diverged,mean,sd,pairs,difference,low,high,p_forks"));
    // The page draws them, and each figure has a mark for every arm and step.
    assert_eq!(page.matches("step at which the arm takes over").count(), 2);
    assert_eq!(page.matches(", from step ").count(), 32);
    let section = markdown.split("<!-- ANCHOR: autoencoder-forks -->").nth(1).unwrap();
    let section = section.split("<!-- ANCHOR_END").next().unwrap();
    assert_eq!(section.trim().lines().count(), 2 + 16);
    insta::assert_snapshot!("forks", section.trim());
    let summary = report::terminal::summary(results, &findings);
    assert!(summary.contains("arms that go on from the base's state") && summary.contains("from step"));
    // Runs at step 0 are those of the arms, and not counted twice.
    assert_eq!(read(report::RUNS_FILE).lines().count(), 1 + 16 + 48);
    let json: serde_json::Value = serde_json::from_str(&read(report::JSON_FILE)).unwrap();
    assert_eq!(json["findings"]["tasks"][0]["forks"].as_array().unwrap().len(), 16);
    let again: Results = serde_json::from_value(json["results"].clone()).unwrap();
    assert_eq!(&again, results);
}

#[test]
fn the_program_says_what_a_fork_costs_and_what_is_wrong_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("late.toml");
    let check = |text: &str| {
        fs::write(&path, text).unwrap();
        let output = program().arg("check").arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said, _) = check(STUDY);
    assert_eq!(code, Some(0));
    let expected = "And 48 runs that go on from the base's state (at step 0 an arm's own runs count): base, cautious, dense, no-schedule-free x 2 seeds, on \
        autoencoder after 0, 1, 6, 11 of 24 steps; quadratic after 0, 1, 6, 11 of 40 steps.";
    assert!(said.contains(expected), "{said}");
    let (code, _, said) = check(&STUDY.replace("11]", "24]"));
    assert_eq!(code, Some(2));
    assert!(
        said.contains("task autoencoder: a fork at step 24 leaves nothing of a run of 24 steps"),
        "{said}"
    );
}

#[test]
fn the_example_can_be_run_and_one_of_its_arms_begins_with_other_state() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../examples/switch.toml");
    let study = Study::open(path, &Registry::shipped(), &Overrides::default()).unwrap();
    let names: Vec<&str> = study.forked.iter().map(|arm| study.arms[*arm].arm.name.as_str()).collect();
    assert_eq!(names, ["base", "no-clip", "no-decay", "short-memory", "momentum"]);
    assert!(study.tasks.iter().all(|task| task.forks == [0, 40, 100, 200, 300]));
    // Left to themselves, the arms are those that keep what the base keeps.
    let text = fs::read_to_string(path).unwrap();
    let all = "arms = [\"base\", \"clip\", \"decay\", \"short-memory\", \"momentum\"]\n";
    assert!(text.contains(all));
    let study =
        Study::parse("all", &text.replace(all, ""), &Registry::shipped(), &Overrides::default()).unwrap();
    assert_eq!(study.forked, [1, 2, 3]);
}
