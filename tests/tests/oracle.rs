//! The naive oracle follows the reference, and each of its switches is about something.

use std::fs;
use std::path::{Path, PathBuf};

use conformance::case::Case;
use conformance::oracle::{Compat, Group, Oracle, OracleError, Storage};
use conformance::replay::{self, replay};
use ndarray::{ArrayD, IxDyn};
use serde_json::{Map, Value, json};

fn shipped_cases(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn the_oracle_passes_every_shipped_case() {
    for (folder, least) in [("golden/cases", 20), ("golden/cases_v2", 12)] {
        let files = shipped_cases(folder);
        assert!(files.len() >= least, "only {} cases in {folder}", files.len());
        for file in files {
            let case = Case::read(&file).unwrap();
            let mut oracle = replay::oracle(&case, false).unwrap();
            let verdict = replay(&case, oracle.as_mut()).unwrap();
            assert!(verdict.passed, "{}: {verdict:?}", case.description.name);
        }
    }
}

#[test]
fn a_replay_with_other_options_than_the_case_fails() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    for (name, option, value) in [
        ("cases/defaults", "d_coef", json!(1.01)),
        ("cases/defaults", "betas", json!([0.9, 0.98])),
        ("cases/dense_slow_moments", "beta3", json!(0.91)),
        ("cases/muon", "use_stableadamw", json!(false)),
        ("cases/cautious_decay", "use_cautious", json!(false)),
        ("cases_v2/v2_defaults", "d_limiter", json!(false)),
        ("cases_v2/v2_refined_missing", "schedulefree_c", json!(0.0)),
        ("cases_v2/v2_prodigy_schedule", "use_schedulefree", json!(true)),
    ] {
        let mut case = Case::read(&folder.join(format!("{name}.safetensors"))).unwrap();
        case.description.options.insert(option.to_owned(), value);
        let mut oracle = replay::oracle(&case, false).unwrap();
        let verdict = replay(&case, oracle.as_mut()).unwrap();
        assert!(!verdict.passed, "{name} with another {option}: {verdict:?}");
    }
}

#[test]
fn a_nan_anywhere_fails_a_replay() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/cases");
    let mut case = Case::read(&folder.join("defaults.safetensors")).unwrap();
    let last = case.steps.last_mut().unwrap();
    last.saved.as_mut().unwrap().x[2].fill(f64::NAN);
    let mut oracle = replay::oracle(&case, false).unwrap();
    let verdict = replay(&case, oracle.as_mut()).unwrap();
    assert!(verdict.x.is_nan() && !verdict.passed, "{verdict:?}");
}

/// A short run on made-up gradients, for comparing two settings of the oracle.
#[derive(Clone)]
struct Scenario {
    shapes: Vec<Vec<usize>>,
    options: Value,
    groups: Vec<(Vec<usize>, Value)>,
    /// (step, parameter) without a gradient.
    missing: Vec<(usize, usize)>,
    storage: Storage,
    /// Gradients are this multiple of the parameter instead of waves around one direction.
    parallel: Option<f64>,
    switch_at: Option<usize>,
}

impl Scenario {
    fn new(shapes: &[&[usize]], options: Value) -> Scenario {
        Scenario {
            shapes: shapes.iter().map(|shape| shape.to_vec()).collect(),
            options,
            groups: vec![((0..shapes.len()).collect(), json!({}))],
            missing: Vec::new(),
            storage: Storage::F32,
            parallel: None,
            switch_at: None,
        }
    }

    fn in_groups(mut self, groups: &[(&[usize], Value)]) -> Scenario {
        self.groups = groups.iter().map(|(params, own)| (params.to_vec(), own.clone())).collect();
        self
    }

    fn without(mut self, missing: impl IntoIterator<Item = (usize, usize)>) -> Scenario {
        self.missing = missing.into_iter().collect();
        self
    }

    fn oracle(&self, compat: Compat) -> Result<Oracle, OracleError> {
        let groups: Vec<Group> = self
            .groups
            .iter()
            .map(|(params, own)| Group { params: params.clone(), overrides: object(own) })
            .collect();
        let init = self.shapes.iter().enumerate().map(|(i, shape)| wave(shape, 0.1, i as f64)).collect();
        Oracle::new(&object(&self.options), &groups, init, self.storage, compat, false)
    }

