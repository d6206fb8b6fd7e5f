//! A snapshot, written and read, goes on to the bit; one that does not fit is refused and changes nothing.

use conformance::pair::{Run, Stored, Training};
use gradient_transform::{Buffer, DType, Error, Real, Snapshot};
use half::bf16;
use prodigy_plus::Options;
use serde_json::json;

const STEPS: usize = 12;

/// Three groups: an active one, one whose parameters come at different times, one that comes at step 9 only.
fn run(seed: u64, options: serde_json::Value) -> Run {
    let mut missing = vec![(1, 2), (2, 2), (5, 0)];
    missing.extend((1..9).map(|t| (t, 4)));
    let groups = [(2, json!({})), (2, json!({"lr": 0.5, "weight_decay": 0.1})), (1, json!({}))];
    let mut run = Run::new(options, &[&[40, 33], &[1030], &[8, 4, 3, 3], &[], &[34, 3]])
        .groups(&groups)
        .missing(&missing);
    run.seed = seed;
    run
}

/// Through a checkpoint and into an optimizer that has not taken a step.
fn resumed<T: Real, E: Stored>(from: &Training<T, E>) -> Training<T, E> {
    let bytes = checkpoint::to_bytes(&from.optimizer).unwrap();
    let mut fresh = Training::<T, E>::new(&from.run).unwrap();
    let restored = checkpoint::from_bytes(&bytes, &mut fresh.optimizer).unwrap();
    assert_eq!((restored.missing, restored.surplus), (vec![], vec![]));
    assert!(fresh.optimizer.snapshot() == from.optimizer.snapshot(), "a checkpoint keeps every bit");
    fresh.values.clone_from(&from.values);
    fresh.t = from.t;
    fresh
}

fn a_resumed_run_is_the_same_to_the_bit<T: Real, E: Stored>() {
    let mixes = [
        json!({"d0": 1e-3}),
        json!({"d0": 1e-3, "prodigy_steps": 5}),
        json!({"d0": 1e-3, "split_groups": false, "factored": false}),
        json!({"d0": 1e-3, "use_bias_correction": true, "split_groups_mean": false, "factored_fp32": false}),
        json!({"d0": 1e-3, "use_adopt": true, "use_speed": true, "use_cautious": true}),
        json!({"d0": 1e-3, "use_focus": true, "factored": false, "use_orthograd": true}),
        json!({"d0": 1e-3, "use_muon_pp": true, "use_grams": true}),
    ];
    let mut checked = 0;
    for (seed, options) in mixes.into_iter().enumerate() {
        let run = run(seed as u64, options);
        let mut straight = Training::<T, E>::new(&run).unwrap();
        // Before the first step, in the middle, at the freeze and after it, and before and after a group's first gradient.
        for at in 0..STEPS - 4 {
            let mut resumed = resumed(&straight);
            let mut original = clone_of(&straight);
            assert_eq!(resumed.d(), original.d());
            for i in 0..5 {
                assert_eq!(resumed.x(i).unwrap(), original.x(i).unwrap(), "x right after resuming");
            }
            for t in at + 1..=at + 5 {
                resumed.steps(1);
                original.steps(1);
                assert_eq!(resumed.bits(), original.bits(), "{run:?}resumed after {at}, at {t}");
            }
            assert_eq!(resumed.d(), original.d());
            assert!(resumed.optimizer.snapshot() == original.optimizer.snapshot());
            checked += 1;
            straight.steps(1);
        }
    }
    assert!(checked >= 4 * (STEPS - 4));
}

/// The same run from the beginning, as an optimizer cannot be cloned.
fn clone_of<T: Real, E: Stored>(training: &Training<T, E>) -> Training<T, E> {
    let mut again = Training::<T, E>::new(&training.run).unwrap();
    again.steps(training.t);
    assert_eq!(again.bits(), training.bits());
    again
}

#[test]
fn a_resumed_run_in_float32_is_the_same_to_the_bit() {
    a_resumed_run_is_the_same_to_the_bit::<f32, f32>();
}

