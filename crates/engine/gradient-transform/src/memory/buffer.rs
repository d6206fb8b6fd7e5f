//! Arrays whose element type is known at run time.

use std::ops::Range;

use half::bf16;
use multiversion::multiversion;
use serde::{Deserialize, Serialize};

use crate::layout::CHUNK;
use crate::memory::element::{DType, Real, Scalar};
use crate::memory::kernel::{self, BLOCK};
use crate::memory::prefetch::Prefetch;
use crate::memory::rounding::{Rounding, Stream};

/// An owned array of one of the [`DType`]s.
///
/// ```
/// use gradient_transform::{Buffer, DType, Slice, SliceMut};
///
/// let mut column = Buffer::zeros(DType::Bf16, 3);
/// column.set(1, 2.0_f32);
/// column.update(&[1.0_f32, 1.0, 1.0], |b, a| b + a);
/// let mut values = [0.0_f32; 3];
/// column.load(&mut values);
/// assert_eq!(values, [1.0, 3.0, 1.0]);
/// assert_eq!((column.dtype(), column.len(), column.get::<f64>(1)), (DType::Bf16, 3, 3.0));
/// assert!(matches!(column.as_slice(), Slice::Bf16(elements) if elements.len() == 3));
/// assert!(matches!(column.as_mut_slice(), SliceMut::Bf16(_)));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "dtype", content = "values", rename_all = "lowercase")]
pub enum Buffer {
    /// `f32` elements.
    F32(Vec<f32>),
    /// [`half::bf16`] elements.
    Bf16(Vec<bf16>),
    /// `f64` elements.
    F64(Vec<f64>),
}

