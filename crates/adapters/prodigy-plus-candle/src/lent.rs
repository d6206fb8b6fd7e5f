//! The memory of variables, lent to the engine for a step.

use std::cell::Cell;

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Storage, Tensor, Var};
use gradient_transform::{Parameter, Real};

use crate::error::{Error, Result};
use crate::optimizer::is_computed_with;

/// A variable's values. While this lives, a contiguous variable of the CPU is empty, and its values are here
/// without a copy; those of any other variable are copied. Dropping it returns them.
pub(crate) struct Lent<'a> {
    name: &'a str,
    var: &'a Var,
    values: CpuStorage,
    was_taken: bool,
}

/// Exchanges a variable's storage for another one: candle shows it mutably only to an operation in place.
struct Exchange(Cell<CpuStorage>);

impl InplaceOp1 for Exchange {
    fn name(&self) -> &'static str {
        "exchange"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _layout: &Layout) -> candle_core::Result<()> {
        self.0.swap(Cell::from_mut(storage));
        Ok(())
    }
}

fn exchange(var: &Var, storage: CpuStorage) -> candle_core::Result<CpuStorage> {
    let exchange = Exchange(Cell::new(storage));
    var.inplace_op1(&exchange)?;
    Ok(exchange.0.into_inner())
}

impl<'a> Lent<'a> {
    pub(crate) fn of(name: &'a str, var: &'a Var) -> Result<Self> {
        let dtype = var.dtype();
        if !matches!(dtype, DType::F32 | DType::BF16 | DType::F64) {
            return Err(Error::ElementType { name: name.to_owned(), dtype });
        }
        let fills_its_memory = var.layout().contiguous_offsets() == Some((0, var.elem_count()));
        // candle does not exchange the storage of a tensor without elements.
        if !(var.device().is_cpu() && fills_its_memory) || var.elem_count() == 0 {
            return Self::copy_of(name, var);
        }
        let values = exchange(var, CpuStorage::U8(Vec::new()))?;
        let lent = Self { name, var, values, was_taken: true };
        if lent.len() == Some(var.elem_count()) {
            Ok(lent)
        } else {
            Err(Error::SharedMemory { name: name.to_owned() })
        }
    }

    fn copy_of(name: &'a str, var: &'a Var) -> Result<Self> {
        let flat = var.flatten_all()?;
        let values = match var.dtype() {
            DType::F32 => CpuStorage::F32(flat.to_vec1()?),
            DType::BF16 => CpuStorage::BF16(flat.to_vec1()?),
            _ => CpuStorage::F64(flat.to_vec1()?),
        };
        Ok(Self { name, var, values, was_taken: false })
    }

    fn len(&self) -> Option<usize> {
        match &self.values {
            CpuStorage::F32(values) => Some(values.len()),
            CpuStorage::BF16(values) => Some(values.len()),
            CpuStorage::F64(values) => Some(values.len()),
            _ => None,
        }
    }

