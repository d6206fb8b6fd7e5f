//! Specification of an optimizer: options, and edits of the chain that they make.

use ablate_tasks::{known_options, read_options, unknown};
use anyhow::{Context, Result, bail, ensure};
use gradient_transform::{Link, NonFinite, Optimizer, ParameterGroup, Rounding, Settings};
use prodigy_plus::Options;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::member::{Member, position, set};
use super::{Change, Groups, Insertion, Named};
use crate::registry::Registry;

type Boxed = Box<dyn Link<f32>>;

/// Options that replace the default chain.
const CHAIN: &str = "chain";
const OPTIMIZER: &str = "optimizer";

/// Options of a chain other than those of its members.
const OF_CHAIN: [&str; 4] = [CHAIN, OPTIMIZER, "lr", "non_finite"];

/// A chain as a study defines it: everything that determines an optimizer, and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChainSpec {
    /// Options of prodigy-plus by their documented names, with a dot for a nested table: `compat.wrong_row_mean`. Or a
    /// `chain` (a list of transforms) or an `optimizer` (its name), with `lr`, `non_finite`, and options of its
    /// members: `adam.beta2`.
    pub options: Map<String, Value>,
    /// Transforms that are left out.
    pub remove: Vec<String>,
    /// Transforms that replace another, by the other's name.
    pub replace: Map<String, Value>,
    /// Transforms that are added.
    pub insert: Vec<Insertion>,
}

/// Options of a chain that a study lists or names.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ChainOptions {
    lr: Option<f64>,
    non_finite: NonFinite,
}

impl ChainSpec {
    /// Without the base's options if a change has its own `chain` or `optimizer`, to which these do not apply.
    #[must_use]
    pub fn anew_for(mut self, change: &Change, base: &Map<String, Value>) -> Self {
        if change.options.contains_key(CHAIN) || change.options.contains_key(OPTIMIZER) {
            self.options.retain(|name, value| base.get(name) != Some(value));
        }
        self
    }

    /// The same with a further change.
    ///
    /// # Errors
    /// An option or a transform that an earlier change has already changed to something else.
    pub fn with(&self, change: &Change, base: &Map<String, Value>) -> Result<Self> {
        let mut spec = self.clone();
        merge(&mut spec.options, &change.options, Some(base), "option")?;
        merge(&mut spec.replace, &change.replace, None, "replacement of")?;
        for name in &change.remove {
            ensure!(!spec.replace.contains_key(name), "one factor removes {name}, another one replaces it");
            if !spec.remove.contains(name) {
                spec.remove.push(name.clone());
            }
        }
        spec.insert.extend(change.insert.iter().cloned());
        Ok(spec)
    }

