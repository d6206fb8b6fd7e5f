//! Vectors of the processor, by `pulp`: one implementation for all instruction sets, chosen at run time.
//!
//! Only `mul_add` fuses a multiplication with an addition, so every instruction set gives the same bits.

use pulp::{Arch, Simd, WithSimd};

use super::{Backend, Function};
use crate::memory::element::Real;

/// Elements of a block of the engine's loops, and lanes of a sum: a multiple of the width of all instruction sets.
pub const LANES: usize = 32;

/// Float32 vectors of the instruction set `S`.
#[derive(Clone, Copy, Debug)]
pub struct Single<S>(S);

/// Float64 vectors of the instruction set `S`.
#[derive(Clone, Copy, Debug)]
pub struct Double<S>(S);

/// Numbers that are vectors of elements in memory.
///
/// ```
/// use gradient_transform::number::{Double, LANES, Single, Vectors};
///
/// /// Vectors in a block.
/// fn count<B: Vectors>() -> usize {
///     LANES / B::WIDTH
/// }
/// assert_eq!((count::<Single<pulp::Scalar>>(), count::<Double<pulp::Scalar>>()), (LANES, LANES));
/// ```
///
/// Implemented only here: loops require that a vector consists of its elements and nothing else.
pub trait Vectors: Backend<Value: 'static> + sealed::Sealed + 'static {
    /// Type of an element.
    type Element: Real;
    /// Elements of a vector: a divisor of [`LANES`].
    const WIDTH: usize;
    /// Float64 vectors of the same instruction set. Their width is a divisor of this one.
    type Wide: Vectors<Element = f64>;

    /// The system of float64 vectors.
    fn wide(self) -> Self::Wide;
    /// Part `part` of a vector, as float64: the elements from `part` times the width of such vectors on.
    fn widen(self, value: Self::Value, part: usize) -> <Self::Wide as Backend>::Value;

    /// Elements as vectors, without a rest shorter than [`WIDTH`](Self::WIDTH).
    fn vectors(elements: &[Self::Element]) -> &[Self::Value];
    /// Elements as vectors, without a rest shorter than [`WIDTH`](Self::WIDTH).
    fn vectors_mut(elements: &mut [Self::Element]) -> &mut [Self::Value];
    /// A vector of at most [`WIDTH`](Self::WIDTH) elements, and zeros after them.
    fn load_some(self, elements: &[Self::Element]) -> Self::Value;
    /// The first elements of a vector.
    fn store_some(self, elements: &mut [Self::Element], value: Self::Value);
    /// `element` in all places.
    fn splat(self, element: Self::Element) -> Self::Value;
}

mod sealed {
    pub trait Sealed {}
}

impl<S> sealed::Sealed for Single<S> {}
impl<S> sealed::Sealed for Double<S> {}

/// Work with the widest vectors of the processor, done by [`Real::with_vectors`]. All functions that it calls
/// must be `#[inline(always)]`.
///
/// ```
/// use gradient_transform::Real;
/// use gradient_transform::number::{Vectors, WithVectors};
///
/// /// `x <- factor x`.
/// struct Scale<'a, T>(&'a mut [T], T);
///
/// impl<T: Real> WithVectors<T> for Scale<'_, T> {
///     type Output = ();
///
///     #[inline(always)]
///     fn run<B: Vectors<Element = T>>(self, numbers: B) {
///         let Self(x, factor) = self;
///         let factor = numbers.splat(factor);
///         let (whole, rest) = x.split_at_mut(x.len() / B::WIDTH * B::WIDTH);
///         for x in B::vectors_mut(whole) {
///             *x = numbers.mul(*x, factor);
///         }
///         let last = numbers.mul(numbers.load_some(rest), factor);
///         numbers.store_some(rest, last);
///     }
/// }
///
/// let mut x = [2.0_f32; 37];
/// f32::with_vectors(Scale(&mut x, 1.5));
/// assert_eq!(x, [3.0; 37]);
/// ```
pub trait WithVectors<T: Real> {
    /// Its result.
    type Output;
    /// Does the work.
    fn run<B: Vectors<Element = T>>(self, numbers: B) -> Self::Output;
}

