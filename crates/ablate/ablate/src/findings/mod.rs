//! Findings of a study's runs: the numbers of every arm, its difference to the base, and what limits them.
//!
//! With a study of one factor, one baseline and two seeds (in `execution`):
//!
//! ```
//! use ablate::findings::{
//!     ArmFindings, CONFIDENCE, Detectable, FEWEST_PAIRS, Findings, ForkFindings, Overall, POWER, Profile, Reason,
//!     Repeats, Stop, TaskFindings, Verdict,
//! };
//!
//! # use ablate::{execute::Execution, registry::Registry, store::Store, study::{Overrides, Study}};
//! # let text = r#"
//! #     tasks = ["digits"]
//! #     seeds = 2
//! #     length = 0.01
//! #     baselines = ["sgd"]
//! #     tuning = { rates = [0.1], seeds = 1 }
//! #     [[factor]]
//! #     name = "cautious"
//! #     on = { use_cautious = true }
//! # "#;
//! # let registry = Registry::shipped();
//! # let study = Study::parse("mine", text, &registry, &Overrides::default())?;
//! # let folder = tempfile::tempdir()?;
//! # let store = Store::open(folder.path())?;
//! # let execution = Execution::new(&study, &registry, &store);
//! let findings = Findings::of(&execution.results(&())?);
//! let TaskFindings { name, arms, factorial, detectable, repeats, forks, .. } = &findings.tasks[0];
//! let forks: &[ForkFindings] = forks;
//! assert!(forks.is_empty()); // the study asks for none
//! assert_eq!((name.as_str(), arms[0].verdict), ("digits", Verdict::Base));
//! assert!(factorial.is_none()); // the study's design is another one
//! let again: Option<&Repeats> = repeats.as_ref();
//! assert!(again.is_none()); // what trains here is known to give the same numbers again
//! let ArmFindings { verdict, difference, stop, .. } = &arms[1];
//! // Only an arm of a sequential study stops before the end.
//! assert!(stop.is_none_or(|Stop { reason, .. }| reason == Reason::End));
//! assert!(*verdict == Verdict::Unclear && FEWEST_PAIRS == 6); // two seeds never give a verdict
//! let found: Option<&Detectable> = detectable.as_ref();
//! assert!(found.is_none() && POWER == 0.8); // and there is no difference that they could find
//! assert_eq!(difference.as_ref().map(|difference| difference.n), Some(2));
//! let overall: &Overall = &findings.overall[1];
//! assert_eq!((overall.better, overall.worse, overall.unclear), (0, 0, 1));
//! let profiles: &[Profile] = &findings.profiles;
//! assert!(profiles.is_empty()); // of one task, they would say nothing
//! assert!(!findings.caveats.is_empty() && CONFIDENCE == 0.95);
//! # Ok::<(), anyhow::Error>(())
//! ```

mod causes;
mod caveats;
mod fork;
mod overall;
mod stop;
mod task;

use ablate_statistics::{
    Bootstrap, Course, Interval, PairedDifference, PairedSteps, Probability, StepsToTarget, Summary,
    fewest_pairs, holm, joint_equivalence_p, joint_sign_flip_p,
};
use ablate_tasks::Measure;
use serde::{Deserialize, Serialize};

pub use fork::ForkFindings;
pub use overall::{Overall, Profile};
pub use stop::{Reason, Stop};
pub(crate) use stop::{looks, stops};
pub(crate) use task::{are_same, diverged};

use self::stop::Courses;
use crate::results::{Results, TaskResults};

/// Share of intervals that contain the true difference, over many studies, and 1 minus the familywise error rate.
pub const CONFIDENCE: f64 = 0.95;

/// The share of studies in which a [`Detectable`] difference has a verdict.
pub const POWER: f64 = 0.8;

/// Smallest number of pairs with which a verdict is possible, for any number of arms ([`fewest_pairs`]).
pub const FEWEST_PAIRS: usize = fewest_pairs(1.0 - CONFIDENCE);

