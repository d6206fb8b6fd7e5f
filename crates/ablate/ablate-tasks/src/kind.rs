use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::autoencoder::Autoencoder;
use crate::characters::Characters;
use crate::digits::Digits;
use crate::gpt::Gpt;
use crate::lora::Lora;
use crate::mnist::Mnist;
use crate::modular::Modular;
use crate::names::{AtFault, known_options};
use crate::quadratic::Quadratic;
use crate::residual::Residual;
use crate::rosenbrock::Rosenbrock;
use crate::task::Task;
use crate::words::plain_words;

type Build = Box<dyn Fn(&Value) -> Result<Box<dyn Task>> + Send + Sync>;

/// A task as study files know it: a name, and options that make a [`Task`].
pub struct TaskKind {
    /// The name in study files.
    pub name: String,
    /// One line for lists.
    pub summary: String,
    /// The options and their defaults.
    pub defaults: Value,
    build: Build,
}

impl TaskKind {
    /// A kind whose options are those that `Options` reads; they should have defaults and refuse unknown names
    /// (`#[serde(default, deny_unknown_fields)]`). `build` may fail, with what is wrong about an option.
    pub fn new<Options, T>(
        name: &str,
        summary: &str,
        build: impl Fn(Options) -> Result<T> + Send + Sync + 'static,
    ) -> Self
    where
        Options: DeserializeOwned + Serialize + Default,
        T: Task + 'static,
    {
        let called = name.to_owned();
        let defaults = serde_json::to_value(Options::default()).unwrap_or_default();
        let known = defaults.clone();
        let build = move |options: &Value| -> Result<Box<dyn Task>> {
            let in_task = || format!("in the options of task {called}");
            known_options(options, &known).with_context(in_task)?;
            let options: Options = read_options(options, Clone::clone).with_context(in_task)?;
            Ok(Box::new(build(options).with_context(in_task)?))
        };
        Self { name: name.to_owned(), summary: summary.to_owned(), defaults, build: Box::new(build) }
    }

    /// The task with the given options, a table in which the absent ones have their defaults.
    ///
    /// # Errors
    /// An unknown option or one out of range, or data that cannot be read.
    pub fn build(&self, options: &Value) -> Result<Box<dyn Task>> {
        (self.build)(options)
    }
}

/// Options from a table, in which the absent ones have their defaults. `arrange` makes of it what serde reads.
///
/// ```
/// use ablate_tasks::read_options;
/// use serde::Deserialize;
///
/// #[derive(Debug, Default, Deserialize)]
/// #[serde(default, deny_unknown_fields)]
/// struct Options {
///     momentum: f64,
/// }
///
/// let error = read_options::<Options>(&serde_json::json!({ "momentum": "0.5" }), Clone::clone).unwrap_err().to_string();
/// assert!(error.contains("momentum = \"0.5\"") && error.contains("expected a number"), "{error}");
/// ```
///
/// # Errors
/// One that is unknown or of the wrong kind, by its name.
pub fn read_options<Options: DeserializeOwned>(
    options: &Value,
    arrange: impl Fn(&Map<String, Value>) -> Map<String, Value>,
) -> Result<Options> {
    let read = |value| serde_json::from_value::<Options>(value);
    let Value::Object(table) = options else { return Ok(read(options.clone())?) };
    let mut options = None;
    read_table(table, &|table| arrange(table), &mut |value| {
        options = Some(read(value)?);
        Ok(())
    })?;
    options.context("options were read")
}

type Table = Map<String, Value>;

/// The part of it that is the same for all types of options, so that it is compiled once.
fn read_table(
    table: &Table,
    arrange: &dyn Fn(&Table) -> Table,
    read: &mut dyn FnMut(Value) -> serde_json::Result<()>,
) -> Result<()> {
    for (name, value) in table {
        ensure!(
            !has_null(value),
            AtFault::new(name, format!("option {name}: a number that is not finite (nan or inf)"))
        );
    }
    let all = read(Value::Object(arrange(table)));
    if all.is_err() {
        // serde says what is wrong, and not where: by itself, only the option at fault is refused.
        for (name, value) in table {
            let alone = Map::from_iter([(name.clone(), value.clone())]);
            if let Err(error) = read(Value::Object(arrange(&alone))) {
                let said = error.to_string();
                // Its name is in what serde says about a name.
                return Err(
                    AtFault::new(name, format!("option {name} = {value}: {}", plain_words(&said))).into()
                );
            }
        }
    }
    all.map_err(|error| anyhow!("{}", plain_words(&error.to_string())))
}

/// Study files have no null; a number that JSON does not have becomes one.
fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.iter().any(has_null),
        Value::Object(table) => table.values().any(has_null),
        _ => false,
    }
}

/// The included tasks.
///
/// ```
/// use ablate_tasks::{Split, shipped};
///
/// let kind = shipped().into_iter().find(|kind| kind.name == "quadratic").unwrap();
/// let task = kind.build(&serde_json::json!({}))?;
/// let (about, start) = (task.about(), task.initial_parameters(0));
/// assert_eq!((about.steps, start[0].shape.as_slice()), (3000, &[24, 24][..]));
/// let weights = [&start[0].values[..]];
/// let gradients = task.gradients(&weights, &task.batch(0, 0))?;
/// assert_eq!(gradients.of[0].as_ref().map(Vec::len), Some(576));
/// assert!(task.evaluate(&weights, Split::Validation)?.loss > about.target);
/// # Ok::<(), anyhow::Error>(())
/// ```
pub fn shipped() -> Vec<TaskKind> {
    vec![
        TaskKind::new("digits", "handwritten digits (8x8 pixels) with a multilayer perceptron", Digits::new),
        TaskKind::new(
            "autoencoder",
            "the same digits through a narrow code; two parameter groups",
            Autoencoder::new,
        ),
        TaskKind::new(
            "characters",
            "a small transformer on Jane Austen's Persuasion, by characters",
            Characters::new,
        ),
        TaskKind::new(
            "gpt",
            "the same text with a GPT of a million parameters: rotary positions, SwiGLU; minutes a run",
            Gpt::new,
        ),
        TaskKind::new(
            "residual",
            "the digits with a residual convolutional network; minutes a run",
            Residual::new,
        ),
        TaskKind::new("lora", "low-rank adaptation of a pretrained perceptron to turned digits", Lora::new),
        TaskKind::new(
            "mnist",
            "MNIST with a convolutional network; its option `data` names the files' folder",
            Mnist::new,
        ),
        TaskKind::new("modular", "addition modulo a prime, learned by heart or understood", Modular::new),
        TaskKind::new("quadratic", "a noisy, ill-conditioned quadratic in closed form", Quadratic::new),
        TaskKind::new("rosenbrock", "Rosenbrock's valley in two dimensions, with noise", Rosenbrock::new),
    ]
}