    /// The options of the default optimizer, with their defaults.
    ///
    /// # Errors
    /// An unknown option or a value of the wrong kind.
    pub fn options(&self) -> Result<Options> {
        ensure!(
            !self.options.contains_key("seed"),
            "option seed: it would have no effect, as every run has a seed of its own; leave it out"
        );
        for name in self.options.keys() {
            let inner = self
                .options
                .keys()
                .find(|other| other.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('.')));
            if let Some(inner) = inner {
                bail!(
                    "options {name} and {inner}: give only the second, as the first is the table that it is in"
                );
            }
        }
        let in_options = "in the options of the chain (`ablate list options` shows them all)";
        let all = serde_json::to_value(Options::default())?;
        known_options(&Value::Object(tree(&self.options)), &all).context(in_options)?;
        read_options(&Value::Object(self.options.clone()), tree).context(in_options)
    }

    /// Whether a study lists or names the chain, instead of using the default one.
    fn is_described(&self) -> bool {
        self.options.contains_key(CHAIN) || self.options.contains_key(OPTIMIZER)
    }

    /// The optimizer that is named, if one is.
    fn named(&self) -> Result<Option<Named>> {
        match self.options.get(OPTIMIZER) {
            None => Ok(None),
            Some(Value::String(name)) => Named::of(name).map(Some),
            Some(other) => {
                bail!("optimizer is a name (`ablate list optimizers` shows them all), not {other}")
            }
        }
    }

    fn chain_options(&self) -> Result<ChainOptions> {
        let of_chain = |(name, _): &(&String, &Value)| !name.contains('.');
        let options: Map<String, Value> =
            self.options.iter().filter(of_chain).map(|(name, value)| (name.clone(), value.clone())).collect();
        if let Some(name) = options.keys().find(|name| !OF_CHAIN.contains(&name.as_str())) {
            let error = unknown("option", name, &OF_CHAIN);
            return Err(
                error.context("in the options of a chain; those of its members have a dot, \"adam.beta2\"")
            );
        }
        read_options(&Value::Object(options), Clone::clone).context("in the options of the chain")
    }

    /// The learning rate, or the one of a named optimizer; absent for a listed chain without one.
    ///
    /// # Errors
    /// Invalid options.
    pub fn lr(&self) -> Result<Option<f64>> {
        if !self.is_described() {
            return Ok(Some(self.options()?.lr));
        }
        Ok(self.chain_options()?.lr.or(self.named()?.and_then(Named::lr)))
    }

    fn start(&self) -> Result<Vec<Member>> {
        let described = match (self.options.get(CHAIN), self.named()?) {
            (None, None) => {
                return Ok(self.options()?.transforms::<f32>()?.into_iter().map(Member::Built).collect());
            }
            (Some(_), Some(_)) => bail!("chain and optimizer: give one of them, as each is a whole chain"),
            (Some(Value::Array(chain)), None) => chain.clone(),
            (Some(other), None) => bail!("chain is a list of transforms, not {other}"),
            (None, Some(named)) => named.chain(),
        };
        ensure!(!described.is_empty(), "chain: an empty list moves nothing; end it with \"descent\"");
        described.iter().map(Member::described).collect()
    }

    /// The members after all edits.
    fn members(&self) -> Result<Vec<Member>> {
        let mut chain = self.start()?;
        for (name, replacement) in &self.replace {
            let index = position(&chain, name)?;
            chain[index] = Member::described(replacement)?;
        }
        for name in &self.remove {
            let index = position(&chain, name)?;
            chain.remove(index);
        }
        for Insertion { transform, before, after } in &self.insert {
            let index = match (before, after) {
                (Some(before), None) => position(&chain, before)?,
                (None, Some(after)) => position(&chain, after)? + 1,
                _ => bail!("an insertion needs `before` or `after`, the name of its neighbour: {transform}"),
            };
            chain.insert(index, Member::described(transform)?);
        }
        if self.is_described() {
            for (option, value) in self.options.iter().filter(|(name, _)| name.contains('.')) {
                set(&mut chain, option, value)?;
            }
        }
        Ok(chain)
    }

    /// The transforms, in order, for a run of so many steps.
    ///
    /// # Errors
    /// Options that exclude each other or are out of range; an edit of a transform that isn't there, or with an unknown
    /// one.
    pub fn transforms(&self, registry: &Registry, steps: usize) -> Result<Vec<Boxed>> {
        self.members()?.into_iter().map(|member| member.build(registry, steps)).collect()
    }

    /// The transforms in order, with the options that are written.
    ///
    /// # Errors
    /// A chain that cannot be.
    pub fn describe(&self, registry: &Registry) -> Result<String> {
        // The description does not depend on the length of a run.
        const STEPS: usize = 100;
        let group = vec![("w".to_owned(), vec![64, 64])];
        let optimizer = self.optimizer(registry, &vec![group], 0, STEPS)?;
        if self.is_described() {
            return Ok(self.members()?.iter().map(Member::shown).collect::<Vec<_>>().join(" | "));
        }
        // The engine knows which links apply to a matrix. Its marks of sweeps do not concern a study.
        Ok(optimizer.describe_chain(0, &[64, 64])?.replace(" ‖", ""))
    }

    /// An optimizer of groups of (name, shape), for a run of so many steps; `seed` is that of its random rounding.
    ///
    /// # Errors
    /// As [`transforms`](Self::transforms), and a chain that cannot run.
    pub fn optimizer(
        &self,
        registry: &Registry,
        groups: &Groups,
        seed: u64,
        steps: usize,
    ) -> Result<Optimizer<f32>> {
        let made = |lr: f64, rounding: Rounding| -> Result<Vec<ParameterGroup<f32>>> {
            let group = |parameters: &Vec<(String, Vec<usize>)>| {
                let parameters = parameters.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
                let group = ParameterGroup::new(self.transforms(registry, steps)?, parameters);
                Ok(group.lr(lr).rounding(rounding))
            };
            groups.iter().map(group).collect()
        };
        if self.is_described() {
            let ChainOptions { non_finite, .. } = self.chain_options()?;
            // A tuned arm's is set before the first step.
            let lr = self.lr()?.unwrap_or(1.0);
            let settings = Settings { non_finite, seed, ..Settings::default() };
            return Ok(Optimizer::with_groups(made(lr, Rounding::Nearest)?, settings)?);
        }
        let options = self.options()?.seed(seed);
        let rounding = if options.stochastic_rounding { Rounding::Stochastic } else { Rounding::Nearest };
        Ok(options.build_from(made(options.lr, rounding)?)?)
    }

    /// The options that are not shown with the chain.
    pub(crate) fn shown_options(&self) -> impl Iterator<Item = (&String, &Value)> {
        let is_in_chain = self.is_described();
        self.options.iter().filter(move |(name, _)| *name != CHAIN && !(is_in_chain && name.contains('.')))
    }
}

/// From dotted names to tables within tables.
fn tree(options: &Map<String, Value>) -> Map<String, Value> {
    let mut tree = Map::new();
    for (name, value) in options {
        let mut table = &mut tree;
        let mut path = name.split('.').peekable();
        while let Some(key) = path.next() {
            if path.peek().is_none() {
                table.insert(key.to_owned(), none_is_null(value));
                break;
            }
            let inner = table.entry(key).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(inner) = inner else { break };
            table = inner;
        }
    }
    tree
}

/// TOML has no null: `eps = "none"`.
fn none_is_null(value: &Value) -> Value {
    if value == "none" { Value::Null } else { value.clone() }
}

/// Adds `from`. A value that differs from `base` was set by another factor; if both set the same name, their values
/// have to be equal.
fn merge(
    into: &mut Map<String, Value>,
    from: &Map<String, Value>,
    base: Option<&Map<String, Value>>,
    what: &str,
) -> Result<()> {
    for (name, value) in from {
        let earlier = into.get(name).filter(|earlier| base.and_then(|base| base.get(name)) != Some(*earlier));
        if let Some(earlier) = earlier
            && earlier != value
        {
            bail!("one factor sets {what} {name} to {earlier}, another one to {value}");
        }
        into.insert(name.clone(), value.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
