#![doc = include_str!("../README.md")]

use gradient_transform::kernel::{self, Prefetch};
use gradient_transform::{
    Context, DType, Link, Reads, Real, Role, StateSpec, Sums, TensorInfo, TensorState, Tile,
};
use multiversion::multiversion;
use serde::{Deserialize, Serialize};

/// Removes the component of the update along the weights, and rescales the rest to the update's norm.
///
/// ```text
/// p = <w, g> / (<w, w> + 1e-30)
/// g <- (g - p w) |g| / |g - p w|
/// ```
///
/// with the writer's base iterate w (Schedule-Free's z, or the parameter itself). Where nothing orthogonal is left (a tensor of one
/// element, a gradient parallel to the weights), the update is 0.
///
/// Prieto et al., 2501.04697, section 5. Belongs before the moments. Needs sums over the whole tensor, so the chain is cut after
/// it; they are computed in float64, so that |g - p w| follows from them without a further sweep. Keeps
/// nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OrthoGrad {
    /// References 1.9.2 and 2.0.1: where nothing orthogonal is left, rounding noise is rescaled to the full norm of the gradient.
    pub normalises_noise: bool,
    /// Reference 1.9.2: <w, g>, <w, w>, |g| and the projection of bfloat16 tensors are rounded to bfloat16.
    pub narrow_products: bool,
}

/// Sums of w g, w w and g g, over lanes. Products of float32 numbers are exact in float64.
#[multiversion(targets = "simd")]
fn products<T: Real>(g: &[T], w: &[T]) -> [f64; 3] {
    const LANES: usize = 16;
    let mut lanes = [[0.0_f64; LANES]; 3];
    let mut prefetch = Prefetch::resume();
    let ((gs, g_rest), (ws, w_rest)) = (g.as_chunks::<LANES>(), w.as_chunks::<LANES>());
    for (block, (g, w)) in gs.iter().zip(ws).enumerate() {
        if block % 4 == 0 {
            prefetch.block();
        }
        for i in 0..LANES {
            let (g, w) = (g[i].f64(), w[i].f64());
            lanes[0][i] += w * g;
            lanes[1][i] += w * w;
            lanes[2][i] += g * g;
        }
    }
    prefetch.suspend();
    for (i, (g, w)) in g_rest.iter().zip(w_rest).enumerate() {
        let (g, w) = (g.f64(), w.f64());
        lanes[0][i] += w * g;
        lanes[1][i] += w * w;
        lanes[2][i] += g * g;
    }
    lanes.map(kernel::total)
}

/// The share of |g|^2 below which the orthogonal remainder is rounding noise of the sums.
const NOISE: f64 = 1e-13;

impl<T: Real> Link<T> for OrthoGrad {
    fn name(&self) -> &str {
        "orthograd"
    }

    fn role(&self, _tensor: &TensorInfo) -> Role {
        Role::Reduce
    }

    fn reads(&self) -> Reads {
        Reads::BASE
    }

    fn state(&self, _tensor: &TensorInfo) -> StateSpec {
        StateSpec::new().scratch(2).sums(3, 0)
    }

    fn observe(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        let products = products(tile.update.values(), tile.base);
        for (sum, product) in sums.scalars.iter_mut().zip(products) {
            *sum += product;
        }
    }

    fn sums_show_unusable(&self, _tensor: &TensorInfo) -> bool {
        true
    }

    fn seal(&self, cx: &Context<'_>, state: TensorState<'_, T>) {
        let [mut wg, mut ww, gg] = [state.scalar_sums[0], state.scalar_sums[1], state.scalar_sums[2]];
        let mut norm = gg.sqrt();
        let narrow = self.narrow_products && cx.tensor.dtype == DType::Bf16;
        if narrow {
            [wg, ww, norm] = [wg.round_bf16(), ww.round_bf16(), norm.round_bf16()];
        }
        if !(wg.is_finite() && ww.is_finite()) {
            // Float64 weights beyond 1e154: their squares overflow, so the projection is unknown.
            (state.scratch[0][0], state.scratch[0][1]) = (T::zero(), T::one());
            return;
        }
        let projection = T::of(wg / (ww + 1e-30));
        let projection = if narrow { projection.round_bf16() } else { projection };
        let p = projection.f64();
        let [wg, ww] = [state.scalar_sums[0], state.scalar_sums[1]];
        let rest = (gg - 2.0 * p * wg + p * p * ww).max(0.0);
        let scale =
            if rest <= NOISE * gg && !self.normalises_noise { 0.0 } else { norm / (rest.sqrt() + 1e-30) };
        state.scratch[0][0] = projection;
        state.scratch[0][1] = T::of(scale);
    }

    fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
        let (projection, scale) = (tile.scratch[0][0], tile.scratch[0][1]);
        tile.update.map2(tile.base, move |g, w| (g - projection * w) * scale);
    }
}
