//! Draws the pictures of the book's pages about the transforms: what a transform makes of a gradient, beside the same chain
//! without it.
//!
//! Run it with `cargo run --release -p examples --example pictures`; it writes `book/src/transforms/*.svg`.
#![allow(clippy::print_stdout)] // an example prints

use std::path::Path;

use anyhow::Result;
use factored_moment::{DenseMoment, FactoredMoment};
use gradient_transform::{Descent, Link, Optimizer, Parameter};
use nalgebra::DMatrix;
use plotters::prelude::*;
use prodigy_core::Prodigy;
use prodigy_plus::Options;
use rand::{Rng, SeedableRng, rngs::StdRng};
use schedule_free::ScheduleFree;
use speed::Speed;

const GREY: RGBColor = RGBColor(140, 140, 140);
const BLUE: RGBColor = RGBColor(0, 114, 178);
const ORANGE: RGBColor = RGBColor(213, 94, 0);
const GREEN: RGBColor = RGBColor(0, 158, 115);

/// A line of a picture.
struct Line {
    label: &'static str,
    color: RGBColor,
    points: Vec<(f64, f64)>,
}

impl Line {
    fn new(label: &'static str, color: RGBColor, values: impl IntoIterator<Item = f64>) -> Self {
        let points = values.into_iter().enumerate().map(|(i, value)| (i as f64, value)).collect();
        Self { label, color, points }
    }
}

