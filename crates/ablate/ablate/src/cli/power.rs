//! `ablate power`: how many seeds a study needs, from the pairs that there are.

use std::collections::BTreeMap;
use std::fmt::Write;

use ablate_statistics::{SeedPlan, Summary, spread_interval};
use anyhow::{Context, Result, ensure};

use super::Which;
use super::place::Place;
use crate::columns::Columns;
use crate::execute::Execution;
use crate::findings::{CONFIDENCE, Findings, TaskFindings, Verdict};
use crate::registry::Registry;
use crate::report::number::Shown;
use crate::results::{Results, TaskResults};
use crate::study::Study;

/// The shares of studies that shall find what is asked for.
const POWERS: [f64; 2] = [0.8, 0.9];

/// The share of pilots whose range of seeds has the right number.
const CERTAINTY: f64 = 0.8;

pub(super) fn plan(
    which: &Which,
    place: &Place,
    difference: Option<f64>,
    registry: &Registry,
) -> Result<String> {
    if let Some(difference) = difference {
        ensure!(
            difference.is_finite() && difference > 0.0,
            "--difference {difference}: a difference above 0"
        );
    }
    let results = pilot(which, place, registry)?;
    let findings = Findings::of(&results);
    let seeds = results.study.seeds;
    let mut text = format!("{}: how many seeds, from a pilot of {seeds}\n", results.study.title);
    let mut most = None;
    for (task, found) in results.tasks.iter().zip(&findings.tasks) {
        one_task(&results, task, found, difference, &mut most, &mut text)?;
    }
    writeln!(
        text,
        "\nSeeds are for all arms of the task at once, corrected over them, so that {:.0} or {:.0} of a hundred studies find it; in brackets the range that \
         the pilot leaves, in which {:.0} % of such pilots have the right number: a spread of {seeds} pairs is not known better. It is planned for normal runs.\n\
         Hours are of training, one run after the other, for the arm and the base together, with the seeds for {:.0} %.",
        100.0 * POWERS[0],
        100.0 * POWERS[1],
        100.0 * CERTAINTY,
        100.0 * POWERS[0]
    )?;
    if let Some(most) = most {
        let hours: f64 =
            results.tasks.iter().flat_map(|task| &task.arms).filter_map(|arm| hours_per_run(&arm.runs)).sum();
        writeln!(
            text,
            "The whole study with {most} seeds, the largest number for {:.0} % to find a difference: {} hours. Give the number with --seeds before the first verdict is \
             looked at, and keep to it.",
            100.0 * POWERS[0],
            shown_hours(hours * most as f64)
        )?;
    }
    Ok(text)
}

/// The stored runs of as many seeds as all arms have.
fn pilot(which: &Which, place: &Place, registry: &Registry) -> Result<Results> {
    let whole = Study::open(&which.study, registry, &which.overrides())?;
    let places = place.of(&whole)?;
    let store = places.existing()?.with_context(|| {
        let runs = places.runs();
        format!("there is no pilot in {runs}; `ablate run` with --seeds 4 makes one, whose runs the study will use")
    })?;
    let mut missing = None;
    for seeds in (2..=whole.file.seeds).rev() {
        let mut overrides = which.overrides();
        overrides.seeds = Some(seeds);
        let mut study = Study::open(&which.study, registry, &overrides)?;
        study.file.sequential = false; // of a pilot, every arm has all seeds
        study.forked.clear();
        let execution = Execution::new(&study, registry, &store).only_stored();
        match execution.results(&()) {
            Ok(results) => return Ok(results),
            Err(error) => missing = Some(error),
        }
    }
    let error = missing.context("a study with one seed has no pairs; give more with --seeds")?;
    Err(error.context("not even two seeds of every arm are stored; `ablate run` with --seeds 4 makes a pilot, whose runs the study will use"))
}

fn one_task(
    results: &Results,
    task: &TaskResults,
    found: &TaskFindings,
    difference: Option<f64>,
    most: &mut Option<usize>,
    text: &mut String,
) -> Result<()> {
    let shown = Shown(found.measure);
    let spread = found.arms[0].value.and_then(|value| value.sd).filter(|sd| *sd > 0.0);
    let (size, why) = match (difference, found.matters, spread) {
        (Some(size), ..) => (size, "as asked for"),
        (None, Some(size), _) => (size, "what matters, says the study"),
        (None, None, Some(size)) => {
            (size, "a standard deviation of the base's runs; give another one with --difference")
        }
        (None, None, None) => {
            writeln!(text, "\n{}: the base's runs do not spread; give a --difference", task.name)?;
            return Ok(());
        }
    };
    writeln!(text, "\n{}: a difference of {} {}, {why}", task.name, shown.size(size), shown.unit())?;
    let live: Vec<usize> =
        (1..found.arms.len()).filter(|arm| found.arms[*arm].verdict != Verdict::Dead).collect();
    let level = 1.0 - CONFIDENCE;
    let plans: BTreeMap<&str, Vec<Option<SeedPlan>>> = [
        ("find", POWERS.map(|power| SeedPlan::of_difference(live.len(), level, power)).to_vec()),
        ("none", POWERS.map(|power| SeedPlan::of_equivalence(live.len(), level, power)).to_vec()),
    ]
    .into();
    let mut table = Columns::new([
        "arm",
        "pairs",
        "spread",
        "to find it, 80 %",
        "90 %",
        "hours",
        "to be sure of none, 80 %",
        "90 %",
        "hours",
    ]);
    for (arm, named) in results.arms.iter().enumerate().skip(1) {
        let of_arm = found.arms[arm].difference.filter(|_| live.contains(&arm));
        let mut cells = vec![named.title.clone()];
        match of_arm.and_then(|difference| Some((difference, difference.sd?))).filter(|(_, sd)| *sd > 0.0) {
            None => cells.extend(["–".to_owned(), "nothing to plan by".to_owned()]),
            Some((difference, sd)) => {
                cells.extend([difference.finite.to_string(), shown.size(sd)]);
                let range = spread_interval(sd, difference.finite, CERTAINTY);
                for what in ["find", "none"] {
                    let mut hours = "–".to_owned();
                    for (index, plan) in plans[what].iter().enumerate() {
                        let seeds = |sd: f64| plan.as_ref().and_then(|plan| plan.seeds(size / sd));
                        let needed = seeds(sd);
                        let number =
                            |seeds: Option<usize>| seeds.map_or("many".to_owned(), |seeds| seeds.to_string());
                        let range = range.map_or(String::new(), |range| {
                            format!(" [{}, {}]", number(seeds(range.low)), number(seeds(range.high)))
                        });
                        cells.push(number(needed) + &range);
                        if index == 0 {
                            let per_seed =
                                hours_per_run(&task.arms[arm].runs).zip(hours_per_run(&task.arms[0].runs));
                            hours = per_seed.zip(needed).map_or("–".to_owned(), |((arm, base), seeds)| {
                                shown_hours((arm + base) * seeds as f64)
                            });
                            if what == "find" {
                                *most = (*most).max(needed);
                            }
                        }
                    }
                    cells.push(hours);
                }
            }
        }
        table.add_row(cells);
    }
    writeln!(text, "{}", table.shown())?;
    Ok(())
}

/// Mean length of the runs that there are.
fn hours_per_run(runs: &[crate::results::Run]) -> Option<f64> {
    let seconds: Vec<f64> =
        runs.iter().filter_map(|run| run.record.last()).map(|point| point.seconds).collect();
    Summary::of(&seconds).map(|seconds| seconds.mean / 3600.0)
}

fn shown_hours(hours: f64) -> String {
    crate::report::number::brief(hours)
}
