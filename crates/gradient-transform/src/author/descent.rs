//! The writer that does nothing but descend.

use crate::author::{Element, GradientTransform, Writer, fields, kind, transform};
use crate::error::{Error, Result};
use crate::link::context::Context;
use crate::memory::number::{Backend, Num};

/// Plain descent: `y <- y - step_size * (u + weight_decay * y)`.
///
/// Without `weight_decay_by_lr`, the parameter is decayed outside of the update: `y <- y - step_size * u - weight_decay * y`.
///
/// Ends a chain in which nothing averages; [`schedule-free`](https://arxiv.org/abs/2405.15682) is the other writer.
/// Its evaluation point is the parameter itself.
///
/// ```
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// for (weight_decay_by_lr, expected) in [(true, 0.5 * 0.875), (false, 0.5 * 0.75)] {
///     let writer = Descent { weight_decay: 0.25, weight_decay_by_lr };
///     let mut optimizer: Optimizer = Optimizer::new(writer, [("w", [1])])?;
///     optimizer.set_lr(0, 0.5)?;
///     let mut w = [0.5_f32];
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.0]))])?;
///     assert_eq!(w, [expected]);
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Descent {
    /// Weight decay. At least 0; default 0.
    pub weight_decay: f64,
    /// Whether weight decay is multiplied by the step size, as in AdamW (Loshchilov and Hutter, 1711.05101). Default true;
    /// without it the same number acts about 1/(step size) times as strongly, and in every step, whatever the step size is.
    pub weight_decay_by_lr: bool,
}

impl Default for Descent {
    fn default() -> Self {
        Self { weight_decay: 0.0, weight_decay_by_lr: true }
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
    /// By how much the parameter moves along the update.
    pub step_size: V,
    /// By how much the parameter shrinks outside of the update.
    pub decay: V,
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
        scalars.decay = if self.weight_decay_by_lr { 0.0 } else { self.weight_decay };
    }

    fn variant(&self, _cx: &Context<'_>, scalars: &Rate<f64>) -> u32 {
        if scalars.decay == 0.0 { PLAIN } else { DECAYS }
    }

    fn variants(&self) -> u32 {
        2
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.update + self.weight_decay * e.parameter;
    }
}

const PLAIN: u32 = 0;
const DECAYS: u32 = 1;

#[transform]
impl Writer for Descent {
    fn directs(&self) -> bool {
        self.weight_decay != 0.0 && self.weight_decay_by_lr
    }

    fn displace<B: Backend>(&self, e: &Element<B, Self>) -> Num<B> {
        e.scalars.step_size * e.update
    }

    fn write<B: Backend>(&self, e: &mut Element<B, Self>, displacement: Option<Num<B>>) {
        let moved = e.parameter - displacement.unwrap_or(e.scalars.step_size * e.update);
        e.parameter = if e.variant == DECAYS { moved - e.scalars.decay * e.parameter } else { moved };
    }
}
