//! Agreement with scipy 1.17.1 and with definitions; `python3 tests/reference.py` prints what is expected here.

use ablate_statistics::ToTarget::{Missed, Reached};
use ablate_statistics::{
    Bootstrap, FactorialEffects, Interval, PairedDifference, PairedSteps, Probability, StepsToTarget,
    Summary, ToTarget, detectable_difference, fewest_pairs, holm, joint_sign_flip_p, performance_profiles,
    sign_flip_p, tested_differences,
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
    assert_close(difference.tested, 2.890_380_259_160_643_6);
    assert_close(difference.iqm.unwrap(), 1.333_333_333_333_333_3);
    assert_close(difference.p.unwrap(), 0.003_906_25);
    assert_close(difference.probability_of_higher.value, 0.745);
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
    assert_eq!((equal.p, equal.probability_of_higher.value, equal.ties), (Some(1.0), 0.5, 5));
    assert_eq!(equal.interval, None);
}

/// (arm, base) in counts of correct answers of `examples`.
fn accuracies(counts: &[(u32, u32)], examples: u32) -> Vec<(f64, f64)> {
    let share = |count: u32| f64::from(count) / f64::from(examples);
    counts.iter().map(|(arm, base)| (share(*arm), share(*base))).collect()
}

fn interval(pairs: &[(f64, f64)]) -> Option<Interval> {
    PairedDifference::of(pairs, &Bootstrap::default()).unwrap().interval
}

#[test]
fn differences_that_are_equal_in_counts_are_equal() {
    // Their last bits differ, and intervals ended at 2.6e12 and -1.8e11.
    assert_eq!(interval(&accuracies(&[(350, 355), (349, 354), (356, 354), (353, 349)], 360)), None);
    let five = interval(&accuracies(&[(346, 354), (352, 355), (352, 355), (350, 353), (350, 350)], 360));
    assert!(five.is_none_or(|interval| interval.low > -0.1), "{five:?}");
    // One example gained on most seeds: absent or narrow, whatever the size of the test set.
    for examples in [144, 360, 10_000, 1_000_000] {
        for same in 5..10 {
            let counts: Vec<(u32, u32)> =
                (0..10).map(|i| (100 + 3 * i + u32::from(i < same), 100 + 3 * i)).collect();
            let found = interval(&accuracies(&counts, examples));
            assert!(
                found.is_none_or(|interval| interval.high - interval.low < 3.0 / f64::from(examples)),
                "{found:?}"
            );
            let p = sign_flip_p(&tested_differences(&accuracies(&counts, examples)), 0).unwrap();
            assert_eq!(p, 2.0 / f64::from(1 << same), "of {examples}"); // the others are zero
        }
    }
    // A tie is one, however large the test set: the same differences up and down, and none.
    for examples in [360, 50_000, 100_000, 1_000_000] {
        let base = examples / 10 * 9;
        let counts = [(base + 1, base), (base + 37, base + 38), (base + 19, base + 16), (base + 4, base + 7)];
        let found = PairedDifference::of(&accuracies(&counts, examples), &Bootstrap::default()).unwrap();
        assert!(found.p == Some(1.0) && found.tested.abs() < 1e-6, "of {examples}: {found:?}");
    }
}

