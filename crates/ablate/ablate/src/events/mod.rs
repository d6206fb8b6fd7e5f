//! TensorBoard's event files: what is written while runs are under way, and what is read to analyse them.
//!
//! A file is a list of records (TFRecord), each with an event. All numbers have their lowest byte first:
//!
//! ```text
//! byte 0          8            12              12 + n        16 + n
//!      | n: u64   | check of n | event: n bytes | check of it |
//! ```
//!
//! A check is the CRC-32C, masked. The format is that of tensorflow/core/lib/io/record_writer.h; four messages and one
//! checksum are less to build than a general reader with its compiler.

mod message;
mod read;
mod record;
mod write;

pub(crate) use self::read::read_event;
pub(crate) use self::record::{next_record, push_record};
pub(crate) use self::write::{restart, scalars, version};

/// Beginning of the names of event files.
pub(crate) const NAME: &str = "events.out.tfevents.";

/// A number of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalar {
    pub(crate) tag: String,
    pub(crate) step: i64,
    pub(crate) value: f64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(mut bytes: &[u8]) -> Vec<Scalar> {
        let mut found = Vec::new();
        while let Some(data) = next_record(&mut bytes).unwrap() {
            read_event(data, &mut found).unwrap();
        }
        found
    }

    proptest! {
        #[test]
        fn numbers_that_are_written_are_read_to_the_bit_and_a_cut_leaves_those_before_it(
            events in prop::collection::vec((0..i64::MAX, prop::collection::vec((".{0,200}", any::<f64>()), 0..4)), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut file = Vec::new();
            push_record(&mut file, &version(1.5));
            push_record(&mut file, &restart(1.5));
            let (mut expected, mut ends) = (Vec::new(), vec![(file.len(), 0)]);
            for (step, values) in &events {
                push_record(&mut file, &scalars(2.5, *step, values));
                let of = |(tag, value): &(String, f64)| Scalar { tag: tag.clone(), step: *step, value: *value };
                expected.extend(values.iter().map(of));
                ends.push((file.len(), expected.len()));
            }
            let bits = |scalars: &[Scalar]| -> Vec<(String, i64, u64)> {
                scalars.iter().map(|s| (s.tag.clone(), s.step, s.value.to_bits())).collect()
            };
            prop_assert_eq!(bits(&read(&file)), bits(&expected));
            let length = cut.index(file.len() + 1);
            let whole = ends.iter().rev().find(|(end, _)| *end <= length).map_or(0, |(_, count)| *count);
            prop_assert_eq!(bits(&read(&file[..length])), bits(&expected[..whole]));
        }
    }
}
