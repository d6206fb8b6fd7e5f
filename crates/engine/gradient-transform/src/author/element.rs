//! One element, as the argument of a transform's functions.

use crate::author::{Fields, GradientTransform};
use crate::memory::number::{Backend, Num};

/// One element of a tensor, as the argument of the functions of the transform `G`.
///
/// It is a copy. The engine stores assignments to [`update`](ElementOf::update) and
/// [`state`](ElementOf::state); the state only in the last sweep of a step. So a function of an element is
/// pure and may run several times.
pub type Element<B, G> = ElementOf<
    B,
    <G as GradientTransform>::State<Num<B>>,
    <G as GradientTransform>::Scalars<Num<B>>,
    <G as GradientTransform>::Along<Num<B>>,
>;

/// An element with state S, numbers K and values along axes A: [`Element`] by its parts, for wrappers.
///
/// ```
/// use gradient_transform::ElementOf;
/// use gradient_transform::number::{Backend, Num};
///
/// /// `u <- u/2`, for any state of the transform.
/// #[inline(always)]
/// fn halve<B: Backend, S, K, A>(e: &mut ElementOf<B, S, K, A>) {
///     e.update = 0.5 * e.update;
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ElementOf<B: Backend, S, K, A> {
    /// The update u so far; at the head of a chain, the gradient. After the writer, the displacement m: `y <- y - m`.
    pub update: Num<B>,
    /// The raw gradient g.
    pub gradient: Num<B>,
    /// The parameter y before the step.
    pub parameter: Num<B>,
    /// The writer's base iterate before the step: Schedule-Free's z, or the parameter itself.
    pub base: Num<B>,
    /// The update that the writer got, weight decay included. A transform that reads it belongs after the
    /// writer.
    pub direction: Num<B>,
    /// The transform's state of this element: [`State`](GradientTransform::State).
    pub state: S,
    /// The transform's numbers of this tensor and step, from [`begin`](GradientTransform::begin) and
    /// [`finalize`](GradientTransform::finalize).
    pub scalars: K,
    /// The values of the element's row and column: [`Along`](GradientTransform::Along).
    pub along: A,
    /// Number of the formula to use: [`variant`](GradientTransform::variant). `if` and `match` on it are
    /// allowed.
    pub variant: u32,
}

/// An element with all of its values as other numbers.
#[inline(always)]
pub(in crate::author) fn converted<B: Backend, C: Backend, G: GradientTransform>(
    e: &Element<B, G>,
    number: impl Fn(Num<B>) -> Num<C>,
) -> Element<C, G> {
    ElementOf {
        update: number(e.update),
        gradient: number(e.gradient),
        parameter: number(e.parameter),
        base: number(e.base),
        direction: number(e.direction),
        state: Fields::from_fn(
            #[inline(always)]
            |k| number(e.state.get(k)),
        ),
        scalars: Fields::from_fn(
            #[inline(always)]
            |k| number(e.scalars.get(k)),
        ),
        along: Fields::from_fn(
            #[inline(always)]
            |k| number(e.along.get(k)),
        ),
        variant: e.variant,
    }
}
