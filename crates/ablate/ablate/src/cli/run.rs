//! `ablate run` and `ablate report`.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use indicatif::HumanDuration;

use super::Which;
use super::place::{Place, Places};
use super::signals::Signals;
use crate::execute::{Execution, Observer, Shard, seconds_per_run};
use crate::findings::Findings;
use crate::folder::{Folder, look};
use crate::progress::Progress;
use crate::registry::Registry;
use crate::report::{self, Environment};
use crate::results::Results;
use crate::store::Store;
use crate::study::{PlannedTask, Study, Training};
use crate::tensorboard::Live;
use crate::versions::platform;

const CANDLE_THREADS: &str = "RAYON_NUM_THREADS";

/// Starts the program again with one thread for candle, because the runs already occupy every core.
///
/// candle asks for the number of threads in every matrix product: the variable, or else the machine's cores, counted
/// again. A short run took about twice as long without the variable. A program cannot set its own environment without
/// `unsafe`.
#[cfg(unix)]
fn limit_candle() {
    use std::os::unix::process::CommandExt;
    if std::env::var_os(CANDLE_THREADS).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        // Where it returns it has failed, and the study is only slower.
        let _ = std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .env(CANDLE_THREADS, "1")
            .exec();
    }
}

#[cfg(not(unix))]
fn limit_candle() {}

/// Circumstances of an execution, on which no result depends.
pub(super) struct How<'h> {
    pub(super) threads: usize,
    pub(super) shard: Option<&'h str>,
    pub(super) tensorboard: bool,
}

pub(super) fn run(which: &Which, place: &Place, how: How<'_>, registry: &Registry) -> Result<String> {
    let How { threads, shard, tensorboard } = how;
    let shard = shard.map(|shard| Shard::read(shard, &|name| std::env::var(name).ok())).transpose()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = at_the_same_time(threads, cores)?;
    limit_candle();
    let signals = Signals::listen()?;
    let study = Study::open(&which.study, registry, &which.overrides())?;
    let places = place.of(&study)?;
    let started = Instant::now();
    let probe = |task| seconds_per_run(&study, registry, task);
    let seconds = study.tasks.iter().map(probe).collect::<Result<Vec<_>>>()?;
    let progress = Progress::new(&study, &seconds);
    let threads = threads.max(devices(&study));
    let parts = Parts { study: &study, registry, stop: &signals.stop, may_run: true, threads };
    let live = tensorboard.then(|| Live::new(&study, &places.folder));
    let mut observers: Vec<&dyn Observer> = vec![&progress];
    observers.extend(live.as_ref().map(|live| live as &dyn Observer));
    let done = match shard {
        Some(shard) => parts.share(&places, shard, &observers),
        None => parts.finish(&places, &observers, started),
    };
    let fault = live.and_then(|live| live.fault()).map_or(String::new(), |fault| format!("{fault}.\n"));
    signals.outcome(done.map(|text| text + &fault))
}

pub(super) fn report(which: &Which, place: &Place, registry: &Registry) -> Result<String> {
    let study = Study::open(&which.study, registry, &which.overrides())?;
    let stop = AtomicBool::new(false);
    let parts = Parts { study: &study, registry, stop: &stop, may_run: false, threads: 1 };
    parts.finish(&place.of(&study)?, &(), Instant::now())
}

/// The results of a study whose runs are stored, and their folder.
pub(super) fn stored(which: &Which, place: &Place, registry: &Registry) -> Result<(PathBuf, Results)> {
    let study = Study::open(&which.study, registry, &which.overrides())?;
    let stop = AtomicBool::new(false);
    let parts = Parts { study: &study, registry, stop: &stop, may_run: false, threads: 1 };
    let (folder, store) = parts.open(&place.of(&study)?)?;
    let results = parts.execution(&store).results(&())?;
    Ok((folder.path().to_owned(), results))
}

/// The number of threads for what was asked. More of them than cores would do nothing sooner, and very many stop the
/// machine.
fn at_the_same_time(asked: usize, cores: usize) -> Result<usize> {
    ensure!(
        asked <= cores,
        "--threads {asked}: there are {} here, and a run fills one; give at most {cores}, or 0 for one run per core",
        if cores == 1 { "1 core".to_owned() } else { format!("{cores} cores") }
    );
    Ok(if asked == 0 { cores } else { asked })
}

