//! Studies that several machines share, each with a store of its own or all with one.

mod breaking;

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use ablate::execute::{Execution, Job, Observer, Phase, Shard, State, Survey};
use ablate::record::Record;
use ablate::results::Results;
use ablate::store::Store;
use ablate::study::{Overrides, Study};

use crate::breaking::registry;

/// Tuned arms and others, two tasks.
const TUNED: &str = r#"
    tasks = [{ task = "rosenbrock", steps = 6 }, { task = "quadratic", steps = 4 }]
    seeds = 5
    evaluations = 2
    baselines = ["adamw", "sgd"]
    [tuning]
    rates = [1e-3, 1e-2, 1e-1]
    seeds = 2
    [[factor]]
    name = "cautious"
    on = { use_cautious = true }
"#;

/// Runs that go on from the base, of which one diverges before the last fork.
const FORKED: &str = r#"
    tasks = [{ task = "rosenbrock", steps = 12 }]
    seeds = 7
    evaluations = 3
    fork = { at = [0, 3, "50%"] }
    [[factor]]
    name = "cautious"
    on = { use_cautious = true }
    [[factor]]
    name = "grams"
    on = { use_grams = true }
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

/// Counts the runs that end.
#[derive(Default)]
struct Done(Mutex<Vec<Job>>);

impl Observer for Done {
    fn finished(&self, job: &Job, _record: &Record) {
        self.0.lock().unwrap().push(*job);
    }
}

impl Done {
    fn take(&self) -> Vec<Job> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn with_store<R>(text: &str, folder: &Path, act: impl FnOnce(&Execution) -> R) -> R {
    let registry = registry();
    let study = Study::parse("test", text, &registry, &Overrides::default()).unwrap();
    let store = Store::open(folder).unwrap();
    act(&Execution::new(&study, &registry, &store))
}

fn share(text: &str, folder: &Path, (index, count): (usize, usize), done: &Done) -> Survey {
    with_store(text, folder, |execution| execution.share(Shard::new(index, count).unwrap(), done).unwrap())
}

fn without_time(mut results: Results) -> Results {
    for task in &mut results.tasks {
        let runs = task.arms.iter_mut().flat_map(|arm| &mut arm.runs);
        let forked = task.forks.iter_mut().flat_map(|fork| &mut fork.runs);
        for point in runs.chain(forked).flat_map(|run| &mut run.record.curve) {
            point.seconds = 0.0;
        }
    }
    results
}

fn alone(text: &str) -> (Results, usize) {
    let (folder, done) = (tempfile::tempdir().unwrap(), Done::default());
    let results = with_store(text, folder.path(), |execution| execution.results(&done).unwrap());
    (without_time(results), done.take().len())
}

/// Brings stores together as anybody could: their files have names that say their content.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("runs")).unwrap();
    for entry in fs::read_dir(from.join("runs")).unwrap().flatten() {
        fs::copy(entry.path(), to.join("runs").join(entry.file_name())).unwrap();
    }
}

#[test]
fn shares_on_one_store_do_every_run_once_and_make_the_report_of_one_process() {
    for text in [TUNED, FORKED, SEQUENTIAL] {
        let (whole, runs) = alone(text);
        for count in [1, 2, 3, 5, 40] {
            let (folder, done) = (tempfile::tempdir().unwrap(), Done::default());
            let mut passes = 0;
            let results = loop {
                let surveys: Vec<Survey> =
                    (0..count).map(|index| share(text, folder.path(), (index, count), &done)).collect();
                passes += 1;
                if let Some(results) = surveys.into_iter().find_map(|survey| survey.results) {
                    break results;
                }
                assert!(passes < 20, "{count} shares");
            };
            assert_eq!(without_time(results), whole, "{count} shares");
            let all = done.take();
            assert_eq!(all.len(), runs, "{count} shares");
            for (index, job) in all.iter().enumerate() {
                assert!(!all[..index].contains(job), "{count} shares: {job:?} twice");
            }
        }
    }
}

