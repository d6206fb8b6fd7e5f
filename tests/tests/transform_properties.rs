//! One suite of properties, stamped on every transform: a row of the table below for each, and a test for each row and
//! property, so that a failure names both.

mod naive;
mod problem;
mod properties;

use std::collections::BTreeSet;
use std::path::Path;

use ::adopt::Adopt;
use ::cautious::Cautious;
use ::elementary::{
    AdEMAMix, AdaBelief, AdaDelta, AdaGrad, AdaMax, Adam, AdamMoment, Adan, AdaptiveClip, AmsGrad,
    CautiousUpdate, Centralise, CentredRms, ClipByNorm, ClipByValue, DecayToStart, Ema, GramsUpdate, Lion,
    Lookahead, Mars, Momentum, NAdam, Optimistic, ParameterScale, RAdam, Rprop, Schedule, Scheduled, Sign,
    Size, TrustRatio, UnitNorm, WeightDecay, Yogi,
};
use ::factored_moment::{DenseMoment, Division, FactoredMoment, Rectify};
use ::focus::Focus;
use ::grams::Grams;
use ::muon_pp::{Coefficients, Muon, Normalisation, Scale};
use ::orthograd::OrthoGrad;
use ::prodigy_core::{Prodigy, Samples};
use ::schedule_free::ScheduleFree;
use ::speed::Speed;
use ::stableadamw::StableAdamW;
use gradient_transform::{Descent, Link, Real, only_for};

use properties::Permutation::{Changes, Exact, Within};
use properties::Scale::{Invariant, Linear};
use properties::Zero::{Averages, Moves, MovesOn, Rebounds, StandsStill};

/// Too small to act beside gradients of the order of 1, but a number in float32.
const NO_EPSILON: Division = Division::Epsilon(1e-30);

fn dense() -> DenseMoment {
    DenseMoment { division: NO_EPSILON, ..DenseMoment::new(0.9) }
}

fn dense_by_atan2() -> DenseMoment {
    DenseMoment { division: Division::Atan2, ..dense() }
}

fn factored() -> FactoredMoment {
    FactoredMoment { division: NO_EPSILON, ..FactoredMoment::new(0.9) }
}

fn factored_by_atan2() -> FactoredMoment {
    FactoredMoment { division: Division::Atan2, ..factored() }
}

fn adam() -> Adam {
    Adam { beta1: 0.8, beta2: 0.9, eps: 1e-30, nesterov: false, bias_correction: true }
}

/// Muon leaves vectors alone; they go by their moment.
fn dense_for_vectors<T: Real>() -> impl Link<T> {
    only_for(|tensor| !Muon::takes(tensor), dense())
}

/// At this d0, d grows in the second step already.
fn prodigy(every: usize) -> Prodigy {
    let beta3 = 0.9_f64.sqrt();
    Prodigy { samples: Samples { every, ..Samples::new(beta3) }, d0: 1e-3, ..Prodigy::new(beta3) }
}

/// With a factor that keeps d below the cap in all steps but the second, the first in which it moves.
fn speed(every: usize, d_coef: f64) -> Speed {
    Speed { prodigy: Prodigy { d_coef, ..prodigy(every) }, shrinks_above_one: false }
}

/// With an interpolation that is no simple fraction: at 0.9 some displacements of this problem would be exactly 0 but for
/// rounding, which then decides what Cautious and Grams do.
fn schedule_free() -> ScheduleFree {
    ScheduleFree::new(naive::BETA1)
}

fn decaying_schedule_free(weight_decay_by_lr: bool) -> ScheduleFree {
    ScheduleFree { weight_decay: 0.01, weight_decay_by_lr, ..schedule_free() }
}

