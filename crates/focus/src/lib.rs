#![doc = include_str!("../README.md")]

use gradient_transform::{
    Context, DType, Error, GradientTransform, Moment, Reads, Real, Result, StateSpec, Storage, Sums,
    TensorInfo, TensorState, Tile, kernel,
};

/// Sign descent attracted to the average of the weights, in place of a second moment.
///
/// ```text
/// m <- beta2 r^2 m + (1 - beta2) y
/// u = sign(g) + gamma sign(y - m)
/// ```
///
/// with `r = d_prev/d` (1 without an estimator).
///
/// Liu et al., 2501.12243. There the first sign is of the gradient's moving average, and the average of the
/// weights is debiased; here, as in the reference, it starts at 0 and shrinks when d moves, so that at first the
/// attraction pushes every weight towards 0.
///
/// Takes the place of a second moment; excludes the others and atan2. A map. Keeps one value per element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Focus {
    /// Decay of the average of the weights, in [0, 1).
    pub beta2: f64,
    /// Strength of the attraction, at least 0. Default 0.1.
    pub gamma: f64,
    /// Reference 1.9.2: a bfloat16 average is rounded to the nearest twice a step. Otherwise once, as parameters are.
    pub round_twice: bool,
}

impl Focus {
    /// FOCUS with the default attraction.
    pub fn new(beta2: f64) -> Self {
        Self { beta2, gamma: 0.1, round_twice: false }
    }
}

const ONE_PRECONDITIONER: &str = "both turn the gradient into a direction; keep one";

impl<T: Real> GradientTransform<T> for Focus {
    fn name(&self) -> &str {
        "focus"
    }

    fn validate(&self) -> Result<()> {
        Error::check("beta2", self.beta2, (0.0..1.0).contains(&self.beta2), "at least 0 and below 1")?;
        Error::check(
            "gamma",
            self.gamma,
            self.gamma.is_finite() && self.gamma >= 0.0,
            "finite and at least 0",
        )
    }

    fn excludes(&self) -> &[(&'static str, &'static str)] {
        &[
            ("factored-moment", ONE_PRECONDITIONER),
            ("dense-moment", ONE_PRECONDITIONER),
            ("muon", ONE_PRECONDITIONER),
        ]
    }

    fn reads(&self) -> Reads {
        Reads::PARAMETER
    }

    fn state(&self, _tensor: &TensorInfo) -> StateSpec {
        StateSpec::new().column("average", Storage::Parameter)
    }

    fn observe(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, _sums: Sums<'_, T>) {
        let (decay, weight) = cx.step.second_moment_weights(self.beta2);
        let (decay, weight) = (T::of(decay), T::of(weight));
        let average = &mut *tile.columns[0];
        // One rounding for the product and the sum: while a weight stands still, the sign of y - m is that of the
        // rounding errors, and this keeps them as small as they can be.
        if self.round_twice && cx.tensor.dtype == DType::Bf16 {
            kernel::map2(average, tile.parameter, |m, y| {
                y.mul_add(weight, (m * decay).round_bf16()).round_bf16()
            });
        } else {
            kernel::map2(average, tile.parameter, |m, y| y.mul_add(weight, m * decay));
        }
    }

    fn emit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        if cx.step.rectification.is_some_and(|r| !r.tractable) {
            return;
        }
        let gamma = T::of(self.gamma);
        tile.update
            .map3(tile.parameter, tile.columns[0], |g, y, m| kernel::sign(g) + gamma * kernel::sign(y - m));
    }
}

impl<T: Real> Moment<T> for Focus {
    fn prepare(&self, _cx: &Context<'_>, _state: TensorState<'_, T>) {}

    fn advance(&self, _cx: &Context<'_>, _state: TensorState<'_, T>) {}
}
