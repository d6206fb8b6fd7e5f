//! Parameters and gradients, as arguments of a step.

use ndarray::{ArrayView, ArrayViewMut, ArrayViewMutD, Dimension};
use smallvec::SmallVec;

use crate::memory::buffer::{Buffer, Slice, SliceMut};
use crate::memory::element::{DType, Scalar};
use crate::memory::strided::StridedMut;

/// A parameter's value and its gradient for one step.
///
/// A contiguous row-major value or gradient is used in place. Any other layout (column-major, strided,
/// broadcast) goes through one contiguous copy.
///
/// A gradient may have a different element type from the value, for example if the gradients of bfloat16
/// parameters are accumulated in float32: see [`with_gradient`](Self::with_gradient).
#[derive(Debug)]
pub struct Parameter<'a> {
    pub(crate) value: Value<'a>,
    pub(crate) gradient: Option<Gradient<'a>>,
}

pub(crate) type Shape = SmallVec<[usize; 6]>;

#[derive(Debug)]
pub(crate) struct Value<'a> {
    /// `None` for plain slices, of which only the length can be checked.
    pub(crate) shape: Option<Shape>,
    pub(crate) data: ValueData<'a>,
}

#[derive(Debug)]
pub(crate) enum ValueData<'a> {
    Contiguous(SliceMut<'a>),
    Strided { view: StridedMut<'a>, copy: Buffer },
}

#[derive(Debug)]
pub(crate) struct Gradient<'a> {
    pub(crate) shape: Option<Shape>,
    pub(crate) data: GradientData<'a>,
}

#[derive(Debug)]
pub(crate) enum GradientData<'a> {
    Contiguous(Slice<'a>),
    Copied(Buffer),
}

impl<'a> Parameter<'a> {
    /// A parameter and its gradient as plain slices, in row-major order. The shape is known from registration.
    ///
    /// A `None` gradient leaves the parameter as it is in this step.
    pub fn slice<E: Scalar>(value: &'a mut [E], gradient: Option<&'a [E]>) -> Self {
        Self {
            value: Value { shape: None, data: ValueData::Contiguous(E::slice_mut(value)) },
            gradient: gradient.map(|g| Gradient { shape: None, data: GradientData::Contiguous(E::slice(g)) }),
        }
    }

    /// A parameter and its gradient as ndarray views of any rank and layout.
    ///
    /// A `None` gradient leaves the parameter as it is in this step.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, Parameter};
    /// use ndarray::array;
    /// let mut w = array![[1.0_f32, 2.0], [3.0, 4.0]].reversed_axes(); // column-major
    /// let g = array![[1.0_f32, 1.0], [1.0, 1.0]];
    /// let mut optimizer = Optimizer::new(Descent::default(), [("w", &[2, 2][..])])?;
    /// optimizer.step(&mut [Parameter::array(w.view_mut(), Some(g.view()))])?;
    /// assert_eq!(w, array![[0.0, 2.0], [1.0, 3.0]]);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn array<E: Scalar, D: Dimension>(
        value: ArrayViewMut<'a, E, D>,
        gradient: Option<ArrayView<'a, E, D>>,
    ) -> Self {
        let shape = Some(Shape::from_slice(value.shape()));
        let data = if value.is_standard_layout() {
            // Row-major was just checked, so the slice exists; the check of the shape would reject an
            // empty one.
            ValueData::Contiguous(E::slice_mut(value.into_slice().unwrap_or_default()))
        } else {
            let copy = E::buffer(value.iter().copied().collect());
            ValueData::Strided { view: E::strided_mut(value.into_dyn()), copy }
        };
        Self { value: Value { shape, data }, gradient: gradient.map(Gradient::new) }
    }

    /// The same parameter with this gradient, a plain slice in row-major order, whose element type may differ
    /// from the value's. The gradient is not rounded to the value's type first. Only float64 in an optimizer
    /// that computes in float32 is an error.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, Parameter, ParameterGroup, Rounding, Settings};
    /// use half::bf16;
    ///
    /// let group = ParameterGroup::new(Descent::default(), [("w", &[1][..])]).rounding(Rounding::Nearest);
    /// let mut optimizer: Optimizer = Optimizer::with_groups([group], Settings::default())?;
    /// let mut w = [bf16::ONE];
    /// // The sum of several bfloat16 gradients, which is not a bfloat16 number: near 1, these are 2^-7 apart.
    /// let accumulated = [1.0_f32 - 0.001];
    /// optimizer.step(&mut [Parameter::slice(&mut w, None).with_gradient(&accumulated)])?;
    /// assert_eq!(w, [bf16::from_f32(0.001)]); // and not 0 or 2^-8
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn with_gradient<E: Scalar>(self, gradient: &'a [E]) -> Self {
        let data = GradientData::Contiguous(E::slice(gradient));
        Self { gradient: Some(Gradient { shape: None, data }), ..self }
    }

    /// As [`with_gradient`](Self::with_gradient), with an ndarray view of any layout.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, Parameter};
    /// use half::bf16;
    /// use ndarray::{array, Array2};
    ///
    /// let mut w = Array2::from_elem([2, 2], bf16::ONE);
    /// let g = array![[1.0_f32, 0.0], [0.5, 0.0]].reversed_axes(); // column-major
    /// let mut optimizer = Optimizer::new(Descent::default(), [("w", &[2, 2][..])])?;
    /// optimizer.step(&mut [Parameter::array(w.view_mut(), None).with_gradient_array(g.view())])?;
    /// assert_eq!(w.mapv(bf16::to_f32), array![[0.0, 0.5], [1.0, 1.0]]);
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    pub fn with_gradient_array<E: Scalar, D: Dimension>(self, gradient: ArrayView<'a, E, D>) -> Self {
        Self { gradient: Some(Gradient::new(gradient)), ..self }
    }
}

