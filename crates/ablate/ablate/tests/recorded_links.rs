//! Work of the links of a chain, and causes of a wrong d, in runs and reports; and parts that need the loss.

use std::fs;

use ablate::execute::Execution;
use ablate::findings::Findings;
use ablate::record::Record;
use ablate::registry::Registry;
use ablate::report::{self, Environment};
use ablate::results::Results;
use ablate::store::Store;
use ablate::study::{Overrides, Study};

fn results(text: &str) -> Results {
    let registry = Registry::shipped();
    let study = Study::parse("test", text, &registry, &Overrides::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let execution = Execution::new(&study, &registry, &store);
    execution.results(&()).unwrap()
}

fn links(record: &Record) -> Vec<&str> {
    record.last().unwrap().groups[0].links.iter().map(|link| link.link.as_str()).collect()
}

/// Of an arm whose learning rate is that of an AdamW.
const SLOW: &str = r#"
    tasks = [{ task = "quadratic", steps = 200 }, { task = "quadratic", name = "again", steps = 300 }, { task = "rosenbrock", steps = 5 }]
    seeds = 3
    [[factor]]
    name = "slow"
    on = { lr = 0.001 }
    [[factor]]
    name = "cautious"
    on = { use_cautious = true }
"#;

#[test]
fn a_report_says_why_d_does_not_grow_and_in_which_arms() {
    let results = results(SLOW);
    let findings = Findings::of(&results);
    let of_d: Vec<&String> =
        findings.caveats.iter().filter(|caveat| caveat.contains("d is not as it should be")).collect();
    let [caveat] = of_d.as_slice() else { panic!("{of_d:?}") };
    let title = results.arms[1].title.as_str();
    let expected = format!(
        "quadratic and again: d is not as it should be in most runs of {title}. quadratic, {title}, seed 0: The learning rate of group 0"
    );
    assert!(caveat.starts_with(&expected) && caveat.contains("0.001"), "{caveat}");
    // Too short a run shows nothing.
    assert!(results.tasks[2].arms.iter().flat_map(|arm| &arm.runs).all(|run| run.record.findings.is_empty()));
}

#[test]
fn every_point_after_the_first_has_what_each_link_did_and_a_report_draws_it() {
    let results = results(SLOW);
    let record = |arm: usize| &results.tasks[0].arms[arm].runs[0].record;
    assert_eq!(links(record(0)), ["factored-moment", "stableadamw", "schedule-free"]);
    assert_eq!(links(record(2)), ["factored-moment", "stableadamw", "schedule-free", "cautious"]);
    for point in &record(2).curve {
        let links = &point.groups[0].links;
        assert_eq!(links.is_empty(), point.step == 0, "{point:?}");
        assert!(links.iter().all(|link| link.gain().is_some_and(|gain| gain > 0.0)), "{point:?}");
        // The update after a link is that before the next.
        assert!(links.windows(2).all(|pair| pair[0].after == pair[1].before), "{point:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    report::write(folder.path(), &results, &Findings::of(&results), &Environment::default()).unwrap();
    let html = fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(html.contains("What every link does to the update"));
    let places = ["factored-moment", "stableadamw", "schedule-free", "cautious"]
        .map(|link| html.find(&format!("{link} over steps: ")).unwrap());
    assert!(places.is_sorted(), "in the order of the chain: {places:?}");
}

#[test]
fn parts_that_need_the_loss_are_told_it_in_studies_and_forks() {
    let results = results(
        r#"
        tasks = [{ task = "quadratic", steps = 60 }]
        seeds = 2
        fork = { at = [10], arms = ["plateau"] }
        [base]
        chain = ["polyak", "descent"]
        lr = 1
        [[factor]]
        name = "plateau"
        on = { insert = [{ transform = { transform = "reduce-on-plateau", patience = 1 }, before = "descent" }] }
    "#,
    );
    let task = &results.tasks[0];
    for (arm, expected) in [(0, &["polyak", "descent"][..]), (1, &["polyak", "reduce-on-plateau", "descent"])]
    {
        for run in &task.arms[arm].runs {
            assert_eq!(links(&run.record), expected);
            let (start, end) = (&run.record.curve[0], run.record.last().unwrap());
            assert!(run.record.evaluation().is_some() && end.train.loss < start.train.loss);
        }
    }
    let [fork] = task.forks.as_slice() else { panic!("{:?}", task.forks.len()) };
    assert!((fork.arm, fork.step, fork.runs.len()) == (1, 10, 2));
    assert!(fork.runs.iter().all(|run| links(&run.record).contains(&"reduce-on-plateau")));
}