    /// Every y and d after every step.
    fn run(&self, compat: Compat) -> Vec<f64> {
        let mut oracle = self.oracle(compat).unwrap();
        let mut trajectory = Vec::new();
        for t in 1..=12 {
            let gradients: Vec<Option<ArrayD<f64>>> = (0..self.shapes.len())
                .map(|i| {
                    let gradient = match self.parallel {
                        Some(multiple) => oracle.y(i) * multiple,
                        None => wave(&self.shapes[i], 0.02, (i + 7 * t) as f64) + 0.03,
                    };
                    (!self.missing.contains(&(t, i))).then_some(gradient)
                })
                .collect();
            oracle.step(&gradients, None).unwrap();
            if self.switch_at == Some(t) {
                oracle.eval_then_train();
            }
            trajectory
                .extend((0..self.shapes.len()).flat_map(|i| oracle.y(i).iter().copied().collect::<Vec<_>>()));
            trajectory.extend(oracle.d());
        }
        trajectory
    }
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn wave(shape: &[usize], size: f64, phase: f64) -> ArrayD<f64> {
    let mut n = phase * 1.7;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        n += 1.0;
        size * (n * n * 0.37 + phase).sin()
    })
}

#[test]
fn every_switch_of_the_reference_matters_where_it_says() {
    type Switch = fn(&mut Compat);
    let one = || Scenario::new(&[&[5, 4], &[7]], json!({ "d0": 1e-3 }));
    let with = |options: Value| Scenario { options, ..one() };
    let second = |options: Value| {
        let mut all = object(&json!({ "line": "2.0.1", "d0": 1e-3 }));
        all.extend(object(&options));
        with(Value::Object(all))
    };
    let two = |own: Value| one().in_groups(&[(&[0], json!({})), (&[1], own)]);
    let rows: Vec<(&str, Switch, Scenario)> = vec![
        ("row mean", |c| c.factored_row_mean_axis = true, Scenario::new(&[&[40, 3]], json!({}))),
        ("bfloat16 state", |c| c.prodigy_state_bf16 = true, one()),
        (
            "joint d_prev",
            |c| c.joint_d_prev_not_copied = true,
            Scenario { options: json!({ "split_groups": false }), ..two(json!({})) },
        ),
        ("freeze", |c| c.freeze_keeps_d_prev = true, with(json!({ "prodigy_steps": 6 }))),
        ("weight sum", |c| c.weight_sum_of_last_parameter = true, one().without([(4, 1), (5, 1)])),
        (
            "harmonic mean",
            |c| c.harmonic_mean_counts_inactive = true,
            two(json!({})).without((1..=12).map(|t| (t, 1))),
        ),
        (
            "first step",
            |c| c.first_step_of_group = true,
            with(json!({ "use_adopt": true, "d0": 1e-3 })).without([(1, 1), (2, 1)]),
        ),
        (
            "k",
            |c| c.k_advances_without_gradients = true,
            Scenario {
                options: json!({ "use_bias_correction": true, "d0": 1e-3 }),
                ..two(json!({})).without([(2, 1), (3, 1)])
            },
        ),
        ("d without gradients", |c| c.d_updates_without_gradients = true, two(json!({})).without([(9, 1)])),
        (
            "SPEED above one",
            |c| c.speed_shrinks_above_one = true,
            with(json!({ "use_speed": true, "d0": 1.2, "d_coef": 0.01 })),
        ),
        (
            "OrthoGrad",
            |c| c.orthograd_normalises_noise = true,
            Scenario {
                parallel: Some(0.3),
                ..with(json!({ "use_orthograd": true, "use_stableadamw": false }))
            },
        ),
        (
            "decay unrectified",
            |c| c.decay_while_unrectified = true,
            with(json!({ "use_bias_correction": true, "weight_decay": 1e-3, "weight_decay_by_lr": false })),
        ),
        (
            "evaluation",
            |c| c.evaluation_moves_parameters = true,
            Scenario { storage: Storage::Bf16, switch_at: Some(5), ..one() },
        ),
        ("Muon", |c| c.muon_rms_bf16 = true, with(json!({ "use_muon_pp": true, "d0": 1e-3 }))),
        ("group d0", |c| c.group_d0_ignored = true, two(json!({ "d0": 1e-2 }))),
        (
            "Cautious times gradient",
            |c| c.cautious_multiplies_by_gradient = true,
            second(json!({ "use_schedulefree": false, "use_cautious": true })),
        ),
        (
            "ADOPT",
            |c| c.adopt_reads_weighted = true,
            second(json!({ "use_schedulefree": false, "use_adopt": true })),
        ),
        (
            "decay first",
            |c| c.decays_first = true,
            second(json!({ "use_schedulefree": false, "weight_decay": 1e-5 })),
        ),
        ("FOCUS", |c| c.focus_reads_weighted = true, second(json!({ "use_focus": true }))),
    ];
    for (name, switch, scenario) in rows {
        let mut compat = Compat::default();
        switch(&mut compat);
        assert_ne!(scenario.run(Compat::default()), scenario.run(compat), "{name}");
        assert!(scenario.run(Compat::default()).iter().all(|v| v.is_finite()), "{name}");
    }
}

