//! Curves over a run, one small figure per arm with the base behind it.

use maud::{Markup, html};

use super::figure::{Scale, band, bottom_axis, horizontal_grid, line};
use super::number::brief;
use crate::run::{CurvePoint, Record};
use crate::study::{ArmResult, Results};

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = WIDTH - 54.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = HEIGHT - 36.0;

/// Labels closer than this would overlap.
const LABEL_HEIGHT: f64 = 13.0;

/// A quantity of the training curves.
pub(super) struct Curve {
    pub(super) name: &'static str,
    pub(super) of: fn(&CurvePoint) -> f64,
}

struct Band {
    epoch: usize,
    low: f64,
    mean: f64,
    high: f64,
}

/// Mean and range over the seeds that got as far as the epoch.
fn over_seeds(arm: &ArmResult, of: fn(&CurvePoint) -> f64) -> Vec<Band> {
    let length = arm.runs.iter().map(|run| run.curve.len()).max().unwrap_or(0);
    (0..length)
        .map(|epoch| {
            let values: Vec<f64> = arm.runs.iter().filter_map(|run| run.curve.get(epoch)).map(of).collect();
            Band {
                epoch,
                low: values.iter().copied().fold(f64::INFINITY, f64::min),
                mean: values.iter().sum::<f64>() / values.len() as f64,
                high: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            }
        })
        .collect()
}

/// The arms to draw, each with the base behind it; a base without company stands alone.
fn panels(arms: &[ArmResult]) -> Vec<(&ArmResult, Option<&ArmResult>)> {
    match arms.split_first() {
        Some((base, [])) => vec![(base, None)],
        Some((base, others)) => others.iter().map(|arm| (arm, Some(base))).collect(),
        None => Vec::new(),
    }
}

fn heading(arm: &ArmResult, base: Option<&ArmResult>, class: &str) -> Markup {
    html! {
        g class=(class) {
            line.curve x1=(LEFT) x2=(LEFT + 14.0) y1="9" y2="9" {}
            text.name x=(LEFT + 20.0) y="13.5" { (arm.title) }
        }
        @if let Some(base) = base {
            g.base {
                line.curve x1=(WIDTH - 76.0) x2=(WIDTH - 62.0) y1="9" y2="9" {}
                text.tick x=(WIDTH - 56.0) y="13" { (base.title) }
            }
        }
    }
}

/// Where two labels go so that neither covers the other.
fn apart(first: f64, second: f64) -> (f64, f64) {
    let overlap = LABEL_HEIGHT - (first - second).abs();
    if overlap <= 0.0 {
        return (first, second);
    }
    let shift = if first <= second { -overlap / 2.0 } else { overlap / 2.0 };
    (first + shift, second - shift)
}

/// Small figures of one quantity, all on the same logarithmic scale.
pub(super) fn losses(results: &Results, curve: &Curve, colour: impl Fn(&str) -> String) -> Markup {
    let every = results.arms.iter().flat_map(|arm| &arm.runs).flat_map(|run| &run.curve).map(curve.of);
    let y = Scale::log(every, (BOTTOM, TOP));
    let x = Scale::from_zero(results.budget.epochs as f64, (LEFT, RIGHT));
    let draw = |bands: &[Band]| {
        let area: Vec<(f64, f64, f64)> =
            bands.iter().map(|band| (x.at(band.epoch as f64), y.at(band.low), y.at(band.high))).collect();
        let mean = line(bands.iter().map(|band| (x.at(band.epoch as f64), y.at(band.mean))));
        html! {
            path.band d=(band(&area)) {}
            path.curve d=(mean) {}
        }
    };
    html! {
        div.panels {
            @for (arm, base) in panels(&results.arms) {
                @let label = format!("{} over epochs: {}", curve.name, arm.title);
                @let bands = over_seeds(arm, curve.of);
                @let base_bands = base.map(|base| over_seeds(base, curve.of)).unwrap_or_default();
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(label) {
                    (horizontal_grid(&y, 5, LEFT, RIGHT))
                    (bottom_axis(&x, 4, BOTTOM))
                    text.tick x=((LEFT + RIGHT) / 2.0) y=(HEIGHT - 3.0) text-anchor="middle" { "epoch" }
                    g.base { (draw(&base_bands)) }
                    g class=(colour(&arm.name)) { (draw(&bands)) }
                    @if let Some(last) = bands.last() {
                        @let own = y.at(last.mean);
                        @let other = base_bands.last().map(|band| (band.mean, y.at(band.mean)));
                        @let (own, beside) = other.map_or((own, own), |(_, other)| apart(own, other));
                        text.end.own x=(RIGHT + 5.0) y=(format!("{own:.1}")) dy="0.32em" { (brief(last.mean)) }
                        @if let Some((mean, _)) = other {
                            text.end x=(RIGHT + 5.0) y=(format!("{beside:.1}")) dy="0.32em" { (brief(mean)) }
                        }
                    }
                    (heading(arm, base, &colour(&arm.name)))
                }
            }
        }
    }
}