    /// The variable and a gradient from [`on_host`], as an argument of the engine.
    pub(crate) fn parameter<'p>(
        &'p mut self,
        gradient: Option<(&'p Storage, &Layout)>,
    ) -> Result<Parameter<'p>> {
        // A gradient in a variable's memory has lost its values.
        let shared = || Error::SharedMemory { name: self.name.to_owned() };
        let parameter = match &mut self.values {
            CpuStorage::F32(values) => Parameter::slice(values, None),
            CpuStorage::BF16(values) => Parameter::slice(values, None),
            CpuStorage::F64(values) => Parameter::slice(values, None),
            _ => return Err(shared()),
        };
        let Some((storage, layout)) = gradient else { return Ok(parameter) };
        let (start, end) = layout.contiguous_offsets().unwrap_or_default();
        let range = start..end;
        Ok(match storage {
            Storage::Cpu(CpuStorage::F32(all)) => parameter.with_gradient(all.get(range).ok_or_else(shared)?),
            Storage::Cpu(CpuStorage::BF16(all)) => {
                parameter.with_gradient(all.get(range).ok_or_else(shared)?)
            }
            Storage::Cpu(CpuStorage::F64(all)) => parameter.with_gradient(all.get(range).ok_or_else(shared)?),
            _ => return Err(shared()),
        })
    }

    /// Returns the values to the variable.
    pub(crate) fn give_back(mut self) -> Result<()> {
        self.put_back()
    }

    fn put_back(&mut self) -> Result<()> {
        let values = std::mem::replace(&mut self.values, CpuStorage::U8(Vec::new()));
        if self.was_taken {
            self.was_taken = false;
            exchange(self.var, values)?;
            return Ok(());
        }
        let shape = self.var.dims();
        let tensor = match values {
            CpuStorage::F32(values) => Tensor::from_vec(values, shape, self.var.device())?,
            CpuStorage::BF16(values) => Tensor::from_vec(values, shape, self.var.device())?,
            CpuStorage::F64(values) => Tensor::from_vec(values, shape, self.var.device())?,
            _ => return Ok(()),
        };
        Ok(self.var.set(&tensor)?)
    }
}

impl Drop for Lent<'_> {
    /// After an error or a panic of the engine nothing has moved, so a copy is not written back.
    fn drop(&mut self) {
        if self.was_taken {
            let _ = self.put_back();
        }
    }
}

/// A gradient in the host's memory, row-major, of a type that the engine supports; the gradient itself if it
/// is that already.
pub(crate) fn on_host<T: Real>(gradient: &Tensor) -> Result<Tensor> {
    let dtype = match (gradient.dtype(), T::DTYPE) {
        (taken, _) if is_computed_with::<T>(taken) => taken,
        (_, gradient_transform::DType::F64) => DType::F64,
        _ => DType::F32,
    };
    Ok(gradient.to_device(&Device::Cpu)?.to_dtype(dtype)?.contiguous()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gradient_transform::{Descent, Optimizer};

    /// Descends by the gradient (1, 2) from (5, 5).
    fn descended<'a>(
        dtype: DType,
        lend: impl Fn(&'a str, &'a Var) -> Result<Lent<'a>>,
        var: &'a Var,
    ) -> Vec<f64> {
        let gradient = Tensor::new(&[1_f64, 2.0], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let (storage, layout) = gradient.storage_and_layout();
        let mut lent = lend("w", var).unwrap();
        let parameter = lent.parameter(Some((&*storage, layout))).unwrap();
        if dtype == DType::F64 {
            Optimizer::<f64>::new_in(Descent::default(), [("w", &[2][..])])
                .unwrap()
                .step(&mut [parameter])
                .unwrap();
        } else {
            Optimizer::new(Descent::default(), [("w", &[2][..])]).unwrap().step(&mut [parameter]).unwrap();
        }
        lent.give_back().unwrap();
        var.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn what_has_to_be_copied_is_stepped_as_what_lies_in_place() {
        for dtype in [DType::F32, DType::BF16, DType::F64] {
            let var = || {
                Var::from_tensor(&Tensor::new(&[5_f64, 5.0], &Device::Cpu).unwrap().to_dtype(dtype).unwrap())
            };
            let (copied, taken) = (var().unwrap(), var().unwrap());
            assert_eq!(descended(dtype, Lent::copy_of, &copied), [4.0, 3.0]);
            assert_eq!(descended(dtype, Lent::of, &taken), [4.0, 3.0]);
        }
    }

    #[test]
    fn a_variable_is_empty_while_it_is_lent_and_whole_when_that_ends_in_any_way() {
        let var = Var::new(&[1_f32, 2.0], &Device::Cpu).unwrap();
        let lent = Lent::of("w", &var).unwrap();
        assert!(matches!(Lent::of("again", &var), Err(Error::SharedMemory { name }) if name == "again"));
        drop(lent);
        assert_eq!(var.to_vec1::<f32>().unwrap(), [1.0, 2.0]);
    }
}
