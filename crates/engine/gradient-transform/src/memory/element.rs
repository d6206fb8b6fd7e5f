//! The types of a tensor's elements, and the types of the computation.

use std::cell::Cell;
use std::fmt;

use half::bf16;
use ndarray::ArrayViewMutD;
use num_traits::{Float, NumAssign};
use serde::{Deserialize, Serialize};

use crate::layout::TILE;
use crate::memory::buffer::{Buffer, Slice, SliceMut};
use crate::memory::number::{OnDouble, OnSingle, WithVectors, dispatch};
use crate::memory::strided::StridedMut;

/// The type of a tensor's elements in memory.
///
/// ```
/// use gradient_transform::DType;
///
/// assert_eq!([DType::F32, DType::Bf16, DType::F64].map(DType::size), [4, 2, 8]);
/// assert_eq!(DType::Bf16.to_string(), "bfloat16");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// `f32`, 4 bytes.
    F32,
    /// [`half::bf16`], 2 bytes; the computation is in float32.
    Bf16,
    /// `f64`, 8 bytes.
    F64,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
            Self::F64 => 8,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F64 => "float64",
        })
    }
}

mod sealed {
    /// Closes [`super::Scalar`] to other types, and erases the type of views.
    pub trait Sealed: Sized {
        fn strided_mut(view: ndarray::ArrayViewMutD<'_, Self>) -> crate::memory::strided::StridedMut<'_>;
    }
}

/// A type of the elements of parameters and gradients: `f32`, [`half::bf16`] or `f64`.
///
/// ```
/// use gradient_transform::{Buffer, DType, Scalar};
///
/// fn twice<E: Scalar>(values: Vec<E>) -> (DType, Buffer) {
///     (E::DTYPE, E::buffer([&values[..], &values[..]].concat()))
/// }
/// assert_eq!(twice(vec![1.0_f32]), (DType::F32, Buffer::F32(vec![1.0, 1.0])));
/// assert_eq!(f64::slice(&[0.5]).len(), 1);
/// ```
pub trait Scalar: sealed::Sealed + Copy + Default + Send + Sync + 'static {
    /// Its name at run time.
    const DTYPE: DType;
    /// A buffer that owns `values`.
    fn buffer(values: Vec<Self>) -> Buffer;
    /// A slice with its type erased.
    fn slice(slice: &[Self]) -> Slice<'_>;
    /// A mutable slice with its type erased.
    fn slice_mut(slice: &mut [Self]) -> SliceMut<'_>;
}

/// The type of a chain's computation: `f32` (for float32 and bfloat16 parameters) or `f64`.
///
/// Tiles, small state and partial vectors have this type; scalars of a whole step are always `f64`.
///
/// ```
/// use gradient_transform::{Scalar, Real};
///
/// fn halves<T: Real>(values: &[T]) -> Vec<T> {
///     values.iter().map(|&x| x * T::of(0.5)).collect()
/// }
/// assert_eq!((halves(&[1.0_f32]), halves(&[1.0_f64])), (vec![0.5], vec![0.5]));
/// assert_eq!(0.1_f32.f64(), f64::from(0.1_f32));
/// assert_eq!(1.003_f32.round_bf16(), 1.0); // bfloat16 has 8 significant bits
/// assert!((1.0_f32.arctangent() - std::f32::consts::FRAC_PI_4).abs() < 1e-7);
/// assert_eq!(f32::LARGEST_GRADIENT, 2.0_f64.powi(44));
///
/// // Whether an array whose type is known only at run time is one of `T`.
/// let mut values = [1.0_f64];
/// assert_eq!(f64::native(&f64::slice(&values)), Some(&[1.0][..]));
/// assert!(f32::native(&f64::slice(&values)).is_none() && f32::native_mut(f64::slice_mut(&mut values)).is_err());
/// ```
pub trait Real: Scalar + Float + NumAssign + fmt::Debug + fmt::Display {
    /// The largest element that a gradient may have, 2^44 in float32 and 2^492 in float64: the sum of up to 2^40 such squares does not overflow.
    const LARGEST_GRADIENT: f64;
    /// The nearest value to `value`.
    fn of(value: f64) -> Self;
    /// This value as a float64, which is exact.
    fn f64(self) -> f64;
    /// Rounded to the nearest bfloat16, ties to even.
    fn round_bf16(self) -> Self;
    /// The arctangent of a number from 0 to 1, to about a unit in the last place.
    fn arctangent(self) -> Self;
    /// The elements of `slice`, if they have this type.
    fn native<'a>(slice: &Slice<'a>) -> Option<&'a [Self]>;
    /// The elements of `slice`, if they have this type.
    fn native_mut<'a>(slice: SliceMut<'a>) -> Result<&'a mut [Self], SliceMut<'a>>;
    /// Working memory of the thread, of any contents.
    #[doc(hidden)]
    fn with_workspace<R>(len: usize, f: impl FnOnce(&mut [Self]) -> R) -> R;
    /// A tile of zeros.
    #[doc(hidden)]
    fn zeros() -> &'static [Self; TILE];
    /// Calls the function of float32 or that of float64.
    #[doc(hidden)]
    fn choose<F: PerType>(value: F::Of<Self>, of_f32: fn(F::Of<f32>), of_f64: fn(F::Of<f64>));
    /// Does work with the widest vectors of the processor.
    fn with_vectors<W: WithVectors<Self>>(work: W) -> W::Output;
}

