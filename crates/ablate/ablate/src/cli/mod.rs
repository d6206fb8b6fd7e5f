//! Command line of `ablate`: its commands, options and exit statuses.

mod analyse;
mod check;
mod export;
mod list;
mod merge;
mod place;
mod plan;
mod power;
mod run;
mod signals;
mod submit;

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use self::place::Place;
use crate::command::QUEUE_AGAIN;
use crate::console::say;
use crate::diff;
use crate::execute::Interrupted;
use crate::registry::Registry;
use crate::study::{Overrides, SHIPPED};

/// Exit status of a comparison that found something worse.
const WORSE: u8 = 1;
/// Exit status of an error.
const FAILED: u8 = 2;
/// Exit status of a study that was stopped: 128 + SIGINT.
const STOPPED: u8 = 130;

/// Ablation studies of optimizers that a sceptic would believe.
///
/// A study trains small tasks with an optimizer, with parts of it changed, and with tuned baselines; every arm meets the
/// same initial weights, batches and rounding. The result is a report: report.html in the study's folder.
///
/// With `[fork]` in a study, arms also take over from the base during a run, which shows when a part matters.
///
/// The training can also be a script in any language: the study names its command, which prints a line of JSON for every
/// evaluation. `ablate init` writes a study file that explains how.
///
/// Without a command, it runs the study `quick`, which ships with it: a minute or two.
#[derive(Parser)]
#[command(version, after_long_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  ablate                              run the quick study that ships, and open ablation/quick/report.html afterwards
  ablate init my.toml                 write a study file with explanations, to be changed
  ablate check my.toml                what it would run, how long that takes, what cannot be combined
  ablate run my.toml                  run what is missing of it; Ctrl-C and run again go on where it stopped
  ablate run my.toml --shard 2/8      a share of it, on one of eight machines; `ablate merge` brings their folders together
  ablate run my.toml --store s3://bucket/my
                                      with the runs in an object store, which any number of machines share
  ablate submit slurm my.toml         a script that sends it to a cluster
  ablate run my.toml --tensorboard    and event files while it runs; then: tensorboard --logdir ablation/my/tensorboard
  ablate export my.toml --to parquet  its runs and curves as tables
  ablate power my.toml                how many seeds it needs, from a pilot that `ablate run my.toml --seeds 4` made
  ablate run switches --seeds 3 --tasks digits
                                      a smaller version of an included study
  ablate analyse runs.csv --arm optimizer --seed seed --value val_loss
                                      the same report of runs that another program did
  ablate analyse logdir --name \"{arm}/seed{seed}\" --value val_loss
                                      and of TensorBoard's event files, or of a CSV export of W&B
  ablate diff before after            what changed between two folders; status 1 if something is worse";

