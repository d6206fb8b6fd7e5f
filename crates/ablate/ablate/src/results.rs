//! Results of a study, for findings and reports.
//!
//! With a study of one factor, one baseline and two seeds (in `execution`):
//!
//! ```
//! use ablate::results::{
//!     Arm, ArmRuns, Candidate, Fork, Launched, Matters, Origin, Refused, Results, Role, Run, StudyInfo, TaskResults,
//!     Tuning,
//! };
//!
//! # use ablate::{execute::Execution, registry::Registry, store::Store, study::{Overrides, Study}};
//! # let text = r#"
//! #     tasks = ["digits"]
//! #     seeds = 2
//! #     matters = 0.005
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
//! let results: Results = execution.results(&())?;
//! let StudyInfo { seeds, factors, .. } = &results.study;
//! assert_eq!((*seeds, factors.len()), (2, 1));
//! let roles: Vec<Role> = results.arms.iter().map(|Arm { role, .. }| *role).collect();
//! assert_eq!(roles, [Role::Base, Role::Changed, Role::Baseline]);
//! let refused: &[Refused] = &results.refused;
//! assert!(refused.is_empty());
//!
//! let TaskResults { steps, arms, launched, .. } = &results.tasks[0];
//! let (command, read): (Option<&Launched>, Option<&Origin>) = (launched.as_ref(), results.tasks[0].read.as_ref());
//! assert!(results.tasks[0].is_trained_here() && results.tasks[0].is_paired() && read.is_none());
//! assert!(command.is_none() && results.tasks[0].measures(ablate_tasks::Split::Test));
//! assert_eq!(results.tasks[0].validated_target(), Some(0.975));
//! assert_eq!(results.tasks[0].matters, Some(Matters::Difference(0.005))); // half a percentage point
//! let forks: &[Fork] = &results.tasks[0].forks;
//! assert!(forks.is_empty()); // the study asks for none
//! let ArmRuns { tuning, runs } = &arms[2];
//! let Tuning { candidates, chosen, .. } = tuning.as_ref().unwrap();
//! let tried: &[Candidate] = candidates;
//! assert!(tried.iter().any(|candidate| candidate.setting == *chosen));
//! assert!(tuning.as_ref().unwrap().is_at_the_edge()); // of a grid with one learning rate
//! let Run { seed, record, .. } = &runs[1];
//! assert_eq!((*seed, record.steps), (1, *steps));
//! # Ok::<(), anyhow::Error>(())
//! ```

use ablate_tasks::{About, Evaluation, Split};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::measured::{Further, Measured};
use crate::optimizer::Setting;
use crate::record::{Point, Record};

/// Part of an arm in a study.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The arm that every other one is compared with.
    Base,
    /// The base with some factors changed.
    Changed,
    /// Another optimizer, tuned.
    Baseline,
}

/// An arm, as a study defines it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// The name in files and on the command line.
    pub name: String,
    /// The name for people.
    pub title: String,
    /// Description, for people.
    pub description: String,
    /// Part in the study.
    pub role: Role,
    /// The factors that are changed, by name.
    pub factors: Vec<String>,
    /// The chain of transforms, as the optimizer describes itself.
    pub chain: String,
    /// The options that differ from the base's, by name and value.
    pub options: Vec<(String, String)>,
}

/// A combination of factors that the design asks for and that cannot be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// The name that the arm would have.
    pub name: String,
    /// Reason.
    pub reason: String,
}

/// A candidate of a tuning grid and how it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Setting that was tried.
    pub setting: Setting,
    /// The final evaluation on the validation split by tuning seed; absent where the run diverged.
    pub runs: Vec<Option<Evaluation>>,
    /// The mean of the task's measure; absent if any run diverged.
    pub mean: Option<f64>,
}

