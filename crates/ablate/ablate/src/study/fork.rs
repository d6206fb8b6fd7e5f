//! Runs that continue from the base's state with an arm.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{PlannedArm, PlannedTask, Recipe, Study, Training};
use crate::registry::Registry;
use crate::results::Role;
use crate::run::fork_of;

/// Forks of a study: the steps after which arms take over from the base, and which.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForkEntry {
    /// Steps that the base takes before.
    pub at: Vec<At>,
    /// Arms, or factors for the arms in which only they are changed; by default all arms with the same state as the
    /// base.
    #[serde(default)]
    pub arms: Vec<String>,
}

/// A place in a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum At {
    /// After so many steps.
    Step(usize),
    /// After such a share of the run, in per cent.
    Share(f64),
}

impl At {
    /// The number of steps before it, in a run of so many.
    pub fn of(self, steps: usize) -> usize {
        match self {
            Self::Step(step) => step,
            Self::Share(share) => (share / 100.0 * steps as f64).round() as usize,
        }
    }
}

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let step = || value.as_u64().and_then(|step| usize::try_from(step).ok()).map(Self::Step);
        let share = || {
            let share = value.as_str()?.strip_suffix('%')?.trim().parse::<f64>().ok()?;
            (0.0..=100.0).contains(&share).then_some(Self::Share(share))
        };
        step().or_else(share).ok_or_else(|| {
            D::Error::custom(format!(
                "`at` of a fork has steps, and shares of a run like \"10%\", not {value}"
            ))
        })
    }
}

/// Mistake in what a study says of forks.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ForkError {
    /// No step is named.
    #[error(
        "`at` of the fork is empty: name steps, or shares of the run, after which arms take over from the base"
    )]
    NoSteps,
    /// Nothing of the run is left after a step.
    #[error(
        "task {task}: a fork at step {step} leaves nothing of a run of {steps} steps; name earlier ones, or shares of the run (\"50%\")"
    )]
    BeyondTheEnd {
        /// The task.
        task: String,
        /// The step.
        step: usize,
        /// The length of the run.
        steps: usize,
    },
    /// A step is named twice, or a share that comes to the same.
    #[error(
        "task {task}: step {step} occurs twice in `at` of the fork, as shares are rounded to whole steps"
    )]
    Repeated {
        /// The task.
        task: String,
        /// The step.
        step: usize,
    },
    /// There is no such arm, nor a factor.
    #[error("the fork names {name:?}, which is no arm; there are {}", known.join(", "))]
    UnknownArm {
        /// The name.
        name: String,
        /// The arms.
        known: Vec<String>,
    },
    /// An arm is named twice.
    #[error("the fork names arm {0} twice")]
    RepeatedArm(String),
    /// A learning rate that was tuned for whole runs says nothing about a part of one.
    #[error(
        "arm {0} cannot take over from the base: its learning rate is tuned, for runs from the start; give it one (`lr`), or leave it out of the fork"
    )]
    Tuned(String),
    /// The base itself is tuned.
    #[error(
        "a base that is tuned (`every` of [tuning]) has no one run to go on from; give it its learning rate (`lr`), or leave out the fork"
    )]
    TunedBase,
    /// A command's state is its own.
    #[error(
        "task {0} is a command, whose state nobody here can take or give back, so that it cannot fork; leave out the fork, or make the task one of its own study"
    )]
    Command(String),
    /// Arms that stop early have no runs to compare with.
    #[error(
        "a fork needs all seeds of every arm, and with sequential = true arms stop where they are decided; leave out one of the two"
    )]
    Sequential,
    /// The state of every arm differs from the base's.
    #[error(
        "no arm keeps the state that the base keeps; name those that may start fresh with some of it (`arms` of the fork)"
    )]
    NoArms,
    /// An arm's optimizer refused the base's state.
    #[error("task {task}: arm {arm} cannot go on from the base's state: {reason}")]
    Refused {
        /// The task.
        task: String,
        /// The arm.
        arm: String,
        /// State that did not fit, by link and column.
        reason: String,
    },
}

/// Plans the forks of a study whose tasks and arms are known: the steps of every task, and the arms.
///
/// # Errors
/// [`ForkError`], or an arm's optimizer that cannot be built.
pub(super) fn plan(
    entry: &ForkEntry,
    study: &mut Study,
    all: &[PlannedArm],
    registry: &Registry,
) -> Result<(), ForkError> {
    if study.file.sequential {
        return Err(ForkError::Sequential);
    }
    if entry.at.is_empty() {
        return Err(ForkError::NoSteps);
    }
    for task in &mut study.tasks {
        task.forks = steps(entry, task)?;
    }
    if all.first().is_some_and(|base| !base.schedules.is_empty()) {
        return Err(ForkError::TunedBase);
    }
    let named = entry.arms.iter().map(|name| find(name, all)).collect::<Result<Vec<_>, _>>()?;
    for (index, arm) in named.iter().enumerate() {
        if named[..index].contains(arm) {
            return Err(ForkError::RepeatedArm((*arm).to_owned()));
        }
    }
    let mut forked = Vec::new();
    for (index, planned) in study.arms.iter().enumerate() {
        let is_named = named.contains(&planned.arm.name.as_str());
        let may_be = planned.arm.role == Role::Changed && planned.schedules.is_empty();
        if !(is_named || named.is_empty() && may_be) {
            continue;
        }
        // One that is named may start fresh with some state; state that does not fit is an error for either.
        let keeps_all = goes_on(study, planned, registry)?;
        if is_named || keeps_all {
            forked.push(index);
        }
    }
    // Those that are named may have been left out by the command line.
    if named.is_empty() && forked.is_empty() {
        return Err(ForkError::NoArms);
    }
    study.forked = forked;
    Ok(())
}

