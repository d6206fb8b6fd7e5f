//! Scalars of an event: what `simple_value` has, and tensors without dimensions. Images, histograms and texts are left
//! out.

use super::Scalar;
use super::message::{Field, Message, Read};

/// `Event`: 2 is the step, 5 the summary.
pub(crate) fn read_event(data: &[u8], found: &mut Vec<Scalar>) -> Read<()> {
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

pub(super) const FLOAT: u64 = 1;
const DOUBLE: u64 = 2;
const INT32: u64 = 3;
const INT64: u64 = 9;

/// `TensorProto`: 1 is the type, 2 the shape, whose 2 are dimensions, 4 the content; or 5 float, 6 double, 7 int32, 10
/// int64 as numbers, packed or not; the last of them counts. Nothing of one with dimensions, or of another type.
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
    use super::super::next_record;
    use super::*;

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
            let _ = read_event(&bytes, &mut Vec::new());
            let _ = next_record(&mut &bytes[..]);
        }
    }
}
