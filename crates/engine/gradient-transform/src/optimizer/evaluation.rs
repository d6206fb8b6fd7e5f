//! The evaluation point x, and the return to the training point y.

use serde::{Deserialize, Serialize};

use crate::engine::tensor::Tensor;
use crate::error::{Error, Result};
use crate::layout::TILE;
use crate::link::compose::{Stages, stages};
use crate::link::context::TensorInfo;
use crate::memory::buffer::{Buffer, Slice, SliceMut};
use crate::memory::element::{DType, Real, Scalar};
use crate::memory::kernel;
use crate::memory::rounding::{Rounding, Stream};
use crate::optimizer::Optimizer;
use crate::optimizer::check::check_shape;
use crate::optimizer::parameter::Parameter;

/// Fate of the training point y while the parameters are at the evaluation point x.
///
/// ```
/// use gradient_transform::{Settings, TrainingPoint};
///
/// let settings: Settings = serde_json::from_str(r#"{"training_point": "recomputed"}"#)?;
/// assert_eq!(settings.training_point, TrainingPoint::Recomputed);
/// assert_eq!(Settings::default().training_point, TrainingPoint::Kept);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainingPoint {
    /// A copy of it is kept and restored to the bit. This takes the memory of all parameters that move
    /// between the two.
    #[default]
    Kept,
    /// It is computed from x and the base iterate: `y = weight x + (1 - weight) z`. This takes no memory, but
    /// x and y are each rounded once to the parameter's type, which moves many bfloat16 weights by their last
    /// digit. If the writer keeps x as separate state ([`Writer::average`](crate::Writer::average)), y cannot
    /// be computed from it, and a copy is kept.
    Recomputed,
}

impl<T: Real> Optimizer<T> {
    /// Moves every parameter to its evaluation point x. The training point y is kept, and [`train`](Self::train) restores it
    /// exactly, unless [`TrainingPoint::Recomputed`] is set. Both leave parameters whose x is y as they are:
    /// those that have not had a gradient, such as frozen ones and statistics of a normalisation, and all
    /// parameters of a chain without averaging.
    ///
    /// The gradients in `parameters` are not used.
    ///
    /// ```
    /// use gradient_transform::{Descent, Optimizer, Parameter};
    ///
    /// let mut optimizer = Optimizer::new(Descent::default(), [("w", &[1][..])])?;
    /// let mut w = [1.0_f32];
    /// optimizer.eval(&mut [Parameter::slice(&mut w, None)])?;
    /// assert!(optimizer.is_evaluating());
    /// assert!(optimizer.step(&mut [Parameter::slice(&mut w, Some(&[1.0]))]).is_err()); // a gradient at x would be wrong
    /// optimizer.train(&mut [Parameter::slice(&mut w, None)])?;
    /// let mut x = [0.0_f32];
    /// optimizer.evaluation_point(0, &w, &mut x)?;
    /// assert_eq!(x, w); // plain descent averages nothing
    /// # Ok::<(), gradient_transform::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::EvaluationMode`] when called twice, and the shape errors of [`step`](Self::step).
    pub fn eval(&mut self, parameters: &mut [Parameter<'_>]) -> Result<()> {
        if self.evaluating.is_some() {
            return Err(Error::EvaluationMode);
        }
        self.check_values(parameters)?;
        let mut training = Vec::with_capacity(parameters.len());
        for (tensor, parameter) in self.tensors.iter().zip(parameters) {
            let mut value = parameter.value.as_mut_slice();
            // Parameters that do not move need no copy, which would be as large as the frozen part of a
            // network.
            let stages = stages(&*self.groups[tensor.group].chain);
            let averages = tensor.average(&stages).is_some();
            let moves = tensor.base(&stages).is_some();
            let is_kept = averages || (moves && self.settings.training_point == TrainingPoint::Kept);
            let mut copy = Buffer::zeros(value.dtype(), if is_kept { value.len() } else { 0 });
            if is_kept {
                copy_between(value.as_slice(), copy.as_mut_slice());
            }
            training.push(copy);
            self.put_to_x(tensor, &mut value);
            parameter.value.write_back();
        }
        self.evaluating = Some(training);
        Ok(())
    }

    /// Moves every parameter that `eval` moved back to its training point y.
    ///
    /// # Errors
    /// [`Error::TrainingMode`] without `eval` before, and the shape errors of [`step`](Self::step).
    pub fn train(&mut self, parameters: &mut [Parameter<'_>]) -> Result<()> {
        if self.evaluating.is_none() {
            return Err(Error::TrainingMode);
        }
        self.check_values(parameters)?;
        let training = self.evaluating.take().unwrap_or_default();
        for ((tensor, parameter), kept) in self.tensors.iter().zip(parameters).zip(training) {
            let mut value = parameter.value.as_mut_slice();
            if kept.is_empty() {
                self.at_base(tensor, &mut value, to_y);
            } else {
                copy_between(kept.as_slice(), value);
            }
            parameter.value.write_back();
        }
        Ok(())
    }

    /// Whether the parameters are at the evaluation point.
    pub fn is_evaluating(&self) -> bool {
        self.evaluating.is_some()
    }

    /// Writes the evaluation point x of parameter `index` into `out`; `value` is the parameter at its
    /// training point y and does not change.
    ///
    /// # Errors
    /// [`Error::NoSuch`]; [`Error::ShapeMismatch`] when a slice does not have the parameter's number of elements.
    pub fn evaluation_point<E: Scalar>(&self, index: usize, value: &[E], out: &mut [E]) -> Result<()> {
        let count = self.tensors.len();
        let tensor = self.tensors.get(index).ok_or(Error::NoSuch { what: "parameter", index, count })?;
        check_shape(tensor, "value", None, value.len())?;
        check_shape(tensor, "output", None, out.len())?;
        out.copy_from_slice(value);
        self.put_to_x(tensor, &mut E::slice_mut(out));
        Ok(())
    }

    /// Moves a value from y to x.
    fn put_to_x(&self, tensor: &Tensor<T>, value: &mut SliceMut<'_>) {
        match tensor.average(&stages(&*self.groups[tensor.group].chain)) {
            Some(x) => convert_between::<T>(x, value.reborrow()),
            None => self.at_base(tensor, value, to_x),
        }
    }

    /// Moves a value between x and y, by the weight of the tensor's writer.
    fn at_base(&self, tensor: &Tensor<T>, value: &mut SliceMut<'_>, to: fn(f64) -> Between) {
        let stages = stages(&*self.groups[tensor.group].chain);
        let Some(base) = tensor.base(&stages) else { return };
        if let Some(averaging) = Averaging::of(&stages) {
            to(averaging.weight).apply::<T>(value.reborrow(), base);
        }
    }
}

/// How a writer's evaluation point x follows from the parameter y and its base iterate z: `y = weight x + (1 - weight) z`.
///
/// ```
/// use gradient_transform::{Averaging, Descent, Optimizer};
///
/// // The entries of a snapshot for Schedule-Free with a beta1 of 0.9, and for a writer whose x is y.
/// let averaging = Averaging { weight: 0.9, base: "schedule-free/z".to_owned() };
/// let optimizer = Optimizer::new(Descent::default(), [("w", &[1][..])])?;
/// assert!(optimizer.snapshot().groups[0].averaging.is_none());
/// # assert_eq!(averaging.weight, 0.9);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Averaging {
    /// The weight of x: [`Writer::evaluation_weight`](crate::Writer::evaluation_weight).
    pub weight: f64,
    /// Key of z, as `transform/array`.
    pub base: String,
}

impl Averaging {
    /// The averaging of a chain's writer, if it keeps a base iterate.
    pub(crate) fn of<T: Real>(stages: &Stages<'_, T>) -> Option<Self> {
        let tensor = TensorInfo { name: String::new(), shape: vec![1], dtype: DType::F32, updates: 0 };
        stages.iter().find_map(|transform| {
            let writer = transform.writer()?;
            let column = transform.state(&tensor).columns.get(writer.base_column()?)?.name;
            Some(Self { weight: writer.evaluation_weight(), base: format!("{}/{column}", transform.name()) })
        })
    }

