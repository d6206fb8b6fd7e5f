//! Registry of the names in a study: tasks and transforms, those that ship and a user's own.

use ablate_tasks::{TaskKind, known_options, read_options, unknown};
use anyhow::{Context, Result, bail};
use gradient_transform::Link;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::transforms;

type Boxed = Box<dyn Link<f32>>;
type Build = Box<dyn Fn(&Registry, &Value) -> Result<Boxed> + Send + Sync>;

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
        let build = move |_: &Registry, options: &Value| -> Result<Boxed> {
            let in_transform = || format!("in the options of transform {called}");
            known_options(options, &known).with_context(in_transform)?;
            Ok(Box::new(build(read_options(options, Clone::clone).with_context(in_transform)?)))
        };
        Self { name: name.to_owned(), summary: summary.to_owned(), defaults, build: Box::new(build) }
    }

    /// A kind that wraps another transform, which stands under [`WRAPPED`] as it would in a chain, beside options of its own.
    ///
    /// ```
    /// use ablate::registry::{Registry, TransformKind, WRAPPED};
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
    /// let registry = Registry::shipped().with_transform(kind);
    /// let described = serde_json::json!({ "transform": "of-rank", "least": 2, WRAPPED: { "transform": "adam", "beta1": 0.5 } });
    /// assert_eq!(registry.transform(&described)?.name(), "adam");
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
        let build = move |registry: &Registry, options: &Value| -> Result<Boxed> {
            let in_transform = || format!("in the options of transform {called}");
            let mut own = options.as_object().cloned().unwrap_or_default();
            let wrapped = own.remove(WRAPPED);
            let wrapped = wrapped.with_context(|| format!("it needs a transform under `{WRAPPED}`"));
            let wrapped =
                registry.transform(&wrapped.with_context(in_transform)?).with_context(in_transform)?;
            let own = Value::Object(own);
            known_options(&own, &known).with_context(in_transform)?;
            let options = read_options(&own, Clone::clone).with_context(in_transform)?;
            Ok(Box::new(build(options, wrapped).with_context(in_transform)?))
        };
        Self { name: name.to_owned(), summary: summary.to_owned(), defaults, build: Box::new(build) }
    }
}

/// Options with their defaults, as a study file writes them; by its name alone one that has no value until it is given one.
///
/// ```
/// use ablate::registry::written_options;
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

/// The option under which a wrapper has what it wraps.
pub const WRAPPED: &str = "wraps";

/// Tasks and transforms by name.
///
/// ```
/// use ablate::registry::{Registry, TransformKind};
/// use gradient_transform::{Link, map};
/// use serde::{Deserialize, Serialize};
///
/// /// What a study file may say of it: `{ transform = "limit", at = 0.5 }`.
/// #[derive(Serialize, Deserialize)]
/// #[serde(default, deny_unknown_fields)]
/// struct Limit {
///     at: f64,
/// }
///
/// impl Default for Limit {
///     fn default() -> Self {
///         Self { at: 1.0 }
///     }
/// }
///
/// let kind = TransformKind::new("limit", "bounds every element", |limit: Limit| {
///     map!("limit", |_| { at: limit.at }, |u| u.max(-at).min(at))
/// });
/// let registry = Registry::shipped()
///     .with_transform(kind)
///     .with_task(ablate_tasks::shipped().remove(0)) // a custom task is made as these are
///     .with_version("1"); // to be raised with every change of them
/// assert_eq!((registry.version(), registry.tasks().len()), ("1", ablate_tasks::shipped().len()));
/// assert!(registry.transforms().iter().any(|kind| kind.name == "limit" && kind.defaults["at"] == 1.0));
///
/// let limit = registry.transform(&serde_json::json!({"transform": "limit", "at": 0.5}))?;
/// assert_eq!(limit.name(), "limit");
/// assert!(registry.task("digits").is_ok());
/// let error = registry.task("digts").err().unwrap().to_string();
/// assert!(error.contains("perhaps \"digits\"") && error.contains("choose from"));
/// # Ok::<(), anyhow::Error>(())
/// ```
pub struct Registry {
    tasks: Vec<TaskKind>,
    transforms: Vec<TransformKind>,
    /// Version of a user's own tasks and transforms: part of every stored run's address.
    version: String,
}

impl Registry {
    /// All that ships.
    pub fn shipped() -> Self {
        Self { tasks: ablate_tasks::shipped(), transforms: transforms::shipped(), version: String::new() }
    }

    /// With a custom task, which hides one of the same name that ships.
    #[must_use]
    pub fn with_task(mut self, kind: TaskKind) -> Self {
        self.tasks.retain(|other| other.name != kind.name);
        self.tasks.push(kind);
        self
    }

    /// With a custom transform, which hides one of the same name that ships.
    #[must_use]
    pub fn with_transform(mut self, kind: TransformKind) -> Self {
        self.transforms.retain(|other| other.name != kind.name);
        self.transforms.push(kind);
        self
    }

    /// With a version of custom tasks and transforms: a change makes stored runs count no longer. Their sources are not
    /// seen, as those of this project are.
    #[must_use]
    pub fn with_version(self, version: &str) -> Self {
        Self { version: version.to_owned(), ..self }
    }

    /// The version of a user's own parts.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Every task.
    pub fn tasks(&self) -> &[TaskKind] {
        &self.tasks
    }

    /// Every transform that a chain can be made of.
    pub fn transforms(&self) -> &[TransformKind] {
        &self.transforms
    }

    /// The task of a name.
    ///
    /// # Errors
    /// Fails if no task has this name.
    pub fn task(&self, name: &str) -> Result<&TaskKind> {
        let found = self.tasks.iter().find(|kind| kind.name == name);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.tasks.iter().map(|kind| kind.name.as_str()).collect();
            unknown("task", name, &known)
        })
    }

    /// A transform, from its name or from a table of `transform` and options.
    ///
    /// # Errors
    /// Fails if no transform has this name, or if an option is wrong.
    pub fn transform(&self, described: &Value) -> Result<Boxed> {
        let (name, options) = described_transform(described)?;
        let found = self.transforms.iter().find(|kind| kind.name == name);
        let kind = found.ok_or_else(|| {
            let known: Vec<&str> = self.transforms.iter().map(|kind| kind.name.as_str()).collect();
            unknown("transform", &name, &known)
        })?;
        (kind.build)(self, &Value::Object(options))
    }
}

/// Name and options of a transform, from its name or from a table of `transform` and options.
pub(crate) fn described_transform(described: &Value) -> Result<(String, Map<String, Value>)> {
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
