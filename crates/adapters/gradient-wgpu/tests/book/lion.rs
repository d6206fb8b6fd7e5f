//! Lion, as the book finishes it, without a word for GPUs.

use gradient_transform::{Backend, Element, Error, GradientTransform, Result, fields, transform};

/// The sign of an interpolation between a moment and the gradient: Lion (Chen et al., 2302.06675, Algorithm 2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lion {
    /// Weight of the moment in the step, in [0, 1).
    pub beta1: f64,
    /// Decay of the moment, in [0, 1).
    pub beta2: f64,
}

/// State of an element.
#[fields]
pub struct Momentum<V> {
    /// Moving average of the gradient.
    pub m: V,
}

#[transform("lion")]
impl GradientTransform for Lion {
    type State<V: Copy> = Momentum<V>;

    fn validate(&self) -> Result<()> {
        Error::check("beta1", self.beta1, (0.0..1.0).contains(&self.beta1), "at least 0 and below 1")?;
        Error::check("beta2", self.beta2, (0.0..1.0).contains(&self.beta2), "at least 0 and below 1")
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let (g, m) = (e.update, e.state.m);
        e.update = (self.beta1 * m + (1.0 - self.beta1) * g).sign();
        e.state.m = self.beta2 * m + (1.0 - self.beta2) * g;
    }
}
