//! Stored run: its record, and further output of a command.
//!
//! ```
//! use ablate::measured::{Further, Measured};
//!
//! # let evaluation = ablate_tasks::Evaluation { loss: 0.5, accuracy: None };
//! # let record = ablate::record::Record {
//! #     outcome: ablate::record::Outcome::Finished { evaluation },
//! #     curve: vec![],
//! #     steps: 10,
//! #     skipped: 0,
//! #     state_bytes: None,
//! #     initial_sha256: String::new(),
//! #     batches_sha256: String::new(),
//! #     trajectory_sha256: String::new(),
//! #     forked: None, findings: vec![],
//! # };
//! let mut measured = Measured::from(record); // of an included task, which has no other numbers
//! let rates: Further = [("learning rate".to_owned(), vec![(0, 0.1), (100, 0.01)])].into();
//! measured.further = rates;
//! assert!(measured.unmeasured.is_empty());
//! ```

use std::collections::BTreeMap;

use ablate_tasks::Split;
use serde::{Deserialize, Serialize};

use crate::record::Record;

/// Numbers in addition to losses and accuracies, by name, each a curve of (step, value).
pub type Further = BTreeMap<String, Vec<(usize, f64)>>;

/// A run as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Record of every run.
    #[serde(flatten)]
    pub record: Record,
    /// Further output of a command; none for an included task.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub further: Further,
    /// Splits of which a command said nothing. Where the record has numbers of them, they are another split's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmeasured: Vec<Split>,
}

impl From<Record> for Measured {
    fn from(record: Record) -> Self {
        Self { record, further: BTreeMap::new(), unmeasured: Vec::new() }
    }
}
