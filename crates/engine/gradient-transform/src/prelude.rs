//! Names for `use gradient_transform::prelude::*`, for programs that train. The names for custom transforms
//! are in [`author`].
//!
//! ```
//! use gradient_transform::prelude::*;
//!
//! let mut optimizer = Optimizer::new(Descent::default(), [("w", [2])])?;
//! let mut w = [1.0_f32, 2.0];
//! optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.5, 0.5]))])?;
//! assert_eq!(w, [0.5, 1.5]);
//! # Ok::<(), gradient_transform::Error>(())
//! ```

pub use crate::{
    Descent, Link, NonFinite, Optimizer, Parameter, ParameterGroup, Rounding, Settings, SplitGroups,
    StepOutcome, fused, only_for,
};

/// Names for `use gradient_transform::prelude::author::*`.
///
/// ```
/// use gradient_transform::prelude::author::*;
/// use gradient_transform::prelude::*;
///
/// #[derive(Clone, Debug)]
/// struct Lion {
///     beta1: f64,
///     beta2: f64,
/// }
///
/// #[fields]
/// struct Momentum<V> {
///     m: V,
/// }
///
/// #[transform("lion")]
/// impl GradientTransform for Lion {
///     type State<V: Copy> = Momentum<V>;
///
///     fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
///         let (u, m) = (e.update, e.state.m);
///         e.update = (self.beta1 * m + (1.0 - self.beta1) * u).sign();
///         e.state.m = self.beta2 * m + (1.0 - self.beta2) * u;
///     }
/// }
///
/// let lion = Lion { beta1: 0.9, beta2: 0.99 };
/// let mut optimizer = Optimizer::new((lion, Descent::default()), [("w", [2])])?;
/// let mut w = [1.0_f32, 2.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.5, -0.5]))])?;
/// assert_eq!(w, [0.0, 3.0]);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub mod author {
    pub use crate::{
        AlongState, Backend, Column, Context, Element, ElementOf, Error, Fields, GradientTransform, Initial,
        Moment, MomentElement, Nothing, Num, Real, Result, StepContext, StepSummary, Storage, SumsOver,
        TensorInfo, Writer, fields, kind, transform,
    };
}
