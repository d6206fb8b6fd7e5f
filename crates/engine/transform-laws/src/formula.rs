//! Formulas of whole arrays in float64, independent of the engine: the expected values of a row.
//!
//! A [`Direction`] turns gradients into updates; [`descent`] and [`schedule_free`] are the writers after
//! it.
//!
//! ```
//! use transform_laws::Problem;
//! use transform_laws::formula::{
//!     axes, by_division, dense, descent, dot, elementwise, factored, gradient, mean, pairwise, schedule_free, sign, then,
//!     unchanged,
//! };
//!
//! let problem = Problem::of(&[&[2, 3]], 2);
//! // Three ways to write signs.
//! let signs = || elementwise(|_, g, _, []| sign(g));
//! let signs_of_gradients = || then(gradient(), |u, _, _| u.mapv(sign));
//! let divided = || then(gradient(), |u, _, _| pairwise(&u, &u.mapv(f64::abs), by_division));
//! let expected = descent(&problem, 0.1, 0.0, signs);
//! assert_eq!(descent(&problem, 0.1, 0.0, signs_of_gradients), expected);
//! assert_eq!(descent(&problem, 0.1, 0.0, divided), expected);
//!
//! // In the first step the average of Schedule-Free is the iterate.
//! let averaged = schedule_free(&problem, 0.1, (0.0, true), unchanged, signs);
//! assert_eq!(averaged[0], expected[0]);
//!
//! // The second moment of only the first gradient: a gradient divided by the root of a tenth of its square.
//! let first = descent(&problem, 0.1, 0.0, || dense(by_division))[0][0].clone();
//! let way = (&problem.init[0] - &first).mapv(f64::abs);
//! assert!(way.iter().all(|way| (way - 0.1 / 0.1_f64.sqrt()).abs() < 1e-12));
//!
//! // A tensor is factored along its two longest axes, if the longest has 32 elements.
//! assert_eq!((axes(&[2, 3]), axes(&[2, 33, 4])), (None, Some((1, 2))));
//! assert_eq!(factored(by_division)(1, &problem.init[0], &first), dense(by_division)(1, &problem.init[0], &first));
//! assert_eq!(mean(&way, 0).shape(), [1, 3]);
//! assert!(dot(&way, &way) > 0.0);
//! ```

use ndarray::{ArrayD, Axis};

use crate::problem::{Problem, Trajectory};

/// A tensor of any shape.
///
/// ```
/// use transform_laws::formula::{Array, sign};
///
/// fn signs(u: &Array) -> Array {
///     u.mapv(sign)
/// }
/// ```
pub type Array = ArrayD<f64>;

/// Function from the step's number (from 1), the gradient and the base iterate to the update; `None` while
/// the tensor is held.
///
/// ```
/// use transform_laws::formula::Direction;
///
/// /// A gradient with noise that decays.
/// fn annealed() -> Direction {
///     Box::new(|k, g, _| Some(g + 1.0 / f64::from(k)))
/// }
/// ```
pub type Direction = Box<dyn FnMut(i32, &Array, &Array) -> Option<Array>>;

/// The decay of the moments in these formulas.
///
/// ```
/// use transform_laws::formula::{BETA1, BETA2};
///
/// assert_eq!((BETA1, BETA2), (0.8765, 0.9));
/// ```
pub const BETA2: f64 = 0.9;

/// The interpolation of [`schedule_free`]. It is not a simple fraction: at 0.9 some displacements of the
/// problem would be 0 up to rounding, and Cautious and Grams would depend on the rounding.
pub const BETA1: f64 = 0.8765;

/// Zeros of any shape, by broadcasting.
fn zero() -> Array {
    Array::zeros(vec![])
}

/// -1, 0 or 1.
pub fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

/// The sum of products.
pub fn dot(a: &Array, b: &Array) -> f64 {
    (a * b).sum()
}

/// The mean along an axis, which is kept with a length of 1.
pub fn mean(a: &Array, axis: usize) -> Array {
    (a.sum_axis(Axis(axis)) / a.len_of(Axis(axis)) as f64).insert_axis(Axis(axis))
}

/// The update itself.
pub fn gradient() -> Direction {
    Box::new(|_, g, _| Some(g.clone()))
}

/// A function of each element, with N numbers of state, initially 0: from the step's number, the gradient and
/// the parameter to the update.
pub fn elementwise<const N: usize>(
    mut f: impl FnMut(f64, f64, f64, &mut [f64; N]) -> f64 + 'static,
) -> Direction {
    let mut state = Vec::new();
    Box::new(move |k, g, y| {
        state.resize(g.len(), [0.0; N]);
        let mut u = g.clone();
        for ((u, y), state) in u.iter_mut().zip(y).zip(&mut state) {
            *u = f(f64::from(k), *u, *y, state);
        }
        Some(u)
    })
}

