use gradient_transform::{
    Backend, Column, Element, GradientTransform, Result, TensorInfo, fields, transform,
};
use serde::{Deserialize, Serialize};

use crate::check;

/// Weight decay, as a transform at its place in the chain.
///
/// ```text
/// u <- u + rate y
/// u <- u + rate y where u y >= 0, u elsewhere      with cautious
/// ```
///
/// After a preconditioner it is decoupled (Loshchilov and Hutter, 1711.05101), as in AdamW: the weights shrink by the step size times
/// the rate. At the head of a chain it is coupled: the gradient of a penalty, as in PyTorch's `SGD`. optax's
/// `add_decayed_weights`. The rate of [`Descent`](gradient_transform::Descent) is the decoupled one for all tensors.
///
/// Cautious decay (Chen et al., 2510.12402, equation 2) excludes the weights that the update makes larger, so
/// decay never opposes descent.
///
/// `least_rank` 2 excludes biases and normalisations. By name: `only_for(|tensor|
/// !tensor.name.ends_with("bias"), WeightDecay::default())`. Keeps nothing.
///
/// ```
/// use elementary::WeightDecay;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let decay = WeightDecay { rate: 0.5, cautious: true, least_rank: 2 };
/// let shapes = [("w", &[1, 2][..]), ("b", &[1][..])];
/// let mut optimizer = Optimizer::new((decay, Descent::default()), shapes)?;
/// let (mut w, mut b) = ([1.0_f32, 1.0], [1.0_f32]);
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.25, -0.25])), Parameter::slice(&mut b, Some(&[0.25]))])?;
/// assert_eq!((w, b), ([0.25, 1.25], [0.75]));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeightDecay {
    /// Strength, at least 0. Default 0.01, as PyTorch's `AdamW`.
    pub rate: f64,
    /// Whether decay that works against the update is left out. Default false.
    pub cautious: bool,
    /// Tensors of a lower rank do not decay. Default 0: all do.
    pub least_rank: usize,
}

impl Default for WeightDecay {
    fn default() -> Self {
        Self { rate: 0.01, cautious: false, least_rank: 0 }
    }
}

#[transform("weight-decay")]
impl GradientTransform for WeightDecay {
    fn validate(&self) -> Result<()> {
        check::not_negative("rate", self.rate)
    }

    fn applies(&self, tensor: &TensorInfo) -> bool {
        tensor.shape.len() >= self.least_rank
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let decay = self.rate * e.parameter;
        let against = (e.update * e.parameter).lt(0.0);
        e.update = e.update + if self.cautious { against.select(0.0, decay) } else { decay };
    }
}

/// Decay towards the initial weights.
///
/// ```text
/// u <- u + rate (y - start)
/// ```
///
/// Li, Grandvalet and Davoine, 1802.01483, equation 4 (L2-SP): for fine-tuning, where the start is a better
/// prior than 0. The start is the tensor's value at the first gradient that this transform gets. Keeps one
/// value per element.
///
/// ```
/// use elementary::DecayToStart;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new((DecayToStart { rate: 0.5 }, Descent::default()), [("w", &[1][..])])?;
/// let mut w = [3.0_f32];
/// for (gradient, expected) in [(1.0, 2.0), (0.0, 2.5), (0.0, 2.75)] {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[gradient]))])?;
///     assert_eq!(w, [expected]);
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecayToStart {
    /// Strength, at least 0. Default 0.01.
    pub rate: f64,
}

impl Default for DecayToStart {
    fn default() -> Self {
        Self { rate: 0.01 }
    }
}

/// State of an element.
#[fields]
pub struct Start<V> {
    /// The initial weight.
    pub start: V,
}

#[transform("decay-to-start")]
impl GradientTransform for DecayToStart {
    type State<V: Copy> = Start<V>;

    fn validate(&self) -> Result<()> {
        check::not_negative("rate", self.rate)
    }

    fn columns(&self, _tensor: &TensorInfo) -> Start<Column> {
        Start { start: Column::COPY }
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.update + self.rate * (e.parameter - e.state.start);
    }
}
