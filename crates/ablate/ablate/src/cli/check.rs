//! `ablate check`: a study before it runs.

use std::fmt::Write;
use std::time::Duration;

use ablate_statistics::detectable_difference;
use anyhow::Result;
use indicatif::HumanDuration;

use super::Which;
use crate::columns::Columns;
use crate::execute::{RunCounts, grid, run_counts, seconds_per_run};
use crate::findings::{CONFIDENCE, FEWEST_PAIRS, POWER, looks};
use crate::registry::Registry;
use crate::study::{PlannedTask, Recipe, Study};

pub(super) fn explain(which: &Which, registry: &Registry) -> Result<String> {
    let study = Study::open(&which.study, registry, &which.overrides())?;
    let info = study.info();
    let mut text = format!("{}\n{}\n\n", info.title, info.question);
    let RunCounts { tuning, reported, repeated, forked } = run_counts(&study);

    let mut tasks = Columns::new(["task", "steps", "target", "about one run", "what it is"]);
    let mut seconds = Some(0.0);
    for task in &study.tasks {
        let of_run = seconds_per_run(&study, registry, task)?;
        let runs = ((tuning + reported) / study.tasks.len()) as f64;
        let later = task.forks.iter().map(|step| 1.0 - *step as f64 / task.steps as f64);
        let whole =
            later.filter(|left| *left < 1.0).sum::<f64>() * (study.forked.len() * study.file.seeds) as f64;
        seconds = seconds.zip(of_run).map(|(seconds, of_run)| seconds + of_run * (runs + whole));
        tasks.add_row([
            task.name.clone(),
            task.steps.to_string(),
            task.target.map_or("none".to_owned(), |target| target.to_string()),
            of_run.map_or("not known".to_owned(), |of_run| format!("{of_run:.1} s")),
            what(task),
        ]);
    }
    writeln!(text, "{}", tasks.shown())?;

    let mut arms = Columns::new(["arm", "chain, or a command's options", "runs as"]);
    for planned in &study.arms {
        let settings = grid(planned, &study.file.tuning.rates).len();
        let tuned = match settings {
            0 => "it is".to_owned(),
            settings => format!("the best of {settings} settings"),
        };
        let has_chain = matches!(planned.recipe, Recipe::Optimizer(_));
        let options = planned.arm.options.iter().filter(|_| has_chain);
        let options = options.map(|(name, value)| format!("\n{name} = {value}"));
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
    writeln!(text, "\n{}", verdicts(study.file.seeds, study.arms.len().saturating_sub(1)))?;
    if study.file.sequential {
        let looks: Vec<String> = looks(study.file.seeds).seeds.iter().map(usize::to_string).collect();
        writeln!(
            text,
            "It is sequential: what there is, is looked at after {} seeds, and an arm that has a verdict, or will hardly have one, has no more. The number of \
             runs below is the largest.",
            looks.join(", ")
        )?;
    }
    let tuning = if tuning > 0 {
        format!(", and {tuning} for tuning ({} per setting)", plural(study.file.tuning.seeds, "seed"))
    } else {
        String::new()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let repeated = if repeated > 0 {
        format!(", and {repeated} of the base a second time, to see whether equal runs are equal")
    } else {
        String::new()
    };
    writeln!(
        text,
        "\n{} x {} x {} = {}{tuning}{repeated}.",
        plural(study.tasks.len(), "task"),
        plural(study.arms.len(), "arm"),
        plural(study.file.seeds, "seed"),
        plural(reported, "run"),
    )?;
    if study.file.fork.is_some() {
        writeln!(text, "{}", forks(&study, forked))?;
    }
    match seconds {
        Some(seconds) => writeln!(
            text,
            "About {} on the {threads} cores here, measured by a few steps of the base; what is stored already is not run again.",
            HumanDuration(Duration::from_secs_f64(seconds / threads as f64))
        )?,
        None => writeln!(
            text,
            "How long a command runs is known when the first one has ended; what is stored already is not run again."
        )?,
    }
    Ok(text)
}

/// Arms that continue from the base's state, and where.
fn forks(study: &Study, runs: usize) -> String {
    let arms: Vec<&str> = study.forked.iter().map(|arm| study.arms[*arm].arm.name.as_str()).collect();
    let steps = |task: &PlannedTask| {
        let steps: Vec<String> = task.forks.iter().map(usize::to_string).collect();
        format!("{} after {} of {} steps", task.name, steps.join(", "), task.steps)
    };
    let tasks: Vec<String> = study.tasks.iter().map(steps).collect();
    let own = if study.tasks.iter().any(|task| task.forks.contains(&0)) {
        " (at step 0 an arm's own runs count)"
    } else {
        ""
    };
    format!(
        "And {runs} runs that go on from the base's state{own}: {} x {} seeds, on {}.",
        arms.join(", "),
        study.file.seeds,
        tasks.join("; ")
    )
}

/// Reason for a task, or its description.
fn what(task: &PlannedTask) -> String {
    let about = task.about();
    if about.reason.is_empty() { about.description } else { about.reason }
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Verdicts that so many seeds can have on so many arms, before any hour is spent on them.
fn verdicts(seeds: usize, compared: usize) -> String {
    let (seeds_shown, arms) = (plural(seeds, "seed"), plural(compared, "arm"));
    if compared == 0 {
        return "There is one arm, and nothing to compare it with.".to_owned();
    }
    if seeds < FEWEST_PAIRS {
        return format!(
            "No verdict is possible with {seeds_shown}, whatever the arms do. It takes {FEWEST_PAIRS}, however many arms there are."
        );
    }
    let with = |seeds: usize| detectable_difference(seeds, compared, 1.0 - CONFIDENCE, POWER);
    let Some(found) = with(seeds) else {
        return format!(
            "A verdict takes {FEWEST_PAIRS} seeds; with {seeds_shown} and {arms} hardly any difference is large enough."
        );
    };
    let twice =
        with(2 * seeds).map_or(String::new(), |found| format!(" With {} seeds: {found:.1}.", 2 * seeds));
    format!(
        "A verdict takes {FEWEST_PAIRS} seeds, however many arms there are. With {seeds_shown} and {arms}, four of five studies find a difference \
         of {found:.1} standard deviations (of an arm's differences over the seeds).{twice}"
    )
}

#[cfg(test)]
mod tests {
    use super::verdicts;

    #[test]
    fn a_study_that_can_have_no_verdict_is_told_before_it_runs() {
        for seeds in 1..6 {
            let text = verdicts(seeds, 14);
            assert!(text.contains("No verdict is possible") && text.contains("It takes 6"), "{text}");
        }
        let text = verdicts(10, 14);
        assert!(text.contains("takes 6 seeds") && text.contains("1.5 standard deviations"), "{text}");
        // It took twelve seeds for a verdict on any of 84 arms.
        assert!(verdicts(7, 84).contains("standard deviations"), "{}", verdicts(7, 84));
        assert!(verdicts(10, 0).contains("nothing to compare"));
    }
}
