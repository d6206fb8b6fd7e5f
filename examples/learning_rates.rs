//! Draws what becomes of AdamW where its learning rate is another one, beside prodigy-plus, which has none to choose.
//!
//! Run it with `cargo run --release -p examples --example learning_rates`; it writes `book/src/learning-rates.svg`, and prints the numbers.
#![allow(clippy::print_stdout)] // an example prints

use std::path::Path;

use ablate_tasks::{Split, Task};
use anyhow::{Context as _, Result};
use elementary::{Adam, Schedule, Scheduled, WeightDecay};
use gradient_transform::{Descent, Optimizer, Parameter};
use plotters::prelude::*;
use prodigy_plus::ProdigyPlus;
use serde_json::json;

const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(213, 94, 0);
const GREY: RGBColor = RGBColor(140, 140, 140);

/// Half a decade apart.
const RATES: [f64; 9] = [1e-5, 3.16e-5, 1e-4, 3.16e-4, 1e-3, 3.16e-3, 1e-2, 3.16e-2, 1e-1];
const SEEDS: u64 = 3;

/// A task by its name, and the steps to train it for.
pub(crate) const TASKS: [(&str, usize); 3] = [("digits", 600), ("autoencoder", 600), ("characters", 400)];

/// Names and colors of the lines.
const OPTIMIZERS: [(&str, RGBColor); 3] = [("AdamW", GREY), ("with cosine", ORANGE), ("prodigy-plus", BLUE)];

/// Parameters of a task, by name and shape.
type Shapes = Vec<(String, Vec<usize>)>;

fn adamw(shapes: Shapes, rate: f64, schedule: Option<Schedule>) -> gradient_transform::Result<Optimizer> {
    let schedule = schedule.map(|schedule| Scheduled { schedule });
    let chain = (Adam::default(), WeightDecay::default(), schedule, Descent::default());
    let mut optimizer = Optimizer::new(chain, shapes)?;
    optimizer.set_lr(0, rate)?;
    Ok(optimizer)
}

/// The loss on the test split at the end of a run, at the evaluation point.
fn train(
    task: &dyn Task,
    seed: u64,
    steps: usize,
    make: &dyn Fn(Shapes) -> gradient_transform::Result<Optimizer>,
) -> Result<f64> {
    let start = task.initial_parameters(seed);
    let mut optimizer = make(start.iter().map(|p| (p.name.clone(), p.shape.clone())).collect())?;
    let mut weights: Vec<Vec<f32>> = start.into_iter().map(|p| p.values).collect();
    let mut gradients: Vec<Option<Vec<f32>>> = vec![None; weights.len()];
    for step in 0..steps {
        let at: Vec<&[f32]> = weights.iter().map(Vec::as_slice).collect();
        gradients = task.gradients(&at, &task.batch(seed, step))?.of;
        let both = weights.iter_mut().zip(&gradients);
        let mut parameters: Vec<Parameter<'_>> =
            both.map(|(value, gradient)| Parameter::slice(value, gradient.as_deref())).collect();
        optimizer.step(&mut parameters)?;
    }
    drop(gradients);
    let mut parameters: Vec<Parameter<'_>> =
        weights.iter_mut().map(|value| Parameter::slice(value, None)).collect();
    optimizer.eval(&mut parameters)?;
    let at: Vec<&[f32]> = weights.iter().map(Vec::as_slice).collect();
    Ok(task.evaluate(&at, Split::Test)?.loss)
}

/// Least, mean and largest loss over the seeds; infinite where a run diverged.
type Spread = [f64; 3];

fn over_seeds(run: impl Fn(u64) -> Result<f64>) -> Result<Spread> {
    let losses = (0..SEEDS).map(run).collect::<Result<Vec<f64>>>()?;
    let finite = |loss: &f64| if loss.is_finite() { *loss } else { f64::INFINITY };
    let losses: Vec<f64> = losses.iter().map(finite).collect();
    let least = losses.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = losses.iter().copied().fold(0.0, f64::max);
    Ok([least, losses.iter().sum::<f64>() / losses.len() as f64, largest])
}

/// Losses on a task: of AdamW without and with a schedule at every rate, and of prodigy-plus.
struct Found {
    task: &'static str,
    adamw: [Vec<Spread>; 2],
    prodigy_plus: Spread,
}

