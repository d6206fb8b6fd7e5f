//! Scales, ticks and paths: what the figures share.
//!
//! Figures are written as SVG elements with classes, so that one style sheet gives them their colours in light, in dark
//! and on paper.

use maud::{Markup, html};

use super::number::short;

/// A mapping from data to one coordinate of the figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    is_log: bool,
    data: (f64, f64),
    pixels: (f64, f64),
}

impl Scale {
    /// From `low` to `high`.
    pub(super) fn between(low: f64, high: f64, pixels: (f64, f64)) -> Self {
        let (low, high) = if low < high { (low, high) } else { (low - 0.5, low + 0.5) };
        Self { is_log: false, data: (low, high), pixels }
    }

    /// Covers every finite value, with a margin.
    pub(super) fn covering(values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let (low, high) = bounds(values);
        let margin = if high > low { 0.06 * (high - low) } else { 0.5 };
        if low <= high {
            Self::between(low - margin, high + margin, pixels)
        } else {
            Self::between(0.0, 1.0, pixels)
        }
    }

    /// Covers every finite value, and zero.
    pub(super) fn around_zero(values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let (low, high) = bounds(values.chain([0.0]));
        let margin = if high > low { 0.06 * (high - low) } else { 1.0 };
        Self { is_log: false, data: (low - margin, high + margin), pixels }
    }

    /// From zero to `high`.
    pub(super) fn from_zero(high: f64, pixels: (f64, f64)) -> Self {
        Self { is_log: false, data: (0.0, high.max(1.0)), pixels }
    }

    /// Logarithmic; covers every positive value.
    pub(super) fn log(values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let (low, high) = bounds(values.filter(|&value| value > 0.0));
        let (low, high) = if low <= high { (low, high) } else { (0.1, 1.0) };
        // Half a decade at least, or noise would fill the figure.
        let margin = (10f64.powf(0.5) / (high / low)).sqrt().max(1.08);
        Self { is_log: true, data: (low / margin, high * margin), pixels }
    }

    /// Where `value` is drawn; what is not positive lies at a logarithmic scale's lower end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let (low, high) = self.data;
        let share = if self.is_log {
            (value.max(low) / low).ln() / (high / low).ln()
        } else {
            (value - low) / (high - low)
        };
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    /// Round values inside the scale, about `count` of them.
    pub(super) fn ticks(&self, count: usize) -> Vec<f64> {
        let (low, high) = self.data;
        if !self.is_log {
            let step = round_step((high - low) / count as f64);
            let first = (low / step).ceil() as i64;
            let last = (high / step).floor() as i64;
            return (first..=last).map(|index| index as f64 * step).collect();
        }
        let decades = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let within = |multiples: &[f64], stride: usize| -> Vec<f64> {
            (decades.0..=decades.1)
                .step_by(stride)
                .flat_map(|decade| multiples.iter().map(move |multiple| multiple * 10f64.powi(decade)))
                .filter(|tick| (low..=high).contains(tick))
                .collect()
        };
        let every_decade = within(&[1.0], 1);
        match every_decade.len() {
            0 | 1 => within(&[1.0, 2.0, 5.0], 1),
            2 => within(&[1.0, 3.0], 1),
            n if n > count => within(&[1.0], n.div_ceil(count)),
            _ => every_decade,
        }
    }
}

/// The style of a figure that is so wide in its own units: below this width its smallest texts could not be read, so on
/// a narrow screen it scrolls.
pub(super) fn least_width(width: f64) -> String {
    format!("min-width:{:.0}px", 0.96 * width)
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let multiple = [1.0, 2.0, 5.0].into_iter().find(|multiple| multiple * power >= rough).unwrap_or(10.0);
    multiple * power
}

/// A polyline's `d` attribute.
pub(super) fn line(points: impl IntoIterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (x, y) in points {
        path.push_str(if path.is_empty() { "M" } else { "L" });
        path.push_str(&format!("{x:.1} {y:.1}"));
    }
    path
}

/// The `d` attribute of the area between two lines over the same abscissae.
pub(super) fn band(points: &[(f64, f64, f64)]) -> String {
    let upper = points.iter().map(|&(x, _, high)| (x, high));
    let lower = points.iter().rev().map(|&(x, low, _)| (x, low));
    let mut path = line(upper.chain(lower));
    if !path.is_empty() {
        path.push('Z');
    }
    path
}

/// Horizontal grid lines with their numbers on the left.
pub(super) fn horizontal_grid(scale: &Scale, ticks: usize, left: f64, right: f64) -> Markup {
    horizontal_grid_of(scale, ticks, left, right, short)
}

/// The same with given labels.
pub(super) fn horizontal_grid_of(
    scale: &Scale,
    ticks: usize,
    left: f64,
    right: f64,
    label: impl Fn(f64) -> String,
) -> Markup {
    html! {
        @for tick in scale.ticks(ticks) {
            @let y = format!("{:.1}", scale.at(tick));
            line.grid x1=(left) x2=(right) y1=(y) y2=(y) {}
            text.tick x=(left - 6.0) y=(y) dy="0.32em" text-anchor="end" { (label(tick)) }
        }
    }
}

/// Numbers below the figure, with short marks.
pub(super) fn bottom_axis(scale: &Scale, ticks: usize, bottom: f64) -> Markup {
    bottom_axis_of(scale, ticks, bottom, short)
}

/// The same with given labels.
pub(super) fn bottom_axis_of(
    scale: &Scale,
    ticks: usize,
    bottom: f64,
    label: impl Fn(f64) -> String,
) -> Markup {
    html! {
        @for tick in scale.ticks(ticks) {
            @let x = format!("{:.1}", scale.at(tick));
            line.mark x1=(x) x2=(x) y1=(bottom) y2=(bottom + 4.0) {}
            text.tick x=(x) y=(bottom + 16.0) text-anchor="middle" { (label(tick)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_scale_has_round_ticks() {
        let scale = Scale::from_zero(40.0, (0.0, 400.0));
        assert_eq!(scale.ticks(4), [0.0, 10.0, 20.0, 30.0, 40.0]);
        assert_eq!(scale.at(10.0), 100.0);
    }

    #[test]
    fn a_log_scale_has_a_tick_per_decade() {
        let scale = Scale::log([1e-3, 1.0].into_iter(), (0.0, 300.0));
        let ticks = scale.ticks(5);
        assert_eq!(ticks.len(), 4);
        assert!(
            ticks
                .iter()
                .zip([1e-3, 1e-2, 1e-1, 1.0])
                .all(|(tick, decade)| (tick / decade - 1.0).abs() < 1e-9)
        );
    }

    #[test]
    fn scales_of_nothing_are_still_scales() {
        let empty = Scale::log(std::iter::empty(), (0.0, 1.0));
        assert!(empty.at(0.5).is_finite() && empty.at(0.0) == 0.0);
        let zero = Scale::around_zero(std::iter::empty(), (0.0, 1.0));
        assert_eq!(zero.at(0.0), 0.5);
    }

    #[test]
    fn a_band_closes() {
        assert_eq!(band(&[(0.0, 1.0, 2.0), (1.0, 1.5, 2.5)]), "M0.0 2.0L1.0 2.5L1.0 1.5L0.0 1.0Z");
        assert_eq!(band(&[]), "");
    }
}
