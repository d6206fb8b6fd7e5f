//! Agreement with scipy 1.17.1 and with definitions; `python3 tests/reference.py` prints what is expected here.

use ablate_statistics::ToTarget::{Missed, Reached};
use ablate_statistics::{
    Bootstrap, FactorialEffects, PairedDifference, PairedSteps, StepsToTarget, Summary, ToTarget, holm,
    performance_profiles, sign_flip_p,
};
use proptest::prelude::*;

/// Student's sleep data (1908): extra hours of sleep.
const FIRST: [f64; 10] = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
const SECOND: [f64; 10] = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];

fn assert_close(actual: f64, expected: f64) {
    assert!((actual - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{actual} instead of {expected}");
}

fn sleep() -> PairedDifference {
    let pairs: Vec<(f64, f64)> = SECOND.into_iter().zip(FIRST).collect();
    PairedDifference::of(&pairs, &Bootstrap::default()).unwrap()
}

#[test]
fn centre_and_spread_agree_with_scipy() {
    assert_close(Summary::of(&SECOND).unwrap().iqm, 2.2);
    assert_close(Summary::of(&FIRST).unwrap().iqm, 0.533_333_333_333_333_3);
    let difference: Vec<f64> = SECOND.iter().zip(FIRST).map(|(second, first)| second - first).collect();
    let summary = Summary::of(&difference).unwrap();
    assert_close(summary.sd.unwrap(), 1.229_995_483_279_873_2);
    assert_close(summary.median, 1.3);
}

#[test]
fn the_sign_flip_test_and_the_probability_of_improvement_agree_with_scipy() {
    let difference = sleep();
    assert_close(difference.mean.unwrap(), 1.58);
    assert_close(difference.tested_mean, 1.58);
    assert_close(difference.iqm.unwrap(), 1.333_333_333_333_333_3);
    assert_close(difference.p.unwrap(), 0.003_906_25);
    assert_close(difference.probability_of_improvement, 0.745);
    assert_eq!((difference.wins, difference.ties), (9, 1));
    let interval = difference.interval.unwrap();
    // Student's own interval is 0.70 to 2.46; these data are skewed to the right.
    assert!(
        interval.low > 0.7 && interval.low < 1.1 && interval.high > 2.46 && interval.high < 3.5,
        "{interval:?}"
    );
}

#[test]
fn a_large_sample_is_tested_by_drawn_patterns_as_by_all_of_them() {
    // Of 14 values all patterns are tried. With a 15th of 0, patterns are drawn, and the exact p is the same.
    let exact: Vec<f64> = (0..14).map(|i| f64::from(i) - 4.0).collect();
    let drawn = [exact.clone(), vec![0.0]].concat();
    let (exact, drawn) = (sign_flip_p(&exact, 0).unwrap(), sign_flip_p(&drawn, 0).unwrap());
    let error = (exact * (1.0 - exact) / 10_000.0).sqrt();
    assert!((exact - drawn).abs() < 4.0 * error + 1e-4, "{exact} {drawn}");
}

#[test]
fn holm_agrees_with_its_definition() {
    let p = [0.001, 0.04, 0.03, 0.2, 0.011].map(Some);
    for (corrected, expected) in holm(&p).into_iter().zip([0.005, 0.09, 0.09, 0.2, 0.044]) {
        assert_close(corrected.unwrap(), expected);
    }
}

#[test]
fn steps_to_a_target_agree_with_scipy() {
    let runs =
        [Reached(120.0), Reached(340.0), Missed(340.0), Reached(500.0), Reached(800.0), Missed(1000.0)];
    let steps = StepsToTarget::of(&runs).unwrap();
    assert_eq!((steps.n, steps.reached, steps.median), (6, 4, Some(500.0)));
    let few = StepsToTarget::of(&[Missed(9.0), Missed(9.0), Reached(3.0)]).unwrap();
    assert_eq!((few.reached, few.median), (1, None));

    let pairs = |faster: usize, slower: usize| -> Vec<(ToTarget, ToTarget)> {
        let first = vec![(Reached(1.0), Reached(2.0)); faster];
        [first, vec![(Missed(9.0), Reached(2.0)); slower]].concat()
    };
    assert_close(PairedSteps::of(&pairs(9, 1)).p.unwrap(), 0.021_484_375);
    assert_close(PairedSteps::of(&pairs(2, 5)).p.unwrap(), 0.453_125);
    assert_eq!(PairedSteps::of(&[]).p, None);
}

#[test]
fn shapley_values_agree_with_their_definition_over_all_orders() {
    let seed = vec![1.0, 3.5, 0.5, 4.0, 2.0, 7.0, 1.5, 9.0];
    let effects = FactorialEffects::of(&[seed], 3, &Bootstrap::default()).unwrap();
    for (effect, expected) in effects.shapley.iter().zip([4.75, 0.5, 2.75]) {
        assert_close(effect.mean, expected);
    }
}

#[test]
fn samples_too_small_for_an_answer_have_none() {
    let method = Bootstrap::default();
    assert_eq!(PairedDifference::of(&[], &method), None);
    assert_eq!(PairedDifference::of(&[(f64::NAN, 1.0)], &method), None);
    let one = PairedDifference::of(&[(2.0, 1.0)], &method).unwrap();
    assert_eq!((one.mean, one.p, one.interval), (Some(1.0), None, None));
    let equal = PairedDifference::of(&[(0.1, 0.1); 5], &method).unwrap();
    assert_eq!((equal.p, equal.probability_of_improvement, equal.ties), (Some(1.0), 0.5, 5));
    assert_eq!(equal.interval.map(|interval| (interval.low, interval.high)), Some((0.0, 0.0)));
}

#[test]
fn a_solver_that_fails_never_reaches_one() {
    let profiles =
        performance_profiles(&[vec![Some(2.0), None, Some(1.0)], vec![Some(1.0), None, Some(3.0)]]);
    assert_eq!(profiles[0].points.last(), Some(&(2.0, 2.0 / 3.0)));
    assert_eq!(profiles[1].points[0], (1.0, 1.0 / 3.0));
}

#[test]
fn a_run_without_a_finite_value_loses_its_pair_for_the_arm_and_for_the_base_alike() {
    let method = Bootstrap::default();
    let lost = f64::NEG_INFINITY;
    let all = PairedDifference::of(&[(0.9, lost); 10], &method).unwrap();
    assert_eq!((all.p, all.probability_of_improvement, all.tested_mean), (Some(2.0 / 1024.0), 1.0, 1.0));
    assert_eq!((all.finite, all.mean, all.interval), (0, None, None));
    let turned = PairedDifference::of(&[(lost, 0.9); 10], &method).unwrap();
    assert_eq!((turned.p, turned.probability_of_improvement, turned.tested_mean), (all.p, 0.0, -1.0));
    // One run more that diverged is no evidence, and where nothing else differs, it is no more than one sign.
    let mut pairs = [(0.9, 0.9); 10];
    pairs[3].0 = lost;
    assert_eq!(PairedDifference::of(&pairs, &method).unwrap().p, Some(1.0));
    let both = PairedDifference::of(&[(lost, lost); 10], &method).unwrap();
    assert_eq!((both.p, both.ties, both.tested_mean), (Some(1.0), 10, 0.0));
    // A loss of zero is the best value of a logarithm, and no reason to leave the run out.
    let perfect = PairedDifference::of(&[(lost, -3.0); 8], &method).unwrap();
    assert_eq!((perfect.p, perfect.wins), (Some(2.0 / 256.0), 0));
    assert_eq!(PairedDifference::of(&[(f64::NAN, lost)], &method), None);
}

#[test]
fn huge_values_have_the_p_that_small_ones_have() {
    let small = [-1.0, 1.5, 1.2, 1.6, 0.3, -0.2, 1.7];
    let huge = small.map(|value| value * 1e308);
    assert_eq!(sign_flip_p(&huge, 0), sign_flip_p(&small, 0));
    let found = PairedDifference::of(&huge.map(|value| (value, 0.0)), &Bootstrap::default()).unwrap();
    let shown = [found.mean, found.iqm, found.interval.map(|i| i.low), found.interval.map(|i| i.high)];
    assert!(
        found.tested_mean.is_finite() && shown.iter().flatten().all(|value| value.is_finite()),
        "{found:?}"
    );
}

/// Mostly finite.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![6 => -1.0..1.0_f64, 1 => Just(f64::NEG_INFINITY), 1 => Just(f64::INFINITY)]
}

proptest! {
    #[test]
    fn a_corrected_p_is_never_smaller_and_keeps_the_order(p in prop::collection::vec(0.0..1.0_f64, 1..12)) {
        let given: Vec<Option<f64>> = p.iter().copied().map(Some).collect();
        let corrected: Vec<f64> = holm(&given).into_iter().flatten().collect();
        for (i, (before, after)) in p.iter().zip(&corrected).enumerate() {
            prop_assert!(after >= before && *after <= 1.0);
            for (other, other_after) in p.iter().zip(&corrected).skip(i) {
                prop_assert!((before <= other) == (after <= other_after) || after == other_after);
            }
        }
    }

    #[test]
    fn effects_are_found_whatever_the_seeds_add(
        effects in prop::array::uniform3(-2.0..2.0_f64),
        seeds in prop::collection::vec(-9.0..9.0_f64, 3..6),
    ) {
        let response = |mask: usize| (0..3).map(|i| effects[i] * (mask >> i & 1) as f64).sum::<f64>();
        let responses: Vec<Vec<f64>> =
            seeds.iter().map(|seed| (0..8).map(|mask| seed + response(mask)).collect()).collect();
        let found = FactorialEffects::of(&responses, 3, &Bootstrap { resamples: 100, ..Bootstrap::default() }).unwrap();
        for (i, effect) in effects.into_iter().enumerate() {
            prop_assert!((found.main[i].mean - effect).abs() < 1e-9);
            prop_assert!((found.shapley[i].mean - effect).abs() < 1e-9);
            prop_assert!(found.interactions[i].2.mean.abs() < 1e-9);
        }
    }

    #[test]
    fn swapping_arm_and_base_turns_the_answer_round(pairs in prop::collection::vec((value(), value()), 3..9)) {
        let method = Bootstrap { resamples: 200, ..Bootstrap::default() };
        let swapped: Vec<(f64, f64)> = pairs.iter().map(|(arm, base)| (*base, *arm)).collect();
        let (one, other) = (PairedDifference::of(&pairs, &method).unwrap(), PairedDifference::of(&swapped, &method).unwrap());
        prop_assert!((one.mean.unwrap_or(0.0) + other.mean.unwrap_or(0.0)).abs() < 1e-12);
        prop_assert!((one.tested_mean + other.tested_mean).abs() < 1e-12);
        prop_assert_eq!((one.n, one.finite), (other.n, other.finite));
        prop_assert_eq!(one.p, other.p);
        prop_assert!((one.probability_of_improvement + other.probability_of_improvement - 1.0).abs() < 1e-12);
        prop_assert_eq!(one.wins + one.ties + other.wins, pairs.len());
    }
}