#[test]
fn a_resumed_run_in_bfloat16_is_the_same_to_the_bit() {
    a_resumed_run_is_the_same_to_the_bit::<f32, bf16>();
}

#[test]
fn a_resumed_run_in_float64_is_the_same_to_the_bit() {
    a_resumed_run_is_the_same_to_the_bit::<f64, f64>();
}

/// Saved while the parameters are at x: the optimizer has the only copy of y then.
fn a_run_resumed_in_evaluation_mode_is_the_same_to_the_bit<T: Real, E: Stored>() {
    let run = run(3, json!({"d0": 1e-3, "use_adopt": true}));
    let mut straight = Training::<T, E>::new(&run).unwrap();
    for at in 0..6 {
        let mut original = clone_of(&straight);
        original.with_parameters(|optimizer, parameters| optimizer.eval(parameters)).unwrap();
        let mut resumed = resumed(&original);
        assert!(resumed.optimizer.is_evaluating());
        assert_eq!(resumed.step(), Err(Error::EvaluationMode));
        resumed.t = at;
        resumed.with_parameters(|optimizer, parameters| optimizer.train(parameters)).unwrap();
        assert_eq!(resumed.bits(), straight.bits(), "y after {at} steps");
        straight.steps(1);
        resumed.steps(1);
        assert_eq!(resumed.bits(), straight.bits());
        assert!(resumed.optimizer.snapshot() == straight.optimizer.snapshot());
    }
}

#[test]
fn a_run_resumed_in_evaluation_mode_is_the_same_to_the_bit_in_every_element_type() {
    a_run_resumed_in_evaluation_mode_is_the_same_to_the_bit::<f32, f32>();
    a_run_resumed_in_evaluation_mode_is_the_same_to_the_bit::<f32, bf16>();
    a_run_resumed_in_evaluation_mode_is_the_same_to_the_bit::<f64, f64>();
}

#[test]
fn a_snapshot_right_after_restoring_is_the_one_that_was_restored() {
    let mut training = Training::<f32, bf16>::new(&run(1, json!({"d0": 1e-3, "prodigy_steps": 5}))).unwrap();
    for _ in 0..8 {
        training.steps(1);
        assert!(resumed(&training).optimizer.snapshot() == training.optimizer.snapshot(), "{}", training.t);
    }
}

#[test]
fn the_freeze_frees_the_estimators_arrays_and_nothing_else() {
    let mut training = Training::<f32, f32>::new(&run(1, json!({"d0": 1e-3, "prodigy_steps": 5}))).unwrap();
    let of = |training: &Training<f32, f32>, prefix: &str| {
        let snapshot = training.optimizer.snapshot();
        snapshot.tensors[&Run::name(0)].arrays.keys().filter(|key| key.starts_with(prefix)).count()
    };
    training.steps(4);
    assert_eq!(of(&training, "prodigy/"), 2);
    let bytes = training.optimizer.state_bytes();
    training.steps(3);
    assert_eq!(of(&training, "prodigy/"), 0);
    assert_eq!(of(&training, "schedule-free/"), 1);
    assert!(training.optimizer.state_bytes() < bytes);
    let frozen = training.optimizer.estimate(0).unwrap().d;
    training.steps(5);
    assert_eq!(training.optimizer.estimate(0).unwrap().d, frozen);
}

#[test]
fn the_state_of_an_empty_tensor_goes_through_json_too() {
    let run = Run::new(json!({}), &[&[0, 40], &[40, 0], &[0], &[3]]);
    let mut training = Training::<f32, f32>::new(&run).unwrap();
    training.steps(2);
    let bytes = serde_json::to_vec(&training.optimizer.snapshot()).unwrap();
    let snapshot: Snapshot = serde_json::from_slice(&bytes).unwrap();
    let mut fresh = Training::<f32, f32>::new(&run).unwrap();
    fresh.optimizer.restore(snapshot).unwrap();
    fresh.values.clone_from(&training.values);
    fresh.t = training.t;
    fresh.steps(1);
    training.steps(1);
    assert_eq!(fresh.bits(), training.bits());
}

