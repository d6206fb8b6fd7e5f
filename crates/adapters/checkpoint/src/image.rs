//! A checkpoint, ready to be written.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io::{self, Write};

use gradient_transform::{Buffer, DType, Optimizer, Real, Snapshot, TensorSnapshot};
use half::bf16;
use safetensors::tensor::TensorInfo;
use serde::ser::{SerializeMap, Serializer};

use crate::error::{Error, Result};
use crate::format::{
    Checksum, GroupHeader, HEADER_KEY, Header, JOINED_BELOW, Kind, LENGTH, SUM_KEY, TRAINING, VERSION,
    VERSION_KEY, damaged, in_file, joined, own,
};

/// Readers of safetensors reject longer headers.
const LONGEST_HEADER: usize = 100_000_000;

/// Key of a table's metadata in safetensors.
const METADATA_KEY: &str = "__metadata__";

/// Head of a file, and its arrays in their order, borrowed.
pub(crate) struct Image<'o> {
    start: Vec<u8>,
    arrays: Vec<Array<'o>>,
}

impl<'o> Image<'o> {
    pub(crate) fn of<T: Real>(optimizer: &'o Optimizer<T>) -> Result<Self> {
        let Snapshot { evaluating, groups, tensors } = optimizer.borrowed_snapshot();
        let groups = groups
            .into_iter()
            .enumerate()
            .map(|(group, state)| Ok(GroupHeader { learning_rate: Some(optimizer.lr(group)?), state }))
            .collect::<Result<_>>()?;
        let mut layout = Layout::default();
        let parameters = tensors.into_iter().map(|(name, tensor)| {
            let kind = layout.add(&name, tensor)?;
            Ok((name, kind))
        });
        let parameters = parameters.collect::<Result<BTreeMap<_, _>>>()?;
        let Layout { kinds, mut arrays, .. } = layout;
        let mut kinds: Vec<(Kind, usize)> = kinds.into_iter().collect();
        kinds.sort_unstable_by_key(|(_, index)| *index);
        let kinds = kinds.into_iter().map(|(kind, _)| kind).collect();
        let header =
            serde_json::to_string(&Header { evaluating, groups, kinds, parameters }).map_err(damaged)?;
        arrays.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = arrays.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(Error::OneName { name: pair[0].name.clone() });
        }
        let metadata = BTreeMap::from([
            (VERSION_KEY, VERSION.to_string()),
            (SUM_KEY, checksum_of(&header, &arrays)),
            (HEADER_KEY, header),
        ]);
        Self::laid_out(metadata, arrays)
    }

    /// In the order that safetensors requires: the widest type first, so that everything is aligned,
    /// and then by name.
    fn laid_out(metadata: BTreeMap<&str, String>, mut arrays: Vec<Array<'o>>) -> Result<Self> {
        arrays.sort_by_key(|array| Reverse(array.dtype.size()));
        let mut start = vec![0; LENGTH];
        write_table(&mut start, &metadata, &arrays).map_err(damaged)?;
        start.resize(start.len().next_multiple_of(LENGTH), b' ');
        let bytes = start.len() - LENGTH;
        if bytes > LONGEST_HEADER {
            return Err(Error::TooManyArrays { arrays: arrays.len(), bytes, limit: LONGEST_HEADER });
        }
        start[..LENGTH].copy_from_slice(&(bytes as u64).to_le_bytes());
        Ok(Self { start, arrays })
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> usize {
        self.start.len() + self.arrays.iter().map(Array::bytes).sum::<usize>()
    }

    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&self.start)?;
        let mut part = Vec::new();
        self.arrays.iter().try_for_each(|array| array.in_parts(&mut part, |part| to.write_all(part)))
    }
}

/// Writes the table of a file. The `Metadata` of safetensors would write its own in the random order of a hash map, and equal states
/// would be unequal files.
fn write_table(
    to: &mut Vec<u8>,
    metadata: &BTreeMap<&str, String>,
    arrays: &[Array<'_>],
) -> serde_json::Result<()> {
    let mut serializer = serde_json::Serializer::new(to);
    let mut table = serializer.serialize_map(Some(arrays.len() + 1))?;
    table.serialize_entry(METADATA_KEY, metadata)?;
    let mut at = 0;
    for Array { name, dtype, len, .. } in arrays {
        let end = at + len * dtype.size();
        let info = TensorInfo { dtype: in_file(*dtype), shape: vec![*len], data_offsets: (at, end) };
        table.serialize_entry(name, &info)?;
        at = end;
    }
    table.end()
}

/// An array of the file: one of a parameter, or many of them back to back.
struct Array<'o> {
    name: String,
    dtype: DType,
    len: usize,
    buffers: Vec<&'o Buffer>,
}

