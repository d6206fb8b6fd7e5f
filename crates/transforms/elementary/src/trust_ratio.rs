use gradient_transform::{
    Backend, Context, Element, GradientTransform, Num, Result, TensorInfo, fields, transform,
};
use serde::{Deserialize, Serialize};

use crate::average::Factor;
use crate::check;
use crate::clip::Size;

/// Scales the update of each tensor to the length of its weights.
///
/// ```text
/// u <- coefficient |y| / (|u| + eps) u      1 in place of the factor where y or u is 0
/// ```
///
/// LARS (You, Gitman and Ginsburg, 1708.03888, equation 6), before its momentum, with a coefficient of 0.001; LAMB (You et al.,
/// 1904.00962, algorithm 2), after Adam and decay, with 1. optax's `scale_by_trust_ratio`. Weight decay
/// belongs before it.
///
/// `least_rank` 2 excludes biases and normalisations, as the authors' code does. Needs the whole tensor, so
/// the chain is cut after it. Keeps nothing.
///
/// ```
/// use elementary::TrustRatio;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new((TrustRatio::default(), Descent::default()), [("w", &[2][..])])?;
/// optimizer.set_lr(0, 0.1)?;
/// let mut w = [3.0_f32, 4.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.0, 70.0]))])?;
/// assert_eq!(w, [3.0, 3.5]); // a tenth of its length
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrustRatio {
    /// The length of the update as a multiple of the length of the weights, above 0. Default 1.
    pub coefficient: f64,
    /// Added to the length of the incoming update, at least 0. Default 0.
    pub eps: f64,
    /// Tensors of a lower rank are excluded. Default 0: none are.
    pub least_rank: usize,
}

impl Default for TrustRatio {
    fn default() -> Self {
        Self { coefficient: 1.0, eps: 0.0, least_rank: 0 }
    }
}

/// Sums over a tensor.
#[fields]
pub struct Squares<V> {
    /// Sum of the squared parameter.
    pub parameter: V,
    /// Sum of the squared update.
    pub update: V,
}

#[transform("trust-ratio")]
impl GradientTransform for TrustRatio {
    type Sums<V: Copy> = Squares<V>;
    type Scalars<V: Copy> = Factor<V>;

    fn validate(&self) -> Result<()> {
        check::positive("coefficient", self.coefficient)?;
        check::not_negative("eps", self.eps)
    }

    fn applies(&self, tensor: &TensorInfo) -> bool {
        tensor.shape.len() >= self.least_rank
    }

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
        Squares { parameter: e.parameter.squared(), update: e.update.squared() }
    }

    fn finalize(&self, _cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Factor<f64>) {
        let Squares { parameter, update } = sums;
        let ratio = self.coefficient * parameter.sqrt() / (update.sqrt() + self.eps);
        scalars.factor = if parameter > 0.0 && update > 0.0 { ratio } else { 1.0 };
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.factor * e.update;
    }
}

/// Multiplies the update by the size of the weights, so that the learning rate is relative to it.
///
/// ```text
/// u <- max(|y|, least) u      |y|: the norm, or the root mean square
/// ```
///
/// Adafactor's relative step size (Shazeer and Stern, 1804.04235, section 8); optax's `scale_by_param_block_rms` and
/// `scale_by_param_block_norm`. After clipping. Needs the whole tensor, so the chain is cut after it. Keeps nothing.
///
/// ```
/// use elementary::ParameterScale;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new((ParameterScale::default(), Descent::default()), [("w", &[2][..])])?;
/// let mut w = [4.0_f32, 4.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.5, 0.0]))])?;
/// assert_eq!(w, [2.0, 4.0]);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParameterScale {
    /// The smallest size of weights that is used, above 0. Default 1e-3.
    pub least: f64,
    /// Size of the parameter. Default: the root mean square.
    pub of: Size,
}

impl Default for ParameterScale {
    fn default() -> Self {
        Self { least: 1e-3, of: Size::RootMeanSquare }
    }
}

/// A sum over a tensor.
#[fields]
pub struct ParameterSquares<V> {
    /// Sum of the squared parameter.
    pub parameter: V,
}

#[transform("parameter-scale")]
impl GradientTransform for ParameterScale {
    type Sums<V: Copy> = ParameterSquares<V>;
    type Scalars<V: Copy> = Factor<V>;

    fn validate(&self) -> Result<()> {
        check::positive("least", self.least)
    }

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> ParameterSquares<Num<B>> {
        ParameterSquares { parameter: e.parameter.squared() }
    }

    fn finalize(&self, cx: &Context<'_>, sums: ParameterSquares<f64>, scalars: &mut Factor<f64>) {
        scalars.factor = self.of.of(sums.parameter, cx.tensor.len()).max(self.least);
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.factor * e.update;
    }
}
