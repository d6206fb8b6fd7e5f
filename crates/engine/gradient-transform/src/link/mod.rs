//! Between author and engine: the trait that everything in a chain implements, and the values that it is handed.

pub(crate) mod compose;
pub(crate) mod context;
pub(crate) mod equations;
pub(crate) mod estimator;
pub(crate) mod formula;
pub(crate) mod loops;
pub(crate) mod matrices;
pub(crate) mod moment_scale;
pub(crate) mod published;
pub(crate) mod state;
pub(crate) mod sums_over;
pub(crate) mod tile;
pub(crate) mod update;
pub(crate) mod writer;

use std::any::Any;
use std::fmt::Debug;

use crate::error::Result;
use crate::link::context::{Context, StepContext, StepSummary, TensorInfo};
use crate::link::equations::Equations;
use crate::link::estimator::Estimator;
use crate::link::formula::{ElementWork, FormulaElement, FormulaNumbers};
use crate::link::loops::Loops;
use crate::link::matrices::{MatrixNumbers, MatrixWork};
use crate::link::state::{StateSpec, Sums, TensorState};
use crate::link::sums_over::SumsOver;
use crate::link::tile::Tile;
use crate::link::writer::WriterLink;
use crate::memory::element::Real;

/// When a transform's work on a tile can be done.
///
/// ```
/// use gradient_transform::{DType, Descent, Link, Role, TensorInfo, map, rescale};
///
/// let tensor = TensorInfo { name: "w".into(), shape: vec![8, 4], dtype: DType::F32, updates: 0 };
/// assert_eq!(Link::<f32>::role(&map!("halve", |u| u / 2.0), &tensor), Role::Map);
/// let unit = rescale!("unit-norm", |u| u * u, |sum, _n| 1.0 / sum.sqrt());
/// assert_eq!(Link::<f32>::role(&unit, &tensor), Role::Reduce);
/// assert_eq!(Link::<f32>::role(&Descent::default(), &tensor), Role::Writer);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `emit` needs the tile alone.
    Map,
    /// `emit` needs what `seal` computes from all tiles: the chain is cut here, and another sweep begins.
    Reduce,
    /// Changes no update; observes once, in the last sweep, before the parameter moves. An observer that does not read the update
    /// declares that in [`Link::reads`].
    Observer,
    /// Turns the update into the displacement of the parameter: [`Link::writer`] returns it.
    Writer,
}

/// Elementwise inputs that a transform reads; the engine loads no others.
///
/// ```
/// use gradient_transform::{Descent, Link, Reads};
///
/// assert_eq!(Link::<f32>::reads(&Descent::default()), Reads::PARAMETER);
/// assert!(Reads::GRADIENT_AND_PARAMETER.gradient && !Reads::UPDATE.parameter && Reads::BASE.base);
/// assert!(Reads::UPDATE.update && !Reads::GRADIENT_AND_PARAMETER_ALONE.update);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// The update. A [fused](crate::fused) chain has none for observers.
    pub update: bool,
    /// The raw gradient.
    pub gradient: bool,
    /// The parameter before this step, y.
    pub parameter: bool,
    /// The writer's base iterate: Schedule-Free's z, or the parameter itself.
    pub base: bool,
}

impl Reads {
    /// Nothing but the update.
    pub const UPDATE: Self = Self { update: true, gradient: false, parameter: false, base: false };
    /// The parameter too.
    pub const PARAMETER: Self = Self { parameter: true, ..Self::UPDATE };
    /// The base iterate too.
    pub const BASE: Self = Self { base: true, ..Self::UPDATE };
    /// The raw gradient and the parameter too.
    pub const GRADIENT_AND_PARAMETER: Self = Self { gradient: true, parameter: true, ..Self::UPDATE };
    /// The raw gradient and the parameter, and not the update: of estimators.
    pub const GRADIENT_AND_PARAMETER_ALONE: Self = Self { update: false, ..Self::GRADIENT_AND_PARAMETER };
}

