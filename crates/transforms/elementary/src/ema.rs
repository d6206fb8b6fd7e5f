use gradient_transform::{Backend, Context, Element, GradientTransform, Result, fields, transform};
use serde::{Deserialize, Serialize};

use crate::average::{Weights, weights};
use crate::check;

/// Exponential moving average of the updates.
///
/// ```text
/// m <- beta m + (1 - beta) u
/// u <- m / (1 - beta^t)      with debias, at the t-th gradient of the tensor
/// u <- m                     without
/// ```
///
/// The first moment of Adam (Kingma and Ba, 1412.6980, algorithm 1); optax's `ema`. The state is kept debiased, which is the
/// same number. PyTorch's `SGD` with a dampening of 1 less its momentum is this without debiasing, except in its first step.
///
/// At the head of a chain it averages gradients, after a preconditioner its directions. Keeps one value per
/// element. If an estimator moves d, m is rescaled. With debiasing, in a tensor that was trained without it,
/// m starts with the first update that it gets.
///
/// ```
/// use elementary::Ema;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// for (debias, expected) in [(true, [-4.0, -4.0 - 4.0 / 3.0]), (false, [-2.0, -3.0])] {
///     let mut optimizer = Optimizer::new((Ema { beta: 0.5, debias }, Descent::default()), [("w", &[1][..])])?;
///     let mut w = [0.0_f32];
///     for (gradient, expected) in [4.0, 0.0].into_iter().zip(expected) {
///         optimizer.step(&mut [Parameter::slice(&mut w, Some(&[gradient]))])?;
///         assert!((w[0] - expected).abs() < 1e-6);
///     }
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ema {
    /// Weight of the old average, in [0, 1). Default 0.9.
    pub beta: f64,
    /// Whether the average is divided by the sum of its weights, because it starts at 0. Default
    /// true.
    pub debias: bool,
}

impl Default for Ema {
    fn default() -> Self {
        Self { beta: 0.9, debias: true }
    }
}

/// State of an element.
#[fields]
pub struct Average<V> {
    /// The average.
    pub m: V,
}

#[transform("ema")]
impl GradientTransform for Ema {
    type State<V: Copy> = Average<V>;
    type Scalars<V: Copy> = Weights<V>;

    fn validate(&self) -> Result<()> {
        check::decay("beta", self.beta)
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Weights<f64>) {
        scalars.fill(weights(cx, self.beta, self.debias));
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.state.m = e.scalars.old * e.state.m + e.scalars.new * e.update;
        e.update = e.state.m;
    }
}
