//! A snapshot as safetensors.

use std::collections::{BTreeMap, HashMap};

use gradient_transform::{Buffer, DType, GroupSnapshot, Optimizer, Real, Snapshot, TensorSnapshot};
use half::bf16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::migrate;

/// The version that is written.
pub(crate) const VERSION: u64 = 2;

/// Keys of the file's metadata.
const VERSION_KEY: &str = "checkpoint_version";
const HEADER_KEY: &str = "checkpoint";
const SUM_KEY: &str = "sha256";

/// Where a parameter's training point is, while it is at its evaluation point.
const TRAINING: &str = "optimizer/y";

#[derive(Serialize, Deserialize)]
struct Header {
    evaluating: bool,
    groups: Vec<GroupHeader>,
    parameters: BTreeMap<String, ParameterHeader>,
}

#[derive(Serialize, Deserialize)]
struct GroupHeader {
    /// For people: what stepped the group, with its hyperparameters.
    transforms: Vec<String>,
    /// For people: its learning rate.
    learning_rate: Option<f64>,
    state: GroupSnapshot,
}

#[derive(Serialize, Deserialize)]
struct ParameterHeader {
    shape: Vec<usize>,
    dtype: DType,
    updates: u64,
    /// `transform/array`; in the file with `parameter/` before it.
    arrays: Vec<String>,
}

pub(crate) fn write<T: Real>(optimizer: &Optimizer<T>) -> Result<Vec<u8>> {
    let Snapshot { evaluating, groups, tensors } = optimizer.snapshot();
    let groups = groups
        .into_iter()
        .enumerate()
        .map(|(group, state)| {
            let transforms = optimizer.transforms(group)?;
            Ok(GroupHeader { transforms, learning_rate: Some(optimizer.lr(group)?), state })
        })
        .collect::<Result<_>>()?;
    let mut arrays: BTreeMap<String, (Dtype, usize, Vec<u8>)> = BTreeMap::new();
    let mut parameters = BTreeMap::new();
    for (name, tensor) in &tensors {
        let TensorSnapshot { shape, dtype, updates, arrays: kept, training } = tensor;
        let kept = kept.iter().map(|(key, buffer)| (key.as_str(), buffer));
        let mut keys = Vec::new();
        if tensor.arrays.contains_key(TRAINING) {
            return Err(Error::OneName { name: format!("{name}/{TRAINING}") });
        }
        for (key, buffer) in kept.chain(training.as_ref().map(|y| (TRAINING, y))) {
            let full = format!("{name}/{key}");
            if arrays.insert(full.clone(), encoded(buffer)).is_some() {
                return Err(Error::OneName { name: full });
            }
            keys.push(key.to_owned());
        }
        let header = ParameterHeader { shape: shape.clone(), dtype: *dtype, updates: *updates, arrays: keys };
        parameters.insert(name.clone(), header);
    }
    let header = serde_json::to_string(&Header { evaluating, groups, parameters }).map_err(damaged)?;
    let sum = checksum(&header, arrays.iter().map(|(name, (_, _, bytes))| (name.as_str(), bytes.as_slice())));
    let metadata = HashMap::from([
        (VERSION_KEY.to_owned(), VERSION.to_string()),
        (HEADER_KEY.to_owned(), header),
        (SUM_KEY.to_owned(), sum),
    ]);
    let views = arrays
        .iter()
        .map(|(name, (dtype, len, bytes))| {
            Ok((name, TensorView::new(*dtype, vec![*len], bytes).map_err(damaged)?))
        })
        .collect::<Result<Vec<_>>>()?;
    safetensors::serialize(views, Some(metadata)).map_err(damaged)
}

pub(crate) fn read(bytes: &[u8]) -> Result<Snapshot> {
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let entry = |key: &str| {
        let found = metadata.metadata().as_ref().and_then(|entries| entries.get(key));
        found.ok_or_else(|| damaged(format!("its metadata has no `{key}`")))
    };
    let found: u64 = entry(VERSION_KEY)?.parse().map_err(damaged)?;
    if found > VERSION {
        return Err(Error::Newer { found, known: VERSION });
    }
    let header = entry(HEADER_KEY)?;
    let mut views: BTreeMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
    let sum = checksum(header, views.iter().map(|(name, view)| (name.as_str(), view.data())));
    if entry(SUM_KEY)? != &sum {
        return Err(damaged("its checksum is another one"));
    }
    let header = migrate::to_present(found, serde_json::from_str(header).map_err(damaged)?)?;
    let Header { evaluating, groups, parameters } = serde_json::from_value(header).map_err(damaged)?;
    let mut tensors = BTreeMap::new();
    for (name, ParameterHeader { shape, dtype, updates, arrays }) in parameters {
        let mut kept = BTreeMap::new();
        for key in arrays {
            let full = format!("{name}/{key}");
            let view = views.remove(&full).ok_or_else(|| damaged(format!("there is no array `{full}`")))?;
            kept.insert(key, decoded(&view)?);
        }
        let training = kept.remove(TRAINING);
        tensors.insert(name, TensorSnapshot { shape, dtype, updates, arrays: kept, training });
    }
    match views.into_keys().next() {
        Some(surplus) => Err(damaged(format!("array `{surplus}` belongs to no parameter"))),
        None => {
            let groups = groups.into_iter().map(|group| group.state).collect();
            Ok(Snapshot { evaluating, groups, tensors })
        }
    }
}

pub(crate) fn damaged(reason: impl ToString) -> Error {
    Error::Damaged { reason: reason.to_string() }
}

fn encoded(buffer: &Buffer) -> (Dtype, usize, Vec<u8>) {
    let (dtype, bytes) = match buffer {
        Buffer::F32(values) => (Dtype::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Buffer::Bf16(values) => (Dtype::BF16, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
        Buffer::F64(values) => (Dtype::F64, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
    };
    (dtype, buffer.len(), bytes)
}

fn decoded(view: &TensorView<'_>) -> Result<Buffer> {
    fn values<const N: usize, E>(bytes: &[u8], of: fn([u8; N]) -> E) -> Vec<E> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| of(*chunk)).collect()
    }
    Ok(match view.dtype() {
        Dtype::F32 => Buffer::F32(values(view.data(), f32::from_le_bytes)),
        Dtype::BF16 => Buffer::Bf16(values(view.data(), bf16::from_le_bytes)),
        Dtype::F64 => Buffer::F64(values(view.data(), f64::from_le_bytes)),
        other => return Err(damaged(format!("an array of {other:?}"))),
    })
}

/// SHA-256 of header, names and contents, each preceded by its length.
fn checksum<'a>(header: &'a str, arrays: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut digest = Sha256::new();
    let mut add = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    add(header.as_bytes());
    for (name, bytes) in arrays {
        add(name.as_bytes());
        add(bytes);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
