//! Names that nobody knows, and the nearest ones that somebody does.

use std::fmt;

use anyhow::{Error, Result};
use serde_json::Value;

/// A mistake about something that a study file names, so that it can be found there.
///
/// ```
/// use ablate_tasks::{AtFault, unknown};
///
/// let error = unknown("task", "digts", &["digits", "mnist"]).context("in a study");
/// let at_fault: &AtFault = error.downcast_ref().unwrap();
/// assert_eq!(at_fault.name(), "digts");
/// let AtFault { .. } = AtFault::new("lr", "option lr: a rate above 0");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtFault {
    name: String,
    message: String,
}

impl AtFault {
    /// A name of the file, and what is wrong about it.
    pub fn new(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self { name: name.into(), message: message.into() }
    }

    /// The name, as the file has it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for AtFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for AtFault {}

/// The error of a name that is none of the known ones: the nearest of them, where one is near, and all.
///
/// ```
/// use ablate_tasks::unknown;
///
/// let error = unknown("task", "digts", &["digits", "mnist"]).to_string();
/// assert_eq!(error, "there is no task \"digts\" (perhaps \"digits\"); choose from digits, mnist");
/// assert_eq!(unknown("task", "iris", &["digits"]).to_string(), "there is no task \"iris\"; choose from digits");
/// ```
pub fn unknown(what: &str, name: &str, known: &[&str]) -> Error {
    let nearest = nearest(name, known).map_or(String::new(), |nearest| format!(" (perhaps {nearest:?})"));
    let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
    AtFault::new(name, format!("there is no {what} {name:?}{nearest}; choose from {known}")).into()
}

/// The known name with the fewest typing errors, if they are few.
///
/// ```
/// use ablate_tasks::nearest;
///
/// assert_eq!(nearest("quik", &["quick", "switches"]), Some("quick"));
/// assert_eq!(nearest("mine", &["quick", "switches"]), None);
/// ```
pub fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let errors = |known: &&str| strsim::damerau_levenshtein(name, known);
    let nearest = known.iter().copied().min_by_key(errors)?;
    let is_near = 3 * errors(&nearest) <= name.chars().count().max(3);
    // A name that is cut short, or that was expected to be shorter.
    let is_part = name.len() > 2 && (nearest.contains(name) || name.contains(nearest));
    (is_near || is_part).then_some(nearest)
}

/// Checks that a table of options has only names of a table of all of them.
///
/// ```
/// use ablate_tasks::known_options;
///
/// let all = serde_json::json!({ "batch": 32, "hidden": [128, 64] });
/// assert!(known_options(&serde_json::json!({ "batch": 16 }), &all).is_ok());
/// let error = known_options(&serde_json::json!({ "hiden": [16] }), &all).unwrap_err().to_string();
/// assert_eq!(error, "there is no option \"hiden\" (perhaps \"hidden\"); choose from batch, hidden");
/// ```
///
/// # Errors
/// The first that is unknown.
pub fn known_options(options: &Value, all: &Value) -> Result<()> {
    let (Value::Object(options), Value::Object(all)) = (options, all) else { return Ok(()) };
    let known: Vec<&str> = all.keys().map(String::as_str).collect();
    match options.keys().find(|name| !all.contains_key(*name)) {
        Some(name) if known.is_empty() => {
            Err(AtFault::new(name, format!("there is no option {name:?}, and no other one")).into())
        }
        Some(name) => Err(unknown("option", name, &known)),
        None => Ok(()),
    }
}
