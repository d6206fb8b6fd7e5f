//! The writer that does nothing but descend.

use crate::author::{Element, GradientTransform, Writer, fields, kind, transform};
use crate::error::{Error, Result};
use crate::link::context::Context;
use crate::memory::number::{Backend, Num};

/// Plain descent: `y <- y - step_size * (u + weight_decay * y)`.
///
/// Ends a chain in which nothing averages; [`schedule-free`](https://arxiv.org/abs/2405.15682) is the other writer.
/// Its evaluation point is the parameter itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Descent {
    /// Weight decay, multiplied by the step size as in AdamW (Loshchilov and Hutter, 1711.05101). At least 0; default 0.
    pub weight_decay: f64,
}

/// Numbers of a step.
#[fields]
pub struct Rate<V> {
    /// By how much the parameter moves along the update.
    pub step_size: V,
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
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.update + self.weight_decay * e.parameter;
    }
}

#[transform]
impl Writer for Descent {
    fn directs(&self) -> bool {
        self.weight_decay != 0.0
    }

    fn displace<B: Backend>(&self, e: &Element<B, Self>) -> Num<B> {
        e.scalars.step_size * e.update
    }

    fn write<B: Backend>(&self, e: &mut Element<B, Self>, displacement: Option<Num<B>>) {
        e.parameter = e.parameter - displacement.unwrap_or(e.scalars.step_size * e.update);
    }
}
