//! Kinds of transforms, by their place in a chain.

use super::link::{Link, WriterLink};
use super::loops::work::{self, Work};
use super::{GradientTransform, Writer as Writes, equations, formula};
use crate::link::context::TensorInfo;
use crate::link::equations::Equations;
use crate::link::formula::{ElementWork, FormulaElement};
use crate::memory::element::Real;

/// Kind of the transform `G`: [`GradientTransform::Kind`].
pub trait Kind<G: GradientTransform> {
    /// Whether sums are computed in the last sweep.
    #[doc(hidden)]
    const LAGS: bool = false;
    /// Its work in a loop of several transforms: before the last sweep, in it, and in it as the last
    /// transform.
    #[doc(hidden)]
    type Emit: Work<G> + 'static;
    #[doc(hidden)]
    type Commit: Work<G> + 'static;
    #[doc(hidden)]
    type CommitLast: Work<G> + 'static;

    /// Whether it is a writer that completes the update.
    #[doc(hidden)]
    fn directs(transform: &G) -> bool {
        let _ = transform;
        false
    }

    /// Of a writer: the position of the base iterate in its state, if that is not the parameter.
    #[doc(hidden)]
    fn base(transform: &G) -> Option<usize> {
        let _ = transform;
        None
    }

    /// Its equations.
    #[doc(hidden)]
    fn equations(transform: &G, tensor: &TensorInfo) -> Equations {
        equations::equations(transform, tensor)
    }

    /// Its work on an element as a formula.
    #[doc(hidden)]
    fn formula(
        transform: &G,
        tensor: &TensorInfo,
        work: ElementWork,
        element: &mut FormulaElement<'_>,
    ) -> bool {
        formula::formula(transform, tensor, work, element)
    }

    #[doc(hidden)]
    fn writer<T: Real>(transform: &G) -> Option<&dyn WriterLink<T>>
    where
        G: Link<T>,
    {
        let _ = transform;
        None
    }
}

/// A transform of updates: before the writer, or after it if it reads [`ElementOf::direction`](super::ElementOf::direction).
#[derive(Debug)]
pub enum Update {}

/// A transform of updates whose sums come from earlier steps, such as ADOPT.
///
/// Its sums are computed in the last sweep, together with the update, and finalized after the step, so they
/// do not cut the chain. In a step in which it [holds](super::GradientTransform::holds) the tensor, only
/// state and sums are updated.
///
/// ```
/// use gradient_transform::{
///     AlongState, Backend, Context, Descent, Element, GradientTransform, Nothing, Num, Optimizer, Parameter, Real,
///     Storage, TensorInfo, fields, kind, transform,
/// };
///
/// /// Division by the norms of the row and the column of the gradient before: `u <- u / sqrt(|row| |col|)`.
/// #[derive(Clone, Debug)]
/// struct ByLastNorms;
///
/// #[fields]
/// struct Sides<V> {
///     row: V,
///     col: V,
/// }
///
/// #[transform("by-last-norms")]
/// impl GradientTransform for ByLastNorms {
///     type Along<V: Copy> = Sides<V>;
///     type Kind = kind::Lagged;
///
///     fn applies(&self, tensor: &TensorInfo) -> bool {
///         tensor.shape.len() == 2
///     }
///
///     fn along(&self, tensor: &TensorInfo) -> Option<Sides<usize>> {
///         self.applies(tensor).then_some(Sides { row: 1, col: 0 })
///     }
///
///     fn vectors(&self, tensor: &TensorInfo) -> Vec<(&'static str, usize, Storage)> {
///         vec![("row", tensor.shape[0], Storage::Compute), ("col", tensor.shape[1], Storage::Compute)]
///     }
///
///     fn holds(&self, cx: &Context<'_>) -> bool {
///         cx.fresh // there are no norms yet
///     }
///
///     fn begin_along<T: Real>(&self, _cx: &Context<'_>, along: AlongState<'_, T>, _scalars: &mut Nothing<f64>) {
///         for (values, kept) in along.values.iter_mut().zip(&*along.kept) {
///             kept.load(values);
///         }
///     }
///
///     fn measure_along<B: Backend>(&self, e: &Element<B, Self>) -> Sides<Num<B>> {
///         Sides { row: e.update.squared(), col: e.update.squared() }
///     }
///
///     fn finalize_along<T: Real>(&self, _cx: &Context<'_>, along: AlongState<'_, T>, _scalars: &mut Nothing<f64>) {
///         for (kept, sums) in along.kept.iter_mut().zip(along.sums) {
///             kept.update(sums.values(), |_, sum| sum.sqrt());
///         }
///     }
///
///     fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
///         e.update = e.update / (e.along.row * e.along.col).sqrt();
///     }
/// }
///
/// let mut optimizer = Optimizer::new((ByLastNorms, Descent::default()), [("w", &[1, 2][..])])?;
/// let mut w = [0.0_f32, 0.0];
/// for expected in [[0.0, 0.0], [-3.0 / 15.0_f32.sqrt(), -4.0 / 20.0_f32.sqrt()]] {
///     optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0, 4.0]))])?;
///     assert!((w[0] - expected[0]).abs() < 1e-6 && (w[1] - expected[1]).abs() < 1e-6);
/// }
/// assert_eq!(optimizer.planned_traffic().1, 1); // one sweep
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Debug)]
pub enum Lagged {}

/// The end of a chain: a [`Writer`](super::Writer).
#[derive(Debug)]
pub enum Writer {}

impl<G: GradientTransform> Kind<G> for Update {
    type Emit = work::Update<false>;
    type Commit = work::Update<true>;
    type CommitLast = work::Update<true>;
}

impl<G: GradientTransform> Kind<G> for Lagged {
    const LAGS: bool = true;
    type Emit = work::Update<false>;
    type Commit = work::UpdateAndMeasure;
    type CommitLast = work::UpdateAndMeasure;
}

impl<G: Writes> Kind<G> for Writer {
    type Emit = work::Around<false>;
    type Commit = work::Around<true>;
    type CommitLast = work::Write;

    fn directs(transform: &G) -> bool {
        transform.directs()
    }

    fn base(transform: &G) -> Option<usize> {
        transform.base()
    }

    fn equations(transform: &G, tensor: &TensorInfo) -> Equations {
        equations::of_writer(transform, tensor)
    }

    fn formula(
        transform: &G,
        tensor: &TensorInfo,
        work: ElementWork,
        element: &mut FormulaElement<'_>,
    ) -> bool {
        formula::of_writer(transform, tensor, work, element)
    }

    fn writer<T: Real>(transform: &G) -> Option<&dyn WriterLink<T>>
    where
        G: Link<T>,
    {
        Some(transform)
    }
}
