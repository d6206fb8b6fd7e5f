//! Loops over tiles, compiled for every instruction set and chosen at run time.
//!
//! Transforms have their arithmetic in closures for one element. These helpers run them over slices with the
//! widest vectors of the processor. They never fuse a multiplication with an addition, and sums use a fixed
//! number of lanes, so every instruction set gives the same bits. They also prefetch the next tile.
//!
//! ```
//! use gradient_transform::kernel;
//!
//! let (a, b, c) = ([1.0_f32, 2.0], [3.0, 4.0], [5.0, 6.0]);
//! let (mut u, mut v) = ([0.0; 2], [0.0; 2]);
//! kernel::map(&mut u, |u| u + 1.0); // [1, 1]
//! kernel::map2(&mut u, &a, |u, a| u + a); // [2, 3]
//! kernel::map3(&mut u, &a, &b, |u, a, b| u + a * b); // [5, 11]
//! kernel::map4(&mut u, &a, &b, &c, |u, a, b, c| u + a + b + c); // [14, 23]
//! kernel::update2(&mut u, &mut v, &a, &b, |u, v, a, b| (u - a, v + b));
//! assert_eq!((u, v), ([13.0, 21.0], [3.0, 4.0]));
//! assert_eq!(kernel::sum(&a, |x| x * x), 5.0);
//! assert_eq!(kernel::sum2(&a, &b, |x, y| x * y), 11.0);
//! assert_eq!([-2.0_f32, 0.0, 3.0].map(kernel::sign), [-1.0, 0.0, 1.0]);
//! assert_eq!(kernel::total([1.0_f32; 32]), 32.0);
//! ```

use std::array;
use std::ops::Add;

use multiversion::multiversion;

use crate::memory::element::Real;
pub use crate::memory::prefetch::Prefetch;

/// Lanes of a sum: two of the widest vectors, so that an addition does not have to wait for the
/// previous one.
const LANES: usize = 32;

/// Elements between two requests for memory.
pub(crate) const BLOCK: usize = 64;

/// Runs an expression for every element of slices of the same length, the first of which are mutable. It runs
/// by blocks of constant length, so that their loop is unrolled, and prefetches memory before each.
macro_rules! for_each {
    ($($u:ident),+; $($a:ident),*; $prefetch:ident; $do:expr) => {{
        $(let $u = $u.as_chunks_mut::<BLOCK>();)+
        $(let $a = $a.as_chunks::<BLOCK>();)*
        let blocks = [$($u.0.len()),+][0];
        for i in 0..blocks {
            $prefetch.block();
            $(let $u = &mut $u.0[i];)+
            $(let $a = &$a.0[i];)*
            for j in 0..BLOCK {
                $(let $u = &mut $u[j];)+
                $(let $a = $a[j];)*
                $do;
            }
        }
        let rest = [$($u.1.len()),+][0];
        $(let $u = &mut $u.1[..rest];)+
        $(let $a = &$a.1[..rest];)*
        for j in 0..rest {
            $(let $u = &mut $u[j];)+
            $(let $a = $a[j];)*
            $do;
        }
    }};
}

/// The same loops, to be inlined into a larger one that is compiled for several instruction sets
/// (`#[multiversion(targets = "simd")]`) and resumes and suspends [`Prefetch`] itself.
///
/// ```
/// use gradient_transform::kernel::{Prefetch, inlined};
///
/// let (mut u, mut v, a) = ([1.0_f32, 2.0], [0.0; 2], [3.0, 4.0]);
/// let mut prefetch = Prefetch::resume();
/// prefetch.block(); // before about 64 elements of a custom loop
/// inlined::map(&mut u, &mut prefetch, |u| 2.0 * u); // [2, 4]
/// inlined::map2(&mut u, &a, &mut prefetch, |u, a| u + a); // [5, 8]
/// inlined::map3(&mut u, &a, &a, &mut prefetch, |u, a, b| u - a * b); // [-4, -8]
/// inlined::map4(&mut u, &a, &a, &a, &mut prefetch, |u, a, b, c| u + a + b + c); // [5, 4]
/// inlined::update2(&mut u, &mut v, &a, &a, &mut prefetch, |u, v, a, b| (u + a, v + b)); // [8, 8], [3, 4]
/// let squares = inlined::add_squares(&mut v, &a, &mut prefetch); // v += a^2: [12, 20]
/// prefetch.suspend();
/// assert_eq!((u, v, squares), ([8.0, 8.0], [12.0, 20.0], 25.0));
/// ```
pub mod inlined {
    use super::{BLOCK, LANES, Prefetch, Real, total};

