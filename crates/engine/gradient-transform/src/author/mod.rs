//! An author's side: functions of one element, and of numbers on the host.

mod descent;
mod element;
mod equations;
mod fields;
mod formula;
pub mod kind;
mod link;
pub(crate) mod loops;
mod map;
mod moment;
pub(crate) mod trace;

use std::fmt::Debug;

pub use descent::Descent;
pub use element::{Element, ElementOf};
pub(crate) use fields::count;
pub use fields::{Fields, Nothing};
pub use gradient_transform_macros::{fields, transform};
pub use loops::fused::{Fused, Transforms, fused, loops};
pub use moment::{Moment, MomentElement};

use crate::author::loops::pass;
use crate::error::Result;
use crate::link::context::{Context, StepContext, StepSummary, TensorInfo};
use crate::link::equations::Equations;
use crate::link::formula::{ElementWork, FormulaElement};
use crate::link::state::{Initial, Storage};
use crate::link::sums_over::SumsOver;
use crate::memory::buffer::Buffer;
use crate::memory::element::Real;
use crate::memory::number::{Backend, Num};
use crate::memory::sums::Gathered;

/// Array of a transform's state: one value for each element of a tensor.
///
/// ```
/// use gradient_transform::{Column, Initial, Storage};
///
/// assert_eq!(Column::ZEROS.storage, Storage::Parameter);
/// assert_eq!(Column::ZEROS.stored_as(Storage::Compute).storage, Storage::Compute);
/// assert_eq!(Column::COPY.initial, Initial::Parameter);
/// assert!(!Column::ABSENT.present);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Column {
    /// Type in memory.
    pub storage: Storage,
    /// First values.
    pub initial: Initial,
    /// Whether the tensor has it. Elements read 0 otherwise, and keep nothing.
    pub present: bool,
}

impl Column {
    /// Zeros at first, in the parameter's type.
    pub const ZEROS: Self = Self { storage: Storage::Parameter, initial: Initial::Zero, present: true };
    /// A copy of the parameter at first, in the parameter's type.
    pub const COPY: Self = Self { storage: Storage::Parameter, initial: Initial::Parameter, present: true };
    /// Standard normal random numbers, new in each step, and the same on every machine, engine and number of threads:
    /// [`normal`](crate::normal). They are workspace, in the type computed in: nothing is kept or saved, and what is assigned to them is lost.
    ///
    /// ```
    /// use gradient_transform::{
    ///     Backend, Column, Descent, Element, GradientTransform, Optimizer, Parameter, TensorInfo, fields, normal, transform,
    /// };
    ///
    /// #[derive(Clone, Debug)]
    /// struct Shaken;
    ///
    /// #[fields]
    /// struct Noise<V> {
    ///     noise: V,
    /// }
    ///
    /// #[transform("shaken")]
    /// impl GradientTransform for Shaken {
    ///     type State<V: Copy> = Noise<V>;
    ///
    ///     fn columns(&self, _tensor: &TensorInfo) -> Noise<Column> {
    ///         Noise { noise: Column::NORMAL }
    ///     }
    ///
    ///     fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
    ///         e.update = e.update + 0.5 * e.state.noise;
    ///     }
    /// }
    ///
    /// let mut optimizer: Optimizer<f64> = Optimizer::new_in((Shaken, Descent::default()), [("w", [2])])?;
    /// let mut w = [0.0, 0.0];
    /// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[0.0, 0.0]))])?;
    /// assert_eq!(w, [0, 1].map(|element| -0.5 * normal(0, "w", "shaken/noise", 0, element)));
    /// assert!(optimizer.snapshot().tensors["w"].arrays.is_empty());
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub const NORMAL: Self = Self { storage: Storage::Compute, initial: Initial::Normal, present: true };
    /// An array that a step is given beside the gradient, as an estimate of the curvature: [`Optimizer::give_array`](crate::Optimizer::give_array). It is
    /// workspace, in the type computed in, and zeros in steps for which nothing is given; [`Context::given`] tells.
    ///
    /// ```
    /// use gradient_transform::prelude::author::*;
    /// use gradient_transform::{Column, Descent, Optimizer, Parameter, TensorInfo};
    ///
    /// /// Newton's step, by the curvature of every element.
    /// #[derive(Clone, Debug)]
    /// struct Newton;
    ///
    /// #[fields]
    /// struct Curvature<V> {
    ///     curvature: V,
    /// }
    ///
    /// #[transform("newton")]
    /// impl GradientTransform for Newton {
    ///     type State<V: Copy> = Curvature<V>;
    ///
    ///     fn columns(&self, _tensor: &TensorInfo) -> Curvature<Column> {
    ///         Curvature { curvature: Column::GIVEN }
    ///     }
    ///
    ///     fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
    ///         e.update = e.update / e.state.curvature.max(1.0);
    ///     }
    /// }
    ///
    /// let mut optimizer = Optimizer::new((Newton, Descent::default()), [("w", [2])])?;
    /// let mut w = [1.0_f32, 1.0]; // of 2 w0^2 + 4 w1^2
    /// optimizer.give_array(0, &[4.0_f32, 8.0])?;
    /// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[4.0, 8.0]))])?;
    /// assert_eq!(w, [0.0, 0.0]);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub const GIVEN: Self = Self { storage: Storage::Compute, initial: Initial::Given, present: true };
    /// No array: 0 for all elements.
    pub const ABSENT: Self = Self { present: false, ..Self::ZEROS };

