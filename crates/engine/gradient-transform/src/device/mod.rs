//! Steps on a device: the sweeps of a chain run where the parameters are, and the rest of a step stays on the host.
//!
//! ```text
//! host      begin            seal, finalize: numbers that follow from the sums      ...     estimate, counters
//!             | numbers        ^ sums            | numbers                           ^ sums
//! device      +--> sweep 1 ----+                 +--> sweep 2 -------------- ... ----+
//!                  all tensors of one formula at once
//! ```
//!
//! A chain of transforms that are functions of one element is run once with symbols in place of numbers. What comes out is a
//! [`SweepFormula`] for every sweep, which an [`Executor`] evaluates for all elements of all tensors. So a transform is written
//! once, and a device sees formulas alone. A [`Link`](crate::Link) that works on tiles has no formula:
//! [`Error::NoFormula`](crate::Error::NoFormula).
//!
//! A transform of whole matrices, such as Muon, works between two sweeps. It describes that work as [`MatrixWork`]: formulas of the elements of two
//! matrices, which are sweeps as well, and [products](Executor::multiply).
//!
//! Sums have the order that they have on the processor: 32 lanes by the element's place in a tile of [`TILE`](crate::TILE) elements (8 for
//! every n-th element), added by halves, tiles within chunks of [`CHUNK`] in float64, and chunks. Lanes have the type of their terms, which are
//! in float64 under [`SUMS_IN_FLOAT64`](crate::GradientTransform::SUMS_IN_FLOAT64). An executor with this order and
//! IEEE arithmetic gives the processor's bits.
//!
//! Work on arrays outside of steps is such a formula too, so that an executor has nothing else to learn: the way to the evaluation point
//! and back, sums of gradients, and their norm.

mod accumulation;
mod evaluation;
mod examination;
mod formulas;
mod interpreter;
mod matrices;
mod norm;
mod optimizer;
mod overlap;
mod pointwise;
mod step;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

pub use crate::engine::formula::{AlongSum, ElementFormula, KeptColumn, SAMPLE_LANES, SweepFormula};
pub use crate::layout::CHUNK;
pub use crate::link::formula::{ElementWork, FormulaElement, FormulaNumbers};
pub use crate::link::matrices::{Matrix, MatrixNumbers, MatrixWork, Product};
pub use crate::memory::rounding::random_bits;
pub use evaluation::EvaluatingOnDevice;
pub use interpreter::Interpreter;
pub use optimizer::{DeviceParameter, OnDevice};

use crate::memory::buffer::Buffer;
use crate::memory::element::{DType, Real};
use crate::memory::rounding::Rounding;

/// Arrays on a device, and sweeps over them.
///
/// [`Interpreter`] is one on the host; its code is the specification of the others.
///
/// ```
/// use std::convert::Infallible;
///
/// use gradient_transform::device::{
///     DeviceParameter, ElementFormula, Executor, Interpreter, OnDevice, SweepBatch, TensorSweep,
/// };
/// use gradient_transform::{Buffer, DType, Descent, Optimizer};
///
/// /// Counts launches.
/// #[derive(Debug, Default)]
/// struct Counting {
///     launches: usize,
///     tensors: usize,
/// }
///
/// impl Executor for Counting {
///     type Array = Buffer;
///     type Error = Infallible;
///
///     fn len(array: &Buffer) -> usize {
///         array.len()
///     }
///     fn dtype(array: &Buffer) -> DType {
///         array.dtype()
///     }
///     fn upload(&mut self, values: Buffer) -> Result<Buffer, Infallible> {
///         Ok(values)
///     }
///     fn zeros(&mut self, dtype: DType, len: usize) -> Result<Buffer, Infallible> {
///         Ok(Buffer::zeros(dtype, len))
///     }
///     fn download(&mut self, array: &Buffer) -> Result<Buffer, Infallible> {
///         Ok(array.clone())
///     }
///     fn usable(&mut self, gradients: &[&Buffer], limit: f64) -> Result<Vec<bool>, Infallible> {
///         Executor::<f32>::usable(&mut Interpreter, gradients, limit)
///     }
///     fn sweep(&mut self, batches: &mut [SweepBatch<'_, f32, Buffer>]) -> Result<(), Infallible> {
///         for SweepBatch { formula, tensors } in &*batches {
///             let elements: &ElementFormula = &formula.elements;
///             assert_eq!(elements.every, 1);
///             let first: &TensorSweep<'_, f32, Buffer> = &tensors[0];
///             assert_eq!(first.shape, [2]);
///             self.launches += 1;
///             self.tensors += tensors.len();
///         }
///         Interpreter.sweep(batches)
///     }
/// }
///
/// use gradient_transform::{Backend, Context, Element, GradientTransform, Num, fields, transform};
///
/// /// `u <- u/|u|`.
/// #[derive(Clone, Debug)]
/// struct Unit;
///
/// #[fields]
/// struct Squares<V> {
///     squares: V,
/// }
///
/// #[transform("unit")]
/// impl GradientTransform for Unit {
///     type Sums<V: Copy> = Squares<V>;
///     type Scalars<V: Copy> = Squares<V>;
///
///     fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
///         Squares { squares: e.update.squared() }
///     }
///     fn finalize(&self, _cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Squares<f64>) {
///         scalars.squares = 1.0 / sums.squares.sqrt();
///     }
///     fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
///         e.update = e.scalars.squares * e.update;
///     }
/// }
///
/// let names = (0..100).map(|i| (format!("w{i}"), [2]));
/// let optimizer = Optimizer::new((Unit, Descent::default()), names)?;
/// let mut optimizer = OnDevice::new(optimizer, Counting::default())?;
/// optimizer.set_lr(0, 0.5)?;
/// let mut weights: Vec<Buffer> = (0..100).map(|_| Buffer::F32(vec![1.0, 1.0])).collect();
/// let g = Buffer::F32(vec![3.0, 4.0]);
/// let mut parameters: Vec<_> =
///     weights.iter_mut().map(|value| DeviceParameter { value, gradient: Some(&g) }).collect();
/// optimizer.step(&mut parameters)?;
/// assert_eq!(weights[99], Buffer::F32(vec![0.7, 0.6]));
/// // As many launches as there are sweeps, whatever the number of tensors.
/// assert_eq!((optimizer.executor().launches, optimizer.executor().tensors), (2, 200));
/// assert_eq!(optimizer.distinct_formulas(), 2);
/// assert_eq!((optimizer.estimate(0)?.d, optimizer.latest_step(0)?.lr), (1.0, 0.5));
/// assert_eq!(optimizer.snapshot()?.groups[0].k, 1);
/// # Ok::<(), gradient_transform::Error>(())
/// ```
pub trait Executor<T: Real = f32>: fmt::Debug {
    /// An array on the device.
    type Array;
    /// Error of the device, such as a lack of memory or the loss of the device.
    type Error: fmt::Display;

