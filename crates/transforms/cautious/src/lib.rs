#![doc = include_str!("../README.md")]

mod update;

use gradient_transform::{
    AveragingWeight, Backend, Context, Element, GradientTransform, Num, fields, transform,
};
use serde::{Deserialize, Serialize};
pub use update::CautiousUpdate;

/// Masks the elements of a step that go against the update, and scales the others up to compensate.
///
/// With the writer's displacement m (`y <- y - m`), the update u that the writer got, weight decay included,
/// and the averaging's part of the displacement, `c (y - z)`:
///
/// ```text
/// share = number of elements with m u > 0 / number of elements with u != 0
/// m <- c (y - z) + (m - c (y - z)) / max(share, 1e-3)   where m u > 0
/// m <- 0                                                where m u <= 0
/// m <- m                                                where u = 0: no update to agree with
/// ```
///
/// Only the step is scaled up. The averaging's part is a feedback: a factor above 2/c would move y past z, farther in every step.
/// After [`Descent`](gradient_transform::Descent) m always agrees with u, and nothing changes.
///
/// Liang et al., 2411.16085, Algorithm 1. There the gradient masks the momentum, and the scaled quantity is a
/// bounded update. Here, as in the reference, the displacement of Schedule-Free is masked, and its base
/// iterate z is moved by the whole update.
///
/// Belongs after the writer. Needs two sums over the whole tensor, so there is one more sweep. Keeps nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cautious {
    /// Reference 1.9.2: all of m is scaled, by the share among all elements, and elements without an update
    /// do not move: `m <- m mask / max(mean(mask), 1e-3)`. If most of a tensor has no gradient, the weights
    /// diverge.
    pub scales_displacement: bool,
}

/// The smallest share that the step is divided by.
const LEAST: f64 = 1e-3;

/// Numbers of elements.
///
/// ```
/// use cautious::{Cautious, Counts, Scale};
/// use gradient_transform::{Context, DType, GradientTransform, StepContext, TensorInfo};
///
/// let tensor = TensorInfo { name: "w".into(), shape: vec![2], dtype: DType::F32, updates: 0 };
/// let step = StepContext::new(1, 0.5);
/// let cx = Context::new(&step, &tensor);
/// let mut scale = Scale { factor: 1.0, more: 0.0, c: 0.0 };
/// Cautious::default().finalize(&cx, Counts { kept: 1.0, with_update: 2.0 }, &mut scale);
/// assert_eq!((scale.factor, scale.more), (2.0, 1.0));
/// ```
#[fields]
pub struct Counts<V> {
    /// Elements whose displacement agrees with the update.
    pub kept: V,
    /// Elements that have an update.
    pub with_update: V,
}

/// Numbers of a tensor and step.
#[fields]
pub struct Scale<V> {
    /// `1 / max(share, 1e-3)`.
    pub factor: V,
    /// The factor minus one.
    pub more: V,
    /// The averaging weight c.
    pub c: V,
}

#[transform("cautious")]
impl GradientTransform for Cautious {
    type Sums<V: Copy> = Counts<V>;
    type Scalars<V: Copy> = Scale<V>;

    fn excludes(&self) -> &[(&'static str, &'static str)] {
        &[("grams", "both change the same displacement; keep one")]
    }

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Counts<Num<B>> {
        let (m, u) = (e.update, e.direction);
        Counts { kept: (m * u).gt(0.0).select(1.0, 0.0), with_update: u.equals(0.0).select(0.0, 1.0) }
    }

    fn finalize(&self, cx: &Context<'_>, sums: Counts<f64>, scalars: &mut Scale<f64>) {
        let of = if self.scales_displacement { cx.tensor.len() as f64 } else { sums.with_update.max(1.0) };
        scalars.factor = 1.0 / (sums.kept / of).max(LEAST);
        scalars.more = scalars.factor - 1.0;
        scalars.c = cx.step.published::<AveragingWeight>().unwrap_or_default().0;
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let (m, u, Scale { factor, more, c }) = (e.update, e.direction, e.scalars);
        let agrees = (m * u).gt(0.0);
        e.update = if self.scales_displacement {
            agrees.select(factor * m, 0.0)
        } else {
            let scaled = m + more * (m - c * (e.parameter - e.base));
            agrees.select(scaled, u.equals(0.0).select(m, 0.0))
        };
    }
}
