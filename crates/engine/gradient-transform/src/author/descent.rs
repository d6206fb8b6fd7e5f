//! Plain descent, the simplest writer.

use serde::{Deserialize, Serialize};

use crate::author::{Element, GradientTransform, Writer, fields, kind, transform};
use crate::error::{Error, Result};
use crate::link::context::Context;
use crate::memory::number::{Backend, Num};

/// Plain descent: `y <- y - step_size * (u + weight_decay * y)`.
///
/// Without `weight_decay_by_lr`, the parameter is decayed outside of the update: `y <- y - step_size * u - weight_decay * y`.
///
/// The end of a chain without averaging; with averaging, use the writer of
/// [`schedule-free`](https://arxiv.org/abs/2405.15682). Its evaluation point is the parameter itself.
///
/// ```
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// for (weight_decay_by_lr, expected) in [(true, 0.5 * 0.875), (false, 0.5 * 0.75)] {
///     let writer = Descent { weight_decay_by_lr, ..Descent::with_decay(0.25) };
///     let mut optimizer = Optimizer::new(writer, [("w", [1])])?;
///     optimizer.set_lr(0, 0.5)?;
///     let mut w = [0.5_f32];
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.0]))])?;
///     assert_eq!(w, [expected]);
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Descent {
    /// Weight decay. At least 0; default 0.
    pub weight_decay: f64,
    /// Whether weight decay is multiplied by the step size, as in AdamW (Loshchilov and Hutter, 1711.05101). Default true;
    /// without it the same number acts about 1/(step size) times as strongly, in every step and independently of the step size.
    pub weight_decay_by_lr: bool,
    /// Whether the parameter is multiplied by 1 - decay before the step, as in PyTorch, instead of decayed as
    /// a part of the step. The two differ only in rounding: in float32, 1 - decay rounds to 1 for a decay
    /// below 3e-8, and up to doubles a decay below 6e-8. Default false.
    pub decays_first: bool,
}

impl Default for Descent {
    fn default() -> Self {
        Self { weight_decay: 0.0, weight_decay_by_lr: true, decays_first: false }
    }
}

impl Descent {
    /// Descent with weight decay, as in AdamW.
    pub fn with_decay(weight_decay: f64) -> Self {
        Self { weight_decay, ..Self::default() }
    }
}

/// Numbers of a step.
#[fields]
pub struct Rate<V> {
    /// Factor of the update in the step.
    pub step_size: V,
    /// Decay of the parameter outside of the update.
    pub decay: V,
    /// Factor of the parameter before the step: 1 minus the decay.
    pub kept: V,
}

#[transform("descent")]
impl GradientTransform for Descent {
    type Scalars<V: Copy> = Rate<V>;
    type Kind = kind::Writer;

    fn validate(&self) -> Result<()> {
        let decay = self.weight_decay;
        Error::check("weight_decay", decay, decay.is_finite() && decay >= 0.0, "finite and at least 0")
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Rate<f64>) {
        scalars.step_size = cx.step.step_size;
        let decay = self.weight_decay * if self.weight_decay_by_lr { cx.step.step_size } else { 1.0 };
        (scalars.decay, scalars.kept) = (if self.directs() { 0.0 } else { decay }, 1.0 - decay);
    }

    fn variant(&self, _cx: &Context<'_>, scalars: &Rate<f64>) -> u32 {
        match (scalars.decay == 0.0, self.decays_first) {
            (true, _) => PLAIN,
            (false, false) => DECAYS,
            (false, true) => DECAYS_FIRST,
        }
    }

    fn variants(&self) -> u32 {
        3
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.update + self.weight_decay * e.parameter;
    }
}

const PLAIN: u32 = 0;
const DECAYS: u32 = 1;
const DECAYS_FIRST: u32 = 2;

#[transform]
impl Writer for Descent {
    fn directs(&self) -> bool {
        self.weight_decay != 0.0 && self.weight_decay_by_lr && !self.decays_first
    }

    fn displace<B: Backend>(&self, e: &Element<B, Self>) -> Num<B> {
        e.scalars.step_size * e.update
    }

    fn write<B: Backend>(&self, e: &mut Element<B, Self>, displacement: Option<Num<B>>) {
        let (y, m) = (e.parameter, displacement.unwrap_or(e.scalars.step_size * e.update));
        e.parameter = match e.variant {
            DECAYS => (y - m) - e.scalars.decay * y,
            DECAYS_FIRST => e.scalars.kept * y - m,
            _ => y - m,
        };
    }
}
