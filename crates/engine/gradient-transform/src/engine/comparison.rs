//! Comparison of the update after a link with the one before it, on a tile.

use multiversion::multiversion;

use crate::memory::element::Real;
use crate::memory::kernel;

/// Lanes of the sums.
const LANES: usize = 32;

/// Sums of squares for which no relevant square has vanished in float32, and none has overflowed.
const PLAIN: std::ops::RangeInclusive<f64> = 1e-27..=1e36;

/// Comparison of two lists of values, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Comparison {
    /// Values compared.
    pub(crate) elements: u64,
    /// Sum of squares of the values after.
    pub(crate) squares: f64,
    /// Sum of products of the values before and after.
    pub(crate) products: f64,
    /// Number of values that differ.
    pub(crate) changed: u64,
    /// The first value after that is not finite: its index in the tensor, and the value.
    pub(crate) not_finite: Option<(usize, f64)>,
}

impl Comparison {
    /// Adds the comparison of later elements.
    pub(crate) fn add(&mut self, later: &Self) {
        self.elements += later.elements;
        self.squares += later.squares;
        self.products += later.products;
        self.changed += later.changed;
        self.not_finite = self.not_finite.or(later.not_finite);
    }

    /// Values of a tile that begins at element `offset` of the tensor, those after being `factor * after`. `squares` is the sum of the squares of
    /// those before. The slices have one length.
    pub(crate) fn of<T: Real>(before: &[T], after: &[T], factor: T, squares: f64, offset: usize) -> Self {
        Self::by(before, after, factor, squares, offset, |before, after| before != after)
    }

    /// Values of a tile without a comparison: their squares, and the first that is not finite.
    pub(crate) fn alone<T: Real>(values: &[T], offset: usize) -> Self {
        let mut squares = sum_of_squares(values).f64();
        if !PLAIN.contains(&squares) {
            squares = values.iter().map(|value| value.f64() * value.f64()).sum();
        }
        let first = if squares.is_finite() { None } else { values.iter().position(|x| !x.is_finite()) };
        let not_finite = first.map(|at| (offset + at, values[at].f64()));
        Self { elements: values.len() as u64, squares, not_finite, ..Self::default() }
    }

    /// Displacements of a tile, compared with its gradient. An element counts as changed if it has
    /// moved.
    pub(crate) fn of_displacement<T: Real>(
        gradient: &[T],
        displacement: &[T],
        squares: f64,
        offset: usize,
    ) -> Self {
        Self::by(gradient, displacement, T::one(), squares, offset, |_, moved| moved != T::zero())
    }

    fn by<T: Real>(
        before: &[T],
        after: &[T],
        factor: T,
        before_squares: f64,
        offset: usize,
        changes: impl Fn(T, T) -> bool + Copy,
    ) -> Self {
        let [squares, products, changed] = sums(before, after, factor, changes).map(T::f64);
        let elements = after.len() as u64;
        let mut made = Self { elements, squares, products, changed: changed as u64, not_finite: None };
        if !(PLAIN.contains(&squares) && PLAIN.contains(&before_squares)) {
            let pairs =
                before.iter().zip(after).map(|(before, after)| (before.f64(), (factor * *after).f64()));
            made.squares = pairs.clone().map(|(_, after)| after * after).sum();
            made.products = pairs.map(|(before, after)| before * after).sum();
        }
        if !made.squares.is_finite() {
            let mut values = after.iter().map(|after| (factor * *after).f64());
            let first = values.position(|value| !value.is_finite());
            made.not_finite = first.map(|at| (offset + at, (factor * after[at]).f64()));
        }
        made
    }
}

/// Squares after, products, and how many have changed: in `T` over fixed lanes.
#[multiversion(targets = "simd")]
fn sums<T: Real, F: Fn(T, T) -> bool>(before: &[T], after: &[T], factor: T, changes: F) -> [T; 3] {
    let (mut squares, mut products, mut changed) =
        ([T::zero(); LANES], [T::zero(); LANES], [T::zero(); LANES]);
    let ((xs, x_rest), (ys, y_rest)) = (before.as_chunks::<LANES>(), after.as_chunks::<LANES>());
    for (x, y) in xs.iter().zip(ys) {
        for i in 0..LANES {
            let (x, y) = (x[i], factor * y[i]);
            squares[i] += y * y;
            products[i] += x * y;
            changed[i] += if changes(x, y) { T::one() } else { T::zero() };
        }
    }
    let mut sums = [squares, products, changed].map(kernel::total);
    for (&x, &y) in x_rest.iter().zip(y_rest) {
        let y = factor * y;
        sums[0] += y * y;
        sums[1] += x * y;
        sums[2] += if changes(x, y) { T::one() } else { T::zero() };
    }
    sums
}

