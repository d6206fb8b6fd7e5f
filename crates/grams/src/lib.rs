#![doc = include_str!("../README.md")]

use gradient_transform::{Context, Link, Real, Tile, kernel};

/// Keeps the size of the displacement and takes the sign of the update: `m <- |m| sign(u)`.
///
/// With the writer's displacement m (`y <- y - m`) and the update u that the writer was given, weight decay included. Where u is 0, so is
/// the result.
///
/// Cao et al., 2412.17107. There the momentum takes the gradient's sign; here, as in the reference, the displacement that
/// Schedule-Free makes, and its base iterate z is moved by the whole update.
///
/// Belongs behind the writer. A map; keeps nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grams;

impl<T: Real> Link<T> for Grams {
    fn name(&self) -> &str {
        "grams"
    }

    fn excludes(&self) -> &[(&'static str, &'static str)] {
        &[("cautious", "both temper the same displacement; keep one")]
    }

    fn tempers_displacement(&self) -> bool {
        true
    }

    fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        tile.update.map2(tile.direction, |m, u| m.abs() * kernel::sign(u));
    }
}