    /// The same array in another type.
    pub const fn stored_as(self, storage: Storage) -> Self {
        Self { storage, ..self }
    }
}

/// Arrays of a tensor that are as long as the tensor without one of its axes, on the host: row and column sums of a matrix.
///
/// Adafactor's second moment of a matrix (Shazeer and Stern, 2018, algorithm 4):
///
/// ```
/// use gradient_transform::{
///     AlongState, Backend, Context, Descent, Moment, MomentElement, Nothing, Num, Optimizer, Parameter, Real,
///     Storage, TensorInfo, fields, transform,
/// };
///
/// /// `row <- 0.9 row + 0.1 (sum of g^2 over the columns)`, `col` likewise over the rows; `u <- u / sqrt(row col / sum(row))`.
/// #[derive(Clone, Debug)]
/// struct Factored;
///
/// #[fields]
/// struct Sides<V> {
///     row: V,
///     col: V,
/// }
///
/// #[transform("factored")]
/// impl Moment for Factored {
///     type Along<V: Copy> = Sides<V>;
///
///     fn along(&self, _tensor: &TensorInfo) -> Option<Sides<usize>> {
///         Some(Sides { row: 1, col: 0 }) // the axes that they lack
///     }
///
///     fn vectors(&self, tensor: &TensorInfo) -> Vec<(&'static str, usize, Storage)> {
///         vec![("row", tensor.shape[0], Storage::Compute), ("col", tensor.shape[1], Storage::Compute)]
///     }
///
///     fn accumulate<B: Backend>(&self, _e: &mut MomentElement<B, Self>) {} // nothing is kept of an element
///
///     fn measure_along<B: Backend>(&self, e: &MomentElement<B, Self>) -> Sides<Num<B>> {
///         Sides { row: e.update.squared(), col: e.update.squared() }
///     }
///
///     fn advance<T: Real>(&self, _cx: &Context<'_>, along: AlongState<'_, T>) {
///         for (kept, sums) in along.kept.iter_mut().zip(along.sums) {
///             kept.update(sums.values(), |old, sum| T::of(0.9) * old + T::of(0.1) * sum);
///         }
///     }
///
///     fn prepare<T: Real>(&self, _cx: &Context<'_>, along: AlongState<'_, T>, _scalars: &mut Nothing<f64>) {
///         for (values, kept) in along.values.iter_mut().zip(&*along.kept) {
///             kept.load(values);
///         }
///         let total = along.values[0].iter().fold(T::zero(), |sum, &row| sum + row);
///         along.values[0].iter_mut().for_each(|row| *row /= total);
///     }
///
///     fn divide<B: Backend>(&self, e: &mut MomentElement<B, Self>) {
///         e.update = e.update / ((e.along.row * e.along.col).sqrt() + 1e-8);
///     }
/// }
///
/// let mut optimizer = Optimizer::new((Factored, Descent::default()), [("w", &[2, 2][..])])?;
/// let mut w = [0.0_f32; 4];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0, -2.0, 2.0, -4.0]))])?;
/// // The squares have rank one, so each element is divided by its own root: signs, 1/sqrt(0.1) times.
/// assert!(w.iter().all(|w| (w.abs() - 10.0_f32.sqrt()).abs() < 1e-5));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Debug)]
pub struct AlongState<'a, T> {
    /// Arrays kept from step to step: [`GradientTransform::vectors`].
    pub kept: &'a mut [Buffer],
    /// Sums of [`GradientTransform::measure_along`], when they are complete.
    pub sums: &'a [Gathered<T>],
    /// Values that elements find in [`ElementOf::along`], to be written.
    pub values: &'a mut [Vec<T>],
}

