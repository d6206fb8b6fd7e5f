//! `conformance`: replays recorded trajectories of the reference and says how well each agrees.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use conformance::case::Case;
use conformance::replay::{Verdict, replay};
use conformance::table::Table;
use conformance::{product, replay};

/// Replay recorded trajectories of the Python reference (prodigy-plus-schedule-free 1.9.2 and 2.0.1; a case says which).
///
/// Each FILE is a case: a safetensors file with a model's initial parameters, the gradients of every step, and where the
/// reference took the parameters. The same gradients are given to the optimizer under test, and a line says how well it
/// agrees:
///
///   NAME  y=ERR x=ERR d=ERR tol=TOL  ok|FAIL
///
/// y and x are the worst distances from the reference's parameters, in training and in evaluation mode, relative to how
/// far the reference has moved them (beyond four units of rounding); d is the worst relative error of Prodigy's step
/// size over every step and group. A case passes when none exceeds tol: 1e-4, or more where the reference itself moves
/// when its gradients change in the last digit; 2e-2 for bfloat16 parameters.
///
/// Exit status: 0 if all pass, 1 if any fails or cannot be read, 2 if the command line is wrong.
///
/// To make cases of your own: python tests/golden/generate.py --random 100 --seed 1 OUT_DIR
#[derive(Parser)]
#[command(name = "conformance", version, verbatim_doc_comment)]
struct Arguments {
    /// Replay through the naive float64 oracle instead of the engine.
    ///
    /// The oracle is plain textbook code, so a case on which the engine and the oracle differ shows a mistake in one of
    /// them.
    #[arg(long)]
    oracle: bool,

    /// With --oracle: follow the documented behaviour instead of the reference's deviations from it.
    ///
    /// The cases are the reference's, so this shows which of them the deviations matter for.
    #[arg(long, requires = "oracle")]
    corrected: bool,

    /// Print a Markdown table of the worst errors by option, in place of a line for each case.
    #[arg(long)]
    table: bool,

    /// Cases to replay.
    #[arg(required = true, value_name = "FILE.safetensors")]
    files: Vec<PathBuf>,
}

fn main() -> io::Result<ExitCode> {
    sigpipe::reset(); // A reader such as `head` may end first.
    let arguments = Arguments::parse();
    let mut out = io::stdout().lock();
    let name_of = |file: &Path| file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
    let width = arguments.files.iter().map(|file| name_of(file).chars().count()).max().unwrap_or(0);
    let mut passed = 0;
    let mut table = Table::default();
    for file in &arguments.files {
        let name = name_of(file);
        match judge(file, &arguments) {
            Ok((case, verdict)) => {
                passed += usize::from(verdict.passed);
                table.add(&case, &verdict);
                if arguments.table {
                    continue;
                }
                let Verdict { y, x, d, tol, .. } = verdict;
                let [y, x, d, tol] = [y, x, d, tol].map(scientific);
                let word = if verdict.passed { "ok" } else { "FAIL" };
                writeln!(out, "{name:width$}  y={y} x={x} d={d} tol={tol}  {word}")?;
            }
            Err(why) => writeln!(out, "{name:width$}  FAIL {why}")?,
        }
        out.flush()?;
    }
    if arguments.table {
        write!(out, "{}", table.markdown())?;
    }
    let failed = arguments.files.len() - passed;
    writeln!(out, "{passed} passed, {failed} failed")?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn judge(file: &Path, arguments: &Arguments) -> Result<(Case, Verdict), Box<dyn std::error::Error>> {
    let case = Case::read(file)?;
    let mut subject =
        if arguments.oracle { replay::oracle(&case, arguments.corrected)? } else { product::subject(&case)? };
    let verdict = replay(&case, subject.as_mut())?;
    Ok((case, verdict))
}

/// `1.2e-06`: two digits, and an exponent of two, as C's `%.1e` writes it.
fn scientific(value: f64) -> String {
    let text = format!("{value:.1e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) =
                exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => format!("{text:>7}"),
    }
}