/// A borrowed array of one of the [`DType`]s.
///
/// ```
/// use gradient_transform::{DType, Slice};
///
/// let slice = Slice::from(&[1.0_f64, 2.0][..]);
/// assert_eq!((slice.dtype(), slice.len(), slice.is_empty(), slice.get::<f32>(1)), (DType::F64, 2, false, 2.0));
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Slice<'a> {
    /// `f32` elements.
    F32(&'a [f32]),
    /// [`half::bf16`] elements.
    Bf16(&'a [bf16]),
    /// `f64` elements.
    F64(&'a [f64]),
}

/// A mutably borrowed array of one of the [`DType`]s.
///
/// ```
/// use gradient_transform::{DType, Scalar, SliceMut};
///
/// let mut values = [1.0_f32, 2.0];
/// let slice = f32::slice_mut(&mut values);
/// assert_eq!((slice.dtype(), slice.len(), slice.as_slice().get::<f64>(0)), (DType::F32, 2, 1.0));
/// if let SliceMut::F32(values) = slice {
///     values[0] = 3.0;
/// }
/// assert_eq!(values, [3.0, 2.0]);
/// ```
#[derive(Debug)]
pub enum SliceMut<'a> {
    /// `f32` elements.
    F32(&'a mut [f32]),
    /// [`half::bf16`] elements.
    Bf16(&'a mut [bf16]),
    /// `f64` elements.
    F64(&'a mut [f64]),
}

macro_rules! each {
    ($self:expr, $enum:ident, $values:ident => $body:expr) => {
        match $self {
            $enum::F32($values) => $body,
            $enum::Bf16($values) => $body,
            $enum::F64($values) => $body,
        }
    };
}

macro_rules! same {
    ($self:expr, $enum:ident => $into:ident, $values:ident => $body:expr) => {
        match $self {
            $enum::F32($values) => $into::F32($body),
            $enum::Bf16($values) => $into::Bf16($body),
            $enum::F64($values) => $into::F64($body),
        }
    };
}

impl Buffer {
    /// `len` zeros.
    pub fn zeros(dtype: DType, len: usize) -> Self {
        match dtype {
            DType::F32 => Self::F32(vec![0.0; len]),
            DType::Bf16 => Self::Bf16(vec![bf16::ZERO; len]),
            DType::F64 => Self::F64(vec![0.0; len]),
        }
    }

    /// Whether all elements are 0, and none of them -0.
    pub(crate) fn is_zero(&self) -> bool {
        each!(self, Self, v => v.iter().all(|x| x.to_bits() == 0))
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        each!(self, Self, v => v.len())
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::Bf16(_) => DType::Bf16,
            Self::F64(_) => DType::F64,
        }
    }

    /// The elements.
    pub fn as_slice(&self) -> Slice<'_> {
        same!(self, Self => Slice, v => v)
    }

    /// The elements, mutable.
    pub fn as_mut_slice(&mut self) -> SliceMut<'_> {
        same!(self, Self => SliceMut, v => v)
    }

    /// Element `i`, which must exist.
    pub fn get<T: Real>(&self, i: usize) -> T {
        self.as_slice().get(i)
    }

    /// Converts every element into `target`, which has the same length.
    pub fn load<T: Real>(&self, target: &mut [T]) {
        self.as_slice().load(target);
    }

    /// `b[i] <- f(b[i], a[i])` for every element, rounding to the nearest. `a` has the same length.
    pub fn update<T: Real>(&mut self, a: &[T], f: impl Fn(T, T) -> T) {
        match T::native_mut(self.as_mut_slice()) {
            Ok(values) => kernel::map2(values, a, f),
            Err(_) => (0..self.len()).for_each(|i| self.set(i, f(self.get(i), a[i]))),
        }
    }

    /// Sets element `i`, which must exist, rounding to the nearest.
    pub fn set<T: Real>(&mut self, i: usize, value: T) {
        match self {
            Self::F32(v) => v[i] = value.f64() as f32,
            Self::Bf16(v) => v[i] = bf16::from_f32(value.f64() as f32),
            Self::F64(v) => v[i] = value.f64(),
        }
    }
}

impl<'a> Slice<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        each!(self, Self, v => v.len())
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::Bf16(_) => DType::Bf16,
            Self::F64(_) => DType::F64,
        }
    }

    /// Element `i`, which must exist.
    pub fn get<T: Real>(&self, i: usize) -> T {
        match self {
            Self::F32(v) => T::of(f64::from(v[i])),
            Self::Bf16(v) => T::of(f64::from(v[i].to_f32())),
            Self::F64(v) => T::of(v[i]),
        }
    }

    pub(crate) fn range(&self, range: Range<usize>) -> Slice<'a> {
        same!(self, Self => Slice, v => &v[range])
    }

    pub(crate) fn split_at(&self, mid: usize) -> (Slice<'a>, Slice<'a>) {
        (self.range(0..mid), self.range(mid..self.len()))
    }

    /// Splits off the first `n` elements.
    #[inline]
    pub(crate) fn split_off_first(&mut self, n: usize) -> Slice<'a> {
        same!(self, Self => Slice, v => v.split_off(..n).unwrap_or_default())
    }

    /// Converts every element into `target`, which has the same length.
    pub(crate) fn load<T: Real>(&self, target: &mut [T]) {
        debug_assert_eq!(self.len(), target.len());
        if let Some(values) = T::native(self) {
            target.copy_from_slice(values);
            return;
        }
        match *self {
            Self::F32(v) => convert(v, target, |x| T::of(f64::from(x))),
            Self::Bf16(v) => {
                convert(v, target, |x| T::of(f64::from(f32::from_bits(u32::from(x.to_bits()) << 16))))
            }
            Self::F64(v) => convert(v, target, T::of),
        }
    }

    /// The index and value of the first element that is larger than `limit`, infinite or not a number.
    pub(crate) fn first_beyond(&self, limit: f64, parallel: bool) -> Option<(usize, f64)> {
        if parallel && self.len() > CHUNK {
            let middle = self.len() / 2;
            let (left, right) = self.split_at(middle);
            let (left, right) =
                rayon::join(|| left.first_beyond(limit, true), || right.first_beyond(limit, true));
            return left.or(right.map(|(index, value)| (middle + index, value)));
        }
        // A flag for a block of elements vectorises; the search for the element is needed only in an
        // invalid step.
        const BLOCK: usize = 4096;
        let mut rest = *self;
        let mut at = 0;
        while !rest.is_empty() {
            let block = rest.split_off_first(rest.len().min(BLOCK));
            if !block.is_within(limit) {
                let within = |value: f64| value.abs() <= limit;
                let index = (0..block.len()).find(|&i| !within(block.get(i)))?;
                return Some((at + index, block.get(index)));
            }
            at += BLOCK;
        }
        None
    }

    /// Whether no element is larger than `limit`, infinite or not a number. Tests every element, without an
    /// early exit, so that the loop vectorises.
    pub(crate) fn is_within(&self, limit: f64) -> bool {
        // Without their signs, floats are in the order of their bits, with infinities and NaN last.
        match *self {
            Self::F32(v) => {
                let limit = (limit as f32).min(f32::MAX).to_bits();
                !any_of(v, |x| (x.to_bits() & 0x7fff_ffff) > limit)
            }
            Self::Bf16(v) => {
                let limit = ((limit as f32).min(bf16::MAX.to_f32()).to_bits() >> 16) as u16;
                !any_of(v, |x| (x.to_bits() & 0x7fff) > limit)
            }
            Self::F64(v) => {
                let limit = limit.min(f64::MAX).to_bits();
                !any_of(v, |x| (x.to_bits() & 0x7fff_ffff_ffff_ffff) > limit)
            }
        }
    }
}