#[test]
fn a_misfit_is_refused_and_changes_nothing() {
    let mut training = Training::<f32, f32>::new(&run(1, json!({"d0": 1e-3}))).unwrap();
    training.steps(3);
    let good = training.optimizer.snapshot();
    training.steps(2);
    let (present, bits) = (training.optimizer.snapshot(), training.bits());

    let name = Run::name(0);
    let with = |change: &dyn Fn(&mut Snapshot)| {
        let mut changed = good.clone();
        change(&mut changed);
        assert!(changed != good);
        changed
    };
    let array = |snapshot: &mut Snapshot, key: &str, buffer: Buffer| {
        let tensor = snapshot.tensors.get_mut(&name).unwrap();
        assert!(tensor.arrays.insert(key.to_owned(), buffer).is_some(), "{key}");
    };
    let misfits = [
        ("fewer groups", with(&|s| drop(s.groups.pop()))),
        ("more groups", with(&|s| s.groups.push(s.groups[0].clone()))),
        (
            "an unknown parameter",
            with(&|s| {
                let tensor = s.tensors[&name].clone();
                s.tensors.insert("somebody else".into(), tensor);
            }),
        ),
        ("z too short", with(&|s| array(s, "schedule-free/z", Buffer::F32(vec![0.0; 40 * 33 - 1])))),
        ("z of another type", with(&|s| array(s, "schedule-free/z", Buffer::F64(vec![0.0; 40 * 33])))),
        ("rows too long", with(&|s| array(s, "factored-moment/row", Buffer::F32(vec![0.0; 34])))),
        ("p0 for another shape", with(&|s| array(s, "prodigy/p0", Buffer::F32(vec![0.0; 121])))),
        ("a float64 parameter", with(&|s| s.tensors.get_mut(&name).unwrap().dtype = DType::F64)),
        ("steps that nobody counted", with(&|s| s.groups[1].k = u64::MAX)),
        ("gradients that nobody counted", with(&|s| s.tensors.get_mut(&name).unwrap().updates = u64::MAX)),
        ("d beyond any", with(&|s| s.groups[0].estimate.as_mut().unwrap().d = 1e16)),
        ("d0 beyond any", with(&|s| s.groups[0].estimate.as_mut().unwrap().d0 = 1e16)),
        (
            "a d_prev far above d",
            with(&|s| {
                let estimate = s.groups[0].estimate.as_mut().unwrap();
                (estimate.d, estimate.d_prev) = (1e-30, 1.0);
            }),
        ),
        ("d of 0", with(&|s| s.groups[0].estimate.as_mut().unwrap().d = 0.0)),
        ("an infinite d_prev", with(&|s| s.groups[0].estimate.as_mut().unwrap().d_prev = f64::INFINITY)),
        ("a numerator that is none", with(&|s| s.groups[0].estimate.as_mut().unwrap().numerator = f64::NAN)),
        ("a sum that is none", with(&|s| *s.groups[0].scalars.values_mut().next().unwrap() = f64::NAN)),
        (
            "a y too short",
            with(&|s| {
                s.evaluating = true;
                s.tensors.get_mut(&name).unwrap().training = Some(Buffer::F32(vec![0.0; 7]));
            }),
        ),
    ];
    for (what, snapshot) in misfits {
        let result = training.optimizer.restore(snapshot);
        assert!(matches!(result, Err(Error::State { .. })), "{what}: {result:?}");
        assert!(training.optimizer.snapshot() == present, "{what} changed state");
    }
    assert_eq!(training.bits(), bits);
    // The one they were made from fits.
    training.optimizer.restore(good.clone()).unwrap();
    assert!(training.optimizer.snapshot() == good);
}

#[test]
fn everything_that_does_not_fit_is_named_at_once() {
    let mut source = Training::<f32, f32>::new(&Run::new(json!({}), &[&[40, 33], &[7], &[2], &[9]])).unwrap();
    source.steps(2);
    let mut snapshot = source.optimizer.snapshot();
    let surplus = snapshot.tensors[&Run::name(2)].clone();
    snapshot.tensors.insert("somebody else".into(), surplus);
    let z = Buffer::F32(vec![0.0; 3]);
    snapshot.tensors.get_mut(&Run::name(3)).unwrap().arrays.insert("schedule-free/z".into(), z);
    let other = Run::new(json!({}), &[&[33, 40], &[7], &[2, 1], &[9]]);
    let error = Training::<f32, f32>::new(&other).unwrap().optimizer.restore(snapshot).unwrap_err();
    insta::assert_snapshot!(error.to_string().replace("; ", ";\n"));
}

