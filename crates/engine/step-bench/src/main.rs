//! The command line of the benchmark.

use std::io::Write;

use anyhow::{Context, Result, bail};
use clap::Parser;
use gradient_transform::Optimizer;
use prodigy_plus::{Options, ProdigyPlus};
use serde_json::Value;
use step_bench::bench::{Precision, measure, measure_fused};
use step_bench::shapes::shapes;
use step_bench::threads;

/// Measures the cost of one step of the optimizer.
///
/// Prints nanoseconds per parameter and step (least, median, largest), the bytes per parameter that a step moves by the engine's plan,
/// the memory bandwidth that this amounts to, and the bytes of state per parameter.
#[derive(Parser)]
#[command(version, after_long_help = EXAMPLES)]
struct Arguments {
    /// Shapes to step: large (one 4096x4096), gpt (a GPT-like list), tiny, or a file with one shape per line (`24 x 768x768`)
    #[arg(long, value_name = "large|gpt|tiny|FILE", default_value = "large")]
    shapes: String,

    /// Element type of parameters and gradients
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Precision,

    /// A documented option of the optimizer, such as use_muon_pp=true or eps=null; may be given several times
    #[arg(long = "option", value_name = "NAME=VALUE")]
    options: Vec<String>,

    /// Threads to use, at most one for each core
    #[arg(long, value_name = "N", default_value_t = threads::usual())]
    threads: usize,

    /// Steps to measure
    #[arg(long, value_name = "N", default_value_t = 20)]
    steps: usize,

    /// Steps before the first measured one
    #[arg(long, value_name = "N", default_value_t = 3)]
    warm_up: usize,

    /// Measure the default step written out by hand instead of the chain: one float32 matrix such as large, and no options
    #[arg(long, conflicts_with = "options")]
    fused: bool,

    /// Measure Muon in PyTorch's form, with Adam for vectors, instead of the optimizer
    #[arg(long, conflicts_with_all = ["options", "fused"])]
    muon: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  step-bench --shapes gpt --dtype bf16
  step-bench --shapes tiny --steps 1000 --option use_adopt=true --json
  step-bench --shapes large --fused
  step-bench --shapes gpt --muon

Times of one run say little on a machine that others use too: alternate runs of what is to be compared.";

fn main() -> Result<()> {
    sigpipe::reset(); // A reader such as `head` may end first.
    let arguments = Arguments::parse();
    let options = options(&arguments.options)?;
    let shapes = shapes(&arguments.shapes)?;
    threads::give(arguments.threads)?;
    let build = |parameters: &[(String, &[usize])]| {
        let parameters = parameters.iter().cloned();
        if arguments.muon {
            let mut optimizer = Optimizer::new(named_optimizers::muon(), parameters)?;
            optimizer.set_lr(0, 1e-3)?;
            return Ok(optimizer);
        }
        Ok(options.build(parameters)?)
    };
    let m = if arguments.fused {
        if arguments.dtype != Precision::F32 {
            bail!("the step written out by hand is for float32 only");
        }
        measure_fused(&shapes, arguments.warm_up, arguments.steps)?
    } else {
        measure(build, &shapes, arguments.dtype, arguments.warm_up, arguments.steps)?
    };
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string(&m)?)?;
    } else {
        writeln!(
            out,
            "{} parameters: {:.3} {:.3} {:.3} ns/parameter/step (min, median, max)",
            m.parameters, m.min_ns, m.median_ns, m.max_ns
        )?;
        writeln!(
            out,
            "plan: {:.2} bytes/parameter in {} sweeps, {:.1} GB/s; state: {:.2} bytes/parameter",
            m.planned_bytes, m.sweeps, m.gigabytes_per_second, m.state_bytes
        )?;
    }
    Ok(())
}

fn options(pairs: &[String]) -> Result<Options> {
    let mut map = serde_json::Map::new();
    for pair in pairs {
        let (name, value) =
            pair.split_once('=').with_context(|| format!("`{pair}` is not of the form NAME=VALUE"))?;
        let value = serde_json::from_str(value).with_context(|| {
            format!("`{value}` is not a value of `{name}`; try true, false, null, a number, or [0.9, 0.99]")
        })?;
        map.insert(name.to_owned(), value);
    }
    if map.is_empty() {
        return Ok(ProdigyPlus::builder());
    }
    serde_json::from_value(Value::Object(map)).context("an option was not accepted")
}