fn steps(entry: &ForkEntry, task: &PlannedTask) -> Result<Vec<usize>, ForkError> {
    let (name, steps) = (&task.name, task.steps);
    if let Training::Command(_) = task.training {
        return Err(ForkError::Command(name.clone()));
    }
    let mut found = Vec::new();
    for step in entry.at.iter().map(|at| at.of(steps)) {
        if step >= steps {
            return Err(ForkError::BeyondTheEnd { task: name.clone(), step, steps });
        }
        if found.contains(&step) {
            return Err(ForkError::Repeated { task: name.clone(), step });
        }
        found.push(step);
    }
    found.sort_unstable();
    Ok(found)
}

/// The arm of a name, or the arm in which only the factor of this name is changed.
fn find<'a>(name: &str, arms: &'a [PlannedArm]) -> Result<&'a str, ForkError> {
    let by_name = arms.iter().find(|planned| planned.arm.name == name);
    let found = by_name.or_else(|| arms.iter().find(|planned| planned.arm.factors == [name]));
    let found = found.ok_or_else(|| ForkError::UnknownArm {
        name: name.to_owned(),
        known: arms.iter().map(|planned| planned.arm.name.clone()).collect(),
    })?;
    if found.schedules.is_empty() {
        Ok(&found.arm.name)
    } else {
        Err(ForkError::Tuned(found.arm.name.clone()))
    }
}

/// Whether an arm has the same state as the base, on every task.
fn goes_on(study: &Study, planned: &PlannedArm, registry: &Registry) -> Result<bool, ForkError> {
    let mut is_same = true;
    for task in &study.tasks {
        if let (Training::Task(trained), Recipe::Optimizer(base), Recipe::Optimizer(arm)) =
            (&task.training, &study.arms[0].recipe, &planned.recipe)
        {
            let forked = fork_of(&**trained, (base, arm), registry, task.steps).map_err(|error| {
                ForkError::Refused {
                    task: task.name.clone(),
                    arm: planned.arm.name.clone(),
                    reason: format!("{error:#}"),
                }
            })?;
            is_same &= forked.anew.is_empty() && forked.left_out.is_empty();
        }
    }
    Ok(is_same)
}

#[cfg(test)]
mod tests {
    use gradient_transform::{Backend, Element, Error, GradientTransform, StepContext, transform};
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::registry::TransformKind;
    use crate::study::Overrides;

    const STUDY: &str = r#"
        tasks = [{ task = "digits", steps = 100 }, { task = "digits", name = "long", steps = 200 }]
        FORK
        [[factor]]
        name = "cautious"
        on = { use_cautious = true }
        [[factor]]
        name = "stableadamw"
        off = { use_stableadamw = false }
        [[factor]]
        name = "prodigy"
        off = { remove = ["prodigy"] }
        tune = ["constant", "warm-up"]
        [[factor]]
        name = "dense"
        on = { factored = false }
    "#;

    fn parse(fork: &str, overrides: &Overrides) -> anyhow::Result<Study> {
        Study::parse("test", &STUDY.replace("FORK", fork), &Registry::shipped(), overrides)
    }

    fn planned(fork: &str) -> (Vec<String>, Vec<Vec<usize>>) {
        let study = parse(fork, &Overrides::default()).unwrap();
        let names = study.forked.iter().map(|arm| study.arms[*arm].arm.name.clone()).collect();
        (names, study.tasks.iter().map(|task| task.forks.clone()).collect())
    }

    fn error(fork: &str) -> ForkError {
        let error = parse(fork, &Overrides::default()).err().unwrap();
        error.downcast_ref::<ForkError>().unwrap_or_else(|| panic!("{error:#}")).clone()
    }

    #[test]
    fn steps_and_shares_are_of_every_tasks_own_length() {
        let (_, steps) = planned("fork = { at = [\"25%\", 0, 10] }");
        assert_eq!(steps, [[0, 10, 25], [0, 10, 50]]);
    }

    #[test]
    fn without_names_the_arms_are_those_that_keep_what_the_base_keeps() {
        assert_eq!(planned("fork = { at = [10] }").0, ["cautious", "no-stableadamw"]);
    }