/// Of the published study of eleven switches on digits, Grams first.
const DIGITS: [[f64; 10]; 14] = [
    [-0.56, -1.39, -1.39, -5.00, -0.28, -0.56, -1.39, -1.67, -0.83, -7.50],
    [-0.56, -0.28, -1.11, 0.00, -0.28, -0.28, -1.39, -0.83, 0.28, -0.56],
    [0.00, 0.56, 0.28, 0.83, 0.28, 1.11, 0.56, 0.28, 1.11, 1.11],
    [0.00, 0.28, -0.28, 0.28, -0.28, 0.83, -0.28, -0.28, 0.83, 0.28],
    [-1.11, 0.00, -0.28, 0.83, -1.39, -0.83, -0.83, -1.11, 0.56, 0.83],
    [-0.56, -1.11, -0.56, 0.00, 0.00, 0.28, -0.28, -0.28, 1.11, 0.00],
    [-0.56, 0.28, -0.28, 0.28, -0.28, 0.28, 0.00, -0.28, 0.28, 0.28],
    [-2.78, -3.06, -2.78, -0.83, -3.33, -1.67, -2.78, -1.94, -0.56, -1.39],
    [-1.39, 0.00, -0.28, 0.28, 0.00, 0.28, 0.00, -1.39, 1.39, -0.56],
    [-1.39, -2.78, -0.28, 0.00, -2.22, -1.11, -1.67, -0.56, -0.28, -0.28],
    [-0.28, -0.56, 0.00, 0.00, 0.00, -0.28, -0.56, -0.83, 0.28, -0.28],
    [-0.56, 0.28, 0.00, 1.11, 0.28, 1.39, 0.00, 0.28, 0.83, 0.83],
    [-0.28, -0.28, -0.56, 0.00, 0.00, 1.11, -0.56, -0.83, 1.39, 0.28],
    [-1.11, -1.11, -2.78, 0.00, -2.22, -1.67, -2.22, -0.56, -0.83, -1.67],
];

#[test]
fn an_arm_that_is_worse_on_every_seed_is_not_unclear_for_one_large_difference() {
    // It lost 0.3 to 7.5 points on each of ten seeds; by plain differences, p was 0.14.
    let arms: Vec<Vec<Option<f64>>> =
        DIGITS.iter().map(|arm| arm.iter().copied().map(Some).collect()).collect();
    let p = joint_sign_flip_p(&arms, 0);
    assert!(p[0].is_some_and(|p| p <= 0.05), "{p:?}");
    // The root of a square is plain.
    let square = |difference: &Option<f64>| difference.map(|difference| difference * difference.abs());
    let squares: Vec<Vec<Option<f64>>> = arms.iter().map(|arm| arm.iter().map(square).collect()).collect();
    assert!((joint_sign_flip_p(&squares, 0)[0].unwrap() - 0.14).abs() < 0.005);
    let alone: Vec<Option<f64>> = DIGITS.iter().map(|arm| sign_flip_p(arm, 0)).collect();
    assert!(p[0] <= holm(&alone)[0]);
}

#[test]
fn values_that_are_nearly_equal_have_no_interval_that_reaches_far() {
    let found = Bootstrap::default().of_mean(&[1.0, 1.000_000_1, 1.0, 5.0, 6.0]);
    assert!(found.is_none_or(|interval| interval.high < 100.0), "{found:?}"); // it was 1e8
}

#[test]
fn five_equal_differences_do_not_say_how_they_spread() {
    assert_eq!(
        interval(&accuracies(&[(351, 350), (355, 354), (341, 340), (349, 348), (360, 359)], 360)),
        None
    );
    assert_eq!(interval(&[(0.5, 0.5); 10]), None);
}

#[test]
fn the_probability_of_a_better_run_is_never_certain() {
    let ahead: Vec<(f64, f64)> = (0..10).map(|i| (f64::from(i) + 100.0, f64::from(i))).collect();
    for n in 4..=10 {
        let found = Probability::of_higher(&ahead[..n], 0.95).unwrap();
        let interval = found.interval.unwrap();
        assert!(
            found.value == 1.0 && interval.high == 1.0 && interval.low < 1.0 - 1.0 / n as f64,
            "{interval:?}"
        );
    }
    assert_eq!(Probability::of_higher(&ahead[..3], 0.95).unwrap().interval, None);
    assert_eq!(Probability::of_higher(&[(f64::NAN, 1.0)], 0.95), None);
    assert_eq!(Probability::mean(&[]), None);
    for confidence in [-1.0, 0.0, 1.0, f64::NAN] {
        assert_eq!(Probability::of_higher(&ahead, confidence).unwrap().interval, None);
    }
    // By python3 reference.py, from the equation.
    let sleep = sleep().probability_of_higher.interval.unwrap();
    assert_near(sleep.low, 0.485_844_844_885_315_9);
    assert_near(sleep.high, 0.894_087_824_726_091_7);
}

fn assert_near(actual: f64, expected: f64) {
    assert!((actual - expected).abs() < 1e-9, "{actual} instead of {expected}");
}

