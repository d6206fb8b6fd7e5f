use gradient_transform::{
    Backend, Context, Element, Error, GradientTransform, Num, Result, SumsOver, fields, transform,
};
use serde::{Deserialize, Serialize};

use crate::average::{Factor, gradients};
use crate::check;

/// Bounds every element of the update.
///
/// ```text
/// u <- max(-c, min(c, u)),  c = limit t^growth      at the t-th gradient of the tensor
/// ```
///
/// PyTorch's `clip_grad_value_`, optax's `clip`. With a limit of 1 and a growth of 1/4, after `Adopt` of the crate `adopt`, it is the
/// clipping of ADOPT (Taniguchi et al., 2411.02853, algorithm 2). NaN stays NaN. Keeps nothing.
///
/// ```
/// use elementary::ClipByValue;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new((ClipByValue::default(), Descent::default()), [("w", &[3][..])])?;
/// let mut w = [0.0_f32; 3];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[5.0, -0.5, -7.0]))])?;
/// assert_eq!(w, [-1.0, 0.5, 1.0]);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClipByValue {
    /// The largest absolute value, above 0. Default 1.
    pub limit: f64,
    /// The power of t with which the limit grows, at least 0. Default 0.
    pub growth: f64,
}

impl Default for ClipByValue {
    fn default() -> Self {
        Self { limit: 1.0, growth: 0.0 }
    }
}

#[transform("clip-by-value")]
impl GradientTransform for ClipByValue {
    type Scalars<V: Copy> = Factor<V>;

    fn validate(&self) -> Result<()> {
        check::positive("limit", self.limit)?;
        check::not_negative("growth", self.growth)
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Factor<f64>) {
        scalars.factor = self.limit * gradients(cx).powf(self.growth);
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let (u, limit) = (e.update, e.scalars.factor);
        e.update = u.gt(limit).select(limit, u.lt(-limit).select(-limit, u));
    }
}

/// Size of an update, for [`ClipByNorm`].
///
/// ```
/// use elementary::Size;
///
/// assert_eq!(serde_json::to_string(&Size::RootMeanSquare).unwrap(), "\"root-mean-square\"");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    /// The Euclidean norm.
    #[default]
    Norm,
    /// The root of the mean square: the norm over the root of the number of elements.
    RootMeanSquare,
}

impl Size {
    /// Size of a tensor, from its sum of squares.
    pub(crate) fn of(self, squares: f64, len: usize) -> f64 {
        match self {
            Self::Norm => squares.sqrt(),
            Self::RootMeanSquare => (squares / len.max(1) as f64).sqrt(),
        }
    }
}

/// Scales down an update whose norm exceeds a limit, for each tensor or for all together.
///
/// ```text
/// u <- u min(1, limit / |u|)      |u|: the norm, or the root mean square
/// ```
///
/// Pascanu, Mikolov and Bengio, 1211.5063, algorithm 1. By default every tensor is clipped on its own. PyTorch's `clip_grad_norm_` and
/// optax's `clip_by_global_norm` take the norm over all tensors: that is [`SumsOver::All`]. PyTorch adds 1e-6 to the norm. optax's
/// `clip_by_block_rms` is this with [`Size::RootMeanSquare`]. `StableAdamW` of the crate `stableadamw` clips by the root mean square with a
/// limit that follows Prodigy's estimate.
///
/// Mostly at the head of a chain. Needs the whole tensor, so the chain is cut after it. Keeps nothing.
///
/// ```
/// use elementary::ClipByNorm;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new((ClipByNorm::default(), Descent::default()), [("w", &[2][..])])?;
/// let mut w = [0.0_f32, 0.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0, -4.0]))])?;
/// assert!((w[0] + 0.6).abs() < 1e-6 && (w[1] - 0.8).abs() < 1e-6);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
///
/// By the global norm. A step needs all gradients at once then ([`Optimizer::step`](gradient_transform::Optimizer::step)):
///
/// ```
/// use elementary::ClipByNorm;
/// use gradient_transform::{Descent, Optimizer, Parameter, SumsOver};
///
/// let chain = (ClipByNorm { over: SumsOver::All, ..ClipByNorm::default() }, Descent::default());
/// let mut optimizer = Optimizer::new(chain, [("w", &[1][..]), ("b", &[1][..])])?;
/// let (mut w, mut b) = ([0.0_f32], [0.0_f32]);
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0])), Parameter::slice(&mut b, Some(&[-4.0]))])?;
/// assert!((w[0] + 0.6).abs() < 1e-6 && (b[0] - 0.8).abs() < 1e-6);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClipByNorm {
    /// The limit, above 0. Default 1.
    pub limit: f64,
    /// Size that is clipped. Default: the norm. The root mean square is that of a tensor.
    pub of: Size,
    /// Elements of the norm. Default: those of each tensor.
    pub over: SumsOver,
}

impl Default for ClipByNorm {
    fn default() -> Self {
        Self { limit: 1.0, of: Size::Norm, over: SumsOver::Tensor }
    }
}

/// A sum over a tensor.
#[fields]
pub struct Squares<V> {
    /// Sum of squares.
    pub squares: V,
}

#[transform("clip-by-norm")]
impl GradientTransform for ClipByNorm {
    type Sums<V: Copy> = Squares<V>;
    type Scalars<V: Copy> = Factor<V>;

    fn validate(&self) -> Result<()> {
        check::positive("limit", self.limit)?;
        if self.of == Size::RootMeanSquare && self.over != SumsOver::Tensor {
            let expected = "the norm where the sum goes over several tensors";
            return Err(Error::OptionOutOfRange { option: "of", value: "root-mean-square".into(), expected });
        }
        Ok(())
    }

    fn sums_over(&self) -> SumsOver {
        self.over
    }

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
        Squares { squares: e.update.squared() }
    }

    fn finalize(&self, cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Factor<f64>) {
        let size = self.of.of(sums.squares, cx.tensor.len());
        scalars.factor = if size > self.limit { self.limit / size } else { 1.0 };
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.factor * e.update;
    }
}

/// Normalises every update to the same length.
///
/// ```text
/// u <- u / |u|      0 stays 0
/// ```
///
/// Normalised gradient descent (Hazan, Levy and Shalev-Shwartz, 1507.02030, algorithm 1); optax's `normalize_by_update_norm`. Needs
/// the whole tensor, so the chain is cut after it. Keeps nothing.
///
/// ```
/// use elementary::UnitNorm;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new((UnitNorm::default(), Descent::default()), [("w", &[2][..])])?;
/// let mut w = [0.0_f32, 0.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.3, -0.4]))])?;
/// assert!((w[0] + 0.6).abs() < 1e-6 && (w[1] - 0.8).abs() < 1e-6);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UnitNorm {
    /// Size that is to be 1. Default: the norm.
    pub of: Size,
}

#[transform("unit-norm")]
impl GradientTransform for UnitNorm {
    type Sums<V: Copy> = Squares<V>;
    type Scalars<V: Copy> = Factor<V>;

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
        Squares { squares: e.update.squared() }
    }

    fn finalize(&self, cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Factor<f64>) {
        let size = self.of.of(sums.squares, cx.tensor.len());
        scalars.factor = if size > 0.0 { 1.0 / size } else { 0.0 };
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.factor * e.update;
    }
}
