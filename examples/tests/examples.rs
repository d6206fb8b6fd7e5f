//! Every example runs and does what it says.
#![allow(dead_code)] // the examples' own `main`

use std::collections::BTreeSet;
use std::path::Path;

#[path = "../averaging_step.rs"]
mod averaging_step;
#[path = "../bfloat16.rs"]
mod bfloat16;
#[path = "../candle_training.rs"]
mod candle_training;
#[path = "../chain_boxes.rs"]
mod chain_boxes;
#[path = "../custom_transform.rs"]
mod custom_transform;
#[path = "../d_does_not_grow.rs"]
mod d_does_not_grow;
#[path = "../learning_rates.rs"]
mod learning_rates;
#[path = "../mnist_curves.rs"]
mod mnist_curves;
#[path = "../own_study.rs"]
mod own_study;
#[path = "../pictures.rs"]
mod pictures;
#[path = "../quickstart.rs"]
mod quickstart;
#[path = "../resume.rs"]
mod resume;
#[path = "../several_groups.rs"]
mod several_groups;
#[path = "../step_costs.rs"]
mod step_costs;
#[path = "../step_sizes.rs"]
mod step_sizes;
#[path = "../trajectories.rs"]
mod trajectories;
#[path = "../transform_list.rs"]
mod transform_list;

#[test]
fn quickstart_fits_the_line() {
    let (before, after) = quickstart::run(&mut Vec::new()).unwrap();
    assert!(before > 3.0 && after < 0.01, "{before} {after}");
}

#[test]
fn the_custom_transform_helps_against_heavy_tails() {
    let (without, with) = custom_transform::run().unwrap();
    assert!(with < 0.9 * without && without < custom_transform::start(), "{without} {with}");
}

#[test]
fn stochastic_rounding_gets_where_rounding_to_the_nearest_does_not() {
    let ([nearest, stochastic], noise) = bfloat16::run(&mut Vec::new()).unwrap();
    assert!(nearest > 0.09 && stochastic < 0.03, "{nearest} {stochastic}");
    // Rounding is taken for distance where there are few samples, and hardly where there are many.
    let [[few_wide, few_narrow], [_, many_narrow]] = noise;
    assert!(few_narrow > 10.0 * few_wide && many_narrow < 0.2 * few_narrow, "{noise:?}");
}

#[test]
fn the_book_has_every_sentence_that_names_why_d_is_wrong() {
    let runs = d_does_not_grow::run().unwrap();
    let page = in_book("how-to/d-does-not-grow.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let named = runs.iter().map(|(what, sentences)| (*what, sentences.len())).collect::<Vec<_>>();
    assert_eq!((named[0], runs.len()), (("as it should be", 0), 9));
    assert!(named[1..].iter().all(|(_, count)| *count >= 1), "{named:?}");
    for (what, sentences) in &runs {
        assert!(page.contains(what), "{what}");
        for sentence in sentences {
            assert!(page.contains(sentence.as_str()), "{what}: the page lacks {sentence}");
        }
    }
}

#[test]
fn the_network_in_candle_tells_the_spirals_apart() {
    let (before, after) = candle_training::run(&mut Vec::new()).unwrap();
    assert!(before < 0.9 && after > 0.99, "{before} {after}");
}

/// The book's copy of a file that an example writes.
fn in_book(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../book/src").join(name)).unwrap()
}

/// The numbers of a text, and what is around them.
fn numbers_and_rest(text: &str) -> (Vec<f64>, String) {
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-');
    let (mut numbers, mut rest) = (Vec::new(), String::new());
    for part in text.split_inclusive(|c: char| !is_number(c)) {
        let digits = part.trim_end_matches(|c: char| !is_number(c));
        match digits.parse() {
            Ok(number) => {
                numbers.push(number);
                rest.push('#');
            }
            Err(_) => rest.push_str(digits),
        }
        rest.push_str(&part[digits.len()..]);
    }
    (numbers, rest)
}

/// That a file is what the example writes, but for rounding that another mathematical library may do differently.
fn assert_same_but_for_rounding(name: &str, drawn: &str, shipped: &str, tolerance: f64) {
    let ((drawn, around), (shipped, shipped_around)) = (numbers_and_rest(drawn), numbers_and_rest(shipped));
    assert!(around == shipped_around, "{name} has another structure; run the example again");
    let worst = drawn.iter().zip(&shipped).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= tolerance, "{name} is off by {worst}; run the example again");
}