/// One link of an optimizer's chain.
///
/// A transform is its hyperparameters. Its state for a tensor is declared by [`state`](Self::state) and owned by the engine, which
/// calls, for every tensor with a gradient:
///
/// 1. [`begin`](Self::begin) once;
/// 2. [`observe`](Self::observe) once for every tile, with the update as the transforms before this one left it;
/// 3. [`seal`](Self::seal) once, when all tiles have been observed;
/// 4. [`emit`](Self::emit) for every tile in every later sweep, possibly several times, so it must not change state;
///    in the last sweep [`commit`](Self::commit) instead, exactly once per tile;
/// 5. [`finish`](Self::finish) once.
///
/// All methods but [`name`](Self::name) have a default that does nothing, so an elementwise transform writes `emit`
/// alone. `T` is the type of the computation: `f32` or `f64`.
///
/// Checkpoints and messages show its hyperparameters in their `Debug` form.
///
/// Layer-wise adaptive rates (You et al., 1708.03888) for matrices, in two sweeps:
///
/// ```
/// use gradient_transform::{
///     Context, Descent, Error, Link, Optimizer, Parameter, Reads, Real, Result, Role, StateSpec, Sums,
///     TensorInfo, TensorState, Tile, kernel,
/// };
///
/// /// `u <- eta (|y| / |u|) u`.
/// #[derive(Debug)]
/// struct Lars {
///     eta: f64,
/// }
///
/// impl<T: Real> Link<T> for Lars {
///     fn name(&self) -> &str {
///         "lars"
///     }
///
///     fn validate(&self) -> Result<()> {
///         Error::check("eta", self.eta, self.eta > 0.0 && self.eta.is_finite(), "finite and above 0")
///     }
///
///     fn applies(&self, tensor: &TensorInfo) -> bool {
///         tensor.shape.len() >= 2
///     }
///
///     fn excludes(&self) -> &[(&'static str, &'static str)] {
///         &[("stableadamw", "both set the size of the update; keep one")]
///     }
///
///     fn role(&self, _tensor: &TensorInfo) -> Role {
///         Role::Reduce // the norms are of the whole tensor
///     }
///
///     fn reads(&self) -> Reads {
///         Reads::PARAMETER
///     }
///
///     fn state(&self, _tensor: &TensorInfo) -> StateSpec {
///         StateSpec::new().sums(2, 0).scratch(1)
///     }
///
///     fn observe(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
///         sums.scalars[0] += kernel::sum(tile.parameter, |y| y * y);
///         sums.scalars[1] += kernel::sum(tile.update.values(), |u| u * u);
///     }
///
///     fn sums_show_unusable(&self, _tensor: &TensorInfo) -> bool {
///         true // by the second one
///     }
///
///     fn seal(&self, _cx: &Context<'_>, state: TensorState<'_, T>) {
///         let ratio = (state.scalar_sums[0] / state.scalar_sums[1].max(1e-30)).sqrt();
///         state.scratch[0][0] = T::of(self.eta * ratio);
///     }
///
///     fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {
///         tile.update.scale(tile.scratch[0][0]);
///     }
/// }
///
/// let mut optimizer = Optimizer::new((Lars { eta: 0.1 }, Descent::default()), [("w", &[1, 2][..])])?;
/// let mut w = [3.0_f32, 4.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[200.0, 0.0]))])?;
/// assert_eq!(w, [2.5, 4.0]); // a tenth of |w| along the gradient
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[allow(unused_variables)] // the names of the parameters are part of the documentation
pub trait Link<T: Real>: Debug + Send + Sync {
    /// Its name: the key of its state in checkpoints, and its name in errors. Unique within a chain.
    fn name(&self) -> &str;