#[test]
fn a_sequential_study_waits_with_a_round_for_all_of_the_round_before() {
    let (folder, done) = (tempfile::tempdir().unwrap(), Done::default());
    let Survey { phases, .. } = share(SEQUENTIAL, folder.path(), (0, 2), &done);
    assert!(phases.len() > 1 && phases.iter().all(|phase| phase.name == "measuring"));
    assert_eq!(
        phases.iter().map(|phase| phase.round.unwrap()).collect::<Vec<_>>(),
        (1..=phases.len()).collect::<Vec<_>>()
    );
    assert_eq!((phases[0].stored(), phases[0].missing().len(), phases[0].is_bound), (12, 12, false));
    assert!(phases[1..].iter().all(|phase| phase.is_bound && phase.waiting() == phase.runs.len()));
    // The other share ends the first round, and does its part of the second one, which one arm is no longer in.
    let Survey { phases, .. } = share(SEQUENTIAL, folder.path(), (1, 2), &done);
    assert_eq!((phases[0].missing().len(), phases[1].runs.len(), phases[1].is_bound), (0, 4, false));
    assert_eq!((phases[1].stored(), phases[1].missing().len()), (2, 2));
}

#[test]
fn shares_with_stores_of_their_own_make_the_report_of_one_process_when_these_are_brought_together() {
    for text in [TUNED, FORKED, SEQUENTIAL] {
        let (whole, runs) = alone(text);
        let (shared, done) = (tempfile::tempdir().unwrap(), Done::default());
        fs::create_dir_all(shared.path().join("runs")).unwrap();
        let mut total = 0;
        for pass in 0.. {
            assert!(pass < 20);
            let stores: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
            for (index, store) in stores.iter().enumerate() {
                copy(shared.path(), store.path());
                share(text, store.path(), (index, 3), &done);
            }
            total += done.take().len();
            stores.iter().for_each(|store| copy(store.path(), shared.path()));
            let survey = with_store(text, shared.path(), |execution| execution.survey().unwrap());
            if let Some(results) = survey.results {
                assert_eq!(without_time(results), whole);
                break;
            }
        }
        assert_eq!(total, runs, "no run is done by two shares");
    }
}

#[test]
fn a_share_does_what_needs_no_tuning_and_leaves_the_rest_until_all_of_an_arms_tuning_is_there() {
    let (folder, done) = (tempfile::tempdir().unwrap(), Done::default());
    let Survey { phases, results } = share(TUNED, folder.path(), (0, 2), &done);
    let [tuning, measuring]: [Phase; 2] = phases.try_into().unwrap();
    assert!(results.is_none());
    assert_eq!((tuning.stored(), tuning.missing().len(), tuning.waiting()), (24, 24, 0));
    // Two arms on two tasks are run as they are, and about half of their runs are this share's.
    let stored = measuring.stored();
    assert!((4..=16).contains(&stored), "{stored}");
    assert_eq!((measuring.missing().len(), measuring.waiting()), (20 - stored, 20));
    assert!(measuring.runs.iter().all(|(job, state)| (job.arm >= 2) == (*state == State::Waiting)));
    assert_eq!(done.take().len(), 24 + stored);
    // The other share finds all tuning done at its end, and goes on.
    let Survey { phases, .. } = share(TUNED, folder.path(), (1, 2), &done);
    let left = phases[1].missing().len();
    assert_eq!((phases[0].missing().len(), phases[1].waiting(), left), (0, 0, 20 - stored));
    assert_eq!(done.take().len(), 24 + 40 - stored - left);
}

#[test]
fn shares_are_even_over_tasks_and_also_for_a_study_that_has_grown() {
    let grown = TUNED.replace("seeds = 5", "seeds = 40");
    let (folder, done) = (tempfile::tempdir().unwrap(), Done::default());
    with_store(TUNED, folder.path(), |execution| execution.results(&()).unwrap());
    for index in 0..4 {
        share(&grown, folder.path(), (index, 4), &done);
        let jobs = done.take();
        for task in 0..2 {
            // Of 160 runs 20 are stored; by chance, not by seed or arm.
            let own = jobs.iter().filter(|job| job.task == task).count();
            assert!((28..=40).contains(&own), "share {index} has {own} of task {task}");
        }
    }
}

#[test]
fn a_forks_runs_are_in_the_share_of_the_bases_run_so_that_it_is_trained_once() {
    let done = Done::default();
    for index in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let Survey { phases, .. } = share(FORKED, folder.path(), (index, 3), &done);
        let jobs = done.take();
        let bases: Vec<u64> = jobs.iter().filter(|job| job.arm == 0).map(|job| job.seed).collect();
        assert!((2..=3).contains(&bases.len()), "{bases:?}");
        let forks: Vec<&Job> = jobs.iter().filter(|job| job.fork.is_some()).collect();
        assert_eq!(forks.len(), 4 * bases.len());
        assert!(forks.iter().all(|job| bases.contains(&job.seed)));
        // The others' forks cannot be done, as the base's runs are not there.
        assert_eq!(phases[1].waiting(), 4 * (7 - bases.len()));
    }
}
