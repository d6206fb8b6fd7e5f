use gradient_transform::{
    Backend, Column, Context, Element, GradientTransform, Result, TensorInfo, fields, transform,
};
use serde::{Deserialize, Serialize};

use crate::average::gradients;
use crate::check;

/// Adds normal noise to the update, with a variance that falls from step to step.
///
/// ```text
/// u <- u + sqrt(eta / t^gamma) n,  n ~ N(0, 1)      at the t-th gradient of the tensor
/// ```
///
/// Neelakantan et al., 1511.06807, section 3; optax's `add_noise`, with other random numbers. Those of a tensor follow from
/// [`Settings::seed`](gradient_transform::Settings::seed), its name, t, and the element ([`gradient_transform::normal`]), so a run has the
/// same bits on any number of threads, on every engine, and after a checkpoint.
///
/// At the head of a chain, after clipping. It helps deep networks with a poor initialisation; if batches are
/// small, their noise is enough. Keeps nothing, but needs memory for one value per element during the step.
///
/// ```
/// use elementary::GradientNoise;
/// use gradient_transform::{Descent, Optimizer, Parameter, normal};
///
/// let noise = GradientNoise { eta: 0.25, gamma: 0.5 };
/// let mut optimizer: Optimizer<f64> = Optimizer::new_in((noise, Descent::default()), [("w", [1])])?;
/// let mut w = [0.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0]))])?;
/// assert_eq!(w, [-(1.0 + 0.5 * normal(0, "w", "gradient-noise/noise", 0, 0))]);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GradientNoise {
    /// The first variance, at least 0. Default 0.01; the paper tries 0.01, 0.3 and 1.
    pub eta: f64,
    /// The power of t with which the variance falls, at least 0. Default 0.55.
    pub gamma: f64,
}

impl Default for GradientNoise {
    fn default() -> Self {
        Self { eta: 0.01, gamma: 0.55 }
    }
}

/// Workspace of an element.
#[fields]
pub struct Noise<V> {
    /// A standard normal random number.
    pub noise: V,
}

/// Numbers of a step.
#[fields]
pub struct Deviation<V> {
    /// The standard deviation.
    pub deviation: V,
}

#[transform("gradient-noise")]
impl GradientTransform for GradientNoise {
    type State<V: Copy> = Noise<V>;
    type Scalars<V: Copy> = Deviation<V>;

    fn validate(&self) -> Result<()> {
        check::not_negative("eta", self.eta)?;
        check::not_negative("gamma", self.gamma)
    }

    fn columns(&self, _tensor: &TensorInfo) -> Noise<Column> {
        Noise { noise: Column::NORMAL }
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Deviation<f64>) {
        scalars.deviation = (self.eta / gradients(cx).powf(self.gamma)).sqrt();
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.update + e.scalars.deviation * e.state.noise;
    }
}
