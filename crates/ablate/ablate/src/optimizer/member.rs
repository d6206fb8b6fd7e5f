//! The members of a chain while it is put together.

use ablate_tasks::unknown;
use anyhow::{Context, Result, bail, ensure};
use gradient_transform::Link;
use serde_json::{Map, Value};

use crate::registry::Registry;
use ablate_transforms::described_transform;

type Boxed = Box<dyn Link<f32>>;

/// A transform of a chain.
pub(super) enum Member {
    /// One that the options of the default optimizer made.
    Built(Boxed),
    /// One that a study describes: its name in the registry, and its options.
    Described(String, Map<String, Value>),
}

impl Member {
    pub(super) fn described(value: &Value) -> Result<Self> {
        let (name, options) = described_transform(value)?;
        Ok(Self::Described(name, options))
    }

    fn name(&self) -> &str {
        match self {
            Self::Built(transform) => transform.name(),
            Self::Described(name, _) => name,
        }
    }

    /// The transform, for a run of so many steps.
    pub(super) fn build(self, registry: &Registry, steps: usize) -> Result<Boxed> {
        match self {
            Self::Built(transform) => Ok(transform),
            Self::Described(name, options) => {
                let mut described = Map::from_iter([("transform".to_owned(), Value::String(name))]);
                described.extend(options);
                registry.transform(&in_steps(&Value::Object(described), steps))
            }
        }
    }

    /// `adam (beta2 = 0.95)`.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Described(name, options) if !options.is_empty() => {
                let options: Vec<String> =
                    options.iter().map(|(option, value)| format!("{option} = {}", toml(value))).collect();
                format!("{name} ({})", options.join(", "))
            }
            other => other.name().to_owned(),
        }
    }

    /// Sets an option, which may be one of a table within tables: `of.rate`.
    fn set(&mut self, path: &str, value: &Value) -> Result<()> {
        let Self::Described(name, options) = self else {
            bail!("the default optimizer's {} has its options by their own names", self.name())
        };
        let mut table = options;
        let mut path = path.split('.').peekable();
        while let Some(key) = path.next() {
            if path.peek().is_none() {
                table.insert(key.to_owned(), value.clone());
                break;
            }
            let inner = table.entry(key).or_insert_with(|| Value::Object(Map::new()));
            if let Value::String(transform) = inner {
                // A nested transform without options is its name.
                *inner = serde_json::json!({ "transform": transform });
            }
            let Value::Object(inner) = inner else {
                bail!("{key} of {name} is no table, and has no option within")
            };
            table = inner;
        }
        Ok(())
    }
}

/// A value as a study file has it, in a line.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let pairs: Vec<String> =
                table.iter().map(|(name, value)| format!("{name} = {}", toml(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(toml).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// Shares of the run, `"10%"`, as numbers of steps, of which there is at least one.
fn in_steps(value: &Value, steps: usize) -> Value {
    match value {
        Value::String(text) => {
            let share = text.strip_suffix('%').and_then(|share| share.trim().parse::<f64>().ok());
            share.map_or_else(
                || value.clone(),
                |share| Value::from((share / 100.0 * steps as f64).round().max(1.0) as u64),
            )
        }
        Value::Array(values) => values.iter().map(|value| in_steps(value, steps)).collect(),
        Value::Object(table) => {
            Value::Object(table.iter().map(|(name, value)| (name.clone(), in_steps(value, steps))).collect())
        }
        other => other.clone(),
    }
}

pub(super) fn position(chain: &[Member], name: &str) -> Result<usize> {
    let mut found = chain.iter().enumerate().filter(|(_, member)| member.name() == name);
    let first = found.next().map(|(index, _)| index);
    ensure!(found.next().is_none(), "{name} occurs twice in the chain {}", names(chain).join(" | "));
    first.with_context(|| {
        let unknown = unknown("transform", name, &names(chain));
        format!("{unknown}, which are those of the chain")
    })
}

fn names(chain: &[Member]) -> Vec<&str> {
    chain.iter().map(Member::name).collect()
}

/// Sets an option of a member: `adam.beta2`.
pub(super) fn set(chain: &mut [Member], option: &str, value: &Value) -> Result<()> {
    let (name, path) = option.split_once('.').unwrap_or((option, ""));
    let index = position(chain, name).with_context(|| format!("option {option}"))?;
    chain[index].set(path, value).with_context(|| format!("option {option}"))
}
