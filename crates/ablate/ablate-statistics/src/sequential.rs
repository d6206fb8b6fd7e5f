use crate::joint::{Column, Effort, Patterns, ROUNDING, Sides, for_each_pattern};
use crate::sign_flip::fewest_pairs;

/// Normal quantile of 0.9: of the arms that are given up, at most a tenth would have been found later if they had
/// continued as before.
const HOPED_FOR: f64 = 1.281_551_565_544_600_4;

/// Looks at a study while it grows: after how many seeds, and how much of the error may be spent by then.
///
/// Pocock's spending function (Lan and DeMets, 1983, biometrika 70, 659): `level ln(1 + (e - 1) t)` after a share t of
/// the seeds, so that a clear effect is found at the first look that can find any. Looks are at [`fewest_pairs`], at
/// every second seed up to 14, up to which tests are exact, and at every fourth beyond; those that can find nothing, as
/// the smallest p of so many seeds is more than may be spent, are left out.
///
/// ```
/// use ablate_statistics::Looks;
///
/// let looks = Looks::of(30, 0.05);
/// assert_eq!(looks.seeds, [8, 10, 12, 14, 18, 22, 26, 30]);
/// assert_eq!(Looks::of(10, 0.05).seeds, [6, 8, 10]);
/// assert!(looks.spent.is_sorted() && looks.spent.last() == Some(&0.05));
/// assert_eq!(Looks::of(3, 0.05).seeds, [3]); // in which nothing can be found
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Looks {
    /// Numbers of seeds, rising; the last one is the maximum.
    pub seeds: Vec<usize>,
    /// By look, the largest probability of a false verdict at it or before.
    pub spent: Vec<f64>,
}

impl Looks {
    /// Those that there were with so many seeds.
    fn until(&self, seeds: usize) -> impl Iterator<Item = usize> {
        self.seeds.iter().copied().take_while(move |look| *look <= seeds)
    }

    /// Looks at a study of at most so many seeds.
    pub fn of(most: usize, level: f64) -> Self {
        let exact = Effort::VERDICT.exact;
        let mut seeds = Vec::new();
        let mut next = fewest_pairs(level);
        while next < most {
            seeds.push(next);
            next += if next < exact { 2 } else { 4 };
        }
        seeds.push(most);
        let share = |seeds: &usize| *seeds as f64 / most.max(1) as f64;
        let spent = |seeds: &usize| match share(seeds) {
            all if all >= 1.0 => level,
            share => level * (1.0 + (std::f64::consts::E - 1.0) * share).ln(),
        };
        let can_find = |seeds: &usize| *seeds >= most || 2.0_f64.powf(1.0 - *seeds as f64) <= spent(seeds);
        seeds.retain(can_find);
        Self { spent: seeds.iter().map(spent).collect(), seeds }
    }
}

/// Course of an arm over the looks at a study.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Course {
    /// The number of seeds at the look that found it, if one did.
    pub found: Option<usize>,
    /// p at that look, or at the latest one: the share of sign patterns under which some arm would have been found at
    /// an earlier look, or would have had as large a T at this one. An arm is found where p is at most what is spent by
    /// then. That of an arm that is not is corrected over all that are not.
    pub p: f64,
    /// Numbers of seeds at looks from half of the seeds on where, continuing as it did, it would be found by the last
    /// one in less than a tenth of cases.
    pub hopeless: Vec<usize>,
}