/// Choice of an arm's setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// The seeds of the tuning runs, none of which is reported.
    pub seeds: Vec<u64>,
    /// Everything that was tried, in the grid's order.
    pub candidates: Vec<Candidate>,
    /// The candidate with the best mean on the validation split.
    pub chosen: Setting,
}

impl Tuning {
    /// Whether the chosen learning rate is the smallest or largest that was tried: a better one may lie outside.
    pub fn is_at_the_edge(&self) -> bool {
        let rates = || self.candidates.iter().map(|candidate| candidate.setting.learning_rate);
        let chosen = self.chosen.learning_rate;
        rates().all(|rate| rate >= chosen) || rates().all(|rate| rate <= chosen)
    }
}

/// A reported run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The seed of initialisation, batches and rounding.
    pub seed: u64,
    /// Its record.
    #[serde(flatten)]
    pub record: Record,
    /// Further numbers of a command.
    #[serde(default, skip_serializing_if = "Further::is_empty")]
    pub further: Further,
    /// Splits of which a command said nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmeasured: Vec<Split>,
}

impl Run {
    /// Points of its curve that have numbers of a split.
    pub(crate) fn points_of(&self, split: Split) -> &[Point] {
        if self.unmeasured.contains(&split) { &[] } else { &self.record.curve }
    }

    /// Of a seed, from what is stored.
    pub(crate) fn of(seed: u64, Measured { record, further, unmeasured }: Measured) -> Self {
        Self { seed, record, further, unmeasured }
    }
}

/// Command of a task, as its runs were started with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launched {
    /// The program and its arguments, with the places that runs fill in.
    pub command: Vec<String>,
    /// SHA-256 of its sources; absent where none is named.
    pub sources: Option<String>,
    /// Runs of the base a second time.
    pub repeats: Vec<Run>,
}

/// A reported run, and what it is a run of.
#[derive(Clone, Copy)]
pub(crate) struct Reported<'a> {
    pub(crate) task: &'a TaskResults,
    pub(crate) arm: &'a Arm,
    pub(crate) tuning: Option<&'a Tuning>,
    /// Steps of the base that it continues from.
    pub(crate) fork: Option<usize>,
    pub(crate) run: &'a Run,
}

/// An arm's runs on a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmRuns {
    /// Choice of its setting, if it was tuned.
    pub tuning: Option<Tuning>,
    /// One per seed, in the seeds' order; in a sequential study, as many as the arm had.
    pub runs: Vec<Run>,
}

/// Runs of an arm that continue from the base's state after a step; at step 0, the arm's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fork {
    /// The arm, in the order of [`Results::arms`].
    pub arm: usize,
    /// The step.
    pub step: usize,
    /// One per seed, in the seeds' order.
    pub runs: Vec<Run>,
}

/// The smallest difference that matters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a difference in the unit of the measure, or { sd = … }, a multiple of the base's spread over seeds"
)]
pub enum Matters {
    /// In the measure's unit: a loss, decades, or a share of examples.
    Difference(f64),
    /// As a multiple of the standard deviation of the base's runs over the seeds.
    OfSpread {
        /// Standard deviations.
        sd: f64,
    },
}

/// Origin of runs that were read from files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Number of files.
    pub files: usize,
    /// Whether seeds of the arms and of the base match, so that there are pairs.
    pub is_paired: bool,
    /// Parts that could not be read, and are in no number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A task and what was run on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskResults {
    /// Name of the task, or the one that the study gives it.
    pub name: String,
    /// Description, measure and length.
    pub about: About,
    /// The options that the study sets.
    pub options: Value,
    /// The length of a run in steps.
    pub steps: usize,
    /// The target of this study, an accuracy or a loss; absent where a command has none.
    #[serde(default)]
    pub target: Option<f64>,
    /// The smallest difference that matters, where the study says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matters: Option<Matters>,
    /// The names of its parameter groups.
    pub groups: Vec<String>,
    /// By arm, in the order of [`Results::arms`].
    pub arms: Vec<ArmRuns>,
    /// Runs that continue from the base's state, by arm and step, where the study asks for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forks: Vec<Fork>,
    /// Start of the runs, for a task that is a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launched: Option<Launched>,
    /// Origin of the runs, if they were read from files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Origin>,
}

