//! Change of a chain, as a study file has it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Change of the base: options by name, and edits of the resulting chain.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Change {
    /// Transforms to leave out, by name.
    #[serde(default)]
    pub remove: Vec<String>,
    /// Transforms that replace another, by the other's name.
    #[serde(default)]
    pub replace: Map<String, Value>,
    /// Transforms to add.
    #[serde(default)]
    pub insert: Vec<Insertion>,
    /// Options to set.
    #[serde(flatten)]
    pub options: Map<String, Value>,
}

/// A transform to add to a chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Insertion {
    /// The transform's name, or a table of `transform` and options.
    pub transform: Value,
    /// Transform before which it is inserted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Transform after which it is inserted; exactly one of the two is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}
