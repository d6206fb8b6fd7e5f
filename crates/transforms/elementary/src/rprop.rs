use gradient_transform::{Backend, Context, Element, Error, GradientTransform, Result, fields, transform};
use serde::{Deserialize, Serialize};

use crate::average::{Factor, at_first};
use crate::check;

/// Steps by the gradient's sign, whose sizes grow while the sign stays the same and shrink when it
/// changes.
///
/// ```text
/// size <- min(grow size, largest)     where g and the gradient before have the same sign
/// size <- max(shrink size, smallest)  where it has turned; then g <- 0
/// u <- size sign(g)
/// ```
///
/// Riedmiller and Braun (1993), in the variant without backtracking, Rprop- of Igel and Husken (2000) except
/// for `g <- 0`; PyTorch's `Rprop`. optax 0.2.8 returns the update of the step before. For gradients of the
/// whole data set, at the learning rate 1. Keeps two values per element.
///
/// ```
/// use elementary::Rprop;
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let rprop = Rprop { initial: 0.5, grow: 2.0, ..Rprop::default() };
/// let mut optimizer = Optimizer::new((rprop, Descent::default()), [("w", &[1][..])])?;
/// let mut w = [0.0_f32];
/// for (gradient, expected) in [(7.0, -0.5), (0.1, -1.5), (-3.0, -1.5), (-3.0, -1.0)] {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[gradient]))])?;
///     assert_eq!(w, [expected]);
/// }
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rprop {
    /// Size of the first step, above 0. Default 0.01, PyTorch's learning rate.
    pub initial: f64,
    /// Factor if the sign has changed, in (0, 1). Default 0.5.
    pub shrink: f64,
    /// Factor if the sign has not changed, above 1. Default 1.2.
    pub grow: f64,
    /// The least size, above 0. Default 1e-6.
    pub smallest: f64,
    /// The largest size, at least the smallest. Default 50.
    pub largest: f64,
}

impl Default for Rprop {
    fn default() -> Self {
        Self { initial: 0.01, shrink: 0.5, grow: 1.2, smallest: 1e-6, largest: 50.0 }
    }
}

/// State of an element.
#[fields]
pub struct Sizes<V> {
    /// Size of the step.
    pub size: V,
    /// The previous gradient.
    pub before: V,
}

#[transform("rprop")]
impl GradientTransform for Rprop {
    type State<V: Copy> = Sizes<V>;
    type Scalars<V: Copy> = Factor<V>;

    fn validate(&self) -> Result<()> {
        check::positive("initial", self.initial)?;
        check::inside("shrink", self.shrink)?;
        Error::check("grow", self.grow, self.grow.is_finite() && self.grow > 1.0, "finite and above 1")?;
        check::positive("smallest", self.smallest)?;
        let largest = self.largest;
        Error::check(
            "largest",
            largest,
            largest.is_finite() && largest >= self.smallest,
            "finite and at least `smallest`",
        )
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Factor<f64>) {
        scalars.factor = self.initial * at_first(cx);
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        // The array begins with zeros.
        let size = e.state.size + e.scalars.factor;
        let (stays, turned) = ((e.update * e.state.before).gt(0.0), (e.update * e.state.before).lt(0.0));
        let smaller = turned.select((self.shrink * size).max(self.smallest), size);
        e.state.size = stays.select((self.grow * size).min(self.largest), smaller);
        e.state.before = turned.select(0.0, e.update);
        e.update = e.state.size * e.state.before.sign();
    }
}
