//! Ends of the arms of a sequential study, and their reasons.

use ablate_statistics::{Course, Looks, sequential_equivalence, sequential_sign_flip};
use serde::{Deserialize, Serialize};

use super::CONFIDENCE;
use super::task::{family, finite_family, is_dead, margins};
use crate::results::TaskResults;

/// Reason for which an arm has no further seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It was found to be better or worse.
    Found,
    /// It was found to make no difference that matters.
    Equivalent,
    /// Its weights are the base's to the bit.
    Dead,
    /// Going on as it did, it would hardly have had a verdict.
    GivenUp,
    /// It has all seeds.
    End,
}

/// End of an arm's runs on a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Seeds that it had.
    pub seeds: usize,
    /// Reason for no more.
    pub reason: Reason,
}

/// Looks at a sequential study with a maximal number of seeds.
pub(crate) fn looks(most: usize) -> Looks {
    Looks::of(most, 1.0 - CONFIDENCE)
}

/// The courses of a task's arms, in the test of a difference and in that of equivalence.
pub(super) struct Courses {
    pub(super) different: Vec<Option<Course>>,
    pub(super) alike: Vec<Option<Course>>,
}

impl Courses {
    pub(super) fn of(task: &TaskResults, looks: &Looks, seed: u64) -> Self {
        let seeds = task.arms[0].runs.len();
        let different = sequential_sign_flip(|seeds| family(task, seeds), seeds, looks, seed);
        let until = |seeds| (finite_family(task, seeds), margins(task, seeds));
        Self { different, alike: sequential_equivalence(until, seeds, looks, seed) }
    }

    /// End of an arm; absent where it continues, and for the base.
    pub(super) fn stop(&self, task: &TaskResults, arm: usize, looks: &Looks) -> Option<Stop> {
        let (first, last) = (*looks.seeds.first()?, *looks.seeds.last()?);
        let runs = task.arms[arm].runs.len();
        if arm == 0 || runs < first {
            return None;
        }
        if is_dead(task, arm) {
            return Some(Stop { seeds: runs, reason: Reason::Dead });
        }
        let found = |courses: &[Option<Course>]| courses.get(arm)?.as_ref()?.found;
        let hopeless = |courses: &[Option<Course>], seeds: usize| {
            let course = courses.get(arm).and_then(Option::as_ref);
            course.is_none_or(|course| course.hopeless.contains(&seeds))
        };
        for &seeds in looks.seeds.iter().filter(|seeds| **seeds <= runs) {
            // What surely does not matter is more than which side it lies on.
            let reason = if found(&self.alike) == Some(seeds) {
                Reason::Equivalent
            } else if found(&self.different) == Some(seeds) {
                Reason::Found
            } else if seeds == last {
                Reason::End
            } else if self.different.get(arm).is_some_and(Option::is_some)
                && hopeless(&self.different, seeds)
                && hopeless(&self.alike, seeds)
            {
                Reason::GivenUp
            } else {
                continue;
            };
            return Some(Stop { seeds, reason });
        }
        None
    }
}

/// Of every arm but the base, where it stops, as far as a task's runs decide.
pub(crate) fn stops(task: &TaskResults, most: usize) -> Vec<Option<Stop>> {
    let looks = looks(most);
    let courses = Courses::of(task, &looks, super::method().seed);
    (0..task.arms.len()).map(|arm| courses.stop(task, arm, &looks)).collect()
}
