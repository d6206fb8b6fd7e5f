//! Steps the AdamW of another library and prints what a step cost, as `step-bench` does for this project.

mod burn_adamw;
mod candle_adamw;
mod timing;

use std::io::Write;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use timing::Timing;

/// Measures what one step of another library's AdamW costs, in nanoseconds per parameter.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Whose AdamW is stepped
    #[arg(long, value_enum)]
    peer: Peer,

    /// Shapes to step: one 4096x4096, a GPT-like list, or a few small tensors
    #[arg(long, value_enum, default_value = "large")]
    shapes: Shapes,

    /// Element type of parameters, gradients and state
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Precision,

    /// Threads to use
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,

    /// Steps to measure
    #[arg(long, value_name = "N", default_value_t = 20)]
    steps: usize,

    /// Steps before the first measured one
    #[arg(long, value_name = "N", default_value_t = 3)]
    warm_up: usize,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Peer {
    Candle,
    Burn,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shapes {
    Large,
    Gpt,
    Tiny,
}

#[derive(Clone, Copy, ValueEnum)]
enum Precision {
    F32,
    Bf16,
}

impl Shapes {
    /// The same tensors as step-bench's; those of one dimension have one extent.
    fn list(self) -> Vec<Vec<usize>> {
        let groups: &[(usize, &[usize])] = match self {
            Self::Large => &[(1, &[4096, 4096])],
            Self::Gpt => &[(24, &[768, 768]), (6, &[3072, 768]), (6, &[768, 3072]), (50, &[768])],
            Self::Tiny => {
                &[(4, &[128, 64]), (4, &[64]), (4, &[64, 64]), (4, &[64]), (4, &[10, 64]), (4, &[10])]
            }
        };
        groups.iter().flat_map(|&(count, shape)| std::iter::repeat_n(shape.to_vec(), count)).collect()
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.threads == 0 || arguments.steps == 0 {
        bail!("at least one thread and one step are needed");
    }
    rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build_global()?;
    let shapes = arguments.shapes.list();
    let timing = Timing::new(&shapes, arguments.warm_up, arguments.steps);
    let measurement = match arguments.peer {
        Peer::Candle => candle_adamw::measure(&shapes, arguments.dtype, timing).context("candle")?,
        Peer::Burn => burn_adamw::measure(&shapes, arguments.dtype, timing).context("burn")?,
    };
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string(&measurement)?)?;
    } else {
        writeln!(
            out,
            "{} parameters: {:.3} {:.3} {:.3} ns/parameter/step (min, median, max)",
            measurement.parameters, measurement.min_ns, measurement.median_ns, measurement.max_ns
        )?;
    }
    Ok(())
}