#[test]
fn the_books_pictures_are_those_that_the_example_draws() {
    let folder = tempfile::tempdir().unwrap();
    pictures::run(folder.path()).unwrap();
    let names = |folder: &Path| -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| name.ends_with(".svg")).collect()
    };
    let drawn = names(folder.path());
    assert_eq!(drawn, names(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../book/src/transforms")));
    for name in drawn {
        let svg = std::fs::read_to_string(folder.path().join(&name)).unwrap();
        assert!(svg.matches("<polyline").count() >= 2 && !svg.contains("NaN"), "{name}");
        assert_same_but_for_rounding(&name, &svg, &in_book(&format!("transforms/{name}")), 1.0); // a pixel
    }
}

/// The picture that an example draws to a path; that, but for a pixel, it is the book's.
fn picture_in_book(name: &str, draw: impl FnOnce(&Path) -> anyhow::Result<()>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.svg");
    draw(&path).unwrap();
    let drawn = std::fs::read_to_string(path).unwrap();
    assert!(!drawn.contains("NaN"), "{drawn}");
    assert_same_but_for_rounding(name, &drawn, &in_book(name), 1.0);
    drawn
}

#[test]
fn the_books_picture_of_costs_is_of_the_numbers_that_were_measured() {
    let measured = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/versus.json");
    let measured = std::fs::read_to_string(measured).unwrap();
    picture_in_book("step-costs.svg", |path| step_costs::run(&measured, path));
}

#[test]
fn the_books_picture_of_mnist_is_of_the_records() {
    let records = Path::new(env!("CARGO_MANIFEST_DIR")).join("mnist/records");
    let drawn = picture_in_book("internals/mnist.svg", |path| mnist_curves::run(&records, path));
    // Means of six optimizers; d of eight runs, and four rates.
    assert!(drawn.matches("<polyline").count() >= 18, "{drawn}");
}

#[test]
fn the_books_picture_of_the_default_chain_is_what_the_optimizer_says_of_itself() {
    let drawn = picture_in_book("chain.svg", chain_boxes::run);
    assert_eq!(drawn.matches("<rect").count(), 4, "{drawn}");
}

#[test]
fn the_books_picture_of_an_averaging_step_is_of_the_optimizer() {
    picture_in_book("tutorial/averaging-step.svg", averaging_step::run);
    // What it says in words.
    let ([before, after], c) = averaging_step::points().unwrap();
    let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
    assert!(near(c, 0.25) && near(after.z, before.z - 0.4 * before.y), "{c}");
    assert!(near(after.y, 0.7 * after.x + 0.3 * after.z));
}

#[test]
fn the_books_list_of_transforms_is_the_one_that_studies_have() {
    assert!(
        in_book("transforms/list.md") == transform_list::page(),
        "run: cargo run -p examples --example transform_list > book/src/transforms/list.md"
    );
}

#[test]
fn losses_over_learning_rates_are_drawn_for_every_task_of_the_books_picture() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("short.svg");
    learning_rates::run(&path, &[("digits", 2), ("autoencoder", 2)]).unwrap();
    // Of each panel the lines of three optimizers, at least.
    let lines = |svg: &str| svg.matches("<polyline").count();
    let (short, book) = (std::fs::read_to_string(path).unwrap(), in_book("learning-rates.svg"));
    assert!(lines(&short) >= 6 && lines(&book) >= 9 && !short.contains("NaN"), "{short}");
    for (task, _) in learning_rates::TASKS {
        assert!(book.contains(task), "{task}");
    }
}

/// The block of output in a page of the book, from a line that begins so.
fn shown(page: &str, first: &str) -> String {
    let text = in_book(page);
    let (_, rest) =
        text.split_once(&format!("```text\n{first}")).unwrap_or_else(|| panic!("{page}: {first}"));
    format!("{first}{}", rest.split_once("```").unwrap().0)
}

