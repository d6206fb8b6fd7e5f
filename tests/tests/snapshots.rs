//! Readable tables of short trajectories: what a change does to every transform, and to the optimizer under each option.
//!
//! `cargo test` compares with the files in `snapshots/`; a difference fails the test, and (except on CI) writes the new table
//! beside the old one as `.snap.new`. After a look at the difference, `cargo insta accept` or `INSTA_UPDATE=always cargo test`
//! takes the new tables over.
//!
//! Two tensors are shown: `w`, 2 x 3, element by element, and `f`, 33 x 2, which is factored, by its norms. For each step there are
//!
//! - the gradient and the update: what the chain makes of the gradient before the writer takes it;
//! - the parameter's way since the start, and Schedule-Free's z likewise;
//! - all other state, by its checkpoint key;
//! - of the group: the estimate and the step size.
//!
//! Everything is computed in float64 and shown to four digits, so that neither another instruction set nor another order of
//! summation shows, but for the tables in bfloat16.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use adopt::Adopt;
use cautious::Cautious;
use conformance::pair::Stored;
use elementary::{
    AdEMAMix, AdaBelief, AdaDelta, AdaGrad, AdaMax, Adam, AdamMoment, Adan, AdaptiveClip, AmsGrad,
    CautiousUpdate, Centralise, CentredRms, ClipByNorm, ClipByValue, DecayToStart, Ema, GramsUpdate, Lion,
    Lookahead, Mars, Momentum, NAdam, Optimistic, ParameterScale, RAdam, Rprop, Schedule, Scheduled, Sign,
    TrustRatio, UnitNorm, WeightDecay, Yogi,
};
use factored_moment::{DenseMoment, Division, FactoredMoment, Rectify};
use focus::{Focus, Weight};
use gradient_transform::{
    Buffer, Context, Descent, Link, MomentScale, Optimizer, Parameter, Real, StepOutcome, Sums, Tile, map,
    only_for, rescale,
};
use grams::Grams;
use half::bf16;
use muon_pp::{Coefficients, Muon, Normalisation, Scale};
use orthograd::OrthoGrad;
use prodigy_core::{Negative, Point, Prodigy, Ratio, Samples, Weighting};
use prodigy_plus::{Line, Options, ProdigyPlus};
use schedule_free::ScheduleFree;
use speed::Speed;
use stableadamw::StableAdamW;

const STEPS: usize = 6;

/// Start and mean gradient of `w`.
const W: [f64; 6] = [0.7, -1.1, 0.3, -0.4, 1.3, -0.9];
const MEAN: [f64; 6] = [0.9, -0.35, 1.7, -0.13, 0.21, 0.57];

const SHAPES: [(&str, &[usize]); 2] = [("w", &[2, 3]), ("f", &[33, 2])];

fn init() -> [Vec<f64>; 2] {
    [W.to_vec(), (0..66).map(|i| 0.8 * (1.3 * f64::from(i)).cos()).collect()]
}

/// Gradients at step `t`, from 1: a mean for every element and a wave across them. The fourth step goes the other way,
/// and in the sixth `f` has none.
fn gradients(t: usize) -> [Option<Vec<f64>>; 2] {
    let turn = if t == 4 { -0.7 } else { 1.0 };
    let wave = |i: usize| 0.3 * (2.1 * t as f64 + 0.9 * i as f64).sin();
    let w = (0..6).map(|i| turn * MEAN[i] + wave(i)).collect();
    let f = (0..66).map(|i| turn * (0.2 + 0.1 * (i % 7) as f64) + wave(i)).collect();
    [Some(w), (t != 6).then_some(f)]
}

/// Four digits, in nine characters.
fn number(x: f64) -> String {
    // What should be 0 may be a rounding error; the numbers here are far larger.
    if x.abs() < 1e-14 { format!("{:>10}", 0) } else { format!("{x:>10.3e}") }
}

/// A line of numbers: all of them if there are a few, or else their norm, smallest and largest.
fn line(table: &mut String, name: &str, values: &[f64]) {
    let _ = write!(table, "  {name:<24}");
    if values.is_empty() {
        table.push_str("none");
    } else if values.len() <= 6 {
        values.iter().for_each(|&x| table.push_str(&number(x)));
    } else {
        let norm = values.iter().map(|x| x * x).sum::<f64>().sqrt();
        let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(l, m), &x| (l.min(x), m.max(x)));
        let _ = write!(table, "{}  in [{}, {}]", number(norm), number(least).trim(), number(most).trim());
    }
    table.push('\n');
}