impl<'a> Gradient<'a> {
    fn new<E: Scalar, D: Dimension>(view: ArrayView<'a, E, D>) -> Self {
        let shape = Some(Shape::from_slice(view.shape()));
        let data = match view.to_slice() {
            Some(slice) => GradientData::Contiguous(E::slice(slice)),
            None => GradientData::Copied(E::buffer(view.iter().copied().collect())),
        };
        Self { shape, data }
    }

    pub(crate) fn as_slice(&self) -> Slice<'_> {
        match &self.data {
            GradientData::Contiguous(slice) => *slice,
            GradientData::Copied(buffer) => buffer.as_slice(),
        }
    }
}

impl Value<'_> {
    pub(crate) fn len(&self) -> usize {
        match &self.data {
            ValueData::Contiguous(slice) => slice.len(),
            ValueData::Strided { copy, .. } => copy.len(),
        }
    }

    pub(crate) fn dtype(&self) -> DType {
        match &self.data {
            ValueData::Contiguous(slice) => slice.dtype(),
            ValueData::Strided { copy, .. } => copy.dtype(),
        }
    }

    /// The elements in row-major order.
    pub(crate) fn as_slice(&self) -> Slice<'_> {
        match &self.data {
            ValueData::Contiguous(slice) => slice.as_slice(),
            ValueData::Strided { copy, .. } => copy.as_slice(),
        }
    }

    /// The elements in row-major order; [`write_back`](Self::write_back) after changing them.
    pub(crate) fn as_mut_slice(&mut self) -> SliceMut<'_> {
        match &mut self.data {
            ValueData::Contiguous(slice) => slice.reborrow(),
            ValueData::Strided { copy, .. } => copy.as_mut_slice(),
        }
    }

    /// Writes the row-major copy of a strided view back into the view.
    pub(crate) fn write_back(&mut self) {
        fn assign<E: Scalar>(view: &mut ArrayViewMutD<'_, E>, values: &[E]) {
            for (target, value) in view.iter_mut().zip(values) {
                *target = *value;
            }
        }
        if let ValueData::Strided { view, copy } = &mut self.data {
            match (view, copy) {
                (StridedMut::F32(view), Buffer::F32(values)) => assign(view, values),
                (StridedMut::Bf16(view), Buffer::Bf16(values)) => assign(view, values),
                (StridedMut::F64(view), Buffer::F64(values)) => assign(view, values),
                _ => unreachable!("the copy was made from the view"),
            }
        }
    }
}
