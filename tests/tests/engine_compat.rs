//! The reference's defects between tensors and groups, one at a time: each is its part of a policy, and does to a run what the oracle says.

use conformance::oracle::{Compat, Storage};
use conformance::pair::{Run, Training, deviation};
use gradient_transform::{Estimate, GroupPolicy, GroupState, SplitGroups, StepSummary};
use prodigy_plus::EngineCompat;
use serde_json::{Value, json};

fn with(switch: &str) -> EngineCompat {
    serde_json::from_value(json!({ switch: true })).unwrap()
}

/// Two that have found their distances, one that has been warmed up at learning rate 0, and one that has had no gradient.
fn states(resumed: bool) -> [GroupState; 4] {
    let estimate =
        Estimate { d: 1e-3, d_prev: 5e-4, numerator: 3.0, denominator: 2.0, ..Estimate::new(1e-6) };
    let summary = StepSummary { gradients: 2, updates: 1, last_updated: false };
    let found = GroupState { index: 0, k: 9, lr: 1.0, estimate, has_moved: true, resumed, summary };
    let farther = GroupState { index: 1, estimate: Estimate { d: 4e-3, ..estimate }, ..found };
    let still = GroupState { index: 2, lr: 0.0, estimate: Estimate::new(1e-6), has_moved: false, ..found };
    let none = GroupState { index: 3, k: 0, lr: 0.5, summary: StepSummary::default(), ..still };
    [found, farther, still, none]
}

