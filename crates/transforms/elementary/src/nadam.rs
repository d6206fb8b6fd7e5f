use gradient_transform::{Backend, Context, Element, GradientTransform, Result, fields, transform};
use serde::{Deserialize, Serialize};

use crate::average::{MomentWeights, Moments, gradients};
use crate::check;

/// Adam with Nesterov's momentum, whose weight rises to beta1.
///
/// ```text
/// mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2),   M_t = mu_1 mu_2 ... mu_t
/// m, v^ as in Adam
/// u <- ((1 - mu_t) g / (1 - M_t) + mu_(t+1) m / (1 - M_(t+1))) / (sqrt(v^) + eps)
/// ```
///
/// Dozat (ICLR workshop 2016), algorithm 2, with the schedule of mu of PyTorch's `NAdam`. optax's `nadam` has
/// a constant mu: that is [`Adam`](crate::Adam) with `nesterov`.
///
/// Stands in Adam's place in a chain. Keeps two values per element.
///
/// ```
/// use elementary::NAdam;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let mut optimizer: Optimizer<f64> = Optimizer::new_in((NAdam::default(), Descent::default()), [("w", &[1][..])])?;
/// let mut w = [0.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[2.0]))])?;
/// let mu = |t: f64| 0.9 * (1.0 - 0.96_f64.powf(0.004 * t) / 2.0);
/// let ahead = mu(2.0) * 0.1 / (1.0 - mu(1.0) * mu(2.0)); // and (1 - mu)/(1 - mu) = 1 of the gradient itself
/// assert!((w[0] + 1.0 + ahead).abs() < 1e-7);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NAdam {
    /// Weight of the old first moment, in [0, 1). Default 0.9.
    pub beta1: f64,
    /// Weight of the old second moment, in [0, 1). Default 0.999.
    pub beta2: f64,
    /// Added to the root of the debiased second moment, above 0. Default 1e-8.
    pub eps: f64,
    /// How fast mu rises, at least 0. Default 0.004.
    pub momentum_decay: f64,
}

impl Default for NAdam {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, momentum_decay: 0.004 }
    }
}

impl NAdam {
    fn mu(&self, t: f64) -> f64 {
        self.beta1 * (1.0 - 0.5 * 0.96_f64.powf(t * self.momentum_decay))
    }

    /// The product of the first t values of mu. After a few hundred factors, the rest is below the rounding
    /// of `1 - product`.
    fn product(&self, t: f64) -> f64 {
        let mut product = 1.0;
        let mut factor = 1.0;
        while factor <= t && product > f64::EPSILON / 8.0 {
            product *= self.mu(factor);
            factor += 1.0;
        }
        product
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
    /// Weight of the debiased first moment in the direction.
    pub ahead: V,
    /// Weight of the gradient in the direction.
    pub now: V,
}

#[transform("nadam")]
impl GradientTransform for NAdam {
    type State<V: Copy> = Moments<V>;
    type Scalars<V: Copy> = Numbers<V>;

    fn validate(&self) -> Result<()> {
        check::decay("beta1", self.beta1)?;
        check::decay("beta2", self.beta2)?;
        check::positive("eps", self.eps)?;
        check::not_negative("momentum_decay", self.momentum_decay)
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Numbers<f64>) {
        let MomentWeights { old_m, new_m, old_v, new_v } =
            MomentWeights::debiased(cx, self.beta1, self.beta2);
        let t = gradients(cx);
        let (mu, next, product) = (self.mu(t), self.mu(t + 1.0), self.product(t));
        let ahead = next / (1.0 - product * next) * (1.0 - self.beta1.powf(t));
        *scalars = Numbers { old_m, new_m, old_v, new_v, ahead, now: (1.0 - mu) / (1.0 - product) };
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let (g, n) = (e.update, e.scalars);
        e.state.m = n.old_m * e.state.m + n.new_m * g;
        e.state.v = n.old_v * e.state.v + n.new_v * g.squared();
        e.update = (n.now * g + n.ahead * e.state.m) / (e.state.v.sqrt() + self.eps);
    }
}
