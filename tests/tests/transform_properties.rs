//! One suite of properties, stamped on every transform: a row of the table below for each, and a test for each row and
//! property, so that a failure names both.

mod naive;
mod problem;
mod properties;

use std::collections::BTreeSet;
use std::path::Path;

use ::adopt::Adopt;
use ::cautious::Cautious;
use ::factored_moment::{DenseMoment, Division, FactoredMoment, Rectify};
use ::focus::Focus;
use ::grams::Grams;
use ::muon_pp::{Muon, Normalisation};
use ::orthograd::OrthoGrad;
use ::prodigy_core::{Prodigy, Samples};
use ::schedule_free::ScheduleFree;
use ::speed::Speed;
use ::stableadamw::StableAdamW;
use gradient_transform::{Descent, Link, Real, only_for};

use properties::Permutation::{Changes, Exact, Within};
use properties::Scale::{Invariant, Linear};
use properties::Zero::{Averages, Moves, StandsStill};

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
            use properties::{Permutation, Row, Scale, Zero};

            struct It;

            impl Row for It {
                const LR: f64 = $lr;
                const SCALE: Scale = $scale;
                const PERMUTATION: Permutation = $permutation;
                const ZERO: Zero = $zero;
                const FLOAT32: f64 = $float32;

                fn chain<T: Real>(on: bool) -> Boxed<T> {
                    Box::new(($($before,)* on.then(|| $transform), $((!on).then(|| $instead),)* $($after,)*))
                }

                fn members<T: Real>() -> Vec<Boxed<T>> {
                    vec![$(Box::new($before),)* Box::new($transform), $(Box::new($after),)*]
                }

                fn without<T: Real>() -> Boxed<T> {
                    Box::new(($($before,)* $($instead,)* $($after,)*))
                }

                fn toggled() -> Vec<String> {
                    fn name(transform: impl Link<f32>) -> String {
                        transform.name().to_owned()
                    }
                    vec![name($transform), $(name($instead)),*]
                }

                fn naive(problem: &Problem) -> Trajectory {
                    let formula: fn(&Problem) -> Trajectory = $naive;
                    formula(problem)
                }
            }

            #[test]
            fn state_round_trips_through_bytes_in_float32() {
                properties::round_trips_through_bytes::<It, f32, f32>();
            }

            #[test]
            fn state_round_trips_through_bytes_in_bfloat16_with_stochastic_rounding() {
                properties::round_trips_through_bytes::<It, f32, bf16>();
            }

            #[test]
            fn state_round_trips_through_bytes_in_float64() {
                properties::round_trips_through_bytes::<It, f64, f64>();
            }

            #[test]
            fn powers_of_two_act_as_its_law_of_scale_says() {
                properties::follows_its_law_of_scale::<It>();
            }

            #[test]
            fn negated_gradients_and_parameters_negate_the_trajectory() {
                properties::is_odd::<It>();
            }

            #[test]
            fn zero_gradients_make_no_nan_and_move_only_what_they_should() {
                properties::survives_zero_gradients::<It>();
            }

            #[test]
            fn permuted_rows_move_as_its_law_of_permutation_says() {
                properties::follows_its_law_of_permutation::<It>();
            }

            #[test]
            fn float32_is_float64_rounded() {
                properties::is_the_same_in_float32_and_float64::<It>();
            }

            #[test]
            fn the_chain_is_its_formula() {
                properties::is_its_formula::<It>();
            }

            #[test]
            fn none_in_its_place_is_the_identity() {
                properties::none_is_the_identity::<It>();
            }

            #[test]
            fn an_identity_anywhere_changes_no_bit() {
                properties::an_identity_changes_no_bit::<It>();
            }

            #[test]
            fn an_identity_in_one_group_changes_no_bit_of_either() {
                properties::an_identity_in_one_group_changes_no_bit_of_either::<It>();
            }

            #[test]
            fn toggling_it_leaves_the_state_of_others_alone() {
                properties::toggling_it_leaves_the_others_state_alone::<It>();
            }

            #[test]
            fn a_chain_of_boxes_is_the_tuple() {
                properties::boxed_is_as_a_tuple::<It>();
            }

            #[test]
            fn parameters_one_by_one_are_the_step_in_float32() {
                properties::parameters_may_come_one_by_one::<It, f32>();
            }

            #[test]
            fn parameters_one_by_one_are_the_step_in_bfloat16() {
                properties::parameters_may_come_one_by_one::<It, bf16>();
            }

            #[test]
            fn twice_in_a_chain_it_is_refused() {
                properties::occurs_once::<It>();
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

/// Crates that provide no transform of their own.
const NO_TRANSFORM: &[&str] = &[
    "ablate",
    "ablate-statistics",
    "ablate-tasks",
    "checkpoint",
    "gradient-transform-macros",
    "prodigy-plus",
    "prodigy-plus-burn",
    "prodigy-plus-candle",
    "step-bench",
];

#[test]
fn every_crate_with_a_transform_has_a_row() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let found: BTreeSet<String> = std::fs::read_dir(crates)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| !NO_TRANSFORM.contains(&name.as_str()))
        .collect();
    let rows: BTreeSet<String> = CRATES.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(found, rows, "crates without a row (left), or rows without a crate (right)");
}
