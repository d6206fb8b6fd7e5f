//! Registry of the names in a study: included and custom tasks and transforms.

use ablate_tasks::{TaskKind, unknown};
use ablate_transforms::Boxed;
pub use ablate_transforms::{TransformKind, WRAPPED, written_options};
use anyhow::Result;
use serde_json::Value;

/// Tasks and transforms by name.
///
/// ```
/// use ablate::registry::{Registry, TransformKind, WRAPPED, written_options};
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
/// let limit = registry.transforms().iter().find(|kind| kind.name == "limit").unwrap();
/// assert_eq!(written_options(&limit.defaults), ["at = 1.0"]);
///
/// let limit = registry.transform(&serde_json::json!({"transform": "limit", "at": 0.5}))?;
/// assert_eq!(limit.name(), "limit");
/// let of_matrices = serde_json::json!({"transform": "only-for", "least_rank": 2, WRAPPED: "limit"});
/// assert_eq!(registry.transform(&of_matrices)?.name(), "limit");
/// assert!(registry.task("digits").is_ok());
/// let error = registry.task("digts").err().unwrap().to_string();
/// assert!(error.contains("perhaps \"digits\"") && error.contains("choose from"));
/// # Ok::<(), anyhow::Error>(())
/// ```
pub struct Registry {
    tasks: Vec<TaskKind>,
    transforms: Vec<TransformKind>,
    /// Version of custom tasks and transforms: part of every stored run's address.
    version: String,
}

impl Registry {
    /// Registry of the included tasks and transforms.
    pub fn shipped() -> Self {
        Self {
            tasks: ablate_tasks::shipped(),
            transforms: ablate_transforms::shipped(),
            version: String::new(),
        }
    }

    /// With a custom task, which replaces an included one of the same name.
    #[must_use]
    pub fn with_task(mut self, kind: TaskKind) -> Self {
        self.tasks.retain(|other| other.name != kind.name);
        self.tasks.push(kind);
        self
    }

    /// With a custom transform, which replaces an included one of the same name.
    #[must_use]
    pub fn with_transform(mut self, kind: TransformKind) -> Self {
        self.transforms.retain(|other| other.name != kind.name);
        self.transforms.push(kind);
        self
    }

    /// With a version of custom tasks and transforms. A new version makes stored runs invalid. It is necessary because
    /// only the sources of this project are compared.
    #[must_use]
    pub fn with_version(self, version: &str) -> Self {
        Self { version: version.to_owned(), ..self }
    }

    /// Version of custom tasks and transforms.
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
        ablate_transforms::build(&self.transforms, described)
    }
}