/// In `T` over fixed lanes.
#[multiversion(targets = "simd")]
fn sum_of_squares<T: Real>(values: &[T]) -> T {
    let mut squares = [T::zero(); LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for x in blocks {
        for i in 0..LANES {
            squares[i] += x[i] * x[i];
        }
    }
    let mut sum = kernel::total(squares);
    for &x in rest {
        sum += x * x;
    }
    sum
}

/// `kept <- factor * values`. The slices have one length.
pub(crate) fn keep<T: Real>(kept: &mut [T], values: &[T], factor: T) {
    if factor == T::one() {
        kept.copy_from_slice(values);
    } else {
        kernel::map2(kept, values, |_, value| factor * value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Real>(scales: [f64; 2], tolerance: f64) {
        for n in [0, 1, 15, 16, 33, 1024] {
            let before: Vec<T> = (0..n).map(|i| T::of((i as f64 * 0.37).sin() * scales[0])).collect();
            let mut after: Vec<T> = (0..n).map(|i| T::of((i as f64 * 0.71).cos() * scales[1])).collect();
            let factor = T::of(0.75);
            for i in (0..n).step_by(3) {
                after[i] = before[i] / factor;
            }
            let pairs: Vec<(f64, f64)> =
                before.iter().zip(&after).map(|(x, y)| (x.f64(), (factor * *y).f64())).collect();
            let sum = |f: fn(&(f64, f64)) -> f64| pairs.iter().map(f).sum::<f64>();
            let squares = sum(|(x, _)| x * x);
            let made = Comparison::of(&before, &after, factor, squares, 7);
            let (after_squares, products) = (sum(|(_, y)| y * y), sum(|(x, y)| x * y));
            assert!((made.squares - after_squares).abs() <= tolerance * after_squares, "{n} {scales:?}");
            let largest = (squares * after_squares).sqrt();
            assert!((made.products - products).abs() <= tolerance * largest, "{n} {scales:?}");
            let alone = Comparison::alone(&before, 7);
            assert!((alone.squares - squares).abs() <= tolerance * squares, "{n} {scales:?}");
            assert_eq!((alone.elements, alone.changed, alone.not_finite), (n as u64, 0, None));
            let changed = pairs.iter().filter(|(x, y)| x != y).count() as u64;
            assert_eq!((made.elements, made.changed, made.not_finite), (n as u64, changed, None));
        }
    }

    #[test]
    fn sums_agree_with_float64_also_where_squares_vanish_or_overflow_in_float32() {
        for scales in [[1.0, 1.0], [1e-25, 1.0], [1e-30, 1e-9], [1e-35, 1e-35], [1e25, 1e25], [1e-30, 1e30]] {
            check::<f32>(scales, 1e-5);
            check::<f64>(scales, 1e-12);
        }
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_found_and_a_large_one_is_none() {
        let mut after = vec![1e30_f32; 100];
        let before = vec![1.0; 100];
        assert_eq!(Comparison::of(&before, &after, 1.0, 100.0, 5).not_finite, None);
        (after[41], after[40]) = (f32::NAN, f32::NEG_INFINITY);
        let made = Comparison::of(&before, &after, 1.0, 100.0, 5);
        assert_eq!(made.not_finite, Some((45, f64::NEG_INFINITY)));
        assert_eq!(made.changed, 100);
        assert_eq!(Comparison::alone(&before, 5).not_finite, None);
        assert_eq!(Comparison::alone(&after, 5).not_finite, Some((45, f64::NEG_INFINITY)));
    }

    #[test]
    fn parts_add_up_in_their_order() {
        let part = |first: Option<(usize, f64)>| Comparison {
            elements: 2,
            squares: 3.0,
            products: -1.0,
            changed: 1,
            not_finite: first,
        };
        let mut sum = part(None);
        sum.add(&part(Some((5, f64::INFINITY))));
        sum.add(&part(Some((9, f64::INFINITY))));
        let expected = Comparison {
            elements: 6,
            squares: 9.0,
            products: -3.0,
            changed: 3,
            not_finite: Some((5, f64::INFINITY)),
        };
        assert_eq!(sum, expected);
    }
}