impl TaskResults {
    /// Whether it was trained here, so that runs are compared by their weights. Other runs are compared by the numbers
    /// that were written.
    pub fn is_trained_here(&self) -> bool {
        self.launched.is_none() && self.read.is_none()
    }

    /// Whether arm and base have pairs.
    pub fn is_paired(&self) -> bool {
        self.read.as_ref().is_none_or(|origin| origin.is_paired)
    }

    /// Whether every run that finished has numbers of a split; else those in its record are another split's. One that
    /// diverged may have ended before it had any.
    pub fn measures(&self, split: Split) -> bool {
        let runs = self.arms.iter().flat_map(|arm| &arm.runs);
        runs.filter(|run| run.record.evaluation().is_some()).all(|run| !run.unmeasured.contains(&split))
    }

    /// Steps of a run; absent for a command that wrote none.
    pub(crate) fn steps_of(&self, record: &Record) -> Option<usize> {
        (self.is_trained_here() || record.steps > 0).then_some(record.steps)
    }

    /// The target, where there is one and a validation split that can reach it.
    pub fn validated_target(&self) -> Option<f64> {
        self.target.filter(|_| self.measures(Split::Validation))
    }
}

/// The question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyInfo {
    /// The file's name without extension, or the name of an included study.
    pub name: String,
    /// Its title.
    pub title: String,
    /// The question; may be empty.
    pub question: String,
    /// Combination of the factors.
    pub design: String,
    /// The factors by name and title.
    pub factors: Vec<(String, String)>,
    /// Reported seeds per arm and task.
    pub seeds: usize,
    /// Whether these are the most, and arms stop where they are decided.
    #[serde(default)]
    pub sequential: bool,
    /// Seeds per candidate of a tuned arm.
    pub tuning_seeds: usize,
    /// Evaluations of a run after the first.
    pub evaluations: usize,
    /// The study file.
    pub text: String,
    /// Arms of the study that were not asked for.
    #[serde(default)]
    pub arms_left_out: Vec<String>,
    /// Tasks of the study that were not asked for.
    #[serde(default)]
    pub tasks_left_out: Vec<String>,
    /// With how many other seeds the same runs were reported before, where these were enough for a verdict.
    #[serde(default)]
    pub earlier_seeds: Vec<usize>,
}

/// Results of a study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The question.
    pub study: StudyInfo,
    /// By program part, what computed it: name and version.
    pub versions: Vec<(String, String)>,
    /// SHA-256 of the sources that determine a run.
    pub code: String,
    /// The arms, the base first.
    pub arms: Vec<Arm>,
    /// Combinations that the design asks for and that cannot be.
    pub refused: Vec<Refused>,
    /// By task, in the study's order.
    pub tasks: Vec<TaskResults>,
}

impl Results {
    /// The reported runs, task by task: those of the arms, then those that continue from the base. At step 0 the latter
    /// are the arm's own, and not among them.
    pub(crate) fn reported(&self) -> impl Iterator<Item = Reported<'_>> {
        self.tasks.iter().flat_map(move |task| {
            let own = task.arms.iter().zip(&self.arms).flat_map(move |(of_arm, arm)| {
                let tuning = of_arm.tuning.as_ref();
                of_arm.runs.iter().map(move |run| Reported { task, arm, tuning, fork: None, run })
            });
            let later = task.forks.iter().filter(|fork| fork.step > 0).flat_map(move |fork| {
                let (arm, step) = (&self.arms[fork.arm], Some(fork.step));
                fork.runs.iter().map(move |run| Reported { task, arm, tuning: None, fork: step, run })
            });
            own.chain(later)
        })
    }
}
