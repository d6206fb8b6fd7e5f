//! Wrong input is a typed error, and neither parameters nor state have changed then.

use conformance::pair::{Run, Stored, Training};
use factored_moment::{DenseMoment, FactoredMoment};
use gradient_transform::{
    Context, DType, Descent, Error, Estimate, Estimator, Link, NonFinite, Optimizer, Parameter,
    ParameterGroup, Settings, Snapshot, SplitGroups, StepContext, StepOutcome, SumsOver, map,
};
use half::bf16;
use ndarray::{ArrayD, IxDyn};
use prodigy_core::Prodigy;
use prodigy_plus::{Options, ProdigyPlus};
use schedule_free::ScheduleFree;
use stableadamw::StableAdamW;

const SHAPES: [&[usize]; 3] = [&[34, 5], &[12], &[3, 2]];

fn run() -> Run {
    Run::new(serde_json::json!({"d0": 1e-3}), &SHAPES)
}

/// After three steps, so that there is state to be changed.
fn trained<E: Stored>() -> Training<f32, E> {
    let mut training = Training::new(&run()).unwrap();
    training.steps(3);
    training
}

fn zeros(shape: &[usize]) -> ArrayD<f32> {
    ArrayD::zeros(IxDyn(shape))
}

/// Makes sure that `attempt` fails, and that it changed nothing and the next step is as if it had not been.
#[track_caller]
fn refused<E: Stored>(
    what: &str,
    attempt: impl FnOnce(&mut Training<f32, E>) -> Result<StepOutcome, Error>,
) -> Error {
    let mut training = trained::<E>();
    let (bits, state): (_, Snapshot) = (training.bits(), training.optimizer.snapshot());
    let error = match attempt(&mut training) {
        Err(error) => error,
        Ok(outcome) => panic!("{what}: {outcome:?}"),
    };
    assert_eq!(training.bits(), bits, "{what} moved a parameter");
    assert!(training.optimizer.snapshot() == state, "{what} changed state");
    training.t = 3;
    training.steps(1);
    let mut undisturbed = trained::<E>();
    undisturbed.steps(1);
    assert_eq!(training.bits(), undisturbed.bits(), "{what} left something after");
    error
}

#[test]
fn a_gradient_of_another_shape_is_refused() {
    // The first two would fit already; the last does not.
    let error = refused::<f32>("a transposed gradient", |training| {
        let mut gradients = training.gradients(4);
        gradients[2] = Some(zeros(&[2, 3]));
        training.step_with(&gradients)
    });
    let (expected, found) = (vec![3, 2], vec![2, 3]);
    let name = Run::name(2);
    assert_eq!(error, Error::ShapeMismatch { what: "gradient", name, expected, found });
}

#[test]
fn a_value_of_another_shape_is_refused() {
    let error = refused::<f32>("a flattened value", |training| {
        let (mut w, mut b, mut other) = (training.values[0].clone(), training.values[1].clone(), zeros(&[6]));
        training.optimizer.step(&mut [
            Parameter::array(w.view_mut(), None),
            Parameter::array(b.view_mut(), None),
            Parameter::array(other.view_mut(), None),
        ])
    });
    let name = Run::name(2);
    assert_eq!(error, Error::ShapeMismatch { what: "value", name, expected: vec![3, 2], found: vec![6] });
}

#[test]
fn slices_of_another_length_are_refused() {
    for (lengths, what, found) in
        [([170, 12, 5, 5], "value", 5), ([170, 12, 6, 7], "gradient", 7), ([170, 12, 6, 0], "gradient", 0)]
    {
        let error = refused::<f32>("slices", |training| {
            let [mut w, mut b, mut c, g] = lengths.map(|n| vec![1.0_f32; n]);
            let (gw, gb) = (w.clone(), b.clone());
            let result = training.optimizer.step(&mut [
                Parameter::slice(&mut w, Some(&gw)),
                Parameter::slice(&mut b, Some(&gb)),
                Parameter::slice(&mut c, Some(&g)),
            ]);
            assert!(w.iter().chain(&b).chain(&c).all(|&v| v == 1.0));
            result
        });
        let name = Run::name(2);
        assert_eq!(error, Error::ShapeMismatch { what, name, expected: vec![3, 2], found: vec![found] });
    }
}

#[test]
fn an_output_or_index_that_does_not_fit_is_refused_by_evaluation_point() {
    let training = trained::<f32>();
    let value = vec![0.0_f32; 12];
    let mut out = vec![7.0_f32; 11];
    let result = training.optimizer.evaluation_point(1, &value, &mut out);
    assert!(matches!(result, Err(Error::ShapeMismatch { what: "output", .. })), "{result:?}");
    assert!(out.iter().all(|&v| v == 7.0));
    let result = training.optimizer.evaluation_point(1, &value[..11], &mut out);
    assert!(matches!(result, Err(Error::ShapeMismatch { what: "value", .. })), "{result:?}");
    let result = training.optimizer.evaluation_point(3, &value, &mut [0.0; 12]);
    assert_eq!(result, Err(Error::NoSuch { what: "parameter", index: 3, count: 3 }));
}

/// An optimizer of one vector with these options.
fn build(options: &Options) -> Result<Optimizer, Error> {
    options.build([("w", &[3][..])])
}

