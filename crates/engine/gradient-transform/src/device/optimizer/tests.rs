use super::*;
use crate::author::{Column, Descent, Element, GradientTransform, Writer, fields, kind, transform};
use crate::device::{Interpreter, SweepBatch};
use crate::link::context::{Context, TensorInfo};
use crate::memory::element::DType;
use crate::memory::number::{Backend, Num};
use crate::optimizer::group::{ParameterGroup, Settings};

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
    fn sweep(&mut self, batches: &mut [SweepBatch<'_, f32, Buffer>]) -> Result<(), &'static str> {
        self.call()?;
        let Ok(()) = Interpreter.sweep(batches);
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

/// Descent at the rate 1, whose evaluation point is the mean of every two points.
#[derive(Clone, Debug)]
struct Halves;

#[transform("halves")]
impl GradientTransform for Halves {
    type Kind = kind::Writer;
    type State<V: Copy> = Average<V>;

    fn columns(&self, _tensor: &TensorInfo) -> Average<Column> {
        Average { m: Column::COPY }
    }

    fn update<B: Backend>(&self, _e: &mut Element<B, Self>) {}
}

#[transform]
impl Writer for Halves {
    fn average(&self) -> Option<usize> {
        Some(0)
    }

    fn displace<B: Backend>(&self, e: &Element<B, Self>) -> Num<B> {
        e.update
    }

    fn write<B: Backend>(&self, e: &mut Element<B, Self>, displacement: Option<Num<B>>) {
        let before = e.parameter;
        e.parameter = before - displacement.unwrap_or(e.update);
        e.state.m = 0.5 * (before + e.parameter);
    }
}

/// An optimizer after a step, with its weights and gradient, whose device has `calls` left.
fn stepped(calls: usize) -> (OnDevice<GivesOut>, Buffer, Buffer) {
    let optimizer = Optimizer::new(Halves, [("w", [2])]).unwrap();
    let mut optimizer = OnDevice::new(optimizer, GivesOut { calls: 100 }).unwrap();
    let (mut w, g) = (Buffer::F32(vec![2.0, 4.0]), Buffer::F32(vec![1.0, 1.0]));
    optimizer.step(&mut [DeviceParameter { value: &mut w, gradient: Some(&g) }]).unwrap();
    assert_eq!(w, Buffer::F32(vec![1.0, 3.0]));
    optimizer.executor().calls = calls;
    (optimizer, w, g)
}

#[test]
fn an_evaluation_without_memory_for_y_changes_nothing_and_one_that_fails_later_ends_the_run() {
    let (mut optimizer, mut w, _) = stepped(0);
    let mut parameters = [DeviceParameter { value: &mut w, gradient: None }];
    let error = optimizer.eval(&mut parameters).unwrap_err();
    assert!(matches!(error, Error::Device { .. }) && !optimizer.is_evaluating(), "{error}");
    optimizer.executor().calls = 100;
    optimizer.eval(&mut parameters).unwrap();
    assert_eq!(*parameters[0].value, Buffer::F32(vec![1.5, 3.5]));
    optimizer.train(&mut parameters).unwrap();
    assert_eq!(w, Buffer::F32(vec![1.0, 3.0]));

    let (mut optimizer, mut w, _) = stepped(1);
    let mut parameters = [DeviceParameter { value: &mut w, gradient: None }];
    assert!(optimizer.eval(&mut parameters).is_err());
    optimizer.executor().calls = 100;
    let again = optimizer.eval(&mut parameters).unwrap_err().to_string();
    assert!(again.contains("out of memory, in an earlier call"), "{again}");
}

#[test]
fn a_device_that_fails_where_a_guard_puts_y_back_says_so_in_the_next_call() {
    let (mut optimizer, mut w, g) = stepped(2);
    let mut parameters = [DeviceParameter { value: &mut w, gradient: None }];
    let at_x = optimizer.evaluate(&mut parameters).unwrap();
    assert_eq!(at_x.value(0), Ok(&Buffer::F32(vec![1.5, 3.5])));
    assert_eq!(at_x.value(1), Err(Error::NoSuch { what: "parameter", index: 1, count: 1 }));
    drop(at_x);
    optimizer.executor().calls = 100;
    let stepped = optimizer.step(&mut [DeviceParameter { value: &mut w, gradient: Some(&g) }]);
    assert!(matches!(&stepped, Err(Error::Device { reason }) if reason.contains("earlier")), "{stepped:?}");
}

#[test]
fn gradients_that_find_no_memory_are_in_no_sum() {
    // The first call looks at the gradient, the second makes the sum, the third adds.
    for calls in 0..2 {
        let (mut optimizer, mut w, g) = stepped(calls);
        let mut parameters = [DeviceParameter { value: &mut w, gradient: Some(&g) }];
        assert!(optimizer.accumulate(&parameters).is_err());
        assert_eq!(optimizer.accumulated(), 0);
        optimizer.executor().calls = 100;
        parameters[0].gradient = None;
        optimizer.step(&mut parameters).unwrap();
        assert_eq!(w, Buffer::F32(vec![1.0, 3.0]));
    }
    let (mut optimizer, mut w, g) = stepped(2);
    let parameters = [DeviceParameter { value: &mut w, gradient: Some(&g) }];
    assert!(optimizer.accumulate(&parameters).is_err());
    optimizer.executor().calls = 100;
    assert!(optimizer.accumulate(&parameters).is_err());
}

#[derive(Clone, Debug)]
struct Scaled(f64);

#[transform("scaled")]
impl GradientTransform for Scaled {
    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = self.0 * e.update;
    }
}

/// Half of the update where the sum of its squares is beyond 1.
#[derive(Clone, Debug)]
struct HalvesBeyond;

#[transform("halves-beyond")]
impl GradientTransform for HalvesBeyond {
    type Sums<V: Copy> = Average<V>;
    type Scalars<V: Copy> = Average<V>;
    const SUMS_IN_FLOAT64: bool = true;

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Average<Num<B>> {
        Average { m: e.update.squared() }
    }
    fn finalize(&self, _cx: &Context<'_>, sums: Average<f64>, scalars: &mut Average<f64>) {
        scalars.m = if sums.m > 1.0 { 0.5 } else { 1.0 };
    }
    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.m * e.update;
    }
}

#[test]
fn groups_of_the_same_chain_with_other_hyperparameters_have_formulas_of_their_own() {
    let group = |factor, name: &str| ParameterGroup::new((Scaled(factor), Descent::default()), [(name, [1])]);
    let optimizer: Optimizer =
        Optimizer::with_groups([group(1.0, "a"), group(3.0, "b")], Settings::default()).unwrap();
    let mut optimizer = OnDevice::new(optimizer, Interpreter).unwrap();
    let [mut a, mut b] = [0.0, 0.0].map(|x| Buffer::F32(vec![x]));
    let gradient = Some(&Buffer::F32(vec![1.0]));
    optimizer.step(&mut [&mut a, &mut b].map(|value| DeviceParameter { value, gradient })).unwrap();
    assert_eq!([a, b], [-1.0, -3.0].map(|x| Buffer::F32(vec![x])));
}

#[test]
fn sums_in_float64_are_refused_by_name_where_a_device_has_none() {
    let make = || Optimizer::<f32>::new((HalvesBeyond, Descent::default()), [("w", [2])]).unwrap();
    let refused = OnDevice::new(make(), GivesOut { calls: 9 }).unwrap_err();
    assert_eq!(refused, Error::NoFloat64 { transform: "halves-beyond".into() });
    let mut there = OnDevice::new(make(), Interpreter).unwrap();
    // In float32, the square of the second would be lost.
    let (mut w, g) = (Buffer::F32(vec![1.0, 1.0]), Buffer::F32(vec![1.0, 1e-7]));
    there.step(&mut [DeviceParameter { value: &mut w, gradient: Some(&g) }]).unwrap();
    assert_eq!(w, Buffer::F32(vec![0.5, 1.0 - 0.5e-7]));
}
