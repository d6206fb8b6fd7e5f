//! The second line of the reference at work in the engine: gradients one by one, and a training that comes from the first line.

use conformance::pair::{Run, Stored, Training};
use gradient_transform::{Parameter, Real, Restored};
use half::bf16;
use serde_json::{Value, json};

const SHAPES: [&[usize]; 4] = [&[40, 33], &[7], &[3, 34, 2], &[1025]];

/// Options that change what is gathered over a tensor, or between tensors.
fn mixes() -> [Value; 6] {
    [
        json!({}),
        json!({"use_speed": true, "use_cautious": true}),
        json!({"use_orthograd": true, "schedulefree_c": 8.0, "factored": false}),
        json!({"use_schedulefree": false, "use_cautious": true, "weight_decay": 0.1}),
        json!({"use_schedulefree": false, "use_adopt": true, "use_grams": true, "eps": null}),
        json!({"use_schedulefree": false, "use_speed": true, "use_focus": true}),
    ]
}

fn second(options: Value) -> Run {
    let mut run = Run::new(json!({"line": "2.0.1", "d0": 1e-3, "split_groups": false}), &SHAPES);
    run.options.extend(conformance::pair::object(options));
    run.groups(&[(2, json!({})), (2, json!({"weight_decay": 0.05, "lr": 0.5}))]).missing(&[(3, 1), (4, 2)])
}

/// Parameters and d after some steps.
fn end<T: Real, E: Stored>(run: &Run, order: Option<&[usize]>) -> (Vec<Vec<u64>>, Vec<f64>) {
    let mut training = Training::<T, E>::new(run).unwrap();
    for t in 1..=40 {
        let Some(order) = order else {
            training.steps(1);
            continue;
        };
        let gradients = training.gradients(t);
        let mut step = training.optimizer.begin_step().unwrap();
        for &i in order {
            let gradient = gradients[i].as_ref().map(|g| g.view());
            step.parameter(i, Parameter::array(training.values[i].view_mut(), gradient)).unwrap();
        }
        step.end();
    }
    (training.bits(), training.d())
}

fn one_by_one_is_all_at_once<T: Real, E: Stored>() {
    for options in mixes() {
        let run = second(options);
        let all_at_once = end::<T, E>(&run, None);
        assert!(all_at_once.1[0] > 1e-3, "d moves, so that the next steps show it: {run:?}");
        for order in [[0, 1, 2, 3], [3, 1, 0, 2]] {
            assert_eq!(end::<T, E>(&run, Some(&order)), all_at_once, "{order:?} {run:?}");
        }
    }
}

#[test]
fn gradients_one_by_one_move_the_second_line_as_all_at_once_do_in_every_type() {
    one_by_one_is_all_at_once::<f32, f32>();
    one_by_one_is_all_at_once::<f32, bf16>();
    one_by_one_is_all_at_once::<f64, f64>();
}

/// By how much the first tensor moves in each of some steps.
fn moves(training: &mut Training<f32, f32>, steps: usize) -> Vec<f32> {
    let step = |_| {
        let before = training.values[0].clone();
        training.steps(1);
        (&training.values[0] - &before).iter().map(|m| m * m).sum::<f32>().sqrt()
    };
    (0..steps).map(step).collect()
}

/// The moments of the lines have different units and names. A training that changes lines keeps d, the averages and the samples, and its
/// moments begin with the next gradient.
#[test]
fn a_snapshot_of_the_first_line_gives_the_second_everything_but_its_moments() {
    let run = |line: &str| Run::new(json!({"line": line, "d0": 1e-3}), &SHAPES[..2]);
    let mut first = Training::<f32, f32>::new(&run("1.9.2")).unwrap();
    first.steps(40);
    assert!(first.d()[0] > 2e-3, "{:?}", first.d());

    let mut second = Training::<f32, f32>::new(&run("2.0.1")).unwrap();
    let Restored { missing, surplus, changed, .. } =
        second.optimizer.restore(first.optimizer.snapshot()).unwrap();
    let arrays = |moment: &str| {
        let of = |i, array| format!("{}/{moment}/{array}", Run::name(i));
        [of(0, "col"), of(0, "row"), of(1, "v")]
    };
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    assert_eq!(sorted(missing), arrays("weighted-factored-moment"));
    assert_eq!(sorted(surplus), arrays("factored-moment"));
    assert!(changed.iter().any(|change| change.contains("weighting")), "{changed:?}");

    (second.values, second.t) = (first.values.clone(), first.t);
    let (before, after) = (first.optimizer.snapshot(), second.optimizer.snapshot());
    for i in 0..2 {
        let (before, after) = (&before.tensors[&Run::name(i)].arrays, &after.tensors[&Run::name(i)].arrays);
        for key in ["prodigy/p0", "prodigy/s", "schedule-free/z"] {
            assert!(before[key] == after[key], "{key} of {}", Run::name(i));
        }
        assert_eq!(first.x(i).unwrap(), second.x(i).unwrap());
    }
    assert_eq!(first.d(), second.d());

    let usual = moves(&mut first, 5).into_iter().fold(0.0, f32::max);
    let steps = moves(&mut second, 5);
    assert!(steps.iter().all(|&step| step > 0.0 && step < 4.0 * usual), "{steps:?}, usual {usual}");
}