impl<'o> Array<'o> {
    fn new(name: String, dtype: DType) -> Self {
        Self { name, dtype, len: 0, buffers: Vec::new() }
    }

    fn push(&mut self, buffer: &'o Buffer) {
        self.len += buffer.len();
        self.buffers.push(buffer);
    }

    fn bytes(&self) -> usize {
        self.len * self.dtype.size()
    }

    /// Calls `f` with the array's bytes, in parts that take little memory.
    fn in_parts<E>(&self, part: &mut Vec<u8>, mut f: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        self.buffers.iter().try_for_each(|buffer| in_parts(buffer, part, &mut f))
    }
}

/// The arrays of the file, and the parts of parameters in them.
#[derive(Default)]
struct Layout<'o> {
    kinds: HashMap<Kind, usize>,
    /// The places of the arrays of every kind, in the order of their keys.
    places: Vec<Vec<Place>>,
    /// The numbers of the joined arrays.
    joined: HashMap<(DType, String), usize>,
    arrays: Vec<Array<'o>>,
}

enum Place {
    /// In the array with this number.
    Joined(usize),
    /// In a separate array, with this key.
    Own(String),
}

impl<'o> Layout<'o> {
    /// Adds the arrays of a parameter; returns the number of its kind. Parameters come in the order of their
    /// names.
    fn add(&mut self, name: &str, tensor: TensorSnapshot<&'o Buffer>) -> Result<usize> {
        let TensorSnapshot { shape, dtype, updates, fresh, mut arrays, training } = tensor;
        // Read as y, whether there is one or not.
        if arrays.contains_key(TRAINING) {
            return Err(Error::OneName { name: own(name, TRAINING) });
        }
        arrays.extend(training.map(|y| (TRAINING.to_owned(), y)));
        let mut buffers = Vec::with_capacity(arrays.len());
        let arrays = arrays.into_iter().map(|(key, buffer)| {
            buffers.push(buffer);
            let is_joined = buffer.len() < JOINED_BELOW;
            (key, is_joined.then(|| (buffer.dtype(), buffer.len())))
        });
        let arrays = arrays.collect();
        let kind = Kind { shape, dtype, updates, fresh, arrays };
        let number = self.number_of(kind);
        for (place, buffer) in self.places[number].iter().zip(buffers) {
            match place {
                Place::Joined(array) => self.arrays[*array].push(buffer),
                Place::Own(key) => {
                    let mut array = Array::new(own(name, key), buffer.dtype());
                    array.push(buffer);
                    self.arrays.push(array);
                }
            }
        }
        Ok(number)
    }

    fn number_of(&mut self, kind: Kind) -> usize {
        if let Some(number) = self.kinds.get(&kind) {
            return *number;
        }
        let Self { kinds, places, joined: numbers, arrays } = self;
        let place = |(key, part): (&String, &Option<(DType, usize)>)| match *part {
            None => Place::Own(key.clone()),
            Some((dtype, _)) => Place::Joined(*numbers.entry((dtype, key.clone())).or_insert_with(|| {
                arrays.push(Array::new(joined(dtype, key), dtype));
                arrays.len() - 1
            })),
        };
        places.push(kind.arrays.iter().map(place).collect());
        let number = kinds.len();
        kinds.insert(kind, number);
        number
    }
}

/// Calls `f` with a buffer's bytes in the file, in parts that take little memory.
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

fn checksum_of(header: &str, arrays: &[Array<'_>]) -> String {
    let mut sum = Checksum::of(header);
    let mut part = Vec::new();
    for array in arrays {
        sum.name(&array.name, array.bytes());
        let Ok(()) = array.in_parts(&mut part, |part| {
            sum.content(part);
            Ok::<(), Infallible>(())
        });
    }
    sum.finish()
}