impl<'a> SliceMut<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        each!(self, Self, v => v.len())
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.as_slice().dtype()
    }

    /// The elements.
    pub fn as_slice(&self) -> Slice<'_> {
        same!(self, Self => Slice, v => v)
    }

    pub(crate) fn reborrow(&mut self) -> SliceMut<'_> {
        same!(self, Self => SliceMut, v => v)
    }

    /// Splits off the first `n` elements.
    #[inline]
    pub(crate) fn split_off_first(&mut self, n: usize) -> SliceMut<'a> {
        same!(self, Self => SliceMut, v => v.split_off_mut(..n).unwrap_or_default())
    }

    pub(crate) fn range_mut(&mut self, range: Range<usize>) -> SliceMut<'_> {
        same!(self, Self => SliceMut, v => &mut v[range])
    }

    /// A range of the elements themselves, if they are of type `T`; otherwise the beginning of `loaded`, to which they are
    /// converted.
    pub(crate) fn native_or_loaded<'m, T: Real>(
        &'m mut self,
        range: Range<usize>,
        loaded: &'m mut [T],
    ) -> &'m mut [T] {
        match T::native_mut(self.range_mut(range)) {
            Ok(values) => values,
            Err(narrow) => {
                let loaded = &mut loaded[..narrow.len()];
                narrow.as_slice().load(loaded);
                loaded
            }
        }
    }

    /// Converts `values`, the elements from `offset` on, and stores them here.
    pub(crate) fn store<T: Real>(&mut self, values: &[T], offset: usize, rounding: Rounding, stream: Stream) {
        debug_assert_eq!(self.len(), values.len());
        match self {
            Self::F32(v) => convert(values, v, |x| x.f64() as f32),
            Self::F64(v) => convert(values, v, |x| x.f64()),
            Self::Bf16(v) => match (rounding, f32::native(&T::slice(values))) {
                (Rounding::Nearest, _) => convert(values, v, |x| {
                    bf16::from_bits(((x.round_bf16().f64() as f32).to_bits() >> 16) as u16)
                }),
                (Rounding::Stochastic, Some(values)) => stream.store(values, offset, v),
                (Rounding::Stochastic, None) => {
                    let single: Vec<f32> = values.iter().map(|x| x.f64() as f32).collect();
                    stream.store(&single, offset, v);
                }
            },
        }
    }
}

#[multiversion(targets = "simd")]
fn convert<A: Copy, B, F: Fn(A) -> B>(from: &[A], to: &mut [B], f: F) {
    let mut prefetch = Prefetch::resume();
    let ((to, to_rest), (from, from_rest)) = (to.as_chunks_mut::<BLOCK>(), from.as_chunks::<BLOCK>());
    for (to, from) in to.iter_mut().zip(from) {
        prefetch.block();
        for (to, from) in to.iter_mut().zip(from) {
            *to = f(*from);
        }
    }
    for (to, from) in to_rest.iter_mut().zip(from_rest) {
        *to = f(*from);
    }
    prefetch.suspend();
}

/// Whether `bad` holds for any element, without an early exit, so that the loop vectorises.
#[multiversion(targets = "simd")]
fn any_of<A: Copy, F: Fn(A) -> bool>(values: &[A], bad: F) -> bool {
    values.iter().fold(false, |any, &value| any | bad(value))
}

impl<'a, E: Scalar> From<&'a [E]> for Slice<'a> {
    fn from(slice: &'a [E]) -> Self {
        E::slice(slice)
    }
}
