//! An author's side: functions of one element, and of numbers on the host.

mod along;
mod column;
mod descent;
mod element;
mod equations;
mod fields;
mod formula;
pub mod kind;
mod link;
pub(crate) mod loops;
mod map;
mod moment;
pub(crate) mod trace;
mod transform;
mod writer;

pub use along::AlongState;
pub use column::Column;
pub use descent::Descent;
pub use element::{Element, ElementOf};
pub(crate) use fields::count;
pub use fields::{Fields, Nothing};
pub use gradient_transform_macros::{fields, transform};
pub use loops::fused::{Fused, Transforms, fused, loops};
pub use moment::{Moment, MomentElement};
pub use transform::GradientTransform;
pub use writer::Writer;