#[test]
fn every_numeric_option_is_checked_at_both_ends() {
    type Set = fn(Options, f64) -> Options;
    const ABOVE_ONE: f64 = 1.0 + f64::EPSILON;
    const LARGEST_D: f64 = (1_u64 << 50) as f64;
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let cases: [(&str, Set, Vec<f64>, Vec<f64>); 10] = [
        ("lr", |o, v| o.lr(v), vec![0.0, 1e-3, 10.0], vec![-1e-300, -1.0, inf, -inf, nan]),
        (
            "beta1",
            |o, v| o.betas((v, 0.99)),
            vec![1e-3, 0.5, 1.0 - f64::EPSILON],
            vec![0.0, -0.1, 1.0, ABOVE_ONE, inf, -inf, nan],
        ),
        (
            "beta2",
            |o, v| o.betas((0.9, v)),
            vec![0.0, 0.5, 1.0 - f64::EPSILON],
            vec![-1e-300, 1.0, ABOVE_ONE, inf, -inf, nan],
        ),
        (
            "beta3",
            |o, v| o.beta3(Some(v)),
            vec![0.0, 0.5, 1.0 - f64::EPSILON],
            vec![-1e-300, 1.0, ABOVE_ONE, inf, -inf, nan],
        ),
        ("weight_decay", |o, v| o.weight_decay(v), vec![0.0, 0.1, 5.0], vec![-1e-300, inf, -inf, nan]),
        ("d0", |o, v| o.d0(v), vec![1e-300, 1.0, LARGEST_D], vec![0.0, -1e-6, 1e16, inf, -inf, nan]),
        ("d_coef", |o, v| o.d_coef(v), vec![1e-3, 2.0, LARGEST_D], vec![0.0, -1.0, 1e16, inf, -inf, nan]),
        ("eps", |o, v| o.eps(Some(v)), vec![1e-300, 1e-3], vec![0.0, -1e-8, inf, -inf, nan]),
        ("strength", |o, v| o.schedulefree_c(v), vec![0.0, 8.0, 1e300], vec![-1e-300, -1.0, inf, -inf, nan]),
        // With bias correction, beta2 = 0 would leave nothing to correct.
        (
            "beta2",
            |o, v| o.betas((0.9, v)).use_bias_correction(true),
            vec![0.5, 0.99],
            vec![0.0, -0.1, 1.0, nan],
        ),
    ];
    for factored in [true, false] {
        for (option, set, good, bad) in &cases {
            let base = || ProdigyPlus::builder().factored(factored);
            for &value in good {
                let result = build(&set(base(), value));
                assert!(result.is_ok(), "{option} = {value}: {result:?}");
            }
            for &value in bad {
                let result = build(&set(base(), value));
                assert!(
                    matches!(&result, Err(Error::OptionOutOfRange { option: o, value: v, .. })
                        if o == option && *v == value.to_string()),
                    "{option} = {value}: {result:?}"
                );
            }
        }
    }
}

#[test]
fn options_of_every_preconditioner_are_checked() {
    for (name, options) in [
        ("focus", ProdigyPlus::builder().factored(false).use_focus(true)),
        ("muon", ProdigyPlus::builder().use_muon_pp(true)),
        ("adopt", ProdigyPlus::builder().use_adopt(true)),
        ("speed", ProdigyPlus::builder().use_speed(true)),
    ] {
        let valid = build(&options);
        assert!(valid.is_ok(), "{name}: {valid:?}");
        for (option, wrong) in [
            ("beta2", options.clone().betas((0.9, 1.0))),
            ("d0", options.clone().d0(0.0)),
            ("beta3", options.clone().beta3(Some(f64::NAN))),
        ] {
            let result = build(&wrong);
            assert!(
                matches!(result, Err(Error::OptionOutOfRange { option: o, .. }) if o == option),
                "{name}, {option}: {result:?}"
            );
        }
    }
}

#[test]
fn options_that_exclude_each_other_are_refused_and_named() {
    let base = ProdigyPlus::builder;
    for (first, second, options) in [
        ("eps=None", "use_stableadamw", base().eps(None).use_stableadamw(true)),
        ("use_cautious", "use_grams", base().use_cautious(true).use_grams(true)),
        ("use_focus", "factored", base().use_focus(true).factored(true)),
        ("use_focus", "use_muon_pp", base().use_focus(true).use_muon_pp(true)),
        ("use_focus", "eps=None", base().use_focus(true).eps(None)),
    ] {
        let result = build(&options);
        assert!(
            matches!(&result, Err(Error::Excluded { first: f, second: s, .. }) if f == first && s == second),
            "{first} and {second}: {result:?}"
        );
    }
}

#[test]
fn unknown_options_are_refused_by_name() {
    let error = serde_json::from_str::<Options>(r#"{"use_stableadam": true}"#).unwrap_err();
    assert!(error.to_string().contains("use_stableadam"), "{error}");
}

fn a_non_finite_gradient_is_refused<E: Stored>() {
    for (value, text) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
        for (parameter, element) in [(0, 0), (0, 169), (2, 5)] {
            let error = refused::<E>(text, |training| {
                let mut gradients = training.gradients(4);
                let gradient = gradients[parameter].as_mut().unwrap();
                *gradient.iter_mut().nth(element).unwrap() = E::of(value);
                training.step_with(&gradients)
            });
            let name = Run::name(parameter);
            assert_eq!(error, Error::NonFiniteGradient { name, index: element, value: text.into() });
        }
    }
}