/// `row in "crate": [before] (transform) [what stands in for it] [after]` with the laws of the chain.
macro_rules! transforms {
    ($($(#[$note:meta])* $row:ident in $crate_name:literal:
        [$($before:expr),*] ($transform:expr) [$($instead:expr),*] [$($after:expr),*];
        lr $lr:literal, $scale:expr, $permutation:expr, $zero:expr, float32 $float32:literal, $naive:expr;
    )+) => {
        /// The crates that have a row.
        const CRATES: &[&str] = &[$($crate_name),+];

        $($(#[$note])*
        mod $row {
            use half::bf16;

            use super::*;
            use problem::{Boxed, Problem, Trajectory};
            use properties::{Chains, Row};

            fn chain<T: Real>(on: bool) -> Boxed<T> {
                Box::new(($($before,)* on.then(|| $transform), $((!on).then(|| $instead),)* $($after,)*))
            }

            fn members<T: Real>() -> Vec<Boxed<T>> {
                vec![$(Box::new($before),)* Box::new($transform), $(Box::new($after),)*]
            }

            fn without<T: Real>() -> Boxed<T> {
                Box::new(($($before,)* $($instead,)* $($after,)*))
            }

            fn chains<T: Real>() -> Chains<T> {
                Chains { chain, members, without }
            }

            fn toggled() -> Vec<String> {
                fn name(transform: impl Link<f32>) -> String {
                    transform.name().to_owned()
                }
                vec![name($transform), $(name($instead)),*]
            }

            fn row() -> Row {
                let naive: fn(&Problem) -> Trajectory = $naive;
                let (single, double) = (chains(), chains());
                Row {
                    lr: $lr,
                    scale: $scale,
                    permutation: $permutation,
                    zero: $zero,
                    float32: $float32,
                    single,
                    double,
                    toggled,
                    naive,
                }
            }

            #[test]
            fn state_round_trips_through_bytes_in_float32() {
                properties::round_trips_through_bytes::<f32, f32>(&row());
            }

            #[test]
            fn state_round_trips_through_bytes_in_bfloat16_with_stochastic_rounding() {
                properties::round_trips_through_bytes::<f32, bf16>(&row());
            }

            #[test]
            fn state_round_trips_through_bytes_in_float64() {
                properties::round_trips_through_bytes::<f64, f64>(&row());
            }

            #[test]
            fn powers_of_two_act_as_its_law_of_scale_says() {
                properties::follows_its_law_of_scale(&row());
            }

            #[test]
            fn negated_gradients_and_parameters_negate_the_trajectory() {
                properties::is_odd(&row());
            }

            #[test]
            fn zero_gradients_make_no_nan_and_move_only_what_they_should() {
                properties::survives_zero_gradients(&row());
            }

            #[test]
            fn permuted_rows_move_as_its_law_of_permutation_says() {
                properties::follows_its_law_of_permutation(&row());
            }

            #[test]
            fn float32_is_float64_rounded() {
                properties::is_the_same_in_float32_and_float64(&row());
            }

            #[test]
            fn the_chain_is_its_formula() {
                properties::is_its_formula(&row());
            }

            #[test]
            fn none_in_its_place_is_the_identity() {
                properties::none_is_the_identity(&row());
            }

            #[test]
            fn an_identity_anywhere_changes_no_bit() {
                properties::an_identity_changes_no_bit(&row());
            }

            #[test]
            fn an_identity_in_one_group_changes_no_bit_of_either() {
                properties::an_identity_in_one_group_changes_no_bit_of_either(&row());
            }

            #[test]
            fn toggling_it_leaves_the_state_of_others_alone() {
                properties::toggling_it_leaves_the_others_state_alone(&row());
            }

            #[test]
            fn a_chain_of_boxes_is_the_tuple() {
                properties::boxed_is_as_a_tuple(&row());
            }

            #[test]
            fn parameters_one_by_one_are_the_step_in_float32() {
                properties::parameters_may_come_one_by_one::<f32>(&row());
            }

            #[test]
            fn parameters_one_by_one_are_the_step_in_bfloat16() {
                properties::parameters_may_come_one_by_one::<bf16>(&row());
            }

            #[test]
            fn twice_in_a_chain_it_is_refused() {
                properties::occurs_once(&row());
            }
        })+
    };
}

transforms! {
    descent in "gradient-transform":
        [] (Descent::default()) [schedule_free()] [];
        lr 0.1, Linear, Exact, StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::gradient);

    /// Decay moves a weight without a gradient too.
    descent_with_weight_decay in "gradient-transform":
        [] (Descent { weight_decay: 0.1 }) [schedule_free()] [];
        lr 0.1, Linear, Exact, Moves, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.1, naive::gradient);

    schedule_free_alone in "schedule-free":
        [] (schedule_free()) [Descent::default()] [];
        lr 0.1, Linear, Exact, Averages, float32 1e-6,
        |problem| naive::schedule_free(problem, 0.1, (0.0, true), naive::untempered, naive::gradient);

    schedule_free_behind_a_moment in "schedule-free":
        [dense()] (schedule_free()) [Descent::default()] [];
        lr 0.1, Invariant, Exact, Averages, float32 1e-6,
        |problem| {
            naive::schedule_free(problem, 0.1, (0.0, true), naive::untempered, || naive::dense(naive::by_division))
        };

    schedule_free_with_decay_by_lr in "schedule-free":
        [] (decaying_schedule_free(true)) [Descent::default()] [];
        lr 0.1, Linear, Exact, Moves, float32 1e-6,
        |problem| naive::schedule_free(problem, 0.1, (0.01, true), naive::untempered, naive::gradient);

    schedule_free_with_decay_outside in "schedule-free":
        [] (decaying_schedule_free(false)) [Descent::default()] [];
        lr 0.1, Linear, Exact, Moves, float32 1e-6,
        |problem| naive::schedule_free(problem, 0.1, (0.01, false), naive::untempered, naive::gradient);

    dense_moment in "factored-moment":
        [] (dense()) [] [Descent::default()];
        lr 0.1, Invariant, Exact, StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, || naive::dense(naive::by_division));

    dense_moment_by_atan2 in "factored-moment":
        [] (dense_by_atan2()) [] [Descent::default()];
        lr 0.1, Invariant, Exact, StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, || naive::dense(naive::by_atan2));

    factored_moment in "factored-moment":
        [] (factored()) [] [Descent::default()];
        lr 0.1, Invariant, Within(1e-6), StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, || naive::factored(naive::by_division));

    factored_moment_by_atan2 in "factored-moment":
        [] (factored_by_atan2()) [] [Descent::default()];
        lr 0.1, Invariant, Within(1e-6), StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, || naive::factored(naive::by_atan2));

    adopt_of_a_dense_moment in "adopt":
        [] (Adopt::new(dense())) [dense()] [Descent::default()];
        lr 0.1, Invariant, Exact, StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, || naive::adopt_of_dense(naive::by_division));

    adopt_of_a_factored_moment in "adopt":
        [] (Adopt::new(factored())) [factored()] [Descent::default()];
        lr 0.1, Invariant, Within(1e-6), StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, || naive::adopt_of_factored(naive::by_division));

    adopt_by_atan2 in "adopt":
        [] (Adopt::new(factored_by_atan2())) [factored_by_atan2()] [Descent::default()];
        lr 0.1, Invariant, Within(1e-6), StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, || naive::adopt_of_factored(naive::by_atan2));

    /// The attraction of the weights to their average needs no gradient.
    focus in "focus":
        [] (Focus::new(0.9)) [] [Descent::default()];
        lr 0.1, Invariant, Exact, Moves, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::focus);

    /// Six iterations amplify the rounding of small singular values.
    muon in "muon-pp":
        [] (Muon::new(0.9)) [] [dense_for_vectors(), Descent::default()];
        lr 0.1, Invariant, Within(1e-5), StandsStill, float32 1e-5,
        |problem| naive::descent(problem, 0.1, 0.0, || naive::muon(false));

    muon_over_its_first_update in "muon-pp":
        [] (Muon { normalisation: Normalisation::FirstUpdate, ..Muon::new(0.9) }) []
        [dense_for_vectors(), Descent::default()];
        lr 0.1, Invariant, Within(1e-5), StandsStill, float32 1e-5,
        |problem| naive::descent(problem, 0.1, 0.0, || naive::muon(true));

    muon_of_nesterov in "muon-pp":
        [] (Muon::default()) [] [dense_for_vectors(), Descent::default()];
        lr 0.1, Invariant, Within(1e-5), MovesOn, float32 1e-5,
        |problem| naive::descent(problem, 0.1, 0.0, || naive::muon_of_pytorch(true, false));

    /// With the Polar Express, of heavy-ball momentum, and matched to Adam.
    muon_by_the_polar_express in "muon-pp":
        [] (Muon {
            nesterov: false,
            coefficients: Coefficients::PolarExpress,
            scale: Scale::MatchAdam,
            ..Muon::default()
        }) [] [dense_for_vectors(), Descent::default()];
        lr 0.1, Invariant, Within(1e-5), MovesOn, float32 1e-5,
        |problem| naive::descent(problem, 0.1, 0.0, naive::muon_by_the_polar_express);

    muon_of_normalised_neurons in "muon-pp":
        [] (Muon { normalisation: Normalisation::Neurons, ..Muon::default() }) []
        [dense_for_vectors(), Descent::default()];
        lr 0.1, Invariant, Within(1e-5), MovesOn, float32 1e-5,
        |problem| naive::descent(problem, 0.1, 0.0, || naive::muon_of_pytorch(true, true));

    stableadamw in "stableadamw":
        [] (StableAdamW) [] [Descent::default()];
        lr 0.1, Invariant, Within(1e-6), StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, || naive::clipped(naive::gradient()));

    stableadamw_behind_a_moment in "stableadamw":
        [factored()] (StableAdamW) [] [Descent::default()];
        lr 0.1, Invariant, Within(1e-6), StandsStill, float32 1e-6,
        |problem| {
            naive::descent(problem, 0.1, 0.0, || naive::clipped(naive::factored(naive::by_division)))
        };

    /// The base iterate that it projects along is z.
    orthograd in "orthograd":
        [] (OrthoGrad::default()) [] [schedule_free()];
        lr 0.1, Linear, Within(1e-6), Averages, float32 1e-6,
        |problem| naive::schedule_free(problem, 0.1, (0.0, true), naive::untempered, naive::orthogonal);

    /// Without averaging it is the parameter.
    orthograd_before_descent in "orthograd":
        [] (OrthoGrad::default()) [] [Descent::default()];
        lr 0.1, Linear, Within(1e-6), StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::orthogonal);

    /// It looks at every 11th element, and those are others when rows are permuted.
    prodigy_of_every_eleventh_element in "prodigy-core":
        [dense()] (prodigy(11)) [] [Descent::default()];
        lr 1.0, Invariant, Changes, StandsStill, float32 1e-6,
        |problem| naive::estimated(problem, 1e-3, 1.0, 11, false);

    prodigy_of_every_element in "prodigy-core":
        [dense()] (prodigy(1)) [] [Descent::default()];
        lr 1.0, Invariant, Within(1e-5), StandsStill, float32 1e-6,
        |problem| naive::estimated(problem, 1e-3, 1.0, 1, false);

    /// As with Prodigy.
    speed_of_every_eleventh_element in "speed":
        [dense()] (speed(11, 0.0205)) [] [Descent::default()];
        lr 1.0, Invariant, Changes, StandsStill, float32 1e-6,
        |problem| naive::estimated(problem, 1e-3, 0.0205, 11, true);

    speed_of_every_element in "speed":
        [dense()] (speed(1, 0.228)) [] [Descent::default()];
        lr 1.0, Invariant, Within(1e-5), StandsStill, float32 1e-6,
        |problem| naive::estimated(problem, 1e-3, 0.228, 1, true);

    rectify in "factored-moment":
        [] (Rectify { beta2: 0.9 }) [] [dense(), Descent::default()];
        lr 0.1, Invariant, Exact, StandsStill, float32 1e-6,
        |problem| naive::rectified(problem, 0.1);

    cautious in "cautious":
        [schedule_free()] (Cautious::default()) [] [];
        lr 0.1, Linear, Exact, Averages, float32 1e-6,
        |problem| naive::schedule_free(problem, 0.1, (0.0, true), naive::cautious, naive::gradient);

    cautious_as_in_the_reference in "cautious":
        [schedule_free()] (Cautious { scales_displacement: true }) [] [];
        lr 0.1, Linear, Exact, StandsStill, float32 1e-6,
        |problem| naive::schedule_free(problem, 0.1, (0.0, true), naive::cautious_of_the_reference, naive::gradient);

    grams in "grams":
        [schedule_free()] (Grams) [] [];
        lr 0.1, Linear, Exact, StandsStill, float32 1e-6,
        |problem| naive::schedule_free(problem, 0.1, (0.0, true), naive::grams, naive::gradient);

    /// Decay outside of the update isn't tempered.
    cautious_with_decay_outside in "cautious":
        [decaying_schedule_free(false)] (Cautious::default()) [] [];
        lr 0.1, Linear, Exact, Moves, float32 1e-6,
        |problem| naive::schedule_free(problem, 0.1, (0.01, false), naive::cautious, naive::gradient);

    grams_with_decay_by_lr in "grams":
        [decaying_schedule_free(true)] (Grams) [] [];
        lr 0.1, Linear, Exact, Moves, float32 1e-6,
        |problem| naive::schedule_free(problem, 0.1, (0.01, true), naive::grams, naive::gradient);

    momentum in "elementary":
        [] (Momentum::default()) [] [Descent::default()];
        lr 0.1, Linear, Exact, MovesOn, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::momentum);

    nesterov_momentum in "elementary":
        [] (Momentum { nesterov: true, ..Momentum::default() }) [] [Descent::default()];
        lr 0.1, Linear, Exact, MovesOn, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::nesterov);

    ema in "elementary":
        [] (Ema::default()) [] [Descent::default()];
        lr 0.1, Linear, Exact, MovesOn, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::ema);

    ema_with_its_bias in "elementary":
        [] (Ema { debias: false, ..Ema::default() }) [] [Descent::default()];
        lr 0.1, Linear, Exact, MovesOn, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::biased_ema);

    adam in "elementary":
        [] (adam()) [] [Descent::default()];
        lr 0.1, Invariant, Exact, MovesOn, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::adam);

    adam_of_nesterov in "elementary":
        [] (Adam { nesterov: true, ..adam() }) [] [Descent::default()];
        lr 0.1, Invariant, Exact, MovesOn, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::adam_of_nesterov);

    adam_moment in "elementary":
        [] (AdamMoment { beta2: 0.9, eps: 1e-30 }) [] [Descent::default()];
        lr 0.1, Invariant, Exact, StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::adam_moment);

    amsgrad in "elementary":
        [] (AmsGrad { beta1: 0.8, beta2: 0.9, eps: 1e-30, of_debiased: false }) [] [Descent::default()];
        lr 0.1, Invariant, Exact, MovesOn, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::amsgrad);

    amsgrad_of_debiased in "elementary":
        [] (AmsGrad { beta1: 0.8, beta2: 0.9, eps: 1e-30, of_debiased: true }) [] [Descent::default()];
        lr 0.1, Invariant, Exact, MovesOn, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::amsgrad_of_debiased);

    nadam in "elementary":
        [] (NAdam { beta1: 0.8, beta2: 0.9, eps: 1e-30, ..NAdam::default() }) [] [Descent::default()];
        lr 0.1, Invariant, Exact, MovesOn, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::nadam);

    /// Until it is rectified it steps by the gradient itself, so that has one size.
    radam in "elementary":
        [UnitNorm::default()] (RAdam { beta1: 0.8, beta2: 0.9, eps: 1e-30, ..RAdam::default() }) [] [Descent::default()];
        lr 0.1, Invariant, Within(1e-6), MovesOn, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::radam_of_unit_norm);

    adamax in "elementary":
        [] (AdaMax { beta1: 0.8, beta2: 0.9, eps: 1e-30 }) [] [Descent::default()];
        lr 0.1, Invariant, Exact, MovesOn, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::adamax);

    adabelief in "elementary":
        [] (AdaBelief { beta1: 0.8, beta2: 0.9, eps: 1e-30 }) [] [Descent::default()];
        lr 0.1, Invariant, Exact, MovesOn, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::adabelief);

    adagrad in "elementary":
        [] (AdaGrad { eps: 1e-30, ..AdaGrad::default() }) [] [Descent::default()];
        lr 0.1, Invariant, Exact, StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::adagrad);

    adadelta in "elementary":
        [] (AdaDelta { rho: 0.9, eps: 1e-8 }) [] [Descent::default()];
        lr 100.0, Invariant, Exact, StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 100.0, 0.0, naive::elementary::adadelta);

    centred_rms in "elementary":
        [] (CentredRms { beta2: 0.9, eps: 1e-30 }) [] [Descent::default()];
        lr 0.1, Invariant, Exact, StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::centred_rms);

    signs in "elementary":
        [] (Sign) [] [Descent::default()];
        lr 0.1, Invariant, Exact, StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::signs);

    /// With a weight that is no simple fraction: at 0.9 some interpolations would be exactly 0 but for rounding.
    lion in "elementary":
        [] (Lion { beta1: 0.8765, beta2: 0.8 }) [] [Descent::default()];
        lr 0.1, Invariant, Exact, MovesOn, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::lion);

    ademamix in "elementary":
        [] (AdEMAMix { beta1: 0.8, beta2: 0.9, beta3: 0.95, alpha: 3.0, eps: 1e-30, warm_up: 5 }) [] [Descent::default()];
        lr 0.1, Invariant, Exact, MovesOn, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::ademamix);

    adan in "elementary":
        [] (Adan { beta1: 0.8, beta2: 0.7, beta3: 0.9, eps: 1e-30 }) [] [Descent::default()];
        lr 0.1, Invariant, Exact, MovesOn, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::adan);

    rprop in "elementary":
        [] (Rprop { initial: 0.5, smallest: 0.3, largest: 0.7, ..Rprop::default() }) [] [Descent::default()];
        lr 0.1, Invariant, Exact, StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::rprop);

    mars in "elementary":
        [] (Mars { gamma: 0.5, beta1: 0.8 }) [] [Descent::default()];
        lr 0.1, Linear, Exact, Rebounds, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::mars);

    optimistic in "elementary":
        [] (Optimistic { alpha: 1.0, beta: 0.5 }) [] [Descent::default()];
        lr 0.1, Linear, Exact, Rebounds, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::optimistic);

    weight_decay in "elementary":
        [] (WeightDecay { rate: 0.1, ..WeightDecay::default() }) [] [Descent::default()];
        lr 0.1, Linear, Exact, Moves, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::decay);

    cautious_weight_decay_of_matrices in "elementary":
        [] (WeightDecay { rate: 0.1, cautious: true, least_rank: 2 }) [] [Descent::default()];
        lr 0.1, Linear, Exact, Moves, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::cautious_decay);

    decay_to_start in "elementary":
        [] (DecayToStart { rate: 0.1 }) [] [Descent::default()];
        lr 0.1, Linear, Exact, MovesOn, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::decay_to_start);

    clip_by_value in "elementary":
        [] (ClipByValue { limit: 2.0, growth: 0.25 }) [] [Descent::default()];
        lr 0.1, Invariant, Exact, StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::clipped_values);

    clip_by_norm in "elementary":
        [] (ClipByNorm { limit: 1.5, ..ClipByNorm::default() }) [] [Descent::default()];
        lr 0.1, Invariant, Within(1e-6), StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::clipped_norm);

    clip_by_root_mean_square in "elementary":
        [] (ClipByNorm { limit: 1.5, of: Size::RootMeanSquare, ..ClipByNorm::default() }) [] [Descent::default()];
        lr 0.1, Invariant, Within(1e-6), StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::clipped_root_mean_square);

    unit_norm in "elementary":
        [] (UnitNorm::default()) [] [Descent::default()];
        lr 0.1, Invariant, Within(1e-6), StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::unit_norm);

    centralise in "elementary":
        [] (Centralise) [] [Descent::default()];
        lr 0.1, Linear, Within(1e-6), StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::centralised);

    adaptive_clip in "elementary":
        [] (AdaptiveClip { limit: 0.8, eps: 1e-9 }) [] [Descent::default()];
        lr 0.1, Linear, Within(1e-6), StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::adaptively_clipped);

    trust_ratio in "elementary":
        [] (TrustRatio { coefficient: 0.5, ..TrustRatio::default() }) [] [Descent::default()];
        lr 0.1, Linear, Within(1e-6), StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::trusted);

    /// Weights by gradients are of another scale than either.
    parameter_scale in "elementary":
        [UnitNorm::default()] (ParameterScale::default()) [] [Descent::default()];
        lr 0.1, Invariant, Within(1e-5), StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::scaled_by_the_parameter);

    /// Without a gradient nothing agrees.
    cautious_update in "elementary":
        [Momentum::default()] (CautiousUpdate) [] [Descent::default()];
        lr 0.1, Linear, Exact, StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::agreeing_momentum);

    grams_update in "elementary":
        [Momentum::default()] (GramsUpdate) [] [Descent::default()];
        lr 0.1, Linear, Exact, StandsStill, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::momentum_with_the_sign_of_the_gradient);

    /// With a weight that is no simple fraction: at 0.9 some moments would be a square themselves but for rounding.
    yogi in "elementary":
        [] (Yogi { beta1: 0.8, beta2: 0.8765, eps: 1e-30, initial: 1e-30 }) [] [Descent::default()];
        lr 0.1, Invariant, Exact, MovesOn, float32 1e-6,
        |problem| naive::descent(problem, 0.1, 0.0, naive::elementary::yogi);

    lookahead in "elementary":
        [] (Lookahead { period: 3, alpha: 0.5 }) [Descent::default()] [];
        lr 0.1, Linear, Exact, StandsStill, float32 1e-6,
        |problem| naive::looking_ahead(problem, 0.1);

    scheduled in "elementary":
        [] (Scheduled { schedule: Schedule::linear(1.0, 0.25, 6) }) [] [Descent::default()];
        lr 0.1, Linear, Exact, StandsStill, float32 1e-6,
        |problem| naive::scheduled(problem, 0.1, |step| 1.0 - 0.125 * f64::from(step.min(6)));
}

