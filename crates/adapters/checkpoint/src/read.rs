//! Reading a file.

use std::collections::{BTreeMap, HashMap};

use gradient_transform::{Buffer, DType, Snapshot, TensorSnapshot};
use half::bf16;
use safetensors::tensor::TensorInfo;
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::format::{
    Checksum, HEADER_KEY, Header, Kind, LENGTH, SUM_KEY, TRAINING, VERSION, VERSION_KEY, damaged, in_file,
    joined, own,
};
use crate::migrate;

/// Largest number of bytes of memory for each byte of a file. A kind is described once for all of its
/// parameters, so a short file could require more memory than there is. A parameter without elements takes
/// about 20.
const MOST_PER_BYTE: usize = 256;

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
    let arrays = metadata.tensors();
    let content = |info: &TensorInfo| &data[info.data_offsets.0..info.data_offsets.1];
    let mut sum = Checksum::of(header);
    let mut by_name: Vec<(&String, &&TensorInfo)> = arrays.iter().collect();
    by_name.sort_unstable_by_key(|(name, _)| *name);
    for (name, info) in by_name {
        let content = content(info);
        sum.name(name, content.len());
        sum.content(content);
    }
    if entry(SUM_KEY)? != &sum.finish() {
        return Err(damaged("its checksum does not match"));
    }
    let header: Header = if found == VERSION {
        serde_json::from_str(header).map_err(damaged)?
    } else {
        let header = migrate::to_present(found, serde_json::from_str(header).map_err(damaged)?)?;
        serde_json::from_value(header).map_err(damaged)?
    };
    let Header { evaluating, groups, kinds, parameters } = header;
    let extents: Vec<usize> = kinds.iter().map(extent).collect();
    let described = parameters.values().filter_map(|number| extents.get(*number));
    if described.fold(0, |sum: usize, extent| sum.saturating_add(*extent)) / MOST_PER_BYTE > bytes.len() {
        return Err(damaged("its kinds describe more data than a file of this length can have"));
    }
    let arrays = arrays.into_iter().map(|(name, info)| (name, (info.dtype, content(info)))).collect();
    let mut contents = Contents { arrays, joined: Vec::new() };
    let mut numbers = HashMap::new();
    let places: Vec<Vec<(&str, Place)>> =
        kinds.iter().map(|kind| contents.places_of(kind, &mut numbers)).collect::<Result<_>>()?;
    let tensors = parameters.into_iter().map(|(name, number)| {
        let (Some(kind), Some(places)) = (kinds.get(number), places.get(number)) else {
            return Err(damaged(format!(
                "parameter `{name}` has kind {number}, which the header does not define"
            )));
        };
        let parts =
            places.iter().map(|(key, place)| Ok(((*key).to_owned(), contents.part(&name, key, *place)?)));
        let mut arrays = parts.collect::<Result<BTreeMap<_, _>>>()?;
        migrate::drop_other_samples(found, &kind.shape, &mut arrays);
        let training = arrays.remove(TRAINING);
        let Kind { shape, dtype, updates, fresh, .. } = kind;
        let (shape, fresh) = (shape.clone(), fresh.clone());
        Ok((name, TensorSnapshot { shape, dtype: *dtype, updates: *updates, fresh, arrays, training }))
    });
    let tensors = tensors.collect::<Result<_>>()?;
    contents.end()?;
    let groups = groups.into_iter().map(|group| group.state).collect();
    Ok(Snapshot { evaluating, groups, tensors })
}

/// Bytes of memory that a parameter of this kind takes in addition to the contents of its arrays.
fn extent(kind: &Kind) -> usize {
    let Kind { shape, fresh, arrays, .. } = kind;
    let keys = arrays.keys().chain(fresh);
    size_of_val(&shape[..]) + keys.map(|key| key.len() + size_of::<(String, Buffer)>()).sum::<usize>()
}

/// Place of a parameter's part of an array.
#[derive(Clone, Copy)]
enum Place {
    /// At the front of the rest of the joined array with this number, with this many bytes.
    Joined {
        number: usize,
        len: usize,
    },
    Own,
}

/// Remainder of the file.
struct Contents<'b> {
    arrays: HashMap<String, (Dtype, &'b [u8])>,
    joined: Vec<(String, Dtype, &'b [u8])>,
}

impl<'b> Contents<'b> {
    /// The places of the arrays of a kind. `numbers` are those of the known joined arrays.
    fn places_of<'k>(
        &mut self,
        kind: &'k Kind,
        numbers: &mut HashMap<(DType, &'k str), usize>,
    ) -> Result<Vec<(&'k str, Place)>> {
        let place = |(key, part): (&'k String, &Option<(DType, usize)>)| {
            let Some((dtype, len)) = *part else { return Ok((key.as_str(), Place::Own)) };
            let number = match numbers.get(&(dtype, key.as_str())) {
                Some(number) => *number,
                None => {
                    let name = joined(dtype, key);
                    let (found, bytes) = self.take(&name)?;
                    if found != in_file(dtype) {
                        return Err(damaged(format!("array `{name}` is of {found:?}")));
                    }
                    self.joined.push((name, found, bytes));
                    numbers.insert((dtype, key), self.joined.len() - 1);
                    self.joined.len() - 1
                }
            };
            Ok((key.as_str(), Place::Joined { number, len: len.saturating_mul(dtype.size()) }))
        };
        kind.arrays.iter().map(place).collect()
    }

    fn take(&mut self, name: &str) -> Result<(Dtype, &'b [u8])> {
        self.arrays.remove(name).ok_or_else(|| damaged(format!("there is no array `{name}`")))
    }

    /// A parameter's part of an array. Parameters come in the order of their names.
    fn part(&mut self, parameter: &str, key: &str, place: Place) -> Result<Buffer> {
        match place {
            Place::Own => {
                let (dtype, bytes) = self.take(&own(parameter, key))?;
                decoded(dtype, bytes)
            }
            Place::Joined { number, len } => {
                let (name, dtype, rest) = &mut self.joined[number];
                let Some((part, behind)) = rest.split_at_checked(len) else {
                    return Err(damaged(format!("array `{name}` ends before parameter `{parameter}`")));
                };
                *rest = behind;
                decoded(*dtype, part)
            }
        }
    }

    /// Whether everything has been read.
    fn end(self) -> Result<()> {
        let left = self.joined.into_iter().filter(|(_, _, rest)| !rest.is_empty()).map(|(name, ..)| name);
        match self.arrays.into_keys().chain(left).next() {
            Some(surplus) => Err(damaged(format!("array `{surplus}` does not belong to any parameter"))),
            None => Ok(()),
        }
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
