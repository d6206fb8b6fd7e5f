//! Scalars of TensorBoard's event files.
//!
//! A file is a list of records (TFRecord): the length of the data as 8 bytes, a checksum of these, the data, a checksum of the data; all numbers have their lowest byte first. A
//! checksum is the CRC-32C, masked. The data are a message `Event` of Protocol Buffers, of which this reads the step and the scalars of its summary: what `simple_value` has, and tensors
//! without dimensions. The format is that of tensorflow/core/lib/io/record_writer.h and of the messages in tensorboard/compat/proto; four messages and one checksum are less to build
//! than a general reader with its compiler.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::table::{RUN, Row, STEP};

/// Beginning of the names of event files.
const NAME: &str = "events.out.tfevents.";

/// Fault of an event file.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// It cannot be read.
    #[error("cannot read {}", file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// Reason.
        source: std::io::Error,
    },
    /// There is none in a folder.
    #[error("there is no event file (events.out.tfevents.*) in {}, nor in a folder within; name the folder that TensorBoard is given as --logdir", .0.display())]
    NoFiles(PathBuf),
    /// A checksum that is not that of what it is of.
    #[error(
        "{}: record {record}, at byte {position}: the checksum of its {part} is another one. The file is damaged, or no event file; take an undamaged copy, or leave the run out",
        file.display()
    )]
    Checksum {
        /// The file.
        file: PathBuf,
        /// The record, counted from 1.
        record: usize,
        /// Its place in the file.
        position: usize,
        /// `length` or `data`.
        part: &'static str,
    },
    /// Data that are no event.
    #[error(
        "{}: record {record}, at byte {position}, is no event of TensorBoard: {what}. A file of TFRecords that holds something else has no runs to analyse",
        file.display()
    )]
    Message {
        /// The file.
        file: PathBuf,
        /// The record, counted from 1.
        record: usize,
        /// Its place in the file.
        position: usize,
        /// Fault of the message.
        what: &'static str,
    },
}

type Result<T> = std::result::Result<T, EventError>;

/// Whether a path is for this reader: a folder, or a file that is called as event files are.
pub(super) fn is_for(path: &Path) -> bool {
    path.is_dir() || path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(NAME))
}

/// The rows of a file or of a folder with a folder for every run: one for every run and step, with a column for every tag. What was left out goes to `notes`.
pub(super) fn rows(path: &Path, notes: &mut Vec<String>) -> Result<Vec<Row>> {
    let mut files = Vec::new();
    let top = if path.is_dir() {
        collect(path, &mut files)?;
        if files.is_empty() {
            return Err(EventError::NoFiles(path.to_owned()));
        }
        path
    } else {
        files.push(path.to_owned());
        path.parent().and_then(Path::parent).unwrap_or(Path::new(""))
    };
    // A run that was continued has several files, whose names begin with the time; of a step that is in two, the later one counts.
    files.sort();
    let mut runs: BTreeMap<(String, i64), Row> = BTreeMap::new();
    for file in files {
        let folder = file.parent().unwrap_or(Path::new(""));
        let within = folder.strip_prefix(top).unwrap_or(folder);
        let parts: Vec<_> = within.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        let run = if parts.is_empty() { name_of(folder) } else { parts.join("/") };
        for Scalar { tag, step, value } in scalars(&file, notes)? {
            let row = runs.entry((run.clone(), step)).or_insert_with(|| {
                Row::from([(RUN.to_owned(), run.clone()), (STEP.to_owned(), step.to_string())])
            });
            row.insert(tag, value.to_string());
        }
    }
    Ok(runs.into_values().collect())
}