fn wide(buffer: &Buffer) -> Vec<f64> {
    (0..buffer.len()).map(|i| buffer.get(i)).collect()
}

/// Updates of the last step, by tensor.
type Updates = Arc<Mutex<BTreeMap<String, Vec<f64>>>>;

/// Looks at the update in the last sweep, and leaves it as it is.
#[derive(Debug)]
struct Probe(Updates);

impl<T: Real> Link<T> for Probe {
    fn name(&self) -> &str {
        "probe"
    }

    fn commit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, _sums: Sums<'_, T>) {
        let mut updates = self.0.lock().unwrap();
        updates
            .entry(cx.tensor.name.clone())
            .or_default()
            .extend(tile.update.values().iter().map(|u| u.f64()));
    }
}

/// The trajectory of an optimizer, step by step, with parameters and gradients of type `E`. `updates` are those that a
/// probe in its chain has seen, if there is one.
fn table<T: Real, E: Stored>(mut optimizer: Optimizer<T>, updates: Option<&Updates>) -> String {
    let mut table = String::new();
    let stored = |values: &[f64]| values.iter().map(|&x| E::of(x)).collect::<Vec<E>>();
    let start = init().map(|values| stored(&values));
    let mut values = start.clone();
    for t in 1..=STEPS {
        if let Some(updates) = updates {
            updates.lock().unwrap().clear();
        }
        let gradients = gradients(t).map(|g| g.map(|g| stored(&g)));
        let mut parameters: Vec<Parameter<'_>> =
            values.iter_mut().zip(&gradients).map(|(v, g)| Parameter::slice(v, g.as_deref())).collect();
        assert_eq!(optimizer.step(&mut parameters), Ok(StepOutcome::Done));
        let _ = writeln!(table, "step {t}");
        let snapshot = optimizer.snapshot();
        for (i, (name, _)) in SHAPES.iter().enumerate() {
            let _ = writeln!(table, " {name}");
            let gradient: Vec<f64> = gradients[i].iter().flatten().map(|&g| E::f64(g)).collect();
            line(&mut table, "gradient", &gradient);
            if let Some(updates) = updates {
                let updates = updates.lock().unwrap();
                line(&mut table, "update", updates.get(*name).map_or(&[], Vec::as_slice));
            }
            let way = |values: &[f64]| -> Vec<f64> {
                values.iter().zip(&start[i]).map(|(y, &p)| y - E::f64(p)).collect()
            };
            line(&mut table, "y - start", &way(&values[i].iter().map(|&y| E::f64(y)).collect::<Vec<_>>()));
            for (key, array) in snapshot.tensors.get(*name).iter().flat_map(|saved| &saved.arrays) {
                match key.as_str() {
                    // Some of the start's elements.
                    "prodigy/p0" | "speed/p0" => assert_eq!(array.get::<f64>(0), E::f64(start[i][0])),
                    "schedule-free/z" => line(&mut table, "schedule-free/z - start", &way(&wide(array))),
                    _ => line(&mut table, key, &wide(array)),
                }
            }
        }
        for (i, group) in snapshot.groups.iter().enumerate() {
            let _ = writeln!(table, " group {i}");
            let step = optimizer.latest_step(i).unwrap();
            line(&mut table, "step size", &[step.step_size]);
            if let Some(estimate) = group.estimate {
                line(&mut table, "d, next", &[estimate.d]);
                line(&mut table, "numerator, denominator", &[estimate.numerator, estimate.denominator]);
            }
            for (key, &scalar) in &group.scalars {
                line(&mut table, key, &[scalar]);
            }
        }
    }
    table
}

/// Compares with the file of that name.
fn compare(name: &str, chain: &str, table: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_description(chain);
    settings.bind(|| insta::assert_snapshot!(name, table));
}

