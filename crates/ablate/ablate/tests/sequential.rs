//! Sequential studies: who stops when, and that a report says so.

use std::fs;
use std::sync::Mutex;

use ablate::execute::{Execution, Job, Observer};
use ablate::findings::{Findings, Reason, Verdict};
use ablate::registry::Registry;
use ablate::report::{self, Environment};
use ablate::results::Results;
use ablate::store::Store;
use ablate::study::{Overrides, Study};

const STUDY: &str = r#"
    tasks = [{ task = "digits", steps = 40 }]
    seeds = 10
    sequential = true
    evaluations = 1
    base = { optimizer = "adamw", lr = 3e-3 }
    [[factor]]
    name = "slow"
    on = { lr = 1e-5 }
    [[factor]]
    name = "same"
    on = { "adam.eps" = 1e-8 }
    [[factor]]
    name = "decay"
    off = { remove = ["weight-decay"] }
"#;

/// The runs that were asked for, by stage.
#[derive(Default)]
struct Asked(Mutex<Vec<usize>>);

impl Observer for Asked {
    fn stage(&self, _name: &str, jobs: &[Job], _stored: usize) {
        self.0.lock().unwrap().push(jobs.len());
    }
}

fn results(store: &Store, may_run: bool, observer: &dyn Observer) -> anyhow::Result<Results> {
    let registry = Registry::shipped();
    let study = Study::parse("test", STUDY, &registry, &Overrides::default())?;
    let execution = Execution::new(&study, &registry, store);
    let execution = if may_run { execution } else { execution.only_stored() };
    execution.results(observer)
}

#[test]
fn an_arm_that_is_decided_has_no_further_runs_and_the_report_says_when_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let asked = Asked::default();
    let results = results(&store, true, &asked).unwrap();
    // Six seeds of all four arms, and then of what is still open.
    let asked = asked.0.into_inner().unwrap();
    assert_eq!(asked[0], 24, "{asked:?}");
    assert!(asked[1..].iter().all(|jobs| *jobs == 4), "two seeds of the base and of one arm: {asked:?}");

    let findings = Findings::of(&results);
    let arm = |name: &str| {
        let index = results.arms.iter().position(|arm| arm.name == name).unwrap();
        (&findings.tasks[0].arms[index], results.tasks[0].arms[index].runs.len())
    };
    let (slow, runs) = arm("slow");
    assert_eq!((slow.verdict, runs), (Verdict::Worse, 6));
    assert_eq!(slow.stop.map(|stop| (stop.seeds, stop.reason)), Some((6, Reason::Found)));
    assert!(slow.adjusted_p.is_some_and(|p| p <= 0.05));
    let (same, runs) = arm("same");
    assert_eq!(
        (same.verdict, runs, same.stop.map(|stop| stop.reason)),
        (Verdict::Dead, 6, Some(Reason::Dead))
    );
    let (decay, runs) = arm("no-decay");
    assert_eq!(decay.stop.map(|stop| stop.seeds), Some(runs));
    assert_eq!(arm("base").1, results.tasks[0].arms.iter().skip(1).map(|arm| arm.runs.len()).max().unwrap());

    report::write(folder.path(), &results, &findings, &Environment::default()).unwrap();
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(read(report::MARKDOWN_FILE).contains("6 seeds: decided"));
    assert!(read(report::HTML_FILE).contains("Pocock"));
    assert!(read(report::EFFECTS_FILE).lines().next().unwrap().contains("stopped_after,stopped_because"));
    assert!(report::terminal::summary(&results, &findings).contains("Stopped early"));
    assert!(
        findings.caveats.iter().any(|caveat| caveat.contains("too far from zero")),
        "{:?}",
        findings.caveats
    );
}

#[test]
fn a_sequential_study_is_the_same_from_its_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let first = results(&store, true, &()).unwrap();
    assert_eq!(results(&store, false, &()).unwrap(), first);
}

#[test]
fn what_sequential_cannot_be_combined_with_is_refused() {
    let error = |text: &str| {
        let text = STUDY.replace("seeds = 10", text);
        format!(
            "{:#}",
            Study::parse("test", &text, &Registry::shipped(), &Overrides::default()).err().unwrap()
        )
    };
    assert!(error("seeds = 10\ndesign = \"factorial\"").contains("effects of a factorial"));
    assert!(error("seeds = 5").contains("first look is after 6"));
}