/// [`joint_sign_flip_p`](crate::joint_sign_flip_p) at several looks, of which any may be the last: a group-sequential test.
///
/// `until(seeds)[arm][seed]` is the difference to the base among the first seeds, absent without a pair; `seeds` is
/// their present number. An arm that was found or given up needs no further ones. The answers are in the order of the
/// arms. They are absent for an arm with fewer than two pairs at the first look, or with a difference that is not
/// finite.
///
/// A sign pattern turns the differences of a seed round for all arms and at all looks, so that the joint distribution
/// of the largest T at all looks is had from the same patterns, however looks and arms depend on each other. By every
/// look the share of patterns that would have found some arm is at most what [`Looks`] lets it spend; what is not
/// spent, as shares are of 2^n patterns, is left for later looks. Arms that are found leave the family, and the looks
/// before are taken again without them, which is the closed test of the remaining ones (Marcus, Peritz and Gabriel,
/// 1976; Tang and Geller, 1999). Those that were given up, or ended for another reason, stay in it as if their
/// differences continued in the same order: without that, what is left would be found too often, as it was chosen by
/// what was seen (in 9 % of simulated studies of fifteen arms without effect).
///
/// If the differences of arms without effect are jointly symmetric around 0, at most a share `level` of studies find
/// one of them at any look. Stopping sooner than planned only makes this rarer. The size of an effect that was found
/// early is overestimated.
///
/// ```
/// use ablate_statistics::{Course, Looks, sequential_sign_flip};
///
/// let clear: Vec<Option<f64>> = [2.0, 2.1, 1.9, 2.2, 2.0, 2.1].map(Some).to_vec();
/// let noise: Vec<Option<f64>> = [0.1, -0.2, 0.3, -0.1, 0.2, -0.3, 0.1, -0.1].map(Some).to_vec();
/// let until = |seeds: usize| -> Vec<Vec<Option<f64>>> {
///     [&noise, &clear].iter().map(|arm| arm.iter().take(seeds).copied().collect()).collect()
/// };
/// let courses: Vec<Option<Course>> = sequential_sign_flip(until, 8, &Looks::of(10, 0.05), 0);
/// let [Some(noise), Some(clear)] = courses.as_slice() else { panic!("both have pairs") };
/// assert_eq!((clear.found, clear.p), (Some(6), 2.0 / 64.0)); // after six of ten seeds
/// assert_eq!((noise.found, noise.hopeless.as_slice()), (None, &[6, 8][..]));
/// ```
pub fn sequential_sign_flip(
    until: impl Fn(usize) -> Vec<Vec<Option<f64>>>,
    seeds: usize,
    looks: &Looks,
    seed: u64,
) -> Vec<Option<Course>> {
    let series: Vec<Series> =
        looks.until(seeds).map(|seeds| Series::of(&until(seeds), seeds, Sides::Two)).collect();
    courses(&series, looks, Sides::Two, seed)
}

/// [`joint_equivalence_p`](crate::joint_equivalence_p) at several looks, as [`sequential_sign_flip`] is of the test of a difference: an arm is found where both of its
/// one-sided tests were.
///
/// ```
/// use ablate_statistics::{Looks, sequential_equivalence};
///
/// let close: Vec<Option<f64>> = [0.1, -0.2, 0.3, -0.1, 0.2, -0.3].map(Some).to_vec();
/// let until = |seeds: usize| -> (Vec<Vec<Option<f64>>>, Vec<f64>) {
///     (vec![close.iter().take(seeds).copied().collect()], vec![3.0]) // and the margins
/// };
/// let courses = sequential_equivalence(until, 6, &Looks::of(10, 0.05), 0);
/// assert_eq!(courses[0].as_ref().and_then(|course| course.found), Some(6));
/// ```
pub fn sequential_equivalence(
    until: impl Fn(usize) -> (Vec<Vec<Option<f64>>>, Vec<f64>),
    seeds: usize,
    looks: &Looks,
    seed: u64,
) -> Vec<Option<Course>> {
    let sides = |seeds: usize| {
        let (arms, margins) = until(seeds);
        let side = |sign: f64| -> Vec<Vec<Option<f64>>> {
            let shift = |(differences, margin): (&Vec<Option<f64>>, &f64)| {
                let is_margin = margin.is_finite() && *margin > 0.0;
                let differences = differences.iter().filter(|_| is_margin);
                differences.map(|difference| difference.map(|d| margin + sign * d)).collect()
            };
            arms.iter().zip(&margins).map(shift).collect()
        };
        Series::of(&[side(1.0), side(-1.0)].concat(), seeds, Sides::One)
    };
    let series: Vec<Series> = looks.until(seeds).map(sides).collect();
    let mut below = courses(&series, looks, Sides::One, seed);
    let above = below.split_off(below.len() / 2);
    let both = |(below, above): (Option<Course>, Option<Course>)| {
        let (below, above) = (below?, above?);
        let found = below.found.zip(above.found).map(|(below, above)| below.max(above));
        let mut hopeless = [below.hopeless, above.hopeless].concat();
        hopeless.sort_unstable();
        hopeless.dedup();
        Some(Course { found, p: below.p.max(above.p), hopeless })
    };
    below.into_iter().zip(above).map(both).collect()
}

/// The arms at a look. One that has ended continues as it did, for the sake of the others: which arms end depends on
/// what was seen, and those that are left would else be tested as if they were a family that had been chosen before.
struct Series(Vec<Option<Column>>);

