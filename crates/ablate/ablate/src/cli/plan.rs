//! `ablate plan`: what is missing of a study.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use indicatif::HumanDuration;
use serde::Serialize;

use super::Which;
use super::place::{Place, Places};
use crate::columns::Columns;
use crate::command::saved;
use crate::execute::{Execution, Job, Phase, State};
use crate::registry::Registry;
use crate::store::{Found, Store};
use crate::study::{Study, Training};

/// The version of the JSON. Fields may be added without a new one.
const SCHEMA: usize = 1;

/// Missing runs of a study.
#[derive(Serialize)]
pub(super) struct Plan {
    schema: usize,
    study: String,
    folder: String,
    is_complete: bool,
    #[serde(flatten)]
    all: Runs,
    pub(super) phases: Vec<PhasePlan>,
    /// Missing runs that resume from a checkpoint on this machine.
    resuming: Vec<Resuming>,
    /// Folders of attempts at commands' runs that the study doesn't have.
    other_attempts: Vec<PathBuf>,
}

/// A run that is not done from its start.
#[derive(Serialize)]
struct Resuming {
    task: String,
    arm: String,
    seed: u64,
    /// Steps that it has taken; nothing of a command's, whose files are its own.
    step: Option<usize>,
    /// The file, or the folder of a command's files. Without it the run starts fresh.
    from: PathBuf,
}

impl Resuming {
    fn of(job: &Job, execution: &Execution<'_>) -> Result<Option<Self>> {
        let Execution { study, store, .. } = execution;
        let address = execution.address(job)?;
        let task = &study.tasks[job.task];
        let found = match task.training {
            Training::Task(_) => {
                let file = store.checkpoint_file(&address);
                match if file.exists() { store.load_checkpoint(&address)? } else { Found::Nothing } {
                    Found::Whole(kept) => Some((Some(kept.seen.steps()), file)),
                    Found::Nothing | Found::Damaged(_) => None,
                }
            }
            Training::Command(_) => saved(&store.attempts(&address)).map(|folder| (None, folder)),
        };
        Ok(found.map(|(step, from)| Self {
            task: task.name.clone(),
            arm: study.arms[job.arm].arm.name.clone(),
            seed: job.seed,
            step,
            from,
        }))
    }

    fn line(&self) -> String {
        let Self { task, arm, seed, step, from } = self;
        let step = step.map_or(String::new(), |step| format!(" after step {step}"));
        format!("  {task}, {arm}, seed {seed}:{step} from {}\n", from.display())
    }
}

/// Numbers of runs, and the time of those that are not stored; nothing where nobody knows it.
#[derive(Serialize, Clone, Copy)]
pub(super) struct Runs {
    stored: usize,
    pub(super) missing: usize,
    pub(super) waiting: usize,
    seconds: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct PhasePlan {
    pub(super) phase: &'static str,
    pub(super) round: Option<usize>,
    at_most: bool,
    #[serde(flatten)]
    pub(super) all: Runs,
    runs: Vec<Row>,
}

/// Runs of an arm on a task.
#[derive(Serialize)]
struct Row {
    task: String,
    arm: String,
    #[serde(flatten)]
    runs: Runs,
}

impl Runs {
    fn of<'r>(runs: impl Iterator<Item = &'r Runs>) -> Self {
        let nothing = Self { stored: 0, missing: 0, waiting: 0, seconds: Some(0.0) };
        runs.fold(nothing, |sum, of| Self {
            stored: sum.stored + of.stored,
            missing: sum.missing + of.missing,
            waiting: sum.waiting + of.waiting,
            seconds: sum.seconds.zip(of.seconds).map(|(sum, of)| sum + of),
        })
    }

    fn cells(&self) -> [String; 4] {
        let time = match self.seconds {
            _ if self.missing + self.waiting == 0 => String::new(),
            Some(seconds) if seconds < 1.0 => "less than a second".to_owned(),
            Some(seconds) => HumanDuration(Duration::from_secs_f64(seconds)).to_string(),
            None => "unknown".to_owned(),
        };
        [self.stored.to_string(), self.missing.to_string(), self.waiting.to_string(), time]
    }
}

pub(super) fn show(which: &Which, place: &Place, is_json: bool, registry: &Registry) -> Result<String> {
    let study = Study::open(&which.study, registry, &which.overrides())?;
    let plan = plan(&study, &place.of(&study)?, registry)?;
    Ok(if is_json { serde_json::to_string_pretty(&plan)? + "\n" } else { plan.table() })
}

/// Missing runs of a study, of which nothing need be there.
pub(super) fn plan(study: &Study, places: &Places, registry: &Registry) -> Result<Plan> {
    let nothing = tempfile::tempdir()?;
    let store = match places.existing()? {
        Some(store) => store,
        None => Store::open(nothing.path())?,
    };
    let execution = Execution::new(study, registry, &store).only_stored();
    let survey = execution.survey()?;
    let mut other_attempts = Vec::new();
    for address in store.attempted() {
        if execution.name(&address)?.is_none() {
            other_attempts.push(store.attempts(&address));
        }
    }
    let missing = survey.phases.iter().flat_map(Phase::missing);
    let resuming =
        missing.filter_map(|job| Resuming::of(&job, &execution).transpose()).collect::<Result<_>>()?;
    let times = Times::of(&survey.phases, study);
    let phases: Vec<PhasePlan> = survey.phases.iter().map(|phase| of_phase(phase, study, &times)).collect();
    Ok(Plan {
        schema: SCHEMA,
        study: study.name.clone(),
        folder: places.runs(),
        is_complete: survey.results.is_some(),
        all: Runs::of(phases.iter().map(|phase| &phase.all)),
        phases,
        resuming,
        other_attempts,
    })
}