/// A direction changed by a function of the update, the raw gradient and the parameter.
pub fn then(mut of: Direction, f: impl Fn(Array, &Array, &Array) -> Array + 'static) -> Direction {
    Box::new(move |k, g, y| Some(f(of(k, g, y)?, g, y)))
}

/// `v <- beta2 v + (1 - beta2) g^2`; from the gradient and its root mean square to the update.
pub fn dense(divide: fn(f64, f64) -> f64) -> Direction {
    let mut v = zero();
    Box::new(move |_, g, _| {
        v = &v * BETA2 + &(g * g * (1.0 - BETA2));
        Some(pairwise(g, &v.sqrt(), divide))
    })
}

/// A function of elements of two arrays.
pub fn pairwise(g: &Array, root: &Array, divide: fn(f64, f64) -> f64) -> Array {
    let mut u = g.clone();
    u.zip_mut_with(root, |g, &root| *g = divide(*g, root));
    u
}

/// A quotient, and 0 of 0.
pub fn by_division(g: f64, root: f64) -> f64 {
    if g == 0.0 { 0.0 } else { g / root }
}

/// The largest axis and the second largest, if the tensor is factored.
pub fn axes(shape: &[usize]) -> Option<(usize, usize)> {
    let mut order: Vec<usize> = (0..shape.len()).collect();
    order.sort_by_key(|&axis| shape[axis]);
    match order[..] {
        [.., second, largest] if shape[largest] >= 32 => Some((largest, second)),
        _ => None,
    }
}

/// Row and column means of `g^2`; the root of `row col / mean(row)`.
pub fn factored(divide: fn(f64, f64) -> f64) -> Direction {
    let (mut row, mut col) = (zero(), zero());
    let mut otherwise = dense(divide);
    Box::new(move |k, g, y| {
        let Some((largest, second)) = axes(g.shape()) else { return otherwise(k, g, y) };
        row = &row * BETA2 + &(mean(&(g * g), largest) * (1.0 - BETA2));
        col = &col * BETA2 + &(mean(&(g * g), second) * (1.0 - BETA2));
        let root = (&row / &mean(&row, second)).sqrt() * &col.sqrt();
        Some(pairwise(g, &root, divide))
    })
}

/// `y <- y - lr (u + decay y)`.
pub fn descent(problem: &Problem, lr: f64, decay: f64, direction: impl Fn() -> Direction) -> Trajectory {
    let mut directions: Vec<Direction> = problem.init.iter().map(|_| direction()).collect();
    let mut y = problem.init.clone();
    let steps = (1..).zip(&problem.gradients).map(|(k, gradients)| {
        for ((y, g), direction) in y.iter_mut().zip(gradients).zip(&mut directions) {
            if let Some(u) = direction(k, g, y) {
                *y = &*y - &((u + &(&*y * decay)) * lr);
            }
        }
        y.clone()
    });
    steps.collect()
}

/// Displacement of Schedule-Free, from its two parts (the pull of the average, and the step) and the update.
///
/// ```
/// use transform_laws::formula::{Displacement, unchanged};
///
/// let changes: [Displacement; 2] = [unchanged, |pull, step, _u| (pull + step) * 0.5];
/// ```
pub type Displacement = fn(Array, Array, &Array) -> Array;

/// Sum of the two parts: the displacement without Cautious or Grams.
pub fn unchanged(pull: Array, step: Array, _u: &Array) -> Array {
    pull + step
}

/// `m = c (y - z) + lr a u`, `y <- y - m`, `z <- z - lr u` with `c = 1/k` and `a = 1 - beta1 (1 - c)`; decay of y inside u or
/// outside.
pub fn schedule_free(
    problem: &Problem,
    lr: f64,
    (decay, by_lr): (f64, bool),
    displacement: Displacement,
    direction: impl Fn() -> Direction,
) -> Trajectory {
    let mut directions: Vec<Direction> = problem.init.iter().map(|_| direction()).collect();
    let (mut y, mut z) = (problem.init.clone(), problem.init.clone());
    let mut trajectory = Vec::new();
    for (k, gradients) in (1..).zip(&problem.gradients) {
        let c = 1.0 / f64::from(k);
        let a = 1.0 - BETA1 * (1.0 - c);
        let tensors = y.iter_mut().zip(&mut z).zip(gradients).zip(&mut directions);
        for (((y, z), g), direction) in tensors {
            let Some(u) = direction(k, g, z) else { continue };
            let old = y.clone();
            let u = if by_lr { u + &(&old * decay) } else { u };
            let outside = if by_lr { 0.0 } else { decay };
            let m = displacement((&old - &*z) * c, &u * (lr * a), &u);
            *y = &old - &m - &old * (outside * a);
            *z = &*z - &(u * lr) - &old * outside;
        }
        trajectory.push(y.clone());
    }
    trajectory
}