/// Sums of several chunks, too, are the same bits whatever else is in the chain.
#[test]
fn an_identity_changes_no_bit_of_a_tensor_longer_than_a_chunk() {
    fn members<T: Real>() -> Vec<problem::Boxed<T>> {
        vec![
            Box::new(factored()),
            Box::new(StableAdamW),
            Box::new(prodigy(11)),
            Box::new(schedule_free()),
            Box::new(Cautious::default()),
        ]
    }
    let problem = problem::Problem::of(&[&[1031, 517]], 2);
    properties::identities_change_nothing_in::<f32, f32>(&members, 1.0, &problem);
}

/// Nothing stands behind the writer but the identity, and what it writes is rounded after every operation.
#[test]
fn an_identity_changes_no_bit_where_every_operation_is_rounded() {
    for weight_decay_by_lr in [true, false] {
        let members = || -> Vec<problem::Boxed<f32>> {
            let writer = decaying_schedule_free(weight_decay_by_lr);
            vec![Box::new(ScheduleFree { round_every_operation: true, ..writer })]
        };
        let problem = problem::Problem::of(&problem::TILED, 3);
        properties::identities_change_nothing_in::<f32, half::bf16>(&members, 0.1, &problem);
    }
}

#[test]
fn every_crate_with_a_transform_has_a_row() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/transforms");
    let found: BTreeSet<String> = std::fs::read_dir(crates)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let of_transforms = CRATES.iter().filter(|&&name| name != "gradient-transform");
    let rows: BTreeSet<String> = of_transforms.map(|&name| name.to_owned()).collect();
    assert_eq!(found, rows, "crates without a row (left), or rows without a crate (right)");
}
