//! A snapshot as safetensors.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::io::{self, Write};

use gradient_transform::{Buffer, DType, GroupSnapshot, Optimizer, Real, Snapshot, TensorSnapshot};
use half::bf16;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::migrate;

/// The version that is written.
pub(crate) const VERSION: u64 = 3;

/// Keys of the file's metadata.
const VERSION_KEY: &str = "checkpoint_version";
const HEADER_KEY: &str = "checkpoint";
const SUM_KEY: &str = "sha256";

/// Bytes of the length that a file begins with; what follows is aligned to as many.
const LENGTH: usize = 8;

/// Longer headers are read by no reader of safetensors.
const LONGEST_HEADER: usize = 100_000_000;

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
    /// For people: its learning rate.
    learning_rate: Option<f64>,
    state: GroupSnapshot,
}

#[derive(Serialize, Deserialize)]
struct ParameterHeader {
    shape: Vec<usize>,
    dtype: DType,
    updates: u64,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    fresh: BTreeSet<String>,
    /// `transform/array`; in the file with `parameter/` before it.
    arrays: Vec<String>,
}

/// A checkpoint, ready to be written: what comes before the arrays, and the arrays in their order, borrowed.
pub(crate) struct Image<'o> {
    start: Vec<u8>,
    arrays: Vec<&'o Buffer>,
}

impl<'o> Image<'o> {
    pub(crate) fn of<T: Real>(optimizer: &'o Optimizer<T>) -> Result<Self> {
        let Snapshot { evaluating, groups, tensors } = optimizer.borrowed_snapshot();
        let groups = groups
            .into_iter()
            .enumerate()
            .map(|(group, state)| Ok(GroupHeader { learning_rate: Some(optimizer.lr(group)?), state }))
            .collect::<Result<_>>()?;
        let mut arrays: BTreeMap<String, &Buffer> = BTreeMap::new();
        let mut parameters = BTreeMap::new();
        for (name, tensor) in tensors {
            let TensorSnapshot { shape, dtype, updates, fresh, arrays: kept, training } = tensor;
            if kept.contains_key(TRAINING) {
                return Err(Error::OneName { name: format!("{name}/{TRAINING}") });
            }
            let mut keys = Vec::with_capacity(kept.len());
            for (key, buffer) in kept.into_iter().chain(training.map(|y| (TRAINING.to_owned(), y))) {
                let full = format!("{name}/{key}");
                if arrays.contains_key(&full) {
                    return Err(Error::OneName { name: full });
                }
                arrays.insert(full, buffer);
                keys.push(key);
            }
            parameters.insert(name, ParameterHeader { shape, dtype, updates, fresh, arrays: keys });
        }
        let header = serde_json::to_string(&Header { evaluating, groups, parameters }).map_err(damaged)?;
        let metadata = HashMap::from([
            (VERSION_KEY.to_owned(), VERSION.to_string()),
            (SUM_KEY.to_owned(), checksum_of(&header, &arrays)),
            (HEADER_KEY.to_owned(), header),
        ]);
        Self::laid_out(metadata, arrays)
    }

    /// As safetensors wants it: the widest type first, so that everything is aligned, and then by name.
    fn laid_out(metadata: HashMap<String, String>, arrays: BTreeMap<String, &'o Buffer>) -> Result<Self> {
        let mut arrays: Vec<(String, &Buffer)> = arrays.into_iter().collect();
        arrays.sort_by_key(|(_, buffer)| Reverse(buffer.dtype().size()));
        let (mut at, mut buffers) = (0, Vec::with_capacity(arrays.len()));
        let infos = arrays.into_iter().map(|(name, buffer)| {
            let (from, len) = (at, buffer.len());
            at += len * buffer.dtype().size();
            buffers.push(buffer);
            let dtype = match buffer.dtype() {
                DType::F32 => Dtype::F32,
                DType::Bf16 => Dtype::BF16,
                DType::F64 => Dtype::F64,
            };
            (name, TensorInfo { dtype, shape: vec![len], data_offsets: (from, at) })
        });
        let infos = infos.collect();
        let metadata = Metadata::new(Some(metadata), infos).map_err(damaged)?;
        let mut start = vec![0; LENGTH];
        serde_json::to_writer(&mut start, &metadata).map_err(damaged)?;
        start.resize(start.len().next_multiple_of(LENGTH), b' ');
        let bytes = start.len() - LENGTH;
        if bytes > LONGEST_HEADER {
            return Err(Error::TooManyArrays { arrays: buffers.len(), bytes, limit: LONGEST_HEADER });
        }
        start[..LENGTH].copy_from_slice(&(bytes as u64).to_le_bytes());
        Ok(Self { start, arrays: buffers })
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> usize {
        self.start.len()
            + self.arrays.iter().map(|buffer| buffer.len() * buffer.dtype().size()).sum::<usize>()
    }

    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&self.start)?;
        let mut part = Vec::new();
        self.arrays.iter().try_for_each(|buffer| in_parts(buffer, &mut part, |part| to.write_all(part)))
    }
}