/// A type for each type of the computation.
#[doc(hidden)]
pub trait PerType {
    type Of<T: Real>;
}

macro_rules! element {
    ($type:ty, $variant:ident) => {
        impl sealed::Sealed for $type {
            fn strided_mut(view: ArrayViewMutD<'_, Self>) -> StridedMut<'_> {
                StridedMut::$variant(view)
            }
        }

        impl Scalar for $type {
            const DTYPE: DType = DType::$variant;
            fn buffer(values: Vec<Self>) -> Buffer {
                Buffer::$variant(values)
            }
            fn slice(slice: &[Self]) -> Slice<'_> {
                Slice::$variant(slice)
            }
            fn slice_mut(slice: &mut [Self]) -> SliceMut<'_> {
                SliceMut::$variant(slice)
            }
        }
    };
}

element!(f32, F32);
element!(bf16, Bf16);
element!(f64, F64);

macro_rules! real {
    ($type:ty, $variant:ident, $arctangent:expr, $vectors:ident, $of:tt) => {
        impl Real for $type {
            // Half of the exponent that is left after a factor of 2^40.
            const LARGEST_GRADIENT: f64 = power_of_two((<$type>::MAX_EXP - 40) as u32 / 2);
            #[inline(always)]
            fn of(value: f64) -> Self {
                value as Self
            }
            #[inline(always)]
            fn f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn round_bf16(self) -> Self {
                // Written with integers rather than through `bf16`, so that a loop over it vectorises.
                let bits = (self as f32).to_bits();
                let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
                let kept = if (self as f32).is_nan() { bits | 0x0040_0000 } else { rounded };
                f32::from_bits(kept) as Self
            }
            #[inline(always)]
            fn arctangent(self) -> Self {
                $arctangent(self)
            }
            fn native<'a>(slice: &Slice<'a>) -> Option<&'a [Self]> {
                match slice {
                    Slice::$variant(values) => Some(values),
                    _ => None,
                }
            }
            fn native_mut<'a>(slice: SliceMut<'a>) -> Result<&'a mut [Self], SliceMut<'a>> {
                match slice {
                    SliceMut::$variant(values) => Ok(values),
                    other => Err(other),
                }
            }
            fn with_workspace<R>(len: usize, f: impl FnOnce(&mut [Self]) -> R) -> R {
                thread_local! {
                    static WORKSPACE: Cell<Vec<$type>> = const { Cell::new(Vec::new()) };
                }
                if len == 0 {
                    return f(&mut []);
                }
                let mut workspace = WORKSPACE.take();
                if workspace.len() < len {
                    workspace.resize(len, 0.0);
                }
                let result = f(&mut workspace[..len]);
                WORKSPACE.set(workspace);
                result
            }
            #[inline(always)]
            fn zeros() -> &'static [Self; TILE] {
                static ZEROS: [$type; TILE] = [0.0; TILE];
                &ZEROS
            }
            fn choose<F: PerType>(value: F::Of<Self>, of_f32: fn(F::Of<f32>), of_f64: fn(F::Of<f64>)) {
                ((of_f32, of_f64).$of)(value);
            }
            fn with_vectors<W: WithVectors<Self>>(work: W) -> W::Output {
                dispatch($vectors(work))
            }
        }
    };
}

/// 2^exponent, up to 1023.
const fn power_of_two(exponent: u32) -> f64 {
    f64::from_bits((1023 + exponent as u64) << 52)
}

real!(f32, F32, arctangent, OnSingle, 0);
real!(f64, F64, f64::atan, OnDouble, 1);

/// A polynomial, because calls of the mathematical library do not vectorise: the Chebyshev interpolation of
/// `atan(sqrt(t))/sqrt(t)` on [0, 1], whose error is 2.5e-9. By Estrin's scheme, whose chain of dependent operations is half
/// as long as Horner's.
#[inline(always)]
fn arctangent(x: f32) -> f32 {
    let t = x * x;
    let t2 = t * t;
    let t4 = t2 * t2;
    let first = (-0.333_332_8 + 0.199_982_3 * t) + (-0.142_615_74 + 0.109_401_99 * t) * t2;
    let second = (-0.083_720_64 + 0.057_463_56 * t) + (-0.030_717_509 + 0.010_680_72 * t) * t2;
    // The largest term last; otherwise its rounding would count twice.
    x * (1.0 + t * (first + (second - 0.001_743_701 * t4) * t4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arctangent_is_right_to_a_unit_and_a_half_in_the_last_place() {
        let error = |x: f32| (x.arctangent().f64() / x.f64().atan() - 1.0).abs();
        let worst = (1..=1_000_000).map(|i| error(i as f32 / 1e6)).fold(0.0, f64::max);
        assert!(worst < 1.5 * f64::from(f32::EPSILON), "{}", worst / f64::from(f32::EPSILON));
        assert_eq!(0.0_f32.arctangent(), 0.0);
    }

    #[test]
    fn rounding_to_bfloat16_agrees_with_the_half_crate() {
        let mut bits = 0x1234_5678_u32;
        for _ in 0..100_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = f32::from_bits(bits);
            if !value.is_nan() {
                assert_eq!(
                    value.round_bf16().to_bits(),
                    bf16::from_f32(value).to_f32().to_bits(),
                    "{value:e}"
                );
            }
        }
        assert!(f32::NAN.round_bf16().is_nan());
    }
}
