//! A transform without the attribute.

use gradient_transform::{Backend, Element, GradientTransform};

#[derive(Clone, Debug)]
struct Halve;

impl GradientTransform for Halve {
    fn name(&self) -> &str {
        "halve"
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = 0.5 * e.update;
    }
}

fn main() {}
