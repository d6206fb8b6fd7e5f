use gradient_transform::{Backend, Context, Element, Error, GradientTransform, Result, fields, transform};
use serde::{Deserialize, Serialize};

use crate::average::{MomentWeights, Moments, gradients};
use crate::check;

/// Rectified Adam: the step grows as the second moment becomes reliable.
///
/// ```text
/// rho_inf = 2/(1 - beta2) - 1,  rho = rho_inf - 2 t beta2^t/(1 - beta2^t)
/// r = sqrt((rho - 4)(rho - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho))
/// u <- r m^ / (sqrt(v^) + eps)      if rho > threshold
/// u <- m^                           otherwise
/// ```
///
/// Liu et al., 1908.03265, algorithm 2. The paper's threshold is 4; that of PyTorch's `RAdam`, optax's `scale_by_radam` and the
/// authors' code is 5. PyTorch adds eps to the root of the moment before it is debiased, so its eps is larger in the first
/// steps; optax adds it as here. `Rectify` of the crate `factored-moment` is for other moments, and makes no
/// steps while the variance is intractable.
///
/// Stands in Adam's place in a chain. Keeps two values per element.
///
/// ```
/// use elementary::RAdam;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new((RAdam::default(), Descent::default()), [("w", &[1][..])])?;
/// let mut w = [0.0_f32];
/// for step in 1..=5 {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[7.0]))])?;
///     assert!((w[0] + 7.0 * step as f32).abs() < 1e-4); // only momentum
/// }
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[7.0]))])?;
/// assert!(w[0] < -35.0 && w[0] > -35.1); // now a small part of the sign
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RAdam {
    /// Weight of the old first moment, in [0, 1). Default 0.9.
    pub beta1: f64,
    /// Weight of the old second moment, in [0, 1). Default 0.999.
    pub beta2: f64,
    /// Added to the root of the debiased second moment, above 0. Default 1e-8.
    pub eps: f64,
    /// The rho above which the second moment is used, at least 4. Default 5.
    pub threshold: f64,
}

impl Default for RAdam {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, threshold: 5.0 }
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
    /// The rectifier, or 0 while the second moment is not used.
    pub rectifier: V,
}

#[transform("radam")]
impl GradientTransform for RAdam {
    type State<V: Copy> = Moments<V>;
    type Scalars<V: Copy> = Numbers<V>;

    fn validate(&self) -> Result<()> {
        check::decay("beta1", self.beta1)?;
        check::decay("beta2", self.beta2)?;
        check::positive("eps", self.eps)?;
        let threshold = self.threshold;
        Error::check(
            "threshold",
            threshold,
            threshold.is_finite() && threshold >= 4.0,
            "finite and at least 4",
        )
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Numbers<f64>) {
        let MomentWeights { old_m, new_m, old_v, new_v } =
            MomentWeights::debiased(cx, self.beta1, self.beta2);
        let (t, power) = (gradients(cx), self.beta2.powf(gradients(cx)));
        let last = 2.0 / (1.0 - self.beta2) - 1.0;
        let rho = last - 2.0 * t * power / (1.0 - power);
        let rectifier = if rho > self.threshold {
            ((rho - 4.0) * (rho - 2.0) * last / ((last - 4.0) * (last - 2.0) * rho)).sqrt()
        } else {
            0.0
        };
        *scalars = Numbers { old_m, new_m, old_v, new_v, rectifier };
    }

    fn variant(&self, _cx: &Context<'_>, scalars: &Numbers<f64>) -> u32 {
        u32::from(scalars.rectifier == 0.0)
    }

    fn variants(&self) -> u32 {
        2
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let (g, n) = (e.update, e.scalars);
        e.state.m = n.old_m * e.state.m + n.new_m * g;
        e.state.v = n.old_v * e.state.v + n.new_v * g.squared();
        e.update = e.state.m;
        if e.variant == 0 {
            e.update = n.rectifier * e.state.m / (e.state.v.sqrt() + self.eps);
        }
    }
}
