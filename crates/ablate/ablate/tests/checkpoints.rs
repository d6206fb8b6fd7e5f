//! Runs that are stopped or killed and go on later, to the same bits.

mod breaking;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ablate::execute::{Execution, Interrupted, Job, Observer};
use ablate::record::{Point, Record};
use ablate::results::Results;
use ablate::store::Store;
use ablate::study::{Overrides, Study};

use crate::breaking::registry;

/// Stops a study at every so many points, and counts beginnings and ends.
struct Stopper<'s> {
    stop: &'s AtomicBool,
    every: usize,
    points: AtomicUsize,
    begun: AtomicUsize,
    ended: Mutex<Vec<Job>>,
}

impl Observer for Stopper<'_> {
    fn point(&self, _job: &Job, point: &Point) {
        if point.step == 0 {
            self.begun.fetch_add(1, Ordering::Relaxed);
        } else if (self.points.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(self.every) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn finished(&self, job: &Job, _record: &Record) {
        self.ended.lock().unwrap().push(*job);
    }
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

/// The results of a study that is stopped at every so many points, its number of stops, of beginnings of runs, and of
/// runs.
fn stopped(text: &str, every: usize) -> (Results, [usize; 3]) {
    let registry = registry();
    let study = Study::parse("test", text, &registry, &Overrides::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let observer = Stopper {
        stop: &stop,
        every,
        points: AtomicUsize::new(0),
        begun: AtomicUsize::new(0),
        ended: Mutex::default(),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for stops in 0.. {
        // As another process would find it.
        let store = Store::open(folder.path()).unwrap();
        let execution = Execution::new(&study, &registry, &store).stop_when(&stop);
        match pool.install(|| execution.results(&observer)) {
            Ok(results) => {
                let files = std::fs::read_dir(folder.path().join("runs")).unwrap().flatten();
                let names = files.map(|entry| entry.file_name().into_string().unwrap());
                assert!(
                    names.into_iter().all(|name| !name.ends_with(".checkpoint") && !name.ends_with(".claim"))
                );
                let ended = observer.ended.into_inner().unwrap().len();
                return (without_time(results), [stops, observer.begun.into_inner(), ended]);
            }
            Err(error) => assert!(error.is::<Interrupted>(), "{error:#}"),
        }
        stop.store(false, Ordering::Relaxed);
    }
    unreachable!()
}

/// Chains with state of every kind, and runs that diverge.
const STUDY: &str = r#"
    tasks = [{ task = "digits", steps = 20 }]
    seeds = 2
    evaluations = 5
    baselines = [
        "adamw", "amsgrad", "adamax", "adabelief", "adan", "ademamix", "mars", "prodigy", "dog", "l-dog", "schedule-free-sgd", "schedule-free-adamw",
        "lamb", "novograd", "lion", "signum", "noisy-sgd", "rprop", "optimistic-gradient-descent", "adagrad", "adafactor", "adadelta",
    ]
    tuning = { rates = [1e-2], seeds = 1 }
    [[factor]]
    name = "dense"
    on = { factored = false }
    [[factor]]
    name = "speed"
    on = { use_speed = true }
    [[factor]]
    name = "adopt"
    on = { use_adopt = true }
    [[factor]]
    name = "bf16"
    off = { factored_fp32 = false }
    [[factor]]
    name = "break"
    on = { insert = [{ transform = { transform = "break", step = 12 }, before = "schedule-free" }] }
"#;

const FORKED: &str = r#"
    tasks = [{ task = "rosenbrock", steps = 24 }]
    seeds = 3
    evaluations = 6
    fork = { at = [0, 5, "50%"], arms = ["cautious", "orthograd"] }
    [[factor]]
    name = "cautious"
    on = { use_cautious = true }
    [[factor]]
    name = "orthograd"
    on = { use_orthograd = true }
"#;

#[test]
fn a_study_that_is_stopped_within_its_runs_begins_none_of_them_twice_and_has_the_same_bits() {
    for (text, from_the_base, stops) in [(STUDY, 0, &[7][..]), (FORKED, 3 * 2 * 2, &[1, 2, 7])] {
        let (whole, [_, begun, runs]) = stopped(text, usize::MAX);
        assert_eq!(begun, runs - from_the_base);
        for &every in stops {
            let (results, [stops, begun, ended]) = stopped(text, every);
            assert_eq!(results, whole, "stopped at every {every} points");
            assert_eq!((begun, ended), (runs - from_the_base, runs), "stopped at every {every} points");
            assert!(stops >= runs / every, "{stops} stops");
        }
    }
}
