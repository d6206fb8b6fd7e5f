//! Loops over tiles, compiled for every instruction set and chosen at run time.
//!
//! Transforms write their arithmetic as closures for one element; these helpers run them over slices with the widest
//! vectors that the processor has. None of them fuses a multiplication with an addition, and sums use a fixed number
//! of lanes, so every instruction set gives the same bits.

use std::array;
use std::ops::Add;

use multiversion::multiversion;

use crate::element::Real;

/// Lanes of a sum: two of the widest vectors, so that one addition need not wait for the one before.
const LANES: usize = 32;

/// `u[i] <- f(u[i])`.
#[multiversion(targets = "simd")]
pub fn map<T: Real, F: Fn(T) -> T>(u: &mut [T], f: F) {
    for u in u.iter_mut() {
        *u = f(*u);
    }
}

/// `u[i] <- f(u[i], a[i])`. The slices have one length.
#[multiversion(targets = "simd")]
pub fn map2<T: Real, F: Fn(T, T) -> T>(u: &mut [T], a: &[T], f: F) {
    assert_eq!(u.len(), a.len(), "an input that `reads` did not ask for is empty");
    for (u, &a) in u.iter_mut().zip(a) {
        *u = f(*u, a);
    }
}

/// `u[i] <- f(u[i], a[i], b[i])`. The slices have one length.
#[multiversion(targets = "simd")]
pub fn map3<T: Real, F: Fn(T, T, T) -> T>(u: &mut [T], a: &[T], b: &[T], f: F) {
    assert!(u.len() == a.len() && u.len() == b.len(), "an input that `reads` did not ask for is empty");
    for ((u, &a), &b) in u.iter_mut().zip(a).zip(b) {
        *u = f(*u, a, b);
    }
}

/// `u[i] <- f(u[i], a[i], b[i], c[i])`. The slices have one length.
#[multiversion(targets = "simd")]
pub fn map4<T: Real, F: Fn(T, T, T, T) -> T>(u: &mut [T], a: &[T], b: &[T], c: &[T], f: F) {
    let n = u.len();
    assert!(n == a.len() && n == b.len() && n == c.len(), "an input that `reads` did not ask for is empty");
    for (((u, &a), &b), &c) in u.iter_mut().zip(a).zip(b).zip(c) {
        *u = f(*u, a, b, c);
    }
}

/// `(u[i], v[i]) <- f(u[i], v[i], a[i], b[i])`. The slices have one length.
#[multiversion(targets = "simd")]
pub fn update2<T: Real, F: Fn(T, T, T, T) -> (T, T)>(u: &mut [T], v: &mut [T], a: &[T], b: &[T], f: F) {
    let n = u.len();
    assert!(n == v.len() && n == a.len() && n == b.len(), "an input that `reads` did not ask for is empty");
    for (((u, v), &a), &b) in u.iter_mut().zip(v.iter_mut()).zip(a).zip(b) {
        (*u, *v) = f(*u, *v, a, b);
    }
}

/// `sum of f(a[i])`: in `T` over fixed lanes.
#[multiversion(targets = "simd")]
pub fn sum<T: Real, F: Fn(T) -> T>(a: &[T], f: F) -> f64 {
    let mut lanes = [T::zero(); LANES];
    let mut blocks = a.chunks_exact(LANES);
    for block in &mut blocks {
        for (lane, &a) in lanes.iter_mut().zip(block) {
            *lane += f(a);
        }
    }
    let rest = blocks.remainder().iter().fold(T::zero(), |sum, &a| sum + f(a));
    (tree_sum(lanes) + rest).f64()
}

/// `sum of f(a[i], b[i])`: in `T` over fixed lanes. The slices have one length.
#[multiversion(targets = "simd")]
pub fn sum2<T: Real, F: Fn(T, T) -> T>(a: &[T], b: &[T], f: F) -> f64 {
    assert_eq!(a.len(), b.len(), "an input that `reads` did not ask for is empty");
    let mut lanes = [T::zero(); LANES];
    let (mut xs, mut ys) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (x, y) in (&mut xs).zip(&mut ys) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += f(x, y);
        }
    }
    let rest = xs.remainder().iter().zip(ys.remainder()).fold(T::zero(), |sum, (&x, &y)| sum + f(x, y));
    (tree_sum(lanes) + rest).f64()
}

/// -1, 0 or 1; 0 for -0 and for what is not a number.
#[inline(always)]
pub fn sign<T: Real>(x: T) -> T {
    let one = |holds: bool| if holds { T::one() } else { T::zero() };
    one(x > T::zero()) - one(x < T::zero())
}

/// `sums[i] <- sums[i] + a[i]^2`; gives the sum of all `a[i]^2` in `T` over fixed lanes. To be inlined into a loop that is
/// compiled for several instruction sets. The slices have one length.
#[inline(always)]
pub fn add_squares<T: Real>(sums: &mut [T], a: &[T]) -> T {
    let mut lanes = [T::zero(); LANES];
    let (mut sums, mut blocks) = (sums.chunks_exact_mut(LANES), a.chunks_exact(LANES));
    for (sums, block) in (&mut sums).zip(&mut blocks) {
        for ((lane, sum), &a) in lanes.iter_mut().zip(sums).zip(block) {
            let square = a * a;
            *lane += square;
            *sum += square;
        }
    }
    let mut rest = T::zero();
    for (sum, &a) in sums.into_remainder().iter_mut().zip(blocks.remainder()) {
        let square = a * a;
        rest += square;
        *sum += square;
    }
    tree_sum(lanes) + rest
}

/// The sum of `N` numbers, a power of two from 8 to 32, by halves: a fixed order, and short chains of additions.
#[inline(always)]
pub fn tree_sum<A: Copy + Add<Output = A>, const N: usize>(lanes: [A; N]) -> A {
    const { assert!(N == 8 || N == 16 || N == 32) }
    // Written out with arrays of fixed lengths, which stay in registers.
    let eight: [A; 8] = match N {
        32 => {
            let sixteen: [A; 16] = array::from_fn(|i| lanes[i] + lanes[i + N / 2]);
            array::from_fn(|i| sixteen[i] + sixteen[i + 8])
        }
        16 => array::from_fn(|i| lanes[i] + lanes[i + N / 2]),
        _ => array::from_fn(|i| lanes[i]),
    };
    let four: [A; 4] = array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_agree_with_float64_on_every_length() {
        for n in [0, 1, 15, 16, 17, 33, 1000] {
            let a: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin()).collect();
            let b: Vec<f32> = (0..n).map(|i| (i as f32 * 0.71).cos()).collect();
            let exact: f64 = a.iter().map(|x| x.f64() * x.f64()).sum();
            assert!((sum(&a, |x| x * x) - exact).abs() <= 1e-5 * exact.max(1e-30));
            let exact: f64 = a.iter().zip(&b).map(|(x, y)| x.f64() * y.f64()).sum();
            assert!((sum2(&a, &b, |x, y| x * y) - exact).abs() <= 1e-5 * (n as f64).max(1.0));
        }
    }

    #[test]
    fn maps_visit_every_element_once() {
        let a: Vec<f64> = (0..37).map(f64::from).collect();
        let mut u = a.clone();
        map(&mut u, |x| x + 1.0);
        map2(&mut u, &a, |x, y| x - y);
        map3(&mut u, &a, &a, |x, y, z| x + y * z);
        assert!(u.iter().enumerate().all(|(i, &x)| x == 1.0 + (i * i) as f64));
    }
}
