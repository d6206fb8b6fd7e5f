use gradient_transform::{
    Backend, Column, Context, Element, GradientTransform, Num, Result, Storage, TensorInfo, Writer, fields,
    kind, transform,
};
use serde::{Deserialize, Serialize};

use crate::average::gradients;
use crate::check;

/// Descent, and an exponential moving average of the weights to evaluate at.
///
/// ```text
/// y <- y - step_size u
/// x <- x + (1 - beta) / (1 - beta^j) (y - x)      at the j-th gradient of the tensor after `start` of them; x is y before
/// ```
///
/// Polyak and Juditsky 1992 for the average of all weights, and Tarvainen and Valpola, 1703.01780, section 3, for the exponential one.
/// It does not affect training: [`Optimizer::eval`](gradient_transform::Optimizer::eval) sets the parameters
/// to x, and `train` restores y to the bit. Without `debias` the weight of y is always `1 - beta`, and x
/// starts with the weights before the first step; with `start: 1` that is PyTorch's `AveragedModel` with
/// `get_ema_multi_avg_fn`.
///
/// A writer: it stands at the end of a chain, in the place of [`Descent`](gradient_transform::Descent), at a
/// constant learning rate or with a schedule. A long average needs many steps, and hurts if weights still
/// move far in `1/(1 - beta)` of them. Keeps one value per element, in the type of the computation.
///
/// ```
/// use elementary::WeightAverage;
/// use gradient_transform::{Optimizer, Parameter};
///
/// let average = WeightAverage { beta: 0.5, ..WeightAverage::default() };
/// let mut optimizer: Optimizer<f64> = Optimizer::new_in(average, [("w", [1])])?;
/// let mut w = [0.0_f64];
/// for _ in 0..2 {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0]))])?;
/// }
/// optimizer.eval(&mut [Parameter::slice(&mut w, None)])?;
/// assert!((w[0] + 5.0).abs() < 1e-12); // (1/2 (-6) + 1/4 (-3)) / (3/4)
/// optimizer.train(&mut [Parameter::slice(&mut w, None)])?;
/// assert_eq!(w, [-6.0]);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeightAverage {
    /// Weight of the old average, in [0, 1). Default 0.999.
    pub beta: f64,
    /// Whether the average is the weighted mean of the weights so far, without its first value. Default true.
    pub debias: bool,
    /// Gradients of a tensor before the average begins. Default 0.
    pub start: u64,
}

impl Default for WeightAverage {
    fn default() -> Self {
        Self { beta: 0.999, debias: true, start: 0 }
    }
}

/// State of an element.
#[fields]
pub struct Average<V> {
    /// The average.
    pub x: V,
}

/// Numbers of a step.
#[fields]
pub struct Rates<V> {
    /// Factor of the update in the step of the parameter.
    pub step_size: V,
    /// Share of the distance by which the average moves towards the parameter.
    pub weight: V,
}

/// The variant for steps in which the average is the parameter.
const COPIES: u32 = 1;

#[transform("weight-average")]
impl GradientTransform for WeightAverage {
    type Kind = kind::Writer;
    type State<V: Copy> = Average<V>;
    type Scalars<V: Copy> = Rates<V>;

    fn validate(&self) -> Result<()> {
        check::decay("beta", self.beta)
    }

    fn columns(&self, _tensor: &TensorInfo) -> Average<Column> {
        Average { x: Column::COPY.stored_as(Storage::Compute) }
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Rates<f64>) {
        let seen = gradients(cx) - self.start as f64;
        let sum = if self.debias { 1.0 - self.beta.powf(seen) } else { 1.0 };
        let weight = if seen < 1.0 { 1.0 } else { (1.0 - self.beta) / sum };
        *scalars = Rates { step_size: cx.step.step_size, weight };
    }

    fn variant(&self, _cx: &Context<'_>, scalars: &Rates<f64>) -> u32 {
        if scalars.weight == 1.0 { COPIES } else { 0 }
    }

    fn variants(&self) -> u32 {
        2
    }

    fn update<B: Backend>(&self, _e: &mut Element<B, Self>) {} // no weight decay
}

#[transform]
impl Writer for WeightAverage {
    fn average(&self) -> Option<usize> {
        Some(0)
    }

    fn directs(&self) -> bool {
        false // `update` does nothing
    }

    fn displace<B: Backend>(&self, e: &Element<B, Self>) -> Num<B> {
        e.scalars.step_size * e.update
    }

    fn write<B: Backend>(&self, e: &mut Element<B, Self>, displacement: Option<Num<B>>) {
        let (y, x) = (e.parameter - displacement.unwrap_or(e.scalars.step_size * e.update), e.state.x);
        e.parameter = y;
        e.state.x = if e.variant == COPIES { y } else { x + e.scalars.weight * (y - x) };
    }
}
