//! Readable tables of short trajectories: what a change does to the optimizer under each option, and to transforms of the engine's
//! own. Those of each other transform are beside its laws.

use factored_moment::DenseMoment;
use focus::Weight;
use gradient_transform::{Descent, MomentScale, map, only_for, rescale};
use half::bf16;
use prodigy_core::{Negative, Point, Ratio, Weighting};
use prodigy_plus::{Line, Options, ProdigyPlus};
use transform_laws::snapshot;
use transform_laws::table::{SHAPES, of_optimizer};

transform_laws::snapshots! {
    descent: lr 0.1, (), Descent::with_decay(0.1);
    /// An elementwise transform of a user's own, and one with a sum.
    closures: lr 0.1,
        (map!("cube", |u| u * u * u), rescale!("unit-norm", |u| u * u, |sum, _| 1.0 / sum.sqrt())),
        Descent::default();
    only_for_matrices_of_two_rows: lr 0.1,
        (only_for(|tensor| tensor.shape[0] == 2, DenseMoment::new(0.9))), Descent::default();
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
            let optimizer = $options.build_in(SHAPES).unwrap();
            let chain = format!("{}: {}", stringify!($options), optimizer.describe_chain(0, &[33, 2]).unwrap());
            snapshot!(concat!("option_", stringify!($test)), chain, of_optimizer::<f64, f64>(optimizer).unwrap());
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
    snapshot!(name, "d0 1e-2, groups with lr 1 and 2", of_optimizer::<f64, f64>(optimizer).unwrap());
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
    snapshot!(name, format!("bfloat16, d0 0.1, {set}"), of_optimizer::<f32, bf16>(optimizer).unwrap());
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