/// Outcome of a comparison with the base, after correction over the arms of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is the base.
    Base,
    /// Better than the base.
    Better,
    /// Worse than the base.
    Worse,
    /// Smaller difference than the study says matters. It replaces better and worse.
    Equivalent,
    /// The data do not decide.
    Unclear,
    /// Every weight of every seed is the base's to the bit: the switch does nothing here.
    Dead,
}

/// An arm on a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArmFindings {
    /// Outcome of the comparison.
    pub verdict: Verdict,
    /// End of its runs, and the reason, in a sequential study; absent for the base, and in a study of a fixed number of
    /// seeds.
    pub stop: Option<Stop>,
    /// Runs that diverged. They are in no mean and no interval; in the test of the difference and in the probability of
    /// improvement they lose their pair.
    pub diverged: usize,
    /// The task's measure on the test split, finished runs; absent where none finished.
    pub value: Option<Summary>,
    /// The final loss over the training split.
    pub train_loss: Option<Summary>,
    /// The measure minus the base's, paired by seed, in the measure's own direction, where a run that diverged has the
    /// worst value; absent for the base.
    pub difference: Option<PairedDifference>,
    /// The difference's p, corrected over the arms of this task, [`joint_sign_flip_p`]: of tasks where no arm has an
    /// effect, at most 5 % have a verdict. Absent for the base, and for an arm that does nothing.
    pub adjusted_p: Option<f64>,
    /// The same, corrected over the arms of all tasks: of studies where no arm has an effect on any task, at most 5 %
    /// have such a p below 0.05.
    pub study_p: Option<f64>,
    /// p of a difference that matters, corrected over the arms of this task, [`joint_equivalence_p`], and of two
    /// samples [`unpaired_equivalence_p`](ablate_statistics::unpaired_equivalence_p): an arm that makes one is called
    /// equivalent in at most 5 % of tasks. Absent where nothing is said to matter, and where one run of a pair diverged
    /// and the other didn't.
    pub equivalence_p: Option<f64>,
    /// The same, corrected over the arms of all tasks.
    pub study_equivalence_p: Option<f64>,
    /// Probability that a run of the arm is better than one of the base; a run that diverged loses to one that didn't.
    pub probability_of_improvement: Option<Probability>,
    /// Steps until the validation split reached the target, misses censored.
    pub to_target: Option<StepsToTarget>,
    /// These steps against the base's, paired by seed.
    pub paired_steps: Option<PairedSteps>,
    /// d at the end, by group, mean over the seeds; absent where nothing estimates it.
    pub d: Vec<Option<f64>>,
}

/// An effect of a factorial design.
///
/// ```
/// use ablate::findings::{FactorEffect, Factorial, Findings};
/// # use ablate::{execute::Execution, registry::Registry, store::Store, study::{Overrides, Study}};
///
/// let text = r#"
///     tasks = ["digits"]
///     design = "factorial"
///     seeds = 2
///     length = 0.01
///     [[factor]]
///     name = "cautious"
///     on = { use_cautious = true }
///     [[factor]]
///     name = "orthograd"
///     on = { use_orthograd = true }
/// "#;
/// # let registry = Registry::shipped();
/// # let study = Study::parse("mine", text, &registry, &Overrides::default())?;
/// # let folder = tempfile::tempdir()?;
/// # let store = Store::open(folder.path())?;
/// # let execution = Execution::new(&study, &registry, &store);
/// let findings = Findings::of(&execution.results(&())?);
/// let Factorial { main, interactions, shapley } = findings.tasks[0].factorial.as_ref().unwrap();
/// assert_eq!((main.len(), interactions.len(), shapley.len()), (2, 1, 2));
/// let FactorEffect { factors, mean, .. } = &interactions[0];
/// assert_eq!(*factors, ["cautious", "orthograd"]);
/// assert!(mean.is_finite());
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FactorEffect {
    /// The factor, or two of them for an interaction.
    pub factors: Vec<String>,
    /// The mean effect on the measure, and its interval.
    pub mean: f64,
    /// The interval over the seeds.
    pub interval: Option<Interval>,
    /// Two-sided p of the sign-flip test, uncorrected.
    pub p: Option<f64>,
    /// The same, corrected over the effects of its kind on this task.
    pub adjusted_p: Option<f64>,
}