#[test]
fn a_non_finite_float32_gradient_is_refused() {
    a_non_finite_gradient_is_refused::<f32>();
}

#[test]
fn a_non_finite_bfloat16_gradient_is_refused() {
    a_non_finite_gradient_is_refused::<bf16>();
}

#[test]
fn a_non_finite_float64_gradient_is_refused() {
    let mut training = Training::<f64, f64>::new(&run()).unwrap();
    training.steps(1);
    let bits = training.bits();
    let mut gradients = training.gradients(2);
    gradients[1].as_mut().unwrap()[11] = f64::NAN;
    let result = training.step_with(&gradients);
    assert!(matches!(result, Err(Error::NonFiniteGradient { index: 11, .. })), "{result:?}");
    assert_eq!(training.bits(), bits);
}

/// Where the first loop over a tensor keeps nothing, the gradient is looked at in it, in one of two ways, or before it.
#[test]
fn a_non_finite_gradient_is_refused_whatever_the_chain_begins_with() {
    let switches = ["use_adopt", "factored", "use_stableadamw", "use_speed", "use_orthograd", "use_cautious"];
    let lines = [("1.9.2", true), ("2.0.1", true), ("2.0.1", false)];
    for (line, averages) in lines {
        for mix in 0..1_u32 << switches.len() {
            let mut options = serde_json::json!({"d0": 1e-3, "line": line, "use_schedulefree": averages});
            for (i, switch) in switches.iter().enumerate() {
                options[*switch] = (mix >> i & 1 == 1).into();
            }
            let mut training = Training::<f32, f32>::new(&Run::new(options.clone(), &[&[40, 33]])).unwrap();
            training.steps(3);
            let (bits, state) = (training.bits(), training.optimizer.snapshot());
            let mut gradients = training.gradients(4);
            *gradients[0].as_mut().unwrap().last_mut().unwrap() = f32::NAN;
            let result = training.step_with(&gradients);
            assert!(matches!(result, Err(Error::NonFiniteGradient { .. })), "{options}: {result:?}");
            assert!(training.bits() == bits && training.optimizer.snapshot() == state, "{options}");
        }
    }
}

#[test]
fn a_non_finite_gradient_in_a_fused_step_leaves_its_parameter_alone() {
    let mut training = trained::<f32>();
    let bits = training.bits();
    let gradients = training.gradients(4);
    let bad = zeros(SHAPES[2]).mapv(|_| f32::NAN);
    let mut values = training.values.clone();
    let mut step = training.optimizer.begin_step().unwrap();
    let [a, b, c] = &mut values[..] else { unreachable!() };
    step.parameter(0, Parameter::array(a.view_mut(), gradients[0].as_ref().map(|g| g.view()))).unwrap();
    let result = step.parameter(2, Parameter::array(c.view_mut(), Some(bad.view())));
    assert!(matches!(result, Err(Error::NonFiniteGradient { index: 0, .. })), "{result:?}");
    let result = step.parameter(0, Parameter::array(b.view_mut(), None));
    assert_eq!(result, Err(Error::GivenTwice { name: Run::name(0) }));
    let result = step.parameter(3, Parameter::array(b.view_mut(), None));
    assert_eq!(result, Err(Error::NoSuch { what: "parameter", index: 3, count: 3 }));
    // A good gradient for the same parameter can still come.
    step.parameter(2, Parameter::array(c.view_mut(), gradients[2].as_ref().map(|g| g.view()))).unwrap();
    step.parameter(1, Parameter::array(b.view_mut(), gradients[1].as_ref().map(|g| g.view()))).unwrap();
    step.end();
    training.values = values;
    assert_ne!(training.bits(), bits);
    let mut undisturbed = trained::<f32>();
    undisturbed.steps(1);
    assert_eq!(training.bits(), undisturbed.bits());
    assert!(training.optimizer.snapshot() == undisturbed.optimizer.snapshot());
}

#[test]
fn a_skipped_step_is_counted_and_moves_nothing() {
    let mut run = run();
    run.options.insert("non_finite".into(), "skip".into());
    let mut training = Training::<f32, f32>::new(&run).unwrap();
    let mut undisturbed = Training::<f32, f32>::new(&run).unwrap();
    training.steps(2);
    undisturbed.steps(2);
    for count in 1..=3 {
        let (bits, state) = (training.bits(), training.optimizer.snapshot());
        let latest = training.optimizer.latest_step(0).cloned();
        let mut gradients = training.gradients(3);
        gradients[2].as_mut().unwrap()[[2, 1]] = f32::NEG_INFINITY;
        assert_eq!(training.step_with(&gradients), Ok(StepOutcome::Skipped));
        training.t = 2;
        assert_eq!(training.optimizer.skipped_steps(), count);
        assert_eq!(training.bits(), bits);
        assert!(training.optimizer.snapshot() == state);
        assert_eq!(training.optimizer.latest_step(0).cloned(), latest);
    }
    training.steps(3);
    undisturbed.steps(3);
    assert_eq!(training.bits(), undisturbed.bits());
    assert_eq!(training.optimizer.skipped_steps(), 3);
    assert_eq!(training.optimizer.steps(0), Ok(5));
}