impl Series {
    fn of(arms: &[Vec<Option<f64>>], seeds: usize, sides: Sides) -> Self {
        let column = |differences: &Vec<Option<f64>>| {
            let own = differences.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
            let mut going_on: Vec<Option<f64>> =
                differences[..own].iter().copied().cycle().take(if own > 0 { seeds } else { 0 }).collect();
            going_on.resize(seeds, None);
            let mut column = Column::of(0, &going_on, sides)?;
            if own < seeds {
                column.observed = f64::NEG_INFINITY;
            }
            Some(column)
        };
        Self(arms.iter().map(column).collect())
    }

    fn t(&self, arm: usize) -> f64 {
        self.0[arm].as_ref().map_or(f64::NEG_INFINITY, |column| column.observed)
    }
}

fn courses(series: &[Series], looks: &Looks, sides: Sides, seed: u64) -> Vec<Option<Course>> {
    let Some(first) = series.first() else { return Vec::new() };
    let of_arm = |column: &Option<Column>| column.as_ref().map(|_| Course { p: 1.0, ..Course::default() });
    let mut courses: Vec<Option<Course>> = first.0.iter().map(of_arm).collect();
    let mut open: Vec<usize> = (0..courses.len()).filter(|arm| courses[*arm].is_some()).collect();
    let mut family = Family { series, looks, sides, seed, nulls: Vec::new() };
    for look in 0..series.len() {
        let mut before = 0.0_f64;
        loop {
            family.extend(&open, look);
            let crossing = |index: &usize| (0..=look).find(|at| family.is_crossed(*index, *at));
            let found: Vec<(usize, usize)> =
                open.iter().filter_map(|index| Some((*index, crossing(index)?))).collect();
            if found.is_empty() {
                break;
            }
            for (index, at) in &found {
                let p = family.nulls[*at].p(series[*at].t(*index));
                before = before.max(p);
                courses[*index] =
                    Some(Course { found: Some(looks.seeds[look]), p: before, hopeless: Vec::new() });
            }
            open.retain(|index| found.iter().all(|(other, _)| other != index));
            family.nulls.clear();
        }
        for index in &open {
            let has_ended = series[look].t(*index) == f64::NEG_INFINITY;
            if let Some(course) = courses[*index].as_mut().filter(|_| !has_ended) {
                course.p = before.max(family.nulls[look].p(series[look].t(*index)));
                if family.is_hopeless(*index, look) {
                    course.hopeless.push(looks.seeds[look]);
                }
            }
        }
        if open.is_empty() {
            break;
        }
    }
    courses
}

/// The arms that are tested together, and what is known of their largest T at the looks so far.
struct Family<'a> {
    series: &'a [Series],
    looks: &'a Looks,
    sides: Sides,
    seed: u64,
    nulls: Vec<Null>,
}

impl Family<'_> {
    /// Takes the looks up to this one, of these arms.
    fn extend(&mut self, open: &[usize], look: usize) {
        while self.nulls.len() <= look {
            let at = self.nulls.len();
            let null = Null::of(self, open, at);
            self.nulls.push(null);
        }
    }

    fn is_crossed(&self, index: usize, look: usize) -> bool {
        self.series[look].t(index) >= self.nulls[look].boundary - ROUNDING
    }

    /// Of what is to come, T is the sum of what there is and of as much for every further seed, which spreads as signs
    /// do.
    fn is_hopeless(&self, index: usize, look: usize) -> bool {
        let (seeds, most) = (self.looks.seeds[look] as f64, *self.looks.seeds.last().unwrap_or(&1) as f64);
        let share = seeds / most;
        let expected = self.series[look].t(index) / share.sqrt();
        (0.5..1.0).contains(&share) && expected + HOPED_FOR * (1.0 - share).sqrt() < self.nulls[look].boundary
    }
}

/// The largest T of a family at a look, over sign patterns.
struct Null {
    /// Patterns that would have found an arm before.
    crossed: usize,
    /// Of the others, falling.
    largest: Vec<f64>,
    patterns: Patterns,
    sides: Sides,
    /// The least T that is found.
    boundary: f64,
}

