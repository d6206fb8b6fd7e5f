//! Second moments whose order of operations can be changed.

use std::fmt::Debug;

use crate::author::{AlongState, Column, ElementOf, Fields};
use crate::error::Result;
use crate::link::context::{Context, TensorInfo};
use crate::link::state::Storage;
use crate::memory::element::Real;
use crate::memory::number::{Backend, Num};

/// One element, as the argument of the functions of the moment `M`. See [`ElementOf`].
pub type MomentElement<B, M> =
    ElementOf<B, <M as Moment>::State<Num<B>>, <M as Moment>::Scalars<Num<B>>, <M as Moment>::Along<Num<B>>>;

/// Moment that preconditions the update, with two functions whose order a wrapper can change: ADOPT divides
/// before this step's gradient enters the moment.
///
/// [`accumulate`](Self::accumulate) changes only the state, and [`divide`](Self::divide) only the update.
///
/// The attribute `#[transform("name")]` above the implementation also implements
/// [`GradientTransform`](crate::GradientTransform), which first accumulates and then divides. Moments along
/// axes: [`AlongState`].
///
/// ```
/// use gradient_transform::{
///     Backend, Context, Descent, Moment, MomentElement, Optimizer, Parameter, fields, transform,
/// };
///
/// /// `v <- v/2 + g^2/2`; `u <- u / sqrt(v)`.
/// #[derive(Clone, Debug)]
/// struct Halves;
///
/// #[fields]
/// struct Second<V> {
///     v: V,
/// }
///
/// #[fields]
/// struct Weights<V> {
///     decay: V,
///     weight: V,
/// }
///
/// #[transform("halves")]
/// impl Moment for Halves {
///     type State<V: Copy> = Second<V>;
///     type Scalars<V: Copy> = Weights<V>;
///
///     fn begin(&self, cx: &Context<'_>, scalars: &mut Weights<f64>) {
///         (scalars.decay, scalars.weight) = cx.second_moment_weights(0.5);
///     }
///
///     fn accumulate<B: Backend>(&self, e: &mut MomentElement<B, Self>) {
///         e.state.v = e.scalars.decay * e.state.v + e.scalars.weight * e.update.squared();
///     }
///
///     fn divide<B: Backend>(&self, e: &mut MomentElement<B, Self>) {
///         e.update = e.update / (e.state.v.sqrt() + 1e-8);
///     }
/// }
///
/// let mut optimizer = Optimizer::new((Halves, Descent::default()), [("w", &[2][..])])?;
/// let mut w = [0.0_f32, 0.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0, -3.0]))])?;
/// assert!((w[0] + 2.0_f32.sqrt()).abs() < 1e-6 && (w[0] + w[1]).abs() < 1e-6); // v = g^2/2
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[allow(unused_variables)] // the names of the parameters are part of the documentation
pub trait Moment: Clone + Debug + Send + Sync + 'static {
    /// See [`GradientTransform::State`](crate::GradientTransform::State).
    type State<V: Copy>: Fields<V>;
    /// See [`GradientTransform::Scalars`](crate::GradientTransform::Scalars).
    type Scalars<V: Copy>: Fields<V>;
    /// See [`GradientTransform::Along`](crate::GradientTransform::Along).
    type Along<V: Copy>: Fields<V>;
    #[doc(hidden)]
    const HAS_THE_ATTRIBUTE_TRANSFORM: ();

    /// See [`GradientTransform::name`](crate::GradientTransform::name).
    fn name(&self) -> &str;

    /// See [`GradientTransform::validate`](crate::GradientTransform::validate).
    ///
    /// # Errors
    /// [`Error::OptionOutOfRange`](crate::Error::OptionOutOfRange) with the name, the value and the range.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// See [`GradientTransform::excludes`](crate::GradientTransform::excludes).
    fn excludes(&self) -> &[(&'static str, &'static str)] {
        &[]
    }

    /// See [`GradientTransform::columns`](crate::GradientTransform::columns).
    fn columns(&self, tensor: &TensorInfo) -> Self::State<Column> {
        Fields::from_fn(|_| Column::ZEROS)
    }

    /// See [`GradientTransform::along`](crate::GradientTransform::along).
    fn along(&self, tensor: &TensorInfo) -> Option<Self::Along<usize>> {
        None
    }

    /// See [`GradientTransform::vectors`](crate::GradientTransform::vectors).
    fn vectors(&self, tensor: &TensorInfo) -> Vec<(&'static str, usize, Storage)> {
        Vec::new()
    }

    /// Before a step of a tensor, on the host: numbers that depend on the step.
    fn begin(&self, cx: &Context<'_>, scalars: &mut Self::Scalars<f64>) {}

    /// Computes the next state from an element of the gradient, which is the incoming update.
    fn accumulate<B: Backend>(&self, e: &mut MomentElement<B, Self>);

    /// Contribution of an element to the sums over an axis.
    fn measure_along<B: Backend>(&self, e: &MomentElement<B, Self>) -> Self::Along<Num<B>> {
        Fields::from_fn(|_| e.update.constant(0.0))
    }

    /// Computes the next arrays along axes from complete sums.
    fn advance<T: Real>(&self, cx: &Context<'_>, along: AlongState<'_, T>) {}

    /// Computes the values that [`divide`](Self::divide) reads along axes from the arrays kept.
    fn prepare<T: Real>(&self, cx: &Context<'_>, along: AlongState<'_, T>, scalars: &mut Self::Scalars<f64>) {
    }

    /// See [`GradientTransform::variant`](crate::GradientTransform::variant).
    fn variant(&self, cx: &Context<'_>, scalars: &Self::Scalars<f64>) -> u32 {
        0
    }

    /// See [`GradientTransform::variants`](crate::GradientTransform::variants).
    fn variants(&self) -> u32 {
        1
    }

    /// Computes the direction: the update divided by the current moment.
    fn divide<B: Backend>(&self, e: &mut MomentElement<B, Self>);
}