#[test]
fn unchecked_gradients_are_not_looked_at() {
    let mut run = run();
    run.options.insert("non_finite".into(), "unchecked".into());
    let mut training = Training::<f32, f32>::new(&run).unwrap();
    let mut gradients = training.gradients(1);
    gradients[1].as_mut().unwrap()[3] = f32::NAN;
    assert_eq!(training.step_with(&gradients), Ok(StepOutcome::Done));
    assert!(training.values[1][3].is_nan());
}

#[test]
fn a_step_in_evaluation_mode_is_refused() {
    let mut training = trained::<f32>();
    training.with_parameters(|optimizer, parameters| optimizer.eval(parameters)).unwrap();
    let (bits, state) = (training.bits(), training.optimizer.snapshot());
    assert_eq!(training.step(), Err(Error::EvaluationMode));
    assert!(matches!(training.optimizer.begin_step(), Err(Error::EvaluationMode)));
    let group = ParameterGroup::<f32>::new(Descent::default(), [("late", &[1][..])]);
    assert_eq!(training.optimizer.add_group(group), Err(Error::EvaluationMode));
    assert_eq!(training.bits(), bits);
    assert!(training.optimizer.snapshot() == state);
}

#[test]
fn a_list_of_parameters_that_changed_is_refused() {
    let error = refused::<f32>("one parameter fewer", |training| {
        training.with_parameters(|optimizer, parameters| optimizer.step(&mut parameters[..2]))
    });
    assert_eq!(error, Error::ParameterCount { expected: 3, found: 2 });
    let error = refused::<f32>("one parameter more", |training| {
        let mut more: Vec<ArrayD<f32>> = training.values.clone();
        more.push(zeros(&[1]));
        let mut parameters: Vec<Parameter<'_>> =
            more.iter_mut().map(|value| Parameter::array(value.view_mut(), None)).collect();
        training.optimizer.step(&mut parameters)
    });
    assert_eq!(error, Error::ParameterCount { expected: 3, found: 4 });
    let error = refused::<f32>("another order", |training| {
        let gradients = training.gradients(4);
        let mut parameters: Vec<Parameter<'_>> = training
            .values
            .iter_mut()
            .zip(&gradients)
            .rev()
            .map(|(value, g)| Parameter::array(value.view_mut(), g.as_ref().map(|g| g.view())))
            .collect();
        training.optimizer.step(&mut parameters)
    });
    assert!(matches!(error, Error::ShapeMismatch { what: "value", .. }), "{error:?}");
}

#[test]
fn an_element_type_that_changed_is_refused() {
    let error = refused::<f32>("bfloat16 after float32", |training| {
        let mut values: Vec<ArrayD<bf16>> = training.values.iter().map(|v| v.mapv(bf16::from_f32)).collect();
        let gradients = values.clone();
        let mut parameters: Vec<Parameter<'_>> = values
            .iter_mut()
            .zip(&gradients)
            .map(|(value, g)| Parameter::array(value.view_mut(), Some(g.view())))
            .collect();
        training.optimizer.step(&mut parameters)
    });
    assert!(
        matches!(&error, Error::ElementType { name, found: DType::Bf16, .. } if *name == Run::name(0)),
        "{error:?}"
    );
}

#[test]
fn a_float64_parameter_needs_an_optimizer_that_computes_in_float64() {
    let mut optimizer = run().engine::<f32>().unwrap();
    let mut values: Vec<ArrayD<f64>> = (0..3).map(|i| run().init(i)).collect();
    let mut parameters: Vec<Parameter<'_>> =
        values.iter_mut().map(|value| Parameter::array(value.view_mut(), None)).collect();
    let result = optimizer.step(&mut parameters);
    assert!(matches!(result, Err(Error::ElementType { found: DType::F64, .. })), "{result:?}");
    let result = optimizer.eval(&mut parameters);
    assert!(matches!(result, Err(Error::ElementType { found: DType::F64, .. })), "{result:?}");
    assert!(!optimizer.is_evaluating());
    assert!(run().engine::<f64>().unwrap().step(&mut parameters).is_ok());
}

#[test]
fn two_parameters_of_one_name_are_refused() {
    let duplicate = |result: Result<Optimizer, Error>| {
        assert_eq!(result.err(), Some(Error::DuplicateName { name: "w".into() }));
    };
    duplicate(ProdigyPlus::builder().build([("w", &[3][..]), ("b", &[3]), ("w", &[4])]));
    let base = ProdigyPlus::builder();
    duplicate(base.build_groups([(base.clone(), [("w", &[3][..])]), (base.clone(), [("w", &[3][..])])]));

    let mut training = trained::<f32>();
    let state = training.optimizer.snapshot();
    let name = Run::name(1);
    for parameters in [vec![("new", &[3][..]), (name.as_str(), &[3])], vec![("new", &[3]), ("new", &[3])]] {
        let expected = parameters[1].0.to_owned();
        let group = ParameterGroup::<f32>::new(Descent::default(), parameters);
        assert_eq!(training.optimizer.add_group(group), Err(Error::DuplicateName { name: expected }));
    }
    assert_eq!(training.optimizer.names().count(), 3);
    assert!(training.optimizer.snapshot() == state);
    training.steps(1);
}

