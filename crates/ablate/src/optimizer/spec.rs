//! What determines an optimizer: options, and edits of the chain that they make.

use ablate_tasks::read_options;
use anyhow::{Context, Result, bail, ensure};
use gradient_transform::{Link, Optimizer, ParameterGroup, Rounding};
use prodigy_plus::Options;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::registry::Registry;
use crate::study::{Change, Insertion};

type Boxed = Box<dyn Link<f32>>;

/// A chain as a study defines it: everything that determines an optimizer, and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChainSpec {
    /// Options of prodigy-plus, by their documented names. Those of a nested table have a dot: `compat.wrong_row_mean`.
    pub options: Map<String, Value>,
    /// Transforms that are left out.
    pub remove: Vec<String>,
    /// Transforms in another's place, by the other's name.
    pub replace: Map<String, Value>,
    /// Transforms that are added.
    pub insert: Vec<Insertion>,
}

impl ChainSpec {
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

    /// The options, with their defaults.
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
        read_options(&Value::Object(self.options.clone()), tree)
            .context("in the options of the chain (`ablate list options` shows them all)")
    }

    /// The transforms, in order.
    ///
    /// # Errors
    /// Options that exclude each other or are out of range; an edit of a transform that isn't there, or with an unknown one.
    pub fn transforms(&self, registry: &Registry) -> Result<Vec<Boxed>> {
        let mut chain = self.options()?.transforms::<f32>()?;
        for (name, replacement) in &self.replace {
            let index = position(&chain, name)?;
            chain[index] = registry.transform(replacement)?;
        }
        for name in &self.remove {
            let index = position(&chain, name)?;
            chain.remove(index);
        }
        for Insertion { transform, before } in &self.insert {
            let index = position(&chain, before)?;
            chain.insert(index, registry.transform(transform)?);
        }
        Ok(chain)
    }

    /// An optimizer of groups of (name, shape); `seed` is that of its random rounding.
    ///
    /// # Errors
    /// As [`transforms`](Self::transforms), and a chain that cannot run.
    pub fn optimizer(
        &self,
        registry: &Registry,
        groups: &[Vec<(String, Vec<usize>)>],
        seed: u64,
    ) -> Result<Optimizer<f32>> {
        let options = self.options()?.seed(seed);
        let group = |parameters: &Vec<(String, Vec<usize>)>| -> Result<ParameterGroup<f32>> {
            let parameters = parameters.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
            let rounding = if options.stochastic_rounding { Rounding::Stochastic } else { Rounding::Nearest };
            let group = ParameterGroup::new(self.transforms(registry)?, parameters);
            Ok(group.lr(options.lr).rounding(rounding))
        };
        let groups = groups.iter().map(group).collect::<Result<Vec<_>>>()?;
        Ok(Optimizer::with_groups(groups, options.settings())?)
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

/// Adds `from`; what differs from `base` has been set by another factor, and stays only if both set the same.
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

fn position(chain: &[Boxed], name: &str) -> Result<usize> {
    let found = chain.iter().position(|transform| transform.name() == name);
    found.with_context(|| {
        let names: Vec<&str> = chain.iter().map(|transform| transform.name()).collect();
        format!("there is no transform {name} in the chain {}", names.join(" | "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn change(text: &str) -> Change {
        toml::from_str(text).unwrap()
    }

    fn names(spec: &ChainSpec) -> Vec<String> {
        let chain = spec.transforms(&Registry::shipped()).unwrap();
        chain.iter().map(|transform| transform.name().to_owned()).collect()
    }

    #[test]
    fn options_and_edits_make_the_chain() {
        let base = ChainSpec::default();
        let with = |text: &str| base.with(&change(text), &Map::new()).unwrap();
        assert_eq!(names(&base), ["factored-moment", "stableadamw", "prodigy", "schedule-free"]);
        assert_eq!(names(&with("use_stableadamw = false")), ["factored-moment", "prodigy", "schedule-free"]);
        assert_eq!(
            names(&with(r#"remove = ["prodigy"]"#)),
            ["factored-moment", "stableadamw", "schedule-free"]
        );
        assert_eq!(
            names(&with(r#"replace = { schedule-free = "descent" }"#)),
            ["factored-moment", "stableadamw", "prodigy", "descent"]
        );
        assert_eq!(
            names(&with(r#"insert = [{ transform = "orthograd", before = "factored-moment" }]"#))[0],
            "orthograd"
        );
    }

    #[test]
    fn nested_options_and_none_are_understood() {
        let spec = ChainSpec::default()
            .with(
                &change("\"compat.wrong_row_mean\" = true\neps = \"none\"\nuse_stableadamw = false"),
                &Map::new(),
            )
            .unwrap();
        let options = spec.options().unwrap();
        assert!(options.compat.wrong_row_mean);
        assert_eq!(options.eps, None);
    }

    #[test]
    fn an_unknown_option_or_transform_is_an_error_that_shows_the_known_ones() {
        let with = |text: &str| ChainSpec::default().with(&change(text), &Map::new()).unwrap();
        let error = format!("{:#}", with("use_lion = true").options().unwrap_err());
        assert!(error.contains("use_lion") && error.contains("use_adopt"), "{error}");
        let error = with(r#"remove = ["lion"]"#).transforms(&Registry::shipped()).err().unwrap().to_string();
        assert!(error.contains("lion") && error.contains("schedule-free"), "{error}");
    }

    #[test]
    fn an_option_of_the_wrong_kind_is_named_and_so_is_one_that_would_have_no_effect() {
        let cases = [
            ("weight_decay = \"0.5\"", "option weight_decay = \"0.5\""),
            ("weight_decay = nan", "option weight_decay: a number that is not finite"),
            ("eps = nan", "option eps"), // and not Adam-atan2
            ("betas = [0.9, inf]", "option betas"),
            ("\"compat.wrong_row_mean\" = 3", "option compat.wrong_row_mean = 3"),
            ("compat = { wrong_row_mean = 3 }\n\"compat.wrong_row_mean\" = true", "options compat and"),
            ("seed = 3", "option seed"),
            ("prodigy_steps = -1\nlr = 0.5", "option prodigy_steps = -1"),
        ];
        for (text, expected) in cases {
            let options: Map<String, Value> = toml::from_str(text).unwrap();
            let error = format!("{:#}", ChainSpec { options, ..ChainSpec::default() }.options().unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
        let registry = Registry::shipped();
        let error = registry.transform(&json!({ "transform": "adopt", "beta2": "high" })).err().unwrap();
        assert!(format!("{error:#}").contains("option beta2"), "{error:#}");
        let error = registry.task("digits").unwrap().build(&json!({ "batch": "all" })).err().unwrap();
        assert!(format!("{error:#}").contains("option batch"), "{error:#}");
    }

    #[test]
    fn factors_that_contradict_each_other_are_refused_but_may_change_the_base() {
        let base = Map::from_iter([("d_coef".to_owned(), json!(2.0))]);
        let spec = ChainSpec { options: base.clone(), ..ChainSpec::default() };
        let first = spec.with(&change("d_coef = 0.5"), &base).unwrap();
        assert!(first.with(&change("d_coef = 0.5"), &base).is_ok());
        let error = first.with(&change("d_coef = 1.0"), &base).unwrap_err().to_string();
        assert!(error.contains("d_coef") && error.contains("0.5"), "{error}");
    }
}
