use gradient_transform::{Backend, Context, Element, GradientTransform, Result, transform};
use serde::{Deserialize, Serialize};

use crate::average::{MomentWeights, Moments, weights, weights_of_squares};
use crate::check;

/// Division by a moving standard deviation of the gradients.
///
/// ```text
/// m <- beta2 m + (1 - beta2) g,  v <- beta2 v + (1 - beta2) g^2
/// u <- g / (sqrt(v - m^2) + eps)
/// ```
///
/// Graves, 1308.0850, equations 38 to 41; PyTorch's `RMSprop(centered=True)`. optax's `scale_by_stddev` has its eps under the
/// root. There is no bias correction. RMSprop that is not centred is `DenseMoment` of the crate
/// `factored-moment`.
///
/// Under constant gradients the deviation vanishes, and the update grows up to `g/eps`. Belongs after clipping. Keeps two values per
/// element.
///
/// ```
/// use elementary::CentredRms;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let rms = CentredRms { beta2: 0.5, ..CentredRms::default() };
/// let mut optimizer = Optimizer::new((rms, Descent::default()), [("w", &[1][..])])?;
/// let mut w = [0.0_f32];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0]))])?;
/// assert!((w[0] + 2.0).abs() < 1e-6); // sqrt(9/2 - (3/2)^2) = 3/2
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CentredRms {
    /// Weight of the old averages, in [0, 1). Default 0.99.
    pub beta2: f64,
    /// Added to the deviation, above 0. Default 1e-8.
    pub eps: f64,
}

impl Default for CentredRms {
    fn default() -> Self {
        Self { beta2: 0.99, eps: 1e-8 }
    }
}

#[transform("centred-rms")]
impl GradientTransform for CentredRms {
    type State<V: Copy> = Moments<V>;
    type Scalars<V: Copy> = MomentWeights<V>;

    fn validate(&self) -> Result<()> {
        check::decay("beta2", self.beta2)?;
        check::positive("eps", self.eps)
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut MomentWeights<f64>) {
        let (old_v, new_v) = weights_of_squares(cx, self.beta2, false);
        let (old_m, new_m) = weights(cx, self.beta2, false);
        *scalars = MomentWeights { old_m, new_m, old_v, new_v };
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let (g, n) = (e.update, e.scalars);
        e.state.m = n.old_m * e.state.m + n.new_m * g;
        e.state.v = n.old_v * e.state.v + n.new_v * g.squared();
        // Rounding may make it negative.
        let variance = (e.state.v - e.state.m.squared()).max(0.0);
        e.update = g / (variance.sqrt() + self.eps);
    }
}