#[test]
fn pages_show_what_the_examples_print() {
    let print = |run: fn(&mut Vec<u8>) -> anyhow::Result<()>| {
        let mut out = Vec::new();
        run(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let compare = |page: &str, first: &str, printed: String, tolerance: f64| {
        assert_same_but_for_rounding(page, &printed, &shown(page, first), tolerance);
    };
    compare("how-to/slices.md", "step 200", print(|out| quickstart::run(out).map(drop)), 0.01);
    compare("how-to/resume.md", "2", print(|out| resume::run(out).map(drop)), 0.01);
    compare("how-to/groups.md", "a d of its own", print(|out| several_groups::run(out).map(drop)), 0.05);
    compare("how-to/bfloat16.md", "from a distance", print(|out| bfloat16::run(out).map(drop)), 0.05);
    // candle has no seed for its initial weights: the numbers are those of one run.
    compare(
        "tutorial/first-training.md",
        "step 50",
        print(|out| candle_training::run(out).map(drop)),
        f64::INFINITY,
    );
}

#[test]
fn the_first_study_prints_what_the_tutorial_shows() {
    use ablate::{
        execute::Execution,
        findings::Findings,
        registry::Registry,
        report::terminal::summary,
        store::Store,
        study::{Overrides, Study},
    };
    let text = include_str!("../first_study.toml");
    assert!(
        in_book("tutorial/first-ablation.md").contains(&format!("```toml\n{text}```")),
        "another study file"
    );
    let registry = Registry::shipped();
    let study = Study::parse("first_study", text, &registry, &Overrides::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let results = Execution::new(&study, &registry, &store).results(&()).unwrap();
    let printed = summary(&results, &Findings::of(&results));
    // The page breaks lines.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = shown("tutorial/first-ablation.md", "Three parts");
    assert_same_but_for_rounding("the study", &words(&printed), &words(&shown), 0.2);
}

/// The data of a figure, as an example writes it; that it is what the book has.
fn figure_data(
    name: &str,
    constant: &str,
    tolerance: f64,
    write: fn(&Path) -> anyhow::Result<()>,
) -> serde_json::Value {
    // They lie beside their pages.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    write(&path).unwrap();
    let script = std::fs::read_to_string(path).unwrap();
    assert_same_but_for_rounding(name, &script, &in_book(&format!("tutorial/{name}")), tolerance);
    let (_, data) = script.trim().split_once(&format!("const {constant} = ")).unwrap();
    serde_json::from_str(data.strip_suffix(';').unwrap()).unwrap()
}

#[test]
fn the_figure_of_steps_has_a_path_for_every_set_of_transforms() {
    let data = figure_data("trajectories.js", "TRAJECTORIES", 0.002, trajectories::run);
    let paths = data["trajectories"].as_array().unwrap();
    assert_eq!(paths.len(), 32);
    let all: BTreeSet<String> = paths.iter().map(ToString::to_string).collect();
    // Without Schedule-Free, Cautious changes nothing, as every step follows its update; and a lone OrthoGrad of steps that
    // StableAdamW does not clip is the same with it.
    assert!(all.len() > 20, "{} different ones", all.len());
}

#[test]
fn the_figure_of_d_has_curves_for_every_setting() {
    let data = figure_data("step-sizes.js", "STEP_SIZES", 0.02, step_sizes::run);
    let choices = |control: &serde_json::Value| control[1].as_array().unwrap().len();
    let settings: usize = data["controls"].as_array().unwrap().iter().map(choices).product();
    let curves = data["curves"].as_array().unwrap();
    assert_eq!(curves.len(), settings);
    for (setting, curve) in curves.iter().enumerate() {
        let d = |estimate: &str| -> Vec<f64> {
            curve[estimate]["d"].as_array().unwrap().iter().map(|d| d.as_f64().unwrap()).collect()
        };
        for d in [d("Prodigy"), d("SPEED")] {
            assert!(d.len() == 61 && d.is_sorted(), "setting {setting}: {d:?}");
        }
    }
}

#[test]
fn groups_share_the_step_size_as_the_policy_says() {
    let [mean, each, joint] = several_groups::run(&mut Vec::new()).unwrap();
    assert!(mean[0].0 != mean[1].0 && mean[0].1 == mean[1].1);
    assert!(each[0].0 != each[1].0 && each[0].1 != each[1].1);
    assert!(joint[0].0 == joint[1].0 && joint[0].1 == joint[1].1);
}

#[test]
fn a_resumed_run_is_the_same_to_the_bit() {
    let (whole, resumed) = resume::run(&mut Vec::new()).unwrap();
    assert!(!whole.is_empty());
    assert!(whole.iter().zip(&resumed).all(|(a, b)| a.to_bits() == b.to_bits()));
}

#[test]
fn a_study_uses_a_task_and_a_transform_of_ones_own() {
    use ablate::{
        execute::Execution,
        store::Store,
        study::{Overrides, Study},
    };
    let registry = own_study::registry();
    let overrides = Overrides { seeds: Some(2), length: Some(0.2), ..Overrides::default() };
    let study = Study::parse("own_study", include_str!("../own_study.toml"), &registry, &overrides).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let results = Execution::new(&study, &registry, &store).results(&()).unwrap();
    let names: Vec<&str> = results.arms.iter().map(|arm| arm.name.as_str()).collect();
    assert_eq!(names, ["base", "clip-norm", "no-stableadamw", "clip-norm+no-stableadamw", "sgd"]);
    assert!(results.arms[1].chain.starts_with("clip-norm | factored-moment"), "{}", results.arms[1].chain);
    // Every arm does something of its own, on both tasks.
    for task in &results.tasks {
        let trajectories: BTreeSet<&str> =
            task.arms.iter().map(|arm| arm.runs[0].record.trajectory_sha256.as_str()).collect();
        assert_eq!(trajectories.len(), names.len(), "{}", task.name);
    }
}

#[test]
fn a_study_of_a_chain_has_its_parts_as_factors() {
    use ablate::{
        execute::Execution,
        registry::Registry,
        store::Store,
        study::{Overrides, Study},
    };
    let registry = Registry::shipped();
    let overrides = Overrides { seeds: Some(2), length: Some(0.05), ..Overrides::default() };
    let text = include_str!("../adamw_decay.toml");
    let study = Study::parse("adamw_decay", text, &registry, &overrides).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let results = Execution::new(&study, &registry, &store).results(&()).unwrap();
    assert_eq!((results.arms.len(), results.refused.len()), (8, 0));
    let chain = &results.arms[7].chain;
    assert!(
        chain.starts_with("clip-by-norm (over = \"all\") | adam (nesterov = true) | weight-decay"),
        "{chain}"
    );
    assert!(results.arms[0].chain.contains("steps = \"90%\""), "{}", results.arms[0].chain);
    for task in &results.tasks {
        let trajectories: BTreeSet<&str> =
            task.arms.iter().map(|arm| arm.runs[0].record.trajectory_sha256.as_str()).collect();
        // The gradients of the other task are shorter than 1 so early, and not clipped.
        let distinct = if task.name.starts_with("digits") { 8 } else { 4 };
        assert_eq!(trajectories.len(), distinct, "{}", task.name);
    }
}

#[test]
fn the_same_training_as_a_task_that_ships_and_as_a_command_has_the_same_numbers_and_verdicts() {
    use ablate::{
        execute::Execution,
        findings::{Findings, Verdict},
        registry::Registry,
        store::Store,
        study::{Overrides, Study},
    };
    let by_command = include_str!("../own_training.toml");
    let (before, rest) = by_command.split_once("[[tasks]]").unwrap();
    let (_, factors) = rest.split_once("\n[[factor]]").unwrap();
    let task = "tasks = [{ task = \"quadratic\", side = 12, steps = 200 }]\nevaluations = 10";
    let shipped = format!("{before}{task}\n[[factor]]{factors}");
    let by_command = by_command.replace("../target/release/own_training", env!("CARGO_BIN_EXE_own_training"));
    let run = |text: &str| {
        let registry = Registry::shipped();
        let study = Study::parse("own_training", text, &registry, &Overrides::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let execution = Execution::new(&study, &registry, &store);
        execution.results(&()).unwrap()
    };
    let (here, there) = (run(&shipped), run(&by_command));
    for (one, other) in here.tasks[0].arms.iter().zip(&there.tasks[0].arms) {
        for (one, other) in one.runs.iter().zip(&other.runs) {
            assert_eq!(one.record.evaluation(), other.record.evaluation());
            let curve = |run: &ablate::results::Run| {
                run.record.curve.iter().map(|p| (p.step, p.train, p.validation)).collect::<Vec<_>>()
            };
            assert_eq!(curve(one), curve(other));
        }
    }
    let (here, there) = (Findings::of(&here), Findings::of(&there));
    let (here, there) = (&here.tasks[0], &there.tasks[0]);
    for (one, other) in here.arms.iter().zip(&there.arms) {
        assert_eq!(
            (one.verdict, one.diverged, one.difference),
            (other.verdict, other.diverged, other.difference)
        );
        assert_eq!(
            (one.adjusted_p, one.value, one.train_loss),
            (other.adjusted_p, other.value, other.train_loss)
        );
    }
    // It is a comparison of something.
    let verdicts: Vec<Verdict> = here.arms.iter().map(|arm| arm.verdict).collect();
    assert_eq!(verdicts, [Verdict::Base, Verdict::Better, Verdict::Better, Verdict::Worse]);
    assert_eq!(there.repeats.map(|repeats| (repeats.pairs, repeats.equal)), Some((1, 1)));
}
