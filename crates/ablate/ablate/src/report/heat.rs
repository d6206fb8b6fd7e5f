//! Figures of a factorial: effects as bars, interactions as a heat map.

use maud::{Markup, html};

use super::figure::{Scale, bottom_axis_of, least_width};
use super::number::short;
use super::view::View;
use crate::findings::{CONFIDENCE, FactorEffect, Factorial};

const CELL: f64 = 92.0;
const CELL_HEIGHT: f64 = 40.0;
const LABEL: f64 = 130.0;
const TOP: f64 = 26.0;
const WIDTH: f64 = 560.0;
const ROW: f64 = 24.0;

/// Interactions of every pair: blue where the two help each other, orange where they hinder.
pub(super) fn interactions(view: View<'_>, task: usize, factorial: &Factorial) -> Markup {
    let shown = view.shown(task);
    let names: Vec<&String> = factorial.main.iter().map(|effect| &effect.factors[0]).collect();
    let better = |effect: &FactorEffect| shown.better() * effect.mean;
    let largest =
        factorial.interactions.iter().map(|effect| effect.mean.abs()).fold(f64::MIN_POSITIVE, f64::max);
    let of_pair = |i: usize, j: usize| {
        factorial.interactions.iter().find(|effect| effect.factors == [names[i].clone(), names[j].clone()])
    };
    let width = LABEL + CELL * (names.len() - 1) as f64;
    let height = TOP + CELL_HEIGHT * (names.len() - 1) as f64;
    html! {
        figure {
            figcaption { "Interactions" span.unit { (shown.difference_name()) } }
            svg.heat viewBox=(format!("0 0 {width} {height}")) role="img" aria-label="Interactions of pairs" style=(format!("max-width:{width}px;{}", least_width(width))) {
                @for (j, name) in names.iter().enumerate().skip(1) {
                    @let x = LABEL + CELL * (j as f64 - 0.5);
                    text.tick x=(x) y="14" text-anchor="middle" { (view.factor_title(name)) }
                }
                @for (i, name) in names.iter().enumerate().take(names.len() - 1) {
                    @let y = TOP + CELL_HEIGHT * i as f64;
                    text.tick x=(LABEL - 10.0) y=(y + CELL_HEIGHT / 2.0) dy="0.33em" text-anchor="end" { (view.factor_title(name)) }
                    @for j in i + 1..names.len() {
                        @if let Some(effect) = of_pair(i, j) {
                            @let x = LABEL + CELL * (j - 1) as f64;
                            @let tone = if better(effect) >= 0.0 { "helps" } else { "hinders" };
                            @let weight = 0.1 + 0.45 * effect.mean.abs() / largest;
                            rect class=(tone) x=(x + 1.0) y=(y + 1.0) width=(CELL - 2.0) height=(CELL_HEIGHT - 2.0) rx="3" opacity=(format!("{weight:.2}")) {}
                            text.cell.resolved[is_resolved(effect)] x=(x + CELL / 2.0) y=(y + CELL_HEIGHT / 2.0) dy="0.33em" text-anchor="middle" {
                                (shown.difference(effect.mean))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Whether it is set off as other than zero.
fn is_resolved(effect: &FactorEffect) -> bool {
    effect.adjusted_p.is_some_and(|p| p <= 1.0 - CONFIDENCE)
}

/// Effects with their intervals, better to the right.
pub(super) fn effects(view: View<'_>, task: usize, name: &str, effects: &[FactorEffect]) -> Markup {
    let shown = view.shown(task);
    let oriented = |value: f64| shown.better() * shown.scaled(value);
    let ends = effects.iter().flat_map(|effect| {
        let interval = effect.interval.map_or([effect.mean; 2], |interval| [interval.low, interval.high]);
        interval.map(oriented)
    });
    let right = WIDTH - 158.0;
    let x = Scale::around_zero(ends, (LABEL, right));
    let bottom = TOP + ROW * effects.len() as f64;
    let zero = format!("{:.1}", x.at(0.0));
    let at = |value: f64| format!("{:.1}", x.at(oriented(value)));
    html! {
        figure {
            figcaption { (name) span.unit { (shown.difference_name()) } }
            svg viewBox=(format!("0 0 {WIDTH} {:.0}", bottom + 24.0)) style=(least_width(WIDTH)) role="img" aria-label=(name) {
                text.side x=(LABEL) y="11" { "← worse" }
                text.side x=(right) y="11" text-anchor="end" { "better →" }
                line.zero x1=(zero) x2=(zero) y1=(TOP - 6.0) y2=(bottom) {}
                @for (row, effect) in effects.iter().enumerate() {
                    @let y = TOP + ROW * (row as f64 + 0.5);
                    g.a2.is-better[is_resolved(effect)].is-unclear[!is_resolved(effect)] {
                        text.name x="0" y=(y) dy="0.33em" { (view.factor_title(&effect.factors[0])) }
                        @if let Some(interval) = effect.interval {
                            line.interval x1=(at(interval.low)) x2=(at(interval.high)) y1=(y) y2=(y) {}
                        }
                        circle.estimate cx=(at(effect.mean)) cy=(y) r="4.6" {}
                        text.value x=(right + 10.0) y=(y) dy="0.33em" {
                            tspan.mean { (shown.difference(effect.mean)) } " " (shown.interval(effect.interval))
                        }
                    }
                }
                line.axis x1=(LABEL) x2=(right) y1=(bottom) y2=(bottom) {}
                (bottom_axis_of(&x, 5, bottom, |tick| short(shown.better() * tick)))
            }
        }
    }
}
