//! State of a transform for one tensor: declared here, owned by the engine.

use serde::{Deserialize, Serialize};

use crate::memory::buffer::Buffer;
use crate::memory::element::{DType, Real};
use crate::memory::sums::{Gathered, SumShape};

/// The type a column or vector has in memory.
///
/// ```
/// use gradient_transform::{DType, Storage};
///
/// assert_eq!(Storage::Parameter.dtype::<f32>(DType::Bf16), DType::Bf16);
/// assert_eq!(Storage::Compute.dtype::<f32>(DType::Bf16), DType::F32);
/// assert_eq!(Storage::Bf16.dtype::<f64>(DType::F64), DType::Bf16);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// The parameter's own type; rounded as the parameter is.
    Parameter,
    /// The type of the computation: float32, or float64 for float64 parameters.
    Compute,
    /// bfloat16, rounded to the nearest.
    Bf16,
}

impl Storage {
    /// The element type for a parameter of type `parameter`, computed with in `T`.
    pub fn dtype<T: Real>(self, parameter: DType) -> DType {
        match self {
            Self::Parameter => parameter,
            Self::Compute => T::DTYPE,
            Self::Bf16 => DType::Bf16,
        }
    }
}

/// Content of a column before its first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    /// Zeros.
    Zero,
    /// A copy of the parameter.
    Parameter,
    /// Standard normal random numbers, new in each step: [`normal`](crate::normal). Of workspace alone.
    Normal,
    /// The array that was given for the step by [`Optimizer::give_array`](crate::Optimizer::give_array), and zeros in others. Of workspace alone.
    Given,
}

impl Initial {
    /// Whether the values are new in each step, and nothing changes them.
    pub(crate) fn is_of_a_step(self) -> bool {
        matches!(self, Self::Normal | Self::Given)
    }
}

/// A column: one value for each element of the tensor, or for each n-th in logical order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnSpec {
    /// Its name within the transform, part of the checkpoint key.
    pub name: &'static str,
    /// One value for every how many elements; 1 for each.
    pub every: usize,
    /// Its type in memory.
    pub storage: Storage,
    /// Its first content.
    pub initial: Initial,
    /// Whether it never changes after its first values, and so is never written back.
    pub constant: bool,
    /// Whether it is kept from one step to the next. Workspace is not, and is not saved.
    pub kept: bool,
}

impl ColumnSpec {
    /// Whether it is the parameter at first, forever: an empty array stands for zeros.
    pub(crate) fn is_constant_copy(&self) -> bool {
        self.constant && self.initial == Initial::Parameter
    }
}

/// A small array that belongs to the tensor as a whole: row means, an RMS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorSpec {
    /// Its name within the transform, part of the checkpoint key.
    pub name: &'static str,
    /// Number of elements.
    pub len: usize,
    /// Its type in memory.
    pub storage: Storage,
}

/// All state of a transform for one tensor.
///
/// ```
/// use gradient_transform::{ColumnSpec, Initial, StateSpec, Storage, VectorSpec};
///
/// let spec = StateSpec::new()
///     .column("average", Storage::Parameter) // one number for every element, of the parameter's type
///     .copied() // which begins as a copy of the parameter
///     .column("start", Storage::Compute)
///     .copied()
///     .every(11) // a sample of it
///     .constant()
///     .workspace("products") // of this step only
///     .vector("row_means", 8, Storage::Compute)
///     .scratch(8)
///     .sums(2, 0);
/// let columns: &[ColumnSpec] = &spec.columns;
/// let [average, start, products] = columns else { unreachable!() };
/// assert_eq!((average.initial, average.kept, average.every), (Initial::Parameter, true, 1));
/// assert_eq!((start.every, start.constant, products.kept), (11, true, false));
/// let VectorSpec { name, len, .. } = spec.vectors[0];
/// assert_eq!((name, len, &spec.scratch[..], spec.scalar_sums), ("row_means", 8, &[8][..], 2));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateSpec {
    /// Per-element state, handed out in tiles.
    pub columns: Vec<ColumnSpec>,
    /// Small state, zero at first, kept and saved.
    pub vectors: Vec<VectorSpec>,
    /// Lengths of small workspace arrays, not kept between steps.
    pub scratch: Vec<usize>,
    /// Number of scalar sums that `observe` gathers.
    pub scalar_sums: usize,
    /// The arrays of sums that `observe` gathers.
    pub vector_sums: Vec<SumShape>,
}

impl StateSpec {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A column of zeros at first, one value for each element.
    pub fn column(mut self, name: &'static str, storage: Storage) -> Self {
        self.columns.push(ColumnSpec {
            name,
            every: 1,
            storage,
            initial: Initial::Zero,
            constant: false,
            kept: true,
        });
        self
    }

    /// The last column holds the parameter at first.
    pub fn copied(mut self) -> Self {
        if let Some(column) = self.columns.last_mut() {
            column.initial = Initial::Parameter;
        }
        self
    }

    /// The last column has a value only for every `n`-th element, in logical order.
    pub fn every(mut self, n: usize) -> Self {
        if let Some(column) = self.columns.last_mut() {
            column.every = n.max(1);
        }
        self
    }