fn staircase(run: &Record, x: &Scale, y: &Scale) -> String {
    // A logarithmic axis has no zero: the start is drawn at the first step.
    let at = |step: usize| x.at(step.max(1) as f64);
    let mut points = Vec::with_capacity(2 * run.d.len() + 1);
    let mut height = None;
    for change in &run.d {
        if let Some(height) = height {
            points.push((at(change.step), height));
        }
        height = Some(y.at(change.d));
        points.push((at(change.step), y.at(change.d)));
    }
    points.extend(height.map(|height| (at(run.steps), height)));
    line(points)
}

/// Small figures of d over the steps, a line per seed; nothing if no arm adapts d.
pub(super) fn step_sizes(results: &Results, colour: impl Fn(&str) -> String) -> Option<Markup> {
    let adaptive: Vec<ArmResult> =
        results.arms.iter().filter(|arm| arm.runs.iter().any(|run| !run.d.is_empty())).cloned().collect();
    let runs = || adaptive.iter().flat_map(|arm| &arm.runs);
    let steps = runs().map(|run| run.steps).max()?;
    let y = Scale::log(runs().flat_map(|run| &run.d).map(|change| change.d), (BOTTOM, TOP));
    let x = Scale::log([1.0, steps.max(10) as f64].into_iter(), (LEFT, RIGHT));
    let draw = |arm: &ArmResult| {
        html! { @for run in &arm.runs { path.seed d=(staircase(run, &x, &y)) { title { "seed " (run.seed) } } } }
    };
    let last = |arm: &ArmResult| {
        let values: Vec<f64> = arm.runs.iter().filter_map(Record::final_d).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    Some(html! {
        div.panels {
            @for (arm, base) in panels(&adaptive) {
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(format!("d over steps: {}", arm.title)) {
                    (horizontal_grid(&y, 5, LEFT, RIGHT))
                    (bottom_axis(&x, 5, BOTTOM))
                    text.tick x=((LEFT + RIGHT) / 2.0) y=(HEIGHT - 3.0) text-anchor="middle" { "step" }
                    @if let Some(base) = base { g.base { (draw(base)) } }
                    g class=(colour(&arm.name)) { (draw(arm)) }
                    @if let Some(d) = last(arm) {
                        @let other = base.and_then(last);
                        @let (own, beside) = other.map_or((y.at(d), 0.0), |other| apart(y.at(d), y.at(other)));
                        text.end.own x=(RIGHT + 5.0) y=(format!("{own:.1}")) dy="0.32em" { (brief(d)) }
                        @if let Some(other) = other {
                            text.end x=(RIGHT + 5.0) y=(format!("{beside:.1}")) dy="0.32em" { (brief(other)) }
                        }
                    }
                    (heading(arm, base, &colour(&arm.name)))
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_would_overlap_move_apart() {
        assert_eq!(apart(0.0, 50.0), (0.0, 50.0));
        let (first, second) = apart(100.0, 102.0);
        assert!(first < second && (second - first - LABEL_HEIGHT).abs() < 1e-9);
        let (first, second) = apart(102.0, 100.0);
        assert!(first > second && (first - second - LABEL_HEIGHT).abs() < 1e-9);
    }
}
