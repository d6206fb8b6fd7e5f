//! Tensors in memory of burn's wgpu device, as arrays that kernels of the optimizer read and write.
//!
//! ```text
//! Tensor      flat, and contiguous                                        burn, one queued operation
//!   v         drained from the fusion stream                              burn-fusion
//! CubeTensor  a handle of memory
//!   v         work of its streams submitted, the place pinned             cubecl
//! WgpuArray   wgpu::Buffer, offset, number of elements                    one queue: what is submitted next comes next
//! ```

use std::any::Any;

use burn::backend::Wgpu;
use burn::backend::wgpu::{AutoCompiler, CubeBackend};
use burn::cubecl::wgpu::WgpuServer;
use burn::tensor::{DType, Tensor};
use gradient_wgpu::WgpuArray;

use crate::error::{Error, Result};
use crate::parameters::{Taking, Values};

/// A parameter and its gradient.
pub(crate) struct Taken {
    pub(crate) name: String,
    /// burn's number of the parameter's tensor.
    id: u64,
    /// Of a parameter that is to be written, a copy: clones of the module keep theirs, and an error loses nothing.
    values: Tensor<1>,
    is_copy: bool,
    gradient: Option<Tensor<1>>,
}

/// Takes parameters as they are on the device.
pub(crate) enum OnDevice {
    /// To read gradients.
    Uncopied,
    /// To step those that have a gradient.
    CopiesOfGiven,
    /// To write any.
    Copies,
}

impl Taking for OnDevice {
    type Taken = Taken;

    fn take<const D: usize>(
        &mut self,
        name: &str,
        tensor: Tensor<D>,
        gradient: Option<Tensor<D>>,
    ) -> Result<Taken> {
        let dtype = tensor.dtype();
        if !is_computed_with(dtype) {
            return Err(Error::ElementType { name: name.to_owned(), dtype });
        }
        let id = id(name, &tensor)?;
        let gradient = match gradient {
            Some(gradient) => {
                self::id(name, &gradient)?;
                let taken = is_computed_with(gradient.dtype());
                Some(flat(if taken { gradient } else { gradient.cast(DType::F32) }))
            }
            None => None,
        };
        let is_copy = match self {
            Self::Uncopied => false,
            Self::CopiesOfGiven => gradient.is_some(),
            Self::Copies => true,
        };
        let values = flat(tensor);
        // burn has no copy as such.
        let values = if is_copy { values.mul_scalar(1.0) } else { values };
        Ok(Taken { name: name.to_owned(), id, values, is_copy, gradient })
    }

    fn is_same<const D: usize>(&mut self, name: &str, tensor: Tensor<D>, first: &Taken) -> Result<bool> {
        if id(name, &tensor)? == first.id {
            return Ok(true);
        }
        let (later, values) = (flat(tensor), first.values.clone());
        Ok(later.dtype() == values.dtype()
            && later.shape() == values.shape()
            && later.equal(values).all().into_scalar::<bool>())
    }
}

impl Taken {
    /// The parameter's memory, and the gradient's.
    pub(crate) fn resident(&self) -> Result<(Resident, Option<Resident>)> {
        let gradient = self.gradient.as_ref().map(|gradient| Resident::of(&self.name, gradient));
        Ok((Resident::of(&self.name, &self.values)?, gradient.transpose()?))
    }

    /// The copy, which has been written.
    pub(crate) fn written(self) -> Option<(String, Written)> {
        self.is_copy.then_some((self.name, Written(self.values)))
    }
}

/// New values of a parameter.
pub(crate) struct Written(Tensor<1>);

impl Values for Written {
    fn into_tensor<const D: usize>(self, old: &Tensor<D>) -> Tensor<D> {
        let values = self.0.reshape(old.shape());
        if old.is_autodiff() { values.autodiff() } else { values }
    }
}

/// Memory of a tensor, which stays where it is as long as this lives.
pub(crate) struct Resident {
    pub(crate) array: WgpuArray,
    _pinned: Box<dyn Any>,
}

impl Resident {
    fn of(name: &str, tensor: &Tensor<1>) -> Result<Self> {
        let elsewhere = |reason: String| Error::Elsewhere { name: name.to_owned(), reason };
        let dtype = match tensor.dtype() {
            DType::BF16 => gradient_transform::DType::Bf16,
            _ => gradient_transform::DType::F32,
        };
        let fused = tensor.clone().try_into_primitive::<Wgpu>();
        let fused = fused.map_err(|error| elsewhere(format!("{error:?}")))?;
        let fusion = fused.client.clone();
        let tensor = fusion.resolve_tensor_float::<CubeBackend>(fused);
        if !tensor.is_contiguous() {
            return Err(elsewhere("its elements are not contiguous".to_owned()));
        }
        let len = tensor.meta.shape().num_elements();
        let place = tensor.client.get_resource::<WgpuServer<AutoCompiler>>(tensor.handle);
        let place = place.map_err(|error| elsewhere(error.to_string()))?;
        let memory = place.resource();
        let array = WgpuArray::in_buffer(&memory.buffer, memory.offset, dtype, len)?;
        Ok(Self { array, _pinned: Box::new(place) })
    }
}

fn is_computed_with(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::BF16)
}

/// burn's number of a tensor. A tensor of another backend is an error, before any computation with
/// it.
fn id<const D: usize>(name: &str, tensor: &Tensor<D>) -> Result<u64> {
    match tensor.clone().inner().try_into_primitive::<Wgpu>() {
        Ok(fused) => Ok(fused.id.value()),
        Err(error) => Err(Error::Elsewhere { name: name.to_owned(), reason: format!("{error:?}") }),
    }
}

/// The elements in a row, without autodiff.
fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let len = tensor.shape().num_elements();
    tensor.inner().reshape([len])
}
