//! The command line of the ablation study.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use ablate::arm;
use ablate::output::Destination;
use ablate::progress::Progress;
use ablate::report;
use ablate::study::{self, Budget};
use ablate::summary::Findings;
use ablate::task::Digits;
use anyhow::Result;
use clap::Parser;

/// Trains a small network with the optimizer and with each of its parts removed, and reports what each part does.
///
/// Without an argument: every arm (see --list), ten seeds each, on handwritten digits. The result is a table here, and in the output
/// folder report.html (open it in a browser; it needs no network), results.json, runs.csv and curves.csv.
#[derive(Parser)]
#[command(version, after_long_help = EXAMPLES)]
struct Arguments {
    /// Seeds per arm: more seeds, narrower intervals
    ///
    /// A seed determines the initial weights and the order of the batches, the same for every arm, so that each arm is
    /// compared with the default seed by seed. Below 2 there is no interval.
    #[arg(long, value_name = "N", default_value_t = Budget::default().seeds)]
    seeds: u64,

    /// Epochs per run
    #[arg(long, value_name = "N", default_value_t = Budget::default().epochs)]
    epochs: usize,

    /// Run these arms only (names from --list, separated by commas, or `all`); the default is always run
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    arms: Vec<String>,

    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "ablation")]
    out: PathBuf,

    /// Replace earlier results in that folder
    #[arg(long)]
    force: bool,

    /// Runs at the same time; 0 for one per core. The results don't depend on it
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,

    /// List the arms and the rules of combination, and stop
    #[arg(long)]
    list: bool,
}

const EXAMPLES: &str = "\
Examples:
  ablate                                        the whole study
  ablate --list                                 what can be compared
  ablate --seeds 20 --out twenty                narrower intervals
  ablate --arms no-prodigy,adamw --epochs 10    two comparisons, short runs
  ablate --arms all --out all                   every transform of the project added to the default, too

How to read the result:
  The difference is the arm minus the default, averaged over the seeds, with its 95 % interval. An arm that removes a part
  and does worse says that the part helps. An interval that contains zero says that this study cannot tell.";

#[cfg(target_os = "linux")]
const CANDLE_THREADS: &str = "RAYON_NUM_THREADS";

/// Starts the program again with one thread for candle, because the runs already occupy every core.
///
/// candle asks for the number of threads in every matrix product: the variable, or else the machine's cores, counted anew. A
/// short run took about twice as long without the variable. A program cannot set its own environment without `unsafe`.
#[cfg(target_os = "linux")]
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

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    #[cfg(target_os = "linux")]
    limit_candle();
    if arguments.list {
        return show(&format!(
            "{}\nRules of combination\n{}",
            report::table::arms(&arm::all()),
            report::table::rules()
        ));
    }
    let arms = arm::select(&arguments.arms)?;
    let destination = Destination::new(&arguments.out, arguments.force)?;
    let budget = Budget {
        seeds: arguments.seeds,
        epochs: arguments.epochs,
        threads: match arguments.threads {
            0 => std::thread::available_parallelism()?.get(),
            chosen => chosen,
        },
        ..Budget::default()
    };
    let results = study::run(&Digits::load()?, &arms, budget, &Progress::new(budget.epochs))?;
    let findings = Findings::of(&results);
    destination.write(|folder| report::write(folder, &results, &findings))?;
    let page = arguments.out.join(report::HTML_FILE);
    show(&format!("{}\nThe report: {}\n", report::table::findings(&findings), page.display()))
}

fn show(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads, for example `head`, has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}
