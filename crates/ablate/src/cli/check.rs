//! `ablate check`: what a study would do.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;
use indicatif::HumanDuration;

use super::Which;
use crate::columns::Columns;
use crate::execute::{grid, run_counts, seconds_per_run};
use crate::registry::Registry;
use crate::study::Study;

pub(super) fn explain(which: &Which, registry: &Registry) -> Result<String> {
    let study = Study::open(&which.study, registry, &which.overrides())?;
    let info = study.info();
    let mut text = format!("{}\n{}\n\n", info.title, info.question);
    let (tuning, reported) = run_counts(&study);

    let mut tasks = Columns::new(["task", "steps", "target", "about one run", "what it is"]);
    let mut seconds = 0.0;
    for task in &study.tasks {
        let of_run = seconds_per_run(&study, registry, task)?;
        seconds += of_run * ((tuning + reported) / study.tasks.len()) as f64;
        tasks.add_row([
            task.name.clone(),
            task.steps.to_string(),
            task.target.to_string(),
            format!("{of_run:.1} s"),
            task.task.about().reason,
        ]);
    }
    writeln!(text, "{}", tasks.shown())?;

    let mut arms = Columns::new(["arm", "chain", "runs as"]);
    for planned in &study.arms {
        let settings = grid(planned, &study.file.tuning.rates).len();
        let tuned = match settings {
            0 => "it is".to_owned(),
            settings => format!("the best of {settings} settings"),
        };
        let options = planned.arm.options.iter().map(|(name, value)| format!("\n{name} = {value}"));
        arms.add_row([
            format!("{}\n{}", planned.arm.title, planned.arm.name),
            planned.arm.chain.clone() + &options.collect::<String>(),
            tuned,
        ]);
    }
    writeln!(text, "\n{}", arms.shown())?;
    for refused in &study.refused {
        writeln!(text, "Cannot be combined: {}: {}", refused.name, refused.reason)?;
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    writeln!(
        text,
        "\n{} tasks x {} arms x {} seeds = {reported} runs, and {tuning} for tuning ({} seeds per setting).\n\
         About {} on the {threads} cores here, measured by a few steps of the base; what is stored already is not run again.",
        study.tasks.len(),
        study.arms.len(),
        study.file.seeds,
        study.file.tuning.seeds,
        HumanDuration(Duration::from_secs_f64(seconds / threads as f64))
    )?;
    Ok(text)
}