#[test]
fn a_group_that_cannot_run_is_not_added() {
    let mut training = trained::<f32>();
    let state = training.optimizer.snapshot();
    let group = ParameterGroup::<f32>::new(StableAdamW, [("late", &[3][..])]);
    let result = training.optimizer.add_group(group);
    assert!(matches!(result, Err(Error::InvalidChain { .. })), "{result:?}");
    let group = ParameterGroup::<f32>::new(Descent::default(), [("late", &[3][..])]).lr(-1.0);
    let result = training.optimizer.add_group(group);
    assert!(matches!(result, Err(Error::OptionOutOfRange { option: "lr", .. })), "{result:?}");
    assert_eq!(training.optimizer.names().count(), 3);
    assert!(training.optimizer.snapshot() == state);
    training.steps(1);
}

#[test]
fn an_index_of_no_group_is_refused() {
    let mut training = trained::<f32>();
    let expected = Error::NoSuch { what: "group", index: 1, count: 1 };
    let optimizer = &mut training.optimizer;
    assert_eq!(optimizer.lr(1), Err(expected.clone()));
    assert_eq!(optimizer.set_lr(1, 1.0), Err(expected.clone()));
    assert_eq!(optimizer.estimate(1).err(), Some(expected.clone()));
    assert_eq!(optimizer.latest_step(1).err(), Some(expected.clone()));
    assert_eq!(optimizer.steps(1), Err(expected.clone()));
    assert_eq!(optimizer.describe_chain(1, &[2]), Err(expected.clone()));
    assert_eq!(optimizer.replace_chain(1, Descent::default()), Err(expected));
}

