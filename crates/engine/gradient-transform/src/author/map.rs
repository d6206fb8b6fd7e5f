//! Transforms from closures.

use std::fmt;
use std::marker::PhantomData;

use crate::link::context::{Context, StepContext, TensorInfo};
use crate::link::state::{StateSpec, Sums, TensorState};
use crate::link::tile::Tile;
use crate::link::{Link, Reads, Role};
use crate::memory::element::Real;
use crate::memory::kernel;

/// An elementwise transform of one's own: `f(step, u, g, y)` gives the new update from the update so far, the raw
/// gradient and the parameter, for one element.
///
/// The engine runs it with the widest vectors of the machine, as fast as the transforms of this project.
///
/// ```
/// use gradient_transform::{map, Descent, Optimizer, Parameter};
/// // Sign descent with a pull towards zero.
/// let sign = map("sign", |_step, u: f32, _g, y| u.signum() + 0.01 * y);
/// let mut optimizer = Optimizer::new((sign, Descent::default()), [("w", &[2][..])])?;
/// optimizer.set_lr(0, 0.1)?;
/// let mut w = [1.0_f32, -1.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0_f32, 4.0]))])?;
/// assert!((w[0] - 0.899).abs() < 1e-6 && (w[1] + 1.099).abs() < 1e-6);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn map<T, F>(name: &'static str, f: F) -> Map<T, F>
where
    T: Real,
    F: Fn(&StepContext, T, T, T) -> T + Send + Sync,
{
    Map { name, f, element: PhantomData }
}

/// See [`map`].
///
/// ```
/// use gradient_transform::{Link, Map, map};
///
/// let halve: Map<f32, _> = map("halve", |_step, u: f32, _g, _y| u / 2.0);
/// assert_eq!(halve.name(), "halve");
/// ```
pub struct Map<T, F> {
    name: &'static str,
    f: F,
    element: PhantomData<fn(T) -> T>,
}

impl<T, F> fmt::Debug for Map<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Map").field(&self.name).finish()
    }
}

impl<T, F> Link<T> for Map<T, F>
where
    T: Real,
    F: Fn(&StepContext, T, T, T) -> T + Send + Sync,
{
    fn name(&self) -> &str {
        self.name
    }

    fn reads(&self) -> Reads {
        Reads::GRADIENT_AND_PARAMETER
    }

    fn emit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        let step = cx.step;
        tile.update.map3(tile.gradient, tile.parameter, |u, g, y| (self.f)(step, u, g, y));
    }
}

/// A transform that needs one number of the whole tensor: `measure(u)` is summed over all elements, `finish(sum, n)`
/// turns the sum over `n` elements into a factor, and the update is multiplied by it.
///
/// ```
/// use gradient_transform::{rescale, Descent, Optimizer, Parameter};
/// // Normalised gradient descent.
/// let unit = rescale("unit-norm", |u: f32| u * u, |sum, _n| 1.0 / sum.sqrt().max(1e-12));
/// let mut optimizer = Optimizer::new((unit, Descent::default()), [("w", &[2][..])])?;
/// optimizer.set_lr(0, 0.5)?;
/// let mut w = [1.0_f32, 1.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0_f32, 4.0]))])?;
/// assert!((w[0] - 0.7).abs() < 1e-6 && (w[1] - 0.6).abs() < 1e-6);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub fn rescale<T, M, F>(name: &'static str, measure: M, finish: F) -> Rescale<T, M, F>
where
    T: Real,
    M: Fn(T) -> T + Send + Sync,
    F: Fn(f64, usize) -> f64 + Send + Sync,
{
    Rescale { name, measure, finish, element: PhantomData }
}

/// See [`rescale`].
///
/// ```
/// use gradient_transform::{Link, Rescale, rescale};
///
/// let mean: Rescale<f32, _, _> = rescale("by-mean", |u: f32| u.abs(), |sum, n| n as f64 / sum);
/// assert_eq!(mean.name(), "by-mean");
/// ```
pub struct Rescale<T, M, F> {
    name: &'static str,
    measure: M,
    finish: F,
    element: PhantomData<fn(T) -> T>,
}

impl<T, M, F> fmt::Debug for Rescale<T, M, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rescale").field(&self.name).finish()
    }
}

impl<T, M, F> Link<T> for Rescale<T, M, F>
where
    T: Real,
    M: Fn(T) -> T + Send + Sync,
    F: Fn(f64, usize) -> f64 + Send + Sync,
{
    fn name(&self) -> &str {
        self.name
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Reduce
    }

    fn state(&self, _tensor: &TensorInfo) -> StateSpec {
        StateSpec::new().scratch(1).sums(1, 0)
    }

    fn observe(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        sums.scalars[0] += kernel::sum(tile.update.values(), &self.measure);
    }

    fn seal(&self, cx: &Context<'_>, state: TensorState<'_, T>) {
        state.scratch[0][0] = T::of((self.finish)(state.scalar_sums[0], cx.tensor.len()));
    }

    fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        tile.update.scale(tile.scratch[0][0]);
    }
}