/// Devices of which each has a run that takes no core.
fn devices(study: &Study) -> usize {
    let of_task = |task: &PlannedTask| match &task.training {
        Training::Command(command) if command.entry().cores == 0 => command.entry().gpus.len(),
        _ => 0,
    };
    study.tasks.iter().map(of_task).max().unwrap_or(0)
}

struct Parts<'a> {
    study: &'a Study,
    registry: &'a Registry,
    stop: &'a AtomicBool,
    may_run: bool,
    threads: usize,
}

impl Parts<'_> {
    fn open(&self, places: &Places) -> Result<(Folder, Store)> {
        let (folder, store) = places.open(self.study)?;
        store.tidy();
        Ok((folder, store))
    }

    fn pool(&self) -> Result<rayon::ThreadPool> {
        rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads)
            .build()
            .context("the threads could not be started; try fewer with --threads")
    }

    fn execution<'e>(&'e self, store: &'e Store) -> Execution<'e> {
        let execution = Execution::new(self.study, self.registry, store).stop_when(self.stop);
        if self.may_run { execution } else { execution.only_stored() }
    }

    /// Does a share of the study, which has no report.
    fn share(&self, places: &Places, shard: Shard, observer: &dyn Observer) -> Result<String> {
        let (_folder, store) = self.open(places)?;
        let execution = self.execution(&store);
        let survey = self.pool()?.install(|| execution.share(shard, observer))?;
        let mut text =
            format!("Share {shard} is done, as far as it can be; what is stored is in {}.\n", places.runs());
        if survey.results.is_some() {
            text += "Every run of the study is stored. `ablate run` with the same study and folder writes the report.\n";
            return Ok(text);
        }
        for phase in &survey.phases {
            let (stored, missing, waiting) = (phase.stored(), phase.missing().len(), phase.waiting());
            let round = phase.round.map_or(String::new(), |round| format!(", round {round}"));
            writeln!(
                text,
                "  {}{round}: {stored} stored, {missing} missing of other shares, {waiting} waiting for those before",
                phase.name
            )?;
        }
        text += "There is no report yet. Shares that have a folder each are brought together by `ablate merge`. When nothing is missing, `ablate run` writes the \
                 report; what has waited is done by the same shares, started once more.\n";
        Ok(text)
    }

    fn finish(&self, places: &Places, observer: &dyn Observer, started: Instant) -> Result<String> {
        let (folder, store) = self.open(places)?;
        let execution = self.execution(&store);
        let mut results = self.pool()?.install(|| execution.results(observer))?;
        // By now it is known of more processes that they are no more.
        store.tidy();
        results.study.earlier_seeds = look(&store, &results)?;
        let findings = Findings::of(&results);
        let mut lines = if self.may_run {
            vec![
                ("Machine".into(), format!("{}, {} at the same time", platform(), runs(self.threads))),
                ("This execution took".into(), HumanDuration(started.elapsed()).to_string()),
            ]
        } else {
            vec![("Written again".into(), "from stored runs; nothing was trained".into())]
        };
        let arguments = std::env::args_os().skip(1);
        // What is not text is shown as nearly as text can.
        let arguments: Vec<String> = arguments.map(|part| part.to_string_lossy().into_owned()).collect();
        lines.push(("Command".into(), arguments.join(" ")));
        let environment = Environment { lines, commit: commit() };
        folder.write_report(&results, &findings, &environment)?;
        let page = folder.path().join(report::HTML_FILE);
        Ok(format!("{}\nThe report: {}\n", report::terminal::summary(&results, &findings), page.display()))
    }
}

fn runs(count: usize) -> String {
    if count == 1 { "1 run".to_owned() } else { format!("{count} runs") }
}

/// The commit that is checked out here, and whether something is changed; nothing outside a repository.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|status| !status.is_empty());
    Some(if changed { format!("{commit}, with changes") } else { commit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_at_most_as_many_runs_at_the_same_time_as_cores() {
        assert_eq!((at_the_same_time(0, 4).unwrap(), at_the_same_time(3, 4).unwrap()), (4, 3));
        let error = at_the_same_time(100_000, 4).unwrap_err().to_string();
        assert!(error.contains("--threads 100000") && error.contains("4 cores"), "{error}");
    }
}
