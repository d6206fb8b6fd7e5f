use gradient_transform::{
    Backend, Column, Context, Element, Error, GradientTransform, Num, Result, TensorInfo, Writer, fields,
    kind, transform,
};
use serde::{Deserialize, Serialize};

use crate::average::gradients;

/// Lookahead: descent with fast weights, which every few steps are reset to slow weights that follow them.
///
/// ```text
/// y <- y - step_size u
/// slow <- slow + alpha (y - slow),  y <- slow      at every period-th gradient of the tensor
/// ```
///
/// Zhang et al., 1907.08610, algorithm 1; optax's `lookahead`. A writer: it stands at the end of a chain, in
/// the place of [`Descent`](gradient_transform::Descent). A reset does not change the moments before it. It
/// evaluates at the fast weights y; right after a reset they are the slow ones. Keeps one value per element.
///
/// ```
/// use elementary::Lookahead;
/// use gradient_transform::{Optimizer, Parameter};
///
/// let mut optimizer = Optimizer::new(Lookahead { period: 2, alpha: 0.5 }, [("w", &[1][..])])?;
/// let mut w = [0.0_f32];
/// for expected in [-1.0, -1.0, -2.0, -2.0] {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0]))])?;
///     assert_eq!(w, [expected]);
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lookahead {
    /// Steps between resets, at least 1. Default 5.
    pub period: u64,
    /// Share of the distance by which the slow weights follow, above 0 and at most 1. Default 0.5.
    pub alpha: f64,
}

impl Default for Lookahead {
    fn default() -> Self {
        Self { period: 5, alpha: 0.5 }
    }
}

/// State of an element.
#[fields]
pub struct Slow<V> {
    /// The slow weight.
    pub slow: V,
}

/// Numbers of a step.
#[fields]
pub struct Rate<V> {
    /// Factor of the update in the step of the parameter.
    pub step_size: V,
}

#[transform("lookahead")]
impl GradientTransform for Lookahead {
    type Kind = kind::Writer;
    type State<V: Copy> = Slow<V>;
    type Scalars<V: Copy> = Rate<V>;

    fn validate(&self) -> Result<()> {
        Error::check("period", self.period as f64, self.period > 0, "at least 1")?;
        Error::check("alpha", self.alpha, self.alpha > 0.0 && self.alpha <= 1.0, "above 0 and at most 1")
    }

    fn columns(&self, _tensor: &TensorInfo) -> Slow<Column> {
        Slow { slow: Column::COPY }
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Rate<f64>) {
        scalars.step_size = cx.step.step_size;
    }

    fn variant(&self, cx: &Context<'_>, _scalars: &Rate<f64>) -> u32 {
        u32::from((gradients(cx) as u64).is_multiple_of(self.period))
    }

    fn variants(&self) -> u32 {
        2
    }

    fn update<B: Backend>(&self, _e: &mut Element<B, Self>) {} // no weight decay
}

#[transform]
impl Writer for Lookahead {
    fn directs(&self) -> bool {
        false // `update` does nothing
    }

    fn displace<B: Backend>(&self, e: &Element<B, Self>) -> Num<B> {
        e.scalars.step_size * e.update
    }

    fn write<B: Backend>(&self, e: &mut Element<B, Self>, displacement: Option<Num<B>>) {
        e.parameter = e.parameter - displacement.unwrap_or(e.scalars.step_size * e.update);
        if e.variant == 1 {
            e.state.slow = e.state.slow + self.alpha * (e.parameter - e.state.slow);
            e.parameter = e.state.slow;
        }
    }
}