impl Null {
    fn of(family: &Family<'_>, open: &[usize], look: usize) -> Self {
        let Family { series, looks, sides, seed, nulls } = family;
        // Each arm has a column for every look so far, which is empty after it.
        let unit = |row: usize, at: usize, index: &usize| {
            series[at].0[*index].as_ref().and_then(|column| column.units.get(row)).copied().unwrap_or(0.0)
        };
        let rows: Vec<Vec<f64>> = (0..looks.seeds[look])
            .map(|row| {
                (0..=look)
                    .flat_map(|at| open.iter().map(move |index| (at, index)))
                    .map(|(at, index)| unit(row, at, index))
                    .collect()
            })
            .collect();
        let arms = open.len();
        let mut null = Self {
            crossed: 0,
            largest: Vec::new(),
            patterns: Patterns::NONE,
            sides: *sides,
            boundary: f64::INFINITY,
        };
        let largest = |sums: &[f64], at: usize, of: &dyn Fn(f64) -> f64| {
            sums[at * arms..(at + 1) * arms].iter().map(|sum| of(*sum)).fold(f64::NEG_INFINITY, f64::max)
        };
        let mut count = |sums: &[f64], of: &dyn Fn(f64) -> f64| {
            if (0..look).any(|at| largest(sums, at, of) >= nulls[at].boundary - ROUNDING) {
                null.crossed += 1;
            } else {
                null.largest.push(largest(sums, look, of));
            }
        };
        let patterns =
            for_each_pattern(&rows, arms * (look + 1), Effort::VERDICT, *seed, |sums| match sides {
                Sides::Two => count(sums, &f64::abs),
                Sides::One => {
                    count(sums, &|sum| sum);
                    count(sums, &|sum| -sum);
                }
            });
        null.patterns = patterns;
        null.largest.sort_by(|a, b| b.total_cmp(a));
        null.boundary = null.boundary_of(looks.spent[look]);
        null
    }

    /// The share of patterns that would have found an arm before, or have as large a T.
    fn p(&self, t: f64) -> f64 {
        let as_large = self.largest.partition_point(|largest| *largest >= t - ROUNDING);
        self.patterns.share(self.crossed + as_large, self.sides)
    }

    fn boundary_of(&self, level: f64) -> f64 {
        let is_found = |t: &f64| self.p(*t) <= level;
        // p rises as T falls.
        let found = self.largest.partition_point(is_found);
        if found == 0 { f64::INFINITY } else { self.largest[found - 1] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(arms: &[Vec<Option<f64>>], seeds: usize) -> Vec<Vec<Option<f64>>> {
        arms.iter().map(|arm| arm.iter().take(seeds).copied().collect()).collect()
    }

    #[test]
    fn one_look_is_the_test_without_looks() {
        let arms: Vec<Vec<Option<f64>>> = (0..4)
            .map(|arm| {
                let effect = if arm < 2 { 7.0 } else { 0.0 };
                (0..9).map(|seed| Some(((seed * 7 + arm * 3) % 11) as f64 - 5.0 + effect)).collect()
            })
            .collect();
        let looks = Looks { seeds: vec![9], spent: vec![0.05] };
        let plain = crate::joint_sign_flip_p(&arms, 0);
        let courses = sequential_sign_flip(|seeds| first(&arms, seeds), 9, &looks, 0);
        for (course, p) in courses.into_iter().zip(plain) {
            let (course, p) = (course.unwrap(), p.unwrap());
            assert_eq!(course.found.is_some(), p <= 0.05);
            // Of arms that are not found, the plain test steps down.
            assert!(if p <= 0.05 { course.p == p } else { course.p >= p }, "{} {p}", course.p);
        }
    }

    #[test]
    fn what_is_found_stays_found_however_long_the_others_go_on() {
        let at = |seed: usize, arm: usize| ((seed * 31 + arm * 17) % 13) as f64 - 6.0;
        let arm = |arm: usize| -> Vec<Option<f64>> {
            let (seeds, effect) = if arm == 0 { (8, 20.0) } else { (18, 0.0) };
            (0..seeds).map(|seed| Some(at(seed, arm) + effect)).collect()
        };
        let (arms, looks) = ((0..5).map(arm).collect::<Vec<_>>(), Looks::of(18, 0.05));
        let clear = |seeds: usize| {
            sequential_sign_flip(|seeds| first(&arms, seeds), seeds, &looks, 0).swap_remove(0).unwrap()
        };
        assert_eq!(clear(8).found, Some(8));
        for seeds in [10, 12, 14, 18] {
            assert_eq!(clear(seeds), clear(8), "{seeds}");
        }
    }
}
