//! Events as this program writes them.
//!
//! Messages by the numbers of their fields, which are those of tensorboard/compat/proto:
//!
//! ```text
//! Event    1 wall time | 2 step | 3 version | 5 Summary | 7 SessionLog (1 status)
//! Summary  1 Value, repeated
//! Value    1 tag | 8 TensorProto (1 type, 2 shape, 5 float32, 6 float64) | 9 SummaryMetadata (1 plugin (1 name), 4 class of data)
//! ```
//!
//! A number is a tensor of float32 without dimensions, as TensorFlow and JAX write it: TensorBoard's server shows no
//! float64. The tensor has the number as float64, too, which TensorBoard passes over and
//! [`read_event`](super::read_event) prefers, so that an analysis has every bit.

use super::message::{push_bytes, push_double, push_integer};
use super::read::FLOAT;

/// `SessionLog.START`.
const START: u64 = 1;
/// `DATA_CLASS_SCALAR`.
const SCALAR: u64 = 1;

fn event(wall_time: f64, step: i64) -> Vec<u8> {
    let mut event = Vec::new();
    push_double(&mut event, 1, wall_time);
    push_integer(&mut event, 2, step.cast_unsigned());
    event
}

/// The first event of a file.
pub(crate) fn version(wall_time: f64) -> Vec<u8> {
    let mut event = event(wall_time, 0);
    push_bytes(&mut event, 3, b"brain.Event:2");
    event
}

/// A start of the run: whoever has read its numbers before forgets them.
pub(crate) fn restart(wall_time: f64) -> Vec<u8> {
    let mut event = event(wall_time, 0);
    let mut log = Vec::new();
    push_integer(&mut log, 1, START);
    push_bytes(&mut event, 7, &log);
    event
}

/// Numbers of a step, by tag.
pub(crate) fn scalars(wall_time: f64, step: i64, values: &[(String, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, number) in values {
        push_bytes(&mut summary, 1, &value(tag, *number));
    }
    let mut event = event(wall_time, step);
    push_bytes(&mut event, 5, &summary);
    event
}

fn value(tag: &str, number: f64) -> Vec<u8> {
    let mut tensor = Vec::new();
    push_integer(&mut tensor, 1, FLOAT);
    push_bytes(&mut tensor, 2, &[]);
    push_bytes(&mut tensor, 5, &(number as f32).to_le_bytes());
    push_bytes(&mut tensor, 6, &number.to_le_bytes());
    let (mut plugin, mut metadata) = (Vec::new(), Vec::new());
    push_bytes(&mut plugin, 1, b"scalars");
    push_bytes(&mut metadata, 1, &plugin);
    push_integer(&mut metadata, 4, SCALAR);
    let mut value = Vec::new();
    push_bytes(&mut value, 1, tag.as_bytes());
    push_bytes(&mut value, 8, &tensor);
    push_bytes(&mut value, 9, &metadata);
    value
}
