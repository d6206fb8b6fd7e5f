//! Differences between two executions of a study: for reviews, and for CI.
//!
//! With a study of one factor, one baseline and two seeds, and its report (in `folder`):
//!
//! ```
//! use ablate::diff::{self, Change, Difference};
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
//! # let results = execution.results(&())?;
//! # ablate::report::write(folder.path(), &results, &ablate::findings::Findings::of(&results), &Default::default())?;
//! let before = diff::read(folder.path())?; // a study's folder, or its results.json
//! let mut after = before.clone();
//! after.arms.truncate(2);
//! let differences: Vec<Difference> = diff::compare(&before, &after)?;
//! assert_eq!(differences.iter().map(|d| d.change).collect::<Vec<_>>(), [Change::Same, Change::Same, Change::Gone]);
//! assert!(diff::is_regression(&differences)); // an arm is gone
//! assert!(diff::table(&differences).contains("same to the bit"));
//! # Ok::<(), anyhow::Error>(())
//! ```

use std::fmt;
use std::path::Path;

use crate::columns::Columns;
use crate::findings::{FEWEST_PAIRS, are_same, compared, diverged};
use crate::report::JSON_FILE;
use crate::results::{Arm, Results, TaskResults};
use anyhow::{Context, Result, ensure};

/// Change of an arm on a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Every run is the same to the bit.
    Same,
    /// Runs differ, but not by more than chance.
    Unclear,
    /// Better, after Holm's correction over all comparisons.
    Better,
    /// Worse, after Holm's correction over all comparisons.
    Worse,
    /// Only in the first.
    Gone,
    /// Only in the second.
    New,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "same to the bit",
            Self::Unclear => "unclear",
            Self::Better => "better",
            Self::Worse => "WORSE",
            Self::Gone => "gone",
            Self::New => "new",
        })
    }
}

/// An arm on a task, in both.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The task.
    pub task: String,
    /// The arm.
    pub arm: String,
    /// Its change.
    pub change: Change,
    /// The mean of the second minus that of the first, paired by seed.
    pub mean: Option<f64>,
    /// p after Holm's correction over all comparisons; absent where there are too few seeds for a verdict.
    pub adjusted_p: Option<f64>,
    /// Number of runs that diverged, in the first and in the second. Each loses its pair.
    pub diverged: (usize, usize),
    /// Seeds that both have.
    pub pairs: usize,
}

/// Reads the results in a study's folder, or a `results.json`.
///
/// # Errors
/// A file that is missing or damaged.
pub fn read(path: &Path) -> Result<Results> {
    let file = if path.is_dir() { path.join(JSON_FILE) } else { path.to_owned() };
    let text = std::fs::read_to_string(&file).with_context(|| {
        format!("cannot read {}; name a study's folder or its {JSON_FILE}", file.display())
    })?;
    let value: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))?;
    let results = value.get("results").cloned().unwrap_or_default();
    serde_json::from_value(results)
        .with_context(|| format!("{} holds no results of this version", file.display()))
}

/// Every arm on every task of two executions.
///
/// # Errors
/// Fails if they have no task in common.
pub fn compare(first: &Results, second: &Results) -> Result<Vec<Difference>> {
    let task = |results: &'_ Results, name: &str| results.tasks.iter().position(|task| task.name == name);
    ensure!(
        first.tasks.iter().any(|one| task(second, &one.name).is_some()),
        "the two have no task in common"
    );
    let mut differences = Vec::new();
    for one in &first.tasks {
        for (index, arm) in first.arms.iter().enumerate() {
            let other = task(second, &one.name).and_then(|place| {
                let arm = second.arms.iter().position(|other| other.name == arm.name)?;
                Some((&second.tasks[place], arm))
            });
            differences.push(match other {
                Some((other, place)) => difference(one, index, other, place, arm),
                None => alone(one, arm, Change::Gone),
            });
        }
    }
    for other in &second.tasks {
        for arm in &second.arms {
            let known =
                task(first, &other.name).is_some() && first.arms.iter().any(|one| one.name == arm.name);
            if !known {
                differences.push(alone(other, arm, Change::New));
            }
        }
    }
    decide(&mut differences);
    Ok(differences)
}

