//! The command line of the roofline.

use std::io::Write;

use anyhow::{Result, bail};
use clap::Parser;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use step_bench::roofline::{Bandwidth, Distance, Roofline};
use step_bench::shapes::shapes;
use step_bench::threads;

/// Measures the memory bandwidth that the engine reaches, and how far the default step is from it.
///
/// A step computes little for every byte that it moves, so memory bandwidth limits its time: the bytes that it moves by the
/// engine's plan, over the bandwidth of the same machine. The bandwidth is measured through the engine, with chains that
/// compute almost nothing, in four patterns of arrays read and read and written (rw): g is the gradient, y
/// the parameter, and z, m and v are state. The floor is taken at the pattern of the default step's last
/// sweep (Schedule-Free).
#[derive(Parser)]
#[command(version, after_long_help = HELP)]
struct Arguments {
    /// Threads to use, at most one for each core
    #[arg(long, value_name = "N", default_value_t = threads::usual())]
    threads: usize,

    /// Size of all arrays of a pattern together; for the memory's bandwidth many times that of the last-level cache
    #[arg(long, value_name = "M", default_value_t = 512)]
    size_mib: usize,

    /// Shapes for the default step: large (one 4096x4096), gpt, tiny, or a file of shapes, as with step-bench
    #[arg(long, value_name = "large|gpt|tiny|FILE", default_value = "large")]
    shapes: String,

    /// Rounds; each measures everything in turn
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,

    /// Steps of each measurement in a round
    #[arg(long, value_name = "N", default_value_t = 5)]
    repetitions: usize,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
How to read it:
  A ratio of 1 is a step that waits for nothing but the memory; at 1.5, a third of its time is something else: arithmetic,
  or conversion of bfloat16. A ratio below 1 means that a part of the data was still in a cache, or that
  the machine had less to do for others during the step. Ratios are of a step and a floor of the same round; where their
  spread is wide, measure more rounds or a quieter machine.

Examples:
  roofline --threads 1
  roofline --size-mib 1 --shapes tiny --repetitions 200     within the caches; steps this small run on one thread
  roofline --size-mib 2048 --rounds 20 --json";

#[derive(Serialize)]
struct Report<'a> {
    threads: usize,
    size_mib: usize,
    shapes: &'a str,
    #[serde(flatten)]
    roofline: &'a Roofline,
}

fn main() -> Result<()> {
    sigpipe::reset(); // A reader such as `head` may end first.
    let Arguments { threads, size_mib, shapes: preset, rounds, repetitions, json } = Arguments::parse();
    if size_mib == 0 {
        bail!("at least one MiB is needed");
    }
    let shapes = shapes(&preset)?;
    threads::give(threads)?;
    let roofline = Roofline::measure(size_mib, &shapes, rounds, repetitions)?;
    let mut out = std::io::stdout().lock();
    if json {
        let report = Report { threads, size_mib, shapes: &preset, roofline: &roofline };
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        writeln!(out, "Bandwidth: {threads} threads, {size_mib} MiB; GB/s")?;
        writeln!(out, "{}\n", bandwidth_table(&roofline.bandwidths))?;
        writeln!(out, "The default step: {threads} threads, {preset}; ns/parameter")?;
        writeln!(out, "{}", step_table(&roofline.steps))?;
    }
    Ok(())
}

fn table<const N: usize>(header: [&str; N], labels: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_header(header);
    for column in table.column_iter_mut().skip(labels) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn bandwidth_table(bandwidths: &[Bandwidth]) -> Table {
    let mut table = table(["pattern", "bytes/element", "min", "median", "max"], 1);
    for Bandwidth { pattern, bytes, min, median, max } in bandwidths {
        let gigabytes = [min, median, max].map(|value| format!("{value:.1}"));
        table.add_row([pattern.describe().to_owned(), format!("{bytes:.0}")].into_iter().chain(gigabytes));
    }
    table
}

fn step_table(steps: &[Distance]) -> Table {
    let header = ["parameters", "bytes/parameter", "floor", "step", "ratio (min, median, max)"];
    let mut table = table(header, 1);
    for step in steps {
        table.add_row([
            format!("{:?}", step.precision).to_lowercase(),
            format!("{:.2}", step.bytes),
            format!("{:.3}", step.floor_ns),
            format!("{:.3}", step.step_ns),
            step.ratio.map(|ratio| format!("{ratio:.2}")).join("  "),
        ]);
    }
    table
}
