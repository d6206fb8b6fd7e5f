use gradient_transform::{Backend, Element, GradientTransform, transform};
use serde::{Deserialize, Serialize};

/// The sign of the update: -1, 0 or 1.
///
/// ```text
/// u <- sign(u)
/// ```
///
/// Bernstein et al., 1802.04434, algorithm 1. After [`Ema`](crate::Ema) or [`Momentum`](crate::Momentum) it is Signum, algorithm 2
/// there. optax's `scale_by_sign`. Keeps nothing.
///
/// ```
/// use elementary::{Momentum, Sign};
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let signum = (Momentum::default(), Sign, Descent::default());
/// let mut optimizer = Optimizer::new(signum, [("w", &[3][..])])?;
/// let mut w = [0.0_f32; 3];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[5.0, 0.0, -1e-20]))])?;
/// assert_eq!(w, [-1.0, 0.0, 1.0]);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sign;

#[transform("sign")]
impl GradientTransform for Sign {
    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.update.sign();
    }
}