/// Effects of the factors of a full factorial.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Factorial {
    /// By factor: the mean over all settings of the other factors of changed minus unchanged.
    pub main: Vec<FactorEffect>,
    /// By pair: half the difference between the first one's effects where the second one is changed and where it isn't.
    pub interactions: Vec<FactorEffect>,
    /// By factor: its Shapley value, its share of the whole difference between all changed and none.
    pub shapley: Vec<FactorEffect>,
}

/// The smallest difference that a share [`POWER`] of studies like this one would give a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Detectable {
    /// In standard deviations of an arm's differences, over normal runs.
    pub deviations: f64,
    /// In the measure's unit, for the median of the arms' spreads; absent without a spread.
    pub difference: Option<f64>,
}

/// Comparison of two runs of the base with the same seed, for a task that is a command.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Repeats {
    /// Seeds that were run twice.
    pub pairs: usize,
    /// Number of these with the same numbers both times.
    pub equal: usize,
    /// Difference of the measure between two runs of a seed ([`repeat_noise`](ablate_statistics::repeat_noise)).
    pub noise: Option<f64>,
    /// Share of this noise in the variance of an arm's differences, for the median of the arms' spreads.
    pub share: Option<f64>,
}

/// A task in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskFindings {
    /// The task's name.
    pub name: String,
    /// Measure that is compared.
    pub measure: Measure,
    /// By arm, in the order of [`Results::arms`].
    pub arms: Vec<ArmFindings>,
    /// The smallest difference that matters, in the measure's unit; absent where the study says nothing of it, or the
    /// base has no spread.
    pub matters: Option<f64>,
    /// Smallest difference that the runs of this task could have found; absent where no verdict is possible.
    pub detectable: Option<Detectable>,
    /// The base's runs compared with their repetitions; absent for a task that is not a command.
    pub repeats: Option<Repeats>,
    /// By arm and step, arms that took over from the base, where the study asks for it.
    pub forks: Vec<ForkFindings>,
    /// Effects and interactions, for a complete factorial without a run that diverged.
    pub factorial: Option<Factorial>,
}

/// A study in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Findings {
    /// By task.
    pub tasks: Vec<TaskFindings>,
    /// By arm over the tasks, in the order of [`Results::arms`].
    pub overall: Vec<Overall>,
    /// Performance profiles over the tasks, by arm; empty with one task.
    pub profiles: Vec<Profile>,
    /// Limits of the numbers, computed from the data.
    pub caveats: Vec<String>,
}

/// An arm's p after correction over the arms of its task, and over the arms of all tasks.
#[derive(Clone, Copy)]
struct Corrected {
    different: (Option<f64>, Option<f64>),
    alike: (Option<f64>, Option<f64>),
    stop: Option<Stop>,
}

/// Method of the intervals, and the seed of random draws.
fn method() -> Bootstrap {
    Bootstrap { confidence: CONFIDENCE, ..Bootstrap::default() }
}

/// An arm's difference to the base of a task; absent without a run of both.
pub(crate) fn compared(task: &TaskResults, arm: usize) -> Option<PairedDifference> {
    task::difference(task, arm, &method())
}

impl Findings {
    /// Computes everything from the runs.
    pub fn of(results: &Results) -> Self {
        let method = method();
        let corrected = if results.study.sequential {
            at_looks(results, method.seed)
        } else {
            at_once(results, method.seed)
        };
        let of_task_findings = |(task, corrected): (&TaskResults, &Vec<Corrected>)| {
            task::findings(results, task, corrected, &method)
        };
        let tasks: Vec<TaskFindings> = results.tasks.iter().zip(&corrected).map(of_task_findings).collect();
        Self {
            overall: overall::overall(results.arms.len(), &tasks),
            profiles: overall::profiles(results),
            caveats: caveats::caveats(results, &tasks),
            tasks,
        }
    }
}

