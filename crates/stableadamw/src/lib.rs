#![doc = include_str!("../README.md")]

use gradient_transform::{Context, Link, Real, Role, StateSpec, Sums, TensorInfo, TensorState, Tile, kernel};

/// Clips an update whose root mean square is above a threshold: `u <- u / max(1, RMS(u)/t)`.
///
/// The threshold `t` is [`gradient_transform::StepContext::clip_threshold`]: 50 until an estimator's d has left d0, as
/// Prodigy needs the size of unclipped updates at first, and 1 otherwise.
///
/// From StableAdamW (Wortsman et al., 2304.13013, section 3.4; Adafactor's update clipping, Shazeer and Stern,
/// 1804.04235, section 6). Belongs behind what turns the gradient into a direction, and before the writer. Needs the whole
/// tensor's sum, so the chain is cut behind it. Keeps nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StableAdamW;

impl<T: Real> Link<T> for StableAdamW {
    fn name(&self) -> &str {
        "stableadamw"
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Reduce
    }

    fn state(&self, _tensor: &TensorInfo) -> StateSpec {
        StateSpec::new().scratch(1).sums(1, 0)
    }

    fn observe(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        sums.scalars[0] += kernel::sum(tile.update.values(), |u| u * u);
    }

    fn sums_show_unusable(&self, _tensor: &TensorInfo) -> bool {
        true
    }

    fn seal(&self, cx: &Context<'_>, state: TensorState<'_, T>) {
        let rms = (state.scalar_sums[0] / cx.tensor.len() as f64).sqrt();
        state.scratch[0][0] = T::of(1.0 / (rms / cx.step.clip_threshold()).max(1.0));
    }

    fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        tile.update.scale(tile.scratch[0][0]);
    }
}
