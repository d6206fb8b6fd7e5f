//! Kinds of transforms, by name.

use ablate_tasks::{known_options, read_options, unknown};
use anyhow::{Context, Result, bail};
use gradient_transform::Link;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A transform, whatever its type.
pub type Boxed = Box<dyn Link<f32>>;

/// Makes transforms from a name or a table.
pub type Resolve<'r> = dyn Fn(&Value) -> Result<Boxed> + 'r;

type Build = Box<dyn Fn(&Resolve<'_>, &Value) -> Result<Boxed> + Send + Sync>;

/// A transform as study files know it: a name, and options that make a [`Link`].
pub struct TransformKind {
    /// The name in study files.
    pub name: String,
    /// One line for lists.
    pub summary: String,
    /// The options and their defaults.
    pub defaults: Value,
    build: Build,
}

impl TransformKind {
    /// A kind whose options are those that `Options` reads; they should have defaults and refuse unknown names
    /// (`#[serde(default, deny_unknown_fields)]`).
    pub fn new<Options, G>(
        name: &str,
        summary: &str,
        build: impl Fn(Options) -> G + Send + Sync + 'static,
    ) -> Self
    where
        Options: DeserializeOwned + Serialize + Default,
        G: Link<f32> + 'static,
    {
        let called = name.to_owned();
        let defaults = serde_json::to_value(Options::default()).unwrap_or_default();
        let known = defaults.clone();
        let build = move |_: &Resolve<'_>, options: &Value| -> Result<Boxed> {
            let in_transform = || format!("in the options of transform {called}");
            known_options(options, &known).with_context(in_transform)?;
            Ok(Box::new(build(read_options(options, Clone::clone).with_context(in_transform)?)))
        };
        Self { name: name.to_owned(), summary: summary.to_owned(), defaults, build: Box::new(build) }
    }

    /// Kind that wraps another transform. This is under [`WRAPPED`], described as in a chain, next to the wrapper's own
    /// options.
    ///
    /// ```
    /// use ablate_transforms::{TransformKind, WRAPPED, build, shipped};
    /// use gradient_transform::{Link, only_for};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Default, Serialize, Deserialize)]
    /// #[serde(default, deny_unknown_fields)]
    /// struct Rank {
    ///     least: usize,
    /// }
    ///
    /// let kind = TransformKind::wrapping("of-rank", "for tensors of a rank", |rank: Rank, wrapped| {
    ///     Ok(only_for(move |tensor| tensor.shape.len() >= rank.least, wrapped))
    /// });
    /// let kinds: Vec<TransformKind> = shipped().into_iter().chain([kind]).collect();
    /// let described = serde_json::json!({ "transform": "of-rank", "least": 2, WRAPPED: { "transform": "adam", "beta1": 0.5 } });
    /// assert_eq!(build(&kinds, &described)?.name(), "adam");
    /// # Ok::<(), anyhow::Error>(())
    /// ```
    pub fn wrapping<Options, G>(
        name: &str,
        summary: &str,
        build: impl Fn(Options, Boxed) -> Result<G> + Send + Sync + 'static,
    ) -> Self
    where
        Options: DeserializeOwned + Serialize + Default,
        G: Link<f32> + 'static,
    {
        let called = name.to_owned();
        let mut defaults = serde_json::to_value(Options::default()).unwrap_or_default();
        let known = defaults.clone();
        if let Value::Object(defaults) = &mut defaults {
            defaults.insert(WRAPPED.to_owned(), "a transform".into());
        }
        let build = move |resolve: &Resolve<'_>, options: &Value| -> Result<Boxed> {
            let in_transform = || format!("in the options of transform {called}");
            let mut own = options.as_object().cloned().unwrap_or_default();
            let wrapped = own.remove(WRAPPED);
            let wrapped = wrapped.with_context(|| format!("it needs a transform under `{WRAPPED}`"));
            let wrapped = resolve(&wrapped.with_context(in_transform)?).with_context(in_transform)?;
            let own = Value::Object(own);
            known_options(&own, &known).with_context(in_transform)?;
            let options = read_options(&own, Clone::clone).with_context(in_transform)?;
            Ok(Box::new(build(options, wrapped).with_context(in_transform)?))
        };
        Self { name: name.to_owned(), summary: summary.to_owned(), defaults, build: Box::new(build) }
    }

    /// The transform with these options, a table in which the absent ones have their defaults. A wrapper asks `resolve`
    /// for what it wraps.
    ///
    /// ```
    /// use ablate_transforms::{Boxed, Resolve, shipped};
    /// use serde_json::{Value, json};
    ///
    /// let resolve: &Resolve<'_> = &|described: &Value| -> anyhow::Result<Boxed> { anyhow::bail!("it wraps nothing: {described}") };
    /// let adam = shipped().into_iter().find(|kind| kind.name == "adam").unwrap();
    /// assert_eq!(adam.build(resolve, &json!({ "beta1": 0.5 }))?.name(), "adam");
    /// assert!(adam.build(resolve, &json!({ "beta_1": 0.5 })).is_err());
    /// # Ok::<(), anyhow::Error>(())
    /// ```
    ///
    /// # Errors
    /// An option is unknown or out of range.
    pub fn build(&self, resolve: &Resolve<'_>, options: &Value) -> Result<Boxed> {
        (self.build)(resolve, options)
    }
}