    #[test]
    fn an_arm_goes_by_its_name_or_by_that_of_its_factor() {
        let (names, _) = planned("fork = { at = [10], arms = [\"dense\", \"stableadamw\", \"base\"] }");
        assert_eq!(names, ["base", "no-stableadamw", "dense"]);
    }

    #[test]
    fn arms_that_the_command_line_left_out_are_left_out_of_the_fork() {
        let overrides = Overrides { arms: vec!["cautious".into()], ..Overrides::default() };
        let study = parse("fork = { at = [10], arms = [\"dense\", \"cautious\"] }", &overrides).unwrap();
        assert_eq!((study.arms.len(), study.forked), (2, vec![1]));
    }

    #[test]
    fn mistakes_are_errors_of_their_own() {
        let named = |name: &str| format!("fork = {{ at = [10], arms = [\"{name}\"] }}");
        assert_eq!(error("fork = { at = [] }"), ForkError::NoSteps);
        let (task, steps) = ("digits".to_owned(), 100);
        for (at, step) in [("100", 100), ("101", 101), ("\"100%\"", 100)] {
            let found = error(&format!("fork = {{ at = [0, {at}] }}"));
            assert_eq!(found, ForkError::BeyondTheEnd { task: task.clone(), step, steps });
        }
        assert_eq!(error("fork = { at = [10, \"10%\"] }"), ForkError::Repeated { task, step: 10 });
        let ForkError::UnknownArm { name, known } = error(&named("cautios")) else { panic!("unknown") };
        assert_eq!((name.as_str(), known.len()), ("cautios", 5));
        assert_eq!(error(&named("prodigy")), ForkError::Tuned("no-prodigy".into()));
        let twice = error("fork = { at = [10], arms = [\"stableadamw\", \"no-stableadamw\"] }");
        assert_eq!(twice, ForkError::RepeatedArm("no-stableadamw".into()));
        assert_eq!(error("sequential = true\nfork = { at = [10] }"), ForkError::Sequential);
        let tuned = "fork = { at = [10] }\ntuning = { every = [\"constant\", \"warm-up\"] }";
        assert_eq!(error(tuned), ForkError::TunedBase);
        let none = STUDY.replace("FORK", "fork = { at = [10] }\ndesign = \"explicit\"\narms = [[\"dense\"]]");
        let none = Study::parse("test", &none, &Registry::shipped(), &Overrides::default()).err().unwrap();
        assert_eq!(none.downcast_ref::<ForkError>(), Some(&ForkError::NoArms));
        for at in ["\"half\"", "-1", "1.5", "\"-5%\"", "\"120%\""] {
            let error = parse(&format!("fork = {{ at = [{at}] }}"), &Overrides::default()).err().unwrap();
            assert!(format!("{error:#}").contains("steps, and shares of a run"), "{at}: {error:#}");
        }
    }

    /// Refuses every step.
    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    struct Unwilling {}

    #[transform("unwilling")]
    impl GradientTransform for Unwilling {
        fn check_step(&self, _step: &StepContext) -> gradient_transform::Result<()> {
            Err(Error::NotGiven { transform: "unwilling".into(), what: "Price" })
        }

        fn update<B: Backend>(&self, _e: &mut Element<B, Self>) {}
    }

    #[test]
    fn state_that_cannot_be_taken_is_an_error_that_names_task_and_arm() {
        let text = r#"
            tasks = [{ task = "digits", steps = 100 }]
            fork = { at = [10], arms = ["sign"] }
            [base]
            chain = ["unwilling", "descent"]
            lr = 0.1
            [[factor]]
            name = "sign"
            on = { insert = [{ transform = "sign", before = "descent" }] }
        "#;
        let unwilling = TransformKind::new("unwilling", "refuses", |unwilling: Unwilling| unwilling);
        let registry = Registry::shipped().with_transform(unwilling);
        let error = Study::parse("test", text, &registry, &Overrides::default()).err().unwrap();
        let found = error.downcast_ref::<ForkError>().unwrap_or_else(|| panic!("{error:#}"));
        let ForkError::Refused { task, arm, reason } = found else { panic!("{found}") };
        assert_eq!((task.as_str(), arm.as_str()), ("digits", "sign"));
        assert!(reason.contains("`Price`"), "{reason}");
    }

    #[test]
    fn a_command_cannot_fork() {
        let text = r#"
            tasks = [{ command = ["true"], steps = 100, sources = [] }]
            fork = { at = [10] }
            [[factor]]
            name = "a"
            on = { x = 1 }
        "#;
        let text = text.replace("[\"true\"]", "[\"true\", \"{seed}\", \"{option}={value}\"]");
        let error = Study::parse("test", &text, &Registry::shipped(), &Overrides::default()).err().unwrap();
        assert_eq!(
            error.downcast_ref::<ForkError>(),
            Some(&ForkError::Command("command".into())),
            "{error:#}"
        );
    }
}
