use gradient_transform::{
    Context, DType, Error, Link, MomentLink, Real, Result, StateSpec, Storage, Sums, TensorInfo, TensorState,
    Tile, kernel,
};

use crate::division::{Divide, Division, by_atan2, by_epsilon};

/// The full second moment: `v <- beta2 r^2 v + (1 - beta2) g^2`, `u = g / (sqrt(v) + eps)`, with `r = d_prev/d`
/// (1 without an estimator).
///
/// There is no bias correction unless [`crate::Rectify`] is in the chain, so the first update is `1/sqrt(1 - beta2)` times
/// the sign of the gradient. Only a moment that joins a tensor that was trained without it takes that first gradient's square as it
/// is: d has grown by then, and the step would be ten times too long.
///
/// A map: no cut in the chain. Keeps one value per element, in the parameter's type.
///
/// ```
/// use factored_moment::DenseMoment;
/// use gradient_transform::{Descent, Optimizer, Parameter};
/// let mut optimizer: Optimizer<f64> = Optimizer::new((DenseMoment::new(0.99), Descent::default()), [("w", &[2][..])])?;
/// let mut w = [1.0_f64, 1.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0, -0.5]))])?;
/// assert!((w[0] + 9.0).abs() < 1e-5 && (w[1] - 11.0).abs() < 1e-5); // a step of 10 against the gradient's sign
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DenseMoment {
    /// Decay of the moment, in [0, 1).
    pub beta2: f64,
    /// How the update is divided by the moment's root.
    pub division: Division,
    /// Reference 1.9.2: a bfloat16 moment is rounded to the nearest twice a step, after the decay and after the
    /// addition. Otherwise once, as parameters are.
    pub round_twice: bool,
}

impl DenseMoment {
    /// A second moment with the default division.
    pub fn new(beta2: f64) -> Self {
        Self { beta2, division: Division::default(), round_twice: false }
    }
}

pub(crate) fn check_beta2(beta2: f64) -> Result<()> {
    Error::check("beta2", beta2, (0.0..1.0).contains(&beta2), "at least 0 and below 1")
}

impl<T: Real> Link<T> for DenseMoment {
    fn name(&self) -> &str {
        "dense-moment"
    }

    fn validate(&self) -> Result<()> {
        check_beta2(self.beta2)?;
        self.division.validate()
    }

    fn state(&self, _tensor: &TensorInfo) -> StateSpec {
        StateSpec::new().column("v", Storage::Parameter)
    }

    fn emit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        // Computed again in every sweep, and stored in the last, so that a refused step has changed nothing.
        let next = self.next::<T>(cx);
        self.divide_by(cx, tile, next);
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

impl DenseMoment {
    /// The next value of v.
    fn next<T: Real>(&self, cx: &Context<'_>) -> impl Fn(T, T) -> T + use<T> {
        let (decay, weight) = cx.step.second_moment_weights(self.beta2);
        let (decay, weight) = (T::of(decay), T::of(weight));
        let rounds = self.round_twice && cx.tensor.dtype == DType::Bf16;
        move |v, g| {
            if rounds {
                ((v * decay).round_bf16() + weight * (g * g)).round_bf16()
            } else {
                v * decay + weight * (g * g)
            }
        }
    }

    fn divide_by<T: Real>(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, moment: impl Fn(T, T) -> T) {
        if cx.step.rectification.is_some_and(|r| !r.tractable) {
            return;
        }
        let v = &*tile.columns[0];
        match self.division.at::<T>(cx) {
            Divide::Epsilon(eps) => {
                tile.update.map2(v, move |g, v| by_epsilon(g, moment(v, g).sqrt(), eps));
            }
            Divide::Atan2(b) => tile.update.map2(v, move |g, v| by_atan2(g, moment(v, g).sqrt(), b)),
        }
    }
}

impl<T: Real> MomentLink<T> for DenseMoment {
    fn accumulate(
        &self,
        cx: &Context<'_>,
        gradient: &[T],
        _parameter: &[T],
        columns: &mut [&mut [T]],
        _offset: usize,
        _sums: Sums<'_, T>,
    ) {
        kernel::map2(columns[0], gradient, self.next(cx));
    }

    fn advance(&self, _cx: &Context<'_>, _state: TensorState<'_, T>) {}

    fn prepare(&self, _cx: &Context<'_>, _state: TensorState<'_, T>) {}

    fn divide(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        self.divide_by(cx, tile, |v, _| v);
    }
}