#[test]
fn a_group_without_a_gradient_stands_still_but_in_the_reference_its_d_becomes_half_a_turn() {
    let scenario = Scenario::new(&[&[6], &[6]], json!({ "d0": 1e-3 }))
        .in_groups(&[(&[0], json!({})), (&[1], json!({}))])
        .without([(12, 1)]);
    let reference = scenario.run(Compat::V1_9_2);
    let corrected = scenario.run(Compat::default());
    assert_eq!(reference.last(), Some(&std::f64::consts::FRAC_PI_2));
    let d_before = corrected[corrected.len() - 1 - 14];
    assert_eq!(corrected.last(), Some(&d_before));
    assert!(d_before < 0.5);
}

#[test]
fn evaluation_leaves_the_corrected_parameters_alone() {
    let still = Scenario { storage: Storage::Bf16, ..Scenario::new(&[&[33, 2]], json!({ "d0": 1e-3 })) };
    let switched = Scenario { switch_at: Some(5), ..still.clone() };
    assert_eq!(still.run(Compat::default()), switched.run(Compat::default()));
}

#[test]
fn without_decay_a_gradient_along_the_weights_moves_nothing_under_orthograd() {
    let scenario = Scenario {
        parallel: Some(0.3),
        storage: Storage::F64,
        ..Scenario::new(&[&[9]], json!({ "use_orthograd": true, "d0": 1e-3 }))
    };
    let trajectory = scenario.run(Compat::default());
    let init = wave(&[9], 0.1, 0.0);
    for step in trajectory.chunks(10) {
        assert_eq!(&step[..9], init.as_slice().unwrap());
    }
}

#[test]
fn an_unknown_option_is_an_error_that_names_it() {
    let error = Scenario::new(&[&[2]], json!({ "use_spede": true })).oracle(Compat::default()).unwrap_err();
    assert!(error.to_string().contains("use_spede"), "{error}");
}

#[test]
fn an_option_of_the_other_line_is_an_error_that_names_it() {
    for (line, option, value) in [
        ("1.9.2", "d_limiter", json!(true)),
        ("1.9.2", "use_schedulefree", json!(false)),
        ("1.9.2", "schedulefree_c", json!(8.0)),
        ("2.0.1", "use_muon_pp", json!(true)),
    ] {
        let scenario = Scenario::new(&[&[2]], json!({ "line": line, option: value }));
        let error = scenario.oracle(Compat::default()).unwrap_err();
        assert!(matches!(error, OracleError::OfTheOtherLine(name) if name == option), "{error}");
    }
}

#[test]
fn a_group_cannot_have_an_option_of_the_whole_optimizer() {
    let scenario = Scenario::new(&[&[2]], json!({})).in_groups(&[(&[0], json!({ "split_groups": false }))]);
    let error = scenario.oracle(Compat::default()).unwrap_err();
    assert!(matches!(error, OracleError::NotOfAGroup("split_groups")), "{error}");
}

#[test]
fn two_groups_cannot_share_a_parameter() {
    let scenario = Scenario::new(&[&[2]], json!({})).in_groups(&[(&[0], json!({})), (&[0], json!({}))]);
    assert!(matches!(scenario.oracle(Compat::default()), Err(OracleError::Groups(0))));
}

#[test]
fn gradients_of_another_shape_are_an_error() {
    let mut oracle = Scenario::new(&[&[2]], json!({})).oracle(Compat::default()).unwrap();
    assert!(matches!(oracle.step(&[Some(wave(&[3], 1.0, 0.0))], None), Err(OracleError::Gradients)));
    assert!(matches!(oracle.step(&[], None), Err(OracleError::Gradients)));
}