fn alone(task: &TaskResults, arm: &Arm, change: Change) -> Difference {
    Difference {
        task: task.name.clone(),
        arm: arm.name.clone(),
        change,
        mean: None,
        adjusted_p: None,
        diverged: (0, 0),
        pairs: 0,
    }
}

/// The difference without a decision: `adjusted_p` is the uncorrected p, and `change` the direction.
fn difference(one: &TaskResults, arm: usize, other: &TaskResults, place: usize, named: &Arm) -> Difference {
    // The second's arm against the first's, as if the first were the base of a study of two arms.
    let (mut first, mut second) = (one.arms[arm].clone(), other.arms[place].clone());
    second.runs.retain(|run| first.runs.iter().any(|other| other.seed == run.seed));
    first.runs.retain(|run| second.runs.iter().any(|other| other.seed == run.seed));
    let both = TaskResults { arms: vec![first, second], forks: Vec::new(), ..one.clone() };
    let found = compared(&both, 1);
    let tested = found.map_or(0.0, |found| found.tested);
    let improved = (tested > 0.0) == one.about.measure.higher_is_better();
    let [first, second] = [0, 1].map(|arm| &both.arms[arm]);
    let change = match improved {
        _ if are_same(first, second) => Change::Same,
        true => Change::Better,
        false => Change::Worse,
    };
    let pairs = found.map_or(0, |found| found.n);
    let p = found.and_then(|found| found.p).filter(|_| pairs >= FEWEST_PAIRS);
    let diverged = (diverged(first), diverged(second));
    let mean = found.and_then(|found| found.mean);
    Difference { change, mean, adjusted_p: p, diverged, pairs, ..alone(one, named, Change::Same) }
}

fn decide(differences: &mut [Difference]) {
    let tested: Vec<Option<f64>> = differences
        .iter()
        .map(|difference| {
            difference.adjusted_p.filter(|_| matches!(difference.change, Change::Better | Change::Worse))
        })
        .collect();
    for (difference, adjusted) in differences.iter_mut().zip(ablate_statistics::holm(&tested)) {
        difference.adjusted_p = adjusted;
        let is_open = matches!(difference.change, Change::Better | Change::Worse);
        if is_open && adjusted.is_none_or(|p| p > 1.0 - crate::findings::CONFIDENCE) {
            difference.change = Change::Unclear;
        }
    }
}

/// Whether any arm is worse, or gone.
pub fn is_regression(differences: &[Difference]) -> bool {
    differences.iter().any(|difference| matches!(difference.change, Change::Worse | Change::Gone))
}

/// Table for the terminal. Arms that are the same to the bit are only counted.
pub fn table(differences: &[Difference]) -> String {
    let mut table =
        Columns::new(["task", "arm", "second minus first", "diverged", "p, corrected", "so it is"]);
    let shown = |value: Option<f64>, digits: usize| {
        value.map_or("–".to_owned(), |value| format!("{value:+.digits$}"))
    };
    for difference in differences.iter().filter(|difference| difference.change != Change::Same) {
        table.add_row([
            difference.task.clone(),
            difference.arm.clone(),
            shown(difference.mean, 5),
            match difference.diverged {
                (0, 0) => String::new(),
                (first, second) => format!("{first} → {second}"),
            },
            difference.adjusted_p.map_or("–".to_owned(), |p| format!("{p:.4}")),
            difference.change.to_string(),
        ]);
    }
    let same = differences.iter().filter(|difference| difference.change == Change::Same).count();
    let rows = differences.len() - same;
    let is_compared = |difference: &&Difference| matches!(difference.change, Change::Unclear);
    let few = differences.iter().filter(is_compared).map(|difference| difference.pairs).min();
    let few = few.filter(|pairs| *pairs < FEWEST_PAIRS).map_or(String::new(), |pairs| {
        format!(
            "With {pairs} seeds in common nothing can be called better or worse; it takes {FEWEST_PAIRS}.\n"
        )
    });
    let counted = few + &format!("{same} of {} comparisons are the same to the bit.\n", differences.len());
    if rows == 0 { counted } else { format!("{}\n{counted}", table.shown()) }
}
