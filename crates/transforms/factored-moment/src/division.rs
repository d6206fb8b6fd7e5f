use gradient_transform::{Backend, Context, Error, Num, Real, Rectification, Result, StepContext};
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
    /// `b * pi / 2` (Adam-atan2, 2407.05872, section 4.3). `b` is [`gradient_transform::Context::clip_threshold`].
    Atan2,
    /// `u = 4/pi atan2(g, denominator)`, which is 1 where both are equal, and bounded by 2: the form of reference 2.0.1, whose
    /// b is always 1.
    #[serde(rename = "unit-atan2")]
    UnitAtan2,
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
            Self::Atan2 | Self::UnitAtan2 => Ok(()),
        }
    }

    /// The numbers that the formula of this division needs: eps or b, and the factor of the arctangent.
    pub(crate) fn numbers(&self, cx: &Context<'_>, of_eps: f64) -> (f64, f64) {
        match *self {
            Self::Epsilon(eps) => (eps * of_eps, 1.0),
            Self::Atan2 => (cx.clip_threshold(), cx.clip_threshold()),
            Self::UnitAtan2 => (1.0, 4.0 / std::f64::consts::PI),
        }
    }

    /// Which formula it is.
    pub(crate) fn formula(&self, step: &StepContext) -> u32 {
        match self {
            _ if step.published::<Rectification>().is_some_and(|r| !r.tractable) => UNDIVIDED,
            Self::Epsilon(_) => EPSILON,
            Self::Atan2 | Self::UnitAtan2 => ATAN2,
        }
    }
}

/// The usual formula: the same as [`EPSILON`], from the inverse of the root, for an eps that is small
/// relative to the root.
pub(crate) const SMALL_EPSILON: u32 = 0;
/// `u / (root + eps)`.
pub(crate) const EPSILON: u32 = 1;
/// `a atan2(u, b root)`.
pub(crate) const ATAN2: u32 = 2;
/// While RAdam's rectifier is zero: `u`.
pub(crate) const UNDIVIDED: u32 = 3;
/// Number of formulas.
pub(crate) const FORMULAS: u32 = 4;

/// An update divided by the root of a moment, by one of the formulas. `number` is eps or b, `outer` is a.
#[inline(always)]
pub(crate) fn divide<B: Backend>(
    formula: u32,
    u: Num<B>,
    root: Num<B>,
    number: Num<B>,
    outer: Num<B>,
) -> Num<B> {
    // The most frequent first: comparisons are cheaper than a jump by table.
    if formula == SMALL_EPSILON {
        // 1/(1 + x) = 1 - x for x = eps/root: a division takes as long as the rest of a sweep over a tile.
        (u * root) * (1.0 - number * root)
    } else if formula == EPSILON {
        u / (root + number)
    } else if formula == ATAN2 {
        u.atan2(root * number) * outer
    } else {
        u
    }
}

/// Whether [`SMALL_EPSILON`] cuts off less than it rounds, for inverse roots up to `largest`.
pub(crate) fn epsilon_is_small<T: Real>(eps: T, largest: T) -> bool {
    let x = eps * largest;
    x * x <= T::epsilon() / T::of(8.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `divide` of single numbers.
    fn divided(formula: u32, u: f32, root: f32, number: f32) -> f32 {
        use gradient_transform::number::{Graph, Input};
        let graph = Graph::new();
        let inputs = [Input::Update, Input::State(0), Input::Scalar(0)];
        let [of_u, of_root, of_number] = inputs.map(|input| graph.input(input));
        graph.value(divide(formula, of_u, of_root, of_number, of_number), |input| match input {
            Input::Update => u,
            Input::State(_) => root,
            _ => number,
        })
    }

    #[test]
    fn the_arctangent_of_a_quotient_agrees_with_float64_and_loses_no_nan() {
        let by_atan2 = |g: f32, root: f32, b: f32| divided(ATAN2, g, root, b);
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
            let relative = f64::from(divided(SMALL_EPSILON, 0.3, denominator.recip(), eps)) / exact - 1.0;
            assert!(relative.abs() < 4.0 * f64::from(f32::EPSILON), "{denominator} {relative:e}");
        }
        assert!(!epsilon_is_small(eps, 2e4) && !epsilon_is_small(eps, f32::INFINITY));
    }
}