fn measure(task: &'static str, steps: usize) -> Result<Found> {
    let kinds = ablate_tasks::shipped();
    let kind =
        kinds.iter().find(|kind| kind.name == task).with_context(|| format!("there is no task `{task}`"))?;
    let built = kind.build(&json!({}))?;
    println!("{task}: test loss after {steps} steps, mean of {SEEDS} seeds [least, largest]");
    let show = |name: &str, [least, mean, largest]: Spread| {
        println!("  {name:<24} {mean:.4} [{least:.4}, {largest:.4}]")
    };
    let cosine = Schedule::cosine(1.0, 0.0, steps as u64);
    let mut adamw_losses = [Vec::new(), Vec::new()];
    for (losses, (schedule, name)) in
        adamw_losses.iter_mut().zip([(None, "AdamW"), (Some(cosine), "AdamW, cosine")])
    {
        for rate in RATES {
            let make = |shapes: Shapes| adamw(shapes, rate, schedule.clone());
            let spread = over_seeds(|seed| train(&*built, seed, steps, &make))?;
            show(&format!("{name} {rate}"), spread);
            losses.push(spread);
        }
    }
    let make = |shapes: Shapes| ProdigyPlus::builder().build(shapes);
    let prodigy_plus = over_seeds(|seed| train(&*built, seed, steps, &make))?;
    show("prodigy-plus", prodigy_plus);
    Ok(Found { task, adamw: adamw_losses, prodigy_plus })
}

/// Draws a task's losses over the rates.
fn panel<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    found: &Found,
    has_legend: bool,
) -> Result<(), Box<dyn std::error::Error>>
where
    B::ErrorType: 'static,
{
    let Found { task, adamw, prodigy_plus } = found;
    let letters = ("sans-serif", examples::LETTERS);
    let best = adamw.iter().flatten().map(|spread| spread[1]).fold(prodigy_plus[1], f64::min);
    let worst = adamw.iter().flatten().map(|spread| spread[2]).fold(prodigy_plus[2], f64::max);
    // What is worse, or diverged, runs along the top.
    let (low, high) = (0.85 * best, (8.0 * best).min(1.1 * worst));
    // Labels begin at a power of ten.
    let decade = 10_f64.powf(low.log10().ceil());
    let low = if decade > high { decade / 10.0 } else { low };
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .caption(task, ("sans-serif", 19).into_font())
        .margin_right(22)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d((RATES[0]..RATES[RATES.len() - 1]).log_scale(), (low..high).log_scale())?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_labels(4)
        .y_labels(14)
        .x_label_formatter(&|x| format!("{x:.0e}"))
        .y_label_formatter(&|y| format!("{y:.2}"))
        .x_desc("learning rate")
        .y_desc("test loss")
        .label_style(letters)
        .axis_desc_style(letters)
        .draw()?;
    let within = |loss: f64| loss.clamp(low, high);
    let flat = vec![*prodigy_plus; RATES.len()];
    for ((name, color), spreads) in OPTIMIZERS.into_iter().zip([&adamw[0], &adamw[1], &flat]) {
        let along = |of: usize| RATES.into_iter().zip(spreads.iter().map(move |spread| within(spread[of])));
        let band: Vec<(f64, f64)> = along(0).chain(along(2).collect::<Vec<_>>().into_iter().rev()).collect();
        chart.draw_series(std::iter::once(Polygon::new(band, color.mix(0.2))))?;
        chart
            .draw_series(LineSeries::new(along(1), color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], color.stroke_width(2)));
    }
    if has_legend {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .label_font(letters)
            .legend_area_size(20)
            .draw()?;
    }
    Ok(())
}

/// Trains, prints, and draws.
pub(crate) fn run(path: &Path, tasks: &[(&'static str, usize)]) -> Result<()> {
    let found = tasks.iter().map(|(task, steps)| measure(task, *steps)).collect::<Result<Vec<_>>>()?;
    examples::written(path, || {
        let area = SVGBackend::new(path, (290 * found.len() as u32, 280)).into_drawing_area();
        for (i, part) in area.split_evenly((1, found.len())).iter().enumerate() {
            panel(part, &found[i], i + 1 == found.len())?;
        }
        area.present()?;
        drop(area);
        Ok(())
    })?;
    println!("{}", path.display());
    Ok(())
}

fn main() -> Result<()> {
    run(Path::new("book/src/learning-rates.svg"), &TASKS)
}
