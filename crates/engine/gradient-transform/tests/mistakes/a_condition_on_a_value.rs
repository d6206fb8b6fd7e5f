//! `if` on a value of an element.

use gradient_transform::{Backend, Element, GradientTransform, transform};

#[derive(Clone, Debug)]
struct Positive;

#[transform("positive")]
impl GradientTransform for Positive {
    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        if e.update < 0.0 {
            e.update = 0.0 * e.update;
        }
    }
}

fn main() {}
