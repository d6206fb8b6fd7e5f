//! Draws what a step costs beside other libraries: ratios to PyTorch's fused AdamW, as `benches/versus.py` measured them.
//!
//! Run it with `cargo run --release -p examples --example step_costs`; it reads `benches/versus.json` and writes
//! `book/src/step-costs.svg`.
#![allow(clippy::print_stdout)] // an example prints

use std::path::Path;

use anyhow::{Context, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde_json::Value;

const GREY: RGBColor = RGBColor(140, 140, 140);
const BLUE: RGBColor = RGBColor(0, 114, 178);

/// Lists of parameters, by their names in the file and for people.
const LISTS: [(&str, &str); 2] = [("gpt f32", "GPT-like list, 86 tensors"), ("tiny f32", "24 tiny tensors")];

/// Optimizers, by their names in the file and for people.
const OPTIMIZERS: [(&str, &str); 6] = [
    ("this project, default", "prodigy-plus"),
    ("optax adamw", "optax adamw"),
    ("torch AdamW, foreach", "PyTorch AdamW, foreach"),
    ("burn AdamW", "burn AdamW"),
    ("candle AdamW", "candle AdamW"),
    ("reference, default", "the Python package"),
];

/// Median over rounds of the ratio to the fused AdamW.
fn ratio(measured: &Value, list: &str, optimizer: &str) -> Result<f64> {
    let results = measured["results"].as_array().context("there are no results")?;
    let of = |result: &&Value| result["group"] == list && result["name"] == optimizer;
    let result = results.iter().find(of).with_context(|| format!("{list} has no {optimizer}"))?;
    let ratios = result["ratios"].as_array().context("there are no ratios")?;
    let mut ratios: Vec<f64> = ratios.iter().filter_map(Value::as_f64).collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().with_context(|| format!("{optimizer} was not measured on {list}"))
}

/// Bars from 1, where the fused AdamW is, on a logarithmic axis.
fn panel<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    title: &str,
    ratios: &[f64],
) -> Result<(), Box<dyn std::error::Error>>
where
    B::ErrorType: 'static,
{
    let letters = ("sans-serif", examples::LETTERS).into_font();
    let rows = ratios.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 19).into_font())
        .margin(8)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(190)
        .build_cartesian_2d((0.2_f64..200.0).log_scale(), rows..0.0)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .y_labels(0)
        .x_label_formatter(&|x| format!("{x}"))
        .x_desc("time of a step, PyTorch's fused AdamW = 1")
        .label_style(letters.clone())
        .axis_desc_style(letters.clone())
        .draw()?;
    for (row, (ratio, (_, name))) in ratios.iter().zip(OPTIMIZERS).enumerate() {
        let row = row as f64;
        let color = if row == 0.0 { BLUE } else { GREY };
        let bar = Rectangle::new([(ratio.min(1.0), row + 0.2), (ratio.max(1.0), row + 0.8)], color.filled());
        chart.draw_series(std::iter::once(bar))?;
        let centred = |of: HPos| letters.color(&BLACK).pos(Pos::new(of, VPos::Center));
        let (left, right) = (centred(HPos::Right), centred(HPos::Left));
        let value = Text::new(format!("{ratio:.1}"), (ratio.max(1.0) * 1.15, row + 0.5), right);
        chart.draw_series(std::iter::once(value))?;
        let (x, y) = chart.backend_coord(&(0.2, row + 0.5));
        let (origin_x, origin_y) = area.get_base_pixel();
        area.draw(&Text::new(name, (x - origin_x - 8, y - origin_y), left))?;
    }
    Ok(())
}

/// Draws the picture of a file's numbers.
pub(crate) fn run(measured: &str, path: &Path) -> Result<()> {
    let measured: Value = serde_json::from_str(measured)?;
    let mut panels = Vec::new();
    for (list, title) in LISTS {
        let ratios = OPTIMIZERS.iter().map(|(name, _)| ratio(&measured, list, name));
        panels.push((title, ratios.collect::<Result<Vec<f64>>>()?));
    }
    examples::written(path, || {
        let area = SVGBackend::new(path, (640, 560)).into_drawing_area();
        for (part, (title, ratios)) in area.split_evenly((panels.len(), 1)).iter().zip(&panels) {
            panel(part, title, ratios)?;
        }
        area.present()?;
        drop(area);
        Ok(())
    })?;
    println!("{}", path.display());
    Ok(())
}

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let measured = std::fs::read_to_string(root.join("benches/versus.json"))?;
    run(&measured, &root.join("book/src/step-costs.svg"))
}
