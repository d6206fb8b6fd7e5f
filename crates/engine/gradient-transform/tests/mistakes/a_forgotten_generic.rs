//! A function of an element that is not generic over the kind of number.

use gradient_transform::{Element, GradientTransform, transform};

#[derive(Clone, Debug)]
struct Halve;

#[transform("halve")]
impl GradientTransform for Halve {
    fn update(&self, e: &mut Element<B, Self>) {
        e.update = 0.5 * e.update;
    }
}

fn main() {}
