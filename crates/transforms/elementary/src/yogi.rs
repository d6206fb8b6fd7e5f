use gradient_transform::{Backend, Context, Element, GradientTransform, Result, fields, transform};
use serde::{Deserialize, Serialize};

use crate::average::{MomentWeights, Moments, at_first, gradients, rescaled};
use crate::check;

/// Adam whose second moment changes by a part of the squared gradient, however large the moment is.
///
/// ```text
/// v <- v - (1 - beta2) sign(v - g^2) g^2,  v = initial at first
/// u <- m^ / (sqrt(v / (1 - beta2^t)) + eps)      m^, t as in Adam
/// ```
///
/// Zaheer et al. (NeurIPS 2018), algorithm 2, debiased as optax's `scale_by_yogi`; there the first moment
/// starts at `initial` too. After large gradients the moment falls more slowly than Adam's.
///
/// Stands in Adam's place in a chain. Keeps two values per element.
///
/// ```
/// use elementary::Yogi;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let yogi = Yogi { beta1: 0.0, beta2: 0.5, eps: 1e-9, initial: 1e-9 };
/// let mut optimizer = Optimizer::new((yogi, Descent::default()), [("w", &[1][..])])?;
/// let mut w = [0.0_f32];
/// // v = 8, then 8 - 2: over 1/2, and over 3/4.
/// for (gradient, expected) in [(4.0, -1.0), (2.0, -1.0 - 2.0 / 8.0_f32.sqrt())] {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[gradient]))])?;
///     assert!((w[0] - expected).abs() < 1e-6);
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Yogi {
    /// Weight of the old first moment, in [0, 1). Default 0.9.
    pub beta1: f64,
    /// 1 minus the part of the square that changes the second moment, in [0, 1). Default 0.999.
    pub beta2: f64,
    /// Added to the root of the debiased second moment, above 0. Default 1e-3.
    pub eps: f64,
    /// First value of the second moment, above 0. Default 1e-6.
    pub initial: f64,
}

impl Default for Yogi {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-3, initial: 1e-6 }
    }
}

/// Numbers of a step.
#[fields]
pub struct Numbers<V> {
    /// Weight of the old first moment.
    pub old: V,
    /// Weight of the gradient in it.
    pub new: V,
    /// Factor of the second moment when d moves.
    pub kept: V,
    /// First value of the second moment, in the first step.
    pub initial: V,
    /// The part of the square that changes it.
    pub part: V,
    /// Divisor of the second moment, which debiases it.
    pub sum: V,
}

#[transform("yogi")]
impl GradientTransform for Yogi {
    type State<V: Copy> = Moments<V>;
    type Scalars<V: Copy> = Numbers<V>;

    fn validate(&self) -> Result<()> {
        check::decay("beta1", self.beta1)?;
        check::decay("beta2", self.beta2)?;
        check::positive("eps", self.eps)?;
        check::positive("initial", self.initial)
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Numbers<f64>) {
        let MomentWeights { old_m: old, new_m: new, .. } =
            MomentWeights::debiased(cx, self.beta1, self.beta2);
        let sum = 1.0 - self.beta2.powf(gradients(cx));
        // If it joins late, it starts with the whole square, and with nothing else.
        let (initial, part) =
            if cx.fill { (0.0, sum) } else { (self.initial * at_first(cx), 1.0 - self.beta2) };
        *scalars = Numbers { old, new, kept: rescaled(cx).powi(2), initial, part, sum };
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let (g, n) = (e.update, e.scalars);
        let (v, square) = (n.kept * e.state.v + n.initial, g.squared());
        e.state.m = n.old * e.state.m + n.new * g;
        e.state.v = v - n.part * (v - square).sign() * square;
        e.update = e.state.m / ((e.state.v / n.sum).sqrt() + self.eps);
    }
}