fn reason(chain: impl Link<f32> + 'static) -> String {
    match Optimizer::new(chain, [("w", &[3][..])]) {
        Err(Error::InvalidChain { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_chain_has_exactly_one_writer() {
    assert!(reason(StableAdamW).contains("nothing writes"));
    assert!(reason(None::<Descent>).contains("nothing writes"));
    let two = reason((Descent::default(), ScheduleFree::new(0.9)));
    assert!(two.contains("descent") && two.contains("schedule-free"), "{two}");
}

#[test]
fn the_same_transform_twice_is_refused() {
    let twice = reason((StableAdamW, DenseMoment::new(0.99), StableAdamW, Descent::default()));
    assert!(twice.contains("stableadamw"), "{twice}");
    let alike = (map!("f", |u| u), map!("f", |u| u), Descent::default());
    assert!(reason(alike).contains("`f`"));
}

#[test]
fn a_transform_of_the_update_behind_the_writer_is_refused() {
    let behind = reason((Descent::default(), DenseMoment::new(0.99)));
    assert!(behind.contains("dense-moment") && behind.contains("before"), "{behind}");
}

#[test]
fn a_transform_of_the_displacement_before_the_writer_is_refused() {
    let before = reason((cautious::Cautious::default(), ScheduleFree::new(0.9)));
    assert!(before.contains("cautious") && before.contains("after"), "{before}");
}

#[test]
fn two_estimators_are_refused() {
    let prodigy = prodigy_core::Prodigy::default();
    let speed = speed::Speed::new(0.99);
    let two = reason((prodigy, speed, ScheduleFree::new(0.9)));
    assert!(two.contains("prodigy") && two.contains("speed"), "{two}");
}

#[test]
fn different_estimators_are_refused_under_a_joint_estimate_however_they_come_together() {
    let group = |name: &'static str, speeds: Option<bool>| {
        let chain: Vec<Box<dyn Link<f32>>> = match speeds {
            Some(true) => vec![Box::new(speed::Speed::default()), Box::new(Descent::default())],
            Some(false) => vec![Box::new(prodigy_core::Prodigy::default()), Box::new(Descent::default())],
            None => vec![Box::new(Descent::default())],
        };
        ParameterGroup::new(chain, [(name, &[3][..])])
    };
    for split_groups in [SplitGroups::Mean, SplitGroups::Each, SplitGroups::Joint] {
        let settings = Settings { split_groups, ..Settings::default() };
        let joint = split_groups == SplitGroups::Joint;
        let check = |what: &str, result: Result<(), Error>, between: [&str; 2]| match result {
            Err(Error::Excluded { first, second, reason }) if joint => {
                assert_eq!([first.as_str(), &second], between, "{what}");
                assert!(reason.contains("SplitGroups::Mean"), "{what}: {reason}");
            }
            Ok(()) if !joint => {}
            other => panic!("{what}, {split_groups:?}: {other:?}"),
        };
        let mixed = [group("a", Some(false)), group("b", None), group("c", Some(true))];
        check("made", Optimizer::with_groups(mixed, settings).map(drop), ["prodigy", "speed"]);

        let same = [group("a", Some(true)), group("b", None), group("c", Some(true))];
        let mut optimizer = Optimizer::with_groups(same, settings).unwrap();
        let before = optimizer.snapshot();
        check("added", optimizer.add_group(group("d", Some(false))), ["speed", "prodigy"]);
        let chain = (prodigy_core::Prodigy::default(), Descent::default());
        check("replaced", optimizer.replace_chain(0, chain), ["speed", "prodigy"]);
        assert_eq!(optimizer.snapshot() == before, joint);
    }
    // One that is alone may be exchanged.
    let settings = Settings { split_groups: SplitGroups::Joint, ..Settings::default() };
    let mut optimizer = Optimizer::with_groups([group("a", Some(true)), group("b", None)], settings).unwrap();
    optimizer.replace_chain(0, (prodigy_core::Prodigy::default(), Descent::default())).unwrap();
}

#[test]
fn transforms_that_exclude_each_other_are_refused() {
    let excluded = |chain: Result<Optimizer, Error>| match chain {
        Err(Error::Excluded { first, second, .. }) => [first, second],
        other => panic!("{other:?}"),
    };
    let parameters = || [("w", &[3][..])];
    let chain = (ScheduleFree::new(0.9), cautious::Cautious::default(), grams::Grams);
    assert_eq!(excluded(Optimizer::new(chain, parameters())), ["cautious", "grams"]);
    let chain = (FactoredMoment::new(0.99), focus::Focus::new(0.99), Descent::default());
    assert_eq!(excluded(Optimizer::new(chain, parameters())), ["focus", "factored-moment"]);
}

#[test]
fn hyperparameters_of_a_transform_in_a_hand_made_chain_are_checked() {
    let parameters = || [("w", &[3][..])];
    let result = Optimizer::new((DenseMoment::new(1.0), Descent::default()), parameters());
    assert!(matches!(result, Err(Error::OptionOutOfRange { option: "beta2", .. })), "{result:?}");
    let result = Optimizer::new(Descent::with_decay(f64::NAN), parameters());
    assert!(matches!(result, Err(Error::OptionOutOfRange { option: "weight_decay", .. })), "{result:?}");
    let limited = |growth| {
        let prodigy = Prodigy { growth: Some(growth), ..Prodigy::default() };
        Optimizer::new((prodigy, Descent::default()), parameters())
    };
    for good in [1.0 + f64::EPSILON, 1.19, 1e300] {
        assert!(limited(good).is_ok(), "{good}");
    }
    for bad in [1.0, 0.5, 0.0, -2.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
        let result = limited(bad);
        assert!(matches!(result, Err(Error::OptionOutOfRange { option: "growth", .. })), "{bad}: {result:?}");
    }
    let group = ParameterGroup::<f32>::new(Descent::default(), parameters()).lr(f64::NAN);
    let result =
        Optimizer::with_groups([group], Settings { non_finite: NonFinite::Skip, ..Settings::default() });
    assert!(matches!(result, Err(Error::OptionOutOfRange { option: "lr", .. })), "{result:?}");
}

/// Steps of four tensors, of which some have a gradient that cannot be stepped with, and the parameters and the state after them.
fn steps_with(bad: Option<f32>, clips: bool, one_by_one: bool) -> (Vec<Vec<f32>>, String, u64) {
    let shapes = [vec![64, 40], vec![7], vec![300, 500], vec![1]];
    let names = ["a", "b", "c", "d"].into_iter().zip(shapes.iter().map(|shape| &shape[..]));
    let clip =
        clips.then(|| elementary::ClipByNorm { over: SumsOver::All, ..elementary::ClipByNorm::default() });
    let chain = (clip, FactoredMoment::new(0.99), prodigy_core::Prodigy::new(0.9), ScheduleFree::new(0.9));
    let settings = Settings { non_finite: NonFinite::SkipTensor, ..Settings::default() };
    let mut optimizer: Optimizer =
        Optimizer::with_groups([ParameterGroup::new(chain, names)], settings).unwrap();
    let mut values: Vec<Vec<f32>> = shapes.iter().map(|shape| vec![0.5; shape.iter().product()]).collect();
    for step in 0..4 {
        let gradients: Vec<Option<Vec<f32>>> = (0..4)
            .map(|tensor| {
                let n = values[tensor].len();
                let mut gradient: Vec<f32> =
                    (0..n).map(|i| ((i * (tensor + 3) + 7 * step) % 19) as f32 - 8.5).collect();
                if (step + tensor) % 3 == 1 {
                    gradient[n / 2] = bad?;
                }
                Some(gradient)
            })
            .collect();
        let pairs = values.iter_mut().zip(&gradients);
        let mut parameters: Vec<Parameter<'_>> =
            pairs.map(|(value, gradient)| Parameter::slice(value, gradient.as_deref())).collect();
        if one_by_one {
            let mut step = optimizer.begin_step().unwrap();
            for (i, parameter) in parameters.into_iter().enumerate() {
                step.parameter(i, parameter).unwrap();
            }
            step.end();
        } else {
            assert_eq!(optimizer.step(&mut parameters), Ok(StepOutcome::Done));
        }
    }
    let state = serde_json::to_string(&optimizer.snapshot()).unwrap();
    (values, state, optimizer.skipped_tensors())
}

#[test]
fn a_tensor_that_is_skipped_for_its_gradient_and_one_without_gradient_are_the_same_to_the_bit() {
    for (clips, one_by_one) in [(false, false), (true, false), (false, true)] {
        for bad in [f32::NAN, f32::INFINITY, 1e30] {
            let (values, state, skipped) = steps_with(Some(bad), clips, one_by_one);
            let (expected, expected_state, none) = steps_with(None, clips, one_by_one);
            assert!(values == expected && state == expected_state, "{bad} {clips} {one_by_one}");
            assert_eq!((skipped, none), (5, 0));
        }
    }
}

#[test]
fn shapes_whose_elements_cannot_be_counted_are_refused_when_the_optimizer_is_made() {
    let huge = 1_usize << 32;
    for shape in [&[huge, huge][..], &[huge, 0, huge], &[1 << 61]] {
        let made = Optimizer::new(FactoredMoment::new(0.9), [("w", shape)]).map(|_| ());
        // The chain has no writer, but the shape comes first.
        let too_large = Error::ShapeTooLarge { name: "w".into(), shape: shape.to_vec() };
        assert_eq!(made, Err(too_large.clone()));
        let mut optimizer = Optimizer::new(Descent::default(), [("v", &[1][..])]).unwrap();
        let group = ParameterGroup::new(Descent::default(), [("w", shape)]);
        assert_eq!(optimizer.add_group(group), Err(too_large));
        assert!(optimizer.names().eq(["v"]));
    }
}

#[test]
fn a_tensor_without_elements_keeps_no_rows_however_many_it_has() {
    let shape = [0, 1_usize << 40];
    let mut optimizer = ProdigyPlus::builder().build([("w", &shape[..]), ("v", &[1][..])]).unwrap();
    let mut v = [1.0_f32];
    let mut parameters =
        [Parameter::slice::<f32>(&mut [], Some(&[])), Parameter::slice(&mut v, Some(&[1.0]))];
    assert_eq!(optimizer.step(&mut parameters), Ok(StepOutcome::Done));
    assert!(v[0] < 1.0);
}

#[test]
fn learning_rates_and_d0_beyond_what_a_step_can_be_made_with_are_refused_and_the_largest_give_numbers() {
    let two = 2.0_f64;
    for lr in [1e155, f64::MAX, two.powi(32) * 1.001] {
        let group = ParameterGroup::<f32>::new(Descent::default(), [("w", &[2][..])]).lr(lr);
        let made = Optimizer::with_groups([group], Settings::default()).map(|_| ());
        assert!(matches!(made, Err(Error::OptionOutOfRange { option: "lr", .. })), "{made:?}");
        let mut optimizer = Optimizer::new(Descent::default(), [("w", &[2][..])]).unwrap();
        assert!(matches!(optimizer.set_lr(0, lr), Err(Error::OptionOutOfRange { option: "lr", .. })));
        assert_eq!(optimizer.lr(0), Ok(1.0));
    }
    let prodigy = prodigy_core::Prodigy::default();
    for (option, prodigy) in [
        ("d0", prodigy_core::Prodigy { d0: 1e200, ..prodigy }),
        ("d_coef", prodigy_core::Prodigy { d_coef: 1e200, ..prodigy }),
        ("initial_d", prodigy_core::Prodigy { initial_d: Some(1e200), ..prodigy }),
        ("initial_d", prodigy_core::Prodigy { initial_d: Some(f64::NAN), ..prodigy }),
    ] {
        for chain in [
            Box::new(prodigy) as Box<dyn Link<f32>>,
            Box::new(speed::Speed { prodigy, ..Default::default() }),
        ] {
            let made = Optimizer::new((chain, Descent::default()), [("w", &[2][..])]).map(|_| ());
            assert!(
                matches!(&made, Err(Error::OptionOutOfRange { option: o, .. }) if *o == option),
                "{made:?}"
            );
        }
    }

    for moment in [true, false] {
        let chain = (
            moment.then(|| DenseMoment::new(0.9)),
            prodigy_core::Prodigy { d0: two.powi(50), ..Default::default() },
            ScheduleFree::default(),
        );
        let group = ParameterGroup::new(chain, [("w", &[2][..])]).lr(two.powi(32));
        let mut optimizer: Optimizer = Optimizer::with_groups([group], Settings::default()).unwrap();
        let (mut w, g) = ([1.0_f32, -1.0], [two.powi(44) as f32, -0.5]);
        optimizer.step(&mut [Parameter::slice(&mut w, Some(&g))]).unwrap();
        assert!(w.iter().all(|w| w.is_finite()), "{w:?}");
    }
}

/// An estimator of somebody's own, which begins anywhere.
#[derive(Debug)]
struct BeginsAt(Estimate);

impl Link<f32> for BeginsAt {
    fn name(&self) -> &str {
        "begins-at"
    }

    fn estimator(&self) -> Option<&dyn Estimator> {
        Some(self)
    }
}

impl Estimator for BeginsAt {
    fn initial(&self) -> Estimate {
        self.0
    }

    fn contribution(&self, _cx: &Context<'_>, _sums: &[f64]) -> [f64; 2] {
        [0.0; 2]
    }

    fn conclude(&self, _step: &StepContext, _total: [f64; 2], _estimate: &mut Estimate) {}
}

#[test]
fn an_estimate_that_no_step_can_be_made_with_is_refused_whoever_begins_with_it() {
    let one = Estimate::new(1.0);
    for (what, estimate) in [
        ("at most 2^50", Estimate::new(1e16)),
        ("above 0", Estimate { d: 0.0, ..one }),
        ("above 0", Estimate { d_prev: f64::NAN, ..one }),
        ("2^50 times d", Estimate { d: 1e-20, ..one }),
        ("numerator", Estimate { numerator: f64::INFINITY, ..one }),
    ] {
        let refused = reason((BeginsAt(estimate), Descent::default()));
        assert!(refused.contains("begins-at") && refused.contains(what), "{what}: {refused}");
    }
}

/// An estimator that goes from 1 to any number.
#[derive(Debug)]
struct GoesTo(f64);

impl Link<f32> for GoesTo {
    fn name(&self) -> &str {
        "goes-to"
    }

    fn estimator(&self) -> Option<&dyn Estimator> {
        Some(self)
    }
}

impl Estimator for GoesTo {
    fn initial(&self) -> Estimate {
        Estimate::new(1.0)
    }

    fn contribution(&self, _cx: &Context<'_>, _sums: &[f64]) -> [f64; 2] {
        [0.0; 2]
    }

    fn conclude(&self, _step: &StepContext, _total: [f64; 2], estimate: &mut Estimate) {
        (estimate.d_prev, estimate.d) = (estimate.d, self.0);
    }
}

#[test]
fn an_estimator_that_ends_at_no_step_size_leaves_one_that_steps_and_checkpoints_can_have() {
    let largest = (1_u64 << 50) as f64;
    for (to, expected) in
        [(4.5e16, largest), (f64::INFINITY, largest), (f64::NAN, 1.0), (0.0, 1.0), (-2.0, 1.0), (3.0, 3.0)]
    {
        let make = || Optimizer::new((GoesTo(to), Descent::default()), [("w", [1])]).unwrap();
        let (mut optimizer, mut w) = (make(), [0.0_f32]);
        optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0]))]).unwrap();
        assert_eq!(optimizer.estimate(0).unwrap().d, expected, "{to}");
        let mut resumed: Optimizer = make();
        resumed.restore(optimizer.snapshot()).unwrap();
        for optimizer in [&mut optimizer, &mut resumed] {
            let mut w = [0.0_f32];
            optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0]))]).unwrap();
            assert_eq!(f64::from(w[0]), -expected, "{to}");
        }
    }
}

