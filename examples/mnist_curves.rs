//! Draws the book's picture of MNIST: test error over fourteen epochs beside AdamW at four rates, and d beside these rates.
//!
//! Run it with `cargo run --release -p examples --example mnist_curves`; it reads the records of `examples/mnist/records` and writes
//! `book/src/internals/mnist.svg`.
#![allow(clippy::print_stdout)] // an example prints

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde_json::Value;

const GREY: RGBColor = RGBColor(140, 140, 140);
const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(213, 94, 0);

/// Epochs of a whole training; shorter ones are of single options.
const EPOCHS: usize = 14;

/// Rates of AdamW, and how the records have them.
const RATES: [(f64, &str); 4] = [(1e-4, "0.0001"), (3e-4, "0.0003"), (1e-3, "0.001"), (3e-3, "0.003")];

/// Optimizers with an estimate, by their names in the records and for people.
const ESTIMATING: [(&str, &str, RGBColor); 2] =
    [("prodigy-plus", "prodigy-plus", BLUE), ("Python reference 1.9.2", "the Python package 1.9.2", ORANGE)];

/// Measurements after every epoch, of one seed.
struct Run {
    /// In percent.
    errors: Vec<f64>,
    estimates: Vec<f64>,
}

/// The whole trainings of a folder, by optimizer.
fn runs(folder: &Path) -> Result<BTreeMap<String, Vec<Run>>> {
    let mut found: BTreeMap<String, Vec<Run>> = BTreeMap::new();
    let shown = folder.display();
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {shown}"))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|ending| ending == "json"));
    files.sort();
    for file in files {
        let record: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        let epochs = record["epochs"].as_array().context("a record without epochs")?;
        if epochs.len() == EPOCHS {
            let number = |epoch: &Value, key: &str| epoch[key].as_f64();
            let error =
                |epoch: &Value| Some(100.0 - 100.0 * number(epoch, "correct")? / number(epoch, "images")?);
            let run = Run {
                errors: epochs.iter().filter_map(error).collect(),
                estimates: epochs.iter().filter_map(|epoch| number(epoch, "d")).collect(),
            };
            let optimizer = record["optimizer"].as_str().context("a record without an optimizer")?;
            found.entry(optimizer.to_owned()).or_default().push(run);
        }
    }
    Ok(found)
}

/// Mean error after every epoch.
fn mean(runs: &[Run]) -> Vec<(f64, f64)> {
    let after = |epoch: usize| runs.iter().map(|run| run.errors[epoch]).sum::<f64>() / runs.len() as f64;
    (0..EPOCHS).map(|epoch| ((epoch + 1) as f64, after(epoch))).collect()
}

/// All that is drawn.
struct Found {
    /// In the order of [`RATES`].
    adamw: Vec<Vec<Run>>,
    /// In the order of [`ESTIMATING`].
    estimating: Vec<Vec<Run>>,
}

impl Found {
    fn read(records: &Path) -> Result<Self> {
        let (mut whole, mut tuning) = (runs(records)?, runs(&records.join("tuning"))?);
        let adamw = RATES.map(|(_, rate)| {
            let name = format!("AdamW of PyTorch lr={rate}");
            tuning.remove(&name).with_context(|| format!("there is no record of {name}"))
        });
        let estimating = ESTIMATING
            .map(|(name, ..)| whole.remove(name).with_context(|| format!("there is no record of {name}")));
        Ok(Self {
            adamw: adamw.into_iter().collect::<Result<_>>()?,
            estimating: estimating.into_iter().collect::<Result<_>>()?,
        })
    }
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn errors<B: DrawingBackend>(area: &DrawingArea<B, Shift>, found: &Found) -> Drawn
where
    B::ErrorType: 'static,
{
    let letters = ("sans-serif", examples::LETTERS);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(1.0..EPOCHS as f64, (0.65..3.3_f64).log_scale())?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_labels(EPOCHS)
        .y_labels(12)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.1}"))
        .x_desc("epoch")
        .y_desc("test error, %")
        .label_style(letters)
        .axis_desc_style(letters)
        .draw()?;
    for ((rate, _), runs) in RATES.iter().zip(&found.adamw) {
        let is_best = *rate == 1e-3;
        let style = GREY.stroke_width(if is_best { 3 } else { 1 });
        let series = chart.draw_series(LineSeries::new(mean(runs), style))?;
        let label = if is_best { Some("AdamW at 1e-3") } else { None };
        let label = if *rate == 1e-4 { Some("AdamW at 1e-4, 3e-4 and 3e-3") } else { label };
        if let Some(label) = label {
            series.label(label).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
    }
    for ((_, label, color), runs) in ESTIMATING.iter().zip(&found.estimating) {
        let style = color.stroke_width(2);
        chart
            .draw_series(LineSeries::new(mean(runs), style))?
            .label(*label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperRight).label_font(letters).draw()?;
    Ok(())
}

fn estimates<B: DrawingBackend>(area: &DrawingArea<B, Shift>, found: &Found) -> Drawn
where
    B::ErrorType: 'static,
{
    let letters = ("sans-serif", examples::LETTERS).into_font();
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(1.0..EPOCHS as f64, (7e-5..5e-3_f64).log_scale())?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_labels(EPOCHS)
        .y_labels(3)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0e}"))
        .x_desc("epoch")
        .y_desc("d; rates of AdamW")
        .label_style(letters.clone())
        .axis_desc_style(letters.clone())
        .draw()?;
    for ((rate, _), runs) in RATES.iter().zip(&found.adamw) {
        let (first, last) = (1.0, EPOCHS as f64);
        chart.draw_series(LineSeries::new([(first, *rate), (last, *rate)], GREY.stroke_width(1)))?;
        let end = mean(runs)[EPOCHS - 1].1;
        let above = letters.color(&BLACK).pos(Pos::new(HPos::Right, VPos::Bottom));
        let text = format!("AdamW at {rate:.0e}: {end:.2} % error at the end");
        chart.draw_series(std::iter::once(Text::new(text, (last, 1.06 * rate), above)))?;
    }
    for ((_, _, color), runs) in ESTIMATING.iter().zip(&found.estimating).rev() {
        for run in runs {
            let d = run.estimates.iter().enumerate().map(|(epoch, d)| ((epoch + 1) as f64, *d));
            chart.draw_series(LineSeries::new(d, color.stroke_width(2)))?;
        }
    }
    Ok(())
}

/// Draws the picture of a folder's records.
pub(crate) fn run(records: &Path, path: &Path) -> Result<()> {
    let found = Found::read(records)?;
    examples::written(path, || {
        let area = SVGBackend::new(path, (640, 620)).into_drawing_area();
        let (above, below) = area.split_vertically(330);
        errors(&above, &found)?;
        estimates(&below, &found)?;
        area.present()?;
        drop((above, below, area));
        Ok(())
    })?;
    println!("{}", path.display());
    Ok(())
}

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    run(&root.join("examples/mnist/records"), &root.join("book/src/internals/mnist.svg"))
}