pub(crate) fn read(bytes: &[u8]) -> Result<Snapshot> {
    let (length, metadata) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let data = &bytes[LENGTH + length..];
    let entry = |key: &str| {
        let found = metadata.metadata().as_ref().and_then(|entries| entries.get(key));
        found.ok_or_else(|| damaged(format!("its metadata has no `{key}`")))
    };
    let found: u64 = entry(VERSION_KEY)?.parse().map_err(damaged)?;
    if found > VERSION {
        return Err(Error::Newer { found, known: VERSION });
    }
    let header = entry(HEADER_KEY)?;
    let mut arrays = metadata.tensors();
    let content = |info: &TensorInfo| &data[info.data_offsets.0..info.data_offsets.1];
    let mut sum = Checksum::of(header);
    let mut by_name: Vec<(&String, &&TensorInfo)> = arrays.iter().collect();
    by_name.sort_unstable_by_key(|(name, _)| *name);
    for (name, info) in by_name {
        let content = content(info);
        sum.name(name, content.len());
        sum.0.update(content);
    }
    if entry(SUM_KEY)? != &sum.finish() {
        return Err(damaged("its checksum is another one"));
    }
    let header: Header = if found == VERSION {
        serde_json::from_str(header).map_err(damaged)?
    } else {
        let header = migrate::to_present(found, serde_json::from_str(header).map_err(damaged)?)?;
        serde_json::from_value(header).map_err(damaged)?
    };
    let Header { evaluating, groups, parameters } = header;
    let mut tensors = BTreeMap::new();
    for (name, ParameterHeader { shape, dtype, updates, fresh, arrays: keys }) in parameters {
        let mut kept = BTreeMap::new();
        for key in keys {
            let full = format!("{name}/{key}");
            let info = arrays.remove(&full).ok_or_else(|| damaged(format!("there is no array `{full}`")))?;
            kept.insert(key, decoded(info.dtype, content(info))?);
        }
        if found < VERSION {
            migrate::drop_other_samples(found, &shape, &mut kept);
        }
        let training = kept.remove(TRAINING);
        tensors.insert(name, TensorSnapshot { shape, dtype, updates, fresh, arrays: kept, training });
    }
    match arrays.into_keys().next() {
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

/// Calls `f` with an array's bytes in the file, in parts that take little memory.
fn in_parts<E>(buffer: &Buffer, part: &mut Vec<u8>, f: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    const PART: usize = 1 << 14;
    fn each<const N: usize, V: Copy, E>(
        values: &[V],
        part: &mut Vec<u8>,
        encode: fn(V) -> [u8; N],
        mut f: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for values in values.chunks(PART) {
            part.resize(values.len() * N, 0);
            let encoded = part.as_chunks_mut::<N>().0;
            encoded.iter_mut().zip(values).for_each(|(bytes, value)| *bytes = encode(*value));
            f(part)?;
        }
        Ok(())
    }
    match buffer {
        Buffer::F32(values) => each(values, part, f32::to_le_bytes, f),
        Buffer::Bf16(values) => each(values, part, bf16::to_le_bytes, f),
        Buffer::F64(values) => each(values, part, f64::to_le_bytes, f),
    }
}

fn decoded(dtype: Dtype, bytes: &[u8]) -> Result<Buffer> {
    fn values<const N: usize, E>(bytes: &[u8], of: fn([u8; N]) -> E) -> Vec<E> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| of(*chunk)).collect()
    }
    Ok(match dtype {
        Dtype::F32 => Buffer::F32(values(bytes, f32::from_le_bytes)),
        Dtype::BF16 => Buffer::Bf16(values(bytes, bf16::from_le_bytes)),
        Dtype::F64 => Buffer::F64(values(bytes, f64::from_le_bytes)),
        other => return Err(damaged(format!("an array of {other:?}"))),
    })
}

/// SHA-256 of header, names and contents, in the order of the names, each preceded by its length.
struct Checksum(Sha256);

impl Checksum {
    fn of(header: &str) -> Self {
        let mut sum = Self(Sha256::new());
        sum.0.update((header.len() as u64).to_le_bytes());
        sum.0.update(header);
        sum
    }

    /// What comes before a content of `len` bytes.
    fn name(&mut self, name: &str, len: usize) {
        self.0.update((name.len() as u64).to_le_bytes());
        self.0.update(name);
        self.0.update((len as u64).to_le_bytes());
    }

    fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn checksum_of(header: &str, arrays: &BTreeMap<String, &Buffer>) -> String {
    let mut sum = Checksum::of(header);
    let mut part = Vec::new();
    for (name, buffer) in arrays {
        sum.name(name, buffer.len() * buffer.dtype().size());
        let Ok(()) = in_parts(buffer, &mut part, |part| {
            sum.0.update(part);
            Ok::<(), Infallible>(())
        });
    }
    sum.finish()
}