    /// Number of elements of an array.
    fn len(array: &Self::Array) -> usize;

    /// Type of its elements.
    fn dtype(array: &Self::Array) -> DType;

    /// Memory of an array: a number of the buffer that it is in, and its bytes within that. Parameters that overlap are refused before a
    /// step ([`Error::Overlap`](crate::Error::Overlap)). `None` where arrays cannot.
    ///
    /// ```
    /// use gradient_transform::device::{Executor, Interpreter};
    /// use gradient_transform::Buffer;
    ///
    /// assert!(<Interpreter as Executor>::memory(&Buffer::F32(vec![1.0])).is_none());
    /// ```
    fn memory(_array: &Self::Array) -> Option<(u64, Range<u64>)> {
        None
    }

    /// Whether the device has float64, in which some transforms have their
    /// [sums](crate::GradientTransform::SUMS_IN_FLOAT64). Where it does not, chains with such a transform are refused
    /// ([`Error::NoFloat64`](crate::Error::NoFloat64)).
    ///
    /// ```
    /// use gradient_transform::device::{Executor, Interpreter};
    ///
    /// assert!(Executor::<f32>::has_float64(&Interpreter));
    /// ```
    fn has_float64(&self) -> bool {
        false
    }

    /// Whether a sum in which an element is not finite is not finite either, as in IEEE arithmetic; shading languages need not
    /// keep to that. Where it is so, the first sweep of many chains shows invalid gradients in its sums, and these gradients are not read a further
    /// time to be checked.
    ///
    /// ```
    /// use gradient_transform::device::{Executor, Interpreter};
    ///
    /// assert!(Executor::<f32>::propagates_non_finite(&Interpreter));
    /// ```
    fn propagates_non_finite(&self) -> bool {
        false
    }

    /// An array of the device with these values.
    ///
    /// # Errors
    /// The device's.
    fn upload(&mut self, values: Buffer) -> Result<Self::Array, Self::Error>;

    /// An array of zeros.
    ///
    /// # Errors
    /// The device's.
    fn zeros(&mut self, dtype: DType, len: usize) -> Result<Self::Array, Self::Error>;

    /// The values of an array.
    ///
    /// # Errors
    /// The device's.
    fn download(&mut self, array: &Self::Array) -> Result<Buffer, Self::Error>;

