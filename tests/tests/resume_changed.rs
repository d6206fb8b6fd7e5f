//! Training that goes on with something else than before: another chain, another beta1, other groups, another type of moment. What
//! is new begins so that nothing jumps, what the training has achieved stays, and what differs is said.

use adopt::Adopt;
use conformance::pair::{Run, Stored, Training};
use factored_moment::{DenseMoment, FactoredMoment};
use focus::Focus;
use gradient_transform::{
    Buffer, DType, Descent, Error, Link, Optimizer, Parameter, Real, RestoreOptions, Restored, Storage,
    only_for,
};
use half::bf16;
use muon_pp::Muon;
use prodigy_core::{Prodigy, Samples};
use schedule_free::ScheduleFree;
use serde_json::json;
use speed::Speed;
use stableadamw::StableAdamW;

type Boxed = Box<dyn Link<f32>>;

const D0: f64 = 1e-3;

fn boxed(transform: impl Link<f32> + 'static) -> Boxed {
    Box::new(transform)
}

fn prodigy() -> Prodigy {
    Prodigy { d0: D0, ..Prodigy::default() }
}

/// A chain around something that turns the gradient into a direction.
fn around(direction: Boxed, clips: bool) -> Boxed {
    Box::new((direction, clips.then_some(StableAdamW), prodigy(), ScheduleFree::default()))
}

/// Trained until d has grown a hundredfold.
fn trained(clips: bool) -> Training<f32, f32> {
    let options = json!({"d0": D0, "use_stableadamw": clips});
    let mut training = Training::new(&Run::new(options, &[&[40, 33], &[7]])).unwrap();
    training.steps(60);
    assert!(training.d()[0] > 100.0 * D0, "{:?}", training.d());
    training
}

/// How far the furthest weight moves in each of the next steps.
fn moves<T: Real, E: Stored>(training: &mut Training<T, E>, steps: usize) -> Vec<f64> {
    let mut moves = Vec::new();
    for _ in 0..steps {
        let before = training.values.clone();
        training.steps(1);
        let of_tensor = |(a, b): (&ndarray::ArrayD<E>, &ndarray::ArrayD<E>)| {
            a.iter().zip(b).map(|(a, b)| (a.f64() - b.f64()).abs()).fold(0.0, f64::max)
        };
        moves.push(before.iter().zip(&training.values).map(of_tensor).fold(0.0, f64::max));
    }
    moves
}