    /// Calls `visit` with the transforms that this one is composed of, in order, and returns true.
    /// A transform that is not composed, as almost all are, returns false.
    ///
    /// ```
    /// use gradient_transform::{Descent, Link, Optimizer, Real};
    ///
    /// /// Two transforms that always go together.
    /// #[derive(Debug)]
    /// struct Both<A, B>(A, B);
    ///
    /// impl<T: Real, A: Link<T>, B: Link<T>> Link<T> for Both<A, B> {
    ///     fn name(&self) -> &str {
    ///         "both"
    ///     }
    ///
    ///     fn members<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Link<T>)) -> bool {
    ///         visit(&self.0);
    ///         visit(&self.1);
    ///         true
    ///     }
    ///
    ///     fn guards_members(&self) -> bool {
    ///         false // `applies` is not asked; each of both decides for itself
    ///     }
    /// }
    ///
    /// let sign = gradient_transform::map!("sign", |u| u.sign());
    /// let optimizer = Optimizer::new(Both(sign, Descent::default()), [("w", &[2][..])])?;
    /// assert_eq!(optimizer.describe_chain(0, &[2])?, "sign | descent");
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    fn members<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn Link<T>)) -> bool {
        false
    }

    /// Whether it applies to this tensor. For other tensors it is the identity and keeps nothing.
    fn applies(&self, tensor: &TensorInfo) -> bool {
        true
    }

    /// Whether a composition's [`applies`](Self::applies) holds for its members too.
    fn guards_members(&self) -> bool {
        false
    }

    /// Checks its own hyperparameters.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Names of transforms that cannot be in the same chain, each with the reason and what to do.
    fn excludes(&self) -> &[(&'static str, &'static str)] {
        &[]
    }

    /// Whether it changes the writer's displacement, and so belongs after the writer.
    ///
    /// ```
    /// use gradient_transform::{Context, Descent, Link, Optimizer, Parameter, Tile};
    ///
    /// /// No element moves by more than 0.1.
    /// #[derive(Debug)]
    /// struct ShortSteps;
    ///
    /// impl Link<f32> for ShortSteps {
    ///     fn name(&self) -> &str {
    ///         "short-steps"
    ///     }
    ///
    ///     fn changes_displacement(&self) -> bool {
    ///         true
    ///     }
    ///
    ///     fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, f32>) {
    ///         tile.update.map(|m| m.clamp(-0.1, 0.1));
    ///     }
    /// }
    ///
    /// let mut optimizer = Optimizer::new((Descent::default(), ShortSteps), [("w", &[2][..])])?;
    /// let mut w = [0.0_f32, 0.0];
    /// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[-3.0, 0.01]))])?;
    /// assert_eq!(w, [0.1, -0.01]);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    fn changes_displacement(&self) -> bool {
        false
    }

    /// When its work on a tile of `tensor` can be done.
    fn role(&self, tensor: &TensorInfo) -> Role {
        Role::Map
    }

    /// Elements that the sums of a reduction are taken over.
    fn sums_over(&self) -> SumsOver {
        SumsOver::Tensor
    }

    /// Inputs besides the update.
    fn reads(&self) -> Reads {
        Reads::UPDATE
    }

    /// Equations of its work on an element of a tensor, if it has that form.
    fn equations(&self, tensor: &TensorInfo) -> Equations {
        Equations::default()
    }

    /// Its work on an element of a tensor, with symbols in place of numbers. Returns whether it has such a form; a link that works
    /// on tiles has none.
    ///
    /// With it the chain can run on a [device](crate::device). Every [`GradientTransform`](crate::GradientTransform) has it.
    ///
    /// ```
    /// use gradient_transform::device::{ElementWork, FormulaElement, FormulaNumbers, Interpreter, OnDevice};
    /// use gradient_transform::{Context, Descent, Link, Optimizer, TensorInfo, Tile};
    ///
    /// /// `u <- u/k`, in step k.
    /// #[derive(Debug)]
    /// struct Fading;
    ///
    /// impl Link<f32> for Fading {
    ///     fn name(&self) -> &str {
    ///         "fading"
    ///     }
    ///
    ///     fn emit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, f32>) {
    ///         let k = cx.step.k as f32;
    ///         tile.update.map(|u| u / k);
    ///     }
    ///
    ///     fn formula(&self, _tensor: &TensorInfo, work: ElementWork, e: &mut FormulaElement<'_>) -> bool {
    ///         if matches!(work, ElementWork::Emit | ElementWork::Commit) {
    ///             e.update = e.update / e.number(0);
    ///         }
    ///         true
    ///     }
    ///
    ///     fn formula_numbers(&self, cx: &Context<'_>, _scratch: &[Vec<f32>]) -> FormulaNumbers<f32> {
    ///         FormulaNumbers { values: [cx.step.k as f32].into_iter().collect(), variant: 0 }
    ///     }
    /// }
    ///
    /// let optimizer = Optimizer::new((Fading, Descent::default()), [("w", [2])])?;
    /// assert!(OnDevice::new(optimizer, Interpreter).is_ok());
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    fn formula(&self, tensor: &TensorInfo, work: ElementWork, element: &mut FormulaElement<'_>) -> bool {
        false
    }

    /// The numbers of a tensor and step that the formula refers to; `scratch` as [`begin`](Self::begin) and
    /// [`seal`](Self::seal) left it.
    fn formula_numbers(&self, cx: &Context<'_>, scratch: &[Vec<T>]) -> FormulaNumbers<T> {
        FormulaNumbers::default()
    }

    /// Of a reduction that has a [`formula`](Self::formula): its work on whole matrices after it has observed the update, which a device
    /// runs in place of [`seal`](Self::seal). Tensors with the same work are worked on together.
    ///
    /// ```
    /// use gradient_transform::device::{
    ///     DeviceParameter, ElementWork, FormulaElement, Interpreter, MatrixNumbers, MatrixWork, OnDevice, Product,
    /// };
    /// use gradient_transform::{
    ///     Buffer, Context, Descent, Link, Optimizer, Parameter, Role, StateSpec, Sums, TensorInfo, TensorState,
    ///     Tile,
    /// };
    ///
    /// /// `U <- U U' U / |U|^2`.
    /// #[derive(Debug)]
    /// struct Cubed;
    ///
    /// impl Link<f32> for Cubed {
    ///     fn name(&self) -> &str {
    ///         "cubed"
    ///     }
    ///
    ///     fn applies(&self, tensor: &TensorInfo) -> bool {
    ///         tensor.shape.len() == 2
    ///     }
    ///
    ///     fn role(&self, _tensor: &TensorInfo) -> Role {
    ///         Role::Reduce
    ///     }
    ///
    ///     fn state(&self, _tensor: &TensorInfo) -> StateSpec {
    ///         StateSpec::new().workspace("matrix")
    ///     }
    ///
    ///     fn observe(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, f32>, _sums: Sums<'_, f32>) {
    ///         tile.columns[0].copy_from_slice(tile.update.values());
    ///     }
    ///
    ///     fn seal(&self, cx: &Context<'_>, state: TensorState<'_, f32>) {
    ///         let Buffer::F32(u) = &mut state.columns[0] else { return };
    ///         let (rows, cols, given) = (cx.tensor.shape[0], cx.tensor.shape[1], u.clone());
    ///         let squares: f32 = given.iter().map(|u| u * u).sum();
    ///         for (i, j) in (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j))) {
    ///             let row = |r: usize| (0..cols).map(|c| given[i * cols + c] * given[r * cols + c]).sum::<f32>();
    ///             u[i * cols + j] = (0..rows).map(|r| row(r) * given[r * cols + j]).sum::<f32>() / squares;
    ///         }
    ///     }
    ///
    ///     fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, f32>) {
    ///         tile.update.map2(tile.columns[0], |_, u| u);
    ///     }
    ///
    ///     // And on a device:
    ///     fn formula(&self, _tensor: &TensorInfo, work: ElementWork, e: &mut FormulaElement<'_>) -> bool {
    ///         match work {
    ///             ElementWork::Observe => e.state.push((0, e.update)),
    ///             _ => e.update = e.column(0),
    ///         }
    ///         true
    ///     }
    ///
    ///     fn matrix_work(&self, tensor: &TensorInfo) -> Option<MatrixWork> {
    ///         let (rows, cols) = (tensor.shape[0], tensor.shape[1]);
    ///         let mut work = MatrixWork::default();
    ///         let u = work.column(0, rows, cols);
    ///         let (square, cubed) = (work.workspace(rows, rows), work.workspace(rows, cols));
    ///         work.product(Product { symmetric: true, ..Product::new(square, u, u.t()) });
    ///         work.product(Product::new(cubed, square, u));
    ///         work.each(cubed, u, |e| e.sums.push(e.gradient.squared()));
    ///         work.numbers();
    ///         work.each(u, cubed, |e| e.parameter = e.gradient / e.number(0));
    ///         Some(work)
    ///     }
    ///
    ///     fn matrix_numbers(
    ///         &self,
    ///         _cx: &Context<'_>,
    ///         _call: usize,
    ///         numbers: &mut MatrixNumbers<f32>,
    ///         _state: TensorState<'_, f32>,
    ///     ) {
    ///         numbers.numbers = vec![numbers.sums[0] as f32];
    ///     }
    /// }
    ///
    /// let optimizer = || Optimizer::new((Cubed, Descent::default()), [("w", [2, 2])]);
    /// let (mut w, g) = ([0.0_f32; 4], [2.0_f32, 0.0, 0.0, 1.0]);
    /// optimizer()?.step(&mut [Parameter::slice(&mut w, Some(&g))])?;
    /// assert_eq!(w, [-1.6, 0.0, 0.0, -0.2]);
    ///
    /// let (mut there, g) = (Buffer::F32(vec![0.0; 4]), Buffer::F32(g.to_vec()));
    /// let mut optimizer = OnDevice::new(optimizer()?, Interpreter)?;
    /// optimizer.step(&mut [DeviceParameter { value: &mut there, gradient: Some(&g) }])?;
    /// assert_eq!(there, Buffer::F32(w.to_vec()));
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    fn matrix_work(&self, tensor: &TensorInfo) -> Option<MatrixWork> {
        None
    }

    /// The numbers of a tensor for the steps of its [`matrix_work`](Self::matrix_work) after call number `call` (counted from 0) of
    /// [`numbers`](MatrixWork::numbers) in it, by the sums of those before it. May change small state, as [`seal`](Self::seal) may; the
    /// columns are on the device.
    fn matrix_numbers(
        &self,
        cx: &Context<'_>,
        call: usize,
        numbers: &mut MatrixNumbers<T>,
        state: TensorState<'_, T>,
    ) {
    }

    /// State for one tensor.
    fn state(&self, tensor: &TensorInfo) -> StateSpec {
        StateSpec::new()
    }

    /// Whether, from this step on, it takes no part any more and its state can be freed.
    fn retired(&self, step: &StepContext) -> bool {
        false
    }

    /// Names of its numbers per group, 0 at first.
    ///
    /// ```
    /// use gradient_transform::{Descent, Link, Optimizer, Parameter, StepContext, StepSummary};
    ///
    /// /// A step size that falls as 1/k, and no longer after step 100.
    /// #[derive(Debug)]
    /// struct Decay;
    ///
    /// impl Link<f32> for Decay {
    ///     fn name(&self) -> &str {
    ///         "decay"
    ///     }
    ///
    ///     fn group_scalars(&self) -> &'static [&'static str] {
    ///         &["steps"]
    ///     }
    ///
    ///     fn begin_step(&self, scalars: &[f64], step: &mut StepContext) {
    ///         step.step_size /= scalars[0] + 1.0;
    ///     }
    ///
    ///     fn end_step(&self, _step: &StepContext, summary: &StepSummary, scalars: &mut [f64]) {
    ///         if summary.updates > 0 {
    ///             scalars[0] = (scalars[0] + 1.0).min(100.0);
    ///         }
    ///     }
    ///
    ///     fn retired(&self, step: &StepContext) -> bool {
    ///         step.k > 100 // what it keeps of tensors (nothing, here) is freed
    ///     }
    /// }
    ///
    /// let mut optimizer = Optimizer::new((Decay, Descent::default()), [("w", &[1][..])])?;
    /// let mut w = [0.0_f32];
    /// for expected in [-1.0, -1.5] {
    ///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0]))])?;
    ///     assert_eq!(w, [expected]);
    /// }
    /// assert_eq!(optimizer.snapshot().groups[0].scalars["decay/steps"], 2.0);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    fn group_scalars(&self) -> &'static [&'static str] {
        &[]
    }

    /// Publishes numbers that follow from the group's state, before any tensor is touched.
    fn begin_step(&self, scalars: &[f64], step: &mut StepContext) {}

    /// Whether a step provides everything that it needs: see [`StepContext::required`] and
    /// [`Optimizer::step_with`](crate::Optimizer::step_with).
    ///
    /// # Errors
    /// [`Error::NotGiven`](crate::Error::NotGiven), or another error, with which the step is refused and nothing has changed.
    fn check_step(&self, step: &StepContext) -> Result<()> {
        Ok(())
    }

    /// Updates the group's state, once all tensors are done.
    fn end_step(&self, step: &StepContext, summary: &StepSummary, scalars: &mut [f64]) {}

    /// Whether this tensor must not move in this step, because state has to be filled first. The transforms after
    /// this one are not run for the tensor then, and of this one `observe` and `finish` only.
    ///
    /// ```
    /// use gradient_transform::{
    ///     Context, Descent, Link, Optimizer, Parameter, StateSpec, Storage, Sums, TensorInfo, Tile,
    /// };
    ///
    /// /// Optimistic descent, `2 g - (the gradient before)`; the first gradient is only remembered.
    /// #[derive(Debug)]
    /// struct Optimistic;
    ///
    /// impl Link<f32> for Optimistic {
    ///     fn name(&self) -> &str {
    ///         "optimistic"
    ///     }
    ///
    ///     fn state(&self, _tensor: &TensorInfo) -> StateSpec {
    ///         StateSpec::new().column("previous", Storage::Compute)
    ///     }
    ///
    ///     fn holds(&self, cx: &Context<'_>) -> bool {
    ///         cx.fresh
    ///     }
    ///
    ///     fn observe(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, f32>, _sums: Sums<'_, f32>) {
    ///         if self.holds(cx) {
    ///             tile.columns[0].copy_from_slice(tile.update.values());
    ///         }
    ///     }
    ///
    ///     fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, f32>) {
    ///         tile.update.map2(tile.columns[0], |u, previous| 2.0 * u - previous);
    ///     }
    ///
    ///     /// Only now, as `emit` still needs the gradient before.
    ///     fn commit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, f32>, _sums: Sums<'_, f32>) {
    ///         let gradient = tile.update.values().to_vec();
    ///         self.emit(cx, tile);
    ///         tile.columns[0].copy_from_slice(&gradient);
    ///     }
    ///
    ///     fn commits_columns(&self) -> bool {
    ///         true
    ///     }
    /// }
    ///
    /// let mut optimizer = Optimizer::new((Optimistic, Descent::default()), [("w", &[1][..])])?;
    /// let mut w = [0.0_f32];
    /// for (gradient, expected) in [(1.0, 0.0), (2.0, -3.0), (2.0, -5.0)] {
    ///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[gradient]))])?;
    ///     assert_eq!(w, [expected]);
    /// }
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    fn holds(&self, cx: &Context<'_>) -> bool {
        false
    }

    /// Prepares for a tensor. Must not change columns and vectors: the step can still be rejected, for a gradient that is not finite.
    ///
    /// ```
    /// use gradient_transform::{
    ///     Context, Descent, Link, Optimizer, Parameter, StateSpec, Storage, Sums, TensorInfo, TensorState,
    ///     Tile, kernel,
    /// };
    ///
    /// /// Divides by the largest norm of earlier gradients, which takes no sweep of its own.
    /// #[derive(Debug)]
    /// struct ByLargestNorm;
    ///
    /// impl Link<f32> for ByLargestNorm {
    ///     fn name(&self) -> &str {
    ///         "by-largest-norm"
    ///     }
    ///
    ///     fn state(&self, _tensor: &TensorInfo) -> StateSpec {
    ///         StateSpec::new().vector("largest", 1, Storage::Compute).scratch(1).sums(1, 0)
    ///     }
    ///
    ///     fn begin(&self, _cx: &Context<'_>, state: TensorState<'_, f32>) {
    ///         let largest: f32 = state.vectors[0].get(0);
    ///         state.scratch[0][0] = if largest > 0.0 { 1.0 / largest } else { 1.0 };
    ///     }
    ///
    ///     fn observe(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, f32>, sums: Sums<'_, f32>) {
    ///         sums.scalars[0] += kernel::sum(tile.update.values(), |u| u * u);
    ///     }
    ///
    ///     fn emit(&self, _cx: &Context<'_>, tile: &mut Tile<'_, '_, f32>) {
    ///         tile.update.scale(tile.scratch[0][0]);
    ///     }
    ///
    ///     fn finish(&self, _cx: &Context<'_>, state: TensorState<'_, f32>) {
    ///         let norm = state.scalar_sums[0].sqrt() as f32;
    ///         state.vectors[0].update(&[norm], f32::max);
    ///     }
    /// }
    ///
    /// let mut optimizer = Optimizer::new((ByLargestNorm, Descent::default()), [("w", &[2][..])])?;
    /// let mut w = [0.0_f32, 0.0];
    /// for expected in [[-3.0, -4.0], [-3.6, -4.8]] {
    ///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0, 4.0]))])?;
    ///     assert!((w[0] - expected[0]).abs() < 1e-6 && (w[1] - expected[1]).abs() < 1e-6);
    /// }
    /// assert_eq!(optimizer.planned_traffic().1, 1); // one sweep
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    fn begin(&self, cx: &Context<'_>, state: TensorState<'_, T>) {}

    /// Reads a tile, exactly once: may change its columns, and adds to the sums.
    fn observe(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {}

    /// Whether the sums include sums of squares of the observed update, in which an element that is not finite or too large shows.
    /// At the head of a chain, the engine then skips its own check of the gradient.
    fn sums_show_unusable(&self, tensor: &TensorInfo) -> bool {
        false
    }

    /// The entry of the first workspace array by which the update is multiplied, if that is all that `emit` and `commit` do.
    /// The engine then leaves the product to the next transform that reads the update.
    ///
    /// ```
    /// use gradient_transform::{Descent, Link};
    ///
    /// assert_eq!(Link::<f32>::scales(&Descent::default()), None);
    /// ```
    fn scales(&self) -> Option<usize> {
        None
    }

    /// Turns complete sums into small state.
    fn seal(&self, cx: &Context<'_>, state: TensorState<'_, T>) {}

    /// Changes the update in place. Must not change columns.
    fn emit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>) {}

    /// The last `emit`, in which columns may change afterwards: for state that must not yet contain this step.
    fn commit(&self, cx: &Context<'_>, tile: &mut Tile<'_, '_, T>, sums: Sums<'_, T>) {
        self.emit(cx, tile);
    }

    /// Whether it is [`commit`](Self::commit) that changes columns, and not `observe` (unless it holds the tensor): they are
    /// stored in the last sweep alone.
    fn commits_columns(&self) -> bool {
        false
    }

    /// Updates small state, after the last sweep.
    fn finish(&self, cx: &Context<'_>, state: TensorState<'_, T>) {}

    /// This transform as a writer, if it is one.
    fn writer(&self) -> Option<&dyn WriterLink<T>> {
        None
    }

    /// This transform as an estimator of the step size, if it is one.
    fn estimator(&self) -> Option<&dyn Estimator> {
        None
    }

    /// The transform itself, if it is written as functions of an element.
    #[doc(hidden)]
    fn concrete(&self) -> Option<&dyn Any> {
        None
    }

    /// Loops that run whole chains.
    #[doc(hidden)]
    fn loops(&self) -> &[&'static dyn Loops<T>] {
        &[]
    }
}