    const ONE_LENGTH: &str = "an input that `reads` did not ask for is empty";

    /// See [`super::map`].
    #[inline(always)]
    pub fn map<T: Real>(u: &mut [T], prefetch: &mut Prefetch, f: impl Fn(T) -> T) {
        for_each!(u; ; prefetch; *u = f(*u));
    }

    /// See [`super::map2`].
    #[inline(always)]
    pub fn map2<T: Real>(u: &mut [T], a: &[T], prefetch: &mut Prefetch, f: impl Fn(T, T) -> T) {
        assert_eq!(u.len(), a.len(), "{ONE_LENGTH}");
        for_each!(u; a; prefetch; *u = f(*u, a));
    }

    /// See [`super::map3`].
    #[inline(always)]
    pub fn map3<T: Real>(u: &mut [T], a: &[T], b: &[T], prefetch: &mut Prefetch, f: impl Fn(T, T, T) -> T) {
        assert!(u.len() == a.len() && u.len() == b.len(), "{ONE_LENGTH}");
        for_each!(u; a, b; prefetch; *u = f(*u, a, b));
    }

    /// See [`super::map4`].
    #[inline(always)]
    pub fn map4<T: Real>(
        u: &mut [T],
        a: &[T],
        b: &[T],
        c: &[T],
        prefetch: &mut Prefetch,
        f: impl Fn(T, T, T, T) -> T,
    ) {
        let n = u.len();
        assert!(n == a.len() && n == b.len() && n == c.len(), "{ONE_LENGTH}");
        for_each!(u; a, b, c; prefetch; *u = f(*u, a, b, c));
    }

    /// See [`super::update2`].
    #[inline(always)]
    pub fn update2<T: Real>(
        u: &mut [T],
        v: &mut [T],
        a: &[T],
        b: &[T],
        prefetch: &mut Prefetch,
        f: impl Fn(T, T, T, T) -> (T, T),
    ) {
        let n = u.len();
        assert!(n == v.len() && n == a.len() && n == b.len(), "{ONE_LENGTH}");
        for_each!(u, v; a, b; prefetch; (*u, *v) = f(*u, *v, a, b));
    }

    /// `sums[i] <- sums[i] + a[i]^2`; returns the sum of all `a[i]^2` in `T` over fixed lanes. The slices
    /// have one length.
    #[inline(always)]
    pub fn add_squares<T: Real>(sums: &mut [T], a: &[T], prefetch: &mut Prefetch) -> T {
        let mut lanes = [T::zero(); LANES];
        let ((sums, sums_rest), (blocks, a_rest)) = (sums.as_chunks_mut::<LANES>(), a.as_chunks::<LANES>());
        for (i, (sums, block)) in sums.iter_mut().zip(blocks).enumerate() {
            if i % 2 == 0 {
                prefetch.block();
            }
            for ((lane, sum), &a) in lanes.iter_mut().zip(sums).zip(block) {
                let square = a * a;
                *lane += square;
                *sum += square;
            }
        }
        let mut rest = T::zero();
        for (sum, &a) in sums_rest.iter_mut().zip(a_rest) {
            let square = a * a;
            rest += square;
            *sum += square;
        }
        total(lanes) + rest
    }
}

/// Runs a loop of [`inlined`].
macro_rules! alone {
    ($prefetch:ident, $do:expr) => {{
        let mut prefetch = Prefetch::resume();
        let $prefetch = &mut prefetch;
        let result = $do;
        prefetch.suspend();
        result
    }};
}