/// A test for each chain: `before` the writer, the writer, and what is `behind` it; the update is looked at before the
/// writer.
macro_rules! transforms {
    ($($(#[$note:meta])* $test:ident: lr $lr:literal, ($($before:expr),*), $writer:expr $(, $behind:expr)?;)+) => {
        $($(#[$note])*
        #[test]
        fn $test() {
            let updates = Updates::default();
            let chain = ($($before,)* Probe(Arc::clone(&updates)), $writer, $($behind)?);
            let mut optimizer = Optimizer::new(chain, SHAPES).unwrap();
            optimizer.set_lr(0, $lr).unwrap();
            let chain = concat!(stringify!($($before | )* $writer $(| $behind)?), ", lr ", $lr);
            compare(stringify!($test), chain, &table::<f64, f64>(optimizer, Some(&updates)));
        })+
    };
}

fn prodigy() -> Prodigy {
    Prodigy { samples: Samples { every: 2, ..Samples::new(0.9) }, d0: 1e-3, ..Prodigy::new(0.9) }
}

transforms! {
    adopt: lr 0.1, (Adopt::new(FactoredMoment::new(0.9))), Descent::default();
    atan2_dense: lr 0.1,
        (DenseMoment { division: Division::Atan2, ..DenseMoment::new(0.9) }), Descent::default();
    atan2_factored: lr 0.1,
        (FactoredMoment { division: Division::Atan2, ..FactoredMoment::new(0.9) }), Descent::default();
    cautious: lr 0.1, (), ScheduleFree::new(0.9), Cautious::default();
    dense_moment: lr 0.1, (DenseMoment::new(0.9)), Descent::default();
    descent: lr 0.1, (), Descent::with_decay(0.1);
    factored_moment: lr 0.1, (FactoredMoment::new(0.9)), Descent::default();
    focus: lr 0.1, (Focus::new(0.9)), Descent::default();
    grams: lr 0.1, (), ScheduleFree::new(0.9), Grams;
    /// An elementwise transform of a user's own, and one with a sum.
    closures: lr 0.1,
        (map("cube", |_, u: f64, _, _| u * u * u), rescale("unit-norm", |u: f64| u * u, |sum, _| 1.0 / sum.sqrt())),
        Descent::default();
    muon: lr 0.1, (Muon::new(0.9)), Descent::default();
    muon_first_update: lr 0.1,
        (Muon { normalisation: Normalisation::FirstUpdate, ..Muon::new(0.9) }), Descent::default();
    muon_of_nesterov: lr 0.1, (Muon::default()), Descent::default();
    muon_by_the_polar_express: lr 0.1,
        (Muon {
            nesterov: false,
            coefficients: Coefficients::PolarExpress,
            scale: Scale::MatchAdam,
            ..Muon::default()
        }),
        Descent::default();
    muon_of_normalised_neurons: lr 0.1,
        (Muon { normalisation: Normalisation::Neurons, ..Muon::default() }), Descent::default();
    only_for_matrices_of_two_rows: lr 0.1,
        (only_for(|tensor| tensor.shape[0] == 2, DenseMoment::new(0.9))), Descent::default();
    orthograd: lr 0.1, (OrthoGrad::default()), ScheduleFree::new(0.9);
    /// d is found from plain descent's way, so its first steps are small.
    prodigy_alone: lr 1.0, (prodigy()), Descent::default();
    /// d moves before the fourth step, and its memory is freed in it.
    prodigy_stopped: lr 1.0,
        (DenseMoment::new(0.9), Prodigy { prodigy_steps: 4, ..prodigy() }), Descent::default();
    rectify: lr 0.1, (Rectify::new(0.9), DenseMoment::new(0.9)), Descent::default();
    schedule_free: lr 0.1, (), ScheduleFree::new(0.9);
    schedule_free_decay_by_lr: lr 0.1, (), ScheduleFree { weight_decay: 0.1, ..ScheduleFree::new(0.9) };
    schedule_free_decay_outside: lr 0.1, (),
        ScheduleFree { weight_decay: 0.1, weight_decay_by_lr: false, ..ScheduleFree::new(0.9) };
    speed: lr 1.0,
        (DenseMoment::new(0.9), Speed { prodigy: prodigy(), ..Speed::new(0.9) }), Descent::default();
    stableadamw: lr 0.1, (map("times-10", |_, u: f64, _, _| 10.0 * u), StableAdamW), Descent::default();
    elementary_adabelief: lr 0.1, (AdaBelief::default()), Descent::default();
    elementary_adadelta: lr 0.1, (AdaDelta::default()), Descent::default();
    elementary_adagrad: lr 0.1, (AdaGrad::default()), Descent::default();
    elementary_adam: lr 0.1, (Adam::default()), Descent::default();
    elementary_adam_moment: lr 0.1, (AdamMoment::default()), Descent::default();
    elementary_adamax: lr 0.1, (AdaMax::default()), Descent::default();
    elementary_adan: lr 0.1, (Adan::default()), Descent::default();
    elementary_adaptive_clip: lr 0.1, (AdaptiveClip { limit: 0.5, ..AdaptiveClip::default() }), Descent::default();
    elementary_ademamix: lr 0.1, (AdEMAMix { warm_up: 5, ..AdEMAMix::default() }), Descent::default();
    elementary_amsgrad: lr 0.1, (AmsGrad::default()), Descent::default();
    elementary_centralise: lr 0.1, (Centralise), Descent::default();
    elementary_centred_rms: lr 0.1, (CentredRms::default()), Descent::default();
    elementary_clip_by_norm: lr 0.1, (ClipByNorm::default()), Descent::default();
    elementary_clip_by_value: lr 0.1, (ClipByValue { limit: 0.5, growth: 0.25 }), Descent::default();
    elementary_ema: lr 0.1, (Ema::default()), Descent::default();
    elementary_lion: lr 0.1, (Lion::default()), Descent::default();
    elementary_mars: lr 0.1, (Mars { gamma: 0.1, beta1: 0.9 }), Descent::default();
    elementary_momentum: lr 0.1, (Momentum { nesterov: true, ..Momentum::default() }), Descent::default();
    elementary_nadam: lr 0.1, (NAdam::default()), Descent::default();
    elementary_optimistic: lr 0.1, (Optimistic::default()), Descent::default();
    elementary_parameter_scale: lr 0.1, (ParameterScale::default()), Descent::default();
    elementary_radam: lr 0.1, (RAdam { threshold: 4.0, beta2: 0.9, ..RAdam::default() }), Descent::default();
    elementary_rprop: lr 0.1, (Rprop::default()), Descent::default();
    elementary_schedule: lr 0.1, (Scheduled { schedule: Schedule::warm_up(3).for_steps(3).then(Schedule::cosine(1.0, 0.0, 3)) }), Descent::default();
    elementary_sign: lr 0.1, (Sign), Descent::default();
    elementary_trust_ratio: lr 0.1, (TrustRatio::default()), Descent::default();
    elementary_unit_norm: lr 0.1, (UnitNorm::default()), Descent::default();
    elementary_yogi: lr 0.1, (Yogi::default()), Descent::default();
    elementary_cautious_update: lr 0.1, (Momentum::default(), CautiousUpdate), Descent::default();
    elementary_decay: lr 0.1,
        (WeightDecay { rate: 0.1, cautious: true, least_rank: 2 }, DecayToStart { rate: 0.1 }), Descent::default();
    elementary_grams_update: lr 0.1, (Momentum::default(), GramsUpdate), Descent::default();
    elementary_lookahead: lr 0.1, (), Lookahead { period: 3, alpha: 0.5 };
}

/// Options under which d moves within the six steps.
fn moving() -> Options {
    ProdigyPlus::builder().d0(1e-2)
}

macro_rules! options {
    ($($(#[$note:meta])* $test:ident: $options:expr;)+) => {
        /// What the tests below set, as text.
        const SET: &[&str] = &[$(stringify!($options)),+];

        $($(#[$note])*
        #[test]
        fn $test() {
            let optimizer = $options.build(SHAPES).unwrap();
            let chain = format!("{}: {}", stringify!($options), optimizer.describe_chain(0, &[33, 2]).unwrap());
            compare(concat!("option_", stringify!($test)), &chain, &table::<f64, f64>(optimizer, None));
        })+
    };
}

options! {
    defaults: ProdigyPlus::builder();
    a_larger_d0: moving();
    lr: moving().lr(0.3);
    betas: moving().betas((0.95, 0.999));
    beta3: moving().beta3(Some(0.5));
    weight_decay: moving().weight_decay(0.1);
    weight_decay_by_lr: moving().weight_decay(0.1).weight_decay_by_lr(false);
    /// With this beta2 the variance is tractable from the fifth step on.
    use_bias_correction: moving().use_bias_correction(true);
    d0: ProdigyPlus::builder().d0(0.1);
    d_coef: moving().d_coef(2.0);
    prodigy_steps: moving().prodigy_steps(3);
    use_speed: moving().use_speed(true);
    eps: moving().eps(Some(0.1));
    eps_none: moving().eps(None);
    factored: moving().factored(false);
    use_stableadamw: moving().use_stableadamw(false);
    use_muon_pp: moving().use_muon_pp(true);
    muon_bf16_iterations: moving().use_muon_pp(true).muon_bf16_iterations(true);
    use_muon_pp_with_speed: moving().use_muon_pp(true).use_speed(true);
    use_cautious: moving().use_cautious(true);
    use_grams: moving().use_grams(true);
    use_adopt: moving().use_adopt(true);
    use_orthograd: moving().use_orthograd(true);
    use_focus: moving().use_focus(true);
    second_line: moving().line(Line::V2);
    use_schedulefree: moving().use_schedulefree(false);
    schedulefree_c: moving().schedulefree_c(8.0);
    soft_stableadamw: moving().soft_stableadamw(true);
    d_limiter: moving().d_limiter(true);
    prodigy_weighting: moving().prodigy_weighting(Weighting::Squared);
    prodigy_ratio: moving().prodigy_ratio(Ratio::Quotient);
    prodigy_negative: moving().prodigy_negative(Negative::Adds);
    prodigy_at: moving().prodigy_at(Point::Base);
    moment_scale: moving().moment_scale(MomentScale::Weighted);
    unit_atan2: moving().eps(None).unit_atan2(true);
    orthograd_on_update: moving().use_orthograd(true).orthograd_on_update(true);
    displacement_speed: moving().use_speed(true).displacement_speed(true);
    focus_of: moving().use_focus(true).focus_of(Weight::Base);
}

/// `w` and `f` in groups of their own, of which the second has twice the learning rate.
fn in_two_groups(name: &str, base: Options) {
    let groups = SHAPES.iter().zip([1.0, 2.0]).map(|(&shape, lr)| (base.clone().lr(lr), [shape]));
    let optimizer = base.build_groups(groups).unwrap();
    compare(name, "d0 1e-2, groups with lr 1 and 2", &table::<f64, f64>(optimizer, None));
}

#[test]
fn split_groups_and_their_harmonic_mean() {
    in_two_groups("option_split_groups", moving());
}

#[test]
fn split_groups_without_their_mean() {
    in_two_groups("option_split_groups_mean", moving().split_groups_mean(false));
}

#[test]
fn one_estimate_for_all_groups() {
    in_two_groups("option_split_groups_off", moving().split_groups(false));
}

/// Parameters and gradients in bfloat16, with steps that its digits can hold.
fn in_bfloat16(name: &str, set: &str, options: &Options) {
    let optimizer = options.clone().d0(0.1).build(SHAPES).unwrap();
    compare(name, &format!("bfloat16, d0 0.1, {set}"), &table::<f32, bf16>(optimizer, None));
}

#[test]
fn bfloat16_parameters_with_stochastic_rounding() {
    in_bfloat16("option_stochastic_rounding", "stochastic rounding", &ProdigyPlus::builder());
}

#[test]
fn bfloat16_parameters_with_stochastic_rounding_by_another_seed() {
    in_bfloat16("option_seed", "stochastic rounding, seed 1", &ProdigyPlus::builder().seed(1));
}

#[test]
fn bfloat16_parameters_with_rounding_to_nearest() {
    let options = ProdigyPlus::builder().stochastic_rounding(false);
    in_bfloat16("option_stochastic_rounding_off", "rounding to nearest", &options);
}

#[test]
fn bfloat16_parameters_with_bfloat16_row_and_column_means() {
    let options = ProdigyPlus::builder().stochastic_rounding(false).factored_fp32(false);
    in_bfloat16("option_factored_fp32", "rounding to nearest, factored_fp32 off", &options);
}

#[test]
fn every_option_has_a_table_or_a_reason_for_having_none() {
    const NONE: [(&str, &str); 3] = [
        ("fused_back_pass", "has no effect"),
        ("compat", "changes what the conformance cases are about"),
        ("non_finite", "matters to gradients that aren't finite only"),
    ];
    const ELSEWHERE: [&str; 5] =
        ["split_groups", "split_groups_mean", "stochastic_rounding", "factored_fp32", "seed"];
    let serde_json::Value::Object(all) = serde_json::to_value(Options::default()).unwrap() else {
        panic!("options are an object");
    };
    for name in all.keys() {
        let set = SET.iter().any(|set| set.replace(' ', "").contains(&format!(".{name}(")));
        let known = NONE.iter().any(|(none, _)| none == name) || ELSEWHERE.contains(&name.as_str());
        assert!(set || known, "option `{name}` has no table");
    }
}