fn draw(path: &Path, (x, y): (&str, &str), labels: SeriesLabelPosition, lines: &[Line]) -> Result<()> {
    let values = || lines.iter().flat_map(|line| &line.points).map(|point| point.1);
    let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max));
    let room = 0.05 * (high - low).max(1e-9);
    let length = lines.iter().map(|line| line.points.len()).max().unwrap_or(1);
    let letters = ("sans-serif", examples::LETTERS);
    examples::written(path, || {
        let area = SVGBackend::new(path, (640, 300)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(76)
            .build_cartesian_2d(0.0..length as f64 - 1.0, low - room..high + room)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .x_desc(x)
            .y_desc(y)
            .label_style(letters)
            .axis_desc_style(letters)
            .draw()?;
        for line in lines {
            let style = line.color.stroke_width(2);
            chart
                .draw_series(LineSeries::new(line.points.iter().copied(), style))?
                .label(line.label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        chart.configure_series_labels().position(labels).label_font(letters).draw()?;
        area.present()?;
        drop(chart);
        drop(area);
        Ok(())
    })?;
    println!("{}", path.display());
    Ok(())
}

/// Input of a chain: the gradient of every element in every step.
struct Gradients {
    shape: &'static [usize],
    steps: usize,
    of: fn(step: usize, element: usize, noise: f32) -> f32,
    /// Where the weights start.
    weight: fn(element: usize) -> f32,
}

impl Gradients {
    fn size(&self) -> usize {
        self.shape.iter().product()
    }

    fn at(&self, step: usize) -> Vec<f32> {
        let mut generator = StdRng::seed_from_u64(step as u64);
        (0..self.size()).map(|i| (self.of)(step, i, generator.random_range(-1.0..1.0))).collect()
    }

    /// By how much the chain moves every element in the last step.
    fn last_step(&self, chain: impl Link<f32> + 'static) -> Result<Vec<f64>> {
        let mut optimizer = Optimizer::new(chain, [("w", self.shape)])?;
        let mut w: Vec<f32> = (0..self.size()).map(self.weight).collect();
        let mut before = w.clone();
        for step in 0..self.steps {
            before.copy_from_slice(&w);
            optimizer.step(&mut [Parameter::slice(&mut w, Some(&self.at(step)))])?;
        }
        Ok(before.iter().zip(&w).map(|(before, after)| f64::from(before - after)).collect())
    }

    /// The last gradient, and the last steps of a chain without and with the transform.
    fn picture(
        &self,
        path: &Path,
        without: (&'static str, impl Link<f32> + 'static),
        with: (&'static str, impl Link<f32> + 'static),
    ) -> Result<()> {
        let gradient: Vec<f64> = self.at(self.steps - 1).into_iter().map(f64::from).collect();
        let mut order: Vec<usize> = (0..gradient.len()).collect();
        order.sort_by(|&a, &b| gradient[a].total_cmp(&gradient[b]));
        let sorted = |values: &[f64]| order.iter().map(|&i| values[i]).collect::<Vec<_>>();
        let lines = [
            Line::new("gradient", GREY, sorted(&gradient)),
            Line::new(without.0, ORANGE, sorted(&self.last_step(without.1)?)),
            Line::new(with.0, BLUE, sorted(&self.last_step(with.1)?)),
        ];
        let axes = ("element, in the order of the gradient", "step");
        draw(path, axes, SeriesLabelPosition::UpperLeft, &lines)
    }
}

/// The step of a huge gradient.
const OUTLIER: usize = 40;

/// From -1 to 1 over 33 elements.
fn ramp(i: usize) -> f32 {
    i as f32 / 16.0 - 1.0
}

const STEADY: Gradients =
    Gradients { shape: &[33], steps: 8, of: |_, i, noise| 3.0 * ramp(i) + 0.5 * noise, weight: |_| 0.0 };

fn preconditioners(folder: &Path) -> Result<()> {
    let path = |name: &str| folder.join(format!("{name}.svg"));
    let descent = Descent::default;
    let scales = Gradients {
        shape: &[40, 40],
        // Rows and columns of very different size.
        of: |_, i, noise| (1 + i / 40) as f32 * (1 + i % 40) as f32 / 400.0 * noise.signum(),
        ..STEADY
    };
    let dense = (DenseMoment::new(0.9), descent());
    scales.picture(
        &path("factored-moment"),
        ("dense moment", dense),
        ("factored moment", (FactoredMoment::new(0.9), descent())),
    )?;
    let outlier = Gradients {
        of: |step, i, noise| ramp(i) + 0.2 * noise + if step == 7 && i == 30 { 3.0 } else { 0.0 },
        ..STEADY
    };
    let dense = || DenseMoment::new(0.9);
    outlier.picture(
        &path("adopt"),
        ("second moment", (dense(), descent())),
        ("ADOPT", (adopt::Adopt { moment: dense(), first_step_of_group: false }, descent())),
    )?;
    STEADY.picture(
        &path("focus"),
        ("second moment", (dense(), descent())),
        ("FOCUS", (focus::Focus::new(0.9), descent())),
    )?;
    singular_values(&path("muon-pp"))?;
    STEADY.picture(
        &path("stableadamw"),
        ("without", descent()),
        ("StableAdamW", (stableadamw::StableAdamW, descent())),
    )?;
    let weights = Gradients { weight: |i| 1.0 + i as f32 / 8.0, steps: 1, ..STEADY };
    weights.picture(
        &path("orthograd"),
        ("without", descent()),
        ("OrthoGrad", (orthograd::OrthoGrad::default(), descent())),
    )
}

/// A gradient that is almost one outer product, and the singular values of the steps that are made of it.
fn singular_values(path: &Path) -> Result<()> {
    const SIDE: usize = 24;
    let gradients = Gradients {
        shape: &[SIDE, SIDE],
        of: |_, i, noise| ramp(i / SIDE) * ramp(i % SIDE) + 0.1 * noise,
        ..STEADY
    };
    let spectrum = |values: &[f64]| -> Vec<f64> {
        let values = DMatrix::from_row_slice(SIDE, SIDE, values).singular_values();
        values.iter().map(|value| value / values[0]).collect()
    };
    let gradient: Vec<f64> = gradients.at(gradients.steps - 1).into_iter().map(f64::from).collect();
    let dense = gradients.last_step((DenseMoment::new(0.9), Descent::default()))?;
    let muon = gradients.last_step((muon_pp::Muon::new(0.9), Descent::default()))?;
    let lines = [
        Line::new("gradient", GREY, spectrum(&gradient)),
        Line::new("second moment", ORANGE, spectrum(&dense)),
        Line::new("Muon", BLUE, spectrum(&muon)),
    ];
    let axes = ("singular value, from the largest", "relative to it");
    draw(path, axes, SeriesLabelPosition::UpperRight, &lines)
}

fn after_the_writer(folder: &Path) -> Result<()> {
    // The gradient of every second element turns round in the last step.
    let turned = Gradients {
        of: |step, i, noise| if step == 7 && i % 2 == 0 { -ramp(i) } else { ramp(i) } + 0.05 * noise,
        ..STEADY
    };
    let plain = || ScheduleFree::new(0.9);
    let path = |name: &str| folder.join(format!("{name}.svg"));
    turned.picture(
        &path("cautious"),
        ("Schedule-Free", plain()),
        ("with Cautious", (plain(), cautious::Cautious::default())),
    )?;
    turned.picture(&path("grams"), ("Schedule-Free", plain()), ("with Grams", (plain(), grams::Grams)))
}

/// One weight on `w^2 / 2` under noise: y, z and x by step.
fn averaging(folder: &Path) -> Result<()> {
    let mut optimizer = Optimizer::new(ScheduleFree::new(0.9), [("w", &[1][..])])?;
    optimizer.set_lr(0, 0.3)?;
    let mut generator = StdRng::seed_from_u64(1);
    let mut y = [3.0_f32];
    let (mut ys, mut zs, mut xs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..120 {
        let gradient = [y[0] + generator.random_range(-3.0..3.0_f32)];
        optimizer.step(&mut [Parameter::slice(&mut y, Some(&gradient))])?;
        let mut x = [0.0];
        optimizer.evaluation_point(0, &y, &mut x)?;
        ys.push(f64::from(y[0]));
        xs.push(f64::from(x[0]));
        zs.push(optimizer.snapshot().tensors["w"].arrays["schedule-free/z"].get(0));
    }
    let lines = [
        Line::new("z, which takes the steps", GREY, zs),
        Line::new("y, where gradients are taken", ORANGE, ys),
        Line::new("x, the average", BLUE, xs),
    ];
    draw(&folder.join("schedule-free.svg"), ("step", "weight"), SeriesLabelPosition::LowerLeft, &lines)
}

/// d by step, on a quadratic under noise: of Prodigy by the distance to the minimum, and beside SPEED where one gradient is huge.
fn estimates(folder: &Path) -> Result<()> {
    let d = |estimator: Box<dyn Link<f32>>, distance: f32, outlier: f32| -> Result<Vec<f64>> {
        let chain = (DenseMoment::new(0.99), stableadamw::StableAdamW, estimator, ScheduleFree::new(0.9));
        let mut optimizer = Optimizer::new(chain, [("a", &[220][..]), ("b", &[220])])?;
        let mut generator = StdRng::seed_from_u64(1);
        let (mut a, mut b) = (vec![distance; 220], vec![-distance; 220]);
        let mut by_step = Vec::new();
        for step in 0..150 {
            let size = if step == OUTLIER { outlier } else { 1.0 };
            let mut noisy = |w: &[f32]| -> Vec<f32> {
                w.iter().map(|w| size * (w + distance * generator.random_range(-1.0..1.0_f32))).collect()
            };
            let (by_a, by_b) = (noisy(&a), noisy(&b));
            optimizer
                .step(&mut [Parameter::slice(&mut a, Some(&by_a)), Parameter::slice(&mut b, Some(&by_b))])?;
            by_step.push(optimizer.estimate(0)?.d.log10());
        }
        Ok(by_step)
    };
    let axes = ("step", "log10 d");
    let prodigy = |distance| d(Box::<Prodigy>::default(), distance, 1.0);
    let lines = [
        Line::new("at a distance of 10", GREY, prodigy(10.0)?),
        Line::new("at a distance of 1", BLUE, prodigy(1.0)?),
        Line::new("at a distance of 0.1", ORANGE, prodigy(0.1)?),
    ];
    draw(&folder.join("prodigy-core.svg"), axes, SeriesLabelPosition::LowerRight, &lines)?;
    let lines = [
        Line::new("Prodigy", GREY, prodigy(1.0)?),
        Line::new(
            "Prodigy, one gradient 1e4 times as large",
            ORANGE,
            d(Box::<Prodigy>::default(), 1.0, 1e4)?,
        ),
        Line::new("SPEED", GREEN, d(Box::<Speed>::default(), 1.0, 1.0)?),
        Line::new("SPEED, the same gradient", BLUE, d(Box::<Speed>::default(), 1.0, 1e4)?),
    ];
    draw(&folder.join("speed.svg"), axes, SeriesLabelPosition::LowerRight, &lines)
}

/// d by step where it grows and levels off, does not grow, never stops growing, and is stopped.
fn reading_d(folder: &Path) -> Result<()> {
    let d = |options: Options, has_minimum: bool| -> Result<Vec<f64>> {
        let mut optimizer = options.build([("w", &[220][..])])?;
        let mut generator = StdRng::seed_from_u64(1);
        let mut w = vec![1.0_f32; 220];
        let mut by_step = Vec::new();
        for _ in 0..200 {
            let mut gradient = |w: &f32| {
                let slope = if has_minimum { *w } else { 1.0 };
                slope + generator.random_range(-0.3..0.3_f32)
            };
            let by_w: Vec<f32> = w.iter().map(&mut gradient).collect();
            optimizer.step(&mut [Parameter::slice(&mut w, Some(&by_w))])?;
            by_step.push(optimizer.estimate(0)?.d.log10());
        }
        Ok(by_step)
    };
    let lines = [
        Line::new("default", BLUE, d(Options::default(), true)?),
        Line::new("d0 = 1: too large", GREY, d(Options::default().d0(1.0), true)?),
        Line::new("a loss without a minimum", ORANGE, d(Options::default(), false)?),
        Line::new("the same, prodigy_steps = 50", GREEN, d(Options::default().prodigy_steps(50), false)?),
    ];
    draw(&folder.join("d.svg"), ("step", "log10 d"), SeriesLabelPosition::LowerRight, &lines)
}

/// Draws all of them into a folder.
pub(crate) fn run(folder: &Path) -> Result<()> {
    reading_d(folder)?;
    preconditioners(folder)?;
    after_the_writer(folder)?;
    averaging(folder)?;
    estimates(folder)
}

fn main() -> Result<()> {
    run(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../book/src/transforms"))
}
