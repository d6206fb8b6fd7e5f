//! The trainings of MNIST beside each other.
#![allow(clippy::print_stdout)] // a program's output

use std::collections::BTreeMap;
use std::path::PathBuf;

use ablate_statistics::Summary;
use anyhow::Result;
use clap::Parser;
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use mnist::Record;

/// Prints a Markdown table of trainings: a row per optimizer, the mean over its seeds and the standard deviation.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Records that the program mnist, or reference.py, wrote
    #[arg(required = true)]
    records: Vec<PathBuf>,
}

fn main() -> Result<()> {
    let mut rows: BTreeMap<(String, usize), Vec<Record>> = BTreeMap::new();
    for path in Arguments::parse().records {
        let record = Record::read(&path)?;
        rows.entry((record.optimizer.clone(), record.epochs.len())).or_default().push(record);
    }
    let header = [
        "optimizer",
        "epochs",
        "seeds",
        "% after 1 epoch",
        "% after 4",
        "% at the end",
        "test loss at the end",
        "d after 1 epoch",
    ];
    let mut cells: Vec<[String; 8]> = Vec::new();
    for ((optimizer, epochs), records) in rows {
        let at = |epoch: usize, digits: usize, of: fn(&mnist::Epoch) -> Option<f64>| {
            let values: Vec<f64> =
                records.iter().filter_map(|record| of(record.epochs.get(epoch)?)).collect();
            shown(&values, digits)
        };
        let accuracy = |epoch: &mnist::Epoch| Some(epoch.accuracy());
        let last = epochs.saturating_sub(1);
        cells.push([
            optimizer,
            epochs.to_string(),
            records.len().to_string(),
            at(0, 2, accuracy),
            if epochs > 4 { at(3, 2, accuracy) } else { String::new() },
            if epochs > 1 { at(last, 2, accuracy) } else { String::new() },
            at(last, 4, |epoch| Some(epoch.loss)),
            at(0, 6, |epoch| epoch.d),
        ]);
    }
    // What no training has is no column.
    let columns: Vec<usize> =
        (0..header.len()).filter(|&i| cells.iter().any(|row| !row[i].is_empty())).collect();
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(columns.iter().map(|&i| header[i]));
    for row in &cells {
        table.add_row(columns.iter().map(|&i| &row[i]));
    }
    println!("{table}");
    Ok(())
}

/// Mean ± standard deviation.
fn shown(values: &[f64], digits: usize) -> String {
    let Some(summary) = Summary::of(values) else { return String::new() };
    let mean = format!("{:.digits$}", summary.mean);
    summary.sd.map_or(mean.clone(), |sd| format!("{mean} ± {sd:.digits$}"))
}