impl<T> AlongState<'_, T> {
    /// The same arrays, borrowed for a shorter time.
    pub fn reborrow(&mut self) -> AlongState<'_, T> {
        AlongState { kept: self.kept, sums: self.sums, values: self.values }
    }
}

/// Transform of the updates of an optimizer, as a function of one element.
///
/// An elementwise transform implements [`update`](Self::update), a reduction [`measure`](Self::measure) and
/// [`finalize`](Self::finalize) too. The attribute `#[transform("name")]` above the implementation does the rest: it gives the name,
/// supplies the types that are not mentioned, and has the functions of an element inlined into the engine's loops.
///
/// For every tensor with a gradient, in this order:
///
/// 1. [`begin`](Self::begin), on the host: numbers that follow from the step;
/// 2. [`measure`](Self::measure) of every element, if there are [`Sums`](Self::Sums), before any element is updated;
/// 3. [`finalize`](Self::finalize), on the host: numbers that follow from the sums;
/// 4. [`update`](Self::update) of every element: the outgoing update, and the state.
///
/// A function of an element may run several times in a step, on any thread, and with symbols in place of numbers
/// ([`Graph`](crate::number::Graph)): so the engine finds the arrays that it reads. At most eight arrays of state,
/// and eight sums.
///
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
/// A reduction: LARS (You et al., 2017), which scales the update of a layer to the size of its weights.
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
/// It is `Clone`, and best `Copy`: every loop has a copy of the hyperparameters, which stay in registers so.
#[allow(unused_variables)] // the names of the parameters are part of the documentation
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a gradient transform",
    note = "implement `GradientTransform` for it, with `#[transform(\"name\")]` above the `impl`"
)]
pub trait GradientTransform: Clone + Debug + Send + Sync + 'static {
    /// State of an element, by name: a struct under the attribute `#[fields]`. Saved as `transform/field`.
    type State<V: Copy>: Fields<V>;
    /// Numbers of a tensor and step, by name: float64 on the host, rounded to the type computed in for elements.
    type Scalars<V: Copy>: Fields<V>;
    /// Sums over a tensor's elements, by name. With sums the chain is cut after the transform, unless it is
    /// [`Lagged`](kind::Lagged).
    type Sums<V: Copy>: Fields<V>;
    /// Arrays as long as the tensor without an axis, by name: for each element the value of its row or column. See [`AlongState`].
    type Along<V: Copy>: Fields<V>;
    /// Place in a chain: [`Update`](kind::Update) unless given.
    type Kind: kind::Kind<Self>;
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

    /// Transforms that must not be in the same chain: name, and reason with what to do.
    fn excludes(&self) -> &[(&'static str, &'static str)] {
        &[]
    }

    /// Whether it works on a tensor. For others it is the identity, and keeps nothing.
    fn applies(&self, tensor: &TensorInfo) -> bool {
        true
    }

    /// Types and first values of the arrays of [`State`](Self::State). Default: zeros in the parameter's type.
    fn columns(&self, tensor: &TensorInfo) -> Self::State<Column> {
        Fields::from_fn(|_| Column::ZEROS)
    }

    /// The axis that each array of [`Along`](Self::Along) lacks, if the tensor has such arrays: two different axes in all.
    fn along(&self, tensor: &TensorInfo) -> Option<Self::Along<usize>> {
        None
    }

    /// Small arrays kept for a tensor, zeros at first: name, length and type. For [`AlongState::kept`].
    fn vectors(&self, tensor: &TensorInfo) -> Vec<(&'static str, usize, Storage)> {
        Vec::new()
    }

    /// Numbers among [`Scalars`](Self::Scalars) that are kept for a tensor from step to step, in the type computed in: 0 at first,
    /// and saved as `transform/field`.
    ///
    /// [`begin`](Self::begin) finds them as the step before left them, and what it and [`finalize`](Self::finalize) make of them is kept
    /// when the tensor's step is done. [`Context::fresh`] tells the first step. A name that is kept is none of
    /// [`State`](Self::State).
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

    /// Whether the tensor stands still in this step, in which the transform's state alone moves on: for a [`kind::Lagged`].
    fn holds(&self, cx: &Context<'_>) -> bool {
        false
    }

    /// Elements that [`Sums`](Self::Sums) are taken over. A [`kind::Lagged`] has sums over each tensor alone.
    fn sums_over(&self) -> SumsOver {
        SumsOver::Tensor
    }

    /// Names of the numbers kept for a parameter group, 0 at first.
    fn group_scalars(&self) -> &'static [&'static str] {
        &[]
    }

    /// Before a step of a parameter group: numbers published for all transforms, in the order of the chain.
    fn begin_step(&self, scalars: &[f64], step: &mut StepContext) {}

    /// Whether a step gives all that the transform needs: see [`StepContext::required`] and
    /// [`Optimizer::step_with`](crate::Optimizer::step_with).
    ///
    /// # Errors
    /// [`Error::NotGiven`](crate::Error::NotGiven), or another error, with which the step is refused and nothing has changed.
    fn check_step(&self, step: &StepContext) -> Result<()> {
        Ok(())
    }

    /// After a step of a parameter group: the group's numbers move on.
    fn end_step(&self, step: &StepContext, summary: &StepSummary, scalars: &mut [f64]) {}

    /// Before a step of a tensor, on the host: numbers that follow from the step. All but those [kept](Self::kept) are 0 before.
    fn begin(&self, cx: &Context<'_>, scalars: &mut Self::Scalars<f64>) {}

    /// The same for arrays along axes. See [`kind::Lagged`].
    fn begin_along<T: Real>(
        &self,
        cx: &Context<'_>,
        along: AlongState<'_, T>,
        scalars: &mut Self::Scalars<f64>,
    ) {
    }

    /// An element's part of the sums over the tensor. Taken within a tile in the type computed in, then in float64.
    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Self::Sums<Num<B>> {
        Fields::from_fn(|_| e.update.constant(0.0))
    }

    /// An element's part of the sums over an axis.
    fn measure_along<B: Backend>(&self, e: &Element<B, Self>) -> Self::Along<Num<B>> {
        Fields::from_fn(|_| e.update.constant(0.0))
    }

    /// When the sums are complete, on the host: numbers that follow from them, beside those of [`begin`](Self::begin).
    fn finalize(&self, cx: &Context<'_>, sums: Self::Sums<f64>, scalars: &mut Self::Scalars<f64>) {}

    /// The same for arrays along axes, from the sums and the arrays kept.
    fn finalize_along<T: Real>(
        &self,
        cx: &Context<'_>,
        along: AlongState<'_, T>,
        scalars: &mut Self::Scalars<f64>,
    ) {
    }

    /// Number of the formula that elements use in this step of a tensor, below [`variants`](Self::variants): [`ElementOf::variant`].
    ///
    /// The usual formula is best 0: [fused](crate::fused) loops are also compiled for that one alone, without the comparisons.
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

    /// How many formulas there are, at least 1.
    fn variants(&self) -> u32 {
        1
    }

    /// The outgoing update from the incoming one, and the next state.
    fn update<B: Backend>(&self, e: &mut Element<B, Self>);
}

/// End of a chain: moves the parameter by the update.
///
/// [`GradientTransform::update`] completes the update first, for instance by weight decay that is multiplied by the step size.
/// With transforms of the displacement after the writer, [`displace`](Self::displace) comes in between.
///
/// Exponentiated gradient (Kivinen and Warmuth, 1997), for weights above zero:
///
/// ```
/// use gradient_transform::{
///     Backend, Context, Element, GradientTransform, Num, Optimizer, Parameter, Writer, fields, kind, transform,
/// };
///
/// /// `y <- y exp(-step_size u)`.
/// #[derive(Clone, Debug)]
/// struct ExponentiatedGradient;
///
/// #[fields]
/// struct Rate<V> {
///     step_size: V,
/// }
///
/// #[transform("exponentiated-gradient")]
/// impl GradientTransform for ExponentiatedGradient {
///     type Kind = kind::Writer;
///     type Scalars<V: Copy> = Rate<V>;
///
///     fn begin(&self, cx: &Context<'_>, scalars: &mut Rate<f64>) {
///         scalars.step_size = cx.step.step_size;
///     }
///
///     fn update<B: Backend>(&self, _e: &mut Element<B, Self>) {} // no weight decay
/// }
///
/// #[transform]
/// impl Writer for ExponentiatedGradient {
///     fn directs(&self) -> bool {
///         false // `update` does nothing
///     }
///
///     fn displace<B: Backend>(&self, e: &Element<B, Self>) -> Num<B> {
///         e.parameter - e.parameter * (-e.scalars.step_size * e.update).exp()
///     }
///
///     fn write<B: Backend>(&self, e: &mut Element<B, Self>, displacement: Option<Num<B>>) {
///         e.parameter = match displacement {
///             Some(m) => e.parameter - m,
///             None => e.parameter * (-e.scalars.step_size * e.update).exp(),
///         };
///     }
/// }
///
/// let mut optimizer = Optimizer::new(ExponentiatedGradient, [("w", &[2][..])])?;
/// let mut w = [0.5_f32, 0.5];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0, -1.0]))])?;
/// assert!((w[0] - 0.5 * (-1.0_f32).exp()).abs() < 1e-6 && w[1] > w[0]); // and never below zero
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[allow(unused_variables)]
pub trait Writer: GradientTransform<Kind = kind::Writer> {
    #[doc(hidden)]
    const HAS_THE_ATTRIBUTE_TRANSFORM: ();
    #[doc(hidden)]
    fn write_f32(pass: pass::Pass<'_, '_, f32, Self>);
    #[doc(hidden)]
    fn write_f64(pass: pass::Pass<'_, '_, f64, Self>);

    /// Position in the state of the base iterate, if that is not the parameter itself.
    fn base(&self) -> Option<usize> {
        None
    }

    /// Position in the state of the evaluation point x, if it is kept: an average of the parameters. Training goes on from y whatever it is.
    ///
    /// ```
    /// use gradient_transform::prelude::author::*;
    /// use gradient_transform::{Column, Optimizer, Parameter, TensorInfo, Writer, kind};
    ///
    /// /// Descent at the rate 1, and the mean of every two points.
    /// #[derive(Clone, Debug)]
    /// struct Halves;
    ///
    /// #[fields]
    /// struct Mean<V> {
    ///     x: V,
    /// }
    ///
    /// #[transform("halves")]
    /// impl GradientTransform for Halves {
    ///     type Kind = kind::Writer;
    ///     type State<V: Copy> = Mean<V>;
    ///
    ///     fn columns(&self, _tensor: &TensorInfo) -> Mean<Column> {
    ///         Mean { x: Column::COPY }
    ///     }
    ///
    ///     fn update<B: Backend>(&self, _e: &mut Element<B, Self>) {}
    /// }
    ///
    /// #[transform]
    /// impl Writer for Halves {
    ///     fn average(&self) -> Option<usize> {
    ///         Some(0)
    ///     }
    ///
    ///     fn directs(&self) -> bool {
    ///         false
    ///     }
    ///
    ///     fn displace<B: Backend>(&self, e: &Element<B, Self>) -> Num<B> {
    ///         e.update
    ///     }
    ///
    ///     fn write<B: Backend>(&self, e: &mut Element<B, Self>, displacement: Option<Num<B>>) {
    ///         let before = e.parameter;
    ///         e.parameter = before - displacement.unwrap_or(e.update);
    ///         e.state.x = 0.5 * (before + e.parameter);
    ///     }
    /// }
    ///
    /// let mut optimizer = Optimizer::new(Halves, [("w", [1])])?;
    /// let mut w = [0.0_f32];
    /// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0]))])?;
    /// optimizer.eval(&mut [Parameter::slice(&mut w, None)])?;
    /// assert_eq!(w, [-0.5]);
    /// optimizer.train(&mut [Parameter::slice(&mut w, None)])?;
    /// assert_eq!(w, [-1.0]);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    fn average(&self) -> Option<usize> {
        None
    }

    /// Weight of the evaluation point x in the parameter, `y = weight x + (1 - weight) z` with the base iterate z: above 0, and
    /// at most 1, where x is y. Schedule-Free's beta1.
    fn evaluation_weight(&self) -> f64 {
        1.0
    }

    /// Whether [`GradientTransform::update`] does anything. If not, it is not called.
    fn directs(&self) -> bool {
        true
    }

    /// The displacement m that the update would make: `y <- y - m`.
    fn displace<B: Backend>(&self, e: &Element<B, Self>) -> Num<B>;

    /// The next [`ElementOf::parameter`] and state, by the update; the parameter by the displacement, if there are transforms of it
    /// after the writer.
    fn write<B: Backend>(&self, e: &mut Element<B, Self>, displacement: Option<Num<B>>);
}
