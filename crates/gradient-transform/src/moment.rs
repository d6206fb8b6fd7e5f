//! A second moment whose events can be reordered.

use crate::context::Context;
use crate::element::Real;
use crate::state::{Sums, TensorState};
use crate::tile::Tile;
use crate::transform::Link;

/// A moment that preconditions the update, taken apart so that a wrapper can reorder its events (ADOPT reads the
/// denominator before this step's gradient enters it).
///
/// As a [`Link`] of its own it does what `accumulate`, `advance`, `prepare` and `divide` do, in this order.
///
/// ```
/// use gradient_transform::{
///     Context, Descent, Link, MomentLink, Optimizer, Parameter, Real, Role, StateSpec, Storage, Sums,
///     TensorInfo, TensorState, Tile, kernel,
/// };
///
/// /// `v <- v/2 + (mean of g^2)/2`, one number for a tensor; `u <- u / sqrt(v)`.
/// #[derive(Debug)]
/// struct OneForAll;
///
/// impl<T: Real> MomentLink<T> for OneForAll {
///     fn accumulate(
///         &self,
///         _cx: &Context<'_>,
///         gradient: &[T],
///         _parameter: &[T],
///         _columns: &mut [&mut [T]],
///         _offset: usize,
///         sums: Sums<'_, T>,
///     ) {
///         sums.scalars[0] += kernel::sum(gradient, |g| g * g);
///     }
///
///     fn advance(&self, cx: &Context<'_>, state: TensorState<'_, T>) {
///         let (decay, weight) = cx.step.second_moment_weights(0.5);
///         let mean = state.scalar_sums[0] / cx.tensor.len() as f64;
///         state.vectors[0].update(&[T::of(weight * mean)], |v, term| T::of(decay) * v + term);
///     }
///
///     fn prepare(&self, _cx: &Context<'_>, state: TensorState<'_, T>) {
///         let v: T = state.vectors[0].get(0);
///         state.scratch[0][0] = T::one() / (v.sqrt() + T::of(1e-8));
///     }
///
///     fn divide(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
///         tile.update.scale(tile.scratch[0][0]);
///     }
/// }
///
/// impl<T: Real> Link<T> for OneForAll {
///     fn name(&self) -> &str {
///         "one-for-all"
///     }
///
///     fn role(&self, _tensor: &TensorInfo) -> Role {
///         Role::Reduce
///     }
///
///     fn state(&self, _tensor: &TensorInfo) -> StateSpec {
///         StateSpec::new().vector("v", 1, Storage::Compute).scratch(1).sums(1, 0)
///     }
///
///     fn observe(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
///         let Tile { update, parameter, columns, offset, .. } = tile;
///         self.accumulate(cx, update.values(), parameter, columns, *offset, sums);
///     }
///
///     fn seal(&self, cx: &Context<'_>, mut state: TensorState<'_, T>) {
///         self.advance(cx, state.reborrow());
///         self.prepare(cx, state);
///     }
///
///     fn emit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
///         self.divide(cx, tile);
///     }
/// }
///
/// let mut optimizer: Optimizer = Optimizer::new((OneForAll, Descent::default()), [("w", &[2][..])])?;
/// let mut w = [0.0_f32, 0.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0, 1.0]))])?;
/// assert!((w[0] + 2.0_f32.sqrt()).abs() < 1e-6); // v = 1/2
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub trait MomentLink<T: Real>: Link<T> {
    /// Takes a tile of gradients in: moves the moment's columns on, or adds to the sums.
    fn accumulate(
        &self,
        cx: &Context<'_>,
        gradient: &[T],
        parameter: &[T],
        columns: &mut [&mut [T]],
        offset: usize,
        sums: Sums<'_, T>,
    );

    /// Moves small state on by the sums that `accumulate` gathered.
    fn advance(&self, cx: &Context<'_>, state: TensorState<'_, T>);

    /// Makes ready what `divide` needs from small state.
    fn prepare(&self, cx: &Context<'_>, state: TensorState<'_, T>);

    /// Turns the update into a direction, by the moment as it stands.
    fn divide(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>);
}
