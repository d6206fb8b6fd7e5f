use gradient_transform::{Backend, Context, Element, GradientTransform, Result, fields, transform};
use serde::{Deserialize, Serialize};

use crate::average::rescaled;
use crate::check;

/// Heavy-ball momentum, and Nesterov's: a decaying sum of the updates so far.
///
/// ```text
/// m <- beta m + u
/// u <- m                 heavy ball
/// u <- beta m + u        with nesterov, by the new m
/// ```
///
/// Polyak (1964) and Nesterov (1983), in the form of Sutskever et al. (ICML 2013, section 2), as in PyTorch's
/// `SGD` without dampening and optax's `trace`. It is a sum, so a constant update grows to `1/(1 - beta)`
/// times its size; [`Ema`](crate::Ema) is the average.
///
/// Belongs after clipping and coupled weight decay, and before transforms that scale the whole update. Keeps one value per element.
/// If an estimator moves d, m is rescaled.
///
/// ```
/// use elementary::Momentum;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// for (nesterov, expected) in [(false, [-1.0, -2.5]), (true, [-1.5, -3.25])] {
///     let chain = (Momentum { beta: 0.5, nesterov }, Descent::default());
///     let mut optimizer = Optimizer::new(chain, [("w", &[1][..])])?;
///     let mut w = [0.0_f32];
///     for expected in expected {
///         optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0]))])?;
///         assert_eq!(w, [expected]);
///     }
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Momentum {
    /// Decay of the sum in a step, in [0, 1). Default 0.9.
    pub beta: f64,
    /// Whether the momentum is Nesterov's. Default false.
    pub nesterov: bool,
}

impl Default for Momentum {
    fn default() -> Self {
        Self { beta: 0.9, nesterov: false }
    }
}

/// State of an element.
#[fields]
pub struct Sum<V> {
    /// The sum.
    pub m: V,
}

/// Numbers of a step.
#[fields]
pub struct Decay<V> {
    /// Decay of the sum.
    pub decay: V,
}

#[transform("momentum")]
impl GradientTransform for Momentum {
    type State<V: Copy> = Sum<V>;
    type Scalars<V: Copy> = Decay<V>;

    fn validate(&self) -> Result<()> {
        check::decay("beta", self.beta)
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Decay<f64>) {
        scalars.decay = self.beta * rescaled(cx);
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.state.m = e.scalars.decay * e.state.m + e.update;
        e.update = if self.nesterov { self.beta * e.state.m + e.update } else { e.state.m };
    }
}
