//! Optimizers by name: each the chain that it is, which a study can change and a baseline is.

use std::fmt;

use ablate_tasks::unknown;
use anyhow::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{ChainSpec, Schedule};

/// An optimizer that has a name.
struct Known {
    name: &'static str,
    title: &'static str,
    /// The learning rate that its paper or PyTorch gives it, where there is one.
    lr: Option<f64>,
    chain: fn() -> Value,
}

macro_rules! known {
    ($($name:literal, $title:literal, $lr:expr, [$($chain:tt)*];)*) => {
        &[$(Known {
            name: $name,
            title: $title,
            lr: $lr,
            chain: || json!([$($chain)*]),
        }),*]
    };
}

/// Chains of the crate `named-optimizers`. A test compares the two to the bit.
static KNOWN: &[Known] = known! {
    "sgd", "SGD with momentum", None, ["momentum", "descent"];
    "adam", "Adam", Some(1e-3), ["adam", "descent"];
    "adamw", "AdamW", Some(1e-3), ["adam", "weight-decay", "descent"];
    "amsgrad", "AMSGrad", Some(1e-3), ["amsgrad", "descent"];
    "nadam", "NAdam", Some(2e-3), ["nadam", "descent"];
    "radam", "RAdam", Some(1e-3), ["radam", "descent"];
    "adamax", "AdaMax", Some(2e-3), ["adamax", "descent"];
    "adabelief", "AdaBelief", Some(1e-3), ["adabelief", "descent"];
    "adan", "Adan", Some(1e-3), ["adan", "descent"];
    "ademamix", "AdEMAMix", Some(1e-3), ["ademamix", { "transform": "weight-decay", "rate": 0.1 }, "descent"];
    "mars", "MARS-AdamW", Some(3e-3),
        ["mars", "clip-by-norm", { "transform": "adam", "beta1": 0.95, "beta2": 0.99 }, "weight-decay", "descent"];
    "c-adamw", "Cautious AdamW", Some(1e-3), ["adam", "cautious-update", "weight-decay", "descent"];
    "grams", "Grams", Some(1e-3), ["adam", "grams-update", "weight-decay", "descent"];
    "stableadamw", "StableAdamW", Some(1e-3),
        [{ "transform": "adam", "beta2": 0.99 }, "stableadamw", "weight-decay", "descent"];
    "yogi", "Yogi", Some(1e-2), ["yogi", "descent"];
    "prodigy", "Prodigy", Some(1.0),
        ["adam", { "transform": "prodigy", "samples": { "beta3": 0.999_f64.sqrt(), "every": 1 } }, "descent"];
    "dog", "DoG", Some(1.0), [{ "transform": "distance-over-gradients", "over": "all" }, "descent"];
    "l-dog", "L-DoG", Some(1.0), ["distance-over-gradients", "descent"];
    "schedule-free-sgd", "Schedule-Free SGD", Some(1.0), ["schedule-free"];
    "schedule-free-adamw", "Schedule-Free AdamW", Some(2.5e-3), ["adam-moment", "schedule-free"];
    "lars", "LARS", None, [
        { "transform": "weight-decay", "rate": 1e-4 },
        { "transform": "trust-ratio", "coefficient": 1e-3 },
        "momentum",
        "descent"
    ];
    "lamb", "LAMB", None, [{ "transform": "adam", "eps": 1e-6 }, "weight-decay", "trust-ratio", "descent"];
    "novograd", "NovoGrad", Some(1e-2), ["novograd", "descent"];
    "lion", "Lion", Some(1e-4), ["lion", { "transform": "weight-decay", "rate": 1e-3 }, "descent"];
    "sign-sgd", "SignSGD", None, ["sign", "descent"];
    "signum", "Signum", None, ["momentum", "sign", "descent"];
    "noisy-sgd", "SGD with noise", None, ["gradient-noise", "descent"];
    "rprop", "Rprop", Some(1.0), ["rprop", "descent"];
    "optimistic-gradient-descent", "Optimistic descent", None, ["optimistic", "descent"];
    "adagrad", "AdaGrad", Some(1e-2), ["adagrad", "descent"];
    "adafactor", "Adafactor", Some(1e-2), [
        "rising-decay",
        { "transform": "factored-moment", "division": { "epsilon": 1e-30 } },
        { "transform": "clip-by-norm", "of": "root-mean-square" },
        "parameter-scale",
        "descent"
    ];
    "adadelta", "AdaDelta", Some(1.0), ["adadelta", "descent"];
    "rmsprop", "RMSprop", Some(1e-2), ["dense-moment", "descent"];
    "adopt", "ADOPT", Some(1e-3), [
        { "transform": "adopt", "moment": { "transform": "dense-moment", "beta2": 0.9999, "division": { "epsilon": 1e-6 } } },
        { "transform": "clip-by-value", "limit": 1.0, "growth": 0.25 },
        { "transform": "ema", "beta": 0.9, "debias": false },
        "descent"
    ];
};

/// An optimizer by its name: what `optimizer = "adamw"` in a study stands for, and, tuned, a baseline.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Named(&'static Known);

impl Named {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        KNOWN.iter().map(Self)
    }

    /// The optimizer of a name.
    ///
    /// # Errors
    /// Fails if no optimizer has this name.
    pub fn of(name: &str) -> Result<Self> {
        Self::all().find(|known| known.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::all().map(Self::name).collect();
            unknown("optimizer", name, &names)
        })
    }

    /// The name in study files.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The name for people.
    pub fn title(self) -> &'static str {
        self.0.title
    }

    /// The learning rate that its paper or PyTorch gives it, where there is one.
    pub fn lr(self) -> Option<f64> {
        self.0.lr
    }

    /// Its transforms, as a study would list them.
    pub fn chain(self) -> Vec<Value> {
        if let Value::Array(chain) = (self.0.chain)() { chain } else { Vec::new() }
    }

    /// The chain as a study has it.
    pub(crate) fn spec(self) -> ChainSpec {
        let options = Map::from_iter([("optimizer".to_owned(), self.name().into())]);
        ChainSpec { options, ..ChainSpec::default() }
    }

    /// The schedules that tuning tries: averaging replaces a decay, but not a warm-up.
    pub fn schedules(self) -> &'static [Schedule] {
        if self.name().starts_with("schedule-free") {
            &[Schedule::Constant, Schedule::WarmUp]
        } else {
            &[Schedule::Constant, Schedule::LinearDecay]
        }
    }
}

impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Named").field(&self.name()).finish()
    }
}

/// The names under which runs of two baselines are addressed since there were three.
const STORED: [(&str, &str); 2] = [("adamw", "adam-w"), ("schedule-free-adamw", "schedule-free-adam-w")];

impl From<Named> for String {
    fn from(named: Named) -> Self {
        let stored = STORED.iter().find(|(name, _)| *name == named.name());
        stored.map_or(named.name(), |(_, stored)| *stored).to_owned()
    }
}

impl TryFrom<String> for Named {
    type Error = Error;

    fn try_from(stored: String) -> Result<Self> {
        let known = STORED.iter().find(|(_, of)| **of == *stored);
        Self::of(known.map_or(stored.as_str(), |(name, _)| *name))
    }
}
