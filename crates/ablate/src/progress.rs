//! A progress bar for people, a line per stage for log files.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::run::{CurvePoint, Plan, Record};
use crate::study::Observer;

/// Shows progress on standard error.
pub struct Progress {
    is_terminal: bool,
    stage: Mutex<Stage>,
}

struct Stage {
    bar: ProgressBar,
    name: String,
    runs: usize,
    epochs_per_run: u64,
}

impl Progress {
    /// For a study whose runs last `epochs` each.
    pub fn new(epochs: usize) -> Self {
        let stage =
            Stage { bar: ProgressBar::hidden(), name: String::new(), runs: 0, epochs_per_run: epochs as u64 };
        Self { is_terminal: std::io::stderr().is_terminal(), stage: Mutex::new(stage) }
    }

    fn with_stage(&self, act: impl FnOnce(&mut Stage)) {
        // A panic elsewhere must not be hidden behind a second one from the progress bar.
        if let Ok(mut stage) = self.stage.lock() {
            act(&mut stage);
        }
    }
}

impl Observer for Progress {
    fn stage(&self, name: &str, runs: usize) {
        let is_terminal = self.is_terminal;
        self.with_stage(|stage| {
            name.clone_into(&mut stage.name);
            stage.runs = runs;
            if !is_terminal {
                eprintln!("{name}: {runs} runs");
                return;
            }
            // The bar counts epochs: with a few long runs, a bar of runs would stand still and its estimate with it.
            let bar = ProgressBar::new(runs as u64 * stage.epochs_per_run);
            let template = "{prefix:>9} [{bar:32}] {percent:>3}% · {eta} left · {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar.set_prefix(stage.name.clone());
            bar.enable_steady_tick(Duration::from_millis(250));
            stage.bar = bar;
        });
    }

    fn epoch(&self, plan: &Plan<'_>, point: &CurvePoint) {
        if !self.is_terminal || point.epoch == 0 {
            return;
        }
        self.with_stage(|stage| {
            stage.bar.inc(1);
            stage.bar.set_message(format!(
                "{} · seed {} · epoch {} · validation loss {:.4}",
                plan.arm.title, plan.seed, point.epoch, point.validation.loss
            ));
        });
    }

    fn finished(&self, _plan: &Plan<'_>, record: &Record) {
        if !self.is_terminal {
            return;
        }
        // A run that diverged leaves epochs undone.
        let done = record.curve.len().saturating_sub(1) as u64;
        self.with_stage(|stage| stage.bar.inc(stage.epochs_per_run.saturating_sub(done)));
    }

    fn stage_finished(&self) {
        let is_terminal = self.is_terminal;
        self.with_stage(|stage| {
            if is_terminal {
                stage.bar.finish_and_clear();
                eprintln!("{}: {} runs in {:.0?}", stage.name, stage.runs, stage.bar.elapsed());
            }
        });
    }
}
