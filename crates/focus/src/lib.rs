#![doc = include_str!("../README.md")]

use gradient_transform::{
    Context, DType, Error, Link, MomentLink, Reads, Real, Result, StateSpec, Storage, Sums, TensorInfo,
    TensorState, Tile, kernel,
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
/// attraction pushes every weight towards 0. In a tensor that was trained without it, it starts at the weights.
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

impl<T: Real> Link<T> for Focus {
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

    fn emit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        // Computed again in every sweep, and stored in the last, so that a refused step has changed nothing.
        self.attract(cx, tile, self.next(cx));
    }

    fn commit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        let Tile { update, parameter, columns, offset, .. } = tile;
        self.accumulate(cx, update.values(), parameter, columns, *offset, sums);
        self.divide(cx, tile);
    }

    fn commits_columns(&self) -> bool {
        true
    }
}

impl Focus {
    /// The next average of the weights.
    fn next<T: Real>(&self, cx: &Context<'_>) -> impl Fn(T, T) -> T + use<T> {
        let (decay, weight) = cx.step.second_moment_weights(self.beta2);
        let (decay, weight) = (T::of(decay), T::of(weight));
        let rounds = self.round_twice && cx.tensor.dtype == DType::Bf16;
        // One rounding for the product and the sum: while a weight stands still, the sign of y - m is that of the
        // rounding errors, and this keeps them as small as they can be.
        move |m, y| {
            if rounds {
                y.mul_add(weight, (m * decay).round_bf16()).round_bf16()
            } else {
                y.mul_add(weight, m * decay)
            }
        }
    }

    fn attract<T: Real>(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, average: impl Fn(T, T) -> T) {
        if cx.step.rectification.is_some_and(|r| !r.tractable) {
            return;
        }
        let gamma = T::of(self.gamma);
        tile.update.map3(tile.parameter, tile.columns[0], move |g, y, m| {
            kernel::sign(g) + gamma * kernel::sign(y - average(m, y))
        });
    }
}

impl<T: Real> MomentLink<T> for Focus {
    fn accumulate(
        &self,
        cx: &Context<'_>,
        _gradient: &[T],
        parameter: &[T],
        columns: &mut [&mut [T]],
        _offset: usize,
        _sums: Sums<'_, T>,
    ) {
        kernel::map2(columns[0], parameter, self.next(cx));
    }

    fn advance(&self, _cx: &Context<'_>, _state: TensorState<'_, T>) {}

    fn prepare(&self, _cx: &Context<'_>, _state: TensorState<'_, T>) {}

    fn divide(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        self.attract(cx, tile, |m, _| m);
    }
}
