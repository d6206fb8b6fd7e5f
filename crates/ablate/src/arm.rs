//! What is varied: the default optimizer, the default without one of its parts, and a reference from outside.

use anyhow::{Result, bail};
use candle_nn::ParamsAdamW;
use factored_moment::FactoredMoment;
use gradient_transform::{Descent, Optimizer};
use prodigy_core::Prodigy;
use prodigy_plus::{Options, ProdigyPlus};
use schedule_free::ScheduleFree;
use serde::Serialize;
use stableadamw::StableAdamW;

use crate::optimizer::{CandleAdamW, Chain, TrainableOptimizer, Variable, shapes};

/// The arm that every other one is compared with.
pub const BASE: &str = "default";

/// The documented defaults, spelled out where an arm builds its chain by hand.
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.99;

/// How the learning rate moves over a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// It doesn't.
    Constant,
    /// In a straight line from zero to its full height over the first tenth of the run.
    WarmUp,
    /// In a straight line to zero at the end.
    LinearDecay,
}

/// One candidate of a tuning grid.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Setting {
    /// The highest learning rate.
    pub learning_rate: f64,
    /// What it does from there.
    pub schedule: Schedule,
}

impl Setting {
    /// The learning rate of `step` (counted from 0) in a run of `steps`.
    pub fn at(&self, step: usize, steps: usize) -> f64 {
        match self.schedule {
            Schedule::Constant => self.learning_rate,
            Schedule::WarmUp => {
                self.learning_rate * (10.0 * (step + 1) as f64 / steps.max(1) as f64).min(1.0)
            }
            Schedule::LinearDecay => self.learning_rate * (1.0 - step as f64 / steps.max(1) as f64),
        }
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.schedule {
            Schedule::Constant => write!(f, "lr {}", self.learning_rate),
            Schedule::WarmUp => write!(f, "lr 0 → {}", self.learning_rate),
            Schedule::LinearDecay => write!(f, "lr {} → 0", self.learning_rate),
        }
    }
}

type Factory = Box<dyn Fn(&[Variable]) -> Result<Box<dyn TrainableOptimizer>> + Send + Sync>;

/// An optimizer under a name, with what tuning may try.
pub struct Arm {
    /// The name for the command line and for files.
    pub name: &'static str,
    /// The name for people.
    pub title: &'static str,
    /// What differs from the base, and what that means.
    pub description: &'static str,
    /// The options that define it, by name and value.
    pub options: Vec<(&'static str, String)>,
    /// The settings that tuning chooses from; empty for an arm that is run as it is.
    pub candidates: Vec<Setting>,
    /// Whether it runs only when asked for by name.
    pub on_request: bool,
    factory: Factory,
}

impl Arm {
    /// An arm that is run as it is.
    pub fn new(
        name: &'static str,
        title: &'static str,
        description: &'static str,
        options: Vec<(&'static str, String)>,
        factory: impl Fn(&[Variable]) -> Result<Box<dyn TrainableOptimizer>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            title,
            description,
            options,
            candidates: Vec::new(),
            on_request: false,
            factory: Box::new(factory),
        }
    }

    /// The same arm, tuned over `candidates`.
    pub fn tuned(mut self, candidates: Vec<Setting>) -> Self {
        self.candidates = candidates;
        self
    }

