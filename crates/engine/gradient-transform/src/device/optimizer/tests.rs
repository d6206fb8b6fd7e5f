use std::sync::Arc;

use super::*;
use crate::author::{Descent, Element, GradientTransform, fields, transform};
use crate::device::{Interpreter, SweepFormula, TensorSweep};
use crate::memory::element::DType;
use crate::memory::number::Backend;

#[derive(Clone, Debug)]
struct Momentum;

#[fields]
struct Average<V> {
    m: V,
}

#[transform("momentum")]
impl GradientTransform for Momentum {
    type State<V: Copy> = Average<V>;

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.state.m = 0.5 * e.state.m + e.update;
        e.update = e.state.m;
    }
}

/// The interpreter, whose memory or sweeps give out at some call.
#[derive(Debug)]
struct GivesOut {
    calls: usize,
}

impl GivesOut {
    fn call(&mut self) -> Result<(), &'static str> {
        self.calls = self.calls.checked_sub(1).ok_or("out of memory")?;
        Ok(())
    }
}

impl Executor for GivesOut {
    type Array = Buffer;
    type Error = &'static str;

    fn len(array: &Buffer) -> usize {
        array.len()
    }
    fn dtype(array: &Buffer) -> DType {
        array.dtype()
    }
    fn upload(&mut self, values: Buffer) -> Result<Buffer, &'static str> {
        self.call().map(|()| values)
    }
    fn zeros(&mut self, dtype: DType, len: usize) -> Result<Buffer, &'static str> {
        self.call().map(|()| Buffer::zeros(dtype, len))
    }
    fn download(&mut self, array: &Buffer) -> Result<Buffer, &'static str> {
        self.call().map(|()| array.clone())
    }
    fn usable(&mut self, gradients: &[&Buffer], _limit: f64) -> Result<Vec<bool>, &'static str> {
        self.call().map(|()| vec![true; gradients.len()])
    }
    fn sweep(
        &mut self,
        formula: &Arc<SweepFormula>,
        tensors: &mut [TensorSweep<'_, f32, Buffer>],
    ) -> Result<(), &'static str> {
        self.call()?;
        let Ok(()) = Interpreter.sweep(formula, tensors);
        Ok(())
    }
}

#[test]
fn behind_a_device_that_failed_nothing_goes_on() {
    let mut completed = 0;
    for calls in 0..8 {
        let optimizer = Optimizer::new((Momentum, Descent::default()), [("w", [2])]).unwrap();
        let mut optimizer = OnDevice::new(optimizer, GivesOut { calls }).unwrap();
        let (mut w, g) = (Buffer::F32(vec![1.0, 2.0]), Buffer::F32(vec![0.5, 0.5]));
        let mut step = |optimizer: &mut OnDevice<GivesOut>| {
            optimizer.step(&mut [DeviceParameter { value: &mut w, gradient: Some(&g) }])
        };
        if step(&mut optimizer).is_ok() {
            completed += 1;
            continue;
        }
        let again = step(&mut optimizer).unwrap_err().to_string();
        assert!(again.contains("out of memory, in an earlier call"), "{again}");
        assert!(optimizer.snapshot().is_err() && optimizer.into_parts().is_err());
    }
    // Three calls make a step: the check, an array of state, and the sweep.
    assert_eq!(completed, 8 - 3);
}
