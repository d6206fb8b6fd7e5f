#![doc = include_str!("../README.md")]

use gradient_transform::{
    Context, GradientTransform, Real, Role, StateSpec, Sums, TensorInfo, TensorState, Tile, kernel,
};

/// Keeps the displacement where it agrees with the update's sign, and makes up for what it drops.
///
/// ```text
/// mask = 1 where m u > 0, else 0
/// m <- m * mask / max(mean(mask), 1e-3)
/// ```
///
/// with the writer's displacement m (`y <- y - m`) and the update u that the writer was given, weight decay included.
///
/// Liang et al., 2411.16085, Algorithm 1. There the momentum is masked by the gradient; here, as in the reference, the displacement
/// that Schedule-Free makes, and its base iterate z is moved by the whole update.
///
/// Belongs behind the writer. Needs the mean over the whole tensor, so there is one more sweep. Keeps nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cautious;

/// The least share of the mask by which the kept part is scaled up.
const LEAST: f64 = 1e-3;

impl<T: Real> GradientTransform<T> for Cautious {
    fn name(&self) -> &str {
        "cautious"
    }

    fn excludes(&self) -> &[(&'static str, &'static str)] {
        &[("grams", "both temper the same displacement; keep one")]
    }

    fn tempers_displacement(&self) -> bool {
        true
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Reduce
    }

    fn state(&self, _tensor: &TensorInfo) -> StateSpec {
        StateSpec::new().scratch(1).sums(1, 0)
    }

    fn observe(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        let agrees = |m: T, u: T| if m * u > T::zero() { T::one() } else { T::zero() };
        sums.scalars[0] += kernel::sum2(tile.update.values(), tile.direction, agrees);
    }

    fn seal(&self, cx: &Context<'_>, state: TensorState<'_, T>) {
        let mean = state.scalar_sums[0] / cx.tensor.len() as f64;
        state.scratch[0][0] = T::of(1.0 / mean.max(LEAST));
    }

    fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        let factor = tile.scratch[0][0];
        tile.update.map2(tile.direction, move |m, u| if m * u > T::zero() { m * factor } else { T::zero() });
    }
}
