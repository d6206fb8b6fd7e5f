use gradient_transform::{Backend, Context, Element, GradientTransform, Result, fields, transform};
use serde::{Deserialize, Serialize};

use crate::average::{MomentWeights, gradients, rescaled};
use crate::check;

/// Adam that divides by the largest second moment so far.
///
/// ```text
/// m, v as in Adam
/// largest <- max(largest, v),   u <- m^ / (sqrt(largest / (1 - beta2^t)) + eps)      PyTorch
/// largest <- max(largest, v^),  u <- m^ / (sqrt(largest) + eps)                      with of_debiased: optax
/// ```
///
/// Reddi, Kale and Kumar, 1904.09237, algorithm 2, which has no bias correction. The two forms differ until
/// `beta2^t` vanishes: in optax's form, the first squares, which have a large weight, stay in the maximum.
///
/// Stands in Adam's place in a chain. Keeps three values per element.
///
/// ```
/// use elementary::AmsGrad;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let amsgrad = AmsGrad { beta1: 0.0, beta2: 0.5, of_debiased: true, ..AmsGrad::default() };
/// let mut optimizer: Optimizer<f64> = Optimizer::new_in((amsgrad, Descent::default()), [("w", &[1][..])])?;
/// let mut w = [0.0_f64];
/// for (gradient, expected) in [(2.0, -1.0), (1.0, -1.5)] {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[gradient]))])?;
///     assert!((w[0] - expected).abs() < 1e-7); // the second moment is 2, but it was 4
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AmsGrad {
    /// Weight of the old first moment, in [0, 1). Default 0.9.
    pub beta1: f64,
    /// Weight of the old second moment, in [0, 1). Default 0.999.
    pub beta2: f64,
    /// Added to the root of the debiased moment, above 0. Default 1e-8.
    pub eps: f64,
    /// Whether the largest of the debiased moments is taken, as in optax. Default false.
    pub of_debiased: bool,
}

impl Default for AmsGrad {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, of_debiased: false }
    }
}

/// State of an element.
#[fields]
pub struct Moments<V> {
    /// First moment, debiased.
    pub m: V,
    /// Second moment, debiased.
    pub v: V,
    /// The largest second moment.
    pub largest: V,
}

/// Numbers of a step.
#[fields]
pub struct Numbers<V> {
    /// Weight of the old first moment.
    pub old_m: V,
    /// Weight of the gradient in it.
    pub new_m: V,
    /// Weight of the old second moment.
    pub old_v: V,
    /// Weight of the squared gradient in it.
    pub new_v: V,
    /// Factor of the largest moment when d moves.
    pub kept: V,
    /// Factor of the debiased moment in the comparison.
    pub sum: V,
}

#[transform("amsgrad")]
impl GradientTransform for AmsGrad {
    type State<V: Copy> = Moments<V>;
    type Scalars<V: Copy> = Numbers<V>;

    fn validate(&self) -> Result<()> {
        check::decay("beta1", self.beta1)?;
        check::decay("beta2", self.beta2)?;
        check::positive("eps", self.eps)
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Numbers<f64>) {
        let MomentWeights { old_m, new_m, old_v, new_v } =
            MomentWeights::debiased(cx, self.beta1, self.beta2);
        let sum = if self.of_debiased { 1.0 } else { 1.0 - self.beta2.powf(gradients(cx)) };
        *scalars = Numbers { old_m, new_m, old_v, new_v, kept: rescaled(cx).powi(2), sum };
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let (g, n) = (e.update, e.scalars);
        e.state.m = n.old_m * e.state.m + n.new_m * g;
        e.state.v = n.old_v * e.state.v + n.new_v * g.squared();
        e.state.largest = (n.kept * e.state.largest).max(n.sum * e.state.v);
        e.update = e.state.m / ((e.state.largest / n.sum).sqrt() + self.eps);
    }
}