#[test]
fn what_a_changed_chain_lacks_and_what_it_leaves_out_is_listed() {
    let mut source = Training::<f32, f32>::new(&Run::new(json!({"d0": 1e-3}), &[&[40, 33], &[7]])).unwrap();
    source.steps(3);
    let bytes = checkpoint::to_bytes(&source.optimizer).unwrap();
    let options = json!({"d0": 1e-3, "use_speed": true, "factored": false});
    let mut target = Training::<f32, f32>::new(&Run::new(options, &[&[40, 33], &[7], &[4]])).unwrap();
    let restored = checkpoint::from_bytes(&bytes, &mut target.optimizer).unwrap();
    insta::assert_debug_snapshot!(restored);
    let (before, after) = (source.optimizer.estimate(0).unwrap(), target.optimizer.estimate(0).unwrap());
    assert_eq!((after.d, after.d_prev), (before.d, before.d_prev), "d stays");
    assert_eq!((after.numerator, after.denominator), (0.0, 0.0), "SPEED's samples are new");

    // A chain without an estimator hands on no d, and one with an estimator begins at its d0 then.
    let descent = |shape| gradient_transform::Optimizer::new(gradient_transform::Descent::default(), shape);
    let shape = [(Run::name(0), &[40, 33][..])];
    let plain = descent(shape.clone()).unwrap();
    let mut target = Options::default().d0(1e-3).build(shape).unwrap();
    let restored = target.restore(plain.snapshot()).unwrap();
    assert_eq!(restored.missing, ["group 0/estimate", "group 0/schedule-free/weight_sum"]);
    assert_eq!(target.estimate(0).unwrap().d, 1e-3);
}

/// What `target` says to a snapshot of `source`; it must be an error that changes nothing.
fn shape_is_refused(source: &[usize], target: &[usize]) {
    let mut from = Training::<f32, f32>::new(&Run::new(json!({}), &[source])).unwrap();
    from.steps(2);
    let mut to = Training::<f32, f32>::new(&Run::new(json!({}), &[target])).unwrap();
    let result = to.optimizer.restore(from.optimizer.snapshot());
    assert!(matches!(result, Err(Error::State { .. })), "{source:?} to {target:?}: {result:?}");
    assert!(to.optimizer.snapshot().tensors.is_empty());
}

#[test]
fn a_snapshot_of_another_shape_is_refused() {
    shape_is_refused(&[40, 33], &[40, 32]);
    shape_is_refused(&[40, 33], &[66, 20]);
    shape_is_refused(&[7], &[8]);
}

#[test]
fn a_snapshot_of_the_transposed_or_flattened_shape_is_refused() {
    shape_is_refused(&[40, 33], &[33, 40]);
    shape_is_refused(&[40, 33], &[1320]);
    shape_is_refused(&[6], &[2, 3]);
}

#[test]
fn bfloat16_state_under_a_float32_parameter_is_an_error_at_the_next_step() {
    let one = Run::new(json!({}), &[&[7]]);
    let mut source = Training::<f32, bf16>::new(&one).unwrap();
    source.steps(2);
    let mut target = Training::<f32, f32>::new(&one).unwrap();
    target.optimizer.restore(source.optimizer.snapshot()).unwrap();
    let (bits, state) = (target.bits(), target.optimizer.snapshot());
    let result = target.step();
    assert!(matches!(result, Err(Error::ElementType { found: DType::F32, .. })), "{result:?}");
    assert_eq!(target.bits(), bits);
    assert!(target.optimizer.snapshot() == state);
}