/// What a policy says, method by method.
fn said(policy: &dyn GroupPolicy) -> [(&'static str, String); 4] {
    let share = |split: SplitGroups, resumed: bool| {
        let groups = states(resumed);
        let mut d = groups.map(|group| group.estimate.d);
        policy.share(split, &groups, &mut d);
        // The mean of one is no business of a policy's.
        let mut alone = [0.1];
        policy.share(split, &groups[..1], &mut alone);
        (d, alone)
    };
    let splits = [SplitGroups::Mean, SplitGroups::Each, SplitGroups::Joint];
    let shared = splits.map(|split| [share(split, false), share(split, true)]);
    let groups = states(false);
    let total = policy.total(&mut [[1.0, 1e-9], [-1.0, 1.0], [1e-9, 1.0]].into_iter());
    [
        ("share", format!("{shared:?}")),
        ("counts", format!("{:?}", groups.map(|group| policy.counts(&group)))),
        ("total", format!("{total:?}")),
        ("adopt", format!("{:?}", groups.map(|group| policy.adopt(&groups[0].estimate, &group)))),
    ]
}

#[test]
fn every_switch_changes_its_own_part_of_the_policy_and_no_other() {
    let parts = [
        ("joint_d_prev_not_copied", Some("adopt")),
        ("harmonic_mean_counts_inactive", Some("share")),
        ("freeze_counts_still_steps", Some("counts")),
        ("shared_d_not_saved", Some("share")),
        ("k_advances_without_gradients", Some("counts")),
        ("sums_in_float32", Some("total")),
        // A setting of the engine's.
        ("evaluation_moves_parameters", None),
    ];
    let without = said(&());
    assert_eq!(said(&EngineCompat::default()), without);
    let mut different = vec![without.clone()];
    for (switch, part) in parts {
        let these = said(&with(switch));
        let changed: Vec<&str> =
            these.iter().zip(&without).filter(|(a, b)| a != b).map(|(a, _)| a.0).collect();
        assert_eq!(changed, Vec::from_iter(part), "{switch}");
        if part.is_some() {
            assert!(!different.contains(&these), "{switch} is another one too");
            different.push(these);
        }
    }
    let Value::Object(all) = serde_json::to_value(EngineCompat::default()).unwrap() else { unreachable!() };
    assert!(all.keys().eq(&std::collections::BTreeSet::from(parts.map(|(switch, _)| switch.to_owned()))));
}

/// A switch, the oracle's for the same, and a run in three groups.
type Switched = (&'static str, fn(&mut Compat), Run);

fn runs() -> Vec<Switched> {
    let run = |options: Value, second: Value| {
        let mut all = json!({"d0": 1e-3, "beta3": 0.9});
        all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        Run::new(all, &[&[40, 33], &[7], &[110]]).groups(&[(1, json!({})), (1, second), (1, json!({}))])
    };
    let none: Vec<(usize, usize)> = (1..=12).map(|t| (t, 1)).collect();
    let joint = json!({"split_groups": false});
    let warmed_up = |options| {
        let mut run = run(options, json!({}));
        run.schedule = [[0.0; 5].as_slice(), &[1.0; 7]].concat();
        run
    };
    let each = json!({"split_groups_mean": false, "use_bias_correction": true});
    vec![
        ("joint_d_prev_not_copied", |c| c.joint_d_prev_not_copied = true, run(joint.clone(), json!({}))),
        (
            "harmonic_mean_counts_inactive",
            |c| c.harmonic_mean_counts_inactive = true,
            run(json!({}), json!({})).missing(&none),
        ),
        ("learns_at_lr_0", |c| c.learns_at_lr_0 = true, run(joint.clone(), json!({"lr": 0.0}))),
        ("learns_at_lr_0", |c| c.learns_at_lr_0 = true, warmed_up(joint)),
        ("learns_at_lr_0", |c| c.learns_at_lr_0 = true, warmed_up(json!({}))),
        ("learns_at_lr_0", |c| c.learns_at_lr_0 = true, warmed_up(json!({"split_groups_mean": false}))),
        ("learns_at_lr_0", |c| c.learns_at_lr_0 = true, warmed_up(json!({"line": "2.0.1"}))),
        (
            "freeze_counts_still_steps",
            |c| c.freeze_counts_still_steps = true,
            warmed_up(json!({"prodigy_steps": 4})),
        ),
        (
            "k_advances_without_gradients",
            |c| (c.k_advances_without_gradients, c.d_updates_without_gradients) = (true, true),
            run(each, json!({})).missing(&[(8, 1), (9, 1)]),
        ),
    ]
}

#[test]
fn the_engine_with_a_switch_equals_the_oracle_with_it_and_not_the_engine_without() {
    for (switch, set, run) in runs() {
        let mut compat = Compat::default();
        set(&mut compat);
        let mut oracle = run.oracle_with(Storage::F64, compat).unwrap();
        let mut switched = run.clone();
        // What a step without gradients does to d is the estimator's.
        let from_nothing = compat.d_updates_without_gradients;
        let ours = match switch {
            "learns_at_lr_0" => json!({ switch: true }),
            _ => json!({"engine": { switch: true }, "d_from_nothing": from_nothing}),
        };
        switched.options.insert("compat".into(), ours);
        let mut engine = Training::<f64, f64>::new(&switched).unwrap();
        let mut without = Training::<f64, f64>::new(&run).unwrap();
        for t in 1..=12 {
            engine.steps(1);
            without.steps(1);
            oracle.step(&engine.gradients(t), run.factor(t)).unwrap();
            let worst = deviation(&engine, &oracle).unwrap();
            assert!(worst.worst() <= 1e-10, "{switch} at {t}: {worst:?}");
        }
        assert!(engine.bits() != without.bits(), "{switch}: {:?}", run.options);
    }
}

#[test]
fn in_the_first_step_after_a_resume_every_group_steps_with_its_own_d_under_the_switch() {
    for (switched, is_own) in [(true, true), (false, false)] {
        let options = json!({"d0": 1e-3, "compat": {"engine": {"shared_d_not_saved": switched}}});
        let run = Run::new(options, &[&[40, 33], &[7]]).groups(&[(1, json!({})), (1, json!({"lr": 0.3}))]);
        let mut training = Training::<f64, f64>::new(&run).unwrap();
        training.steps(8);
        let d = training.d();
        assert!(d[0] != d[1] && d.iter().all(|&d| d > 1e-3), "{d:?}");
        let saved = training.optimizer.snapshot();
        training.optimizer = run.engine().unwrap();
        training.optimizer.restore(saved).unwrap();
        let mut own = Vec::new();
        for _ in 0..2 {
            let d = training.d();
            training.steps(1);
            let step_size = |group| training.optimizer.latest_step(group).unwrap().step_size;
            own.push((step_size(0), step_size(1)) == (d[0], 0.3 * d[1]));
        }
        assert_eq!(own, [is_own, false]);
    }
}
