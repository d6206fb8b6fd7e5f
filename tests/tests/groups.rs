//! Several groups: how their estimates act together, and groups that come late or never.

use conformance::oracle::{Group, Oracle, Storage};
use conformance::pair::{Run, Training, compare, object};
use gradient_transform::{Error, Parameter, StepOutcome};
use ndarray::ArrayD;
use serde_json::{Value, json};

const POLICIES: [(&str, bool, bool); 3] =
    [("mean", true, true), ("each", true, false), ("joint", false, true)];

fn run(split: bool, mean: bool) -> Run {
    let options = json!({"split_groups": split, "split_groups_mean": mean, "d0": 1e-3, "beta3": 0.9});
    let groups =
        [(2, json!({})), (1, json!({"lr": 0.3, "weight_decay": 0.1})), (2, json!({"betas": [0.8, 0.9]}))];
    Run::new(options, &[&[40, 33], &[7], &[1100], &[5, 33], &[]]).groups(&groups)
}

#[test]
fn every_policy_of_splitting_groups_equals_the_oracle() {
    for (name, split, mean) in POLICIES {
        let deviation = compare::<f64, f64>(&run(split, mean), 10).unwrap();
        assert!(deviation.worst() <= 1e-10, "{name}: {deviation:?}");
    }
}

#[test]
fn the_policies_differ_and_only_a_joint_estimate_is_one_number() {
    let mut ends = Vec::new();
    for (name, split, mean) in POLICIES {
        let mut training = Training::<f64, f64>::new(&run(split, mean)).unwrap();
        training.steps(10);
        let d = training.d();
        assert!(d.iter().all(|&d| d > 1e-3), "{name}: {d:?} must have moved");
        assert_eq!(d[0] == d[1] && d[1] == d[2], name == "joint", "{name}: {d:?}");
        ends.push(training.bits());
    }
    assert!(ends[0] != ends[1] && ends[1] != ends[2] && ends[0] != ends[2]);
}

#[test]
fn the_step_size_of_split_groups_is_the_harmonic_mean_of_d_times_lr() {
    let mut training = Training::<f64, f64>::new(&run(true, true)).unwrap();
    training.steps(6);
    let d = training.d();
    let mean = 3.0 / d.iter().map(|d| 1.0 / d).sum::<f64>();
    training.steps(1);
    for (group, lr) in [1.0, 0.3, 1.0].into_iter().enumerate() {
        let step_size = training.optimizer.latest_step(group).unwrap().step_size;
        assert!((step_size / (lr * mean) - 1.0).abs() < 1e-15, "group {group}: {step_size:e}");
    }
}

#[test]
fn a_group_that_never_has_a_gradient_does_not_count() {
    for (name, split, mean) in POLICIES {
        let never: Vec<(usize, usize)> = (1..11).map(|t| (t, 2)).collect();
        let run = run(split, mean).missing(&never);
        let deviation = compare::<f64, f64>(&run, 10).unwrap();
        assert!(deviation.worst() <= 1e-10, "{name}: {deviation:?}");

        let mut training = Training::<f64, f64>::new(&run).unwrap();
        let start = training.bits();
        training.steps(10);
        assert_eq!(training.bits()[2], start[2], "{name}");
        assert_eq!(training.optimizer.steps(1), Ok(0), "{name}");
        assert_eq!(training.optimizer.steps(0), Ok(10), "{name}");

        // The same parameters without the idle group, whose name nothing depends on in float64.
        let mut without = run.clone();
        without.groups.remove(1);
        without.shapes.remove(2);
        let mut others = Training::<f64, f64>::new(&without).unwrap();
        others.values = [0, 1, 3, 4].map(|i| run.init(i)).to_vec();
        for t in 1..=10 {
            let gradients = [0, 1, 3, 4].map(|i| run.gradient(t, i));
            assert_eq!(others.step_with(&gradients), Ok(StepOutcome::Done));
        }
        let active = [0, 1, 3, 4].map(|i| training.bits()[i].clone());
        assert_eq!(others.bits(), active, "{name}");
    }
}

#[test]
fn a_group_with_a_gradient_in_the_third_step_only_equals_the_oracle() {
    for (name, split, mean) in POLICIES {
        let others: Vec<(usize, usize)> = (1..11).filter(|&t| t != 3).map(|t| (t, 2)).collect();
        let deviation = compare::<f64, f64>(&run(split, mean).missing(&others), 10).unwrap();
        assert!(deviation.worst() <= 1e-10, "{name}: {deviation:?}");
    }
}