    /// The steps from y to x and from x to y, as shares of the distance to z.
    pub(crate) fn shares(&self) -> [f64; 2] {
        [to_x(self.weight).shares()[0], to_y(self.weight).shares()[1]]
    }

    /// The move of y by which x stays where it is when `later` replaces this averaging.
    pub(crate) fn change(&self, later: Option<&Self>) -> Option<Between> {
        // A base iterate with another name starts at y.
        let to = later.filter(|later| later.base == self.base).map_or(1.0, |later| later.weight);
        (to != self.weight).then_some(Between { from: self.weight, to })
    }
}

/// From `from x + (1 - from) z` to `to x + (1 - to) z`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Between {
    pub(crate) from: f64,
    pub(crate) to: f64,
}

fn to_x(weight: f64) -> Between {
    Between { from: weight, to: 1.0 }
}

fn to_y(weight: f64) -> Between {
    Between { from: 1.0, to: weight }
}

impl Between {
    /// The steps from the first point to x and from x to the second, as shares of the distance to
    /// z.
    fn shares(self) -> [f64; 2] {
        [1.0 - 1.0 / self.from, 1.0 - self.to]
    }

    /// Moves a value, tile by tile. `base` has the same length.
    pub(crate) fn apply<T: Real>(self, mut value: SliceMut<'_>, mut base: Slice<'_>) {
        const PART: usize = 256;
        let (mut memory, mut of_base) = ([T::zero(); PART], [T::zero(); PART]);
        let [from, to] = self.shares().map(T::of);
        let mut offset = 0;
        while !base.is_empty() {
            let n = base.len().min(PART);
            let (values, z) = (&mut memory[..n], &mut of_base[..n]);
            let mut part = value.split_off_first(n);
            part.as_slice().load(values);
            base.split_off_first(n).load(z);
            if self.from != 1.0 {
                kernel::map2(values, z, move |y, z| y + from * (z - y));
            }
            if self.to != 1.0 {
                kernel::map2(values, z, move |x, z| x + to * (z - x));
            }
            part.store(values, offset, Rounding::Nearest, Stream::new(0, 0, 0, 0));
            offset += n;
        }
    }
}

/// Copies between slices of the same length, rounded to the nearest if the types differ.
fn convert_between<T: Real>(mut from: Slice<'_>, mut to: SliceMut<'_>) {
    if from.dtype() == to.dtype() {
        return copy_between(from, to);
    }
    let (mut memory, mut offset) = ([T::zero(); TILE], 0);
    while !from.is_empty() {
        let n = from.len().min(TILE);
        let values = &mut memory[..n];
        from.split_off_first(n).load(values);
        to.split_off_first(n).store(values, offset, Rounding::Nearest, Stream::new(0, 0, 0, 0));
        offset += n;
    }
}

/// Copies between slices of the same type and length.
fn copy_between(from: Slice<'_>, to: SliceMut<'_>) {
    match (from, to) {
        (Slice::F32(from), SliceMut::F32(to)) => to.copy_from_slice(from),
        (Slice::Bf16(from), SliceMut::Bf16(to)) => to.copy_from_slice(from),
        (Slice::F64(from), SliceMut::F64(to)) => to.copy_from_slice(from),
        _ => unreachable!("the element types were checked"),
    }
}
