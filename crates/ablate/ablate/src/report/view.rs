//! Look-ups of every part of a report.

use ablate_statistics::{PairedDifference, Summary};

use super::number::{Shown, p_value, short};
use crate::findings::{ArmFindings, Findings, Verdict};
use crate::record::Point;
use crate::results::{Arm, Results, Role, Run, TaskResults};

/// Colours of changed arms, after which they are used again; baselines have their own.
const COLOURS: usize = 6;

/// Results and findings side by side.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) results: &'a Results,
    pub(super) findings: &'a Findings,
}

impl<'a> View<'a> {
    pub(super) fn arms(self) -> &'a [Arm] {
        &self.results.arms
    }

    /// Places of all arms except for the base: changed ones first, in the study's order.
    pub(super) fn compared(self) -> impl Iterator<Item = usize> {
        let of_role = move |role| (0..self.arms().len()).filter(move |arm| self.arms()[*arm].role == role);
        of_role(Role::Changed).chain(of_role(Role::Baseline))
    }

    pub(super) fn tasks(self) -> impl Iterator<Item = (usize, &'a TaskResults)> {
        self.results.tasks.iter().enumerate()
    }

    pub(super) fn shown(self, task: usize) -> Shown {
        Shown(self.findings.tasks[task].measure)
    }

    pub(super) fn found(self, task: usize, arm: usize) -> &'a ArmFindings {
        &self.findings.tasks[task].arms[arm]
    }

    /// An arm's difference to the base, with its interval if it has one; empty for the base.
    pub(super) fn comparison(self, task: usize, arm: usize) -> String {
        self.comparison_of(task, self.found(task, arm))
    }

    /// The same of whatever is compared with the base.
    pub(super) fn comparison_of(self, task: usize, found: &ArmFindings) -> String {
        let shown = self.shown(task);
        match &found.difference {
            None if found.verdict == Verdict::Base => String::new(),
            Some(difference) if found.verdict != Verdict::Dead => shown.comparison(difference),
            difference => shown.mean_difference(difference.as_ref()),
        }
    }

    /// Mean difference for the place after a verdict's sign. An arrow gives the direction, so the number has no sign of
    /// its own, unless the mean points the other way: diverged runs count in the verdict, and not in the mean.
    pub(super) fn difference_after_sign(self, task: usize, arm: usize) -> String {
        let (shown, found) = (self.shown(task), self.found(task, arm));
        let gain = |difference: &PairedDifference| difference.mean.map(|mean| shown.better() * mean);
        let agrees = |gain: f64| match found.verdict {
            Verdict::Better => gain >= 0.0,
            Verdict::Worse => gain <= 0.0,
            Verdict::Base | Verdict::Equivalent | Verdict::Unclear | Verdict::Dead => false,
        };
        match &found.difference {
            Some(difference) if gain(difference).is_some_and(agrees) => shown.mean_size(difference),
            difference => shown.mean_difference(difference.as_ref()),
        }
    }

    /// A verdict with its sign; one of equivalence also has its own p. Empty for the base.
    pub(super) fn verdict_alone(self, task: usize, arm: usize) -> String {
        Self::verdict_without_runs(self.found(task, arm))
    }

    fn verdict_without_runs(found: &ArmFindings) -> String {
        let named = || format!("{} {}", sign(found.verdict), word(found.verdict));
        match found.verdict {
            Verdict::Base => String::new(),
            Verdict::Equivalent => format!("{} (p = {})", named(), p_value(found.equivalence_p)),
            _ => named(),
        }
    }

    /// The same, and how many runs diverged.
    pub(super) fn verdict(self, task: usize, arm: usize) -> String {
        self.verdict_of(self.found(task, arm))
    }

    /// The same of whatever is compared with the base.
    pub(super) fn verdict_of(self, found: &ArmFindings) -> String {
        let diverged = found.diverged;
        let diverged = if diverged > 0 { format!("{diverged} diverged") } else { String::new() };
        let parts = [Self::verdict_without_runs(found), diverged];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    }

    /// Whether a correction over all tasks differs from the one over the arms of a task.
    pub(super) fn has_tasks(self) -> bool {
        self.results.tasks.len() > 1
    }

    /// Whether arms took over from the base in the course of a run.
    pub(super) fn has_forks(self) -> bool {
        self.findings.tasks.iter().any(|task| !task.forks.is_empty())
    }

    /// Whether two runs are compared by the numbers that a command wrote, because their weights are unknown.
    pub(super) fn runs_commands(self) -> bool {
        self.results.tasks.iter().any(|task| !task.is_trained_here())
    }

    /// Whether arms and the base have pairs on every task.
    pub(super) fn is_paired(self) -> bool {
        self.results.tasks.iter().all(TaskResults::is_paired)
    }

    /// Whether the runs were read from files.
    pub(super) fn was_read(self) -> bool {
        self.results.tasks.iter().any(|task| task.read.is_some())
    }

    /// Evidence that two runs are the same.
    pub(super) fn sameness(self) -> &'static str {
        if self.runs_commands() {
            "the same numbers as the base to the last digit"
        } else {
            "the same weights as the base to the bit"
        }
    }

    /// Steps to the target: the median, and the number of runs that reached it.
    pub(super) fn steps_to_target(self, task: usize, arm: usize) -> String {
        self.found(task, arm).to_target.as_ref().map_or("–".to_owned(), |steps| {
            format!("{} ({}/{})", steps.median.map_or("–".to_owned(), short), steps.reached, steps.n)
        })
    }

    /// Its heading.
    pub(super) fn steps_to_target_head(self, task: usize) -> String {
        let target = self.results.tasks[task].validated_target().map_or(String::new(), short);
        format!("steps to {target}, median (reached)")
    }

    /// A factor's name for people.
    pub(super) fn factor_title(self, name: &'a str) -> &'a str {
        let found = self.results.study.factors.iter().find(|(factor, _)| factor == name);
        found.map_or(name, |(_, title)| title)
    }

    /// The style sheet's class for an arm.
    pub(super) fn colour(self, arm: usize) -> String {
        match self.arms()[arm].role {
            Role::Base => "base".to_owned(),
            Role::Baseline => "outside".to_owned(),
            Role::Changed => {
                let before = self.arms()[..arm].iter().filter(|other| other.role == Role::Changed).count();
                format!("a{}", before % COLOURS + 1)
            }
        }
    }

    /// By seed, the measure minus the base's, where both are finite.
    pub(super) fn differences(self, task: usize, arm: usize) -> Vec<(u64, f64)> {
        let results = &self.results.tasks[task];
        let measure = results.about.measure;
        let base_of = |run: &Run| results.arms[0].runs.iter().find(|base| base.seed == run.seed);
        let runs = results.arms[arm].runs.iter().filter(|_| results.is_paired());
        let pairs = runs.filter_map(|run| Some((run, base_of(run)?)));
        let difference = |(run, base): (&Run, &Run)| {
            let of = measure.of(&run.record.evaluation()?) - measure.of(&base.record.evaluation()?);
            of.is_finite().then_some((run.seed, of))
        };
        pairs.filter_map(difference).collect()
    }
}