    /// The default with one option added, which runs on request.
    fn with_option(
        name: &'static str,
        title: &'static str,
        description: &'static str,
        changed: &[(&'static str, &str)],
        change: fn(Options) -> Options,
    ) -> Self {
        let arm = Self::new(name, title, description, options(changed), move |variables| {
            let optimizer = change(ProdigyPlus::builder()).build(shapes(variables))?;
            Ok(Box::new(Chain::new(optimizer, variables, true)))
        });
        Self { on_request: true, ..arm }
    }

    /// Whether a setting is chosen on the validation split before the reported runs.
    pub fn is_tuned(&self) -> bool {
        !self.candidates.is_empty()
    }

    /// A fresh optimizer for one run.
    pub fn optimizer(&self, variables: &[Variable]) -> Result<Box<dyn TrainableOptimizer>> {
        (self.factory)(variables)
    }
}

fn options(pairs: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    pairs.iter().map(|&(name, value)| (name, value.to_owned())).collect()
}

fn grid(rates: &[f64], schedules: &[Schedule]) -> Vec<Setting> {
    let with_rate =
        |&learning_rate: &f64| schedules.iter().map(move |&schedule| Setting { learning_rate, schedule });
    rates.iter().flat_map(with_rate).collect()
}

/// Every arm that the default study knows, the base first.
pub fn all() -> Vec<Arm> {
    // Both grids have ten candidates: a tuned arm must not win by having been tried more often. Each has the schedule that
    // its optimizer is used with: averaging replaces a decay but not a warm-up, which growing from d0 is for Prodigy.
    let rates = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1];
    let chain_grid = grid(&rates, &[Schedule::Constant, Schedule::WarmUp]);
    let adamw_grid = grid(&rates, &[Schedule::Constant, Schedule::LinearDecay]);
    vec![
        Arm::new(
            BASE,
            "default",
            "ProdigyPlus as documented: a factored second moment, StableAdamW, Prodigy, Schedule-Free. Nothing is tuned.",
            options(&[("lr", "1"), ("betas", "(0.9, 0.99)"), ("d0", "1e-6")]),
            |variables| Ok(Box::new(Chain::new(ProdigyPlus::builder().build(shapes(variables))?, variables, true))),
        ),
        Arm::new(
            "no-stableadamw",
            "− StableAdamW",
            "The default without limiting an update's root mean square.",
            options(&[("use_stableadamw", "false")]),
            |variables| {
                let optimizer = ProdigyPlus::builder().use_stableadamw(false).build(shapes(variables))?;
                Ok(Box::new(Chain::new(optimizer, variables, true)))
            },
        ),
        Arm::new(
            "no-factoring",
            "− factoring",
            "The default with a second moment per element instead of one per row and column.",
            options(&[("factored", "false")]),
            |variables| {
                let optimizer = ProdigyPlus::builder().factored(false).build(shapes(variables))?;
                Ok(Box::new(Chain::new(optimizer, variables, true)))
            },
        ),
        Arm::new(
            "no-schedule-free",
            "− Schedule-Free",
            "The default without averaging: plain descent at Prodigy's step size, evaluated where it is. As the averaging \
             takes the place of both a first moment and a schedule, this arm has neither.",
            options(&[("chain", "FactoredMoment | StableAdamW | Prodigy | Descent")]),
            |variables| {
                let chain =
                    (FactoredMoment::new(BETA2), StableAdamW, Prodigy::default(), Descent::default());
                Ok(Box::new(Chain::new(Optimizer::new(chain, shapes(variables))?, variables, true)))
            },
        ),
        Arm::new(
            "no-prodigy",
            "− Prodigy (lr tuned)",
            "The default with a fixed learning rate in place of Prodigy's step size; the rate is tuned, and so is whether it \
             is warmed up over the first tenth of the run.",
            options(&[("chain", "FactoredMoment | StableAdamW | ScheduleFree")]),
            |variables| {
                let chain = (FactoredMoment::new(BETA2), StableAdamW, ScheduleFree::new(BETA1));
                Ok(Box::new(Chain::new(Optimizer::new(chain, shapes(variables))?, variables, false)))
            },
        )
        .tuned(chain_grid),
        Arm::new(
            "adamw",
            "AdamW (tuned)",
            "candle's AdamW with its learning rate and schedule tuned: the reference from outside.",
            options(&[("betas", "(0.9, 0.999)"), ("eps", "1e-8"), ("weight_decay", "0.01")]),
            |variables| Ok(Box::new(CandleAdamW::new(variables, ParamsAdamW::default())?)),
        )
        .tuned(adamw_grid),
        Arm::with_option(
            "adopt",
            "+ ADOPT",
            "The default with the second moment updated after it was used.",
            &[("use_adopt", "true")],
            |options| options.use_adopt(true),
        ),
        Arm::with_option(
            "atan2",
            "+ Adam-atan2",
            "The default with atan2 in place of the division by the moment plus epsilon, and of StableAdamW.",
            &[("eps", "None"), ("use_stableadamw", "false")],
            |options| options.eps(None).use_stableadamw(false),
        ),
        Arm::with_option(
            "bias-correction",
            "+ RAdam",
            "The default with RAdam's rectification and bias correction.",
            &[("use_bias_correction", "true")],
            |options| options.use_bias_correction(true),
        ),
        Arm::with_option(
            "cautious",
            "+ Cautious",
            "The default with the displacement masked where it disagrees with the update.",
            &[("use_cautious", "true")],
            |options| options.use_cautious(true),
        ),
        Arm::with_option(
            "focus",
            "+ FOCUS",
            "The default with sign descent attracted to the average of the weights in place of the second moment.",
            &[("use_focus", "true"), ("factored", "false")],
            |options| options.use_focus(true).factored(false),
        ),
        Arm::with_option(
            "grams",
            "+ Grams",
            "The default with the displacement's size and the update's sign.",
            &[("use_grams", "true")],
            |options| options.use_grams(true),
        ),
        Arm::with_option(
            "muon",
            "+ Muon",
            "The default with the gradients of matrices orthogonalised in place of their second moment.",
            &[("use_muon_pp", "true")],
            |options| options.use_muon_pp(true),
        ),
        Arm::with_option(
            "orthograd",
            "+ OrthoGrad",
            "The default with the part of the gradient along the weights taken out.",
            &[("use_orthograd", "true")],
            |options| options.use_orthograd(true),
        ),
        Arm::with_option(
            "speed",
            "+ SPEED",
            "The default with the step size estimated from signs.",
            &[("use_speed", "true")],
            |options| options.use_speed(true),
        ),
    ]
}

/// Asks for every arm.
pub const ALL: &str = "all";

/// The arms with the given names, in the study's order; the base is always among them. No names are those that do not
/// wait for a request, and [`ALL`] is every one.
pub fn select(names: &[String]) -> Result<Vec<Arm>> {
    let arms = all();
    for name in names {
        if name != ALL && !arms.iter().any(|arm| arm.name == name) {
            let known: Vec<&str> = arms.iter().map(|arm| arm.name).collect();
            bail!("there is no arm {name:?}; choose from {}, or {ALL}", known.join(", "));
        }
    }
    let asked = |arm: &Arm| match names {
        [] => !arm.on_request,
        names => arm.name == BASE || names.iter().any(|name| name == arm.name || name == ALL),
    };
    Ok(arms.into_iter().filter(asked).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuned_arms_have_the_same_budget() {
        let budgets: Vec<usize> =
            all().iter().filter(|arm| arm.is_tuned()).map(|arm| arm.candidates.len()).collect();
        assert_eq!(budgets, [10, 10]);
    }

    #[test]
    fn arms_on_request_do_not_run_unasked_and_all_runs_every_one() {
        assert!(select(&[]).unwrap().iter().all(|arm| !arm.on_request));
        assert_eq!(select(&[ALL.to_owned()]).unwrap().len(), all().len());
        let names: Vec<&str> = select(&["muon".to_owned()]).unwrap().iter().map(|arm| arm.name).collect();
        assert_eq!(names, [BASE, "muon"]);
    }

    #[test]
    fn an_unknown_arm_is_refused_with_the_known_ones() {
        let error = select(&["lion".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("lion") && error.contains("no-factoring"), "{error}");
    }

    #[test]
    fn the_base_is_always_selected_and_comes_first() {
        let names: Vec<&str> = select(&["adamw".to_owned()]).unwrap().iter().map(|arm| arm.name).collect();
        assert_eq!(names, [BASE, "adamw"]);
    }

    #[test]
    fn warm_up_ends_at_a_tenth() {
        let setting = Setting { learning_rate: 0.1, schedule: Schedule::WarmUp };
        assert!((setting.at(0, 100) - 0.01).abs() < 1e-12);
        assert_eq!((setting.at(9, 100), setting.at(99, 100)), (0.1, 0.1));
    }

    #[test]
    fn linear_decay_ends_one_step_above_zero() {
        let setting = Setting { learning_rate: 0.1, schedule: Schedule::LinearDecay };
        assert_eq!(setting.at(0, 10), 0.1);
        assert!((setting.at(9, 10) - 0.01).abs() < 1e-12);
    }
}
