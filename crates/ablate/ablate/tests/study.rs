//! Small studies from end to end: fairness, reproducibility, dead switches, divergence, and what a report says of them.

mod breaking;

use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;

use ablate::execute::Execution;
use ablate::findings::{Findings, Verdict};
use ablate::report::{self, Environment};
use ablate::results::{Results, Run};
use ablate::store::Store;
use ablate::study::{Overrides, Study};

use crate::breaking::registry;

fn run_with(text: &str, threads: usize) -> Results {
    let registry = registry();
    let study = Study::parse("test", text, &registry, &Overrides::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let execution = Execution::new(&study, &registry, &store);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| execution.results(&())).unwrap()
}

const STUDY: &str = r#"
    title = "A <small> & plain study"
    question = "Does it work?"
    tasks = [{ task = "digits", steps = 60 }, { task = "autoencoder", steps = 40 }]
    seeds = 3
    evaluations = 3
    baselines = ["adamw", "sgd", "schedule-free-adamw"]
    [tuning]
    rates = [1e-3, 1e-2]
    seeds = 1
    [[factor]]
    name = "cautious"
    title = "Cautious"
    on = { use_cautious = true }
    [[factor]]
    name = "prodigy"
    off = { remove = ["prodigy"] }
    tune = ["constant", "warm-up"]
    [[factor]]
    name = "fp32"
    title = "moments in float32"
    off = { factored_fp32 = false }
    [[factor]]
    name = "break"
    on = { insert = [{ transform = { transform = "break", step = 30 }, before = "schedule-free" }] }
"#;

/// The study's results, run once for all tests.
fn shared() -> Results {
    static RESULTS: OnceLock<Results> = OnceLock::new();
    RESULTS.get_or_init(|| run_with(STUDY, 2)).clone()
}

fn report_of(results: &Results, environment: &Environment) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    report::write(folder.path(), results, &Findings::of(results), environment).unwrap();
    let page = fs::read_to_string(folder.path().join(report::HTML_FILE)).unwrap();
    (folder, page)
}

fn arm(results: &Results, name: &str) -> usize {
    results.arms.iter().position(|arm| arm.name == name).unwrap()
}

#[test]
fn every_arm_meets_the_same_start_and_batches_and_does_something_of_its_own() {
    let results = shared();
    assert_eq!(results.arms.len(), 8);
    for task in &results.tasks {
        for seed in 0..3 {
            let of_seed = || task.arms.iter().map(move |arm| &arm.runs[seed]);
            let distinct = |of: fn(&Run) -> &String| of_seed().map(of).collect::<BTreeSet<_>>().len();
            assert_eq!(distinct(|run| &run.record.initial_sha256), 1, "{}", task.name);
            let finished = of_seed().filter(|run| run.record.steps == task.steps);
            let batches: BTreeSet<&String> = finished.map(|run| &run.record.batches_sha256).collect();
            assert_eq!(batches.len(), 1, "{}", task.name);
            // The base and the switch that does nothing are one.
            assert_eq!(distinct(|run| &run.record.trajectory_sha256), 7, "{}", task.name);
        }
        let [first, second, _] = task.arms[0].runs.as_slice() else { panic!("three seeds") };
        assert_ne!(first.record.initial_sha256, second.record.initial_sha256);
        assert_ne!(first.record.batches_sha256, second.record.batches_sha256);
        let curve = &task.arms[0].runs[0].record.curve;
        assert_eq!(curve.len(), 4);
        assert!(curve[3].train.loss < curve[0].train.loss, "{}", task.name);
    }
    assert_eq!(results.tasks[1].groups, ["encoder", "decoder"]);
}

#[test]
fn d_is_there_where_it_is_estimated_and_cautious_moves_fewer_weights() {
    let results = shared();
    let last = |arm: usize| results.tasks[1].arms[arm].runs[0].record.last().unwrap().groups.clone();
    for (index, arm) in results.arms.iter().enumerate() {
        let has_d = last(index).iter().all(|group| group.d.is_some());
        let is_estimated = arm.chain.contains("prodigy");
        assert_eq!(has_d, is_estimated, "{}", arm.name);
    }
    let moved = |name: &str| last(arm(&results, name))[0].moved.unwrap();
    assert!(moved("base") > moved("cautious") + 0.05, "{} {}", moved("base"), moved("cautious"));
}

#[test]
fn the_number_of_threads_changes_nothing_but_the_time() {
    let without_time = |mut results: Results| {
        let arms = results.tasks.iter_mut().flat_map(|task| &mut task.arms);
        for point in arms.flat_map(|arm| &mut arm.runs).flat_map(|run| &mut run.record.curve) {
            point.seconds = 0.0;
        }
        results
    };
    assert_eq!(without_time(shared()), without_time(run_with(STUDY, 3)));
}

