#![doc = include_str!("../README.md")]

use gradient_transform::{Backend, Context, DType, Element, GradientTransform, Num, Real, fields, transform};
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

/// Products of the update g and the weights w.
///
/// ```
/// use gradient_transform::{Context, DType, GradientTransform, StepContext, TensorInfo};
/// use orthograd::{OrthoGrad, Products, Projection};
///
/// let tensor = TensorInfo { name: "w".into(), shape: vec![2], dtype: DType::F32, updates: 0 };
/// let step = StepContext::new(1, 0.5);
/// let cx = Context::new(&step, &tensor);
/// let (g, w) = ([3.0, 4.0], [0.0, 2.0]);
/// let products = Products { wg: w[0] * g[0] + w[1] * g[1], ww: 4.0, gg: 25.0 };
/// let mut projection = Projection { p: 0.0, scale: 0.0 };
/// OrthoGrad::default().finalize(&cx, products, &mut projection);
/// assert_eq!((projection.p, projection.scale), (2.0, 5.0 / 3.0)); // [3, 4] becomes [5, 0]
/// ```
#[fields]
pub struct Products<V> {
    /// `w g`.
    pub wg: V,
    /// `w^2`.
    pub ww: V,
    /// `g^2`.
    pub gg: V,
}

/// Numbers of a tensor and step.
#[fields]
pub struct Projection<V> {
    /// The share of the weights that is taken from the update.
    pub p: V,
    /// Factor that restores the norm of the update.
    pub scale: V,
}

/// The share of |g|^2 below which the orthogonal remainder is rounding noise of the sums.
const NOISE: f64 = 1e-13;

#[transform("orthograd")]
impl GradientTransform for OrthoGrad {
    type Sums<V: Copy> = Products<V>;
    type Scalars<V: Copy> = Projection<V>;
    const SUMS_IN_FLOAT64: bool = true;

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Products<Num<B>> {
        let (g, w) = (e.update, e.base);
        Products { wg: w * g, ww: w * w, gg: g * g }
    }

    fn finalize(&self, cx: &Context<'_>, sums: Products<f64>, scalars: &mut Projection<f64>) {
        let (mut wg, mut ww, mut norm) = (sums.wg, sums.ww, sums.gg.sqrt());
        let narrow = self.narrow_products && cx.tensor.dtype == DType::Bf16;
        if narrow {
            [wg, ww, norm] = [wg.round_bf16(), ww.round_bf16(), norm.round_bf16()];
        }
        if !(wg.is_finite() && ww.is_finite()) {
            // Float64 weights beyond 1e154: their squares overflow, so the projection is unknown.
            *scalars = Projection { p: 0.0, scale: 1.0 };
            return;
        }
        let mut p = wg / (ww + 1e-30);
        // What is left is that of the p that elements are given.
        if cx.tensor.dtype != DType::F64 {
            p = f64::from(p as f32);
        }
        if narrow {
            p = p.round_bf16();
        }
        let rest = (sums.gg - 2.0 * p * sums.wg + p * p * sums.ww).max(0.0);
        let is_noise = rest <= NOISE * sums.gg && !self.normalises_noise;
        *scalars = Projection { p, scale: if is_noise { 0.0 } else { norm / (rest.sqrt() + 1e-30) } };
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let Projection { p, scale } = e.scalars;
        e.update = (e.update - p * e.base) * scale;
    }
}
