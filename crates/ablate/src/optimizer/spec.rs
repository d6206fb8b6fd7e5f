//! What determines an optimizer: options, and edits of the chain that they make.

use anyhow::{Context, Result, bail, ensure};
use gradient_transform::{GradientTransform, Optimizer, ParameterGroup, Rounding};
use prodigy_plus::Options;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::registry::Registry;
use crate::study::{Change, Insertion};

type Boxed = Box<dyn GradientTransform<f32>>;

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
        let mut tree = Map::new();
        for (name, value) in &self.options {
            let mut table = &mut tree;
            let mut path = name.split('.').peekable();
            while let Some(key) = path.next() {
                if path.peek().is_none() {
                    table.insert(key.to_owned(), none_is_null(value));
                    break;
                }
                let inner = table.entry(key).or_insert_with(|| Value::Object(Map::new()));
                table = inner.as_object_mut().with_context(|| format!("option {name}: {key} is no table"))?;
            }
        }
        serde_json::from_value(Value::Object(tree))
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
    fn factors_that_contradict_each_other_are_refused_but_may_change_the_base() {
        let base = Map::from_iter([("d_coef".to_owned(), json!(2.0))]);
        let spec = ChainSpec { options: base.clone(), ..ChainSpec::default() };
        let first = spec.with(&change("d_coef = 0.5"), &base).unwrap();
        assert!(first.with(&change("d_coef = 0.5"), &base).is_ok());
        let error = first.with(&change("d_coef = 1.0"), &base).unwrap_err().to_string();
        assert!(error.contains("d_coef") && error.contains("0.5"), "{error}");
    }
}
