//! Messages of Protocol Buffers: a list of fields, each a key and a value.
//!
//! ```text
//! | key: number << 3 | kind | value                                        |
//!                     0       integer, seven bits a byte, the lowest first
//!                     1       8 bytes
//!                     2       length as an integer, and so many bytes
//!                     5       4 bytes
//! ```

/// Value of a field of a message.
#[derive(Clone, Copy)]
pub(super) enum Field<'b> {
    Integer(u64),
    Fixed(&'b [u8]),
    Bytes(&'b [u8]),
}

pub(super) type Read<T> = std::result::Result<T, &'static str>;

const SHORT: &str = "it ends within a field";

/// A message, field by field.
pub(super) struct Message<'b>(pub(super) &'b [u8]);

impl<'b> Message<'b> {
    pub(super) fn next(&mut self) -> Read<Option<(u64, Field<'b>)>> {
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

    pub(super) fn integer(&mut self) -> Read<u64> {
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

/// Adds an integer field.
pub(super) fn push_integer(message: &mut Vec<u8>, number: u64, value: u64) {
    push(message, number << 3);
    push(message, value);
}

/// Adds a field of 8 bytes.
pub(super) fn push_double(message: &mut Vec<u8>, number: u64, value: f64) {
    push(message, number << 3 | 1);
    message.extend(value.to_le_bytes());
}

/// Adds a field of bytes: a text, or a message within.
pub(super) fn push_bytes(message: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    push(message, number << 3 | 2);
    push(message, bytes.len() as u64);
    message.extend(bytes);
}

fn push(message: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        message.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    message.push(number.to_le_bytes()[0]);
}
