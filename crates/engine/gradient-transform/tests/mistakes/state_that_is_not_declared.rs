//! State that was not declared.

use gradient_transform::{Backend, Element, GradientTransform, fields, transform};

#[derive(Clone, Debug)]
struct Momentum;

#[fields]
struct Trace<V> {
    trace: V,
}

#[transform("momentum")]
impl GradientTransform for Momentum {
    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.state.trace = 0.9 * e.state.trace + e.update;
        e.update = e.state.trace;
    }
}

fn main() {}