/// Three arms and a base, by seed.
const ARMS: [[f64; 8]; 3] = [
    [0.8, 1.1, 0.3, 0.9, 1.6, 0.2, 0.7, 1.2],
    [0.4, -0.3, 0.9, 1.1, 0.2, 0.8, -0.1, 0.6],
    [-0.5, 0.4, 0.1, -0.2, 0.3, -0.6, 0.5, -0.1],
];

#[test]
fn the_joint_test_agrees_with_its_definition() {
    let arms = ARMS.map(|arm| arm.map(Some).to_vec());
    // By python3 reference.py, over all 256 patterns.
    for (p, expected) in joint_sign_flip_p(&arms, 0).into_iter().zip([0.007_812_5, 0.109_375, 1.0]) {
        assert_close(p.unwrap(), expected);
    }
}

/// Step-down max-T as it is defined: sets of arms, and patterns in the order of their numbers.
fn step_down(arms: &[Vec<f64>]) -> Vec<f64> {
    let t = |arm: &[f64], pattern: usize| {
        let signed = |(i, d): (usize, &f64)| {
            d.abs().sqrt() * d.signum() * if pattern >> i & 1 == 1 { -1.0 } else { 1.0 }
        };
        let norm = arm.iter().map(|d| d.abs()).sum::<f64>().sqrt();
        if norm == 0.0 { 0.0 } else { arm.iter().enumerate().map(signed).sum::<f64>().abs() / norm }
    };
    let patterns = 1 << arms[0].len();
    let mut left: Vec<usize> = (0..arms.len()).collect();
    let mut p = vec![0.0; arms.len()];
    let mut before = 0.0_f64;
    while let Some(first) = left.iter().copied().max_by(|a, b| t(&arms[*a], 0).total_cmp(&t(&arms[*b], 0))) {
        let observed = t(&arms[first], 0) - 1e-9;
        let is_as_far = |pattern: &usize| left.iter().any(|arm| t(&arms[*arm], *pattern) >= observed);
        before = before.max((0..patterns).filter(is_as_far).count() as f64 / patterns as f64);
        p[first] = before;
        left.retain(|arm| *arm != first);
    }
    p
}

#[test]
fn more_arms_need_no_more_seeds() {
    // 31 arms that are each better on all ten seeds: all of them were unclear.
    let arm = |i: usize| (0..10).map(|seed| Some(0.4 + 0.001 * ((7 * seed + i) % 10) as f64)).collect();
    let many: Vec<Vec<Option<f64>>> = (0..31).map(arm).collect();
    assert!(joint_sign_flip_p(&many, 0).iter().all(|p| p.is_some_and(|p| p <= 0.05)));
    assert!(detectable_difference(10, 31, 0.05, 0.8).is_some_and(|effect| effect < 2.5));
    assert_eq!((fewest_pairs(0.05), fewest_pairs(0.01), fewest_pairs(1.0), fewest_pairs(0.0)), (6, 8, 1, 64));
    // Arms that do nothing take nothing from the others: twenty of them made a clear one unclear.
    let mut dead = many[..10].to_vec();
    dead.extend(vec![vec![Some(0.0); 10]; 20]);
    assert_eq!(joint_sign_flip_p(&dead, 0)[..10], joint_sign_flip_p(&many[..10], 0));
}

#[test]
fn a_pair_that_is_missing_counts_as_no_difference() {
    let whole: Vec<Option<f64>> = [1.0, 2.0, 1.5, 1.2, 0.9, 1.1, 1.3, 0.8].map(Some).to_vec();
    let mut missing = whole.clone();
    missing[2] = None;
    missing[5] = None;
    let p = joint_sign_flip_p(&[whole.clone(), missing], 0);
    assert_eq!((p[0], p[1].map(|p| p >= 2.0 / 64.0)), (Some(2.0 / 256.0), Some(true)));
    // Fewer than six pairs have no verdict, however many seeds the others have.
    let mut few = whole.clone();
    few[..3].fill(None);
    assert!(joint_sign_flip_p(&[whole.clone(), few], 0)[1].is_some_and(|p| p > 0.05));
    let unusable =
        [vec![], vec![Some(1.0)], vec![None; 8], vec![Some(f64::NAN); 8], vec![Some(f64::INFINITY); 8]];
    assert_eq!(joint_sign_flip_p(&unusable, 0), [None; 5]);
    assert_eq!(joint_sign_flip_p(&[], 0), []);
}

