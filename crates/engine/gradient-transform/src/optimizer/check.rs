//! Checks of arguments against the registered parameters.

use crate::engine::tensor::Tensor;
use crate::error::{Error, Result};
use crate::memory::element::{DType, Real};
use crate::optimizer::Optimizer;
use crate::optimizer::parameter::{Parameter, Shape, Value};

impl<T: Real> Optimizer<T> {
    pub(crate) fn check_count(&self, found: usize) -> Result<()> {
        let expected = self.tensors.len();
        if found == expected { Ok(()) } else { Err(Error::ParameterCount { expected, found }) }
    }

    pub(crate) fn check_values(&self, parameters: &[Parameter<'_>]) -> Result<()> {
        self.check_count(parameters.len())?;
        self.tensors.iter().zip(parameters).try_for_each(|(t, p)| check_value(t, &p.value))
    }
}

pub(crate) fn check<T: Real>(tensor: &Tensor<T>, parameter: &Parameter<'_>) -> Result<()> {
    check_value(tensor, &parameter.value)?;
    if let Some(gradient) = &parameter.gradient {
        check_shape(tensor, "gradient", gradient.shape.as_ref(), gradient.as_slice().len())?;
        let found = gradient.as_slice().dtype();
        if found == DType::F64 && T::DTYPE == DType::F32 {
            return Err(Error::GradientType { name: tensor.info.name.clone(), found });
        }
    }
    Ok(())
}

pub(crate) fn check_value<T: Real>(tensor: &Tensor<T>, value: &Value<'_>) -> Result<()> {
    check_shape(tensor, "value", value.shape.as_ref(), value.len())?;
    check_dtype(tensor, value.dtype())
}

/// Rejects a value whose type has changed or is not supported.
pub(crate) fn check_dtype<T: Real>(tensor: &Tensor<T>, found: DType) -> Result<()> {
    let name = &tensor.info.name;
    check_type::<T>(name, found)?;
    if tensor.is_typed() && tensor.info.dtype != found {
        let reason = format!("it was {} before; its state is of that type", tensor.info.dtype);
        return Err(Error::ElementType { name: name.clone(), found, reason });
    }
    Ok(())
}

/// Rejects a value whose type is wider than that of the computation.
pub(crate) fn check_type<T: Real>(name: &str, found: DType) -> Result<()> {
    if found == DType::F64 && T::DTYPE == DType::F32 {
        let reason = "this optimizer computes in float32; use an `Optimizer<f64>` for it".to_owned();
        return Err(Error::ElementType { name: name.to_owned(), found, reason });
    }
    Ok(())
}

/// Rejects shapes with more elements than can be counted. Axes of length 0 don't make the product of the
/// others irrelevant: a sum over such an axis has none of them.
pub(crate) fn check_size(name: &str, shape: &[usize]) -> Result<()> {
    let len = shape.iter().try_fold(1_usize, |len, &axis| len.checked_mul(axis.max(1)));
    // The widest element has 8 bytes.
    if len.is_some_and(|len| len <= isize::MAX as usize / 8) {
        return Ok(());
    }
    Err(Error::ShapeTooLarge { name: name.to_owned(), shape: shape.to_vec() })
}

pub(crate) fn check_shape<T: Real>(
    tensor: &Tensor<T>,
    what: &'static str,
    shape: Option<&Shape>,
    len: usize,
) -> Result<()> {
    let expected = &tensor.info.shape;
    let fits = match shape {
        Some(shape) => shape.as_slice() == expected.as_slice(),
        None => len == tensor.info.len(),
    };
    if fits {
        return Ok(());
    }
    let found = shape.map_or_else(|| vec![len], |s| s.to_vec());
    Err(Error::ShapeMismatch { what, name: tensor.info.name.clone(), expected: expected.clone(), found })
}