/// `u[i] <- f(u[i])`.
#[multiversion(targets = "simd")]
pub fn map<T: Real, F: Fn(T) -> T>(u: &mut [T], f: F) {
    alone!(prefetch, inlined::map(u, prefetch, f));
}

/// `u[i] <- f(u[i], a[i])`. The slices have one length.
#[multiversion(targets = "simd")]
pub fn map2<T: Real, F: Fn(T, T) -> T>(u: &mut [T], a: &[T], f: F) {
    alone!(prefetch, inlined::map2(u, a, prefetch, f));
}

/// `u[i] <- f(u[i], a[i], b[i])`. The slices have one length.
#[multiversion(targets = "simd")]
pub fn map3<T: Real, F: Fn(T, T, T) -> T>(u: &mut [T], a: &[T], b: &[T], f: F) {
    alone!(prefetch, inlined::map3(u, a, b, prefetch, f));
}

/// `u[i] <- f(u[i], a[i], b[i], c[i])`. The slices have one length.
#[multiversion(targets = "simd")]
pub fn map4<T: Real, F: Fn(T, T, T, T) -> T>(u: &mut [T], a: &[T], b: &[T], c: &[T], f: F) {
    alone!(prefetch, inlined::map4(u, a, b, c, prefetch, f));
}

/// `(u[i], v[i]) <- f(u[i], v[i], a[i], b[i])`. The slices have one length.
#[multiversion(targets = "simd")]
pub fn update2<T: Real, F: Fn(T, T, T, T) -> (T, T)>(u: &mut [T], v: &mut [T], a: &[T], b: &[T], f: F) {
    alone!(prefetch, inlined::update2(u, v, a, b, prefetch, f));
}

/// `sum of f(a[i])`: in `T` over fixed lanes.
#[multiversion(targets = "simd")]
pub fn sum<T: Real, F: Fn(T) -> T>(a: &[T], f: F) -> f64 {
    let mut lanes = [T::zero(); LANES];
    let (blocks, rest) = a.as_chunks::<LANES>();
    let mut prefetch = Prefetch::resume();
    for (i, block) in blocks.iter().enumerate() {
        if i % 2 == 0 {
            prefetch.block();
        }
        for (lane, &a) in lanes.iter_mut().zip(block) {
            *lane += f(a);
        }
    }
    prefetch.suspend();
    let rest = rest.iter().fold(T::zero(), |sum, &a| sum + f(a));
    (total(lanes) + rest).f64()
}

/// `sum of f(a[i], b[i])`: in `T` over fixed lanes. The slices have one length.
#[multiversion(targets = "simd")]
pub fn sum2<T: Real, F: Fn(T, T) -> T>(a: &[T], b: &[T], f: F) -> f64 {
    assert_eq!(a.len(), b.len(), "an input that `reads` did not ask for is empty");
    let mut lanes = [T::zero(); LANES];
    let ((xs, x_rest), (ys, y_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut prefetch = Prefetch::resume();
    for (i, (x, y)) in xs.iter().zip(ys).enumerate() {
        if i % 2 == 0 {
            prefetch.block();
        }
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += f(x, y);
        }
    }
    prefetch.suspend();
    let rest = x_rest.iter().zip(y_rest).fold(T::zero(), |sum, (&x, &y)| sum + f(x, y));
    (total(lanes) + rest).f64()
}

/// -1, 0 or 1; 0 for -0 and NaN.
#[inline(always)]
pub fn sign<T: Real>(x: T) -> T {
    let one = |holds: bool| if holds { T::one() } else { T::zero() };
    one(x > T::zero()) - one(x < T::zero())
}

/// The sum of a loop's lanes: `N` numbers, a power of two from 8 to 32, added by halves. That is a fixed
/// order with short chains of additions.
#[inline(always)]
pub fn total<A: Copy + Add<Output = A>, const N: usize>(lanes: [A; N]) -> A {
    // In memory that the compiler cannot see through: otherwise it cuts the loop's vectors into pairs, to fit
    // the additions at the end.
    let stored = lanes;
    by_halves(&stored)
}

#[inline(never)]
fn by_halves<A: Copy + Add<Output = A>, const N: usize>(lanes: &[A; N]) -> A {
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