    /// The last column never changes.
    pub fn constant(mut self) -> Self {
        if let Some(column) = self.columns.last_mut() {
            column.constant = true;
        }
        self
    }

    /// A column of workspace: its contents are lost after the step.
    pub fn workspace(mut self, name: &'static str) -> Self {
        let storage = Storage::Compute;
        self.columns.push(ColumnSpec {
            name,
            every: 1,
            storage,
            initial: Initial::Zero,
            constant: false,
            kept: false,
        });
        self
    }

    /// A small array of zeros at first.
    pub fn vector(mut self, name: &'static str, len: usize, storage: Storage) -> Self {
        self.vectors.push(VectorSpec { name, len, storage });
        self
    }

    /// A small workspace array.
    pub fn scratch(mut self, len: usize) -> Self {
        self.scratch.push(len);
        self
    }

    /// Sums that `observe` gathers: `scalars` numbers, and an array of `vector` more, if that is not 0. Each chunk of a tensor
    /// that is at work has an array of its own.
    pub fn sums(mut self, scalars: usize, vector: usize) -> Self {
        self.scalar_sums = scalars;
        self.vector_sums.extend((vector > 0).then_some(SumShape::Flat(vector)));
        self
    }

    /// One more array of sums that `observe` gathers: the tensor's elements, summed over the given axis. Each chunk that is at
    /// work has the part that it adds to.
    pub fn sums_over(mut self, axis: usize) -> Self {
        self.vector_sums.push(SumShape::Over(axis));
        self
    }
}

/// The key of a transform's array: `transform/array`.
pub(crate) fn key(transform: &str, array: &str) -> String {
    [transform, "/", array].concat()
}

/// Whether this is the key of a transform's array.
pub(crate) fn is_key(key: &str, transform: &str, array: &str) -> bool {
    key.strip_prefix(transform).and_then(|rest| rest.strip_prefix('/')) == Some(array)
}

/// The sums that a transform gathers while it observes tiles.
///
/// Every chunk of a tensor has its own, and they are added in the order of the chunks, so the result does not
/// depend on the number of threads.
///
/// ```
/// use gradient_transform::{Gathered, Sums};
///
/// let (mut scalars, mut vectors) = ([0.0_f64; 1], [Gathered::<f32>::zeros(2)]);
/// let mut sums = Sums { scalars: &mut scalars, vectors: &mut vectors };
/// sums.reborrow().scalars[0] += 3.0;
/// sums.vectors[0].at(1, 1)[0] += 1.0;
/// assert_eq!((scalars, vectors[0].values()), ([3.0], &[0.0, 1.0][..]));
/// ```
#[derive(Debug)]
pub struct Sums<'a, T> {
    /// Scalar sums.
    pub scalars: &'a mut [f64],
    /// Arrays of sums, in the order they were declared. None in a reduction's `commit`: they were complete in its `seal`.
    pub vectors: &'a mut [Gathered<T>],
}

impl<T> Sums<'_, T> {
    /// No sums.
    pub(crate) fn none() -> Self {
        Self { scalars: &mut [], vectors: &mut [] }
    }

    /// Reborrows the sums.
    pub fn reborrow(&mut self) -> Sums<'_, T> {
        Sums { scalars: self.scalars, vectors: self.vectors }
    }
}

/// A transform's whole state of one tensor, for `begin`, `seal` and `finish`.
///
/// ```
/// use gradient_transform::{Buffer, DType, TensorState};
///
/// // What `seal` does with it: from a sum to a number that `emit` reads.
/// let (mut columns, mut vectors, mut scratch) = ([], [Buffer::zeros(DType::F32, 1)], [vec![0.0_f32; 1]]);
/// let mut state = TensorState {
///     columns: &mut columns,
///     vectors: &mut vectors,
///     scratch: &mut scratch,
///     scalar_sums: &mut [9.0],
///     vector_sums: &[],
/// };
/// let short = state.reborrow();
/// short.scratch[0][0] = short.scalar_sums[0].sqrt() as f32;
/// short.vectors[0].set(0, short.scratch[0][0]);
/// assert_eq!((scratch[0][0], vectors[0].get::<f32>(0)), (3.0, 3.0));
/// ```
#[derive(Debug)]
pub struct TensorState<'a, T> {
    /// Its columns, in the order they were declared.
    pub columns: &'a mut [Buffer],
    /// Its vectors, in the order they were declared.
    pub vectors: &'a mut [Buffer],
    /// Its small workspace arrays, in the order they were declared.
    pub scratch: &'a mut [Vec<T>],
    /// The complete scalar sums; zeros in `begin`. What [`Link::finish`](crate::Link::finish) leaves in them is what an
    /// [`Estimator`](crate::Estimator) gets.
    pub scalar_sums: &'a mut [f64],
    /// The complete arrays of sums; zeros in `begin`.
    pub vector_sums: &'a [Gathered<T>],
}

impl<T> TensorState<'_, T> {
    /// Reborrows the state.
    pub fn reborrow(&mut self) -> TensorState<'_, T> {
        TensorState {
            columns: self.columns,
            vectors: self.vectors,
            scratch: self.scratch,
            scalar_sums: self.scalar_sums,
            vector_sums: self.vector_sums,
        }
    }
}