/// A chain by its name.
type Named = (&'static str, fn() -> Boxed);

/// The directions that can take the place of the factored moment that `trained` was trained with.
fn directions() -> [Named; 8] {
    [
        ("dense", || boxed(DenseMoment::new(0.99))),
        ("factored otherwise", || boxed(FactoredMoment { min_size: 1000, ..FactoredMoment::new(0.99) })),
        ("focus", || boxed(Focus::new(0.99))),
        ("muon", || boxed((Muon::new(0.99), only_for(|t| !Muon::takes(t), DenseMoment::new(0.99))))),
        ("adopt, dense", || boxed(Adopt::new(DenseMoment::new(0.99)))),
        ("adopt, factored otherwise", || {
            boxed(Adopt::new(FactoredMoment { min_size: 1000, ..FactoredMoment::new(0.99) }))
        }),
        ("adopt, focus", || boxed(Adopt::new(Focus::new(0.99)))),
        ("adopt, the group's first step", || {
            boxed(Adopt { first_step_of_group: true, ..Adopt::new(DenseMoment::new(0.99)) })
        }),
    ]
}

/// mlx-optimizers#43: ADOPT divided by epsilon, and a new moment's first update was ten times the usual one.
#[test]
fn a_moment_that_joins_a_trained_optimizer_begins_with_a_step_of_the_usual_size() {
    for clips in [true, false] {
        let usual = moves(&mut trained(clips), 5).into_iter().fold(0.0, f64::max);
        for (name, direction) in directions() {
            // ADOPT divides by the gradient before, and by eps where that was zero: its own way, which the clipping bounds.
            let adopts = name.starts_with("adopt");
            if adopts && !clips {
                continue;
            }
            let limit = if adopts { 8.0 } else { 4.0 } * usual;
            let mut replaced = trained(clips);
            replaced.optimizer.replace_chain(0, around(direction(), clips)).unwrap();
            let mut resumed = trained(clips);
            let bytes = checkpoint::to_bytes(&resumed.optimizer).unwrap();
            let shapes = [(Run::name(0), &[40, 33][..]), (Run::name(1), &[7])];
            resumed.optimizer = Optimizer::new(around(direction(), clips), shapes).unwrap();
            checkpoint::from_bytes(&bytes, &mut resumed.optimizer).unwrap();
            let steps = moves(&mut replaced, 5);
            assert!(
                steps.iter().all(|&step| step < limit),
                "{name}, clips {clips}: {steps:?}, usual {usual}"
            );
            assert_eq!(moves(&mut resumed, 5), steps, "{name}, clips {clips}: resumed as replaced");
        }
    }
}

/// Whether a moment is new is part of the state, and is saved.
#[test]
fn a_save_between_the_change_and_the_next_step_changes_nothing() {
    for (name, direction) in directions() {
        let mut straight = trained(true);
        straight.optimizer.replace_chain(0, around(direction(), true)).unwrap();
        for step in 0..4 {
            let mut resumed = trained(true);
            let shapes = [(Run::name(0), &[40, 33][..]), (Run::name(1), &[7])];
            resumed.optimizer = Optimizer::new(around(direction(), true), shapes).unwrap();
            let bytes = checkpoint::to_bytes(&straight.optimizer).unwrap();
            checkpoint::from_bytes(&bytes, &mut resumed.optimizer).unwrap();
            resumed.values.clone_from(&straight.values);
            resumed.t = straight.t;
            straight.steps(1);
            resumed.steps(1);
            assert_eq!(resumed.bits(), straight.bits(), "{name}, {step} steps after the change");
        }
    }
}

#[test]
fn a_moment_that_is_new_together_with_everything_begins_at_zero() {
    let mut training = Training::<f64, f64>::new(&Run::new(json!({"d0": 1.0}), &[&[7]])).unwrap();
    let chain = (DenseMoment::new(0.99), Descent::default());
    training.optimizer = Optimizer::new_in(chain, [(Run::name(0), &[7][..])]).unwrap();
    let (before, gradient) = (training.values.clone(), training.gradients(1));
    training.steps(1);
    let gradient = gradient[0].as_ref().unwrap();
    for ((a, b), g) in before[0].iter().zip(&training.values[0]).zip(gradient) {
        assert!((a - b - 10.0 * g.signum() * f64::from(*g != 0.0)).abs() < 1e-3, "{a} {b} {g}");
    }
}

/// |s|_1 is small while s is new, and with the numerator of a long training the ratio, and d forever, would be far too large.
#[test]
fn an_estimator_with_new_samples_begins_its_sums_anew() {
    let mut training = trained(true);
    let d = training.d()[0];
    let speed = Speed { prodigy: prodigy(), ..Speed::default() };
    let chain = (FactoredMoment::new(0.99), StableAdamW, speed, ScheduleFree::default());
    training.optimizer.replace_chain(0, chain).unwrap();
    let estimate = training.optimizer.estimate(0).unwrap();
    assert_eq!((estimate.d, estimate.numerator, estimate.denominator), (d, 0.0, 0.0));

    // The same where the samples were lost.
    let mut snapshot = trained(true).optimizer.snapshot();
    for tensor in snapshot.tensors.values_mut() {
        tensor.arrays.retain(|key, _| !key.starts_with("prodigy/"));
    }
    let mut resumed = trained(true);
    resumed.optimizer.restore(snapshot).unwrap();
    assert_eq!(resumed.optimizer.estimate(0).unwrap().numerator, 0.0);
    resumed.steps(20);
    assert!(resumed.d()[0] < 1.5 * d, "{:?} after {d}", resumed.d());
}

/// Estimators that look at other elements of the first tensor than the one that `trained` was trained with; of the second, all but
/// the third look at the first element alone.
fn other_samples() -> [Prodigy; 4] {
    let Prodigy { samples, .. } = prodigy();
    let every = |every| Prodigy { samples: Samples { every, ..samples }, ..prodigy() };
    let in_step = Samples { keeps_step_with_shape: true, ..samples };
    [every(7), every(14), every(1), Prodigy { samples: in_step, ..prodigy() }]
}

#[test]
fn samples_of_other_elements_begin_anew_and_are_named() {
    for other in other_samples() {
        let before = trained(true);
        let d = before.d()[0];
        let chain = || (FactoredMoment::new(0.99), StableAdamW, other, ScheduleFree::default());
        let check = |what: &str, optimizer: &Optimizer| {
            let estimate = optimizer.estimate(0).unwrap();
            assert_eq!(
                (estimate.d, estimate.numerator, estimate.denominator),
                (d, 0.0, 0.0),
                "{what}: {other:?}"
            );
            let mut keys = optimizer.snapshot().tensors[&Run::name(0)].arrays.clone().into_keys();
            assert!(keys.all(|key| !key.starts_with("prodigy/")), "{what}: {other:?}");
        };
        let parameters = [(Run::name(0), &[40, 33][..]), (Run::name(1), &[7])];
        let mut restored = Optimizer::new(chain(), parameters).unwrap();
        let said = restored.restore(before.optimizer.snapshot()).unwrap();
        let missing = [0, 1].map(|i| ["p0", "s"].map(|array| format!("{}/prodigy/{array}", Run::name(i))));
        assert_eq!(said.missing, missing.concat(), "{other:?}");
        check("restored", &restored);
        let mut replaced = trained(true);
        replaced.optimizer.replace_chain(0, chain()).unwrap();
        check("replaced", &replaced.optimizer);
        replaced.steps(20);
        assert!(replaced.d()[0] < 1.5 * d, "{:?} after {d}: {other:?}", replaced.d());
    }
    // Where other hyperparameters differ, the samples stay.
    let bolder = Prodigy { d_coef: 2.0, ..prodigy() };
    let mut replaced = trained(true);
    let numerator = replaced.optimizer.estimate(0).unwrap().numerator;
    let chain = (FactoredMoment::new(0.99), StableAdamW, bolder, ScheduleFree::default());
    replaced.optimizer.replace_chain(0, chain).unwrap();
    assert_eq!(replaced.optimizer.estimate(0).unwrap().numerator, numerator);
}

#[test]
fn a_snapshot_without_an_estimate_leaves_none_behind() {
    let plain: Optimizer =
        Optimizer::new(Descent::default(), [(Run::name(0), &[40, 33][..]), (Run::name(1), &[7])]).unwrap();
    let mut training = trained(true);
    training.optimizer.restore(plain.snapshot()).unwrap();
    assert_eq!(training.d(), [D0]);
}

fn x_of<E: Stored>(training: &Training<f32, E>) -> Vec<f64> {
    (0..2).flat_map(|i| training.x(i).unwrap().into_iter().map(|x| x.f64()).collect::<Vec<_>>()).collect()
}

fn z_of<E: Stored>(training: &Training<f32, E>) -> Option<Buffer> {
    training.optimizer.snapshot().tensors[&Run::name(0)].arrays.get("schedule-free/z").cloned()
}

/// The writers that can take the place of Schedule-Free with a beta1 of 0.9.
fn writers() -> [(f64, fn() -> Boxed); 4] {
    [
        (0.98, || boxed(ScheduleFree::new(0.98))),
        (0.3, || boxed(ScheduleFree::new(0.3))),
        (0.9, || boxed(ScheduleFree { weight_decay: 0.1, ..ScheduleFree::new(0.9) })),
        (1.0, || boxed(Descent::default())),
    ]
}

fn with_writer(writer: Boxed) -> Boxed {
    Box::new((FactoredMoment::new(0.99), StableAdamW, prodigy(), writer))
}

fn x_and_z_stay<E: Stored>(tolerance: f64) {
    let shapes = || [(Run::name(0), &[40, 33][..]), (Run::name(1), &[7])];
    let run = Run::new(json!({"d0": D0}), &[&[40, 33], &[7]]);
    for (weight, writer) in writers() {
        for evaluating in [false, true] {
            let mut training = Training::<f32, E>::new(&run).unwrap();
            training.steps(60);
            let (x, y, z) = (x_of(&training), training.bits(), z_of(&training));
            if evaluating {
                training.with_parameters(|optimizer, all| optimizer.eval(all)).unwrap();
            }
            let bytes = checkpoint::to_bytes(&training.optimizer).unwrap();
            let bits = training.bits();

            let mut resumed = Training::<f32, E>::new(&run).unwrap();
            resumed.optimizer = Optimizer::new(with_writer(writer()), shapes()).unwrap();
            resumed.values.clone_from(&training.values);
            let must_move = weight != 0.9 && !evaluating;
            let without = checkpoint::from_bytes(&bytes, &mut resumed.optimizer);
            let refused = matches!(
                without,
                Err(checkpoint::Error::Misfit(Error::ParametersMustMove { from: 0.9, to, .. })) if to == weight
            );
            assert_eq!(refused, must_move, "{weight} {evaluating}: {without:?}");
            if refused {
                assert!(resumed.optimizer.snapshot().tensors.is_empty(), "nothing has changed");
                resumed
                    .with_parameters(|optimizer, all| {
                        let options = RestoreOptions { parameters: Some(all), partly: false };
                        checkpoint::from_bytes_with(&bytes, optimizer, options)
                    })
                    .unwrap();
            }

            let without = training.optimizer.replace_chain(0, with_writer(writer()));
            assert_eq!(matches!(without, Err(Error::ParametersMustMove { .. })), must_move, "{without:?}");
            if must_move {
                assert_eq!(training.bits(), bits);
                training
                    .with_parameters(|optimizer, all| {
                        optimizer.replace_chain_with(0, with_writer(writer()), all)
                    })
                    .unwrap();
            }
            for changed in [&mut training, &mut resumed] {
                if evaluating {
                    assert_eq!(changed.bits(), bits, "at x still");
                    changed.with_parameters(|optimizer, all| optimizer.train(all)).unwrap();
                }
                assert_eq!(changed.bits() != y, weight != 0.9, "{weight}: y moves, if it has to");
                let off = x_of(changed)
                    .iter()
                    .zip(&x)
                    .map(|(a, b)| (a - b).abs() / (1.0 + b.abs()))
                    .fold(0.0, f64::max);
                assert!(off <= tolerance / weight, "{weight} {evaluating}: x moved by {off:e}");
                assert!(z_of(changed) == z, "z stays");
            }
            assert_eq!(resumed.bits(), training.bits());
            resumed.t = training.t;
            training.steps(2);
            resumed.steps(2);
            assert_eq!(resumed.bits(), training.bits());
        }
    }
}

/// ipex-llm#347: another beta1 on resume ruined x, silently.
#[test]
fn another_beta1_or_no_averaging_keeps_x_and_moves_y() {
    x_and_z_stay::<f32>(1e-6);
    x_and_z_stay::<bf16>(2e-2);
}

#[test]
fn averaging_that_begins_late_begins_at_the_parameters() {
    let shapes = [(Run::name(0), &[40, 33][..]), (Run::name(1), &[7])];
    let mut training = trained(true);
    training.optimizer = Optimizer::new(with_writer(boxed(Descent::default())), shapes).unwrap();
    training.steps(3);
    let y = training.bits();
    training.optimizer.replace_chain(0, with_writer(boxed(ScheduleFree::new(0.9)))).unwrap();
    assert_eq!(training.bits(), y);
    assert_eq!(training.x(0).unwrap(), training.values[0]);
}

#[test]
fn every_hyperparameter_that_differs_from_the_snapshots_is_named() {
    let training = trained(true);
    let bytes = checkpoint::to_bytes(&training.optimizer).unwrap();
    let options =
        json!({"d0": 2.0 * D0, "betas": [0.9, 0.999], "use_adopt": true, "use_cautious": true, "lr": 0.5});
    let run = Run::new(options, &[&[40, 33], &[7]]);
    let mut target = Training::<f32, f32>::new(&run).unwrap();
    let restored = checkpoint::from_bytes(&bytes, &mut target.optimizer).unwrap();
    insta::assert_snapshot!(restored.changed.join("\n"));
}

/// Two groups of two parameters each, trained to different d, with a second group that begins with `second`.
fn two_groups(order: [usize; 2]) -> Optimizer {
    let names = [["encoder/w", "encoder/b"], ["decoder/w", "decoder/b"]];
    let settings = gradient_transform::Settings {
        split_groups: gradient_transform::SplitGroups::Each,
        ..gradient_transform::Settings::default()
    };
    let group = |index: usize| {
        let chain =
            (FactoredMoment::new(0.99), Prodigy { d0: D0, ..Prodigy::default() }, ScheduleFree::default());
        gradient_transform::ParameterGroup::new(chain, names[index].map(|name| (name, &[6][..])))
    };
    Optimizer::with_groups(order.map(group), settings).unwrap()
}

fn train(optimizer: &mut Optimizer, scale: impl Fn(&str) -> f32, steps: usize) {
    let names: Vec<String> = optimizer.names().map(str::to_owned).collect();
    let mut values = vec![[0.5_f32; 6]; names.len()];
    for _ in 0..steps {
        let gradients: Vec<[f32; 6]> =
            names.iter().zip(&values).map(|(name, v)| v.map(|v| v - 0.5 - scale(name))).collect();
        let parameters = values.iter_mut().zip(&gradients);
        let mut parameters: Vec<_> = parameters.map(|(v, g)| Parameter::slice(v, Some(g))).collect();
        optimizer.step(&mut parameters).unwrap();
    }
}

fn far_decoder(name: &str) -> f32 {
    if name.starts_with("decoder") { 1.0 } else { 0.01 }
}

/// schedule_free#32: in the other order, the decoder got the encoder's d.
#[test]
fn groups_of_a_checkpoint_are_found_by_their_parameters() {
    let mut saved = two_groups([0, 1]);
    train(&mut saved, far_decoder, 30);
    let (encoder, decoder) = (saved.estimate(0).unwrap(), saved.estimate(1).unwrap());
    assert!(decoder.d > 3.0 * encoder.d);
    let bytes = checkpoint::to_bytes(&saved).unwrap();
    let mut swapped = two_groups([1, 0]);
    let restored = checkpoint::from_bytes(&bytes, &mut swapped).unwrap();
    assert_eq!(restored, Restored::default());
    assert_eq!((swapped.estimate(0).unwrap(), swapped.estimate(1).unwrap()), (decoder, encoder));
    assert_eq!(swapped.snapshot().tensors, saved.snapshot().tensors);
}

/// Groups of the given parameters.
fn grouped(groups: &[&[&'static str]]) -> Optimizer {
    let group = |names: &&[&'static str]| {
        let chain =
            (FactoredMoment::new(0.99), Prodigy { d0: D0, ..Prodigy::default() }, ScheduleFree::default());
        gradient_transform::ParameterGroup::new(chain, names.iter().map(|name| (*name, &[6][..])))
    };
    Optimizer::with_groups(groups.iter().map(group), gradient_transform::Settings::default()).unwrap()
}

fn partly() -> RestoreOptions<'static, 'static> {
    RestoreOptions { partly: true, parameters: None }
}

/// SimpleTuner#1497: a checkpoint with more, or fewer, parameters than there are.
#[test]
fn missing_parameters_and_groups_are_refused_unless_asked_for_and_then_named() {
    let mut saved = grouped(&[&["a", "b"], &["c"]]);
    train(&mut saved, |_| 1.0, 30);
    let bytes = checkpoint::to_bytes(&saved).unwrap();
    let cases: [(&str, &[&[&str]]); 5] = [
        ("fewer parameters", &[&["a"], &["c"]]),
        ("fewer groups", &[&["a", "b"]]),
        ("more groups", &[&["a", "b"], &["c"], &["d"]]),
        ("joined groups", &[&["a", "b", "c"]]),
        ("a split group", &[&["a"], &["b"], &["c"]]),
    ];
    let mut said = String::new();
    for (what, groups) in cases {
        let mut target = grouped(groups);
        let before = target.snapshot();
        let refused = checkpoint::from_bytes(&bytes, &mut target).unwrap_err();
        assert!(target.snapshot() == before, "{what}");
        let restored = checkpoint::from_bytes_with(&bytes, &mut target, partly()).unwrap();
        let Restored { new_parameters, left_out, regrouped, .. } = &restored;
        said += &format!(
            "{what}\n  {refused}\n  new {new_parameters:?}, left out {left_out:?}, regrouped {regrouped:?}\n"
        );
        // d goes on, and does not jump.
        let d = saved.estimate(0).unwrap().d;
        assert_eq!(target.estimate(0).unwrap().d, d, "{what}");
        train(&mut target, |_| 0.0, 5);
        assert!(target.estimate(0).unwrap().d < 1.5 * d, "{what}: {:?}", target.estimate(0));
    }
    insta::assert_snapshot!(said);
}

#[test]
fn a_parameter_that_changed_its_group_is_an_error_that_names_both() {
    let mut saved = grouped(&[&["a", "b"], &["c", "d", "e"]]);
    train(&mut saved, |_| 1.0, 5);
    let bytes = checkpoint::to_bytes(&saved).unwrap();
    let mut target = grouped(&[&["a", "b", "e"], &["c", "d"]]);
    let error = checkpoint::from_bytes(&bytes, &mut target).unwrap_err().to_string();
    assert!(error.contains("`e` was in group 1 with `c`, and is in group 0 here"), "{error}");
    let restored = checkpoint::from_bytes_with(&bytes, &mut target, partly()).unwrap();
    assert_eq!(restored.regrouped, ["`e` was in group 1 with `c`, and is in group 0 here"]);
    // The second group's sums were of `e` too.
    let numerators = [0, 1].map(|group| target.estimate(group).unwrap().numerator);
    assert_eq!(numerators, [saved.estimate(0).unwrap().numerator, 0.0]);
}

#[test]
fn a_moment_in_another_type_is_converted() {
    let run = |wide: bool| Run::new(json!({"d0": D0, "factored_fp32": wide}), &[&[40, 33]]);
    let row = |training: &Training<f32, bf16>| {
        training.optimizer.snapshot().tensors[&Run::name(0)].arrays["factored-moment/row"].clone()
    };
    for wide in [true, false] {
        let mut saved = Training::<f32, bf16>::new(&run(!wide)).unwrap();
        saved.steps(5);
        let bytes = checkpoint::to_bytes(&saved.optimizer).unwrap();
        let mut target = Training::<f32, bf16>::new(&run(wide)).unwrap();
        let restored = checkpoint::from_bytes(&bytes, &mut target.optimizer).unwrap();
        let to = if wide { "bfloat16 to float32" } else { "float32 to bfloat16" };
        let named = |array: &str| format!("parameter 0/factored-moment/{array}: {to}");
        assert_eq!(restored.converted, [named("row"), named("col")]);
        assert!(restored.changed[0].contains("FactoredMoment.storage"), "{:?}", restored.changed);

        // By a chain in place too.
        let storage = if wide { Storage::Compute } else { Storage::Parameter };
        let moment = FactoredMoment { storage, ..FactoredMoment::new(0.99) };
        let mut replaced = Training::<f32, bf16>::new(&run(!wide)).unwrap();
        replaced.steps(5);
        replaced
            .optimizer
            .replace_chain(0, (moment, StableAdamW, prodigy(), ScheduleFree::default()))
            .unwrap();
        let before = row(&replaced);
        target.values.clone_from(&saved.values);
        target.t = saved.t;
        target.steps(1);
        replaced.steps(1);
        assert_eq!(target.bits(), replaced.bits());
        assert_eq!(row(&target).dtype(), if wide { DType::F32 } else { DType::Bf16 });
        // It went on from the values, and did not begin anew.
        for i in 0..before.len() {
            let ratio = row(&target).get::<f64>(i) / before.get::<f64>(i);
            assert!((0.5..2.0).contains(&ratio), "{i}: {ratio}");
        }
    }
}