fn name_of(folder: &Path) -> String {
    folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |source| EventError::Io { file: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if is_for(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// A number of a run.
#[derive(Debug, Clone, PartialEq)]
struct Scalar {
    tag: String,
    step: i64,
    value: f64,
}

const LENGTH: usize = 8;
const CHECKSUM: usize = 4;

/// The scalars of a file, in its order.
fn scalars(file: &Path, notes: &mut Vec<String>) -> Result<Vec<Scalar>> {
    let bytes = std::fs::read(file).map_err(|source| EventError::Io { file: file.to_owned(), source })?;
    let mut found = Vec::new();
    let (mut rest, mut record) = (&bytes[..], 0);
    while !rest.is_empty() {
        let position = bytes.len() - rest.len();
        record += 1;
        let checksum = |part| EventError::Checksum { file: file.to_owned(), record, position, part };
        let Some(data) = next(&mut rest).map_err(checksum)? else {
            notes.push(format!(
                "{}: its last record, the {}, at byte {position}, is cut off, as in the file of a run that is not over or was killed. What is before it was read.",
                file.display(),
                nth(record)
            ));
            break;
        };
        event(data, &mut found).map_err(|what| EventError::Message {
            file: file.to_owned(),
            record,
            position,
            what,
        })?;
    }
    Ok(found)
}

fn nth(number: usize) -> String {
    let ending = match (number % 10, number % 100) {
        (1, tens) if tens != 11 => "st",
        (2, tens) if tens != 12 => "nd",
        (3, tens) if tens != 13 => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// The data of the next record; nothing where its end is missing. Or which of its checksums is wrong.
fn next<'b>(rest: &mut &'b [u8]) -> std::result::Result<Option<&'b [u8]>, &'static str> {
    let Some((head, behind)) = rest.split_at_checked(LENGTH + CHECKSUM) else { return Ok(None) };
    let (length, sum) = head.split_at(LENGTH);
    if masked_crc32c(length) != number(sum) {
        return Err("length");
    }
    let length = usize::try_from(number(length)).unwrap_or(usize::MAX);
    let Some((data, behind)) = behind.split_at_checked(length) else { return Ok(None) };
    let Some((sum, behind)) = behind.split_at_checked(CHECKSUM) else { return Ok(None) };
    if masked_crc32c(data) != number(sum) {
        return Err("data");
    }
    *rest = behind;
    Ok(Some(data))
}

/// Up to eight bytes, the lowest first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// CRC-32C (Castagnoli), turned and shifted, so that a checksum of data with checksums in them is none of these.
fn masked_crc32c(bytes: &[u8]) -> u64 {
    const TABLE: [u32; 256] = table();
    let crc =
        !bytes.iter().fold(!0_u32, |crc, byte| TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8));
    u64::from(crc.rotate_right(15).wrapping_add(0xa282_ead8))
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// Value of a field of a message.
#[derive(Clone, Copy)]
enum Field<'b> {
    Integer(u64),
    Fixed(&'b [u8]),
    Bytes(&'b [u8]),
}

type Read<T> = std::result::Result<T, &'static str>;

const SHORT: &str = "it ends within a field";

/// A message, field by field.
struct Message<'b>(&'b [u8]);

impl<'b> Message<'b> {
    fn next(&mut self) -> Read<Option<(u64, Field<'b>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.integer()?;
        let field = match key & 7 {
            0 => Field::Integer(self.integer()?),
            1 => Field::Fixed(self.take(8)?),
            2 => {
                let length = self.integer()?;
                Field::Bytes(self.take(usize::try_from(length).map_err(|_| SHORT)?)?)
            }
            5 => Field::Fixed(self.take(4)?),
            _ => return Err("it has a field of a kind that there is not"),
        };
        Ok(Some((key >> 3, field)))
    }

    fn take(&mut self, length: usize) -> Read<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn integer(&mut self) -> Read<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take(1)? else { return Err(SHORT) };
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("it has a number of more than 64 bits")
    }
}

/// `Event`: 2 is the step, 5 the summary.
fn event(data: &[u8], found: &mut Vec<Scalar>) -> Read<()> {
    let (mut step, mut summaries) = (0, Vec::new());
    let mut message = Message(data);
    while let Some(field) = message.next()? {
        match field {
            (2, Field::Integer(number)) => step = number.cast_signed(),
            (5, Field::Bytes(bytes)) => summaries.push(bytes),
            _ => {}
        }
    }
    for summary in summaries {
        let mut summary = Message(summary);
        while let Some(field) = summary.next()? {
            if let (1, Field::Bytes(bytes)) = field
                && let Some((tag, value)) = summary_value(bytes)?
            {
                found.push(Scalar { tag, step, value });
            }
        }
    }
    Ok(())
}

/// `Summary.Value`: 1 is the tag, 2 `simple_value`, 8 a tensor. Nothing of what is no scalar.
fn summary_value(data: &[u8]) -> Read<Option<(String, f64)>> {
    let (mut tag, mut value) = (String::new(), None);
    let mut message = Message(data);
    while let Some(field) = message.next()? {
        match field {
            (1, Field::Bytes(bytes)) => {
                tag = std::str::from_utf8(bytes).map_err(|_| "a tag is no text")?.to_owned();
            }
            (2, Field::Fixed(bytes)) => value = float(bytes),
            (8, Field::Bytes(bytes)) => value = tensor(bytes)?,
            _ => {}
        }
    }
    Ok(value.map(|value| (tag, value)))
}

fn float(bytes: &[u8]) -> Option<f64> {
    Some(f64::from(f32::from_le_bytes(bytes.try_into().ok()?)))
}

fn double(bytes: &[u8]) -> Option<f64> {
    Some(f64::from_le_bytes(bytes.try_into().ok()?))
}

const FLOAT: u64 = 1;
const DOUBLE: u64 = 2;
const INT32: u64 = 3;
const INT64: u64 = 9;

/// `TensorProto`: 1 is the type, 2 the shape, whose 2 are dimensions, 4 the content; or 5 float, 6 double, 7 int32, 10 int64 as numbers, packed or not. Nothing of one with dimensions, or of
/// another type.
fn tensor(data: &[u8]) -> Read<Option<f64>> {
    let (mut dtype, mut is_scalar, mut value) = (0, true, None);
    let mut content: &[u8] = &[];
    let mut message = Message(data);
    while let Some((number, field)) = message.next()? {
        match (number, field) {
            (1, Field::Integer(number)) => dtype = number,
            (2, Field::Bytes(shape)) => {
                let mut shape = Message(shape);
                while let Some((number, _)) = shape.next()? {
                    is_scalar &= number != 2;
                }
            }
            (4, Field::Bytes(bytes)) => content = bytes,
            (5, Field::Fixed(bytes) | Field::Bytes(bytes)) => value = float(bytes),
            (6, Field::Fixed(bytes) | Field::Bytes(bytes)) => value = double(bytes),
            (7 | 10, Field::Integer(number)) => value = Some(number.cast_signed() as f64),
            (7 | 10, Field::Bytes(bytes)) => {
                value = Some(Message(bytes).integer()?.cast_signed() as f64);
            }
            _ => {}
        }
    }
    let of_content = || match dtype {
        FLOAT => float(content),
        DOUBLE => double(content),
        INT32 => Some(f64::from(i32::from_le_bytes(content.try_into().ok()?))),
        INT64 => Some(i64::from_le_bytes(content.try_into().ok()?) as f64),
        _ => None,
    };
    let is_number = [FLOAT, DOUBLE, INT32, INT64].contains(&dtype);
    Ok(value.or_else(of_content).filter(|_| is_scalar && is_number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_rfc_3720() {
        let unmasked = |bytes: &[u8]| {
            let masked = u32::try_from(masked_crc32c(bytes)).unwrap();
            masked.wrapping_sub(0xa282_ead8).rotate_left(15)
        };
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(unmasked(&[0; 32]), 0x8a91_36aa);
        assert_eq!(unmasked(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(unmasked(&ascending), 0x46dd_794e);
        assert_eq!(unmasked(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn places_have_their_endings() {
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 13, 21, 111].map(nth),
            ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "111th"]
        );
    }

    #[test]
    fn no_bytes_make_a_message_that_panics() {
        let mut state = 1_u64;
        for length in 0..2000 {
            let bytes: Vec<u8> = (0..length % 64)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    state.to_le_bytes()[7] % 44
                })
                .collect();
            let _ = event(&bytes, &mut Vec::new());
            let _ = next(&mut &bytes[..]);
        }
    }
}