#[test]
fn a_planted_dead_switch_is_caught_and_a_live_one_is_not_taken_for_dead() {
    let results = shared();
    let findings = Findings::of(&results);
    for task in &findings.tasks {
        assert_eq!(task.arms[arm(&results, "no-fp32")].verdict, Verdict::Dead, "{}", task.name);
        for live in ["cautious", "no-prodigy", "adamw"] {
            assert_ne!(task.arms[arm(&results, live)].verdict, Verdict::Dead, "{live}");
        }
    }
    let caveat = findings.caveats.iter().find(|caveat| caveat.contains("does nothing")).unwrap();
    assert!(caveat.contains("− moments in float32") && !caveat.contains("Cautious"), "{caveat}");
    let (_folder, page) = report_of(&results, &Environment::default());
    assert!(page.contains("no effect, to the bit"));
}

#[test]
fn divergence_is_a_result() {
    let results = shared();
    let broken = arm(&results, "break");
    let run = &results.tasks[0].arms[broken].runs[0].record;
    assert!(run.evaluation().is_none() && run.steps >= 30 && run.steps < 60, "{:?}", run.outcome);
    let findings = Findings::of(&results);
    assert_eq!(findings.tasks[0].arms[broken].diverged, 3);
    assert_eq!(findings.tasks[0].arms[broken].verdict, Verdict::Unclear); // of three seeds
    assert_eq!(
        findings.tasks[0].arms[broken].probability_of_improvement.map(|better| better.value),
        Some(0.0)
    );
    assert!(findings.caveats.iter().any(|caveat| caveat.contains("3 of 3 runs of + break diverged")));
    let (_folder, page) = report_of(&results, &Environment::default());
    assert!(page.contains("diverged at step"));
}

#[test]
fn tuned_arms_have_one_budget_and_others_have_none() {
    let results = shared();
    for task in &results.tasks {
        let budgets: Vec<Option<usize>> =
            task.arms.iter().map(|arm| arm.tuning.as_ref().map(|tuning| tuning.candidates.len())).collect();
        assert_eq!(budgets, [None, None, Some(4), None, None, Some(4), Some(4), Some(4)]);
    }
    let (_folder, page) = report_of(&results, &Environment::default());
    assert!(page.contains("4 settings × 1 seeds"));
}

