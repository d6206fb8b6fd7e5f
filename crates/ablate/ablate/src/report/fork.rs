//! Arms that took over from the base in the course of a run: the effect of a switch over its step. The columns of the
//! tables are one list.

use maud::{Markup, html};

use super::column::Datum;
use super::figure::{Scale, bottom_axis, horizontal_grid_of, least_width, line};
use super::number::{p_value, short};
use super::view::{View, class, sign, word};
use crate::findings::{ForkFindings, Verdict};
use crate::results::TaskResults;

const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = WIDTH - 150.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = HEIGHT - 40.0;
const LABEL_HEIGHT: f64 = 14.0;
/// Distance between two arms at the same step, so that their intervals do not cover each other.
const APART: f64 = 5.0;

/// A row: an arm from a step on.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    view: View<'a>,
    task: usize,
    fork: &'a ForkFindings,
}

type Data = (&'static str, fn(Row<'_>) -> Datum);

pub(super) struct Column {
    /// Its head, for a task.
    pub(super) head: fn(View<'_>, usize) -> String,
    /// Its text, for people.
    pub(super) text: fn(Row<'_>) -> String,
    pub(super) is_number: bool,
    /// Its numbers, by their names in the table for programs.
    pub(super) data: &'static [Data],
}

pub(super) static COLUMNS: &[Column] = &[
    Column {
        head: |_, _| "arm".to_owned(),
        text: |row| row.view.arms()[row.fork.arm].title.clone(),
        is_number: false,
        data: &[
            ("task", |row| Datum::Text(row.view.results.tasks[row.task].name.clone())),
            ("arm", |row| Datum::Text(row.view.arms()[row.fork.arm].name.clone())),
            ("measure", |row| Datum::Text(row.view.findings.tasks[row.task].measure.name().to_owned())),
        ],
    },
    Column {
        head: |_, _| "from step".to_owned(),
        text: |row| row.fork.step.to_string(),
        is_number: true,
        data: &[("step", |row| Datum::Count(Some(row.fork.step)))],
    },
    Column {
        head: |view, task| format!("{}, mean ± sd", view.shown(task).name()),
        text: |row| row.view.shown(row.task).summary(row.fork.found.value.as_ref()),
        is_number: true,
        data: &[
            ("n", |row| Datum::Count(row.fork.found.value.map(|value| value.n))),
            ("diverged", |row| Datum::Count(Some(row.fork.found.diverged))),
            ("mean", |row| Datum::Number(row.fork.found.value.map(|value| value.mean))),
            ("sd", |row| Datum::Number(row.fork.found.value.and_then(|value| value.sd))),
        ],
    },
    Column {
        head: |_, _| "difference [95 % interval]".to_owned(),
        text: |row| row.view.comparison_of(row.task, &row.fork.found),
        is_number: true,
        data: &[
            ("pairs", |row| Datum::Count(row.fork.found.difference.map(|difference| difference.finite))),
            ("difference", |row| Datum::Number(row.fork.found.difference.and_then(|found| found.mean))),
            ("low", |row| {
                Datum::Number(row.fork.found.difference.and_then(|found| Some(found.interval?.low)))
            }),
            ("high", |row| {
                Datum::Number(row.fork.found.difference.and_then(|found| Some(found.interval?.high)))
            }),
        ],
    },
    Column {
        head: |_, _| "p, all forks of the task".to_owned(),
        text: |row| p_value(row.fork.found.adjusted_p),
        is_number: true,
        data: &[
            ("p_forks", |row| Datum::Number(row.fork.found.adjusted_p)),
            ("p_equivalence_forks", |row| Datum::Number(row.fork.found.equivalence_p)),
        ],
    },
    Column {
        head: |_, _| "verdict".to_owned(),
        text: |row| row.view.verdict_of(&row.fork.found),
        is_number: false,
        data: &[("verdict", |row| Datum::Text(word(row.fork.found.verdict).to_owned()))],
    },
    Column {
        head: |_, _| "starts fresh".to_owned(),
        text: |row| if row.fork.step == 0 { "its own run".to_owned() } else { row.fork.anew.join(", ") },
        is_number: false,
        data: &[
            ("anew", |row| Datum::Text(row.fork.anew.join(" "))),
            ("left_out", |row| Datum::Text(row.fork.left_out.join(" "))),
        ],
    },
];

/// The rows of a task, by arm and then by step.
pub(super) fn rows(view: View<'_>, task: usize) -> impl Iterator<Item = Row<'_>> {
    view.findings.tasks[task].forks.iter().map(move |fork| Row { view, task, fork })
}

/// Table and figure of a task; nothing without forks.
pub(super) fn section(view: View<'_>, task: usize) -> Markup {
    if rows(view, task).next().is_none() {
        return html! {};
    }
    html! {
        h4 { "When does it matter?" }
        p.note {
            "The base is trained once for a seed; at each step an arm goes on from its state, with the same batches, to the end of the run. Up: better than the base that went on \
             as it was. Step 0 is the arm’s own run. Dot and bar: the mean difference and its 95 % interval; filled: a verdict, corrected over all arms and steps here."
        }
        (figure(view, task))
        div.scroll {
            table {
                thead { tr { @for column in COLUMNS { th.n[column.is_number] { ((column.head)(view, task)) } } } }
                tbody {
                    @for row in rows(view, task) {
                        tr {
                            @for (index, column) in COLUMNS.iter().enumerate() {
                                td.n[column.is_number].name[index == 0] {
                                    @if index == 0 { span class=(format!("swatch {}", view.colour(row.fork.arm))) {} }
                                    ((column.text)(row))
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// An arm of a figure: its forks, by step.
struct Line<'a> {
    arm: usize,
    forks: Vec<&'a ForkFindings>,
    shift: f64,
    label: f64,
}

/// Oriented so that better is up, whatever the measure.
fn figure(view: View<'_>, task: usize) -> Markup {
    let shown = view.shown(task);
    let oriented = |value: f64| shown.better() * shown.scaled(value);
    let TaskResults { name, steps, .. } = &view.results.tasks[task];
    let forks = &view.findings.tasks[task].forks;
    let differences = || forks.iter().filter_map(|fork| fork.found.difference);
    let ends = |of: &ablate_statistics::PairedDifference| {
        let (mean, interval) = (of.mean, of.interval);
        [mean, interval.map(|interval| interval.low), interval.map(|interval| interval.high)]
    };
    let values = differences().flat_map(|found| ends(&found)).flatten().map(oriented);
    let y = Scale::around_zero(values, (BOTTOM, TOP));
    let x = Scale::from_zero(*steps as f64, (LEFT + 12.0, RIGHT));
    let lines = lines(forks, |fork| {
        let mean = fork.found.difference.and_then(|found| found.mean);
        mean.map_or((TOP + BOTTOM) / 2.0, |mean| y.at(oriented(mean)))
    });
    let zero = format!("{:.1}", y.at(0.0));
    let title = format!("{name}: {} over the step of the switch", shown.difference_name());
    html! {
        figure.forest.wide {
            figcaption { (name) span.unit { (shown.difference_name()) } }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) style=(least_width(WIDTH)) role="img" aria-label=(title) {
                (horizontal_grid_of(&y, 5, LEFT, RIGHT, |tick| short(shown.better() * tick)))
                (bottom_axis(&x, 6, BOTTOM))
                text.side x=(LEFT) y="11" { "↑ better" }
                text.tick x=((LEFT + RIGHT) / 2.0) y=(HEIGHT - 4.0) text-anchor="middle" { "step at which the arm takes over" }
                line.zero x1=(LEFT) x2=(RIGHT) y1=(zero) y2=(zero) {}
                @for of_arm in &lines {
                    @let at = |fork: &ForkFindings, value: f64| (x.at(fork.step as f64) + of_arm.shift, y.at(oriented(value)));
                    @let means = of_arm.forks.iter().filter_map(|fork| Some(at(fork, fork.found.difference?.mean?)));
                    g class=(view.colour(of_arm.arm)) {
                        path.curve.thin d=(line(means)) {}
                        @for fork in &of_arm.forks {
                            @if let Some(found) = &fork.found.difference && let Some(mean) = found.mean {
                                @let (x, centre) = at(fork, mean);
                                g class=(class(fork.found.verdict)) {
                                    @if let Some(interval) = found.interval {
                                        line.interval x1=(format!("{x:.1}")) x2=(format!("{x:.1}")) y1=(format!("{:.1}", at(fork, interval.low).1)) y2=(format!("{:.1}", at(fork, interval.high).1)) {}
                                    }
                                    circle.estimate cx=(format!("{x:.1}")) cy=(format!("{centre:.1}")) r="4.6" {
                                        title { (view.arms()[of_arm.arm].title) ", from step " (fork.step) ": " (shown.comparison(found)) ", " (word(fork.found.verdict)) }
                                    }
                                }
                            }
                        }
                        text.end.own x=(RIGHT + 10.0) y=(format!("{:.1}", of_arm.label)) dy="0.32em" { (view.arms()[of_arm.arm].title) }
                    }
                }
            }
        }
    }
}

/// Arms next to each other, and their labels as near to the last points as possible without covering each other.
fn lines(forks: &[ForkFindings], height: impl Fn(&ForkFindings) -> f64) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for fork in forks {
        match lines.iter_mut().find(|line| line.arm == fork.arm) {
            Some(line) => line.forks.push(fork),
            None => lines.push(Line { arm: fork.arm, forks: vec![fork], shift: 0.0, label: 0.0 }),
        }
    }
    let middle = (lines.len() as f64 - 1.0) / 2.0;
    for (index, line) in lines.iter_mut().enumerate() {
        line.shift = APART * (index as f64 - middle);
        line.label = line.forks.last().map_or(TOP, |fork| height(fork));
    }
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by(|a, b| lines[*a].label.total_cmp(&lines[*b].label));
    let mut above = f64::NEG_INFINITY;
    for &index in &order {
        above = lines[index].label.max(above + LABEL_HEIGHT);
        lines[index].label = above;
    }
    lines
}

/// `+ Cautious: better from step 0, unclear from steps 200 and 500`.
pub(super) fn when(view: View<'_>, task: usize) -> Vec<String> {
    let forks = &view.findings.tasks[task].forks;
    let mut arms: Vec<usize> = forks.iter().map(|fork| fork.arm).collect();
    arms.dedup();
    let of_arm = |arm: usize| {
        let mut runs: Vec<(Verdict, Vec<String>)> = Vec::new();
        for fork in forks.iter().filter(|fork| fork.arm == arm) {
            let (verdict, step) = (fork.found.verdict, fork.step.to_string());
            match runs.last_mut() {
                Some((last, steps)) if *last == verdict => steps.push(step),
                _ => runs.push((verdict, vec![step])),
            }
        }
        let part = |(verdict, steps): &(Verdict, Vec<String>)| {
            let word = format!("{} {}", sign(*verdict), word(*verdict));
            match steps.as_slice() {
                [only] => format!("{word} from step {only}"),
                [first @ .., last] => format!("{word} from steps {} and {last}", first.join(", ")),
                [] => String::new(),
            }
        };
        format!("{}: {}", view.arms()[arm].title, runs.iter().map(part).collect::<Vec<_>>().join(", "))
    };
    arms.into_iter().map(of_arm).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_name_is_given_twice() {
        let names: Vec<&str> = COLUMNS.iter().flat_map(|column| column.data).map(|(name, _)| *name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    }
}