pub(crate) struct OnSingle<W>(pub(crate) W);
pub(crate) struct OnDouble<W>(pub(crate) W);

impl<W: WithVectors<f32>> WithSimd for OnSingle<W> {
    type Output = W::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> W::Output {
        self.0.run(Single(simd))
    }
}

impl<W: WithVectors<f64>> WithSimd for OnDouble<W> {
    type Output = W::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> W::Output {
        self.0.run(Double(simd))
    }
}

pub(crate) fn dispatch<W: WithSimd>(work: W) -> W::Output {
    Arch::new().dispatch(work)
}

macro_rules! vectors {
    (
        $name:ident, $type:ident, $values:ident, $bools:ident, $width:ident, $splat:ident, $add:ident, $sub:ident, $mul:ident,
        $div:ident, $neg:ident, $abs:ident, $sqrt:ident, $less:ident, $equal:ident, $and:ident, $or:ident, $not:ident,
        $select:ident, $mul_add:ident, $vectors:ident, $vectors_mut:ident, $load_some:ident, $store_some:ident, $arctangent:expr, $round:expr,
        $widen:expr
    ) => {
        impl<S: Simd> $name<S> {
            /// One element after the other.
            #[inline(always)]
            fn each(self, a: S::$values, f: impl Fn($type) -> $type) -> S::$values {
                let mut elements = [0.0; LANES];
                let elements = &mut elements[..S::$width];
                S::$vectors_mut(elements).0[0] = a;
                for element in &mut *elements {
                    *element = f(*element);
                }
                S::$vectors(elements).0[0]
            }
        }

        impl<S: Simd> Backend for $name<S> {
            type Value = S::$values;
            type Bool = S::$bools;

            #[inline(always)]
            fn constant(self, x: f64) -> S::$values {
                self.0.$splat(x as $type)
            }
            #[inline(always)]
            fn add(self, a: S::$values, b: S::$values) -> S::$values {
                self.0.$add(a, b)
            }
            #[inline(always)]
            fn sub(self, a: S::$values, b: S::$values) -> S::$values {
                self.0.$sub(a, b)
            }
            #[inline(always)]
            fn mul(self, a: S::$values, b: S::$values) -> S::$values {
                self.0.$mul(a, b)
            }
            #[inline(always)]
            fn div(self, a: S::$values, b: S::$values) -> S::$values {
                self.0.$div(a, b)
            }
            #[inline(always)]
            fn mul_add(self, a: S::$values, b: S::$values, c: S::$values) -> S::$values {
                self.0.$mul_add(a, b, c)
            }
            #[inline(always)]
            fn neg(self, a: S::$values) -> S::$values {
                self.0.$neg(a)
            }
            #[inline(always)]
            fn apply(self, f: Function, a: S::$values) -> S::$values {
                match f {
                    Function::Sqrt => self.0.$sqrt(a),
                    Function::Abs => self.0.$abs(a),
                    Function::Arctangent => $arctangent(self, a),
                    Function::RoundBf16 => $round(self, a),
                    Function::Exp => self.each(a, $type::exp),
                    Function::Ln => self.each(a, $type::ln),
                    Function::Tanh => self.each(a, $type::tanh),
                }
            }
            #[inline(always)]
            fn less(self, a: S::$values, b: S::$values) -> S::$bools {
                self.0.$less(a, b)
            }
            #[inline(always)]
            fn equal(self, a: S::$values, b: S::$values) -> S::$bools {
                self.0.$equal(a, b)
            }
            #[inline(always)]
            fn and(self, a: S::$bools, b: S::$bools) -> S::$bools {
                self.0.$and(a, b)
            }
            #[inline(always)]
            fn or(self, a: S::$bools, b: S::$bools) -> S::$bools {
                self.0.$or(a, b)
            }
            #[inline(always)]
            fn not(self, a: S::$bools) -> S::$bools {
                self.0.$not(a)
            }
            #[inline(always)]
            fn select(self, condition: S::$bools, yes: S::$values, no: S::$values) -> S::$values {
                self.0.$select(condition, yes, no)
            }
        }

        impl<S: Simd> Vectors for $name<S> {
            type Element = $type;
            const WIDTH: usize = S::$width;
            type Wide = Double<S>;

            #[inline(always)]
            fn wide(self) -> Double<S> {
                Double(self.0)
            }
            #[inline(always)]
            fn widen(self, value: S::$values, part: usize) -> S::f64s {
                $widen(self, value, part)
            }
            #[inline(always)]
            fn vectors(elements: &[$type]) -> &[S::$values] {
                S::$vectors(elements).0
            }
            #[inline(always)]
            fn vectors_mut(elements: &mut [$type]) -> &mut [S::$values] {
                S::$vectors_mut(elements).0
            }
            #[inline(always)]
            fn load_some(self, elements: &[$type]) -> S::$values {
                self.0.$load_some(elements)
            }
            #[inline(always)]
            fn store_some(self, elements: &mut [$type], value: S::$values) {
                self.0.$store_some(elements, value);
            }
            #[inline(always)]
            fn splat(self, element: $type) -> S::$values {
                self.0.$splat(element)
            }
        }
    };
}

