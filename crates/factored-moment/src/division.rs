use gradient_transform::{Context, Error, Real, Result};
use serde::{Deserialize, Serialize};

/// How an update is divided by its denominator, the root of the second moment.
///
/// ```
/// use factored_moment::{DenseMoment, Division};
///
/// assert_eq!(Division::default(), Division::Epsilon(1e-8));
/// assert!(Division::Epsilon(0.0).validate().is_err() && Division::Atan2.validate().is_ok());
/// let adam_atan2 = DenseMoment { division: Division::Atan2, ..DenseMoment::new(0.999) };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Division {
    /// `u = g / (denominator + eps)`, with `eps > 0` (Adam, 1412.6980, Algorithm 1).
    Epsilon(f64),
    /// `u = b * atan2(g, b * denominator)`: no epsilon, invariant under a rescaling of the gradients, and bounded by
    /// `b * pi / 2` (Adam-atan2, 2407.05872, section 4.3). `b` is [`gradient_transform::StepContext::clip_threshold`].
    Atan2,
}

impl Default for Division {
    /// `Epsilon(1e-8)`.
    fn default() -> Self {
        Self::Epsilon(1e-8)
    }
}

impl Division {
    /// Checks that epsilon is positive.
    ///
    /// # Errors
    /// [`Error::OptionOutOfRange`].
    pub fn validate(&self) -> Result<()> {
        match *self {
            Self::Epsilon(eps) => {
                Error::check("eps", eps, eps.is_finite() && eps > 0.0, "finite and above 0")
            }
            Self::Atan2 => Ok(()),
        }
    }

    /// This division in the arithmetic of one step.
    pub(crate) fn at<T: Real>(&self, cx: &Context<'_>) -> Divide<T> {
        match *self {
            Self::Epsilon(eps) => Divide::Epsilon(T::of(eps)),
            Self::Atan2 => Divide::Atan2(T::of(cx.step.clip_threshold())),
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Divide<T> {
    Epsilon(T),
    Atan2(T),
}

#[inline(always)]
pub(crate) fn by_epsilon<T: Real>(g: T, denominator: T, eps: T) -> T {
    g / (denominator + eps)
}

/// Whether [`by_small_epsilon`] cuts off less than it rounds, for inverse denominators up to `largest`.
pub(crate) fn epsilon_is_small<T: Real>(eps: T, largest: T) -> bool {
    let x = eps * largest;
    x * x <= T::epsilon() / T::of(8.0)
}

/// `g / (denominator + eps)` from the inverse of the denominator, with 1/(1 + x) = 1 - x for x = eps/denominator: a division
/// takes as long as the rest of a sweep over a tile.
#[inline(always)]
pub(crate) fn by_small_epsilon<T: Real>(g: T, inverse: T, eps: T) -> T {
    (g * inverse) * (T::one() - eps * inverse)
}

/// `b atan2(g, b * denominator)` for a denominator that is not negative.
#[inline(always)]
pub(crate) fn by_atan2<T: Real>(g: T, denominator: T, b: T) -> T {
    let (rise, run) = (g.abs(), denominator * b);
    // By comparisons, as `min` and `max` would lose what is not a number.
    let (low, high) = if rise > run { (run, rise) } else { (rise, run) };
    let ratio = if high == T::zero() { T::zero() } else { low / high };
    let angle = ratio.arctangent();
    let angle = if rise > run { T::of(std::f64::consts::FRAC_PI_2) - angle } else { angle };
    angle.copysign(g) * b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arctangent_of_a_quotient_agrees_with_float64_and_loses_no_nan() {
        let sizes = [0.0_f32, 1e-30, 3e-9, 0.02, 1.0, 70.0, 1e20];
        for g in sizes.iter().flat_map(|&g| [g, -g]) {
            for denominator in sizes {
                let exact = 2.0 * f64::from(g).atan2(2.0 * f64::from(denominator));
                let error = (f64::from(by_atan2(g, denominator, 2.0)) - exact).abs();
                assert!(error <= 3e-7 * exact.abs() + f64::from(f32::MIN_POSITIVE), "{g} {denominator}");
            }
        }
        assert!(by_atan2(f32::NAN, 1.0, 1.0).is_nan() && by_atan2(1.0, f32::NAN, 1.0).is_nan());
    }

    #[test]
    fn the_series_agrees_with_the_division_where_it_is_used() {
        let eps = 1e-8_f32;
        for denominator in [8.2e-5_f32, 1e-3, 0.7, 50.0] {
            assert!(epsilon_is_small(eps, denominator.recip()), "{denominator}");
            let exact = 0.3 / (f64::from(denominator) + f64::from(eps));
            let relative = f64::from(by_small_epsilon(0.3, denominator.recip(), eps)) / exact - 1.0;
            assert!(relative.abs() < 4.0 * f64::from(f32::EPSILON), "{denominator} {relative:e}");
        }
        assert!(!epsilon_is_small(eps, 2e4) && !epsilon_is_small(eps, f32::INFINITY));
    }
}