/// Seconds of a step, from the stored runs.
struct Times {
    by_arm: BTreeMap<(usize, usize), (usize, f64)>,
    by_task: BTreeMap<usize, (usize, f64)>,
}

impl Times {
    fn of(phases: &[Phase], study: &Study) -> Self {
        let mut times = Self { by_arm: BTreeMap::new(), by_task: BTreeMap::new() };
        for (job, state) in phases.iter().flat_map(|phase| &phase.runs) {
            // The time of one that continues from the base has the base's in it.
            if let (State::Stored { steps, seconds }, None) = (*state, job.fork) {
                // A command may tell of its end alone.
                let steps = if steps == 0 { study.tasks[job.task].steps } else { steps };
                let of_arm = times.by_arm.entry((job.task, job.arm)).or_default();
                for sum in [of_arm, times.by_task.entry(job.task).or_default()] {
                    *sum = (sum.0 + steps, sum.1 + seconds);
                }
            }
        }
        times
    }

    /// Seconds that a run takes: as other runs of the arm, or else as those of other arms.
    fn seconds(&self, job: &Job, steps: usize) -> Option<f64> {
        let known = |(steps, _): &&(usize, f64)| *steps > 0;
        let of_arm = self.by_arm.get(&(job.task, job.arm)).filter(known);
        let (taken, seconds) = of_arm.or_else(|| self.by_task.get(&job.task).filter(known))?;
        Some(seconds / *taken as f64 * (steps - job.fork.unwrap_or(0)) as f64)
    }
}

fn of_phase(phase: &Phase, study: &Study, times: &Times) -> PhasePlan {
    let mut rows: BTreeMap<(usize, usize), Runs> = BTreeMap::new();
    for (job, state) in &phase.runs {
        let nothing = Runs { stored: 0, missing: 0, waiting: 0, seconds: Some(0.0) };
        let row = rows.entry((job.task, job.arm)).or_insert(nothing);
        match state {
            State::Stored { .. } => row.stored += 1,
            State::Missing => row.missing += 1,
            State::Waiting => row.waiting += 1,
        }
        if !matches!(state, State::Stored { .. }) {
            let of_run = times.seconds(job, study.tasks[job.task].steps);
            row.seconds = row.seconds.zip(of_run).map(|(sum, of_run)| sum + of_run);
        }
    }
    let row = |((task, arm), runs): ((usize, usize), Runs)| Row {
        task: study.tasks[task].name.clone(),
        arm: study.arms[arm].arm.name.clone(),
        runs,
    };
    let runs: Vec<Row> = rows.into_iter().map(row).collect();
    let all = Runs::of(runs.iter().map(|row| &row.runs));
    PhasePlan { phase: phase.name, round: phase.round, at_most: phase.is_bound, all, runs }
}

impl PhasePlan {
    fn name(&self) -> String {
        let round = self.round.map_or(String::new(), |round| format!(", round {round}"));
        let at_most = if self.at_most { ", at most" } else { "" };
        format!("{}{round}{at_most}", self.phase)
    }
}

impl Plan {
    fn table(&self) -> String {
        let others = match self.other_attempts.as_slice() {
            [] => String::new(),
            others => {
                let folders: Vec<String> =
                    others.iter().map(|folder| format!("  {}\n", folder.display())).collect();
                format!(
                    "Checkpoints of commands whose runs the study does not have as it is now; nothing removes them, and a study that has the runs again goes on from \
                     them:\n{}",
                    folders.concat()
                )
            }
        };
        let resuming = if self.resuming.is_empty() {
            String::new()
        } else {
            let lines: Vec<String> = self.resuming.iter().map(Resuming::line).collect();
            format!(
                "Missing runs that resume from a checkpoint; without that file or folder they start from the beginning:\n{}",
                lines.concat()
            )
        };
        if self.is_complete {
            return format!("Every run of {} is stored in {}.\n{others}", self.study, self.folder);
        }
        let mut table =
            Columns::new(["phase", "task", "arm", "stored", "missing", "waiting", "time on one core"]);
        let mut add = |head: [&str; 3], runs: &Runs| {
            table.add_row(head.map(str::to_owned).into_iter().chain(runs.cells()));
        };
        for phase in &self.phases {
            for row in &phase.runs {
                add([&phase.name(), &row.task, &row.arm], &row.runs);
            }
        }
        add(["all", "", ""], &self.all);
        format!(
            "{}\n\nWaiting runs need others first: those of tuned arms all tuning runs of the arm, a round the one before it, and those that go on from the base its run. \
             Times are those of the steps of stored runs, without evaluations.\n{resuming}{others}",
            table.shown()
        )
    }
}