#[derive(Subcommand)]
enum Command {
    /// Write a study file with explanations
    ///
    /// The file is a small study that can be run as it is; comments say what every part of it means and what else there is:
    ///
    ///   ablate init my.toml
    ///   ablate check my.toml
    ///   ablate run my.toml
    #[command(verbatim_doc_comment)]
    Init {
        /// The file to write; an existing one is not replaced
        #[arg(default_value = "study.toml")]
        path: PathBuf,
    },
    /// Explain a study before anything runs: arms, runs, forks, time, what it could find, and combinations that are rejected
    ///
    /// The time is that of the whole study, by a few steps of the base; `ablate plan` says what is missing of it.
    ///
    ///   ablate check my.toml
    ///   ablate check my.toml --seeds 20               # as if the study had 20 seeds
    #[command(verbatim_doc_comment)]
    Check(Which),
    /// Do the missing runs of a study, and write its report
    ///
    /// Several processes, on one machine or several, may run one study in one folder, or with one object store (--store): each run is
    /// done by one of them. With --shard a process does its share of the runs, and writes no report; `ablate merge` brings the folders of
    /// shares together, and `ablate run` then writes the report:
    ///
    ///   ablate run my.toml --shard 0/2 --out a        # on one machine
    ///   ablate run my.toml --shard 1/2 --out b        # on another
    ///   ablate merge my.toml a b
    ///   ablate run my.toml
    ///
    /// A share has its part of every phase, as far as it can be done: runs of tuned arms wait for all tuning runs of the arm, and a
    /// round of a sequential study waits for the round before. Start the same shares again to do the runs that have waited; merge
    /// first if they have separate folders.
    ///
    /// Ctrl-C stops every run after its present step, with status 130; the next start continues from there. SIGTERM and SIGUSR1 do
    /// the same with status 75: queue the job again. A run that is killed continues from its last checkpoint; there is one every ten
    /// minutes (`checkpoint_minutes` of the study). Commands are sent SIGTERM, and continue from what they have saved in the folder
    /// {checkpoint}, which a study may pass to them; with status 75 a command asks to be started again.
    #[command(verbatim_doc_comment)]
    Run {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        place: Place,
        /// Cores to use, one per run (or as many as the study gives a command); 0 for all. The results don't depend on it
        #[arg(long, value_name = "N", default_value_t = 0)]
        threads: usize,
        /// Only this share of the runs: 2/8 is the third of eight. `auto` takes both numbers from Slurm's variables for job arrays; `auto/8` only the first one, as
        /// HyperQueue and Kubernetes don't say how many there are
        #[arg(long, value_name = "I/N")]
        shard: Option<String>,
        /// Write TensorBoard's event files during the runs, to the folder `tensorboard` in the study's folder: those of the
        /// reported runs that this process does. `ablate export --to tensorboard` writes those of all runs afterwards
        #[arg(long)]
        tensorboard: bool,
    },
    /// Say how many seeds a study needs, and what they cost, from the runs that are stored
    ///
    /// A pilot of three to five seeds shows how much an arm's differences spread. From that follows how many seeds find a
    /// difference with a power of 80 and 90 %, and how many establish that there is none. The pilot's runs are part of the study:
    ///
    ///   ablate run my.toml --seeds 4
    ///   ablate power my.toml --difference 0.005
    ///   ablate run my.toml --seeds 12
    #[command(verbatim_doc_comment)]
    Power {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        place: Place,
        /// The difference to find, in the unit of the measure: 0.005 is half a point of accuracy, or 0.005 of a loss or of a
        /// decade. Default: the study's `matters`, or else a standard deviation of the base's runs
        #[arg(long, value_name = "X")]
        difference: Option<f64>,
    },
    /// Write the report of a study again, from its stored runs
    ///
    /// Nothing is trained: missing runs are an error, and `ablate run` does them. With fewer seeds, tasks or arms it is a report of those:
    ///
    ///   ablate report my.toml                         # to ablation/my/report.html
    ///   ablate report my.toml --tasks digits --arms cautious
    #[command(verbatim_doc_comment)]
    Report {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        place: Place,
    },
    /// Export the stored runs of a study for other programs
    ///
    /// `jsonl` and `parquet` are two tables in the study's folder: `runs`, with a row for every reported run, and `curves`, with a
    /// row for every number of a run, by task, arm, seed, step and name. `tensorboard` is a folder of event files, as `ablate run
    /// --tensorboard` writes them, with all reported runs. CSV files
    /// are part of every report.
    ///
    ///   ablate export my.toml --to parquet
    ///   ablate export my.toml --to tensorboard
    ///   tensorboard --logdir ablation/my/tensorboard
    #[command(verbatim_doc_comment)]
    Export {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        place: Place,
        /// Format of the files
        #[arg(long, value_enum, value_name = "FORM")]
        to: export::To,
    },
    /// Write a report of finished runs of any program, from CSV files, JSON lines, TensorBoard or W&B
    ///
    /// A row is a run, or with --step an evaluation of one, of which the last counts. Columns are named as the files have them; those within a JSON object
    /// have a dot: config.lr. `file` is the name of the file, for runs that have one each.
    ///
    ///   ablate analyse runs.csv --arm optimizer --seed seed --value val_loss
    ///   ablate analyse logs/*.jsonl --arm config.name --seed config.seed --step step --value val.acc --measure accuracy
    ///
    /// In TensorBoard's folder of event files every run has a folder, and in W&B's CSV export of a chart three columns; --name
    /// explains their names:
    ///
    ///   ablate analyse logdir --name "{arm}/seed{seed}" --value val_loss
    ///   ablate analyse wandb_export.csv --name "{arm}-{seed}" --value val/loss
    ///
    /// Runs with the same seed are pairs. Without seeds, or where they don't match, arms are compared as two samples, which takes more runs. The report is in
    /// ablation/NAME, with the name of the first file.
    #[command(verbatim_doc_comment)]
    Analyse(analyse::Columns),
    /// List the missing runs of a study, phase by phase, and how long they take
    ///
    /// A run is stored, missing (it can be done now), or waiting: tuned arms wait for their tuning runs, a round of a sequential
    /// study for the round before, and runs that continue from the base for the base's. Missing runs that continue from a checkpoint are
    /// named, with its file or folder, and so are checkpoints of commands that the study has no use for. Nothing is run, and no folder
    /// is made. --json prints it for programs; the book's chapter on several machines describes the format.
    ///
    ///   ablate plan my.toml
    ///   ablate plan my.toml --json
    #[command(verbatim_doc_comment)]
    Plan {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        place: Place,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Merge the runs of several folders, for instance from several machines
    ///
    /// Runs are files, each named by everything that determines it, so folders are merged by taking all their files. Two different
    /// results of one run are an error that names the run and where the two part: something about the run is not deterministic. The
    /// time that a run took may differ. Nothing is overwritten, the folders that are read stay as they are, and a merge that was
    /// killed can be repeated:
    ///
    ///   ablate merge my.toml a b c                    # into ablation/my
    ///   ablate merge all a b c                        # into the folder `all`
    ///   ablate merge s3://bucket/my a                 # into an object store
    ///   ablate merge my.toml s3://bucket/my           # and from there into ablation/my
    ///
    /// Afterwards `ablate run` does the runs that are still missing, and writes the report. All machines must run the same build of
    /// this program: a run of other sources has another name.
    #[command(verbatim_doc_comment)]
    Merge(merge::Folders),
    /// Print a script that submits a study to a scheduler, or submit it
    ///
    /// Every phase that is not done is a job array of shares, after the one before; the report is a job at the end. Options after
    /// -- are those of the scheduler's own program:
    ///
    ///   ablate submit slurm my.toml --shards 32 -- --partition=short --time=2:00:00
    ///   ablate submit hyperqueue my.toml --shards 32 --go
    ///   ablate submit kubernetes my.toml --image registry.example/ablate:1 --volume studies
    ///
    /// All shares write to the study's folder, which must be on a file system that all nodes share, or to an object store (--store),
    /// whose credentials each of them must find. Jobs that were killed may be submitted again: they do the missing runs.
    #[command(verbatim_doc_comment)]
    Submit(submit::Submission),
    /// Compare two executions arm by arm; exits with 1 if an arm is worse or missing
    ///
    /// For instance of one study before and after a change of the optimizer. Differences are those of the reports' numbers:
    ///
    ///   ablate run my.toml --out before
    ///   ablate run my.toml --out after                # with the changed program
    ///   ablate diff before after
    #[command(verbatim_doc_comment)]
    Diff {
        /// The earlier study's folder, or its results.json
        first: PathBuf,
        /// The later one
        second: PathBuf,
    },
    /// List what a study can name
    ///
    ///   ablate list tasks
    ///   ablate list transforms
    #[command(verbatim_doc_comment)]
    List {
        /// Kind of names to list
        what: Listed,
    },
    /// Print completions for a shell, to save where the shell looks for them
    ///
    ///   ablate completions bash > ~/.local/share/bash-completion/completions/ablate
    ///   ablate completions fish > ~/.config/fish/completions/ablate.fish
    #[command(verbatim_doc_comment)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The study, and how much of it to run.
#[derive(Args)]
struct Which {
    /// A study file, or an included study: quick, switches, factorial, cautious, example
    #[arg(default_value = "quick")]
    study: PathBuf,
    /// Seeds per arm and task, instead of the study's
    #[arg(long, value_name = "N")]
    seeds: Option<usize>,
    /// Length of every run, as a multiple of the study's
    #[arg(long, value_name = "X")]
    length: Option<f64>,
    /// These tasks only: a name, or several separated by commas; may be repeated
    #[arg(long, value_name = "NAMES")]
    tasks: Vec<String>,
    /// These arms only, and the base; as --tasks
    #[arg(long, value_name = "NAMES")]
    arms: Vec<String>,
}

impl Which {
    fn overrides(&self) -> Overrides {
        Overrides {
            seeds: self.seeds,
            length: self.length,
            tasks: self.tasks.clone(),
            arms: self.arms.clone(),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Listed {
    /// Tasks
    Tasks,
    /// Transforms, and the rules of combination
    Transforms,
    /// The options of the default chain
    Options,
    /// Optimizers by name, as a base or a baseline
    Optimizers,
    /// Studies that ship
    Studies,
}

/// Runs the program with the tasks and transforms of a registry: [`Registry::shipped`], or one with your own in addition.
///
/// ```
/// use std::process::ExitCode;
///
/// use ablate::registry::Registry;
///
/// // The `main` of a program with what a registry has.
/// fn program() -> ExitCode {
///     ablate::cli::main(&Registry::shipped())
/// }
/// ```
pub fn main(registry: &Registry) -> ExitCode {
    let arguments = Arguments::parse();
    let which = Which { study: "quick".into(), seeds: None, length: None, tasks: vec![], arms: vec![] };
    let place = Place::default();
    let whole = Command::Run { which, place, threads: 0, shard: None, tensorboard: false };
    match dispatch(arguments.command.unwrap_or(whole), registry) {
        Ok(status) => status,
        Err(error) if error.is::<signals::Preempted>() => {
            say(error);
            ExitCode::from(QUEUE_AGAIN)
        }
        Err(error) if error.is::<Interrupted>() => {
            say(error);
            ExitCode::from(STOPPED)
        }
        Err(error) => {
            say(format_args!("error: {error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

fn dispatch(command: Command, registry: &Registry) -> Result<ExitCode> {
    match command {
        Command::Init { path } => init(&path)?,
        Command::Check(which) => show(&check::explain(&which, registry)?)?,
        Command::Run { which, place, threads, shard, tensorboard } => {
            let how = run::How { threads, shard: shard.as_deref(), tensorboard };
            show(&run::run(&which, &place, how, registry)?)?;
        }
        Command::Export { which, place, to } => show(&export::export(&which, &place, to, registry)?)?,
        Command::Power { which, place, difference } => {
            show(&power::plan(&which, &place, difference, registry)?)?;
        }
        Command::Analyse(columns) => show(&analyse::analyse(columns)?)?,
        Command::Plan { which, place, json } => show(&plan::show(&which, &place, json, registry)?)?,
        Command::Submit(submission) => show(&submit::submit(&submission, registry)?)?,
        Command::Merge(folders) => show(&merge::merge(&folders, registry)?)?,
        Command::Report { which, place } => show(&run::report(&which, &place, registry)?)?,
        Command::Diff { first, second } => {
            let differences = diff::compare(&diff::read(&first)?, &diff::read(&second)?)?;
            show(&diff::table(&differences))?;
            if diff::is_regression(&differences) {
                return Ok(ExitCode::from(WORSE));
            }
        }
        Command::List { what } => show(&list::list(what, registry)?)?,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "ablate", &mut script);
            show(&String::from_utf8_lossy(&script))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn init(path: &std::path::Path) -> Result<()> {
    ensure!(!path.exists(), "{} is there already; name another file", path.display());
    let example = SHIPPED.iter().find(|(name, _)| *name == "example").map_or("", |(_, text)| text);
    std::fs::write(path, example).with_context(|| format!("cannot write {}", path.display()))?;
    show(&format!("{0} is written. Next: ablate check {0}\n", path.display()))
}

fn show(text: &str) -> Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        // Whoever reads, for example `head`, has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.context("cannot write to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_has_an_example() {
        for command in Arguments::command().get_subcommands_mut() {
            let name = command.get_name().to_owned();
            let help = command.render_long_help().to_string();
            let example = format!("  ablate {name}");
            assert!(help.lines().any(|line| line.starts_with(&example)), "{name}: {help}");
        }
    }

    #[test]
    fn an_existing_study_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.toml");
        std::fs::write(&path, "mine").unwrap();
        assert!(init(&path).unwrap_err().to_string().contains("there already"));
        assert_eq!(std::fs::read_to_string(path).unwrap(), "mine");
    }
}
