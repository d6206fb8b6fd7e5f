//! The picture of a training.

use std::path::Path;

use anyhow::{Result, anyhow};
use mnist::Record;
use plotters::prelude::*;

const BLUE: RGBColor = RGBColor(0, 114, 178);

/// Error of the test and d by epoch.
pub(crate) fn draw(path: &Path, record: &Record) -> Result<()> {
    let has_d = record.epochs.iter().all(|epoch| epoch.d.is_some());
    let panels = if has_d { 2 } else { 1 };
    let area = SVGBackend::new(path, (640, 280 * panels as u32)).into_drawing_area();
    let drawn = |error: DrawingAreaErrorKind<_>| anyhow!("cannot draw {}: {error}", path.display());
    area.fill(&WHITE).map_err(drawn)?;
    let parts = area.split_evenly((panels, 1));
    let title = format!("{}, seed {}", record.optimizer, record.seed);
    let errors = series(record, |epoch| Some(100.0 - epoch.accuracy()));
    panel(&parts[0], &title, "test error, %", &errors).map_err(drawn)?;
    if has_d {
        let d = series(record, |epoch| epoch.d);
        panel(&parts[1], "", "d", &d).map_err(drawn)?;
    }
    area.present().map_err(drawn)
}

fn series(record: &Record, of: impl Fn(&mnist::Epoch) -> Option<f64>) -> Vec<(f64, f64)> {
    let values = record.epochs.iter().enumerate();
    values.filter_map(|(index, epoch)| Some((index as f64 + 1.0, of(epoch)?))).collect()
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Outcome = Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn panel(area: &Area<'_>, title: &str, label: &str, points: &[(f64, f64)]) -> Outcome {
    let top = points.iter().map(|point| point.1).fold(0.0, f64::max);
    let top = if top > 0.0 { 1.1 * top } else { 1.0 };
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(72)
        .build_cartesian_2d(0.5..points.len() as f64 + 0.5, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc("epoch")
        .y_desc(label)
        .x_labels(points.len().min(15))
        .x_label_formatter(&|x| format!("{x:.0}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    chart.draw_series(LineSeries::new(points.iter().copied(), BLUE.stroke_width(2)))?;
    chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, BLUE.filled())))?;
    Ok(())
}