/// The engine with its last group added after `before` steps, and the oracle that had it without gradients until then.
fn added_later(split: bool, mean: bool, before: usize) -> (Vec<ArrayD<f64>>, Oracle) {
    let run = run(split, mean);
    let (base, options) = run.engine_options().unwrap();
    let named = |range: std::ops::Range<usize>| {
        range.map(|i| (Run::name(i), run.shapes[i].as_slice())).collect::<Vec<_>>()
    };
    let mut optimizer = base
        .build_groups::<f64, _, _>([(options[0].clone(), named(0..2)), (options[1].clone(), named(2..3))])
        .unwrap();
    let mut values: Vec<ArrayD<f64>> = (0..5).map(|i| run.init(i)).collect();
    let mut oracle = run.oracle(Storage::F64).unwrap();
    for t in 1..=before + 5 {
        if t == before + 1 {
            optimizer.add_group(base.group(options[2].clone(), named(3..5)).unwrap()).unwrap();
        }
        let present = if t > before { 5 } else { 3 };
        let gradients: Vec<Option<ArrayD<f64>>> =
            (0..5).map(|i| run.gradient(t, i).filter(|_| i < present)).collect();
        let mut parameters: Vec<Parameter<'_>> = values[..present]
            .iter_mut()
            .zip(&gradients)
            .map(|(value, g)| Parameter::array(value.view_mut(), g.as_ref().map(|g| g.view())))
            .collect();
        assert_eq!(optimizer.step(&mut parameters), Ok(StepOutcome::Done));
        oracle.step(&gradients, None).unwrap();
    }
    (values, oracle)
}

fn adding_later_equals_idling_until_then((name, split, mean): (&str, bool, bool)) {
    for before in [0, 1, 6] {
        let (values, oracle) = added_later(split, mean, before);
        for (i, value) in values.iter().enumerate() {
            let worst = value.iter().zip(oracle.y(i)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst <= 1e-12, "{name}, added after {before}: parameter {i} is off by {worst:e}");
        }
    }
}

#[test]
fn a_group_added_later_steps_like_one_that_had_no_gradient_until_then() {
    adding_later_equals_idling_until_then(POLICIES[0]);
    adding_later_equals_idling_until_then(POLICIES[1]);
}

#[test]
fn a_group_added_to_a_joint_estimate_steps_with_it_at_once() {
    adding_later_equals_idling_until_then(POLICIES[2]);
}

#[test]
fn a_learning_rate_counts_from_the_next_step_on_and_for_its_group_alone() {
    let factors = [1.0, 0.5, 0.0, 2.0];
    let mut run = run(true, false);
    run.schedule = factors.to_vec();
    let deviation = compare::<f64, f64>(&run, 8).unwrap();
    assert!(deviation.worst() <= 1e-10, "{deviation:?}");

    let mut training = Training::<f64, f64>::new(&self::run(true, false)).unwrap();
    let mut undisturbed = Training::<f64, f64>::new(&self::run(true, false)).unwrap();
    training.steps(3);
    undisturbed.steps(3);
    training.optimizer.set_lr(1, 0.0).unwrap();
    assert_eq!(training.optimizer.lr(1), Ok(0.0));
    assert_eq!(training.optimizer.lr(0), Ok(1.0));
    let before = training.bits();
    training.steps(2);
    undisturbed.steps(2);
    for i in 0..5 {
        let same = training.bits()[i] == undisturbed.bits()[i];
        assert_eq!(same, i != 2, "parameter {i}");
    }
    assert_eq!(training.bits()[2], before[2], "at learning rate 0 with decay by lr nothing moves");
}

#[test]
fn a_wrong_learning_rate_is_refused_and_the_old_one_stays() {
    let mut training = Training::<f64, f64>::new(&run(true, true)).unwrap();
    for lr in [-1e-3, f64::NAN, f64::INFINITY] {
        let result = training.optimizer.set_lr(1, lr);
        assert!(matches!(result, Err(Error::OptionOutOfRange { option: "lr", .. })), "{lr}: {result:?}");
        assert_eq!(training.optimizer.lr(1), Ok(0.3));
    }
    assert_eq!(training.optimizer.set_lr(3, 1.0), Err(Error::NoSuch { what: "group", index: 3, count: 3 }));
}

#[test]
fn a_groups_own_d0_is_where_its_estimate_starts() {
    let own: Value = json!({"d0": 1e-2});
    let run = Run::new(json!({"d0": 1e-4, "split_groups_mean": false}), &[&[3], &[3]])
        .groups(&[(1, json!({})), (1, own.clone())]);
    let training = Training::<f64, f64>::new(&run).unwrap();
    assert_eq!(training.d(), [1e-4, 1e-2]);
    let groups =
        [Group { params: vec![0], ..Group::default() }, Group { params: vec![1], overrides: object(own) }];
    let init = vec![run.init(0), run.init(1)];
    let oracle = Oracle::new(&run.options, &groups, init, Storage::F64, Default::default(), false).unwrap();
    assert_eq!(training.d(), oracle.d());
}
