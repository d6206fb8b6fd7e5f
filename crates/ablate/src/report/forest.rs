//! The answer: every arm's difference to the base with its interval and the seeds behind it.

use maud::{Markup, html};

use super::figure::{Scale, bottom_axis};
use super::number::Metric;
use crate::study::Results;
use crate::summary::{ArmSummary, Findings};

const WIDTH: f64 = 440.0;
const SIDE: f64 = 12.0;
const TOP: f64 = 30.0;
const ROW: f64 = 50.0;

fn differences(results: &Results, arm: &str, metric: Metric) -> Vec<(u64, f64)> {
    let Some((base, others)) = results.arms.split_first() else { return Vec::new() };
    let Some(arm) = others.iter().find(|other| other.name == arm) else { return Vec::new() };
    let pairs = arm.runs.iter().filter_map(|run| {
        let partner = base.runs.iter().find(|other| other.seed == run.seed)?;
        let (of_arm, of_base) = (run.evaluation()?, partner.evaluation()?);
        let difference = match metric {
            Metric::Accuracy => of_arm.accuracy - of_base.accuracy,
            Metric::Loss => of_arm.loss - of_base.loss,
        };
        Some((run.seed, metric.scaled(difference)))
    });
    pairs.collect()
}

/// A forest plot of one metric; `colours` gives every arm's class.
pub(super) fn forest(
    results: &Results,
    findings: &Findings,
    metric: Metric,
    colour: impl Fn(&str) -> String,
) -> Markup {
    let rows = findings.compared();
    let difference_of = |arm: &ArmSummary| match metric {
        Metric::Accuracy => arm.accuracy_difference,
        Metric::Loss => arm.loss_difference,
    };
    let ends = rows.iter().filter_map(difference_of).flat_map(|difference| {
        let (low, high) = difference.interval.unwrap_or((difference.mean, difference.mean));
        [metric.scaled(low), metric.scaled(high)]
    });
    let dots =
        rows.iter().flat_map(|arm| differences(results, &arm.name, metric)).map(|(_, difference)| difference);
    let x = Scale::around_zero(ends.chain(dots), (SIDE, WIDTH - SIDE));
    let bottom = TOP + ROW * rows.len() as f64;
    let zero = format!("{:.1}", x.at(0.0));
    let (title, left, right) = match metric {
        Metric::Accuracy => ("Test accuracy against the default, points", "← worse", "better →"),
        Metric::Loss => ("Test loss against the default", "← better", "worse →"),
    };
    html! {
        figure {
            figcaption { (title) }
            svg viewBox=(format!("0 0 {WIDTH} {}", bottom + 24.0)) role="img" aria-label=(title) {
                line.zero x1=(zero) x2=(zero) y1=(TOP - 8.0) y2=(bottom) {}
                text.side x=(SIDE) y="12" { (left) }
                text.side x=(WIDTH - SIDE) y="12" text-anchor="end" { (right) }
                @for (index, arm) in rows.iter().enumerate() {
                    @let top = TOP + ROW * index as f64;
                    @let y = format!("{:.1}", top + 29.0);
                    g class=(colour(&arm.name)) {
                        text.name x=(SIDE) y=(top + 12.0) { (arm.title) }
                        @match difference_of(arm) {
                            Some(difference) => {
                                text.value.resolved[difference.is_resolved()] x=(WIDTH - SIDE) y=(top + 12.0) text-anchor="end" {
                                    tspan.mean { (metric.difference(difference.mean)) }
                                    " " (metric.interval(&difference))
                                }
                                @if let Some((low, high)) = difference.interval {
                                    line.interval x1=(format!("{:.1}", x.at(metric.scaled(low))))
                                        x2=(format!("{:.1}", x.at(metric.scaled(high)))) y1=(y) y2=(y) {}
                                }
                                @for (seed, value) in differences(results, &arm.name, metric) {
                                    circle.seed cx=(format!("{:.1}", x.at(value))) cy=(y) r="2.6" {
                                        title { "seed " (seed) ": " (metric.difference(value / metric.scaled(1.0))) }
                                    }
                                }
                                circle.estimate cx=(format!("{:.1}", x.at(metric.scaled(difference.mean)))) cy=(y) r="5.5" {}
                            }
                            None => text.value x=(WIDTH - SIDE) y=(top + 12.0) text-anchor="end" { "every run diverged" },
                        }
                    }
                }
                line.axis x1=(SIDE) x2=(WIDTH - SIDE) y1=(bottom) y2=(bottom) {}
                (bottom_axis(&x, 6, bottom))
            }
        }
    }
}
