//! Content of a file: safetensors whose metadata has a header in JSON and a checksum.

use std::collections::{BTreeMap, BTreeSet};

use gradient_transform::{DType, GroupSnapshot};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Error;

/// The version that is written.
pub(crate) const VERSION: u64 = 4;

/// Keys of the file's metadata.
pub(crate) const VERSION_KEY: &str = "checkpoint_version";
pub(crate) const HEADER_KEY: &str = "checkpoint";
pub(crate) const SUM_KEY: &str = "sha256";

/// Bytes of the length at the start of a file; the contents are aligned to this number.
pub(crate) const LENGTH: usize = 8;

/// Key of a parameter's training point, while it is at its evaluation point.
pub(crate) const TRAINING: &str = "optimizer/y";

/// Shorter arrays are joined with those of other parameters. A separate name and offset would take longer to
/// write and to read than the array, and files cannot have a million of them.
pub(crate) const JOINED_BELOW: usize = 1024;

#[derive(Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) evaluating: bool,
    pub(crate) groups: Vec<GroupHeader>,
    pub(crate) kinds: Vec<Kind>,
    /// The number of its kind, for every parameter that has had a gradient.
    pub(crate) parameters: BTreeMap<String, usize>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct GroupHeader {
    /// For people: its learning rate.
    pub(crate) learning_rate: Option<f64>,
    pub(crate) state: GroupSnapshot,
}

/// Description of a parameter without its name, once for all parameters that share it.
#[derive(PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Kind {
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: DType,
    pub(crate) updates: u64,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) fresh: BTreeSet<String>,
    /// By `transform/array`: the type and the number of the elements that are in the joined array of this type and key, after those
    /// of the parameters with an earlier name; or nothing, if `parameter/transform/array` is a separate
    /// array.
    pub(crate) arrays: BTreeMap<String, Option<(DType, usize)>>,
}

/// The name of the array in the file that has all parameters' parts of one type and key.
pub(crate) fn joined(dtype: DType, key: &str) -> String {
    let dtype = match dtype {
        DType::F32 => "f32",
        DType::Bf16 => "bf16",
        DType::F64 => "f64",
    };
    ["joined", dtype, key].join("/")
}

/// The name of an array of one parameter.
pub(crate) fn own(parameter: &str, key: &str) -> String {
    [parameter, "/", key].concat()
}

pub(crate) fn in_file(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::Bf16 => Dtype::BF16,
        DType::F64 => Dtype::F64,
    }
}

pub(crate) fn damaged(reason: impl ToString) -> Error {
    Error::Damaged { reason: reason.to_string() }
}

/// SHA-256 of header, names and contents, in the order of the names, each preceded by its length.
pub(crate) struct Checksum(Sha256);

impl Checksum {
    pub(crate) fn of(header: &str) -> Self {
        let mut sum = Self(Sha256::new());
        sum.0.update((header.len() as u64).to_le_bytes());
        sum.0.update(header);
        sum
    }

    /// Head of a content of `len` bytes.
    pub(crate) fn name(&mut self, name: &str, len: usize) {
        self.0.update((name.len() as u64).to_le_bytes());
        self.0.update(name);
        self.0.update((len as u64).to_le_bytes());
    }

    pub(crate) fn content(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    pub(crate) fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