/// A verdict in a word.
pub(super) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Base => "base",
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::Equivalent => "no difference that matters",
        Verdict::Unclear => "unclear",
        Verdict::Dead => "no effect",
    }
}

/// A verdict's sign, which is recognisable without colour.
pub(super) fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Base => "",
        Verdict::Better => "▲",
        Verdict::Worse => "▼",
        Verdict::Equivalent => "≈",
        Verdict::Unclear => "·",
        Verdict::Dead => "=",
    }
}

/// A verdict's class in the style sheet.
pub(super) fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Base => "is-base",
        Verdict::Better => "is-better",
        Verdict::Worse => "is-worse",
        Verdict::Equivalent => "is-equivalent",
        Verdict::Unclear => "is-unclear",
        Verdict::Dead => "is-dead",
    }
}

/// Mean and range over the seeds that reached a point.
pub(super) struct Band {
    pub(super) step: usize,
    pub(super) low: f64,
    pub(super) mean: f64,
    pub(super) high: f64,
}

/// A quantity of a run by step.
pub(super) type Curve = Vec<(usize, Option<f64>)>;

/// A quantity of a run's points.
pub(super) fn points<'r>(run: &'r Run, of: &dyn Fn(&Point) -> Option<f64>) -> Curve {
    run.record.curve.iter().map(|point| (point.step, of(point))).collect()
}

/// A quantity of the curves over the seeds of an arm; points without a finite value are left out.
pub(super) fn over_seeds(task: &TaskResults, arm: usize, of: impl Fn(&Run) -> Curve) -> Vec<Band> {
    let runs: Vec<Curve> = task.arms[arm].runs.iter().map(of).collect();
    let length = runs.iter().map(Vec::len).max().unwrap_or(0);
    (0..length)
        .filter_map(|index| {
            let points = || runs.iter().filter_map(|run| run.get(index));
            let values: Vec<f64> =
                points().filter_map(|(_, value)| *value).filter(|value| value.is_finite()).collect();
            let Summary { min, mean, max, .. } = Summary::of(&values)?;
            Some(Band { step: points().next()?.0, low: min, mean, high: max })
        })
        .collect()
}
