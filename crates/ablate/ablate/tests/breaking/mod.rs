//! The transforms that ship, and one that breaks the weights.

use ablate::registry::{Registry, TransformKind};
use gradient_transform::map;
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct From {
    /// The step from which on updates are infinite.
    step: u64,
}

pub(crate) fn registry() -> Registry {
    Registry::shipped().with_transform(TransformKind::new(
        "break",
        "infinite updates from a step on",
        |from: From| {
            map!("break", |cx| { broken: f64::from(u8::from(cx.step.k >= from.step)) }, |u| {
                broken.gt(0.0).select(f64::from(f32::MAX), u)
            })
        },
    ))
}
