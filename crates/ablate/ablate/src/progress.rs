//! A progress bar for people, a line now and then for log files.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ablate_tasks::Measure;
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::console::say;
use crate::execute::{Job, Observer};
use crate::record::{Outcome, Point, Record};
use crate::study::Study;

/// Units of the bar per second of estimated work.
const UNITS: f64 = 1000.0;

/// Time between two lines of a log.
const BETWEEN_LINES: Duration = Duration::from_secs(30);

/// Shows progress on standard error.
pub(crate) struct Progress {
    is_terminal: bool,
    tasks: Vec<TaskView>,
    arms: Vec<String>,
    stage: Mutex<Stage>,
}

struct TaskView {
    name: String,
    measure: Measure,
    steps: usize,
    seconds: f64,
}

struct Stage {
    bar: ProgressBar,
    /// How far the runs in progress are, in units of the bar.
    begun: Vec<(Job, u64)>,
    name: String,
    runs: usize,
    done: usize,
    diverged: usize,
    started: Instant,
    last_line: Instant,
}

impl Stage {
    /// A run has come so far; never back, where it is tried again.
    fn advance(&mut self, job: &Job, units: u64) {
        let known = self.begun.iter().position(|(begun, _)| begun == job);
        let index = known.unwrap_or_else(|| {
            self.begun.push((*job, 0));
            self.begun.len() - 1
        });
        let before = &mut self.begun[index].1;
        self.bar.inc(units.saturating_sub(*before));
        *before = units.max(*before);
    }
}

impl Progress {
    /// For a study whose runs take about so many seconds each, by task; where nobody knows, all take the same.
    pub(crate) fn new(study: &Study, seconds: &[Option<f64>]) -> Self {
        let view = |(task, &seconds): (&crate::study::PlannedTask, &Option<f64>)| TaskView {
            name: task.name.clone(),
            measure: task.about().measure,
            steps: task.steps,
            seconds: seconds.unwrap_or(1.0),
        };
        let now = Instant::now();
        Self {
            is_terminal: std::io::stderr().is_terminal(),
            tasks: study.tasks.iter().zip(seconds).map(view).collect(),
            arms: study.arms.iter().map(|planned| planned.arm.title.clone()).collect(),
            stage: Mutex::new(Stage {
                bar: ProgressBar::hidden(),
                begun: Vec::new(),
                name: String::new(),
                runs: 0,
                done: 0,
                diverged: 0,
                started: now,
                last_line: now,
            }),
        }
    }

    fn with_stage(&self, act: impl FnOnce(&mut Stage)) {
        // A panic elsewhere must not be hidden after a second one from the progress bar.
        if let Ok(mut stage) = self.stage.lock() {
            act(&mut stage);
        }
    }

    fn units(&self, job: &Job) -> u64 {
        let task = &self.tasks[job.task];
        let left = 1.0 - job.fork.unwrap_or(0) as f64 / task.steps as f64;
        (UNITS * task.seconds * left).ceil() as u64
    }
}

fn metric(task: &TaskView, point: &Point) -> String {
    match task.measure {
        Measure::Accuracy => format!("{:.1} %", 100.0 * point.validation.accuracy.unwrap_or(f64::NAN)),
        Measure::Loss | Measure::LogLoss => format!("loss {:.3e}", point.validation.loss),
    }
}

impl Observer for Progress {
    fn stage(&self, name: &str, jobs: &[Job], stored: usize) {
        let units: u64 = jobs.iter().map(|job| self.units(job)).sum();
        self.with_stage(|stage| {
            let bar = if self.is_terminal { ProgressBar::new(units) } else { ProgressBar::hidden() };
            let template = "{prefix:>9} [{bar:28}] {percent:>3}% · {eta} left · {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(250));
            let now = Instant::now();
            *stage = Stage {
                bar,
                begun: Vec::new(),
                name: name.to_owned(),
                runs: jobs.len(),
                done: 0,
                diverged: 0,
                started: now,
                last_line: now,
            };
            if !self.is_terminal {
                let found = if stored > 0 { format!(", {stored} more are stored") } else { String::new() };
                say(format_args!("{name}: {} runs{found}", jobs.len()));
            }
        });
    }

    fn point(&self, job: &Job, point: &Point) {
        if !self.is_terminal || point.step == 0 {
            return;
        }
        let task = &self.tasks[job.task];
        let before = job.fork.unwrap_or(0);
        let share = (point.step.saturating_sub(before) as f64 / (task.steps - before) as f64).min(1.0);
        let units = (self.units(job) as f64 * share) as u64;
        self.with_stage(|stage| {
            stage.advance(job, units);
            stage.bar.set_message(format!(
                "{} · {} · seed {} · step {}/{} · {}",
                task.name,
                self.arms[job.arm],
                job.seed,
                point.step,
                task.steps,
                metric(task, point)
            ));
        });
    }

    fn finished(&self, job: &Job, record: &Record) {
        let units = self.units(job);
        self.with_stage(|stage| {
            stage.advance(job, units);
            stage.begun.retain(|(begun, _)| begun != job);
            stage.done += 1;
            stage.diverged += usize::from(matches!(record.outcome, Outcome::Diverged { .. }));
            if !self.is_terminal && stage.last_line.elapsed() > BETWEEN_LINES && stage.done < stage.runs {
                stage.last_line = Instant::now();
                let spent = stage.started.elapsed();
                let left = spent.mul_f64((stage.runs - stage.done) as f64 / stage.done as f64);
                say(format_args!(
                    "{}: {} of {} runs, {} diverged, about {} left",
                    stage.name,
                    stage.done,
                    stage.runs,
                    stage.diverged,
                    HumanDuration(left)
                ));
            }
        });
    }

    fn damaged(&self, what: &str) {
        self.with_stage(|stage| {
            stage.bar.suspend(|| say(format_args!("done again, as it is damaged: {what}")))
        });
    }

    fn stage_finished(&self) {
        self.with_stage(|stage| {
            stage.bar.finish_and_clear();
            say(format_args!(
                "{}: {} runs in {}",
                stage.name,
                stage.runs,
                HumanDuration(stage.started.elapsed())
            ));
        });
    }
}

#[cfg(test)]
mod tests {
    use ablate_tasks::Split;

    use super::*;

    #[test]
    fn a_run_that_is_tried_again_does_not_count_twice() {
        let now = Instant::now();
        let mut stage = Stage {
            bar: ProgressBar::hidden(),
            begun: Vec::new(),
            name: String::new(),
            runs: 2,
            done: 0,
            diverged: 0,
            started: now,
            last_line: now,
        };
        stage.bar.set_length(2000);
        let job = |seed| Job {
            task: 0,
            arm: 0,
            setting: None,
            seed,
            final_split: Split::Test,
            repeat: 0,
            fork: None,
        };
        for (seed, units, position) in
            [(0, 500, 500), (1, 100, 600), (0, 800, 900), (0, 100, 900), (0, 1000, 1100), (1, 1000, 2000)]
        {
            stage.advance(&job(seed), units);
            assert_eq!(stage.bar.position(), position, "seed {seed} at {units}");
        }
    }
}
