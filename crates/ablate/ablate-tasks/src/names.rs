//! Names that nobody knows, and the nearest ones that somebody does.

use anyhow::{Error, Result, anyhow};
use serde_json::Value;

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
    anyhow!("there is no {what} {name:?}{nearest}; choose from {known}")
}

/// Of the known names the one with the fewest typing errors between, if they are few.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let errors = |known: &&str| strsim::damerau_levenshtein(name, known);
    let nearest = known.iter().copied().min_by_key(errors)?;
    let is_near = 3 * errors(&nearest) <= name.chars().count().max(3);
    // A name that is cut short, or that was expected to be shorter.
    let is_part = name.len() > 2 && (nearest.contains(name) || name.contains(nearest));
    (is_near || is_part).then_some(nearest)
}

/// That a table of options has no other names than a table of all of them.
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
        Some(name) if known.is_empty() => Err(anyhow!("there is no option {name:?}, and no other one")),
        Some(name) => Err(unknown("option", name, &known)),
        None => Ok(()),
    }
}