#[test]
fn a_factor_of_the_learning_rates_that_no_step_can_be_made_with_is_refused() {
    let group = |name: &'static str, lr| ParameterGroup::new(Descent::default(), [(name, &[1][..])]).lr(lr);
    let mut optimizer: Optimizer =
        Optimizer::with_groups([group("a", 0.0), group("b", 8.0)], Settings::default()).unwrap();
    let (mut a, mut b) = ([1.0_f32], [1.0_f32]);
    // 0 times infinity is no number, and -1 times 0 is not below 0.
    for factor in [-1.0, f64::NAN, f64::INFINITY, 1e9] {
        let mut parameters = [Parameter::slice(&mut a, Some(&[1.0])), Parameter::slice(&mut b, Some(&[1.0]))];
        let result = optimizer.at_lr_factor(factor, |optimizer| optimizer.step(&mut parameters));
        assert!(matches!(result, Err(Error::OptionOutOfRange { option: "lr", .. })), "{factor}: {result:?}");
        assert_eq!((optimizer.lr(0), optimizer.lr(1)), (Ok(0.0), Ok(8.0)));
    }
    // Nor does a step that is refused leave them changed.
    let mut parameters = [Parameter::slice(&mut a, Some(&[f32::NAN])), Parameter::slice(&mut b, None)];
    let spoilt = optimizer.at_lr_factor(0.5, |optimizer| optimizer.step(&mut parameters));
    assert!(matches!(spoilt, Err(Error::NonFiniteGradient { .. })), "{spoilt:?}");
    assert_eq!((optimizer.lr(0), optimizer.lr(1), a, b), (Ok(0.0), Ok(8.0), [1.0], [1.0]));
}

#[test]
fn a_float64_gradient_needs_an_optimizer_that_computes_in_float64() {
    let mut w = [bf16::ONE; 2];
    let wide = [0.5_f64; 2];
    let mut optimizer = Optimizer::new(Descent::default(), [("w", &[2][..])]).unwrap();
    let error = optimizer.step(&mut [Parameter::slice(&mut w, None).with_gradient(&wide)]).unwrap_err();
    assert_eq!(error, Error::GradientType { name: "w".into(), found: DType::F64 });
    assert_eq!(w, [bf16::ONE; 2]);
    let mut optimizer = Optimizer::<f64>::new_in(Descent::default(), [("w", &[2][..])]).unwrap();
    optimizer.step(&mut [Parameter::slice(&mut w, None).with_gradient(&wide)]).unwrap();
    assert_eq!(w, [bf16::from_f32(0.5); 2]);
}