#[test]
fn a_report_is_complete_escaped_and_needs_no_network() {
    let results = shared();
    let (folder, page) = report_of(&results, &Environment::default());
    for arm in &results.arms {
        assert!(page.contains(&arm.title), "{}", arm.title);
    }
    assert!(page.contains("A &lt;small&gt; &amp; plain study") && !page.contains("<small>"));
    for forbidden in ["http://", "https://", "<script", "<link"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    let lines = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap().lines().count();
    assert_eq!(lines(report::RUNS_FILE), 1 + 2 * 8 * 3);
    assert_eq!(lines(report::EFFECTS_FILE), 1 + 2 * 8);
    let points = |task: usize| -> usize {
        let runs = results.tasks[task].arms.iter().flat_map(|arm| &arm.runs);
        runs.map(|run| run.record.curve.len() * results.tasks[task].groups.len()).sum()
    };
    assert_eq!(lines(report::CURVES_FILE), 1 + points(0) + points(1));
    let markdown = fs::read_to_string(folder.path().join(report::MARKDOWN_FILE)).unwrap();
    assert!(markdown.contains("| + Cautious |") && markdown.contains("## Keep in mind"));
    let part = |name: &str| {
        let (_, rest) = markdown.split_once(&format!("<!-- ANCHOR: {name} -->\n")).unwrap();
        rest.split_once(&format!("<!-- ANCHOR_END: {name} -->\n")).unwrap().0
    };
    // Heads, rules, and the base; and a row for every task.
    assert_eq!(part("overview").lines().count(), 2 + results.arms.len());
    for arm in &results.arms {
        assert_eq!(part(&arm.name).lines().count(), 2 + results.tasks.len(), "{}", arm.name);
    }
    let read = ablate::diff::read(folder.path()).unwrap();
    assert_eq!(read, results);
}

#[test]
fn whatever_differs_between_two_executions_is_in_the_section_on_time() {
    let mut results = shared();
    let outside = |page: &str| {
        let (before, rest) = page.split_once("<section id=\"time\">").unwrap();
        format!("{before}{}", rest.split_once("</section>").unwrap().1)
    };
    let (_folder, first) = report_of(&results, &Environment::default());
    for arm in results.tasks.iter_mut().flat_map(|task| &mut task.arms) {
        for point in arm.runs.iter_mut().flat_map(|run| &mut run.record.curve) {
            point.seconds *= 3.0;
        }
    }
    let environment =
        Environment { lines: vec![("Machine".into(), "another".into())], commit: Some("abc".into()) };
    let (_folder, second) = report_of(&results, &environment);
    assert_ne!(first, second);
    assert_eq!(outside(&first), outside(&second));
}

#[test]
fn studies_with_little_in_them_have_a_report_too() {
    for text in [
        "tasks = [{ task = \"digits\", steps = 2 }]\nseeds = 1",
        "tasks = [{ task = \"rosenbrock\", steps = 1 }]\nseeds = 2\n[[factor]]\nname = \"a\"\non = { lr = 0.5 }",
        "tasks = [{ task = \"quadratic\", steps = 3 }]\nseeds = 2\n[[factor]]\nname = \"a\"\n\
         on = { insert = [{ transform = { transform = \"break\", step = 1 }, before = \"schedule-free\" }] }",
    ] {
        let results = run_with(text, 1);
        let (_folder, page) = report_of(&results, &Environment::default());
        assert!(page.contains("Keep in mind") && page.ends_with("</html>"), "{text}");
        let summary = report::terminal::summary(&results, &Findings::of(&results));
        assert!(summary.contains("Keep in mind"));
    }
}

#[test]
fn new_lines_in_titles_and_names_break_no_list_and_no_table() {
    let text = r#"
        title = "One\n\n# Two"
        question = """
            First line,
            second line?"""
        tasks = [{ task = "quadratic", name = "small\n- large", steps = 1 }]
        seeds = 2
        evaluations = 1
        [[factor]]
        name = "a"
        title = "half\r\n| whole"
        description = "What it\n\n- is"
        on = { lr = 0.5 }
        [[factor]]
        name = "break"
        title = "break\nall"
        on = { insert = [{ transform = { transform = "break", step = 1 }, before = "schedule-free" }] }
    "#;
    let results = run_with(text, 1);
    assert_eq!(
        (results.study.title.as_str(), results.tasks[0].name.as_str()),
        ("One # Two", "small - large")
    );
    let command = ("Command".to_owned(), "run a\nb".to_owned());
    let (folder, _page) = report_of(&results, &Environment { lines: vec![command], commit: None });
    let markdown = fs::read_to_string(folder.path().join(report::MARKDOWN_FILE)).unwrap();
    assert!(markdown.starts_with("# One # Two\n\nFirst line, second line?\n"), "{markdown}");
    assert!(
        markdown.contains("- Command: run a b\n") && markdown.contains("| + half \\| whole |"),
        "{markdown}"
    );
    let lists = markdown.lines().skip_while(|line| *line != "## Keep in mind").skip(2);
    assert!(lists.take_while(|line| !line.is_empty()).all(|line| line.starts_with("- ")), "{markdown}");
    let summary = report::terminal::summary(&results, &Findings::of(&results));
    assert!(summary.contains("small - large: ") && summary.starts_with("One # Two\n"), "{summary}");
    let lines = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap().lines().count();
    assert_eq!(lines(report::EFFECTS_FILE), 1 + 3);
}

#[test]
fn a_factorial_has_effects_that_add_up_to_the_whole() {
    let text = r#"
        tasks = [{ task = "quadratic", steps = 100 }]
        design = "factorial"
        seeds = 4
        evaluations = 1
        [[factor]]
        name = "cautious"
        on = { use_cautious = true }
        [[factor]]
        name = "orthograd"
        on = { use_orthograd = true }
        [[factor]]
        name = "adopt"
        on = { use_adopt = true }
    "#;
    let results = run_with(text, 2);
    assert_eq!(results.arms.len(), 8);
    let findings = Findings::of(&results);
    let factorial = findings.tasks[0].factorial.as_ref().unwrap();
    let sum: f64 = factorial.shapley.iter().map(|effect| effect.mean).sum();
    let all = &findings.tasks[0].arms[arm(&results, "cautious+orthograd+adopt")];
    let whole = all.difference.unwrap().mean.unwrap();
    assert!((sum - whole).abs() < 1e-9, "{sum} {whole}");
    let (folder, page) = report_of(&results, &Environment::default());
    assert!(page.contains("Do the factors add up?") && page.contains("Shapley"));
    let markdown = fs::read_to_string(folder.path().join(report::MARKDOWN_FILE)).unwrap();
    let (_, effects) = markdown.split_once("<!-- ANCHOR: quadratic-effects -->\n").unwrap();
    let effects = effects.split_once("<!-- ANCHOR_END").unwrap().0;
    assert_eq!(effects.lines().count(), 2 + 3 + 3 + 3); // heads; main effects, Shapley values, pairs
    assert!(effects.contains("| interaction | cautious × orthograd |"));
}

#[test]
fn a_comparison_of_two_executions_sees_what_changed() {
    let results = shared();
    let same = ablate::diff::compare(&results, &results).unwrap();
    assert!(!ablate::diff::is_regression(&same));
    let table = ablate::diff::table(&same);
    assert!(table.contains("16 of 16"), "{table}");

    // Eight seeds: a difference of one sign in all of them has p = 2/256.
    let text = "tasks = [{ task = \"digits\", steps = 40 }]\nseeds = 8\nevaluations = 1";
    let (before, mut worse) = (run_with(text, 2), run_with(&format!("{text}\nbase = {{ lr = 0.01 }}"), 2));
    let compared = ablate::diff::compare(&before, &worse).unwrap();
    assert!(ablate::diff::is_regression(&compared), "{compared:?}");
    assert!(!ablate::diff::is_regression(&ablate::diff::compare(&worse, &before).unwrap()));
    worse.tasks[0].name = "other".into();
    assert!(ablate::diff::compare(&before, &worse).unwrap_err().to_string().contains("in common"));
}