/// By task and arm, for a fixed number of seeds.
fn at_once(results: &Results, seed: u64) -> Vec<Vec<Corrected>> {
    const ALL: usize = usize::MAX;
    let of_tasks = |of: fn(&TaskResults, usize) -> Vec<Vec<Option<f64>>>| -> Vec<Vec<Vec<Option<f64>>>> {
        results.tasks.iter().map(|task| of(task, ALL)).collect()
    };
    let (families, finite) = (of_tasks(task::family), of_tasks(task::finite_family));
    let margins: Vec<Vec<f64>> = results.tasks.iter().map(|task| task::margins(task, ALL)).collect();
    // A seed turns the signs on all tasks at once. If the differences of each task are symmetric, all are jointly
    // symmetric.
    let mut of_study = joint_sign_flip_p(&families.concat(), seed).into_iter();
    let mut equivalent = joint_equivalence_p(&finite.concat(), &margins.concat(), seed).into_iter();
    let of_task = |(index, family): (usize, &Vec<Vec<Option<f64>>>)| {
        let different = joint_sign_flip_p(family, seed).into_iter().zip(of_study.by_ref());
        let alike = joint_equivalence_p(&finite[index], &margins[index], seed).into_iter();
        let both = different.zip(alike.zip(equivalent.by_ref()));
        both.map(|(different, alike)| Corrected { different, alike, stop: None }).collect()
    };
    let mut corrected: Vec<Vec<Corrected>> = families.iter().enumerate().map(of_task).collect();
    for ((task, corrected), margins) in results.tasks.iter().zip(&mut corrected).zip(&margins) {
        if !task.is_paired() {
            two_samples(task, results.tasks.len(), margins, corrected);
        }
    }
    corrected
}

/// p of the arms of a task without pairs, corrected after Holm. Over all tasks it is multiplied by their number.
fn two_samples(task: &TaskResults, tasks: usize, margins: &[f64], corrected: &mut [Corrected]) {
    let of_arms = |p: &dyn Fn(usize) -> Option<f64>| {
        let alone: Vec<Option<f64>> =
            (0..task.arms.len()).map(|arm| (arm > 0).then(|| p(arm)).flatten()).collect();
        holm(&alone).into_iter().map(|p| (p, p.map(|p| (p * tasks as f64).min(1.0))))
    };
    let different = of_arms(&|arm| compared(task, arm)?.p);
    let alike = of_arms(&|arm| task::unpaired_equivalence(task, arm, margins[arm]));
    for (corrected, (different, alike)) in corrected.iter_mut().zip(different.zip(alike)) {
        *corrected = Corrected { different, alike, stop: None };
    }
}

/// By task and arm, for a sequential study. Over all tasks, p is multiplied by their number (Bonferroni), because each
/// ends at its own look.
fn at_looks(results: &Results, seed: u64) -> Vec<Vec<Corrected>> {
    let looks = looks(results.study.seeds);
    let tasks = results.tasks.len() as f64;
    let of_task = |task: &TaskResults| {
        let courses = Courses::of(task, &looks, seed);
        let p = |courses: &[Option<Course>], arm: usize| {
            let p = courses.get(arm).and_then(Option::as_ref).map(|course| course.p);
            (p, p.map(|p| (p * tasks).min(1.0)))
        };
        let of_arm = |arm| Corrected {
            different: p(&courses.different, arm),
            alike: p(&courses.alike, arm),
            stop: courses.stop(task, arm, &looks),
        };
        (0..task.arms.len()).map(of_arm).collect()
    };
    results.tasks.iter().map(of_task).collect()
}
