//! Elements that sums are taken over.

use serde::{Deserialize, Serialize};

/// Elements that a transform's sums are taken over: [`GradientTransform::sums_over`](crate::GradientTransform::sums_over).
///
/// Clipping by the global norm (Pascanu et al., 1211.5063):
///
/// ```
/// use gradient_transform::{
///     Backend, Context, Descent, Element, GradientTransform, Num, Optimizer, Parameter, SumsOver, fields, transform,
/// };
///
/// /// `u <- u / max(1, |u|/most)`, where `|u|` is the norm over all tensors.
/// #[derive(Clone, Debug)]
/// struct ClipByGlobalNorm {
///     most: f64,
/// }
///
/// #[fields]
/// struct Squares<V> {
///     squares: V,
/// }
///
/// #[fields]
/// struct Factor<V> {
///     factor: V,
/// }
///
/// #[transform("clip-by-global-norm")]
/// impl GradientTransform for ClipByGlobalNorm {
///     type Sums<V: Copy> = Squares<V>;
///     type Scalars<V: Copy> = Factor<V>;
///
///     fn sums_over(&self) -> SumsOver {
///         SumsOver::All
///     }
///
///     fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
///         Squares { squares: e.update.squared() }
///     }
///
///     fn finalize(&self, _cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Factor<f64>) {
///         scalars.factor = 1.0 / (sums.squares.sqrt() / self.most).max(1.0);
///     }
///
///     fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
///         e.update = e.scalars.factor * e.update;
///     }
/// }
///
/// let chain = (ClipByGlobalNorm { most: 1.0 }, Descent::default());
/// let mut optimizer = Optimizer::new(chain, [("w", &[1][..]), ("b", &[1][..])])?;
/// let (mut w, mut b) = ([0.0_f32], [0.0_f32]);
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0])), Parameter::slice(&mut b, Some(&[-4.0]))])?;
/// assert_eq!((w, b), ([-0.6], [0.8]));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SumsOver {
    /// The elements of each tensor.
    #[default]
    Tensor,
    /// Those of all tensors of the parameter group that have a gradient in the step, and to which the transform applies.
    Group,
    /// Those of all groups whose chain has a transform of this name.
    All,
}