#[test]
fn many_seeds_are_tested_by_drawn_patterns_as_by_all_of_them() {
    let exact: Vec<Vec<Option<f64>>> = (1..5)
        .map(|arm| {
            (0..14).map(|i| Some(f64::from((i * arm * 5) % 11) - 4.0 + f64::from(arm) / 3.0)).collect()
        })
        .collect();
    let drawn: Vec<Vec<Option<f64>>> = exact.iter().map(|arm| [arm.clone(), vec![None]].concat()).collect();
    for (exact, drawn) in joint_sign_flip_p(&exact, 0).into_iter().zip(joint_sign_flip_p(&drawn, 0)) {
        let (exact, drawn) = (exact.unwrap(), drawn.unwrap());
        let error = (exact * (1.0 - exact) / 10_000.0).sqrt();
        assert!((exact - drawn).abs() < 4.0 * error + 1e-4, "{exact} {drawn}");
    }
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
    assert_eq!(
        (all.p, all.probability_of_higher.value, all.tested),
        (Some(2.0 / 1024.0), 1.0, 10_f64.sqrt())
    );
    assert_eq!((all.finite, all.mean, all.interval), (0, None, None));
    let turned = PairedDifference::of(&[(lost, 0.9); 10], &method).unwrap();
    assert_eq!((turned.p, turned.probability_of_higher.value, turned.tested), (all.p, 0.0, -all.tested));
    // One run more that diverged is no evidence, and where nothing else differs, it is no more than one sign.
    let mut pairs = [(0.9, 0.9); 10];
    pairs[3].0 = lost;
    assert_eq!(PairedDifference::of(&pairs, &method).unwrap().p, Some(1.0));
    let both = PairedDifference::of(&[(lost, lost); 10], &method).unwrap();
    assert_eq!((both.p, both.ties, both.tested), (Some(1.0), 10, 0.0));
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
    assert!(found.tested.is_finite() && shown.iter().flatten().all(|value| value.is_finite()), "{found:?}");
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
    fn the_joint_test_is_the_one_that_is_defined(
        arms in prop::collection::vec(prop::collection::vec((-4..5_i32).prop_map(f64::from), 6), 1..5),
    ) {
        let given: Vec<Vec<Option<f64>>> = arms.iter().map(|arm| arm.iter().copied().map(Some).collect()).collect();
        let found: Vec<f64> = joint_sign_flip_p(&given, 0).into_iter().flatten().collect();
        for (arm, (one, other)) in arms.iter().zip(found.iter().zip(step_down(&arms))) {
            prop_assert!((one - other).abs() < 1e-12, "{} {}", one, other);
            prop_assert!(*one >= sign_flip_p(arm, 0).unwrap());
        }
    }

    #[test]
    fn swapping_arm_and_base_turns_the_answer_round(pairs in prop::collection::vec((value(), value()), 3..9)) {
        let method = Bootstrap { resamples: 200, ..Bootstrap::default() };
        let swapped: Vec<(f64, f64)> = pairs.iter().map(|(arm, base)| (*base, *arm)).collect();
        let (one, other) = (PairedDifference::of(&pairs, &method).unwrap(), PairedDifference::of(&swapped, &method).unwrap());
        prop_assert!((one.mean.unwrap_or(0.0) + other.mean.unwrap_or(0.0)).abs() < 1e-12);
        prop_assert!((one.tested + other.tested).abs() < 1e-12);
        prop_assert_eq!((one.n, one.finite), (other.n, other.finite));
        prop_assert_eq!(one.p, other.p);
        prop_assert!((one.probability_of_higher.value + other.probability_of_higher.value - 1.0).abs() < 1e-12);
        prop_assert_eq!(one.wins + one.ties + other.wins, pairs.len());
    }
}
