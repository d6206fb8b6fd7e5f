//! The trait that a transform implements.

use std::fmt::Debug;

use crate::author::along::AlongState;
use crate::author::column::Column;
use crate::author::element::Element;
use crate::author::fields::Fields;
use crate::author::kind;
use crate::author::loops::pass;
use crate::author::trace;
use crate::error::Result;
use crate::link::context::{Context, StepContext, StepSummary, TensorInfo};
use crate::link::equations::Equations;
use crate::link::formula::{ElementWork, FormulaElement};
use crate::link::state::Storage;
use crate::link::sums_over::SumsOver;
use crate::memory::element::Real;
use crate::memory::number::{Backend, Num};

/// Transform of the updates of an optimizer, as a function of one element.
///
/// An elementwise transform implements [`update`](Self::update), a reduction [`measure`](Self::measure) and
/// [`finalize`](Self::finalize) too. The attribute `#[transform("name")]` above the implementation does the
/// rest: it sets the name, supplies the types that you leave out, and inlines the functions of an element
/// into the engine's loops.
///
/// For every tensor with a gradient, in this order:
///
/// 1. [`begin`](Self::begin), on the host: numbers that depend on the step;
/// 2. [`measure`](Self::measure) of every element, if there are [`Sums`](Self::Sums), before any element is updated;
/// 3. [`finalize`](Self::finalize), on the host: numbers that depend on the sums;
/// 4. [`update`](Self::update) of every element: the outgoing update, and the state.
///
/// A function of an element may run several times in a step, on any thread. It also runs once with symbols
/// instead of numbers ([`Graph`](crate::number::Graph)), so that the engine finds the arrays that it reads. A
/// transform has at most eight arrays of state and eight sums.
///
/// ```
/// use gradient_transform::{
///     Backend, Descent, Element, GradientTransform, Optimizer, Parameter, fields, transform,
/// };
///
/// /// Lion (Chen et al., 2023, algorithm 2).
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
///         let (g, m) = (e.update, e.state.m);
///         e.update = (self.beta1 * m + (1.0 - self.beta1) * g).sign();
///         e.state.m = self.beta2 * m + (1.0 - self.beta2) * g;
///     }
/// }
///
/// let chain = (Lion { beta1: 0.9, beta2: 0.99 }, Descent::default());
/// let mut optimizer = Optimizer::new(chain, [("w", &[2][..])])?;
/// optimizer.set_lr(0, 0.5)?;
/// let mut w = [1.0_f32, -1.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0_f32, -0.1]))])?;
/// assert_eq!(w, [0.5, -0.5]);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
///
/// An example of a reduction is LARS (You et al., 2017), which scales the update of a layer to the size
/// of its weights.
///
/// ```
/// use gradient_transform::{
///     Backend, Context, Descent, Element, GradientTransform, Num, Optimizer, Parameter, fields, transform,
/// };
///
/// /// `u <- trust |y|/|u| u`.
/// #[derive(Clone, Debug)]
/// struct Lars {
///     trust: f64,
/// }
///
/// #[fields]
/// struct Squares<V> {
///     parameter: V,
///     update: V,
/// }
///
/// #[fields]
/// struct Ratio<V> {
///     ratio: V,
/// }
///
/// #[transform("lars")]
/// impl GradientTransform for Lars {
///     type Sums<V: Copy> = Squares<V>;
///     type Scalars<V: Copy> = Ratio<V>;
///
///     fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
///         Squares { parameter: e.parameter.squared(), update: e.update.squared() }
///     }
///
///     fn finalize(&self, _cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Ratio<f64>) {
///         let ratio = self.trust * (sums.parameter / sums.update).sqrt();
///         scalars.ratio = if ratio.is_finite() && ratio > 0.0 { ratio } else { 1.0 };
///     }
///
///     fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
///         e.update = e.scalars.ratio * e.update;
///     }
/// }
///
/// let mut optimizer = Optimizer::new((Lars { trust: 0.1 }, Descent::default()), [("w", &[2][..])])?;
/// let mut w = [3.0_f32, 4.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.0_f32, 2.0]))])?;
/// assert_eq!(w, [3.0, 3.5]); // a step of a tenth of the length
/// # Ok::<(), gradient_transform::Error>(())
/// ```
///
/// A transform must be `Clone`, and should be `Copy`: every loop has a copy of the hyperparameters, so they
/// stay in registers.
#[allow(unused_variables)] // the names of the parameters are part of the documentation
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a gradient transform",
    note = "implement `GradientTransform` for it, with `#[transform(\"name\")]` above the `impl`"
)]
pub trait GradientTransform: Clone + Debug + Send + Sync + 'static {
    /// State of an element, by name: a struct with the attribute `#[fields]`. Saved as `transform/field`.
    type State<V: Copy>: Fields<V>;
    /// Numbers of a tensor and step, by name: float64 on the host, rounded to the type of the computation for
    /// elements.
    type Scalars<V: Copy>: Fields<V>;
    /// Sums over a tensor's elements, by name. With sums the chain is cut after the transform, unless it is
    /// [`Lagged`](kind::Lagged).
    type Sums<V: Copy>: Fields<V>;
    /// Arrays as long as the tensor without an axis, by name: for each element the value of its row or column. See [`AlongState`].
    type Along<V: Copy>: Fields<V>;
    /// Place in a chain. Default: [`Update`](kind::Update).
    type Kind: kind::Kind<Self>;
    /// Whether [`measure`](Self::measure) is computed in float64, independently of the type of the computation, for sums that nearly cancel each other in
    /// [`finalize`](Self::finalize): products of float32 numbers are exact then. Such sums take more time, and devices without float64,
    /// such as those of WGSL, refuse them ([`Error::NoFloat64`](crate::Error::NoFloat64)). Default: no.
    ///
    /// ```
    /// use gradient_transform::{
    ///     Backend, Context, Descent, Element, GradientTransform, Num, Optimizer, Parameter, fields, transform,
    /// };
    ///
    /// /// `u <- u - <u, y>/|y|^2 y`, and 0 where less than a millionth of u is left.
    /// #[derive(Clone, Debug)]
    /// struct AcrossWeights;
    ///
    /// #[fields]
    /// struct Products<V> {
    ///     uu: V,
    ///     uy: V,
    ///     yy: V,
    /// }
    ///
    /// #[fields]
    /// struct Share<V> {
    ///     along: V,
    ///     rest: V,
    /// }
    ///
    /// #[transform("across-weights")]
    /// impl GradientTransform for AcrossWeights {
    ///     type Sums<V: Copy> = Products<V>;
    ///     type Scalars<V: Copy> = Share<V>;
    ///     const SUMS_IN_FLOAT64: bool = true;
    ///
    ///     fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Products<Num<B>> {
    ///         let (u, y) = (e.update, e.parameter);
    ///         Products { uu: u * u, uy: u * y, yy: y * y }
    ///     }
    ///
    ///     fn finalize(&self, _cx: &Context<'_>, sums: Products<f64>, scalars: &mut Share<f64>) {
    ///         scalars.along = sums.uy / sums.yy;
    ///         let rest = sums.uu - sums.uy * scalars.along; // 8e-13 times `uu` in what follows
    ///         scalars.rest = if rest > 1e-12 * sums.uu { 1.0 } else { 0.0 };
    ///     }
    ///
    ///     fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
    ///         e.update = e.scalars.rest * (e.update - e.scalars.along * e.parameter);
    ///     }
    /// }
    ///
    /// let mut optimizer = Optimizer::new((AcrossWeights, Descent::default()), [("w", &[2][..])])?;
    /// let mut w = [1.0_f32, 1.0];
    /// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.000_001_8, 1.0]))])?;
    /// assert_eq!(w, [1.0, 1.0]);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    const SUMS_IN_FLOAT64: bool = false;
    #[doc(hidden)]
    const HAS_THE_ATTRIBUTE_TRANSFORM: ();
    #[doc(hidden)]
    fn on_f32(pass: pass::Pass<'_, '_, f32, Self>);
    #[doc(hidden)]
    fn on_f64(pass: pass::Pass<'_, '_, f64, Self>);
    #[doc(hidden)]
    fn traced(&self) -> trace::Traced;
    #[doc(hidden)]
    fn traced_equations(&self, tensor: &TensorInfo) -> Equations;
    #[doc(hidden)]
    fn traced_formula(
        &self,
        tensor: &TensorInfo,
        work: ElementWork,
        element: &mut FormulaElement<'_>,
    ) -> bool;

    /// Name in errors, checkpoints and reports: lower case, words joined by hyphens.
    fn name(&self) -> &str;

    /// Check of the hyperparameters.
    ///
    /// # Errors
    /// [`Error::OptionOutOfRange`](crate::Error::OptionOutOfRange) with the name, the value and the range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Transforms that must not be in the same chain: the name, the reason, and what to do.
    fn excludes(&self) -> &[(&'static str, &'static str)] {
        &[]
    }

    /// Whether it applies to a tensor. For other tensors it is the identity, and keeps nothing.
    fn applies(&self, tensor: &TensorInfo) -> bool {
        true
    }

    /// Types and initial values of the arrays of [`State`](Self::State). Default: zeros in the parameter's
    /// type.
    fn columns(&self, tensor: &TensorInfo) -> Self::State<Column> {
        Fields::from_fn(|_| Column::ZEROS)
    }

    /// The axis that each array of [`Along`](Self::Along) lacks, if the tensor has such arrays. All arrays
    /// together lack two different axes.
    fn along(&self, tensor: &TensorInfo) -> Option<Self::Along<usize>> {
        None
    }

    /// Small arrays kept for a tensor, initially zeros: name, length and type. For
    /// [`AlongState::kept`].
    fn vectors(&self, tensor: &TensorInfo) -> Vec<(&'static str, usize, Storage)> {
        Vec::new()
    }

    /// The [`Scalars`](Self::Scalars) that are kept for a tensor from step to step, in the type of the
    /// computation: initially 0, and saved as `transform/field`.
    ///
    /// [`begin`](Self::begin) gets the values from the step before. The values after it and
    /// [`finalize`](Self::finalize) are kept when the tensor's step is done. [`Context::fresh`] is true in
    /// the first step. A kept number and a field of [`State`](Self::State) must not have the same name.
    ///
    /// ```
    /// use gradient_transform::{
    ///     Backend, Context, Descent, Element, GradientTransform, Num, Optimizer, Parameter, fields, transform,
    /// };
    ///
    /// /// `r <- max(r, |u|)`, `u <- u / r`.
    /// #[derive(Clone, Debug)]
    /// struct ByLargestNorm;
    ///
    /// #[fields]
    /// struct Squares<V> {
    ///     squares: V,
    /// }
    ///
    /// #[fields]
    /// struct Largest<V> {
    ///     largest: V,
    /// }
    ///
    /// #[transform("by-largest-norm")]
    /// impl GradientTransform for ByLargestNorm {
    ///     type Sums<V: Copy> = Squares<V>;
    ///     type Scalars<V: Copy> = Largest<V>;
    ///
    ///     fn kept(&self) -> Largest<bool> {
    ///         Largest { largest: true }
    ///     }
    ///
    ///     fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
    ///         Squares { squares: e.update.squared() }
    ///     }
    ///
    ///     fn finalize(&self, _cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Largest<f64>) {
    ///         scalars.largest = scalars.largest.max(sums.squares.sqrt());
    ///     }
    ///
    ///     fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
    ///         e.update = e.scalars.largest.gt(0.0).select(e.update / e.scalars.largest, 0.0);
    ///     }
    /// }
    ///
    /// let mut optimizer = Optimizer::new((ByLargestNorm, Descent::default()), [("w", [1])])?;
    /// let mut w = [0.0_f32];
    /// for (gradient, expected) in [(4.0, -1.0), (2.0, -1.5), (8.0, -2.5)] {
    ///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[gradient]))])?;
    ///     assert_eq!(w, [expected]);
    /// }
    /// assert_eq!(optimizer.snapshot().tensors["w"].arrays["by-largest-norm/largest"].get::<f64>(0), 8.0);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    fn kept(&self) -> Self::Scalars<bool> {
        Fields::from_fn(|_| false)
    }

    /// Whether the tensor does not move in this step, in which only the transform's state is updated: for a
    /// [`kind::Lagged`].
    fn holds(&self, cx: &Context<'_>) -> bool {
        false
    }

    /// The elements of [`Sums`](Self::Sums). A [`kind::Lagged`] can have sums only over each tensor.
    fn sums_over(&self) -> SumsOver {
        SumsOver::Tensor
    }

    /// Names of the numbers kept for a parameter group, initially 0.
    fn group_scalars(&self) -> &'static [&'static str] {
        &[]
    }

    /// Before a step of a parameter group, in the order of the chain: publishes numbers for all transforms.
    fn begin_step(&self, scalars: &[f64], step: &mut StepContext) {}

    /// Whether a step provides everything that the transform needs: see [`StepContext::required`] and
    /// [`Optimizer::step_with`](crate::Optimizer::step_with).
    ///
    /// # Errors
    /// [`Error::NotGiven`](crate::Error::NotGiven), or another error. The step is then not made, and nothing
    /// has changed.
    fn check_step(&self, step: &StepContext) -> Result<()> {
        Ok(())
    }

    /// After a step of a parameter group: updates the group's numbers.
    fn end_step(&self, step: &StepContext, summary: &StepSummary, scalars: &mut [f64]) {}

    /// Before a step of a tensor, on the host: computes numbers that depend on the step. All except those
    /// [kept](Self::kept) are 0 before.
    fn begin(&self, cx: &Context<'_>, scalars: &mut Self::Scalars<f64>) {}

    /// The same for arrays along axes. See [`kind::Lagged`].
    fn begin_along<T: Real>(
        &self,
        cx: &Context<'_>,
        along: AlongState<'_, T>,
        scalars: &mut Self::Scalars<f64>,
    ) {
    }

    /// Contribution of an element to the sums over the tensor. Added up within a tile in the type of the
    /// computation, then in float64; all in float64 with [`SUMS_IN_FLOAT64`](Self::SUMS_IN_FLOAT64).
    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Self::Sums<Num<B>> {
        Fields::from_fn(|_| e.update.constant(0.0))
    }

    /// Contribution of an element to the sums over an axis.
    fn measure_along<B: Backend>(&self, e: &Element<B, Self>) -> Self::Along<Num<B>> {
        Fields::from_fn(|_| e.update.constant(0.0))
    }

    /// When the sums are complete, on the host: computes numbers that depend on them, in addition to those of
    /// [`begin`](Self::begin).
    fn finalize(&self, cx: &Context<'_>, sums: Self::Sums<f64>, scalars: &mut Self::Scalars<f64>) {}

    /// The same for arrays along axes, from the sums and the arrays kept.
    fn finalize_along<T: Real>(
        &self,
        cx: &Context<'_>,
        along: AlongState<'_, T>,
        scalars: &mut Self::Scalars<f64>,
    ) {
    }

    /// Number of the formula that elements use in this step of a tensor, below [`variants`](Self::variants): [`ElementOf::variant`](crate::ElementOf::variant).
    ///
    /// The usual formula should be number 0: [fused](crate::fused) loops are also compiled for only this one,
    /// without the comparisons.
    ///
    /// ```
    /// use gradient_transform::{
    ///     Backend, Context, Descent, Element, GradientTransform, Nothing, Optimizer, Parameter, transform,
    /// };
    ///
    /// /// The sign of the update in the first step, and the update afterwards.
    /// #[derive(Clone, Debug)]
    /// struct SignAtFirst;
    ///
    /// #[transform("sign-at-first")]
    /// impl GradientTransform for SignAtFirst {
    ///     fn variant(&self, cx: &Context<'_>, _scalars: &Nothing<f64>) -> u32 {
    ///         u32::from(cx.step.k > 1)
    ///     }
    ///
    ///     fn variants(&self) -> u32 {
    ///         2
    ///     }
    ///
    ///     fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
    ///         if e.variant == 0 {
    ///             e.update = e.update.sign();
    ///         }
    ///     }
    /// }
    ///
    /// let mut optimizer = Optimizer::new((SignAtFirst, Descent::default()), [("w", &[1][..])])?;
    /// let mut w = [0.0_f32];
    /// for expected in [-1.0, -4.0] {
    ///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0]))])?;
    ///     assert_eq!(w, [expected]);
    /// }
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    fn variant(&self, cx: &Context<'_>, scalars: &Self::Scalars<f64>) -> u32 {
        0
    }

    /// The number of formulas, at least 1.
    fn variants(&self) -> u32 {
        1
    }

    /// Computes the outgoing update from the incoming one, and the next state.
    fn update<B: Backend>(&self, e: &mut Element<B, Self>);
}
