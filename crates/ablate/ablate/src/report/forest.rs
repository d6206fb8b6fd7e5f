//! The forest plot: every arm's difference to the base on a task, with its interval and the differences of its seeds.

use ablate_statistics::PairedDifference;
use maud::{Markup, html};

use super::figure::{Scale, bottom_axis_of, least_width};
use super::number::short;
use super::view::{View, class};
use crate::findings::Verdict;
use crate::results::Role;

/// The room of the names is that of the longest one, of bold letters, but at least this.
const NAMES: f64 = 128.0;
const LETTER: f64 = 7.6;
/// Beyond this, the figure needs the whole width of the page.
const NARROW: f64 = 190.0;
const PLOT: f64 = 220.0;
const VALUES: f64 = 152.0;
const TOP: f64 = 26.0;
const ROW: f64 = 25.0;
/// Between the changed arms and the baselines.
const GAP: f64 = 14.0;

/// An effect this many times the median one would leave no room for the others; it is drawn at the edge.
const FAR: f64 = 6.0;

/// Oriented so that better is to the right, whatever the measure.
pub(super) fn forest(view: View<'_>, task: usize) -> Markup {
    let shown = view.shown(task);
    let rows: Vec<usize> = view.compared().collect();
    let oriented = |value: f64| shown.better() * shown.scaled(value);
    let (low, high) = limits(view, task, &oriented);
    let letters = rows.iter().map(|arm| view.arms()[*arm].title.chars().count()).max().unwrap_or(0);
    let left = NAMES.max(LETTER * letters as f64);
    let right = left + PLOT;
    let x = Scale::between(low, high, (left, right));
    let place = |row: usize| {
        let is_outside = view.arms()[rows[row]].role == Role::Baseline;
        let gap = if is_outside && rows.iter().any(|arm| view.arms()[*arm].role == Role::Changed) {
            GAP
        } else {
            0.0
        };
        TOP + ROW * row as f64 + ROW / 2.0 + gap
    };
    let bottom = rows.len().checked_sub(1).map_or(TOP, |last| place(last) + ROW / 2.0);
    let zero = format!("{:.1}", x.at(0.0));
    let title = format!("{}: {}", view.results.tasks[task].name, shown.difference_name());
    html! {
        figure.forest.wide[left > NARROW] {
            figcaption { (view.results.tasks[task].name) span.unit { (shown.difference_name()) } }
            svg viewBox=(format!("0 0 {:.0} {:.0}", right + VALUES, bottom + 26.0)) style=(least_width(right + VALUES)) role="img" aria-label=(title) {
                text.side x=(left) y="11" { "← worse" }
                text.side x=(right) y="11" text-anchor="end" { "better →" }
                line.zero x1=(zero) x2=(zero) y1=(TOP - 6.0) y2=(bottom) {}
                @for (row, &arm) in rows.iter().enumerate() { (line(view, task, arm, place(row), &x, (left, right), &oriented)) }
                line.axis x1=(left) x2=(right) y1=(bottom) y2=(bottom) {}
                (bottom_axis_of(&x, 5, bottom, |tick| short(shown.better() * tick)))
            }
        }
    }
}

fn line(
    view: View<'_>,
    task: usize,
    arm: usize,
    y: f64,
    x: &Scale,
    (left, right): (f64, f64),
    oriented: &dyn Fn(f64) -> f64,
) -> Markup {
    let (found, shown) = (view.found(task, arm), view.shown(task));
    let clamped = |value: f64| x.at(oriented(value)).clamp(left, right);
    let at = |value: f64| format!("{:.1}", clamped(value));
    let is_far = |value: f64| !(left..=right).contains(&x.at(oriented(value)));
    // At the edge, for what lies beyond it.
    let arrow = |value: f64, half: f64| {
        let (tip, back) = if oriented(value) < 0.0 { (left, 9.0) } else { (right, -9.0) };
        format!("M{tip} {y}L{:.1} {:.1}L{:.1} {:.1}Z", tip + back, y - half, tip + back, y + half)
    };
    html! {
        g class=(format!("{} {}", view.colour(arm), class(found.verdict))) {
            text.name x="0" y=(y) dy="0.33em" { (view.arms()[arm].title) }
            @match &found.difference {
                _ if found.verdict == Verdict::Dead => {
                    text.value x=(right + 10.0) y=(y) dy="0.33em" { (if view.runs_commands() { "no effect, to the digit" } else { "no effect, to the bit" }) }
                }
                Some(PairedDifference { mean: Some(mean), interval, finite, n, .. }) => {
                    @for (seed, value) in view.differences(task, arm) {
                        @if !is_far(value) {
                            circle.seed cx=(at(value)) cy=(y) r="2.1" { title { "seed " (seed) ": " (shown.difference(value)) } }
                        }
                    }
                    @if let Some(interval) = interval {
                        line.interval x1=(at(interval.low)) x2=(at(interval.high)) y1=(y) y2=(y) {}
                        @for end in [interval.low, interval.high].into_iter().filter(|end| is_far(*end)) {
                            path.beyond d=(arrow(end, 3.5)) {}
                        }
                    }
                    @if is_far(*mean) {
                        path.estimate d=(arrow(*mean, 5.0)) {}
                    } @else {
                        circle.estimate cx=(at(*mean)) cy=(y) r="4.6" {}
                    }
                    text.value x=(right + 10.0) y=(y) dy="0.33em" {
                        tspan.mean { (shown.difference(*mean)) } " " (shown.interval(*interval))
                        @if finite < n { title { (finite) " of " (n) " pairs; a run of each of the others diverged" } }
                    }
                }
                _ => text.value x=(right + 10.0) y=(y) dy="0.33em" { "no pair finished" },
            }
            @if found.diverged > 0 {
                text.side x=(left - 4.0) y=(y) dy="0.33em" text-anchor="end" { "✕" (found.diverged) title { (found.diverged) " runs diverged" } }
            }
        }
    }
}

/// Covers the intervals, except for those far out.
fn limits(view: View<'_>, task: usize, oriented: &dyn Fn(f64) -> f64) -> (f64, f64) {
    let reaches: Vec<(f64, f64)> = view
        .compared()
        .filter_map(|arm| view.found(task, arm).difference.as_ref())
        .filter_map(|difference| Some((difference.mean?, difference.interval)))
        .map(|(mean, interval)| {
            let ends = interval.map_or((mean, mean), |interval| (interval.low, interval.high));
            let (one, other) = (oriented(ends.0), oriented(ends.1));
            (one.min(other), one.max(other))
        })
        .collect();
    let mut sizes: Vec<f64> = reaches.iter().map(|(low, high)| high.abs().max(low.abs())).collect();
    sizes.sort_by(f64::total_cmp);
    let most = sizes.get(sizes.len() / 2).copied().unwrap_or(1.0) * FAR;
    let near = |value: f64| value.clamp(-most, most);
    let low = reaches.iter().map(|(low, _)| near(*low)).fold(0.0, f64::min);
    let high = reaches.iter().map(|(_, high)| near(*high)).fold(0.0, f64::max);
    let margin = if high > low { 0.06 * (high - low) } else { 1.0 };
    (low - margin, high + margin)
}
