//! The writer that does nothing but descend.

use crate::context::Context;
use crate::context::TensorInfo;
use crate::element::Real;
use crate::error::{Error, Result};
use crate::kernel;
use crate::tile::Tile;
use crate::transform::{Link, Reads, Role};
use crate::writer::WriterLink;

/// Plain descent: `y <- y - step_size * (u + weight_decay * y)`.
///
/// Ends a chain in which nothing averages; [`schedule-free`](https://arxiv.org/abs/2405.15682) is the other writer.
/// Its evaluation point is the parameter itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Descent {
    /// Weight decay, multiplied by the step size as in AdamW (Loshchilov and Hutter, 1711.05101). At least 0; default 0.
    pub weight_decay: f64,
}

impl<T: Real> Link<T> for Descent {
    fn name(&self) -> &str {
        "descent"
    }

    fn validate(&self) -> Result<()> {
        let decay = self.weight_decay;
        Error::check("weight_decay", decay, decay.is_finite() && decay >= 0.0, "finite and at least 0")
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Writer
    }

    fn reads(&self) -> Reads {
        Reads::PARAMETER
    }

    fn writer(&self) -> Option<&dyn WriterLink<T>> {
        Some(self)
    }
}

impl<T: Real> WriterLink<T> for Descent {
    fn direct(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        if self.weight_decay != 0.0 {
            let decay = T::of(self.weight_decay);
            tile.update.map2(tile.parameter, move |u, y| u + decay * y);
        }
    }

    fn displace(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, displacement: &mut [T]) {
        let step_size = T::of(cx.step.step_size);
        let (update, factor) = tile.update.scaled();
        kernel::map2(displacement, update, move |_, u| step_size * (factor * u));
    }

    fn apply(
        &self,
        cx: &Context<'_>,
        tile: &mut Tile<'_, '_, T>,
        displacement: Option<&[T]>,
        parameter: &mut [T],
    ) {
        let step_size = T::of(cx.step.step_size);
        match displacement {
            Some(displacement) => kernel::map2(parameter, displacement, move |y, m| y - m),
            None => {
                let (update, factor) = tile.update.scaled();
                kernel::map2(parameter, update, move |y, u| y - step_size * (factor * u));
            }
        }
    }
}
