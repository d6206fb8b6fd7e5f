//! Trajectories of PyTorch's and optax's own code: `tests/golden/chains.json`, made by `chains.py` in the
//! same folder.
//!
//! Where a definition differs, the tolerance is looser, and the case says why.

use std::collections::BTreeMap;

use elementary::*;
use factored_moment::FactoredMoment;
use gradient_transform::{Descent, Link, Loss, Optimizer, Parameter, Result, StepOutcome};
use named_optimizers as named;
use serde::Deserialize;

type Tensors = Vec<Vec<f64>>;

#[derive(Deserialize)]
struct Golden {
    shapes: Vec<Vec<usize>>,
    init: Tensors,
    gradients: Vec<Tensors>,
    #[serde(default)]
    plateau_losses: Vec<f64>,
    #[serde(default)]
    curvatures: Vec<Tensors>,
    y: BTreeMap<String, Vec<Tensors>>,
    #[serde(default)]
    schedules: BTreeMap<String, Vec<f64>>,
    #[serde(default)]
    names: BTreeMap<String, Vec<String>>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../../tests/golden/chains.json")).unwrap()
}

/// The largest distance from the recorded trajectory, relative to the distance covered.
fn deviation(case: &str, lr: f64, chain: impl Link<f64> + 'static) -> f64 {
    deviation_by(case, lr, chain, |optimizer, parameters| optimizer.step(parameters))
}

