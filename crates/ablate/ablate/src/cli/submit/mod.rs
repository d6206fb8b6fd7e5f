//! `ablate submit`: a study as jobs of a scheduler.

mod hyperqueue;
mod kubernetes;
mod slurm;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use super::Which;
use super::place::{Place, Places};
use super::plan::{PhasePlan, plan};
use crate::registry::Registry;
use crate::study::Study;

/// The scheduler, and the resources of a job.
#[derive(Args)]
pub(super) struct Submission {
    /// The scheduler
    scheduler: Scheduler,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    place: Place,
    /// Number of shares, which run at the same time as far as there is room
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    shards: u32,
    /// Cores of a share, one per run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
    /// Write event files for TensorBoard while runs are under way, as `ablate run --tensorboard` does
    #[arg(long)]
    tensorboard: bool,
    /// Kubernetes: the container image with this program
    #[arg(long, value_name = "IMAGE", required_if_eq("scheduler", "kubernetes"))]
    image: Option<String>,
    /// Kubernetes: the persistent volume claim with the study, for its folder; all nodes must be able to write to it
    #[arg(long, value_name = "CLAIM", required_if_eq("scheduler", "kubernetes"))]
    volume: Option<String>,
    /// Submit the jobs: run the script with `sh` instead of printing it
    #[arg(long)]
    go: bool,
    /// Options for sbatch, `hq job submit-file` or kubectl
    #[arg(last = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Scheduler {
    /// Job arrays, submitted by sbatch
    Slurm,
    /// One job of tasks that depend on each other, submitted by hq
    Hyperqueue,
    /// Indexed jobs, submitted by kubectl one after the other
    Kubernetes,
}

/// All that a script says.
struct Jobs {
    /// The study's name.
    name: String,
    /// The array of each phase, in their order.
    arrays: Vec<String>,
    shards: u32,
    threads: u32,
    /// The program and its arguments, which are the same for all jobs.
    command: Vec<String>,
    /// Folder in which they hold.
    folder: String,
    options: Vec<String>,
}

impl Jobs {
    /// The command of a share, which is written as `--shard` has it.
    fn share(&self, shard: &str) -> Vec<String> {
        [&self.command[..], &["--shard".to_owned(), shard.to_owned()]].concat()
    }

    /// The scheduler's program, its options, and what follows.
    fn words(&self, program: &[&str], more: &[&str]) -> Result<String> {
        let words = program.iter().copied().chain(self.options.iter().map(String::as_str));
        quoted(words.chain(more.iter().copied()))
    }
}

pub(super) fn submit(submission: &Submission, registry: &Registry) -> Result<String> {
    let Submission { scheduler, which, place, shards, threads, tensorboard, image, volume, go, options } =
        submission;
    let study = Study::open(&which.study, registry, &which.overrides())?;
    let places = place.of(&study)?;
    let plan = plan(&study, &places, registry)?;
    let arrays = arrays(&plan.phases);
    ensure!(
        !arrays.is_empty(),
        "nothing is missing of {}, so that there is nothing to submit; `ablate run` writes the report",
        study.name
    );
    let is_contained = matches!(scheduler, Scheduler::Kubernetes);
    let jobs = Jobs {
        arrays,
        shards: *shards,
        threads: *threads,
        command: command(which, &places, (*threads, *tensorboard), is_contained)?,
        folder: text(std::env::current_dir()?.as_os_str())?,
        options: options.clone(),
        name: study.name,
    };
    let script = match (scheduler, image, volume) {
        (Scheduler::Slurm, ..) => slurm::script(&jobs)?,
        (Scheduler::Hyperqueue, ..) => hyperqueue::script(&jobs)?,
        (Scheduler::Kubernetes, image, volume) => {
            let (image, volume) = image.as_deref().zip(volume.as_deref()).context("--image and --volume")?;
            kubernetes::script(&jobs, image, volume)?
        }
    };
    if !go {
        return Ok(script);
    }
    let mut shell = Command::new("sh").arg("-s").stdin(Stdio::piped()).spawn().context("cannot start sh")?;
    if let Some(mut input) = shell.stdin.take() {
        input.write_all(script.as_bytes()).context("sh does not read the script")?;
    }
    let status = shell.wait()?;
    ensure!(status.success(), "the jobs were not sent, or not all of them: {status}");
    Ok(String::new())
}

/// The phases of which something is missing. Runs that continue from the base are done by the shares that do the
/// base's.
fn arrays(phases: &[PhasePlan]) -> Vec<String> {
    let open: Vec<&PhasePlan> =
        phases.iter().filter(|phase| phase.all.missing + phase.all.waiting > 0).collect();
    let is_measured = open.iter().any(|phase| phase.phase == "measuring");
    let kept = open.into_iter().filter(|phase| phase.phase != "forking" || !is_measured);
    let name = |phase: &PhasePlan| match phase.round {
        Some(round) => format!("{}-{round}", phase.phase),
        None => phase.phase.to_owned(),
    };
    kept.map(name).collect()
}

/// This program with the study, as it was called. In a container, it is found by its name.
fn command(
    which: &Which,
    places: &Places,
    (threads, tensorboard): (u32, bool),
    is_contained: bool,
) -> Result<Vec<String>> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let program =
        if is_contained { program.file_name().map(PathBuf::from).unwrap_or(program) } else { program };
    let mut words: Vec<OsString> = vec![program.into(), "run".into(), which.study.clone().into()];
    if let Some(seeds) = which.seeds {
        words.extend(["--seeds".into(), seeds.to_string().into()]);
    }
    if let Some(length) = which.length {
        words.extend(["--length".into(), length.to_string().into()]);
    }
    for (option, lists) in [("--tasks", &which.tasks), ("--arms", &which.arms)] {
        words.extend(lists.iter().flat_map(|list| [option.into(), list.into()]));
    }
    words.extend(["--out".into(), places.folder.clone().into()]);
    if let Some(url) = &places.store {
        words.extend(["--store".into(), url.into()]);
    }
    words.extend(["--threads".into(), threads.to_string().into()]);
    if tensorboard {
        words.push("--tensorboard".into());
    }
    words.iter().map(|word| text(word)).collect()
}

fn text(word: &std::ffi::OsStr) -> Result<String> {
    let text = word.to_str();
    text.map(str::to_owned).with_context(|| format!("{} is no text, as a script needs it", word.display()))
}

/// A line of a shell.
fn quoted<'w>(words: impl IntoIterator<Item = &'w str>) -> Result<String> {
    shlex::try_join(words).context("a word that no shell can take")
}
