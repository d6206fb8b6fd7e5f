//! What a study can name: tasks and transforms, those that ship and a user's own.

use ablate_tasks::{TaskKind, read_options};
use anyhow::{Context, Result, bail};
use gradient_transform::Link;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::transforms;

type Boxed = Box<dyn Link<f32>>;
type Build = Box<dyn Fn(&Value) -> Result<Boxed> + Send + Sync>;

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
        let build = move |options: &Value| -> Result<Boxed> {
            let options = read_options(options, Clone::clone)
                .with_context(|| format!("in the options of transform {called}"))?;
            Ok(Box::new(build(options)))
        };
        Self {
            name: name.to_owned(),
            summary: summary.to_owned(),
            defaults: serde_json::to_value(Options::default()).unwrap_or_default(),
            build: Box::new(build),
        }
    }
}

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
///     at: f32,
/// }
///
/// impl Default for Limit {
///     fn default() -> Self {
///         Self { at: 1.0 }
///     }
/// }
///
/// let kind = TransformKind::new("limit", "bounds every element", |limit: Limit| {
///     map("limit", move |_step, u: f32, _g, _y| u.clamp(-limit.at, limit.at))
/// });
/// let registry = Registry::shipped()
///     .with_transform(kind)
///     .with_task(ablate_tasks::shipped().remove(0)) // a task of one's own is made as these are
///     .with_version("1"); // to be raised with every change of them
/// assert_eq!((registry.version(), registry.tasks().len()), ("1", ablate_tasks::shipped().len()));
/// assert!(registry.transforms().iter().any(|kind| kind.name == "limit" && kind.defaults["at"] == 1.0));
///
/// let limit = registry.transform(&serde_json::json!({"transform": "limit", "at": 0.5}))?;
/// assert_eq!(limit.name(), "limit");
/// assert!(registry.task("digits").is_ok());
/// let error = registry.task("iris").err().unwrap().to_string();
/// assert!(error.contains("choose from") && error.contains("digits"));
/// # Ok::<(), anyhow::Error>(())
/// ```
pub struct Registry {
    tasks: Vec<TaskKind>,
    transforms: Vec<TransformKind>,
    /// What decides the results of a user's own tasks and transforms: part of every stored run's address.
    version: String,
}

impl Registry {
    /// All that ships.
    pub fn shipped() -> Self {
        Self { tasks: ablate_tasks::shipped(), transforms: transforms::shipped(), version: String::new() }
    }

    /// With a task of one's own, which hides one of the same name that ships.
    #[must_use]
    pub fn with_task(mut self, kind: TaskKind) -> Self {
        self.tasks.retain(|other| other.name != kind.name);
        self.tasks.push(kind);
        self
    }

    /// With a transform of one's own, which hides one of the same name that ships.
    #[must_use]
    pub fn with_transform(mut self, kind: TransformKind) -> Self {
        self.transforms.retain(|other| other.name != kind.name);
        self.transforms.push(kind);
        self
    }

    /// With a version of one's own tasks and transforms: a change makes stored runs count no longer. Their sources are not
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

    /// Every transform that can be inserted into a chain.
    pub fn transforms(&self) -> &[TransformKind] {
        &self.transforms
    }

    /// The task of a name.
    ///
    /// # Errors
    /// There is none.
    pub fn task(&self, name: &str) -> Result<&TaskKind> {
        let found = self.tasks.iter().find(|kind| kind.name == name);
        found.with_context(|| {
            let known: Vec<&str> = self.tasks.iter().map(|kind| kind.name.as_str()).collect();
            format!("there is no task {name:?}; choose from {}", known.join(", "))
        })
    }

    /// A transform, from its name or from a table of `transform` and options.
    ///
    /// # Errors
    /// There is none of this name, or an option is wrong.
    pub fn transform(&self, described: &Value) -> Result<Boxed> {
        let (name, options) = match described {
            Value::String(name) => (name.clone(), Value::Object(Map::new())),
            Value::Object(table) => {
                let mut table = table.clone();
                let Some(Value::String(name)) = table.remove("transform") else {
                    bail!("a table of a transform needs its name under `transform`: {described}")
                };
                (name, Value::Object(table))
            }
            other => bail!("a transform is a name or a table, not {other}"),
        };
        let found = self.transforms.iter().find(|kind| kind.name == name);
        let kind = found.with_context(|| {
            let known: Vec<&str> = self.transforms.iter().map(|kind| kind.name.as_str()).collect();
            format!("there is no transform {name:?}; choose from {}", known.join(", "))
        })?;
        (kind.build)(&options)
    }
}
