#![doc = include_str!("../README.md")]

mod update;

use gradient_transform::{Backend, Element, GradientTransform, transform};
pub use update::GramsUpdate;

/// Keeps the size of the displacement and takes the sign of the update: `m <- |m| sign(u)`.
///
/// With the writer's displacement m (`y <- y - m`) and the update u that the writer got, weight decay
/// included. Where u is 0, the result is 0.
///
/// Cao et al., 2412.17107. There the momentum takes the gradient's sign. Here, as in the reference, the
/// displacement of Schedule-Free takes the update's sign, and its base iterate z is moved by the whole
/// update.
///
/// Belongs after the writer. A map; keeps nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grams;

#[transform("grams")]
impl GradientTransform for Grams {
    fn excludes(&self) -> &[(&'static str, &'static str)] {
        &[("cautious", "both change the same displacement; keep one")]
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.update.abs() * e.direction.sign();
    }
}
