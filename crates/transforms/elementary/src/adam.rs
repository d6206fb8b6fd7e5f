use gradient_transform::{
    Backend, Column, Context, Element, GradientTransform, Moment, MomentElement, Result, TensorInfo, fields,
    transform,
};
use serde::{Deserialize, Serialize};

use crate::average::{MomentWeights, Moments, Weights, gradients, weights_of_squares};
use crate::check;

/// Adam's direction: the average gradient over the root of the average square, both debiased.
///
/// ```text
/// m <- beta1 m + (1 - beta1) g,    m^ = m / (1 - beta1^t)      at the t-th gradient of the tensor
/// v <- beta2 v + (1 - beta2) g^2,  v^ = v / (1 - beta2^t)
/// u <- m^ / (sqrt(v^) + eps)
/// ```
///
/// With `nesterov`, `beta1 m / (1 - beta1^(t+1)) + (1 - beta1) g / (1 - beta1^t)` replaces m^, as in optax's
/// `nadam`;
/// [`NAdam`](crate::NAdam) is the form of the paper and of PyTorch, in which beta1 rises. Without `bias_correction` nothing is divided by
/// `1 - beta^t`, and the first steps are up to `(1 - beta1) / sqrt(1 - beta2)` times as long.
///
/// Kingma and Ba, 1412.6980, algorithm 1. PyTorch's `Adam` and optax's `scale_by_adam` are the same up to
/// rounding: the moments are kept debiased here. AdamW is this, decay after it
/// ([`WeightDecay`](crate::WeightDecay), or the writer's), and descent.
///
/// Belongs after clipping. Keeps two values per element, one with `beta1 = 0`. If an estimator moves d, the
/// moments are rescaled. In a tensor that was trained without it, they start with the first gradient that it
/// gets.
///
/// ```
/// use elementary::Adam;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let adam = Adam { beta1: 0.5, beta2: 0.5, ..Adam::default() };
/// let mut optimizer: Optimizer<f64> = Optimizer::new_in((adam, Descent::default()), [("w", &[1][..])])?;
/// let mut w = [0.0];
/// // m^ = 2, v^ = 4; then m^ = (2/4)/(3/4), v^ = (4/4)/(3/4).
/// for (gradient, expected) in [(2.0, -1.0), (0.0, -1.0 - 0.75_f64.sqrt() / 1.5)] {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[gradient]))])?;
///     assert!((w[0] - expected).abs() < 1e-7);
/// }
/// let plain = Adam { bias_correction: false, ..adam };
/// let mut optimizer: Optimizer<f64> = Optimizer::new_in((plain, Descent::default()), [("w", &[1][..])])?;
/// let mut w = [0.0];
/// // m = 2/2, v = 4/2; then m = 2/4, v = 4/4.
/// for (gradient, expected) in [(2.0, -0.5_f64.sqrt()), (0.0, -0.5_f64.sqrt() - 0.5)] {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[gradient]))])?;
///     assert!((w[0] - expected).abs() < 1e-7);
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Weight of the old first moment, in [0, 1). Default 0.9.
    pub beta1: f64,
    /// Weight of the old second moment, in [0, 1). Default 0.999.
    pub beta2: f64,
    /// Added to the root of the debiased second moment, above 0. Default 1e-8.
    pub eps: f64,
    /// Whether the first moment is Nesterov's. Default false.
    pub nesterov: bool,
    /// Whether both moments are debiased. Default true.
    pub bias_correction: bool,
}

impl Default for Adam {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, nesterov: false, bias_correction: true }
    }
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
    /// Weight of the first moment in the direction, with Nesterov's.
    pub ahead: V,
    /// Weight of the gradient in the direction, with Nesterov's.
    pub now: V,
}

#[transform("adam")]
impl GradientTransform for Adam {
    type State<V: Copy> = Moments<V>;
    type Scalars<V: Copy> = Numbers<V>;

    fn validate(&self) -> Result<()> {
        check::decay("beta1", self.beta1)?;
        check::decay("beta2", self.beta2)?;
        check::positive("eps", self.eps)
    }

    fn columns(&self, _tensor: &TensorInfo) -> Moments<Column> {
        let m = if self.beta1 == 0.0 { Column::ABSENT } else { Column::ZEROS };
        Moments { m, v: Column::ZEROS }
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Numbers<f64>) {
        let MomentWeights { old_m, new_m, old_v, new_v } =
            MomentWeights::of(cx, self.beta1, self.beta2, self.bias_correction);
        let t = gradients(cx);
        let sum = |t: f64| if self.bias_correction { 1.0 - self.beta1.powf(t) } else { 1.0 };
        let (ahead, now) = (self.beta1 * sum(t) / sum(t + 1.0), (1.0 - self.beta1) / sum(t));
        *scalars = Numbers { old_m, new_m, old_v, new_v, ahead, now };
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let (g, n) = (e.update, e.scalars);
        e.state.m = n.old_m * e.state.m + n.new_m * g;
        e.state.v = n.old_v * e.state.v + n.new_v * g.squared();
        let m = if self.nesterov { n.ahead * e.state.m + n.now * g } else { e.state.m };
        e.update = m / (e.state.v.sqrt() + self.eps);
    }
}

/// Adam's debiased second moment, with separate functions to accumulate and to divide, whose order
/// a wrapper can change.
///
/// ```text
/// v <- beta2 v + (1 - beta2) g^2,  v^ = v / (1 - beta2^t)      at the t-th gradient of the tensor
/// u <- u / (sqrt(v^) + eps)
/// ```
///
/// Kingma and Ba, 1412.6980, algorithm 1, without the first moment: [`Adam`] with `beta1 = 0`, as a
/// [`Moment`](gradient_transform::Moment). RMSprop's, which is not debiased, is `DenseMoment` of the crate `factored-moment`.
///
/// Belongs after clipping. Keeps one value per element.
///
/// ```
/// use elementary::AdamMoment;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new((AdamMoment::default(), Descent::default()), [("w", &[2][..])])?;
/// let mut w = [0.0_f32, 0.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0, -0.01]))])?;
/// assert!((w[0] + 1.0).abs() < 1e-6 && (w[1] - 1.0).abs() < 1e-5);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamMoment {
    /// Weight of the old moment, in [0, 1). Default 0.999.
    pub beta2: f64,
    /// Added to the root of the debiased moment, above 0. Default 1e-8.
    pub eps: f64,
}

impl Default for AdamMoment {
    fn default() -> Self {
        Self { beta2: 0.999, eps: 1e-8 }
    }
}

/// State of an element.
#[fields]
pub struct Second<V> {
    /// The moment.
    pub v: V,
}

#[transform("adam-moment")]
impl Moment for AdamMoment {
    type State<V: Copy> = Second<V>;
    type Scalars<V: Copy> = Weights<V>;

    fn validate(&self) -> Result<()> {
        check::decay("beta2", self.beta2)?;
        check::positive("eps", self.eps)
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Weights<f64>) {
        scalars.fill(weights_of_squares(cx, self.beta2, true));
    }

    fn accumulate<B: Backend>(&self, e: &mut MomentElement<B, Self>) {
        e.state.v = e.scalars.old * e.state.v + e.scalars.new * e.update.squared();
    }

    fn divide<B: Backend>(&self, e: &mut MomentElement<B, Self>) {
        e.update = e.update / (e.state.v.sqrt() + self.eps);
    }
}