/// The chain of these options, for a group.
fn chain_of(options: &Options) -> Box<dyn gradient_transform::Link<f32>> {
    let prodigy = prodigy_core::Prodigy { d0: options.d0, ..prodigy_core::Prodigy::default() };
    Box::new((
        factored_moment::FactoredMoment::new(options.betas.1),
        options.implied().use_stableadamw.then_some(stableadamw::StableAdamW),
        prodigy,
        schedule_free::ScheduleFree::new(options.betas.0),
    ))
}

#[test]
fn replacing_the_chain_keeps_the_state_of_the_transforms_that_stay() {
    let mut training = Training::<f32, f32>::new(&Run::new(json!({"d0": 1e-3}), &[&[40, 33], &[7]])).unwrap();
    training.steps(4);
    let before = training.optimizer.snapshot();
    let without_clip = Options::default().use_stableadamw(false).d0(1e-3);
    training.optimizer.replace_chain(0, chain_of(&without_clip)).unwrap();
    assert!(!training.optimizer.describe_chain(0, &[40, 33]).unwrap().contains("stableadamw"));
    let mut after = training.optimizer.snapshot();
    assert_ne!(after.groups[0].transforms, before.groups[0].transforms);
    after.groups[0].transforms.clone_from(&before.groups[0].transforms);
    assert!(after == before, "StableAdamW keeps nothing, so nothing may change");

    // It goes on like a run that was made without it and took over the same state.
    let mut run = training.run.clone();
    run.options.insert("use_stableadamw".into(), json!(false));
    let mut other = Training::<f32, f32>::new(&run).unwrap();
    other.optimizer.restore(before).unwrap();
    other.values.clone_from(&training.values);
    other.t = training.t;
    let mut with_clip = clone_of(&training);
    for _ in 0..3 {
        training.steps(1);
        other.steps(1);
        with_clip.steps(1);
        assert_eq!(training.bits(), other.bits());
    }
    assert_ne!(training.bits(), with_clip.bits(), "the clip must have mattered");
}

#[test]
fn a_transform_that_leaves_the_chain_takes_its_state_with_it_and_begins_anew() {
    let mut training = Training::<f32, f32>::new(&Run::new(json!({"d0": 1e-3}), &[&[40, 33]])).unwrap();
    training.steps(4);
    let arrays =
        |training: &Training<f32, f32>| training.optimizer.snapshot().tensors[&Run::name(0)].arrays.clone();
    let before = arrays(&training);
    let estimate = training.optimizer.estimate(0).unwrap();

    let dense = (
        factored_moment::DenseMoment::new(0.99),
        prodigy_core::Prodigy { d0: 1e-3, ..Default::default() },
        schedule_free::ScheduleFree::new(0.9),
    );
    training.optimizer.replace_chain(0, dense).unwrap();
    assert_eq!(training.optimizer.estimate(0).unwrap(), estimate);
    let replaced = arrays(&training);
    for key in ["prodigy/p0", "prodigy/s", "schedule-free/z"] {
        assert_eq!(replaced[key], before[key], "{key}");
    }
    training.steps(1);
    let after = arrays(&training);
    assert!(after.contains_key("dense-moment/v"));
    assert!(!after.keys().any(|key| key.starts_with("factored-moment/")));
    assert_eq!(after["prodigy/p0"], before["prodigy/p0"], "p0 is where the run began");
    assert_eq!(training.optimizer.steps(0), Ok(5));
}

#[test]
fn a_chain_that_cannot_run_is_not_taken() {
    let mut training = Training::<f32, f32>::new(&Run::new(json!({"d0": 1e-3}), &[&[40, 33]])).unwrap();
    training.steps(3);
    let (before, chain) = (training.optimizer.snapshot(), training.optimizer.describe_chain(0, &[40, 33]));
    let result = training.optimizer.replace_chain(0, factored_moment::DenseMoment::new(0.99));
    assert!(matches!(result, Err(Error::InvalidChain { .. })), "{result:?}");
    let result = training.optimizer.replace_chain(1, schedule_free::ScheduleFree::new(0.9));
    assert_eq!(result, Err(Error::NoSuch { what: "group", index: 1, count: 1 }));
    assert!(training.optimizer.snapshot() == before);
    assert_eq!(training.optimizer.describe_chain(0, &[40, 33]), chain);
}
