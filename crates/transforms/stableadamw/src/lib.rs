#![doc = include_str!("../README.md")]

mod soft;

use gradient_transform::{Backend, Context, Element, GradientTransform, Num, fields, transform};
pub use soft::SoftStableAdamW;

/// Clips an update whose root mean square is above a threshold: `u <- u / max(1, RMS(u)/t)`.
///
/// The threshold `t` is [`gradient_transform::Context::clip_threshold`]: 50 until an estimator's d has left
/// d0, because Prodigy needs the size of unclipped updates at first, and 1 otherwise.
///
/// From StableAdamW (Wortsman et al., 2304.13013, section 3.4; Adafactor's update clipping, Shazeer and Stern,
/// 1804.04235, section 6). Belongs after the transform that turns the gradient into a direction, and before
/// the writer. Needs the whole tensor's sum, so the chain is cut after it. Keeps nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StableAdamW;

/// Sum over a tensor.
///
/// ```
/// use gradient_transform::{Context, DType, GradientTransform, StepContext, TensorInfo};
/// use stableadamw::{Clip, Squares, StableAdamW};
///
/// let tensor = TensorInfo { name: "w".into(), shape: vec![2], dtype: DType::F32, updates: 0 };
/// let step = StepContext::new(1, 0.5);
/// let cx = Context::new(&step, &tensor);
/// let mut clip = Clip { factor: 1.0 };
/// StableAdamW.finalize(&cx, Squares { update: 50.0 }, &mut clip);
/// assert_eq!(clip.factor, 0.2); // the root mean square is 5
/// ```
#[fields]
pub struct Squares<V> {
    /// `u^2`.
    pub update: V,
}

/// Number of a tensor and step.
#[fields]
pub struct Clip<V> {
    /// Factor of the update.
    pub factor: V,
}

#[transform("stableadamw")]
impl GradientTransform for StableAdamW {
    type Sums<V: Copy> = Squares<V>;
    type Scalars<V: Copy> = Clip<V>;

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
        Squares { update: e.update.squared() }
    }

    fn finalize(&self, cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Clip<f64>) {
        let rms = (sums.update / cx.tensor.len() as f64).sqrt();
        scalars.factor = 1.0 / (rms / cx.clip_threshold()).max(1.0);
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.factor * e.update;
    }
}