vectors!(
    Single,
    f32,
    f32s,
    m32s,
    F32_LANES,
    splat_f32s,
    add_f32s,
    sub_f32s,
    mul_f32s,
    div_f32s,
    neg_f32s,
    abs_f32s,
    sqrt_f32s,
    less_than_f32s,
    equal_f32s,
    and_m32s,
    or_m32s,
    not_m32s,
    select_f32s,
    mul_add_f32s,
    as_simd_f32s,
    as_mut_simd_f32s,
    partial_load_f32s,
    partial_store_f32s,
    arctangent,
    round_bf16,
    widen
);
vectors!(
    Double,
    f64,
    f64s,
    m64s,
    F64_LANES,
    splat_f64s,
    add_f64s,
    sub_f64s,
    mul_f64s,
    div_f64s,
    neg_f64s,
    abs_f64s,
    sqrt_f64s,
    less_than_f64s,
    equal_f64s,
    and_m64s,
    or_m64s,
    not_m64s,
    select_f64s,
    mul_add_f64s,
    as_simd_f64s,
    as_mut_simd_f64s,
    partial_load_f64s,
    partial_store_f64s,
    |numbers: Self, a| numbers.each(a, f64::atan),
    |numbers: Self, a| numbers.each(a, Real::round_bf16),
    |_, a, _| a
);

/// The polynomial of [`Real::arctangent`], in vectors.
#[inline(always)]
fn arctangent<S: Simd>(numbers: Single<S>, x: S::f32s) -> S::f32s {
    use super::Num;
    let x = Num::new(numbers, x);
    let t = x * x;
    let t2 = t * t;
    let t4 = t2 * t2;
    let first = (-0.333_332_8 + 0.199_982_3 * t) + (-0.142_615_74 + 0.109_401_99 * t) * t2;
    let second = (-0.083_720_64 + 0.057_463_56 * t) + (-0.030_717_509 + 0.010_680_72 * t) * t2;
    // The largest term last; otherwise its rounding would count twice.
    (x * (1.0 + t * (first + (second - 0.001_743_701 * t4) * t4))).value
}

/// Part of a vector as float64. Compilers make one instruction of the loop.
#[inline(always)]
fn widen<S: Simd>(_: Single<S>, x: S::f32s, part: usize) -> S::f64s {
    let (mut narrow, mut wide) = ([0.0; LANES], [0.0; LANES]);
    S::as_mut_simd_f32s(&mut narrow[..S::F32_LANES]).0[0] = x;
    let narrow = &narrow[part * S::F64_LANES..][..S::F64_LANES];
    let wide = &mut wide[..S::F64_LANES];
    for (wide, &x) in wide.iter_mut().zip(narrow) {
        *wide = f64::from(x);
    }
    S::as_simd_f64s(wide).0[0]
}

/// [`Real::round_bf16`], in vectors.
#[inline(always)]
fn round_bf16<S: Simd>(numbers: Single<S>, x: S::f32s) -> S::f32s {
    let s = numbers.0;
    let bits = s.transmute_u32s_f32s(x);
    let last = s.and_u32s(s.wrapping_dyn_shr_u32s(bits, s.splat_u32s(16)), s.splat_u32s(1));
    let rounded = s.add_u32s(bits, s.add_u32s(last, s.splat_u32s(0x7fff)));
    let rounded = s.transmute_f32s_u32s(s.and_u32s(rounded, s.splat_u32s(0xffff_0000)));
    // Only NaN differs from itself; it stays as it is.
    s.select_f32s(s.equal_f32s(x, x), rounded, x)
}