/// The same by steps of another kind.
fn deviation_by(
    case: &str,
    lr: f64,
    chain: impl Link<f64> + 'static,
    mut step: impl FnMut(&mut Optimizer<f64>, &mut [Parameter<'_>]) -> Result<StepOutcome>,
) -> f64 {
    let golden = golden();
    let names = (0..golden.shapes.len()).map(|i| format!("p{i}"));
    let mut optimizer = Optimizer::new_in(chain, names.zip(golden.shapes.iter().map(Vec::as_slice))).unwrap();
    optimizer.set_lr(0, lr).unwrap();
    let mut values = golden.init.clone();
    let mut worst = 0.0_f64;
    for (gradients, expected) in golden.gradients.iter().zip(&golden.y[case]) {
        let mut parameters: Vec<Parameter<'_>> =
            values.iter_mut().zip(gradients).map(|(v, g)| Parameter::slice(v, Some(g))).collect();
        step(&mut optimizer, &mut parameters).unwrap();
        for ((ours, theirs), start) in values.iter().zip(expected).zip(&golden.init) {
            let way = theirs.iter().zip(start).fold(1e-9_f64, |way, (y, start)| way.max((y - start).abs()));
            let off = ours.iter().zip(theirs).fold(0.0_f64, |off, (a, b)| off.max((a - b).abs()));
            worst = worst.max(off / way);
        }
    }
    worst
}

macro_rules! cases {
    ($($(#[$note:meta])* $case:ident: lr $lr:literal, $tolerance:literal, $chain:expr;)+) => {
        const CASES: &[&str] = &[$(stringify!($case)),+];

        $($(#[$note])*
        #[test]
        fn $case() {
            let off = deviation(stringify!($case), $lr, $chain);
            assert!(off <= $tolerance, "off by {off:e}");
        })+
    };
}

/// Steps with the losses that the recorded one was given: 2, 1.85 and so on.
#[test]
fn polyak_s_step_size_is_optax_s() {
    for (case, polyak) in [
        ("optax_polyak_sgd", named::polyak_sgd().0),
        ("optax_polyak_sgd_plus", Polyak { least: 1.0, eps: 0.5, clamps: true, ..Polyak::default() }),
    ] {
        let mut losses = (0..).map(|step| Loss(2.0 - 0.15 * f64::from(step)));
        let off = deviation_by(case, 1.0, (polyak, descent()), |optimizer, parameters| {
            optimizer.step_with(losses.next().unwrap(), parameters)
        });
        assert!(off <= 1e-12, "{case}: off by {off:e}");
    }
}

/// At the evaluation point after every step.
#[test]
fn averages_of_weights_are_pytorchs_and_optaxs() {
    for (case, debias, start) in [("torch_weight_average", false, 1), ("optax_weight_average", true, 0)] {
        let average = WeightAverage { beta: 0.9, debias, start };
        let off = deviation_by(case, 0.1, average, |optimizer, parameters| {
            if optimizer.is_evaluating() {
                optimizer.train(parameters)?;
            }
            let outcome = optimizer.step(parameters)?;
            optimizer.eval(parameters)?;
            Ok(outcome)
        });
        assert!(off <= 1e-12, "{case}: off by {off:e}");
    }
}

#[test]
fn steps_are_reduced_on_a_plateau_as_optaxs_are() {
    let plateau = ReduceOnPlateau { factor: 0.5, patience: 2, ..ReduceOnPlateau::default() };
    let window =
        ReduceOnPlateau { patience: 1, cooldown: 1, window: 2, relative: 0.2, least: 0.3, ..plateau };
    for (case, plateau) in [("optax_plateau", plateau), ("optax_plateau_window", window)] {
        let mut losses = golden().plateau_losses.into_iter();
        let off = deviation_by(case, 0.1, (plateau, descent()), |optimizer, parameters| {
            optimizer.step_with(Loss(losses.next().unwrap()), parameters)
        });
        assert!(off <= 1e-12, "{case}: off by {off:e}");
    }
}

/// optax takes an estimate at steps 0, 3 and so on, and goes by it from the next step on; ours goes by it at once, as the paper's algorithm.
#[test]
fn sophia_is_optaxs_a_step_later() {
    let sophia = Sophia { beta1: 0.965, debias: true, ..Sophia::default() };
    let chain = (sophia, WeightDecay::default(), descent());
    let curvatures = golden().curvatures;
    let (mut steps, mut estimates) = (0.., curvatures.iter());
    let off = deviation_by("optax_sophia", 0.1, chain, |optimizer, parameters| {
        if steps.next().is_some_and(|step| step % 3 == 1) {
            for (index, estimate) in estimates.next().unwrap().iter().enumerate() {
                optimizer.give_array(index, estimate)?;
            }
        }
        optimizer.step(parameters)
    });
    assert!(off <= 1e-12, "off by {off:e}");
}

fn descent() -> Descent {
    Descent::default()
}

cases! {
    torch_sgd: lr 0.1, 1e-12, named::sgd();
    torch_sgd_nesterov_decay: lr 0.1, 1e-12,
        (WeightDecay { rate: 0.1, ..WeightDecay::default() }, Momentum { nesterov: true, ..Momentum::default() }, descent());
    torch_adam: lr 0.1, 1e-12, named::adam();
    torch_adamw: lr 0.1, 1e-12, named::adamw();
    torch_amsgrad: lr 0.1, 1e-12, named::amsgrad();
    torch_nadam: lr 0.1, 1e-12, named::nadam();
    /// PyTorch adds eps to the root of the moment before it is debiased.
    torch_radam: lr 0.1, 1e-6, named::radam();
    torch_adamax: lr 0.1, 1e-12, named::adamax();
    torch_adagrad: lr 0.1, 1e-12, named::adagrad();
    torch_adadelta: lr 1.0, 1e-12, named::adadelta();
    torch_rmsprop: lr 0.1, 1e-12, named::rmsprop();
    torch_rmsprop_centred_momentum: lr 0.1, 1e-12, (CentredRms::default(), Momentum::default(), descent());
    torch_rprop: lr 1.0, 1e-12, named::rprop();
    optax_sgd_nesterov: lr 0.1, 1e-12, (Momentum { nesterov: true, ..Momentum::default() }, descent());
    optax_adam: lr 0.1, 1e-12, named::adam();
    optax_adamw_masked: lr 0.1, 1e-12,
        (Adam::default(), WeightDecay { least_rank: 2, ..WeightDecay::default() }, descent());
    optax_graft: lr 0.1, 1e-12,
        (
            Graft {
                size: Momentum { nesterov: true, ..Momentum::default() },
                direction: AdaGrad { initial: 0.1, eps: 1e-30 },
            },
            descent(),
        );
    optax_nadam: lr 0.1, 1e-12, (Adam { nesterov: true, ..Adam::default() }, descent());
    optax_amsgrad: lr 0.1, 1e-12, (AmsGrad { of_debiased: true, ..AmsGrad::default() }, descent());
    optax_radam: lr 0.1, 1e-12, named::radam();
    optax_adamax: lr 0.1, 1e-12, named::adamax();
    optax_adabelief: lr 0.1, 1e-12, named::adabelief();
    optax_ademamix: lr 0.1, 1e-12, (AdEMAMix::default(), descent());
    /// The larger of the root and eps divides there, and their sum here.
    optax_adopt: lr 0.1, 1e-4, {
        let (adopt, _, ema, descent) = named::adopt();
        (adopt, ema, descent)
    };
    optax_lion: lr 0.1, 1e-12, named::lion();
    optax_lamb: lr 0.1, 1e-12, named::lamb();
    optax_lars: lr 0.1, 1e-12, named::lars();
    optax_rmsprop: lr 0.1, 1e-12, named::rmsprop();
    optax_sign_sgd: lr 0.1, 1e-12, named::sign_sgd();
    optax_signum: lr 0.1, 1e-12, named::signum();
    optax_optimistic: lr 0.1, 1e-12, named::optimistic_gradient_descent();
    optax_ema: lr 0.1, 1e-12, (Ema::default(), descent());
    optax_clip: lr 0.1, 1e-12, (ClipByValue { limit: 0.5, growth: 0.0 }, descent());
    optax_clip_by_block_rms: lr 0.1, 1e-12,
        (ClipByNorm { limit: 0.5, of: Size::RootMeanSquare, ..ClipByNorm::default() }, descent());
    optax_adaptive_grad_clip: lr 0.1, 1e-12, (AdaptiveClip { limit: 0.1, eps: 1e-3 }, descent());
    optax_centralize: lr 0.1, 1e-12, (Centralise, descent());
    optax_param_block_rms: lr 0.1, 1e-12, (ParameterScale::default(), descent());
    optax_param_block_norm: lr 0.1, 1e-12, (ParameterScale { of: Size::Norm, ..ParameterScale::default() }, descent());
    optax_lookahead: lr 0.1, 1e-12, Lookahead { period: 3, alpha: 0.5 };
    /// There the first moment begins at the initial value too, which is 1e-6 by default.
    optax_yogi: lr 0.1, 1e-9, (Yogi { initial: 1e-12, ..Yogi::default() }, descent());
    optax_novograd: lr 0.1, 1e-12, named::novograd();
    optax_novograd_decay: lr 0.1, 1e-12, (NovoGrad { decay: 0.1, ..NovoGrad::default() }, descent());
    optax_distance_over_gradients: lr 1.0, 1e-12, named::l_dog();
    optax_distance_over_gradients_from_afar: lr 1.0, 1e-12,
        (DistanceOverGradients { relative: 0.1, eps: 1e-3, ..DistanceOverGradients::default() }, descent());
    /// With decay before the step, as PyTorch has it.
    torch_adafactor: lr 0.1, 1e-12, {
        let (decay, moment, clip, scale, _) = named::adafactor();
        let descent = Descent { decays_first: true, ..Descent::with_decay(0.1) };
        (decay, FactoredMoment { min_size: 1, ..moment }, clip, scale, descent)
    };
    /// optax calculates the decay in float32.
    optax_adafactor: lr 0.1, 1e-7, named::adafactor();
    optax_adafactor_factored: lr 0.1, 1e-7, {
        let (decay, moment, clip, scale, descent) = named::adafactor();
        (decay, FactoredMoment { min_size: 1, ..moment }, clip, scale, descent)
    };
    /// The same schedule, as factors of the learning rate 0.1. optax calculates it in float32.
    optax_scheduled: lr 0.1, 1e-6, {
        let schedule = Schedule::linear(0.2, 1.0, 4).for_steps(4).then(Schedule::cosine(1.0, 0.1, 5));
        (Scheduled { schedule }, Adam::default(), WeightDecay::default(), descent())
    };
}

/// PyTorch divides by the larger of the norm and eps, and this by their sum.
#[test]
fn muon_is_pytorchs_for_matrices_and_pytorchs_adam_for_a_vector() {
    let of_muon: Golden = serde_json::from_str(include_str!("../../../../tests/golden/muon.json")).unwrap();
    let of_adam = golden();
    let shapes = of_muon.shapes.iter().chain(&of_adam.shapes[..1]).map(Vec::as_slice);
    let names = (0..=of_muon.shapes.len()).map(|i| format!("p{i}"));
    let mut optimizer: Optimizer<f64> = Optimizer::new_in(named::muon(), names.zip(shapes)).unwrap();
    optimizer.set_lr(0, 0.1).unwrap();
    let mut values: Tensors = of_muon.init.iter().chain(&of_adam.init[..1]).cloned().collect();
    let expected = of_muon.y["weight_decay"].iter().zip(&of_adam.y["torch_adam"]);
    for (step, (matrices, others)) in expected.enumerate() {
        let gradients = of_muon.gradients[step].iter().chain(&of_adam.gradients[step][..1]);
        let mut parameters: Vec<Parameter<'_>> =
            values.iter_mut().zip(gradients).map(|(v, g)| Parameter::slice(v, Some(g))).collect();
        optimizer.step(&mut parameters).unwrap();
        for (ours, theirs) in values.iter().flatten().zip(matrices.iter().chain(&others[..1]).flatten()) {
            assert!((ours - theirs).abs() <= 1e-6, "step {step}: {ours} {theirs}");
        }
    }
}

#[derive(Deserialize)]
struct ScheduleFreeCase {
    shapes: Vec<Vec<usize>>,
    init: Tensors,
    gradients: Vec<Tensors>,
    y: Vec<Tensors>,
    lr: f64,
    beta2: Option<f64>,
    weight_decay: f64,
}

/// What the package `schedulefree` does with a warm-up over three steps: `tests/golden/literature.json`.
fn schedule_free_of_its_authors(section: &str, chain: impl Fn(&ScheduleFreeCase) -> Box<dyn Link<f64>>) {
    let text = include_str!("../../../../tests/golden/literature.json");
    let mut sections: serde_json::Value = serde_json::from_str(text).unwrap();
    let case: ScheduleFreeCase = serde_json::from_value(sections[section].take()).unwrap();
    let names = (0..case.shapes.len()).map(|i| format!("p{i}"));
    let warm_up = Scheduled { schedule: Schedule::warm_up(3) };
    let chain = (warm_up, chain(&case));
    let mut optimizer: Optimizer<f64> =
        Optimizer::new_in(chain, names.zip(case.shapes.iter().map(Vec::as_slice))).unwrap();
    optimizer.set_lr(0, case.lr).unwrap();
    let mut values = case.init.clone();
    for (gradients, expected) in case.gradients.iter().zip(&case.y) {
        let mut parameters: Vec<Parameter<'_>> =
            values.iter_mut().zip(gradients).map(|(v, g)| Parameter::slice(v, Some(g))).collect();
        optimizer.step(&mut parameters).unwrap();
        for (ours, theirs) in values.iter().flatten().zip(expected.iter().flatten()) {
            assert!((ours - theirs).abs() <= 1e-12, "{ours} {theirs}");
        }
    }
}

#[test]
fn schedule_free_sgd_is_its_authors_under_a_scheduled_warm_up() {
    schedule_free_of_its_authors("sgd_schedule_free", |case| {
        let mut chain = named::schedule_free_sgd();
        chain.weight_decay = case.weight_decay;
        Box::new(chain)
    });
}

#[test]
fn schedule_free_adamw_is_its_authors_under_a_scheduled_warm_up() {
    schedule_free_of_its_authors("adamw_schedule_free", |case| {
        let mut chain = named::schedule_free_adamw();
        chain.0.beta2 = case.beta2.unwrap();
        chain.1.weight_decay = case.weight_decay;
        Box::new(chain)
    });
}

#[test]
fn every_recorded_case_is_compared() {
    let golden = golden();
    let compared = |case: &str| {
        CASES.contains(&case)
            || case.starts_with("optax_polyak_sgd")
            || case.ends_with("_weight_average")
            || case == "optax_sophia"
            || case.starts_with("optax_plateau")
    };
    assert!(golden.y.keys().all(|case| compared(case)), "{:?}", golden.y.keys());
}

#[test]
fn schedules_have_optax_s_values() {
    let golden = golden();
    let ours: BTreeMap<&str, Schedule> = BTreeMap::from([
        ("linear", Schedule::linear(1.0, 0.1, 10)),
        ("polynomial", Schedule::Polynomial { from: 1.0, to: 0.1, steps: 10, power: 2.0 }),
        ("cosine", Schedule::cosine(1.0, 0.1, 10)),
        ("exponential", Schedule::Exponential { rate: 0.5, steps: 4, stairs: false }),
        ("stairs", Schedule::Exponential { rate: 0.5, steps: 4, stairs: true }),
        ("warm_up_cosine", Schedule::linear(0.1, 1.0, 5).for_steps(5).then(Schedule::cosine(1.0, 0.2, 7))),
        ("one_cycle", Schedule::one_cycle(12)),
        ("joined", Schedule::constant(0.5).for_steps(3).then(Schedule::linear(1.0, 0.0, 4))),
    ]);
    assert_eq!(ours.len(), golden.schedules.len());
    for (name, values) in &golden.schedules {
        for (step, expected) in (0..).zip(values) {
            let value = ours[name.as_str()].at(step);
            // optax calculates some of them in float32.
            assert!((value - expected).abs() <= 1e-6, "{name} at step {step}: {value} {expected}");
        }
    }
}

#[test]
fn the_table_of_the_book_has_all_of_optax_s_names() {
    let table = include_str!("../../../../book/src/how-to/optax.md");
    for (kind, names) in golden().names {
        let missing: Vec<&String> =
            names.iter().filter(|name| !table.contains(&format!("`{name}`"))).collect();
        assert!(missing.is_empty(), "{kind}: {missing:?}");
    }
}
