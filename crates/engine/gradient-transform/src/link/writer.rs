//! The end of a chain.

use crate::link::context::Context;
use crate::link::tile::Tile;
use crate::memory::element::Real;

/// Last transform of a chain: it moves the parameter along the update.
///
/// For every tile of the last sweep the engine calls [`direct`](Self::direct) and [`apply`](Self::apply). With a
/// transform after the writer that changes its displacement, [`displace`](Self::displace) comes in between, and
/// `direct` and `displace` run in that transform's sweep too, so they must not change columns. Given the displacement exactly as
/// `displace` made it, `apply` must move the parameter as it does without one, to the bit: a transform that changes nothing must
/// change no bit.
///
/// Exponentiated gradient (Kivinen and Warmuth, 1997), for weights above zero:
///
/// ```
/// use gradient_transform::{
///     Context, Link, Optimizer, Parameter, Reads, Real, Role, TensorInfo, Tile, WriterLink, kernel,
/// };
///
/// /// `y <- y exp(-step_size u)`.
/// #[derive(Debug)]
/// struct ExponentiatedGradient;
///
/// impl<T: Real> Link<T> for ExponentiatedGradient {
///     fn name(&self) -> &str {
///         "exponentiated-gradient"
///     }
///
///     fn role(&self, _tensor: &TensorInfo) -> Role {
///         Role::Writer
///     }
///
///     fn reads(&self) -> Reads {
///         Reads::PARAMETER
///     }
///
///     fn writer(&self) -> Option<&dyn WriterLink<T>> {
///         Some(self)
///     }
/// }
///
/// impl<T: Real> WriterLink<T> for ExponentiatedGradient {
///     fn base_column(&self) -> Option<usize> {
///         None // it keeps no iterate beside the parameter
///     }
///
///     fn average_column(&self) -> Option<usize> {
///         None // and no average of it
///     }
///
///     fn direct(&self, _cx: &Context<'_>, _tile: &mut Tile<'_, '_, T>) {} // no weight decay
///
///     fn displace(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, displacement: &mut [T]) {
///         let step_size = T::of(cx.step.step_size);
///         let y = tile.parameter;
///         kernel::map3(displacement, tile.update.values(), y, |_, u, y| shrinkage(y, step_size * u));
///     }
///
///     fn apply(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, displacement: Option<&[T]>, parameter: &mut [T]) {
///         let step_size = T::of(cx.step.step_size);
///         match displacement {
///             Some(m) => kernel::map2(parameter, m, |y, m| y - m),
///             None => kernel::map2(parameter, tile.update.values(), |y, u| y - shrinkage(y, step_size * u)),
///         }
///     }
///
///     fn evaluation_weight(&self) -> f64 {
///         1.0 // x is y
///     }
/// }
///
/// /// `y - y exp(-step)`.
/// fn shrinkage<T: Real>(y: T, step: T) -> T {
///     y - y * (-step).exp()
/// }
///
/// let mut optimizer = Optimizer::new(ExponentiatedGradient, [("w", &[2][..])])?;
/// let mut w = [0.5_f32, 0.5];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0, -1.0]))])?;
/// assert!((w[0] - 0.5 * (-1.0_f32).exp()).abs() < 1e-6 && w[1] > w[0]); // and never below zero
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub trait WriterLink<T: Real>: Send + Sync {
    /// Index of the column that holds the base iterate, if that is not the parameter itself.
    fn base_column(&self) -> Option<usize> {
        None
    }

    /// Index of the column that holds the evaluation point x, if it is kept: an average of the parameters. See
    /// [`Writer::average`](crate::Writer::average).
    fn average_column(&self) -> Option<usize> {
        None
    }

    /// Completes the update: weight decay that is multiplied by the step size.
    fn direct(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>);

    /// Writes the displacement m of the parameter (`y <- y - m`) into `displacement`.
    fn displace(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, displacement: &mut [T]);

    /// Moves `parameter` (by the changed `displacement`, if there is one) and its own columns, by the update.
    /// `tile.parameter` is empty. Runs exactly once per tile.
    fn apply(
        &self,
        cx: &Context<'_>,
        tile: &mut Tile<'_, '_, T>,
        displacement: Option<&[T]>,
        parameter: &mut [T],
    );

    /// The weight of the evaluation point x in the parameter, `y = weight x + (1 - weight) z` with the base iterate z: above 0,
    /// and at most 1, where x is y. Schedule-Free's beta1.
    fn evaluation_weight(&self) -> f64 {
        1.0
    }
}
