//! What every task that ships must satisfy; a new one is tested by being listed.

use ablate_tasks::device::DeviceError;
use ablate_tasks::{Split, Task, TaskKind, shipped};

/// Every task with its default options, unless it needs data that the repository doesn't have.
fn tasks() -> impl Iterator<Item = (String, Box<dyn Task>)> {
    let needs_data = |kind: &TaskKind| kind.defaults.get("data").is_some_and(|data| data == "");
    let build = |kind: TaskKind| {
        let task = kind.build(&serde_json::json!({}));
        let task = task.unwrap_or_else(|error| panic!("{}: {error:#}", kind.name));
        (kind.name, task)
    };
    shipped().into_iter().filter(move |kind| !needs_data(kind)).map(build)
}

fn weights(task: &dyn Task, seed: u64) -> Vec<Vec<f32>> {
    task.initial_parameters(seed).into_iter().map(|parameter| parameter.values).collect()
}

fn slices(weights: &[Vec<f32>]) -> Vec<&[f32]> {
    weights.iter().map(Vec::as_slice).collect()
}

#[test]
fn a_task_that_has_a_device_computes_the_same_by_its_name_and_names_one_that_is_not_there() {
    let on = |kind: &TaskKind, device: &str| kind.build(&serde_json::json!({ "device": device }));
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for (kind, (name, task)) in shipped().iter().filter(|kind| kind.name != "mnist").zip(tasks()) {
        assert_eq!(kind.name, name);
        let Some(default) = kind.defaults.get("device") else {
            let error = format!("{:#}", on(kind, "cpu").err().unwrap());
            assert!(error.contains("device"), "{error}");
            without.push(name);
            continue;
        };
        assert_eq!(default, "cpu");
        let named = on(kind, "cpu").unwrap();
        assert_eq!(named.about(), task.about());
        let start = weights(&*task, 0);
        let gradients = |task: &dyn Task| task.gradients(&slices(&start), &task.batch(0, 0)).unwrap();
        assert_eq!(gradients(&*named), gradients(&*task), "{name}");
        let error = on(kind, "gpu").err().unwrap();
        assert!(format!("{error:#}").contains("option device = \"gpu\""), "{error:#}");
        // Of a number that no machine has.
        for (device, is_built) in [("cuda:99", cfg!(feature = "cuda")), ("metal", cfg!(feature = "metal"))] {
            if device == "metal" && is_built {
                continue;
            }
            let error = on(kind, device).err().unwrap();
            match error.downcast_ref::<DeviceError>().unwrap() {
                DeviceError::NotBuilt { feature, .. } => assert!(!is_built && device.starts_with(feature)),
                DeviceError::Unavailable { .. } => assert!(is_built),
                error @ DeviceError::Unknown(_) => panic!("{error}"),
            }
            let said = format!("{error:#}");
            assert!(said.contains(&name) && said.contains(device), "{said}");
        }
        with.push(name);
    }
    with.sort();
    assert_eq!(with, ["autoencoder", "characters", "digits", "gpt", "lora", "modular", "residual"]);
    assert_eq!(without, ["quadratic", "rosenbrock"]);
}

#[test]
fn parameters_fill_their_shapes_and_have_names_of_their_own() {
    for (name, task) in tasks() {
        let parameters = task.initial_parameters(0);
        let mut names: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), parameters.len(), "{name}");
        for parameter in parameters {
            assert_eq!(
                parameter.values.len(),
                parameter.shape.iter().product::<usize>(),
                "{name}: {}",
                parameter.name
            );
        }
    }
}

#[test]
fn a_seed_determines_everything_and_another_seed_changes_it() {
    for (name, task) in tasks() {
        assert_eq!(task.initial_parameters(3), task.initial_parameters(3), "{name}");
        assert_eq!(task.batch(3, 1), task.batch(3, 1), "{name}");
        assert_ne!(task.batch(3, 1), task.batch(3, 2), "{name}");
        assert_ne!(task.batch(3, 1), task.batch(4, 1), "{name}");
        let start = weights(&*task, 3);
        let gradients = |seed, step| task.gradients(&slices(&start), &task.batch(seed, step)).unwrap();
        assert_eq!(gradients(3, 5), gradients(3, 5), "{name}");
    }
}

#[test]
fn the_loss_falls_along_the_negative_gradient_by_as_much_as_the_gradient_says() {
    for (name, task) in tasks() {
        let start = weights(&*task, 1);
        let batch = task.batch(1, 0);
        let at = |weights: &[Vec<f32>]| task.gradients(&slices(weights), &batch).unwrap();
        let gradients = at(&start);
        assert_eq!(gradients.of.len(), start.len(), "{name}");
        let norm: f64 =
            gradients.of.iter().flatten().flatten().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        assert!(norm > 0.0, "{name}: the gradient is zero");
        let moved = |by: f64| -> Vec<Vec<f32>> {
            let shift = |(w, g): (&Vec<f32>, &Option<Vec<f32>>)| match g {
                Some(g) => {
                    w.iter().zip(g).map(|(&w, &g)| (f64::from(w) + by / norm * f64::from(g)) as f32).collect()
                }
                None => w.clone(),
            };
            start.iter().zip(&gradients.of).map(shift).collect()
        };
        // A central difference along the gradient; its slope is the gradient's norm. The distance is small beside the
        // loss's curvature and large beside the rounding of float32.
        let by = 1e-2_f64.min(1e-2 * gradients.loss.abs().max(1e-2) / norm).max(1e-5);
        let slope = (at(&moved(by)).loss - at(&moved(-by)).loss) / (2.0 * by);
        assert!(
            (slope / norm - 1.0).abs() < 0.05,
            "{name}: the slope is {slope}, the gradient's norm {norm}"
        );
    }
}

#[test]
fn evaluations_of_every_split_are_finite_and_the_start_has_not_reached_the_target() {
    for (name, task) in tasks() {
        let about = task.about();
        let start = weights(&*task, 0);
        for split in [Split::Train, Split::Validation, Split::Test] {
            let evaluation = task.evaluate(&slices(&start), split).unwrap();
            assert!(evaluation.is_finite(), "{name}: {evaluation:?}");
            assert!(!about.measure.reaches(&evaluation, about.target), "{name}: {evaluation:?}");
        }
        assert!(about.steps > 0 && about.description.len() > 40 && about.reason.len() > 20, "{name}");
    }
}

#[test]
fn an_unknown_option_is_refused_with_the_known_ones() {
    for kind in shipped() {
        let error = kind.build(&serde_json::json!({ "no_such_option": 1 })).err().unwrap();
        let message = format!("{error:#}");
        assert!(message.contains("no_such_option") && message.contains(&kind.name), "{message}");
    }
}

#[test]
fn the_readme_has_every_task_with_its_figures() {
    let readme = include_str!("../README.md");
    for (name, task) in tasks() {
        let about = task.about();
        let count: usize = weights(&*task, 0).iter().map(Vec::len).sum();
        let line = readme.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let cells: Vec<String> =
            line.unwrap_or_default().split('|').map(|cell| cell.trim().replace(',', "")).collect();
        let expected = [
            count.to_string(),
            about.steps.to_string(),
            about.measure.name().into(),
            about.target.to_string(),
        ];
        assert_eq!(cells.get(4..8), Some(&expected[..]), "{name}");
    }
}
