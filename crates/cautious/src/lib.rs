#![doc = include_str!("../README.md")]

use gradient_transform::{
    Context, Link, Reads, Real, Role, StateSpec, Sums, TensorInfo, TensorState, Tile, kernel,
};

/// Leaves out the elements of a step that go against the update, and makes up for them in the others.
///
/// With the writer's displacement m (`y <- y - m`), the update u that the writer was given, weight decay included, and the averaging's
/// part of the displacement, `c (y - z)`:
///
/// ```text
/// share = number of elements with m u > 0 / number of elements with u != 0
/// m <- c (y - z) + (m - c (y - z)) / max(share, 1e-3)   where m u > 0
/// m <- 0                                                where m u <= 0
/// m <- m                                                where u = 0, as there is nothing to be cautious about
/// ```
///
/// Only the step is scaled up. The averaging's part is a feedback: with a factor above 2/c it would throw y past z, farther in every step.
/// Behind [`Descent`](gradient_transform::Descent) m always agrees with u, and nothing changes.
///
/// Liang et al., 2411.16085, Algorithm 1. There the momentum is masked by the gradient, and what is scaled is a bounded update; here, as
/// in the reference, the displacement that Schedule-Free makes is masked, and its base iterate z is moved by the whole update.
///
/// Belongs behind the writer. Needs two sums over the whole tensor, so there is one more sweep. Keeps nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cautious {
    /// Reference 1.9.2: all of m is scaled, by the share among all elements, and elements without an update stand still:
    /// `m <- m mask / max(mean(mask), 1e-3)`. Where most of a tensor has no gradient, the weights run away.
    pub scales_displacement: bool,
}

/// The least share by which the step is scaled up.
const LEAST: f64 = 1e-3;

impl<T: Real> Link<T> for Cautious {
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

    fn reads(&self) -> Reads {
        Reads { parameter: true, ..Reads::BASE }
    }

    fn state(&self, _tensor: &TensorInfo) -> StateSpec {
        StateSpec::new().scratch(1).sums(2, 0)
    }

    fn observe(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        let one_where = |yes: bool| if yes { T::one() } else { T::zero() };
        let kept = kernel::sum2(tile.update.values(), tile.direction, |m, u| one_where(m * u > T::zero()));
        sums.scalars[0] += kept;
        sums.scalars[1] += kernel::sum(tile.direction, |u| one_where(u != T::zero()));
    }

    fn seal(&self, cx: &Context<'_>, state: TensorState<'_, T>) {
        let [kept, with_update] = [state.scalar_sums[0], state.scalar_sums[1]];
        let of = if self.scales_displacement { cx.tensor.len() as f64 } else { with_update.max(1.0) };
        state.scratch[0][0] = T::of(1.0 / (kept / of).max(LEAST));
    }

    fn emit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        let factor = tile.scratch[0][0];
        if self.scales_displacement {
            return tile
                .update
                .map2(tile.direction, move |m, u| if m * u > T::zero() { m * factor } else { T::zero() });
        }
        let (c, more) = (T::of(cx.step.averaging_weight), factor - T::one());
        let (u, y, z) = (tile.direction, tile.parameter, tile.base);
        kernel::map4(tile.update.values_mut(), u, y, z, move |m, u, y, z| {
            if m * u > T::zero() {
                m + more * (m - c * (y - z))
            } else if u == T::zero() {
                m
            } else {
                T::zero()
            }
        });
    }
}