/// The option under which a wrapper has what it wraps.
pub const WRAPPED: &str = "wraps";

/// Options with their defaults, as in a study file; only the name of an option without a default.
///
/// ```
/// use ablate_transforms::written_options;
///
/// let defaults = serde_json::json!({ "beta": 0.9, "growth": null, "samples": { "every": 11 } });
/// assert_eq!(written_options(&defaults), ["beta = 0.9", "growth", "samples = { every = 11 }"]);
/// ```
pub fn written_options(defaults: &Value) -> Vec<String> {
    let written = |value: &Value| match value {
        Value::Object(_) => format!("{{ {} }}", written_options(value).join(", ")),
        value => value.to_string(),
    };
    let option = |(name, default): (&String, &Value)| match default {
        Value::Null => name.clone(),
        default => format!("{name} = {}", written(default)),
    };
    defaults.as_object().into_iter().flatten().map(option).collect()
}

/// The transform of one of these kinds, from its name or from a table of `transform` and options.
///
/// ```
/// use ablate_transforms::{Boxed, build, shipped};
///
/// let adam: Boxed = build(&shipped(), &serde_json::json!({ "transform": "adam", "beta1": 0.5 }))?;
/// assert_eq!(adam.name(), "adam");
/// let error = build(&shipped(), &"adan2".into()).err().unwrap().to_string();
/// assert!(error.contains("perhaps \"adan\""));
/// # Ok::<(), anyhow::Error>(())
/// ```
///
/// # Errors
/// No kind has this name, or an option is wrong.
pub fn build(kinds: &[TransformKind], described: &Value) -> Result<Boxed> {
    let (name, options) = described_transform(described)?;
    let found = kinds.iter().find(|kind| kind.name == name);
    let kind = found.ok_or_else(|| {
        let known: Vec<&str> = kinds.iter().map(|kind| kind.name.as_str()).collect();
        unknown("transform", &name, &known)
    })?;
    kind.build(&|wrapped| build(kinds, wrapped), &Value::Object(options))
}

/// Name and options of a transform, from its name or from a table of `transform` and options.
///
/// ```
/// let (name, options) = ablate_transforms::described_transform(&serde_json::json!({ "transform": "adam", "beta1": 0.5 }))?;
/// assert_eq!((name.as_str(), &options["beta1"]), ("adam", &0.5.into()));
/// # Ok::<(), anyhow::Error>(())
/// ```
///
/// # Errors
/// A value that is neither.
pub fn described_transform(described: &Value) -> Result<(String, Map<String, Value>)> {
    match described {
        Value::String(name) => Ok((name.clone(), Map::new())),
        Value::Object(table) => {
            let mut table = table.clone();
            match table.remove("transform") {
                Some(Value::String(name)) => Ok((name, table)),
                _ => bail!("a table of a transform needs its name under `transform`: {described}"),
            }
        }
        other => bail!("a transform is a name or a table, not {other}"),
    }
}