#[cfg(test)]
mod tests {
    use super::super::Num;
    use super::*;

    /// All of a formula's operations on every element of `x`.
    struct Formula<'a, T>(&'a mut [T]);

    #[inline(always)]
    fn formula<B: Backend>(x: Num<B>) -> Num<B> {
        let a = (x.abs() + 0.5).sqrt() / (2.0 - x * x).max(0.125) - x.sign();
        let b = x.atan2(0.75) + (-x).exp().min(3.0) * (x.abs() + 1.0).ln() - x.tanh();
        let inside = x.gt(-1.0) & x.lt(1.0) & !x.equals(0.0);
        (inside | x.gt(1.5)).select(a + b.round_bf16(), 0.25 * b)
    }

    impl<T: Real> WithVectors<T> for Formula<'_, T> {
        type Output = ();

        #[inline(always)]
        fn run<B: Vectors<Element = T>>(self, numbers: B) {
            for value in B::vectors_mut(self.0) {
                *value = formula(Num::new(numbers, *value)).value;
            }
        }
    }

    fn inputs<T: Real>() -> Vec<T> {
        let special = [0.0, -0.0, 1.0, -1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e-30];
        let usual = (0..LANES * 8 - special.len()).map(|i| (i as f64 * 0.37).sin() * 2.0);
        special.into_iter().chain(usual).map(T::of).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_bits_of_single_numbers() {
        let mut widest = inputs::<f32>();
        let mut one_by_one = widest.clone();
        f32::with_vectors(Formula(&mut widest));
        OnSingle(Formula(&mut one_by_one)).with_simd(pulp::Scalar);
        let bits =
            |x: &[f32]| x.iter().map(|x| x.to_bits() & if x.is_nan() { 0 } else { !0 }).collect::<Vec<_>>();
        assert_eq!(bits(&widest), bits(&one_by_one));
        let mut widest = inputs::<f64>();
        let mut one_by_one = widest.clone();
        f64::with_vectors(Formula(&mut widest));
        OnDouble(Formula(&mut one_by_one)).with_simd(pulp::Scalar);
        let bits =
            |x: &[f64]| x.iter().map(|x| x.to_bits() & if x.is_nan() { 0 } else { !0 }).collect::<Vec<_>>();
        assert_eq!(bits(&widest), bits(&one_by_one));
    }

    #[test]
    fn operations_are_those_of_single_numbers() {
        struct Round<'a>(&'a mut [f32]);
        impl WithVectors<f32> for Round<'_> {
            type Output = ();
            #[inline(always)]
            fn run<B: Vectors<Element = f32>>(self, numbers: B) {
                for value in B::vectors_mut(self.0) {
                    *value = Num::new(numbers, *value).round_bf16().value;
                }
            }
        }
        struct Angle<'a>(&'a mut [f32]);
        impl WithVectors<f32> for Angle<'_> {
            type Output = ();
            #[inline(always)]
            fn run<B: Vectors<Element = f32>>(self, numbers: B) {
                for value in B::vectors_mut(self.0) {
                    *value = numbers.apply(Function::Arctangent, *value);
                }
            }
        }
        let x: Vec<f32> = inputs::<f32>();
        let mut rounded = x.clone();
        f32::with_vectors(Round(&mut rounded));
        for (x, rounded) in x.iter().zip(&rounded).filter(|(x, _)| !x.is_nan()) {
            assert_eq!(rounded.to_bits(), x.round_bf16().to_bits());
        }
        let x: Vec<f32> = (0..LANES * 8).map(|i| i as f32 / (LANES * 8) as f32).collect();
        let mut angles = x.clone();
        f32::with_vectors(Angle(&mut angles));
        for (x, angle) in x.iter().zip(&angles) {
            assert_eq!(angle.to_bits(), x.arctangent().to_bits());
        }
    }
}
