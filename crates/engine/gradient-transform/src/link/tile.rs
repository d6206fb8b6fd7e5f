//! The part of a tensor that a transform sees at a time.

use crate::link::update::Update;

/// A run of consecutive elements of a tensor, in logical (row-major) order.
///
/// All slices have the same length (at most [`crate::TILE`]), except those the transform did not ask for in
/// [`crate::Link::reads`], which are empty, and columns that have a value for every n-th element only.
///
/// Weight decay of a tile, as its [`emit`](crate::Link::emit) does it:
///
/// ```
/// use gradient_transform::{Tile, Update};
///
/// let mut values = [3.0_f32, -4.0];
/// let mut tile = Tile {
///     update: Update::new(&mut values),
///     direction: &[],
///     gradient: &[3.0, -4.0],
///     parameter: &[1.0, 1.0],
///     base: &[],
///     columns: &mut [],
///     scratch: &[],
///     offset: 0,
/// };
/// tile.update.map2(tile.parameter, |u, y| u + 0.5 * y);
/// assert_eq!(tile.update.values(), [3.5, -3.5]);
/// ```
#[derive(Debug)]
pub struct Tile<'t, 'c, T> {
    /// The update u: the raw gradient at the head of a chain, changed by one transform after the other.
    /// After the writer it is the displacement m by which the parameter will move: `y <- y - m`.
    pub update: Update<'t, T>,
    /// After the writer: the update that it was given, weight decay included. Before it: empty.
    pub direction: &'t [T],
    /// The raw gradient.
    pub gradient: &'t [T],
    /// The parameter before this step.
    pub parameter: &'t [T],
    /// The writer's base iterate before this step.
    pub base: &'t [T],
    /// This transform's own columns, in the order they were declared.
    pub columns: &'t mut [&'c mut [T]],
    /// This transform's own small workspace arrays.
    pub scratch: &'t [Vec<T>],
    /// Index of the first element within the tensor, in logical order.
    pub offset: usize,
}

impl<'c, T> Tile<'_, 'c, T> {
    /// Reborrows the tile.
    pub fn reborrow(&mut self) -> Tile<'_, 'c, T> {
        Tile {
            update: self.update.reborrow(),
            direction: self.direction,
            gradient: self.gradient,
            parameter: self.parameter,
            base: self.base,
            columns: self.columns,
            scratch: self.scratch,
            offset: self.offset,
        }
    }
}