    /// Every `every`-th element of an array, from the first on, as an array of its own: what state begins with that is a copy of the
    /// parameter. `None` has it made on the host.
    ///
    /// ```
    /// use gradient_transform::device::{Executor, Interpreter};
    /// use gradient_transform::{Buffer, DType};
    ///
    /// let array = Buffer::F32(vec![1.0, 2.0, 3.0]);
    /// let Ok(sample) = Executor::<f32>::sample(&mut Interpreter, &array, 2, DType::F32);
    /// assert!(sample.is_none_or(|sample| sample == Buffer::F32(vec![1.0, 3.0])));
    /// ```
    ///
    /// # Errors
    /// The device's.
    fn sample(
        &mut self,
        _array: &Self::Array,
        _every: usize,
        _dtype: DType,
    ) -> Result<Option<Self::Array>, Self::Error> {
        Ok(None)
    }

    /// For each gradient, whether it is finite and no element is larger than `limit`.
    ///
    /// # Errors
    /// The device's.
    fn usable(&mut self, gradients: &[&Self::Array], limit: f64) -> Result<Vec<bool>, Self::Error>;

    /// Runs one sweep over tensors, in batches of those with the same formula. Batches are independent of one another: a device can be given
    /// all of them before the host waits for sums, which are complete when this returns. The order of batches and of their tensors does not
    /// matter.
    ///
    /// # Errors
    /// The device's. Tensors may have moved.
    fn sweep(&mut self, batches: &mut [SweepBatch<'_, T, Self::Array>]) -> Result<(), Self::Error>;

    /// Multiplies matrices: the same product for each of several tensors, whose arrays are in the type of the computation. `None`, also without any
    /// arrays, says that the device has no products. A chain that needs them is refused then: [`Error::NoProducts`](crate::Error::NoProducts).
    ///
    /// ```
    /// use gradient_transform::device::{Executor, Interpreter, MatrixWork, Product, ProductArrays};
    /// use gradient_transform::Buffer;
    ///
    /// let mut work = MatrixWork::default();
    /// let (x, square) = (work.workspace(2, 2), work.workspace(2, 2));
    /// let product = Product { diagonal: 0.5, ..Product::new(square, x, x.t()) };
    /// let (x, mut square) = (Buffer::F32(vec![1.0, 2.0, 0.0, 3.0]), Buffer::F32(vec![0.0; 4]));
    /// let arrays = ProductArrays { into: &mut square, left: &x, right: &x, plus: None };
    /// let Some(Ok(())) = Executor::<f32>::multiply(&mut Interpreter, &product, &mut [arrays]) else { unreachable!() };
    /// assert_eq!(square, Buffer::F32(vec![5.5, 6.0, 6.0, 9.5]));
    /// ```
    ///
    /// # Errors
    /// The device's.
    fn multiply(
        &mut self,
        _product: &Product,
        _tensors: &mut [ProductArrays<'_, Self::Array>],
    ) -> Option<Result<(), Self::Error>> {
        None
    }
}

/// The arrays of a [`Product`] of one tensor.
#[derive(Debug)]
pub struct ProductArrays<'a, A> {
    /// The result's.
    pub into: &'a mut A,
    /// The left factor's.
    pub left: &'a A,
    /// The right factor's; it can be that of the left one.
    pub right: &'a A,
    /// That of the matrix that is added, if there is one.
    pub plus: Option<&'a A>,
}

/// Sweeps of tensors that have the same formula.
#[derive(Debug)]
pub struct SweepBatch<'a, T, A> {
    /// The formula. That of the same sweep is the same allocation in every step.
    pub formula: Arc<SweepFormula>,
    /// The tensors' sweeps.
    pub tensors: Vec<TensorSweep<'a, T, A>>,
}

/// A sweep of one tensor.
#[derive(Debug)]
pub struct TensorSweep<'a, T, A> {
    /// Shape of the tensor.
    pub shape: &'a [usize],
    /// Numbers of the tensor and step, by the place of [`Input::Scalar`](crate::number::Input::Scalar).
    pub numbers: SmallVec<[T; 16]>,
    /// Values of arrays along axes, by the place of [`Input::Along`](crate::number::Input::Along).
    pub along: SmallVec<[&'a [T]; 4]>,
    /// The parameter, in place. Outside of steps, the array that is changed.
    pub parameter: &'a mut A,
    /// Its gradient. Outside of steps, the array that it is changed by.
    pub gradient: &'a A,
    /// Its columns, by the place of [`Input::State`](crate::number::Input::State). An empty one is 0 everywhere and stays so.
    pub columns: &'a mut [A],
    /// How bfloat16 is rounded.
    pub rounding: Rounding,
    /// Key of the [random bits](random_bits) of the parameter.
    pub parameter_stream: u64,
    /// Those of the columns.
    pub column_streams: SmallVec<[u64; 8]>,
    /// The tensor's sums; those of the formula are to be written.
    pub sums: &'a mut [f64],
    /// The tensor's arrays of sums; those of the formula are to be written, and are 0 before.
    pub sums_along: SmallVec<[&'a mut [T]; 4]>,
}
