//! Promises of the tests that may stop early, by simulated studies with fixed seeds.

use ablate_statistics::{Course, Looks, sequential_equivalence, sequential_sign_flip};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, LogNormal, StandardNormal};

const LEVEL: f64 = 0.05;

type Arms = Vec<Vec<Option<f64>>>;

/// Differences of arms that share a base, each in standard deviations of its difference.
fn study(effects: &[f64], seeds: usize, mut run: impl FnMut() -> f64) -> Arms {
    let base: Vec<f64> = (0..seeds).map(|_| run()).collect();
    let scale = std::f64::consts::FRAC_1_SQRT_2;
    effects
        .iter()
        .map(|effect| base.iter().map(|base| Some((run() - base) * scale + effect)).collect())
        .collect()
}

/// The study as it goes: an arm that was found, or given up, has no further seeds.
fn followed(arms: &Arms, looks: &Looks, gives_up: bool) -> (Vec<Option<Course>>, Vec<usize>) {
    let most = *looks.seeds.last().unwrap();
    let mut ends = vec![most; arms.len()];
    let mut courses = Vec::new();
    for look in &looks.seeds {
        let until = |seeds: usize| {
            arms.iter()
                .zip(&ends)
                .map(|(arm, end)| arm.iter().take(seeds.min(*end)).copied().collect())
                .collect()
        };
        courses = sequential_sign_flip(until, *look, looks, 0);
        for (end, course) in ends.iter_mut().zip(&courses) {
            let course = course.as_ref().unwrap();
            if *end == most && (course.found.is_some() || gives_up && course.hopeless.last() == Some(look)) {
                *end = *look;
            }
        }
    }
    (courses, ends)
}

fn normal(generator: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(generator)
}

#[test]
fn however_early_it_is_stopped_at_most_one_study_of_twenty_has_a_false_verdict() {
    let skewed = LogNormal::new(0.0, 1.0).unwrap();
    for (name, arms, most, studies) in
        [("normal", 1, 14, 1500), ("normal", 15, 12, 400), ("skewed", 15, 12, 400)]
    {
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        let looks = Looks::of(most, LEVEL);
        let mut found = 0;
        for _ in 0..studies {
            let draw =
                || if name == "skewed" { skewed.sample(&mut generator) } else { normal(&mut generator) };
            let study = study(&vec![0.0; arms], most, draw);
            let (courses, _) = followed(&study, &looks, true);
            found += usize::from(courses.iter().flatten().any(|course| course.found.is_some()));
        }
        let (share, error) = (found as f64 / studies as f64, (LEVEL * (1.0 - LEVEL) / studies as f64).sqrt());
        eprintln!(
            "{name}, {arms} arms, up to {most} seeds: a false verdict at some look in {:.1} %",
            100.0 * share
        );
        assert!(share < LEVEL + 3.0 * error, "{name} {arms}: {share}");
    }
}

#[test]
fn arms_that_are_found_early_do_not_make_others_be_found_wrongly() {
    let mut generator = ChaCha8Rng::seed_from_u64(2);
    let looks = Looks::of(12, LEVEL);
    let effects = [[3.0; 3].as_slice(), &[0.0; 7]].concat();
    let (mut wrong, mut seeds) = (0, 0);
    for _ in 0..400 {
        let (courses, ends) = followed(&study(&effects, 12, || normal(&mut generator)), &looks, true);
        wrong += usize::from(courses[3..].iter().flatten().any(|course| course.found.is_some()));
        seeds += ends[..3].iter().sum::<usize>();
    }
    let share = wrong as f64 / 400.0;
    eprintln!(
        "seven beside three clear ones: a false verdict in {:.1} %; the clear ones took {:.1} seeds",
        100.0 * share,
        seeds as f64 / 1200.0
    );
    assert!(share < LEVEL + 3.0 * (LEVEL * (1.0 - LEVEL) / 400.0).sqrt(), "{share}");
    assert!(seeds < 9 * 1200, "{seeds}");
}

#[test]
fn a_clear_effect_is_found_with_few_seeds_and_a_smaller_one_nearly_as_often_as_without_looks() {
    let mut generator = ChaCha8Rng::seed_from_u64(3);
    for (effect, at_least, seeds_at_most) in [(1.0, 0.82, 10.5), (1.5, 0.97, 9.0), (3.0, 0.99, 8.1)] {
        let looks = Looks::of(14, LEVEL);
        let (mut found, mut plain, mut seeds) = (0, 0, 0);
        for _ in 0..300 {
            let study = study(&[effect], 14, || normal(&mut generator));
            plain += usize::from(ablate_statistics::joint_sign_flip_p(&study, 0)[0].unwrap() <= LEVEL);
            let (courses, ends) = followed(&study, &looks, true);
            found += usize::from(courses[0].as_ref().unwrap().found.is_some());
            seeds += ends[0];
        }
        let of = |count: usize| count as f64 / 300.0;
        eprintln!(
            "{effect} sd, up to 14 seeds: found in {:.1} % with {:.1} seeds on average; without looks {:.1} % with 14",
            100.0 * of(found),
            of(seeds),
            100.0 * of(plain)
        );
        assert!(of(found) > at_least && of(seeds) < seeds_at_most, "{effect}: {} {}", of(found), of(seeds));
    }
}

#[test]
fn an_arm_without_effect_is_given_up_and_one_with_an_effect_hardly_ever() {
    let mut generator = ChaCha8Rng::seed_from_u64(4);
    let looks = Looks::of(14, LEVEL);
    let (mut seeds, mut lost) = (0, 0);
    for _ in 0..300 {
        seeds += followed(&study(&[0.0], 14, || normal(&mut generator)), &looks, true).1[0];
        let with_effect = study(&[1.0], 14, || normal(&mut generator));
        let found =
            |gives_up| followed(&with_effect, &looks, gives_up).0[0].as_ref().unwrap().found.is_some();
        lost += usize::from(found(false) && !found(true));
    }
    eprintln!(
        "an arm without effect took {:.1} of 14 seeds; giving up cost {:.1} % of effects of 1 sd",
        seeds as f64 / 300.0,
        lost as f64 / 3.0
    );
    assert!(seeds < 12 * 300 && lost < 15, "{seeds} {lost}");
}

#[test]
fn an_arm_at_its_margin_is_called_equivalent_at_some_look_in_at_most_one_study_of_twenty() {
    let mut generator = ChaCha8Rng::seed_from_u64(5);
    let looks = Looks::of(12, LEVEL);
    for (effect, margin, is_wrong) in [(2.0, 2.0, true), (0.0, 2.0, false)] {
        let (mut found, mut seeds) = (0, 0);
        for _ in 0..300 {
            let study = study(&[effect, 0.0], 12, || normal(&mut generator));
            let until = |seeds: usize| {
                let arms: Arms = study.iter().map(|arm| arm.iter().take(seeds).copied().collect()).collect();
                (arms, vec![margin; 2])
            };
            let course = sequential_equivalence(until, 12, &looks, 0).swap_remove(0).unwrap();
            found += usize::from(course.found.is_some());
            seeds += course.found.unwrap_or(12);
        }
        let share = found as f64 / 300.0;
        eprintln!(
            "a difference of {effect} sd and a margin of {margin}: equivalent in {:.1} %, with {:.1} seeds",
            100.0 * share,
            seeds as f64 / 300.0
        );
        if is_wrong {
            assert!(share < LEVEL + 3.0 * (LEVEL * (1.0 - LEVEL) / 300.0).sqrt(), "{share}");
        } else {
            assert!(share > 0.9 && seeds < 10 * 300, "{share} {seeds}");
        }
    }
}
